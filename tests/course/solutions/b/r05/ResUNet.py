import torch
from torch import nn
import torch.nn.functional as F


def conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(4, o), nn.LeakyReLU(0.1))


class ConditionalUnet(nn.Module):
    """Three levels. Time and class enter as extra channels on every level (broadcast over the picture)."""

    def __init__(self, in_channels, n_feat=128, n_classes=10):
        super().__init__()
        k = 16                      # channels for what is known about the picture
        self.k = k
        self.know = nn.Sequential(nn.Linear(1 + n_classes, 64), nn.LeakyReLU(0.1), nn.Linear(64, k))
        self.a = conv(in_channels + k, n_feat)
        self.b = conv(n_feat + k, n_feat)
        self.c = conv(n_feat + k, 2 * n_feat)
        self.d = conv(2 * n_feat + k, n_feat)
        self.e = conv(2 * n_feat + k, n_feat)
        self.f = conv(2 * n_feat + k, n_feat)
        self.last = nn.Conv2d(n_feat, in_channels, 3, padding=1)

    def forward(self, x, t, c):
        n = x.shape[0]
        # t may be a number, or one number per picture
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1, 1)
        if t.shape[0] == 1:
            t = t.expand(n, 1)
        k = self.know(torch.cat([t, c.to(x.dtype)], 1)).reshape(n, self.k, 1, 1)

        def with_k(*maps):
            h, w = maps[0].shape[2:]
            return torch.cat([*maps, k.expand(n, self.k, h, w)], 1)

        s1 = self.a(with_k(x))                                # 28
        s2 = self.b(with_k(F.avg_pool2d(s1, 2)))              # 14
        s3 = self.c(with_k(F.avg_pool2d(s2, 2)))              # 7
        s3 = self.d(with_k(s3))
        u2 = self.e(with_k(F.interpolate(s3, scale_factor=2.0), s2))
        u1 = self.f(with_k(F.interpolate(u2, scale_factor=2.0), s1))
        return self.last(u1)
