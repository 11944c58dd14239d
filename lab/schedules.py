"""Variance schedules beyond the course's linear one, which students write."""

import math

import torch

OFFSET, LARGEST = 0.008, 0.999  # s of the paper, and its bound of beta: near t = T alpha_bar goes to 0


def cosine(T):
    """The betas (T,), float64, of which alpha_bar falls as a squared cosine: eq. (17), Nichol & Dhariwal 2021, arXiv:2102.09672.

    They depend on T alone: alpha_bar goes from 1 to 0 however many steps there are. Raises ValueError for a T below 1.
    """
    if isinstance(T, bool) or not isinstance(T, int) or T < 1:
        raise ValueError(f"T = {T!r}; allowed is a whole number of at least 1")
    t = torch.arange(T + 1, dtype=torch.float64) / T
    alpha_bar = torch.cos((t + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2  # but for a factor, which the ratio below loses
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=LARGEST)
