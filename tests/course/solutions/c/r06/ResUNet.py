# 网络: FiLM 残差块 + 线性注意力的 U-Net, 写法参考常见的 PyTorch 扩散模型代码
import math

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


class PreNorm(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.norm = nn.GroupNorm(1, dim)
        self.fn = fn

    def forward(self, x):
        return self.fn(self.norm(x))


class LearnedSinusoidalPosEmb(nn.Module):
    """可学习频率的正弦时间编码"""

    def __init__(self, dim):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(dim // 2))

    def forward(self, t):
        t = t.reshape(-1, 1)
        freqs = t * self.weights[None, :] * 2 * math.pi
        return torch.cat((t, freqs.sin(), freqs.cos()), dim=-1)


class Block(nn.Module):
    def __init__(self, dim, dim_out, groups=8):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim_out, 3, padding=1)
        self.norm = nn.GroupNorm(groups, dim_out)
        self.act = nn.SiLU()

    def forward(self, x, scale_shift=None):
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.act(x)


class ResnetBlock(nn.Module):
    def __init__(self, dim, dim_out, time_emb_dim, classes_emb_dim):
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(time_emb_dim + classes_emb_dim, dim_out * 2))
        self.block1 = Block(dim, dim_out)
        self.block2 = Block(dim_out, dim_out)
        self.res_conv = nn.Conv2d(dim, dim_out, 1) if dim != dim_out else nn.Identity()

    def forward(self, x, time_emb, class_emb):
        cond = self.mlp(torch.cat((time_emb, class_emb), dim=-1))[:, :, None, None]
        h = self.block1(x, scale_shift=cond.chunk(2, dim=1))
        return self.block2(h) + self.res_conv(x)


class LinearAttention(nn.Module):
    def __init__(self, dim, heads=4, dim_head=16):
        super().__init__()
        self.heads, self.scale = heads, dim_head ** -0.5
        self.to_qkv = nn.Conv2d(dim, heads * dim_head * 3, 1, bias=False)
        self.to_out = nn.Conv2d(heads * dim_head, dim, 1)

    def forward(self, x):
        b, _, h, w = x.shape
        q, k, v = (z.reshape(b, self.heads, -1, h * w) for z in self.to_qkv(x).chunk(3, dim=1))
        q, k = q.softmax(dim=-2) * self.scale, k.softmax(dim=-1)
        context = torch.einsum('bhdn,bhen->bhde', k, v)
        out = torch.einsum('bhde,bhdn->bhen', context, q)
        return self.to_out(out.reshape(b, -1, h, w))


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=64, n_classes=10):
        super().__init__()
        time_dim = classes_dim = n_feat * 4
        self.init_conv = nn.Conv2d(in_channels, n_feat, 7, padding=3)
        self.time_mlp = nn.Sequential(
            LearnedSinusoidalPosEmb(16), nn.Linear(17, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim)
        )
        self.classes_mlp = nn.Sequential(nn.Linear(n_classes, classes_dim), nn.GELU(), nn.Linear(classes_dim, classes_dim))

        dims = [n_feat, n_feat, n_feat * 2]
        in_out = list(zip(dims[:-1], dims[1:]))
        cond = dict(time_emb_dim=time_dim, classes_emb_dim=classes_dim)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for a, b in in_out:
            self.downs.append(nn.ModuleList([
                ResnetBlock(a, a, **cond),
                Residual(PreNorm(a, LinearAttention(a))),
                nn.Conv2d(a, b, 4, 2, 1),
            ]))
        mid = dims[-1]
        self.mid_block = ResnetBlock(mid, mid, **cond)
        for a, b in reversed(in_out):
            self.ups.append(nn.ModuleList([
                nn.ConvTranspose2d(b, a, 4, 2, 1),
                ResnetBlock(a * 2, a, **cond),
                Residual(PreNorm(a, LinearAttention(a))),
            ]))
        self.final_res_block = ResnetBlock(n_feat * 2, n_feat, **cond)
        self.final_conv = nn.Conv2d(n_feat, in_channels, 1)

    def forward(self, x, time, classes):
        x = self.init_conv(x)
        r = x.clone()
        t = self.time_mlp(time.to(x.dtype))
        c = self.classes_mlp(classes.to(x.dtype))
        h = []
        for block, attn, downsample in self.downs:
            x = attn(block(x, t, c))
            h.append(x)
            x = downsample(x)
        x = self.mid_block(x, t, c)
        for upsample, block, attn in self.ups:
            x = torch.cat((upsample(x), h.pop()), dim=1)
            x = attn(block(x, t, c))
        x = torch.cat((x, r), dim=1)
        return self.final_conv(self.final_res_block(x, t, c))
