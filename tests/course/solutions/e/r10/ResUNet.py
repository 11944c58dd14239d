"""U-Net of residual blocks with scale and shift, after the well-known repositories. Names as there."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from helpers import default


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim, theta=10000, scale=100.0):
        super().__init__()
        self.dim, self.theta, self.scale = dim, theta, scale

    def forward(self, x):
        half_dim = self.dim // 2
        emb = math.log(self.theta) / (half_dim - 1)
        emb = torch.exp(torch.arange(half_dim, device=x.device, dtype=x.dtype) * -emb)
        emb = self.scale * x[:, None] * emb[None, :]
        return torch.cat((emb.sin(), emb.cos()), dim=-1)


class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.scale = dim**0.5
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x):
        return F.normalize(x.float(), dim=1) * self.g * self.scale


class Block(nn.Module):
    def __init__(self, dim, dim_out):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim_out, 3, padding=1)
        self.norm = RMSNorm(dim_out)
        self.act = nn.SiLU()

    def forward(self, x, scale_shift=None):
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.act(x)


class ResnetBlock(nn.Module):
    def __init__(self, dim, dim_out, *, time_emb_dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_emb_dim, dim_out * 2))
        self.block1 = Block(dim, dim_out)
        self.block2 = Block(dim_out, dim_out)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x, time_emb):
        scale_shift = self.mlp(time_emb)[:, :, None, None].chunk(2, dim=1)
        h = self.block1(x, scale_shift)
        return self.block2(h) + self.res_conv(x)


class Attention(nn.Module):
    """Full attention of the 7 x 7 places."""

    def __init__(self, dim, heads=2):
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(dim)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.to_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.to_qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(-1, -2).reshape(b, c, h, w))


def Downsample(dim, dim_out):
    """Space to depth, then a 1x1 convolution."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(dim * 4, dim_out, 1))


def Upsample(dim, dim_out):
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(dim, dim_out, 3, padding=1))


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28), freeze_embeddings=False, dim_mults=(1, 1, 2), out_dim=None):
        super().__init__()
        self.channels, self.n_classes = in_channels, n_classes
        dims = [n_feat, *(n_feat * m for m in dim_mults)]
        in_out = list(zip(dims[:-1], dims[1:]))
        time_dim = 2 * n_feat
        self.init_conv = nn.Conv2d(in_channels, n_feat, 7, padding=3)
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(n_feat), nn.Linear(n_feat, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))
        self.classes_mlp = nn.Sequential(nn.Linear(n_classes, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))
        cond = 2 * time_dim  # time and class side by side
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for ind, (d_in, d_out) in enumerate(in_out):
            is_last = ind == len(in_out) - 1
            down = nn.Conv2d(d_in, d_out, 3, padding=1) if is_last else Downsample(d_in, d_out)
            self.downs.append(nn.ModuleList([ResnetBlock(d_in, d_in, time_emb_dim=cond), down]))
        mid = dims[-1]
        self.mid_block1 = ResnetBlock(mid, mid, time_emb_dim=cond)
        self.mid_attn = Residual(Attention(mid))
        self.mid_block2 = ResnetBlock(mid, mid, time_emb_dim=cond)
        for ind, (d_in, d_out) in enumerate(reversed(in_out)):
            is_last = ind == len(in_out) - 1
            up = nn.Conv2d(d_out, d_in, 3, padding=1) if is_last else Upsample(d_out, d_in)
            self.ups.append(nn.ModuleList([ResnetBlock(d_out + d_in, d_out, time_emb_dim=cond), up]))
        self.final_res_block = ResnetBlock(2 * n_feat, n_feat, time_emb_dim=cond)
        self.final_conv = nn.Conv2d(n_feat, default(out_dim, in_channels), 1)
        if freeze_embeddings:
            self.time_mlp.requires_grad_(False)
            self.classes_mlp.requires_grad_(False)

    def forward(self, x, t, c):
        emb = torch.cat((self.time_mlp(t.reshape(-1).to(x.dtype)), self.classes_mlp(c.to(x.dtype))), dim=-1)
        x = self.init_conv(x)
        r = x.clone()
        h = []
        for block, downsample in self.downs:
            x = block(x, emb)
            h.append(x)
            x = downsample(x)
        x = self.mid_block1(x, emb)
        x = self.mid_attn(x)
        x = self.mid_block2(x, emb)
        for block, upsample in self.ups:
            x = block(torch.cat((x, h.pop()), dim=1), emb)
            x = upsample(x)
        x = self.final_res_block(torch.cat((x, r), dim=1), emb)
        return self.final_conv(x)
