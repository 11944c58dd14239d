"""Consistency tuning from the teacher's weights: the student's images at two neighbouring times of a guided path agree.

Song et al. 2023, "Consistency Models", arXiv:2303.01469, algorithm 2; begun from a diffusion model as in
Geng et al. 2024, "Consistency Models Made Easy", arXiv:2406.14548, with guidance as in Luo et al. 2023, arXiv:2310.04378.
"""

import torch

from lab.diffusion.guidance_methods import plain
from lab.diffusion.process import process

OMEGA = 0.5  # of the teacher's steps
GAP = 8  # a step of the teacher is T / GAP long: as many links from noise to image
HUBER = 0.03  # c of the pseudo-Huber loss, a root of the number of pixels long: sec. 3.3, Song & Dhariwal 2023, arXiv:2310.14189


def objective(teacher, dmconfig, loaders, folder, reporter):
    """The loss is the distance between the student's image at t and, held fixed, at s < t, one guided DDIM step of the teacher on."""
    way = process(teacher)

    def loss(student, images, labels):
        t, s = _pair(dmconfig.T)
        x_t = way.noised(images, t, torch.randn_like(images))
        with torch.no_grad():
            seen = plain(way, way.embed(labels), dmconfig.omega)(x_t, t, s)
            x_s = way.alpha[s] * seen.x_0 + way.sigma[s] * seen.eps
            target = student.predict(x_s, s, labels) if s else seen.x_0
        return _huber(student.predict(x_t, t, labels) - target)

    return loaders, loss


def _pair(T):
    """A time t of the teacher's grid, and the next one on the way to the image."""
    link = torch.randint(1, GAP + 1, ()).item()
    return round(link * T / GAP), round((link - 1) * T / GAP)


def _huber(difference):
    c = HUBER * difference[0].numel() ** 0.5
    return ((difference.flatten(1).square().sum(1) + c**2).sqrt() - c).mean()
