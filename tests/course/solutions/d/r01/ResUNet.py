"""
U-Net for the noise, in the manner of labml's annotated DDPM U-Net, but small enough for 28 x 28:
two halvings, group norm, swish, attention in the middle. Time and class are embedded separately and both are
added inside of each residual block.
"""

import math

import torch
from torch import nn


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x)


class TimeEmbedding(nn.Module):
    """Sinusoidal position embedding of t/T (blown up by 1000 so that the waves get going), then an MLP"""

    def __init__(self, n_channels: int):
        super().__init__()
        self.n_channels = n_channels
        self.lin1 = nn.Linear(self.n_channels // 4 * 2, self.n_channels)
        self.act = Swish()
        self.lin2 = nn.Linear(self.n_channels, self.n_channels)

    def forward(self, t: torch.Tensor):
        half_dim = self.n_channels // 4
        emb = math.log(10_000) / max(half_dim - 1, 1)
        emb = torch.exp(torch.arange(half_dim, device=t.device) * -emb)
        emb = 1000. * t.reshape(-1, 1) * emb[None, :]
        emb = torch.cat((emb.sin(), emb.cos()), dim=1)
        return self.lin2(self.act(self.lin1(emb)))


class ClassEmbedding(nn.Module):
    def __init__(self, n_classes: int, n_channels: int):
        super().__init__()
        self.lin1 = nn.Linear(n_classes, n_channels)
        self.act = Swish()
        self.lin2 = nn.Linear(n_channels, n_channels)

    def forward(self, c: torch.Tensor):
        return self.lin2(self.act(self.lin1(c)))


class ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, time_channels: int, n_groups: int = 8):
        super().__init__()
        self.norm1 = nn.GroupNorm(n_groups, in_channels)
        self.act1 = Swish()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=(3, 3), padding=(1, 1))
        self.norm2 = nn.GroupNorm(n_groups, out_channels)
        self.act2 = Swish()
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=(3, 3), padding=(1, 1))
        self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=(1, 1)) if in_channels != out_channels else nn.Identity()
        self.time_emb = nn.Linear(time_channels, out_channels)
        self.class_emb = nn.Linear(time_channels, out_channels)
        self.act = Swish()

    def forward(self, x, t, c):
        h = self.conv1(self.act1(self.norm1(x)))
        h = h + self.time_emb(self.act(t))[:, :, None, None]
        h = h + self.class_emb(self.act(c))[:, :, None, None]
        h = self.conv2(self.act2(self.norm2(h)))
        return h + self.shortcut(x)


class AttentionBlock(nn.Module):
    def __init__(self, n_channels: int):
        super().__init__()
        self.norm = nn.GroupNorm(8, n_channels)
        self.projection = nn.Linear(n_channels, 3 * n_channels)
        self.output = nn.Linear(n_channels, n_channels)
        self.scale = n_channels ** -0.5

    def forward(self, x):
        batch_size, n_channels, height, width = x.shape
        seq = self.norm(x).view(batch_size, n_channels, -1).permute(0, 2, 1)
        q, k, v = torch.chunk(self.projection(seq), 3, dim=-1)
        attn = torch.einsum('bid,bjd->bij', q, k) * self.scale
        attn = attn.softmax(dim=2)
        res = torch.einsum('bij,bjd->bid', attn, v)
        res = self.output(res)
        return x + res.permute(0, 2, 1).reshape(batch_size, n_channels, height, width)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, **_):
        super().__init__()
        n = n_feat
        e = 4 * n
        self.image_proj = nn.Conv2d(in_channels, n, kernel_size=(3, 3), padding=(1, 1))
        self.time_emb = TimeEmbedding(e)
        self.class_emb = ClassEmbedding(n_classes, e)
        self.d1 = ResidualBlock(n, n, e)
        self.down1 = nn.Conv2d(n, n, (3, 3), (2, 2), (1, 1))
        self.d2 = ResidualBlock(n, 2 * n, e)
        self.down2 = nn.Conv2d(2 * n, 2 * n, (3, 3), (2, 2), (1, 1))
        self.m1 = ResidualBlock(2 * n, 2 * n, e)
        self.attn = AttentionBlock(2 * n)
        self.m2 = ResidualBlock(2 * n, 2 * n, e)
        self.up2 = nn.ConvTranspose2d(2 * n, 2 * n, (4, 4), (2, 2), (1, 1))
        self.u2 = ResidualBlock(4 * n, n, e)
        self.up1 = nn.ConvTranspose2d(n, n, (4, 4), (2, 2), (1, 1))
        self.u1 = ResidualBlock(2 * n, n, e)
        self.norm = nn.GroupNorm(8, n)
        self.act = Swish()
        self.final = nn.Conv2d(n, in_channels, kernel_size=(3, 3), padding=(1, 1))

    def forward(self, x, t, c):
        t = self.time_emb(t.to(x.dtype))
        c = self.class_emb(c.to(x.dtype))

        h1 = self.d1(self.image_proj(x), t, c)            # 28
        h2 = self.d2(self.down1(h1), t, c)                # 14
        m = self.m2(self.attn(self.m1(self.down2(h2), t, c)), t, c)  # 7
        u = self.u2(torch.cat((self.up2(m), h2), dim=1), t, c)
        u = self.u1(torch.cat((self.up1(u), h1), dim=1), t, c)
        return self.final(self.act(self.norm(u)))
