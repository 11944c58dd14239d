import math

import torch
import torch.nn.functional as F
from torch import nn

class ResConvBlock(nn.Module):

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv1 = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.GELU())
        self.conv2 = nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, 1, 1), nn.BatchNorm2d(out_channels), nn.GELU())

    def forward(self, x):
        x1 = self.conv1(x)
        x2 = self.conv2(x1)
        residual = x if self.in_channels == self.out_channels else x1
        return (residual + x2) / math.sqrt(2)

class UnetDown(nn.Module):

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.model = nn.Sequential(ResConvBlock(in_channels, out_channels), nn.MaxPool2d(2))

    def forward(self, x):
        return self.model(x)

class UnetUp(nn.Module):

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

    def __init__(self, input_dim, emb_dim):
        super().__init__()
        self.input_dim = input_dim
        self.layers = nn.Sequential(nn.Linear(input_dim, emb_dim), nn.GELU(), nn.Linear(emb_dim, emb_dim))

    def forward(self, x):
        return self.layers(x.reshape(-1, self.input_dim))

class FusionBlock(nn.Module):

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels), nn.GELU())

    def forward(self, x, t, c):
        conv, norm, gelu = self.layers

        for_image, for_embedding = conv.weight.split([x.shape[1], t.shape[1] + c.shape[1]], dim=1)
        embedded = F.conv2d(torch.cat([t, c], dim=1), for_embedding, conv.bias)
        return gelu(norm(F.conv2d(x, for_image) + embedded))

class ConditionalUnet(nn.Module):

    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28), freeze_embeddings=False):
        super().__init__()
        self.in_channels, self.n_feat, self.n_classes = in_channels, n_feat, n_classes
        self.input_dim = tuple(input_dim)
        bottom = (self.input_dim[0] // 4, self.input_dim[1] // 4)

        self.timeembed1 = EmbedBlock(1, 2 * n_feat)
        self.timeembed2 = EmbedBlock(1, n_feat)
        self.conditionembed1 = EmbedBlock(n_classes, 2 * n_feat)
        self.conditionembed2 = EmbedBlock(n_classes, n_feat)

        self.init_conv = ResConvBlock(in_channels, n_feat)
        self.downblock1 = UnetDown(n_feat, n_feat)
        self.downblock2 = UnetDown(n_feat, 2 * n_feat)
        self.to_vec = nn.Sequential(nn.AvgPool2d(bottom), nn.GELU())

        self.upblock0 = nn.Sequential(
            nn.ConvTranspose2d(2 * n_feat, 2 * n_feat, bottom, bottom), nn.GroupNorm(8, 2 * n_feat), nn.ReLU()
        )
        self.upblock1 = UnetUp(4 * n_feat, n_feat)
        self.upblock2 = UnetUp(2 * n_feat, n_feat)
        self.outblock = nn.Sequential(
            nn.Conv2d(2 * n_feat, n_feat, 3, 1, 1), nn.GroupNorm(8, n_feat), nn.ReLU(), nn.Conv2d(n_feat, in_channels, 3, 1, 1)
        )

        self.fusion1 = FusionBlock(3 * n_feat, n_feat)
        self.fusion2 = FusionBlock(6 * n_feat, 2 * n_feat)
        self.fusion3 = FusionBlock(3 * n_feat, n_feat)
        self.fusion4 = FusionBlock(3 * n_feat, n_feat)

        if freeze_embeddings:
            for block in (self.timeembed1, self.timeembed2, self.conditionembed1, self.conditionembed2):
                block.requires_grad_(False)

    def forward(self, x, t, c):
        t, c = t.to(x.dtype), c.to(x.dtype)
        temb1 = self.timeembed1(t)[:, :, None, None]
        temb2 = self.timeembed2(t)[:, :, None, None]
        cemb1 = self.conditionembed1(c)[:, :, None, None]
        cemb2 = self.conditionembed2(c)[:, :, None, None]
        h=self.init_conv(x);a=self.fusion1(self.downblock1(h),temb2,cemb2);b=self.fusion2(self.downblock2(a),temb1,cemb1)
        u=self.fusion3(self.upblock1(self.upblock0(self.to_vec(b)),b),temb2,cemb2)
        return self.outblock(torch.cat((self.fusion4(self.upblock2(u,a),temb2,cemb2),h),1))
