"""U-Net of the course's blocks, where time and class open and close the channels (squeeze-and-excitation style gates)."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class ResConvBlock(nn.Module):
    """Two of [3x3 convolution, batch norm, GELU] and a residual sum, (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv1 = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.GELU())
        self.conv2 = nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.GELU())

    def forward(self, x):
        x1 = self.conv1(x)   # (B, out, H, W)
        x2 = self.conv2(x1)  # (B, out, H, W)
        residual = x if self.in_channels == self.out_channels else x1
        return (residual + x2) / math.sqrt(2)  # two terms of unit variance sum to two


class UnetDown(nn.Module):
    """Encode and halve: (B, in, H, W) -> (B, out, H/2, W/2)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.model = nn.Sequential(ResConvBlock(in_channels, out_channels), nn.MaxPool2d(2))

    def forward(self, x):
        return self.model(x)


class UnetUp(nn.Module):
    """Concatenate the skip, double and decode: two (B, in/2, H, W) -> (B, out, 2H, 2W)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.model = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 2, 2),
            ResConvBlock(out_channels, out_channels),
            ResConvBlock(out_channels, out_channels),
        )

    def forward(self, x, skip):
        return self.model(torch.cat([x, skip], dim=1))


class EmbedBlock(nn.Module):
    """Embed a time or a class: anything of B * input_dim elements -> (B, emb_dim)."""

    def __init__(self, input_dim, emb_dim):
        super().__init__()
        self.input_dim = input_dim
        self.layers = nn.Sequential(nn.Linear(input_dim, emb_dim), nn.GELU(), nn.Linear(emb_dim, emb_dim))

    def forward(self, x):
        return self.layers(x.reshape(-1, self.input_dim))


class FusionBlock(nn.Module):
    """Mix time and condition into the image features: x (B, F, H, W), t and c (B, E, 1, 1) -> (B, out, H, W).

    It is a 1x1 convolution of [x, t, c] concatenated along the channels, t and c spread over the plane.
    """

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.GELU())

    def forward(self, x, t, c):
        conv, norm, gelu = self.layers
        # A 1x1 convolution is linear in its channels, so what is constant over the plane goes through it once,
        # as one pixel: the same sum without the (B, F + 2E, H, W) tensor.
        for_image, for_embedding = conv.weight.split([x.shape[1], t.shape[1] + c.shape[1]], dim=1)
        embedded = F.conv2d(torch.cat([t, c], dim=1), for_embedding, conv.bias)  # (B, out, 1, 1)
        return gelu(norm(F.conv2d(x, for_image) + embedded))


class Gate(nn.Module):
    """What the image holds on average, the time and the class decide together how much of each channel goes on."""

    def __init__(self, channels, info):
        super().__init__()
        self.decide = nn.Sequential(nn.Linear(channels + info, channels), nn.ReLU(), nn.Linear(channels, 2 * channels))

    def forward(self, x, info):
        gate, bias = self.decide(torch.cat([x.mean((2, 3)), info], 1)).chunk(2, 1)
        return x * torch.sigmoid(gate)[..., None, None] + bias[..., None, None]


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        self.embed_time = EmbedBlock(1, 2 * n_feat)
        self.embed_class = EmbedBlock(n_classes, 2 * n_feat)
        self.mix = FusionBlock(n_feat + 4 * n_feat, n_feat)
        self.start = ResConvBlock(in_channels, n_feat)
        self.down = nn.ModuleList([UnetDown(n_feat, n_feat), UnetDown(n_feat, 2 * n_feat)])
        self.middle = ResConvBlock(2 * n_feat, 2 * n_feat)
        self.up = nn.ModuleList([UnetUp(4 * n_feat, n_feat), UnetUp(2 * n_feat, n_feat)])
        self.gates = nn.ModuleList([Gate(k * n_feat, 4 * n_feat) for k in (2, 1, 1)])
        self.end = nn.Conv2d(2 * n_feat, in_channels, 3, padding=1)

    def forward(self, x, t, c):
        t, c = self.embed_time(t.to(x.dtype)), self.embed_class(c.to(x.dtype))
        info = torch.cat([t, c], dim=1)
        full = self.start(x)
        told = self.mix(full, t[..., None, None], c[..., None, None])
        half = self.down[0](told)
        quarter = self.down[1](half)
        y = self.gates[0](self.middle(quarter), info)
        y = self.gates[1](self.up[0](y, quarter), info)
        y = self.gates[2](self.up[1](y, half), info)
        return self.end(torch.cat([y, full], dim=1))
