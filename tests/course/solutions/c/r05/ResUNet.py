"""A U-Net of residual blocks, with self-attention where the image is 7 x 7, told the time by sines and cosines."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class SinusoidalTime(nn.Module):
    """t / T in (0, 1] -> (B, dim). Spread over 0 ... 1000, as the frequencies were made for steps."""

    def __init__(self, dim):
        super().__init__()
        frequencies = torch.exp(-math.log(10_000.0) * torch.arange(dim // 2) / (dim // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t):
        angles = 1000.0 * t.reshape(-1, 1).float() * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResBlock(nn.Module):
    def __init__(self, in_ch, out_ch, emb_ch):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(8, in_ch), nn.SiLU(), nn.Conv2d(in_ch, out_ch, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_ch, out_ch))
        self.out_layers = nn.Sequential(nn.GroupNorm(8, out_ch), nn.SiLU(), nn.Conv2d(out_ch, out_ch, 3, padding=1))
        self.skip = nn.Conv2d(in_ch, out_ch, 1) if in_ch != out_ch else nn.Identity()

    def forward(self, x, emb):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip(x) + self.out_layers(h)


class SelfAttention(nn.Module):
    """Every pixel of an image looks at every other pixel of the same image."""

    def __init__(self, channels, heads=4):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x):
        B, C, H, W = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        seen, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return x + seen.transpose(1, 2).reshape(B, C, H, W)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=64, n_classes=10):
        super().__init__()
        emb = 4 * n_feat
        self.time = nn.Sequential(SinusoidalTime(n_feat), nn.Linear(n_feat, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label = nn.Sequential(nn.Linear(n_classes, emb), nn.SiLU(), nn.Linear(emb, emb))

        self.stem = nn.Conv2d(in_channels, n_feat, 3, padding=1)
        self.down1 = ResBlock(n_feat, n_feat, emb)
        self.down2 = ResBlock(n_feat, 2 * n_feat, emb)
        self.mid1 = ResBlock(2 * n_feat, 2 * n_feat, emb)
        self.mid_attention = SelfAttention(2 * n_feat)
        self.mid2 = ResBlock(2 * n_feat, 2 * n_feat, emb)
        self.up2 = ResBlock(4 * n_feat, n_feat, emb)
        self.up1 = ResBlock(2 * n_feat, n_feat, emb)
        self.head = nn.Sequential(nn.GroupNorm(8, n_feat), nn.SiLU(), nn.Conv2d(n_feat, in_channels, 3, padding=1))

    def forward(self, x, t, c):
        emb = self.time(t) + self.label(c.float())
        h1 = self.down1(self.stem(x), emb)              # (B, F, H, W)
        h2 = self.down2(F.avg_pool2d(h1, 2), emb)       # (B, 2F, H/2, W/2)
        h = self.mid1(F.avg_pool2d(h2, 2), emb)         # (B, 2F, H/4, W/4)
        h = self.mid2(self.mid_attention(h), emb)
        h = F.interpolate(h, scale_factor=2)
        h = self.up2(torch.cat([h, h2], dim=1), emb)
        h = F.interpolate(h, scale_factor=2)
        h = self.up1(torch.cat([h, h1], dim=1), emb)
        return self.head(h)
