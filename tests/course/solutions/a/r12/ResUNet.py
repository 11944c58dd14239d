"""A small diffusion transformer over patches of 4 x 4 pixels. Name and call are those of the U-Net that it replaces."""

import torch
from torch import nn


def modulate(h, scale, shift):
    return h * (1 + scale[:, None]) + shift[:, None]


class DiTBlock(nn.Module):
    def __init__(self, dim, heads=4):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.ada = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, h, e):
        s1, b1, g1, s2, b2, g2 = self.ada(e).chunk(6, dim=-1)
        y = modulate(self.norm1(h), s1, b1)
        h = h + (1 + g1[:, None]) * self.attention(y, y, y, need_weights=False)[0]
        return h + (1 + g2[:, None]) * self.mlp(modulate(self.norm2(h), s2, b2))


class ConditionalUnet(nn.Module):
    PATCH = 4

    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        dim = 2 * n_feat
        self.grid = (input_dim[0] // self.PATCH, input_dim[1] // self.PATCH)
        self.tokens = nn.Conv2d(in_channels, dim, self.PATCH, self.PATCH)
        self.position = nn.Parameter(0.1 * torch.randn(1, self.grid[0] * self.grid[1], dim))
        self.t_embed = nn.Sequential(nn.Linear(1, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.c_embed = nn.Linear(n_classes, dim, bias=False)
        self.blocks = nn.ModuleList([DiTBlock(dim) for _ in range(4)])
        self.norm = nn.LayerNorm(dim)
        self.pixels = nn.ConvTranspose2d(dim, in_channels, self.PATCH, self.PATCH)
        self.fine = nn.Conv2d(2 * in_channels, in_channels, 3, padding=1)

    def forward(self, x, t, c):
        e = self.t_embed(t.reshape(-1, 1).to(x.dtype)) + self.c_embed(c.to(x.dtype))
        h = self.tokens(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            h = block(h, e)
        h = self.norm(h).transpose(1, 2).reshape(len(x), -1, *self.grid)
        return self.fine(torch.cat([self.pixels(h), x], dim=1))
