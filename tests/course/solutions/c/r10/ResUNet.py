"""A small U-ViT: the image as 49 patches of 4 x 4, time and class as two more tokens, and long skips between the layers."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Layer(nn.Module):
    """One pre-norm transformer layer; with `skip`, the tokens of its partner on the way in are merged first."""

    def __init__(self, dim, heads=4, skip=False):
        super().__init__()
        self.merge = nn.Linear(2 * dim, dim) if skip else None
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.heads = heads

    def forward(self, x, skip=None):
        if self.merge is not None:
            x = self.merge(torch.cat([x, skip], dim=-1))
        B, N, D = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(B, N, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, D))
        return x + self.mlp(self.norm2(x))


class ConditionalUnet(nn.Module):
    PATCH = 4

    def __init__(self, in_channels, n_feat=64, n_classes=10, input_dim=(28, 28), depth=2):
        super().__init__()
        dim, P = 2 * n_feat, self.PATCH
        self.grid = (input_dim[0] // P, input_dim[1] // P)
        self.patches = nn.Conv2d(in_channels, dim, P, stride=P)
        self.time = nn.Sequential(nn.Linear(1, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = nn.Linear(n_classes, dim)
        self.position = nn.Parameter(0.02 * torch.randn(1, 2 + self.grid[0] * self.grid[1], dim))
        self.inward = nn.ModuleList([Layer(dim) for _ in range(depth)])
        self.middle = Layer(dim)
        self.outward = nn.ModuleList([Layer(dim, skip=True) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.pixels = nn.Linear(dim, n_feat * P * P)
        self.blend = nn.Conv2d(n_feat + in_channels, in_channels, 3, padding=1)

    def forward(self, x, t, c):
        time = self.time(t.reshape(-1, 1).to(x.dtype))
        label = self.label(c.to(x.dtype))
        tokens = self.patches(x).flatten(2).transpose(1, 2)                              # (B, 49, D)
        tokens = torch.cat([time[:, None], label[:, None], tokens], dim=1) + self.position
        kept = []
        for layer in self.inward:
            tokens = layer(tokens)
            kept.append(tokens)
        tokens = self.middle(tokens)
        for layer in self.outward:
            tokens = layer(tokens, kept.pop())
        picture = self.pixels(self.norm(tokens[:, 2:])).transpose(1, 2).unflatten(2, self.grid)
        return self.blend(torch.cat([F.pixel_shuffle(picture, self.PATCH), x], dim=1))
