"""ConvNeXt-flavoured U-Net; the picture is folded into 2 x 2 pixels first, so that everything happens at 14 x 14 and 7 x 7."""

import torch
import torch.nn as nn


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GaussianFourierProjection(nn.Module):
    def __init__(self, size, scale=4.0):
        super().__init__()
        self.register_buffer("W", torch.randn(size) * scale)

    def forward(self, t):
        proj = 2 * torch.pi * t * self.W
        return torch.cat([torch.sin(proj), torch.cos(proj)], dim=1)


class ConvNext(nn.Module):
    def __init__(self, dim, emb):
        super().__init__()
        self.dw = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.cond = nn.Linear(emb, dim)
        self.body = nn.Sequential(ChannelNorm(dim), nn.Conv2d(dim, 4 * dim, 1), nn.GELU(), nn.Conv2d(4 * dim, dim, 1))

    def forward(self, x, e):
        h = self.dw(x) + self.cond(e)[:, :, None, None]
        return x + self.body(h)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        d, emb = n_feat, 4 * n_feat
        self.n_classes = n_classes
        self.t_embed = nn.Sequential(GaussianFourierProjection(d), nn.Linear(2 * d, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.c_embed = nn.Sequential(nn.Linear(n_classes, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.fold = nn.PixelUnshuffle(2)
        self.stem = nn.Conv2d(4 * in_channels, d, 3, padding=1)
        self.enc = nn.ModuleList([ConvNext(d, emb), ConvNext(d, emb)])
        self.down = nn.Conv2d(d, 2 * d, 2, 2)
        self.mid = nn.ModuleList([ConvNext(2 * d, emb) for _ in range(3)])
        self.up = nn.ConvTranspose2d(2 * d, d, 2, 2)
        self.merge = nn.Conv2d(2 * d, d, 1)
        self.dec = nn.ModuleList([ConvNext(d, emb), ConvNext(d, emb)])
        self.head = nn.Sequential(ChannelNorm(d), nn.Conv2d(d, 4 * in_channels, 3, padding=1))
        self.unfold = nn.PixelShuffle(2)
        nn.init.normal_(self.head[1].weight, std=0.02)  # a quiet start, not a silent one

    def forward(self, x, t, c):
        e = self.t_embed(t.reshape(-1, 1).to(x.dtype)) + self.c_embed(c.reshape(-1, self.n_classes).to(x.dtype))
        h = self.stem(self.fold(x))
        for block in self.enc:
            h = block(h, e)
        skip = h
        h = self.down(h)
        for block in self.mid:
            h = block(h, e)
        h = self.merge(torch.cat([self.up(h), skip], dim=1))
        for block in self.dec:
            h = block(h, e)
        return self.unfold(self.head(h))
