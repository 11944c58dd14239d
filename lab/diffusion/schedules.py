"""Variance schedules beyond the course's linear one, which students write."""

import math

import torch

from lab.check import whole

OFFSET, LARGEST = 0.008, 0.999  # the paper's s, and its upper bound of beta, as alpha_bar goes to 0 at t = T


def cosine(T):
    """The betas (T,), float64, for which alpha_bar falls as a squared cosine: eq. (17), Nichol & Dhariwal 2021, arXiv:2102.09672.

    They depend on T alone: alpha_bar goes from 1 to 0 however many steps there are. Raises ValueError for a T below 1.
    """
    whole("T", T, 1)
    t = torch.arange(T + 1, dtype=torch.float64) / T
    alpha_bar = torch.cos((t + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2  # up to a factor, which cancels in the ratio below
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=LARGEST)


def scheduler(beta, time_steps):
    """Replaces ConditionalDDPM.scheduler for given betas (T,). time_steps(t_s): whole numbers (B,), or ValueError."""
    alpha_bar = torch.cumprod(1 - beta, dim=0)
    tables = {
        "beta_t": beta, "sqrt_beta_t": beta.sqrt(), "alpha_t": 1 - beta, "oneover_sqrt_alpha": 1 / (1 - beta).sqrt(),
        "alpha_t_bar": alpha_bar, "sqrt_alpha_bar": alpha_bar.sqrt(), "sqrt_oneminus_alpha_bar": (1 - alpha_bar).sqrt(),
    }  # fmt: skip

    def at(t_s):
        t = time_steps(t_s)
        return {name: table[t.cpu() - 1].to(t.device, torch.float32).view(-1, 1, 1, 1) for name, table in tables.items()}

    return at
