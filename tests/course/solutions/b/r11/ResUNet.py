"""Denoiser of submission 11: residual blocks with adaptive group norm, self-attention over the 7 x 7 grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdaptiveNorm(nn.Module):
    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels, affine=False)
        self.project = nn.Linear(context, 2 * channels)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        scale, shift = self.project(context).unflatten(1, (2, -1, 1, 1)).unbind(1)
        return torch.addcmul(shift, self.norm(h), 1 + scale)


class Residual(nn.Module):
    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(AdaptiveNorm(channels, context) for _ in range(2))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding="same") for _ in range(2))

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        r = h
        for norm, conv in zip(self.norms, self.convs):
            r = conv(F.silu(norm(r, context)))
        return h + r


class Attention(nn.Module):
    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: Tensor) -> Tensor:
        b, ch, height, width = h.shape
        q, k, v = self.qkv(h).reshape(b, 3, self.heads, ch // self.heads, height * width).transpose(-1, -2).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (b, heads, pixels, channels / heads)
        return h + self.out(mixed.transpose(-1, -2).reshape(b, ch, height, width))


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels: int, n_feat: int = 128, n_classes: int = 10) -> None:
        super().__init__()
        self.in_channels, self.n_classes, self.image_size = in_channels, n_classes, (28, 28)
        context = 4 * n_feat
        self.register_buffer("frequencies", 2 ** torch.linspace(0, 8, n_feat // 2), persistent=False)
        self.of_time = nn.Sequential(nn.Linear(n_feat, context), nn.SiLU(), nn.Linear(context, context))
        self.of_class = nn.Sequential(nn.Linear(n_classes, context), nn.SiLU(), nn.Linear(context, context))
        self.stem = nn.Conv2d(in_channels, n_feat, 3, padding=1)
        self.encode = nn.ModuleList(Residual(n_feat, context) for _ in range(2))
        self.middle, self.attend = Residual(n_feat, context), Attention(n_feat)
        self.merge = nn.ModuleList(nn.Conv2d(2 * n_feat, n_feat, 1) for _ in range(2))
        self.decode = nn.ModuleList(Residual(n_feat, context) for _ in range(2))
        self.head = nn.Sequential(nn.GroupNorm(8, n_feat), nn.SiLU(), nn.Conv2d(n_feat, in_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        angles = t.reshape(-1, 1).to(x.dtype) * self.frequencies
        context = self.of_time(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.of_class(c.to(x.dtype))
        h, skips = self.stem(x), []
        for block in self.encode:
            h = block(h, context)
            skips.append(h)
            h = F.avg_pool2d(h, 2)
        h = self.attend(self.middle(h, context))
        for merge, block in zip(self.merge, self.decode):
            h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
            h = block(merge(torch.cat([h, skips.pop()], dim=1)), context)
        return self.head(h)
