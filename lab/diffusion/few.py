"""A network that draws in one, two or four calls: it predicts the image x_0, and guidance is in its weights (lab.distillation)."""

import dataclasses

import torch
from torch import nn

from config import DMConfig
from lab.check import one_hot
from lab.diffusion.walk import timesteps

STEPS = (1, 2, 4)  # calls of the network
METHOD = "few"


class FewSteps(nn.Module):
    """The network of `model`, whose output is read as x_0. It keeps the model's schedule, and is called as a ConditionalDDPM is.

    model: one with `network`, `scheduler` and `dmconfig`; omega in dmconfig is the weight of the guidance that the network has learned.
    objective(student, images, labels), one of lab.distillation, is the loss of `forward`.
    """

    output = "x_0"  # what the network predicts, for lab.diffusion
    progress = 1.0  # how much of the training is done, from 0 to 1, for an objective that changes on the way; the Trainer says it

    def __init__(self, model, objective=None):
        super().__init__()
        self.network, self.scheduler, self.objective = model.network, model.scheduler, objective
        self.dmconfig = dataclasses.replace(DMConfig.of(model.dmconfig), process=METHOD)

    def forward(self, images, labels):
        """The objective's loss of a batch, a 0-dim tensor. images: what the objective takes. labels: (B,)."""
        return self.objective(self, images, labels)

    def predict(self, x, t, labels):
        """x_0 (B, C, H, W) of x_t at the times t, a number or (B,), given labels (B,)."""
        t = torch.as_tensor(t, device=x.device).expand(len(x)).view(-1, 1, 1, 1)
        return self.network(x, t / self.dmconfig.T, one_hot(labels, self.dmconfig.num_classes, len(x), x.device))

    def train(self, mode=True):
        """Batch norm keeps the statistics that it has: of one time alone, its batches would be unlike the mix that it draws with."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def sample(self, conditions, omega=None, generator=None, steps=1):
        """New images of the classes asked for, (B, C, H, W) in [0, 1], by algorithm 1, Song et al. 2023, arXiv:2303.01469.

        conditions: labels (B,) or one-hot rows (B, num_classes). omega: None, or the one that the network has learned. Raises
        ValueError for another one, for other conditions, and for a number of steps that is not in STEPS.
        """
        from lab.diffusion.sampling import sample  # which knows this file's METHOD

        labels = one_hot(conditions, self.dmconfig.num_classes, None, "cpu").argmax(1)
        omega = self.dmconfig.omega if omega is None else omega
        return sample(self, labels, omega, method=METHOD, steps=steps, generator=generator)


def times(T):
    """The times at which a call can be asked for: those of the most steps."""
    return timesteps(T, max(STEPS))[:-1]
