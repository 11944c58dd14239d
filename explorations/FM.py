"""Flow matching: the network learns a velocity, and sampling integrates it along a straight path from noise to an image.

Lipman et al. 2023, "Flow Matching for Generative Modeling", arXiv:2210.02747, with the straight path of
Liu et al. 2023, "Flow Straight and Fast", arXiv:2209.03003. Time runs from 0, noise, to 1, the image.
"""

import dataclasses

import torch
from torch import nn

from config import MEAN, STD, DMConfig
from lab.check import check_images, finite, number, one_hot
from lab.speed.fast import fast
from ResUNet import ConditionalUnet


class ConditionalFM(nn.Module):
    """A flow from noise to images given a class, called as a ConditionalDDPM is.

    dmconfig: a config.DMConfig, or any object that DMConfig.of accepts; T is the number of Euler steps, the betas are ignored.
    `network(x, t, c)` predicts the velocity at x_t, t in [0, 1]. Students complete forward and sample.
    """

    output = "flow"  # what the network predicts, for lab.diffusion

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig = dataclasses.replace(DMConfig.of(dmconfig), process="flow")
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, dmconfig.input_dim)

    def forward(self, images, conditions, generator=None):
        """The loss of a batch: the mean squared error of the velocity, eq. (1), Liu et al. 2023.

        images: (B, C, H, W), scaled by (x - 0.1307) / 0.3081. conditions: labels (B,) or one-hot rows (B, num_classes).
        generator: a torch.Generator for everything drawn here. Returns a 0-dim tensor. Raises ValueError for other shapes,
        types and labels.
        """
        mask_p, mask_value = self.dmconfig.mask_p, self.dmconfig.condition_mask_value
        check_images(images, self.dmconfig)
        c = one_hot(conditions, self.dmconfig.num_classes, len(images), images.device)  # (B, num_classes)
        draw = {"generator": generator, "device": generator.device if generator else images.device}
        ### BEGIN SOLUTION
        hidden = torch.rand(len(c), 1, **draw).to(c.device) < mask_p  # (B, 1): whole rows
        c = torch.where(hidden, mask_value, c)  # (B, num_classes)
        t = torch.rand(len(images), 1, 1, 1, **draw).to(images.device)  # (B, 1, 1, 1)
        noise = torch.randn(images.shape, **draw).to(images.device)  # (B, C, H, W)
        x_t = (1 - t) * noise + t * images  # (B, C, H, W)
        loss = self.loss_fn(self.network(x_t, t, c), images - noise)
        ### END SOLUTION
        return loss

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        """New images of the classes asked for: dx/dt = v from t = 0 to 1 in T Euler steps.

        conditions: labels (B,) or one-hot rows (B, num_classes). generator: a torch.Generator for the noise.
        omega: the guidance weight of v = (1 + omega) * v_cond - omega * v_uncond, as ConditionalDDPM's.
        Returns (B, C, H, W) in [0, 1]. Raises ValueError for other shapes, types and labels, and where omega or the
        images are not finite.
        """
        T, mask_value = self.dmconfig.T, self.dmconfig.condition_mask_value
        omega = number("omega", omega, 2.0)
        device = next(self.network.parameters()).device
        c = one_hot(conditions, self.dmconfig.num_classes, None, device)  # (B, num_classes)
        shape = (len(c), self.dmconfig.num_channels, *self.dmconfig.input_dim)
        draw = {"generator": generator, "device": generator.device if generator else device}
        with fast(self.network, self.dmconfig.precision):
            ### BEGIN SOLUTION
            null = torch.full_like(c, mask_value)
            x = torch.randn(shape, **draw).to(device)  # x_0, (B, C, H, W)
            for i in range(T):
                t = torch.full((len(x), 1, 1, 1), i / T, device=device)
                v_c = self.network(x, t, c)  # (B, C, H, W)
                v_u = self.network(x, t, null)
                v = (1 + omega) * v_c - omega * v_u
                x = x + v / T
            ### END SOLUTION
        x = finite(x)  # the clamp would turn infinity into white
        return (x * STD + MEAN).clamp(0, 1)
