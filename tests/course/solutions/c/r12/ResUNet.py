"""网络: 用 PixelUnshuffle 缩小, PixelShuffle 放大; 时间和类别在每一层加到通道上。"""

import torch
from torch import nn


def conv(a, b, k=3):
    return nn.Conv2d(a, b, k, padding=k // 2)


class Told(nn.Module):
    """两次卷积, 中间加上时间与类别的投影 (先乘后加)"""

    def __init__(self, a, b, t_dim, c_dim):
        super().__init__()
        self.first = nn.Sequential(conv(a, b), nn.InstanceNorm2d(b, affine=True), nn.Mish())
        self.by_class, self.by_time = nn.Linear(c_dim, b), nn.Linear(t_dim, b)
        self.second = nn.Sequential(conv(b, b), nn.InstanceNorm2d(b, affine=True), nn.Mish())
        self.short = conv(a, b, 1)

    def forward(self, x, t, c):
        h = self.first(x)
        h = h * (1 + self.by_class(c).unsqueeze(-1).unsqueeze(-1)) + self.by_time(t).unsqueeze(-1).unsqueeze(-1)
        return self.second(h) + self.short(x)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=64, n_classes=10):
        super().__init__()
        F = n_feat
        self.n_classes = n_classes
        self.t_mlp = nn.Sequential(nn.Linear(1, F), nn.Tanh(), nn.Linear(F, F), nn.Mish())
        self.c_mlp = nn.Sequential(nn.Linear(n_classes, F), nn.Mish())
        self.enc1 = Told(in_channels, F, F, F)
        self.shrink1 = nn.Sequential(nn.PixelUnshuffle(2), conv(4 * F, F, 1))
        self.enc2 = Told(F, 2 * F, F, F)
        self.shrink2 = nn.Sequential(nn.PixelUnshuffle(2), conv(8 * F, 2 * F, 1))
        self.bottom = Told(2 * F, 2 * F, F, F)
        self.grow2 = nn.Sequential(conv(2 * F, 8 * F, 1), nn.PixelShuffle(2))
        self.dec2 = Told(4 * F, F, F, F)
        self.grow1 = nn.Sequential(conv(F, 4 * F, 1), nn.PixelShuffle(2))
        self.dec1 = Told(2 * F, F, F, F)
        self.out = conv(F, in_channels, 1)

    def forward(self, x, t, c):
        t = self.t_mlp(t.reshape(-1, 1).to(x))
        c = self.c_mlp(c.reshape(-1, self.n_classes).to(x))
        e1 = self.enc1(x, t, c)                      # 28 x 28
        e2 = self.enc2(self.shrink1(e1), t, c)       # 14 x 14
        h = self.bottom(self.shrink2(e2), t, c)      # 7 x 7
        h = self.dec2(torch.cat((self.grow2(h), e2), dim=1), t, c)
        h = self.dec1(torch.cat((self.grow1(h), e1), dim=1), t, c)
        return self.out(h)
