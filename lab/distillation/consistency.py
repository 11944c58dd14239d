"""Consistency tuning from the teacher's weights: the student's images at two times of a guided path agree.

Song et al. 2023, "Consistency Models", arXiv:2303.01469, algorithm 2, with guidance as in Luo et al. 2023, arXiv:2310.04378. As in
Geng et al. 2024, "Consistency Models Made Easy", arXiv:2406.14548, it begins with a diffusion model, and the two times come closer in
the course of training: at first the earlier one is 0, so that the student learns the image that the teacher sees.
"""

import math

import torch

from lab.diffusion.few import times
from lab.diffusion.guidance import guided, seeing
from lab.diffusion.process import process

OMEGA = 0.5  # of the teacher's steps
STAGES = 3  # of training; in each the times are half as far apart as before
HUBER = 0.03  # c of the pseudo-Huber loss, a root of the number of pixels long: sec. 3.3, Song & Dhariwal 2023, arXiv:2310.14189


def objective(teacher, dmconfig, loaders, folder, reporter):
    """The loss is the distance between the student's image at t and, held fixed, at s < t, one guided DDIM step of the teacher on."""
    way = process(teacher)

    def loss(student, images, labels):
        t = torch.randint(1, dmconfig.T + 1, ()).item()
        s = earlier(t, student.progress)
        x_t = way.noised(images, t, torch.randn_like(images))
        with torch.no_grad():
            seen = seeing(way, guided(way, way.embed(labels), dmconfig.omega), way.limit)(x_t, t, s)
            x_s = way.alpha[s] * seen.x_0 + way.sigma[s] * seen.eps
            target = way.limit(image(student, x_s, s, labels))
        return _huber(image(student, x_t, t, labels) - target)

    return loaders, loss


def image(student, x_t, t, labels):
    """The student's x_0 (B, C, H, W) of x_t at the time t, a number, given labels (B,), with x_0 = x_t at t = 0 as in Song et al. 2023.

    Below the last time that it draws at, more and more of the image is x_t; their c_skip would reach all times. This boundary holds the
    images to the teacher's: they only have to agree with each other, and would be had sooner all alike.
    """
    own = min(1, t / times(student.dmconfig.T)[-1])
    return own * student.predict(x_t, t, labels) + (1 - own) * x_t if t else x_t


def earlier(t, progress):
    """The time s < t to agree with: 0 in the first of STAGES, t / 2 in the next, 3 t / 4 in the third. progress: from 0 to 1."""
    stage = min(int(progress * STAGES), STAGES - 1)
    return t - math.ceil(t / 2**stage)


def _huber(difference):
    c = HUBER * difference[0].numel() ** 0.5
    return ((difference.flatten(1).square().sum(1) + c**2).sqrt() - c).mean()
