"""A U-Net, optionally conditioned on time and class, and two ways to train it: to remove one noise level, or as a diffusion model."""

import torch
import torch.nn.functional as F
from torch import nn

from DDPM import ConditionalDDPM
from ResUNet import ConditionalUnet, EmbedBlock

BLOCKS = ("init_conv", "downblock1", "downblock2", "to_vec", "upblock0", "upblock1", "upblock2", "outblock")  # of the course's


class DenoisingUnet(nn.Module):
    """The blocks of the course's U-Net without its fusion: time and class reach two places only, the bottleneck and the first up block.

    There the features are scaled by the class and shifted by the time, scale(c) * features + shift(t), both two-layer blocks: FiLM,
    Perez et al. 2017, arXiv:1709.07871. timed: whether it takes the time. n_classes: length of the condition; 0: it takes none.
    The other arguments are those of `ResUNet.ConditionalUnet`. Raises ValueError for sizes that cannot work.
    """

    def __init__(self, in_channels, n_feat, timed=False, n_classes=0, input_dim=(28, 28)):
        if n_feat < 8 or n_feat % 8:
            raise ValueError(f"n_feat = {n_feat!r}; allowed is a multiple of 8")
        if in_channels < 1 or n_classes < 0:
            raise ValueError(f"in_channels = {in_channels!r}, n_classes = {n_classes!r}; allowed are at least 1 and at least 0")
        if any(size < 4 or size % 4 for size in input_dim):
            raise ValueError(f"input_dim = {input_dim!r}; allowed are multiples of 4: the network halves each side twice")
        super().__init__()
        course = ConditionalUnet(in_channels, n_feat, max(n_classes, 1), input_dim)
        for block in BLOCKS:
            setattr(self, block, getattr(course, block))
        widths = (2 * n_feat, n_feat)  # of the bottleneck and of the first up block
        self.shifts = nn.ModuleList(EmbedBlock(1, width) for width in widths if timed)
        self.scales = nn.ModuleList(EmbedBlock(n_classes, width) for width in widths if n_classes)

    def forward(self, x, t=None, c=None):
        """The network's output for x (B, C, H, W), in the same shape.

        t: times as t / T, (B, 1, 1, 1) or anything of B elements. c: conditions (B, n_classes), one-hot or null rows. Inputs
        that the network does not take are ignored. Raises ValueError if one that it takes is missing.
        """
        for name, value, blocks in (("time t", t, self.shifts), ("condition c", c, self.scales)):
            if blocks and value is None:
                raise ValueError(f"this network takes the {name}; received is None")
        down0 = self.init_conv(x)  # (B, n_feat, 28, 28)
        down1 = self.downblock1(down0)  # (B, n_feat, 14, 14)
        down2 = self.downblock2(down1)  # (B, 2 n_feat, 7, 7)
        vector = self.to_vec(down2)  # (B, 2 n_feat, 1, 1)
        up0 = self._tell(self.upblock0(vector), 0, t, c)  # (B, 2 n_feat, 7, 7)
        up1 = self._tell(self.upblock1(up0, down2), 1, t, c)  # (B, n_feat, 14, 14)
        up2 = self.upblock2(up1, down1)  # (B, n_feat, 28, 28)
        return self.outblock(torch.cat([up2, down0], dim=1))  # (B, C, 28, 28)

    def _tell(self, features, place, t, c):
        """Features (B, F, H, W) scaled by the class and shifted by the time."""
        if self.scales:
            features = self.scales[place](c.to(features.dtype))[:, :, None, None] * features
        if self.shifts:
            features = features + self.shifts[place](t.to(features.dtype))[:, :, None, None]
        return features


class Denoiser(nn.Module):
    """A DenoisingUnet, without time or class, that removes noise of one level sigma from images (B, C, H, W) with pixels in [0, 1].

    Called with a batch, it returns the loss, so that `lab.training` can train it: the mean squared error between x and the
    network's output for x + sigma * noise. Raises ValueError for a sigma that is not above 0.
    """

    def __init__(self, dmconfig, sigma):
        super().__init__()
        if not 0 < sigma < float("inf"):
            raise ValueError(f"sigma = {sigma!r}; allowed is a finite number above 0")
        self.dmconfig, self.sigma = dmconfig, sigma
        self.network = DenoisingUnet(dmconfig.num_channels, dmconfig.num_feat, input_dim=dmconfig.input_dim)

    def forward(self, images, labels):
        return F.mse_loss(self.network(noisy(images, self.sigma)), images)


class DenoisingDDPM(ConditionalDDPM):
    """The course's diffusion process with a DenoisingUnet as its network, conditioned on time and, if `classes`, on class.

    Everything else is the course's. Raises ValueError for a condition_mask_value other than 0: here a hidden class is a row of zeros.
    """

    def __init__(self, dmconfig, classes=True):
        if dmconfig.condition_mask_value != 0:
            raise ValueError(f"condition_mask_value = {dmconfig.condition_mask_value!r}; allowed is 0: here a hidden class is zeros")
        super().__init__(dmconfig)
        n_classes = dmconfig.num_classes if classes else 0
        self.network = DenoisingUnet(dmconfig.num_channels, dmconfig.num_feat, True, n_classes, dmconfig.input_dim)


def noisy(images, sigma, generator=None):
    """images + sigma * noise, the noise standard normal: (B, C, H, W). Raises ValueError for a sigma that is negative or not finite."""
    if not 0 <= sigma < float("inf"):
        raise ValueError(f"sigma = {sigma!r}; allowed is a finite number of at least 0")
    return images + sigma * torch.randn(images.shape, generator=generator, device=images.device)
