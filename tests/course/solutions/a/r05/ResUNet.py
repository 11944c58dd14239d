"""条件 U-Net,用 FiLM (缩放和平移) 注入时间与类别。"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def time_features(t, dim):
    """把 t / T 变成正弦特征: (B,) -> (B, dim)"""
    half = dim // 2
    freq = torch.exp(torch.linspace(0, math.log(200.0), half, device=t.device))
    angle = t[:, None] * freq[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class FilmBlock(nn.Module):
    def __init__(self, c_in, c_out, emb):
        super().__init__()
        self.norm1 = nn.GroupNorm(4, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.film = nn.Linear(emb, 2 * c_out)
        self.short = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(emb)[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.short(x) + self.conv2(F.silu(h))


class ConditionalUnet(nn.Module):
    """(x, t, c) -> x 里的噪声"""

    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        self.n_feat = n_feat
        self.n_classes = n_classes
        emb = 4 * n_feat
        self.time_mlp = nn.Sequential(nn.Linear(n_feat, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.class_mlp = nn.Sequential(nn.Linear(n_classes, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.stem = nn.Conv2d(in_channels, n_feat, 3, padding=1)
        self.enc1 = FilmBlock(n_feat, n_feat, emb)
        self.down1 = nn.Conv2d(n_feat, n_feat, 3, stride=2, padding=1)
        self.enc2 = FilmBlock(n_feat, 2 * n_feat, emb)
        self.down2 = nn.Conv2d(2 * n_feat, 2 * n_feat, 3, stride=2, padding=1)
        self.mid = FilmBlock(2 * n_feat, 2 * n_feat, emb)
        self.dec2 = FilmBlock(4 * n_feat, n_feat, emb)
        self.dec1 = FilmBlock(2 * n_feat, n_feat, emb)
        self.head = nn.Sequential(nn.GroupNorm(4, n_feat), nn.SiLU(), nn.Conv2d(n_feat, in_channels, 3, padding=1))

    def forward(self, x, t, c):
        t = t.reshape(-1).float()
        e = F.silu(self.time_mlp(time_features(t, self.n_feat)) + self.class_mlp(c.to(x.dtype)))
        s1 = self.enc1(self.stem(x), e)                     # 28
        s2 = self.enc2(self.down1(s1), e)                   # 14
        h = self.mid(self.down2(s2), e)                     # 7
        h = F.interpolate(h, scale_factor=2)
        h = self.dec2(torch.cat([h, s2], dim=1), e)         # 14
        h = F.interpolate(h, scale_factor=2)
        h = self.dec1(torch.cat([h, s1], dim=1), e)         # 28
        return self.head(h)
