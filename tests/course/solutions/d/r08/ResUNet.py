"""不用 U 形结构：全分辨率的残差网络，空洞卷积扩大感受野，FiLM 注入时间和类别。"""

import torch
from torch import nn


class FiLM(nn.Module):
    """由嵌入向量得到每个通道的缩放和平移"""

    def __init__(self, emb, channels):
        super().__init__()
        self.to_gain_bias = nn.Linear(emb, 2 * channels)

    def forward(self, h, e):
        gain, bias = self.to_gain_bias(e)[:, :, None, None].chunk(2, dim=1)
        return h * (1 + gain) + bias


class DilatedBlock(nn.Module):
    def __init__(self, channels, emb, dilation):
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.film = FiLM(emb, channels)
        self.conv_a = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.conv_b = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.SiLU()

    def forward(self, h, e):
        r = self.act(self.film(self.norm(h), e))
        r = self.act(self.conv_a(r))
        return h + self.conv_b(r)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        self.n_classes = n_classes
        emb = 2 * n_feat
        self.freq = nn.Parameter(torch.randn(n_feat) * 6.0)  # 可学习的傅里叶频率
        self.time_mlp = nn.Sequential(nn.Linear(2 * n_feat, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.class_mlp = nn.Sequential(nn.Linear(n_classes, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.head = nn.Conv2d(in_channels, n_feat, 5, padding=2)
        self.blocks = nn.ModuleList([DilatedBlock(n_feat, emb, d) for d in (1, 2, 4, 8, 4, 2, 1)])
        self.tail = nn.Sequential(nn.GroupNorm(8, n_feat), nn.SiLU(), nn.Conv2d(n_feat, in_channels, 3, padding=1))

    def forward(self, x, t, c):
        t = t.reshape(-1, 1).to(x.dtype)
        c = c.reshape(-1, self.n_classes).to(x.dtype)
        phase = t * self.freq[None]
        e = self.time_mlp(torch.cat([phase.sin(), phase.cos()], dim=1)) + self.class_mlp(c)
        h = self.head(x)
        for block in self.blocks:
            h = block(h, e)
        return self.tail(h)
