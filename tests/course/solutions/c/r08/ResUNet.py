import torch
from torch import nn

# no unet, just convs with dilation (big receptive field). t and c go in as extra planes in EVERY layer

class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=64, n_classes=10):
        super().__init__()
        self.nC = n_classes
        extra = 1 + n_classes
        self.first = nn.Conv2d(in_channels + extra, n_feat, 3, padding=1)
        dil = [1, 2, 4, 8, 4, 2, 1]
        self.convs = nn.ModuleList([nn.Conv2d(n_feat + extra, n_feat, 3, padding=d, dilation=d) for d in dil])
        self.norms = nn.ModuleList([nn.GroupNorm(8, n_feat) for d in dil])
        self.last = nn.Conv2d(2 * n_feat + extra, in_channels, 3, padding=1)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x, t, c):
        bs, ch, H, W = x.shape
        tp = t.reshape(bs, 1, 1, 1).expand(bs, 1, H, W).to(x.dtype)
        cp = c.reshape(bs, self.nC, 1, 1).expand(bs, self.nC, H, W).to(x.dtype)
        planes = torch.cat([tp, cp], 1)
        h = self.act(self.first(torch.cat([x, planes], 1)))
        start = h
        for conv, norm in zip(self.convs, self.norms):
            h = (h + self.act(norm(conv(torch.cat([h, planes], 1))))) * 0.7
        return self.last(torch.cat([h, start, planes], 1))
