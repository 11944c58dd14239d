"""Das Netz sieht das verrauschte Bild, die Zeit und die Klasse. 3 Stufen, Fourier-Zeit, Klasse ohne Bias."""
import math

import torch
from torch import nn
from torch.nn import functional as F


class Time(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.lin = nn.Linear(2 * 16, width)

    def forward(self, t):
        k = torch.arange(1, 17, device=t.device, dtype=t.dtype) * (math.pi / 2)
        wave = t[:, None] * k
        return self.lin(torch.cat((wave.sin(), wave.cos()), dim=1))


class Conv(nn.Module):
    """conv, + (time, class) as a bias, norm, act, conv, norm, act"""

    def __init__(self, a, b, width):
        super().__init__()
        self.one, self.two = nn.Conv2d(a, b, 3, padding=1, bias=False), nn.Conv2d(b, b, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(b), nn.BatchNorm2d(b)
        self.bias = nn.Linear(width, b)

    def forward(self, x, e):
        x = F.elu(self.bn1(self.one(x) + self.bias(e).unsqueeze(-1).unsqueeze(-1)))
        return F.elu(self.bn2(self.two(x)))


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10):
        super().__init__()
        self.in_channels, self.n_feat, self.n_classes = in_channels, n_feat, n_classes
        w = n_feat
        self.time = Time(w)
        self.label = nn.Linear(n_classes, w, bias=False)
        self.d0 = Conv(in_channels, w, w)
        self.d1 = Conv(w, w, w)
        self.d2 = Conv(w, w, w)
        self.u1 = Conv(2 * w, w, w)
        self.u0 = Conv(2 * w, w, w)
        self.final = nn.Conv2d(w + in_channels, in_channels, 1)

    def forward(self, x, t, c):
        if not torch.is_tensor(t):
            t = torch.full((x.size(0),), float(t))
        t = t.to(device=x.device, dtype=x.dtype).reshape(-1)
        e = torch.sin(self.time(t) + self.label(c.to(x)))
        a = self.d0(x, e)
        b = self.d1(F.max_pool2d(a, 2), e)
        m = self.d2(F.max_pool2d(b, 2), e)
        y = self.u1(torch.cat((F.interpolate(m, size=b.shape[-2:]), b), 1), e)
        y = self.u0(torch.cat((F.interpolate(y, size=a.shape[-2:]), a), 1), e)
        return self.final(torch.cat((y, x), 1))
