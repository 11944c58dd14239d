"""A plain residual network at full resolution with one coarse branch. Time and class come in as constant planes beside the image."""

import torch
from torch import nn


class Wide(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width + 2), nn.ReLU(), nn.Conv2d(width + 2, width, 3, padding=dilation, dilation=dilation),
            nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout2d(0.1), nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, pair):
        h, planes = pair
        return h + self.body(torch.cat([h, planes], dim=1)), planes


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        self.n_classes, self.input_dim = n_classes, tuple(input_dim)
        self.squeeze = nn.Sequential(nn.Linear(1 + n_classes, 64), nn.ReLU(), nn.Linear(64, 2))  # two numbers an image for every block
        self.enter = nn.Conv2d(in_channels + 1 + n_classes, n_feat, 3, padding=1)
        self.fine = nn.Sequential(*[Wide(n_feat, dilation) for dilation in (1, 2, 4)])
        self.coarse = nn.Sequential(nn.AvgPool2d(4), nn.Conv2d(n_feat, n_feat, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=4))
        self.late = nn.Sequential(*[Wide(n_feat, dilation) for dilation in (4, 2, 1)])
        self.leave = nn.Sequential(nn.BatchNorm2d(2 * n_feat), nn.ReLU(), nn.Conv2d(2 * n_feat, in_channels, 3, padding=1))

    def planes(self, vector):
        return vector[:, :, None, None].expand(-1, -1, *self.input_dim)

    def forward(self, x, t, c):
        known = torch.cat([t.reshape(-1, 1), c], dim=1).to(x.dtype)  # (B, 1 + n_classes)
        small = self.planes(self.squeeze(known))
        first = self.enter(torch.cat([x, self.planes(known)], dim=1))
        h, _ = self.fine((first, small))
        h, _ = self.late((h + self.coarse(h), small))
        return self.leave(torch.cat([h, first], dim=1))
