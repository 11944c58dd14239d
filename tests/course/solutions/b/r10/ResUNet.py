import torch
import torch.nn as nn
import torch.nn.functional as F


# my own simpler unet, strided convs, skips are ADDED not concatenated
class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10):
        super().__init__()
        nf = n_feat
        self.nf = nf
        self.in_channels = in_channels
        self.l1 = nn.Conv2d(in_channels, nf, 3, padding=1)
        self.l2 = nn.Conv2d(nf, nf, 4, stride=2, padding=1)
        self.l3 = nn.Conv2d(nf, nf, 4, stride=2, padding=1)
        self.m1 = nn.Conv2d(nf, nf, 3, padding=1)
        self.m2 = nn.Conv2d(nf, nf, 3, padding=1)
        self.l4 = nn.ConvTranspose2d(nf, nf, 4, stride=2, padding=1)
        self.l5 = nn.ConvTranspose2d(nf, nf, 4, stride=2, padding=1)
        self.l6 = nn.Conv2d(nf, in_channels, 3, padding=1)
        self.g1 = nn.GroupNorm(8, nf)
        self.g2 = nn.GroupNorm(8, nf)
        self.g3 = nn.GroupNorm(8, nf)
        self.g4 = nn.GroupNorm(8, nf)
        self.g5 = nn.GroupNorm(8, nf)
        # one embedding per stage
        self.te = nn.ModuleList([nn.Linear(1, nf) for _ in range(4)])
        self.ce = nn.ModuleList([nn.Linear(n_classes, nf) for _ in range(4)])
        # self.dropout = nn.Dropout(0.1)

    def forward(self, x, t, c):
        t = t.view(-1, 1).float()
        c = c.float()
        e = [torch.tanh(self.te[i](t) + self.ce[i](c)).view(-1, self.nf, 1, 1) for i in range(4)]
        a = F.gelu(self.g1(self.l1(x)))
        b = F.gelu(self.g2(self.l2(a + e[0])))
        d = F.gelu(self.g3(self.l3(b + e[1])))
        m = F.gelu(self.m1(d + e[2]))
        m = F.gelu(self.m2(m)) + d
        u = F.gelu(self.g4(self.l4(m + e[3]))) + b
        u = F.gelu(self.g5(self.l5(u))) + a
        # print(u.shape)
        return self.l6(u)
