# -*- coding: utf-8 -*-
"""去噪网络：一个小的 U-Net，输入 (噪声图, 时间, 条件)，输出噪声。"""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def 正弦编码(t, 维度):
    """t: (B,) 在 (0, 1] 内 -> (B, 维度)"""
    一半 = 维度 // 2
    频率 = torch.exp(torch.linspace(0.0, math.log(1000.0), 一半, device=t.device))
    角度 = t[:, None] * 频率[None, :]
    return torch.cat([angle_fn(角度) for angle_fn in (torch.sin, torch.cos)], dim=1)


class Block(nn.Module):
    def __init__(self, cin, cout, cemb):
        super().__init__()
        self.c1 = nn.Conv2d(cin, cout, 3, 1, 1)
        self.n1 = nn.BatchNorm2d(cout)
        self.c2 = nn.Conv2d(cout, cout, 3, 1, 1)
        self.n2 = nn.BatchNorm2d(cout)
        self.emb_t = nn.Linear(cemb, cout)
        self.emb_c = nn.Linear(cemb, cout)

    def forward(self, x, te, ce):
        h = F.relu(self.n1(self.c1(x)))
        # 时间相加，类别相乘
        h = h * (1 + self.emb_c(ce)[..., None, None]) + self.emb_t(te)[..., None, None]
        h2 = F.relu(self.n2(self.c2(h)))
        return h + h2


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10):
        super().__init__()
        self.in_channels = in_channels
        self.n_classes = n_classes
        self.dim = n_feat
        f = n_feat
        self.t_mlp = nn.Sequential(nn.Linear(f, f), nn.ReLU(), nn.Linear(f, f))
        self.c_mlp = nn.Sequential(nn.Linear(n_classes, f), nn.ReLU(), nn.Linear(f, f))
        self.enc = nn.ModuleList([Block(in_channels, f, f), Block(f, f, f), Block(f, 2 * f, f)])
        self.down = nn.MaxPool2d(2)
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * f, f, 2, 2), nn.ConvTranspose2d(f, f, 2, 2)])
        self.dec = nn.ModuleList([Block(2 * f, f, f), Block(2 * f, f, f)])
        self.out = nn.Conv2d(f, in_channels, 1)

    def forward(self, x, t, c):
        te = self.t_mlp(正弦编码(t.reshape(-1).to(x.dtype), self.dim))
        ce = self.c_mlp(c.to(x.dtype))
        # 编码：28 -> 14 -> 7
        e1 = self.enc[0](x, te, ce)
        e2 = self.enc[1](self.down(e1), te, ce)
        e3 = self.enc[2](self.down(e2), te, ce)
        # 解码：7 -> 14 -> 28，拼接跳跃连接
        d2 = self.dec[0](torch.cat([self.up[0](e3), e2], dim=1), te, ce)
        d1 = self.dec[1](torch.cat([self.up[1](d2), e1], dim=1), te, ce)
        return self.out(d1)
