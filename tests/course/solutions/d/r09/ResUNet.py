# unet, t and c go in as extra planes at every level. quick and dirty but works
import torch
from torch import nn

def cbr(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.LeakyReLU(.1),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.LeakyReLU(.1))

class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, **kw):
        super().__init__()
        f, e = n_feat, n_classes + 1
        self.k = n_classes
        self.e1 = cbr(in_channels + e, f)
        self.e2 = cbr(f + e, 2*f)
        self.bot = cbr(2*f + e, 2*f)
        self.d2 = cbr(4*f + e, f)
        self.d1 = cbr(2*f + e, f)
        self.pool = nn.AvgPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.last = nn.Conv2d(f, in_channels, 1)

    def planes(self, x, t, c):
        v = torch.cat([t, c], 1)[:, :, None, None]
        return torch.cat([x, v.expand(-1, -1, *x.shape[2:])], 1)

    def forward(self, x, t, c):
        t = t.reshape(-1, 1).to(x.dtype)
        c = c.reshape(-1, self.k).to(x.dtype)
        a = self.e1(self.planes(x, t, c))
        b = self.e2(self.planes(self.pool(a), t, c))
        m = self.bot(self.planes(self.pool(b), t, c))
        y = self.d2(self.planes(torch.cat([self.up(m), b], 1), t, c))
        y = self.d1(self.planes(torch.cat([self.up(y), a], 1), t, c))
        return self.last(y)
