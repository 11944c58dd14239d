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
    """The loss is the distance between the student's image at t and, held fixed, at s < t, one guided DDIM step of the teacher on.

    Each batch holds all links, and so the last one, whose image is the teacher's: with a link a batch, the student came to draw one
    image whatever it was asked for, which agrees with itself on all links but that.
    """
    way = process(teacher)

    def loss(student, images, labels):
        with torch.no_grad():
            parts = [_link(way, dmconfig, *part, *times) for *part, times in _linked(images, labels, dmconfig.T)]
            x_t, t, x_s, s, ends = (torch.cat(each) for each in zip(*parts))
            target = torch.where(s.view(-1, 1, 1, 1) > 0, student.predict(x_s, s, labels), ends)
        return _huber(student.predict(x_t, t, labels) - target)

    return loaders, loss


def _linked(images, labels, T):
    """A batch in GAP parts, each with the times t > s of one link of the teacher's grid; no part is empty."""
    times = [round(T * link / GAP) for link in range(GAP + 1)]
    pairs = zip(images.tensor_split(GAP), labels.tensor_split(GAP), zip(times[1:], times))
    return [each for each in pairs if len(each[0])]


def _link(way, dmconfig, images, labels, t, s):
    """x_t and the time t of each image, x_s and s after a guided step of the teacher, and the image that the teacher predicts."""
    x_t = way.noised(images, t, torch.randn_like(images))
    seen = plain(way, way.embed(labels), dmconfig.omega)(x_t, t, s)
    x_s = way.alpha[s] * seen.x_0 + way.sigma[s] * seen.eps
    t, s = (torch.full((len(images),), time, device=images.device) for time in (t, s))
    return x_t, t, x_s, s, seen.x_0


def _huber(difference):
    c = HUBER * difference[0].numel() ** 0.5
    return ((difference.flatten(1).square().sum(1) + c**2).sqrt() - c).mean()
