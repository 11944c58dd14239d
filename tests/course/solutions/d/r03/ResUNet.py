import math
from functools import partial

import torch
from torch import nn, einsum
import torch.nn.functional as F

# small helper modules

class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x

def Upsample(dim, dim_out):
    return nn.Sequential(nn.Upsample(scale_factor = 2, mode = 'nearest'), nn.Conv2d(dim, dim_out, 3, padding = 1))

def Downsample(dim, dim_out):
    # space to depth, then 1x1
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(dim * 4, dim_out, 1))

class RMSNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.scale = dim ** 0.5
        self.g = nn.Parameter(torch.ones(1, dim, 1, 1))

    def forward(self, x):
        return F.normalize(x, dim = 1) * self.g * self.scale

class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim, theta = 10000):
        super().__init__()
        self.dim = dim
        self.theta = theta

    def forward(self, x):
        half_dim = self.dim // 2
        emb = math.log(self.theta) / (half_dim - 1)
        emb = torch.exp(torch.arange(half_dim, device = x.device) * -emb)
        emb = 1000 * x[:, None] * emb[None, :]
        return torch.cat((emb.sin(), emb.cos()), dim = -1)

class Block(nn.Module):
    def __init__(self, dim, dim_out):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim_out, 3, padding = 1)
        self.norm = RMSNorm(dim_out)
        self.act = nn.SiLU()

    def forward(self, x, scale_shift = None):
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.act(x)

class ResnetBlock(nn.Module):
    def __init__(self, dim, dim_out, *, emb_dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(emb_dim, dim_out * 2))
        self.block1 = Block(dim, dim_out)
        self.block2 = Block(dim_out, dim_out)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x, emb):
        emb = self.mlp(emb)[:, :, None, None]
        h = self.block1(x, scale_shift = emb.chunk(2, dim = 1))
        h = self.block2(h)
        return h + self.res_conv(x)

class LinearAttention(nn.Module):
    def __init__(self, dim, heads = 2, dim_head = 16):
        super().__init__()
        self.scale = dim_head ** -0.5
        self.heads = heads
        self.norm = RMSNorm(dim)
        self.to_qkv = nn.Conv2d(dim, heads * dim_head * 3, 1, bias = False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        qkv = self.to_qkv(self.norm(x)).chunk(3, dim = 1)
        q, k, v = map(lambda t: t.reshape(b, self.heads, -1, h * w), qkv)
        q = q.softmax(dim = -2) * self.scale
        k = k.softmax(dim = -1)
        context = einsum('b h d n, b h e n -> b h d e', k, v)
        out = einsum('b h d e, b h d n -> b h e n', context, q)
        return self.to_out(out.reshape(b, -1, h, w))

# model

class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat = 128, n_classes = 10, dim_mults = (1, 2), **kwargs):
        super().__init__()
        dim = n_feat
        emb_dim = dim * 4
        dims = [dim, *map(lambda m: dim * m, dim_mults)]
        in_out = list(zip(dims[:-1], dims[1:]))
        block_klass = partial(ResnetBlock, emb_dim = emb_dim)

        self.init_conv = nn.Conv2d(in_channels, dim, 7, padding = 3)
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(dim), nn.Linear(dim, emb_dim), nn.GELU(), nn.Linear(emb_dim, emb_dim))
        self.classes_mlp = nn.Sequential(nn.Linear(n_classes, emb_dim), nn.GELU(), nn.Linear(emb_dim, emb_dim))

        self.downs = nn.ModuleList([])
        self.ups = nn.ModuleList([])
        for dim_in, dim_out in in_out:
            self.downs.append(nn.ModuleList([
                block_klass(dim_in, dim_in),
                Residual(LinearAttention(dim_in)),
                Downsample(dim_in, dim_out),
            ]))

        mid_dim = dims[-1]
        self.mid_block1 = block_klass(mid_dim, mid_dim)
        self.mid_block2 = block_klass(mid_dim, mid_dim)

        for dim_in, dim_out in reversed(in_out):
            self.ups.append(nn.ModuleList([
                Upsample(dim_out, dim_in),
                block_klass(dim_in * 2, dim_in),
                Residual(LinearAttention(dim_in)),
            ]))

        self.final_res_block = block_klass(dim * 2, dim)
        self.final_conv = nn.Conv2d(dim, in_channels, 1)

    def forward(self, x, t, c):
        t, c = t.reshape(-1).to(x.dtype), c.to(x.dtype)
        emb = self.time_mlp(t) + self.classes_mlp(c)

        x = self.init_conv(x)
        r = x.clone()
        h = []

        for block, attn, downsample in self.downs:
            x = attn(block(x, emb))
            h.append(x)
            x = downsample(x)

        x = self.mid_block2(self.mid_block1(x, emb), emb)

        for upsample, block, attn in self.ups:
            x = upsample(x)
            x = torch.cat((x, h.pop()), dim = 1)
            x = attn(block(x, emb))

        x = torch.cat((x, r), dim = 1)
        x = self.final_res_block(x, emb)
        return self.final_conv(x)
