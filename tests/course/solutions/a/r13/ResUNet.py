"""A U-Net of separable convolutions; time and class scale the channels at each of its five stages."""

import torch
from torch import nn


def separable(a, b):
    return nn.Sequential(nn.Conv2d(a, a, 5, padding=2, groups=a), nn.GroupNorm(1, a), nn.Conv2d(a, 3 * b, 1), nn.GELU(), nn.Conv2d(3 * b, b, 1))


class Stage(nn.Module):
    def __init__(self, a, b, n_code):
        super().__init__()
        self.body = separable(a, b)
        self.bridge = nn.Conv2d(a, b, 1)
        self.to_gain = nn.Linear(n_code, b)
        self.to_bias = nn.Linear(n_code, b)

    def forward(self, x, code):
        gain = 1 + self.to_gain(code).unflatten(1, (-1, 1, 1))
        bias = self.to_bias(code).unflatten(1, (-1, 1, 1))
        return self.bridge(x) + gain * self.body(x) + bias


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        self.n_classes, code = n_classes, 2 * n_feat
        self.code_t = nn.Sequential(nn.Linear(1, code), nn.Tanh(), nn.Linear(code, code))
        self.code_c = nn.Sequential(nn.Linear(n_classes, code), nn.Tanh(), nn.Linear(code, code))
        self.s1 = Stage(in_channels, n_feat, code)
        self.s2 = Stage(4 * n_feat, n_feat, code)
        self.s3 = Stage(4 * n_feat, 2 * n_feat, code)
        self.s4 = Stage(n_feat // 2 + n_feat, n_feat, code)
        self.s5 = Stage(n_feat // 4 + n_feat, n_feat, code)
        self.fold, self.unfold = nn.PixelUnshuffle(2), nn.PixelShuffle(2)
        self.result = nn.Conv2d(n_feat, in_channels, 3, padding=1)

    def forward(self, x, t, c):
        code = self.code_t(2 * t.reshape(-1, 1).to(x.dtype) - 1) * torch.sigmoid(self.code_c(c.to(x.dtype))) + self.code_c(c.to(x.dtype))
        big = self.s1(x, code)                                        # (B, F, H, W)
        half = self.s2(self.fold(big), code)                          # (B, F, H/2, W/2)
        small = self.s3(self.fold(half), code)                        # (B, 2 F, H/4, W/4)
        half = self.s4(torch.cat([self.unfold(small), half], 1), code)
        big = self.s5(torch.cat([self.unfold(half), big], 1), code)
        return self.result(nn.functional.gelu(big))
