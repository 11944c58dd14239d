"""去噪网络：带 FiLM(缩放 + 平移)的小型 U-Net。

时间用正弦编码，类别用线性层，两者相加后送入每一个残差块。
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


def timestep_embedding(t, dim, max_period=10_000.0):
    """t: (B,)，取值 (0, 1]，先放大到 0…1000，再做正弦/余弦编码 -> (B, dim)"""
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=t.dtype) / half)
    args = 1000.0 * t[:, None] * freqs[None]
    return torch.cat([args.cos(), args.sin()], dim=-1)


class FiLMBlock(nn.Module):
    """归一化 -> 激活 -> 卷积 -> FiLM -> 激活 -> dropout -> 卷积，再加残差"""

    def __init__(self, c_in, c_out, c_emb, dropout=0.1):
        super().__init__()
        self.norm1 = nn.GroupNorm(1, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, c_out)
        self.film = nn.Linear(c_emb, 2 * c_out)
        self.drop = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, h, emb):
        y = self.conv1(F.silu(self.norm1(h)))
        scale, shift = self.film(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        y = self.norm2(y) * (1 + scale) + shift
        y = self.conv2(self.drop(F.silu(y)))
        return self.skip(h) + y


class ConditionalUnet(nn.Module):
    """ε_θ(x_t, t/T, c)。参数名与讲义一致。"""

    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28), freeze_embeddings=False):
        super().__init__()
        self.n_feat, self.n_classes = n_feat, n_classes
        emb = 4 * n_feat
        widths = [n_feat, 2 * n_feat, 2 * n_feat]  # 28, 14, 7

        self.time_mlp = nn.Sequential(nn.Linear(n_feat, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.class_mlp = nn.Sequential(nn.Linear(n_classes, emb), nn.SiLU(), nn.Linear(emb, emb))

        self.stem = nn.Conv2d(in_channels, n_feat, 3, padding=1)
        self.down_blocks, self.down_samples = nn.ModuleList(), nn.ModuleList()
        before = n_feat
        for level, width in enumerate(widths):
            self.down_blocks.append(FiLMBlock(before, width, emb))
            last = level == len(widths) - 1
            self.down_samples.append(nn.Identity() if last else nn.Conv2d(width, width, 3, stride=2, padding=1))
            before = width
        self.middle = FiLMBlock(before, before, emb)
        self.up_blocks, self.up_samples = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            self.up_blocks.append(FiLMBlock(before + width, width, emb))
            self.up_samples.append(nn.Identity() if level == 0 else nn.ConvTranspose2d(width, width, 2, 2))
            before = width
        self.head = nn.Sequential(nn.GroupNorm(4, before), nn.SiLU(), nn.Conv2d(before, in_channels, 3, padding=1))
        if freeze_embeddings:
            self.time_mlp.requires_grad_(False)
            self.class_mlp.requires_grad_(False)

    def forward(self, x, t, c):
        t = t.reshape(-1).to(x.dtype)
        emb = self.time_mlp(timestep_embedding(t, self.n_feat)) + self.class_mlp(c.to(x.dtype))
        h = self.stem(x)
        stack = []
        for block, pool in zip(self.down_blocks, self.down_samples):
            h = block(h, emb)
            stack.append(h)
            h = pool(h)
        h = self.middle(h, emb)
        for block, expand in zip(self.up_blocks, self.up_samples):
            h = block(torch.cat([h, stack.pop()], dim=1), emb)
            h = expand(h)
        return self.head(h)
