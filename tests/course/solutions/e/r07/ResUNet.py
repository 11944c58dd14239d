"""U-Net whose parts talk to each other by keyword only, so that I cannot mix up the order of the arguments."""

import torch
from torch import nn


def conv3(in_channels, out_channels):
    return nn.Conv2d(in_channels=in_channels, out_channels=out_channels, kernel_size=3, padding=1)


class Conditioner(nn.Module):
    """Time and class -> one vector."""

    def __init__(self, *, n_classes, width):
        super().__init__()
        self.time_net = nn.Sequential(nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))
        self.class_net = nn.Sequential(nn.Linear(n_classes, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, *, time, condition):
        return {"time": self.time_net(time), "condition": self.class_net(condition)}


class Stage(nn.Module):
    """conv, norm, SiLU; add the vector of time and class; conv, norm, SiLU; residual."""

    def __init__(self, *, channels_in, channels_out, width):
        super().__init__()
        self.first = nn.Sequential(conv3(channels_in, channels_out), nn.BatchNorm2d(channels_out), nn.SiLU())
        self.add_time = nn.Linear(width, channels_out)
        self.add_class = nn.Linear(width, channels_out)
        self.second = nn.Sequential(conv3(channels_out, channels_out), nn.BatchNorm2d(channels_out), nn.SiLU())
        self.bridge = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, *, image, time, condition):
        h = self.first(image)
        h = h + self.add_time(time)[..., None, None] + self.add_class(condition)[..., None, None]
        return self.bridge(image) + self.second(h)


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28), freeze_embeddings=False):
        super().__init__()
        self.n_classes = n_classes
        self.conditioner = Conditioner(n_classes=n_classes, width=n_feat)
        self.stages = nn.ModuleDict({
            "down_28": Stage(channels_in=in_channels, channels_out=n_feat, width=n_feat),
            "down_14": Stage(channels_in=n_feat, channels_out=n_feat, width=n_feat),
            "bottom_7": Stage(channels_in=n_feat, channels_out=2 * n_feat, width=n_feat),
            "up_14": Stage(channels_in=3 * n_feat, channels_out=n_feat, width=n_feat),
            "up_28": Stage(channels_in=2 * n_feat, channels_out=n_feat, width=n_feat),
        })
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.last = conv3(n_feat + in_channels, in_channels)
        if freeze_embeddings:
            self.conditioner.requires_grad_(False)

    def forward(self, x, t, c):
        known = self.conditioner(time=t.reshape(-1, 1).to(x.dtype), condition=c.to(x.dtype))
        d28 = self.stages["down_28"](image=x, **known)
        d14 = self.stages["down_14"](image=self.pool(d28), **known)
        b7 = self.stages["bottom_7"](image=self.pool(d14), **known)
        u14 = self.stages["up_14"](image=torch.cat(tensors=[self.grow(b7), d14], dim=1), **known)
        u28 = self.stages["up_28"](image=torch.cat(tensors=[self.grow(u14), d28], dim=1), **known)
        return self.last(torch.cat(tensors=[u28, x], dim=1))
