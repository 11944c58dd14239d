"""The denoising network: a small U-Net that sees the noisy image, the time and the class.

A student completes `ConditionalUnet.forward`; the blocks are given.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class ResConvBlock(nn.Module):
    """Two of [3x3 convolution, batch norm, GELU] and a residual sum, (B, in, H, W) -> (B, out, H, W). As in the skeleton."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv1 = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.GELU())
        self.conv2 = nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.GELU())

    def forward(self, x):
        x1 = self.conv1(x)   # (B, out, H, W)
        x2 = self.conv2(x1)  # (B, out, H, W)
        residual = x if self.in_channels == self.out_channels else x1
        return (residual + x2) / math.sqrt(2)  # two terms of unit variance sum to two


class UnetDown(nn.Module):
    """Encode and halve: (B, in, H, W) -> (B, out, H/2, W/2)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.model = nn.Sequential(ResConvBlock(in_channels, out_channels), nn.MaxPool2d(2))

    def forward(self, x):
        return self.model(x)


class ConditionalUnet(nn.Module):
    """My own U-Net: bilinear doubling, time and class added to the features (not concatenated), additive skips."""

    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        widths = [n_feat, n_feat, 2 * n_feat]
        self.n_classes = n_classes
        self.stem = ResConvBlock(in_channels, n_feat)
        self.downs = nn.ModuleList(UnetDown(a, b) for a, b in zip(widths, widths[1:]))
        self.ups = nn.ModuleList(ResConvBlock(b, a) for a, b in zip(widths, widths[1:]))
        self.time = nn.ModuleList(nn.Sequential(nn.Linear(1, n_feat), nn.GELU(), nn.Linear(n_feat, w)) for w in widths[1:] + widths[::-1])
        self.kind = nn.ModuleList(nn.Sequential(nn.Linear(n_classes, n_feat), nn.GELU(), nn.Linear(n_feat, w)) for w in widths[1:] + widths[::-1])
        self.middle = ResConvBlock(2 * n_feat, 2 * n_feat)
        self.final = nn.Sequential(nn.Conv2d(n_feat, n_feat, 3, 1, 1), nn.GELU(), nn.Conv2d(n_feat, in_channels, 1))

    def forward(self, x, t, c):
        t = t.reshape(-1, 1).to(x.dtype)
        c = c.to(x.dtype)
        told = [time(t)[..., None, None] + kind(c)[..., None, None] for time, kind in zip(self.time, self.kind)]
        kept = [self.stem(x)]
        for down, tell in zip(self.downs, told[:2]):
            kept.append(down(kept[-1]) + tell)
        h = self.middle(kept.pop() + told[2])
        for up, tell in zip(reversed(self.ups), told[3:]):
            h = F.interpolate(up(h), scale_factor=2, mode="bilinear", align_corners=False)
            h = h + kept.pop() + tell
        return self.final(h)
