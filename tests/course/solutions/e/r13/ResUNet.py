"""Red con convoluciones separables. Zeit und Klasse steuern Tore (sigmoid gates), one per channel."""

import torch
import torch.nn as nn


class Sep(nn.Module):
    """depthwise 5x5 + pointwise, GroupNorm, Mish"""

    def __init__(self, i, o, stride=1):
        super().__init__()
        self.dw = nn.Conv2d(i, i, 5, stride, 2, groups=i)
        self.pw = nn.Conv2d(i, o, 1)
        self.gn = nn.GroupNorm(2, o)
        self.act = nn.Mish()

    def forward(self, x):
        return self.act(self.gn(self.pw(self.dw(x))))


class Gate(nn.Module):
    """x * sigmoid(W [t, c]) + V [t, c]"""

    def __init__(self, ch, k):
        super().__init__()
        self.w = nn.Sequential(nn.Linear(k, k), nn.Mish(), nn.Linear(k, ch))
        self.v = nn.Sequential(nn.Linear(k, k), nn.Mish(), nn.Linear(k, ch))

    def forward(self, x, e):
        return x * torch.sigmoid(self.w(e)).unsqueeze(-1).unsqueeze(-1) + self.v(e).unsqueeze(-1).unsqueeze(-1)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28), freeze_embeddings=False):
        super().__init__()
        w, k = n_feat, 32
        self.et = nn.Linear(2, k)
        self.ec = nn.Linear(n_classes, k, bias=False)
        self.down = nn.ModuleList([Sep(in_channels, w), Sep(w, w, 2), Sep(w, 2 * w, 2)])
        self.up = nn.ModuleList([Sep(2 * w, 4 * w), Sep(2 * w, 4 * w)])
        self.shuffle = nn.PixelShuffle(2)
        self.gates = nn.ModuleList([Gate(w, 2 * k), Gate(w, 2 * k), Gate(2 * w, 2 * k), Gate(w, 2 * k), Gate(w, 2 * k)])
        self.out = nn.Conv2d(2 * w, in_channels, 3, 1, 1)
        if freeze_embeddings:
            for p in (*self.et.parameters(), *self.ec.parameters()):
                p.requires_grad = False

    def forward(self, x, t, c):
        t = t.reshape(-1, 1).to(x.dtype)
        e = torch.cat([self.et(torch.cat([t, (3 * t).cos()], 1)), self.ec(c.to(x.dtype))], 1)
        skips, h = [], x
        for sep, gate in zip(self.down, self.gates[:3]):
            h = gate(sep(h), e)
            skips.append(h)
        skips.pop()
        h = self.gates[3](self.shuffle(self.up[0](h)), e)
        h = self.gates[4](self.shuffle(self.up[1](torch.cat([h, skips.pop()], 1))), e)
        return self.out(torch.cat([h, skips.pop()], 1))
