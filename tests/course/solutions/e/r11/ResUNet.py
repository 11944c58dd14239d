"""噪声预测网络。没有残差块，只有普通卷积；时间和类别的嵌入直接加到特征图上。"""

import torch
from torch import nn
from torch.nn import functional as F


def double_conv(cin, cout):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1),
        nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.LeakyReLU(0.1),
    )


class AddEmbedding(nn.Module):
    """h + W_t t + W_c c，每个通道一个数"""

    def __init__(self, n_classes, channels):
        super().__init__()
        self.from_time = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, channels))
        self.from_class = nn.Linear(n_classes, channels)

    def forward(self, h, t, c):
        e = self.from_time(t) + self.from_class(c)
        return F.relu(h + e[:, :, None, None])


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28), freeze_embeddings=False):
        super().__init__()
        f = n_feat
        self.enc1, self.enc2, self.enc3 = double_conv(in_channels, f), double_conv(f, f), double_conv(f, 2 * f)
        self.dec2, self.dec1 = double_conv(3 * f, f), double_conv(2 * f, f)
        self.add1, self.add2, self.add3 = (AddEmbedding(n_classes, w) for w in (f, f, 2 * f))
        self.add_up2, self.add_up1 = AddEmbedding(n_classes, f), AddEmbedding(n_classes, f)
        self.final = nn.Conv2d(f, in_channels, 1)
        if freeze_embeddings:
            for m in self.modules():
                if isinstance(m, AddEmbedding):
                    m.requires_grad_(False)

    def forward(self, x, t, c):
        t, c = t.reshape(len(x), 1).to(x.dtype), c.to(x.dtype)
        s1 = self.add1(self.enc1(x), t, c)
        s2 = self.add2(self.enc2(F.max_pool2d(s1, 2)), t, c)
        s3 = self.add3(self.enc3(F.max_pool2d(s2, 2)), t, c)
        u2 = F.interpolate(s3, scale_factor=2, mode="bilinear", align_corners=False)
        u2 = self.add_up2(self.dec2(torch.cat([u2, s2], 1)), t, c)
        u1 = F.interpolate(u2, scale_factor=2, mode="bilinear", align_corners=False)
        u1 = self.add_up1(self.dec1(torch.cat([u1, s1], 1)), t, c)
        return self.final(u1)
