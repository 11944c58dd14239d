"""U-Net with a learned table of classes (one more entry for "no class") and attention at the bottom."""

import math

import torch
from torch import nn


class TimeEmbedding(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.register_buffer("freqs", torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2 - 1)), persistent=False)
        self.net = nn.Sequential(nn.Linear(dim, out), nn.SiLU(), nn.Linear(out, out))

    def forward(self, t):
        args = 1000.0 * t[:, None] * self.freqs
        return self.net(torch.cat([args.cos(), args.sin()], dim=-1))


class Block(nn.Module):
    def __init__(self, dim, dim_out, emb):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim_out, 3, padding=1)
        self.norm = nn.GroupNorm(8, dim_out)
        self.emb = nn.Linear(emb, dim_out)
        self.proj2 = nn.Conv2d(dim_out, dim_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, dim_out)
        self.act = nn.SiLU()
        self.res = nn.Conv2d(dim, dim_out, 1)

    def forward(self, x, e):
        h = self.act(self.norm(self.proj(x)))
        h = h + self.emb(self.act(e))[:, :, None, None]
        h = self.act(self.norm2(self.proj2(h)))
        return h + self.res(x)


class Attention(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.GroupNorm(1, dim)
        self.attn = nn.MultiheadAttention(dim, 4, batch_first=True)

    def forward(self, x):
        b, f, h, w = x.shape
        seq = self.norm(x).flatten(2).transpose(1, 2)
        out, _ = self.attn(seq, seq, seq, need_weights=False)
        return x + out.transpose(1, 2).reshape(b, f, h, w)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        self.n_classes = n_classes
        emb = 4 * n_feat
        self.time = TimeEmbedding(n_feat, emb)
        self.label = nn.Embedding(n_classes + 1, emb)  # the last entry is the null condition
        self.inp = nn.Conv2d(in_channels, n_feat, 7, padding=3)
        self.d1 = Block(n_feat, n_feat, emb)
        self.pool1 = nn.Conv2d(n_feat, n_feat, 4, 2, 1)
        self.d2 = Block(n_feat, 2 * n_feat, emb)
        self.pool2 = nn.Conv2d(2 * n_feat, 2 * n_feat, 4, 2, 1)
        self.m1 = Block(2 * n_feat, 2 * n_feat, emb)
        self.attn = Attention(2 * n_feat)
        self.m2 = Block(2 * n_feat, 2 * n_feat, emb)
        self.up2 = nn.ConvTranspose2d(2 * n_feat, 2 * n_feat, 4, 2, 1)
        self.u2 = Block(4 * n_feat, n_feat, emb)
        self.up1 = nn.ConvTranspose2d(n_feat, n_feat, 4, 2, 1)
        self.u1 = Block(2 * n_feat, n_feat, emb)
        self.out = nn.Conv2d(2 * n_feat, in_channels, 1)

    def class_index(self, c):
        """one-hot rows -> 0 .. n_classes - 1, everything else -> n_classes"""
        is_class = (c.amax(dim=1) == 1) & (c.sum(dim=1) == 1)
        return torch.where(is_class, c.argmax(dim=1), torch.full_like(is_class, self.n_classes, dtype=torch.long))

    def forward(self, x, t, c):
        e = self.time(t.reshape(-1).float()) + self.label(self.class_index(c))
        x = self.inp(x)
        r = x
        h1 = self.d1(x, e)
        h2 = self.d2(self.pool1(h1), e)
        x = self.m2(self.attn(self.m1(self.pool2(h2), e)), e)
        x = self.u2(torch.cat((self.up2(x), h2), dim=1), e)
        x = self.u1(torch.cat((self.up1(x), h1), dim=1), e)
        return self.out(torch.cat((x, r), dim=1))
