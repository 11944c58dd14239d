"""A tiny cousin of guided-diffusion's unet.py: TimestepEmbedSequential, ResBlocks with scale-shift norm, attention at 7x7."""

import math
from abc import abstractmethod

import torch as th
import torch.nn as nn
import torch.nn.functional as F


def timestep_embedding(timesteps, dim, max_period=10000):
    half = dim // 2
    freqs = th.exp(-math.log(max_period) * th.arange(start=0, end=half, dtype=th.float32) / half).to(device=timesteps.device)
    args = timesteps[:, None].float() * freqs[None]
    return th.cat([th.cos(args), th.sin(args)], dim=-1)


class TimestepBlock(nn.Module):
    """Any module where forward() takes embeddings as a second argument."""

    @abstractmethod
    def forward(self, x, emb):
        """Apply the module to `x` given `emb` embeddings."""


class TimestepEmbedSequential(nn.Sequential, TimestepBlock):
    def forward(self, x, emb):
        for layer in self:
            if isinstance(layer, TimestepBlock):
                x = layer(x, emb)
            else:
                x = layer(x)
        return x


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(x)


class ResBlock(TimestepBlock):
    def __init__(self, channels, emb_channels, out_channels):
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.out_norm = nn.GroupNorm(8, out_channels)
        self.out_rest = nn.Sequential(nn.SiLU(), nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip_connection = nn.Identity() if out_channels == channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x, emb):
        h = self.in_layers(x)
        emb_out = self.emb_layers(emb).type(h.dtype)[..., None, None]
        scale, shift = th.chunk(emb_out, 2, dim=1)
        h = self.out_norm(h) * (1 + scale) + shift
        return self.skip_connection(x) + self.out_rest(h)


class AttentionBlock(nn.Module):
    def __init__(self, channels, num_heads=2):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.attention = nn.MultiheadAttention(channels, num_heads, batch_first=True)

    def forward(self, x):
        b, c, *spatial = x.shape
        h = self.norm(x).reshape(b, c, -1).transpose(1, 2)
        h, _ = self.attention(h, h, h, need_weights=False)
        return x + h.transpose(1, 2).reshape(b, c, *spatial)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        ch = n_feat
        self.model_channels = ch
        emb = 4 * ch
        self.time_embed = nn.Sequential(nn.Linear(ch, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.label_emb = nn.Linear(n_classes, emb)

        self.input_blocks = nn.ModuleList([
            TimestepEmbedSequential(nn.Conv2d(in_channels, ch, 3, padding=1)),
            TimestepEmbedSequential(ResBlock(ch, emb, ch)),
            TimestepEmbedSequential(nn.Conv2d(ch, ch, 3, stride=2, padding=1)),
            TimestepEmbedSequential(ResBlock(ch, emb, 2 * ch)),
            TimestepEmbedSequential(nn.Conv2d(2 * ch, 2 * ch, 3, stride=2, padding=1)),
        ])
        self.middle_block = TimestepEmbedSequential(
            ResBlock(2 * ch, emb, 2 * ch), AttentionBlock(2 * ch), ResBlock(2 * ch, emb, 2 * ch)
        )
        self.output_blocks = nn.ModuleList([
            TimestepEmbedSequential(ResBlock(4 * ch, emb, 2 * ch), Upsample(2 * ch)),
            TimestepEmbedSequential(ResBlock(4 * ch, emb, 2 * ch)),
            TimestepEmbedSequential(ResBlock(3 * ch, emb, ch), Upsample(ch)),
            TimestepEmbedSequential(ResBlock(2 * ch, emb, ch)),
            TimestepEmbedSequential(ResBlock(2 * ch, emb, ch)),
        ])
        self.out = nn.Sequential(nn.GroupNorm(8, ch), nn.SiLU(), nn.Conv2d(ch, in_channels, 3, padding=1))

    def forward(self, x, timesteps, y):
        """x: [N x C x H x W], timesteps: N values in (0, 1], y: [N x n_classes] rows."""
        hs = []
        emb = self.time_embed(timestep_embedding(1000.0 * timesteps.reshape(-1), self.model_channels))
        emb = emb + self.label_emb(y.to(emb.dtype))

        h = x
        for module in self.input_blocks:
            h = module(h, emb)
            hs.append(h)
        h = self.middle_block(h, emb)
        for module in self.output_blocks:
            h = th.cat([h, hs.pop()], dim=1)
            h = module(h, emb)
        return self.out(h)
