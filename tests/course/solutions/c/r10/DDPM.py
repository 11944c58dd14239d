"""Conditional DDPM. The chain is a Python generator that yields x_{t-1} for t = T, ..., 1; `sample` takes the last one."""

import collections
import contextlib

import torch
import torch.nn as nn

from config import MEAN, STD, is_finite
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


def to_rows(conditions, num_classes):
    """Labels or one-hot rows -> rows of floats. ValueError for anything else."""
    if not torch.is_tensor(conditions) or conditions.numel() == 0:
        raise ValueError("conditions must be a tensor that is not empty")
    whole = not (conditions.is_floating_point() or conditions.is_complex() or conditions.dtype == torch.bool)
    if conditions.ndim == 1 and whole:
        if int(conditions.min()) < 0 or int(conditions.max()) >= num_classes:
            raise ValueError(f"labels must be in [0, {num_classes})")
        return torch.eq(torch.arange(num_classes, device=conditions.device), conditions.unsqueeze(-1)).float()
    if conditions.ndim != 2 or conditions.size(-1) != num_classes:
        raise ValueError(f"conditions of shape {tuple(conditions.shape)}")
    rows = conditions.float()
    if not torch.logical_or(rows == 0, rows == 1).all() or not (rows.sum(-1) == 1).all():
        raise ValueError("rows must be one-hot")
    return rows


def last(iterable):
    return collections.deque(iterable, maxlen=1).pop()


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)

    def scheduler(self, t_s):
        """(B,) times -> dict of (B, 1, 1, 1). Nothing is stored: beta is a straight line, alpha_bar a masked product."""
        t_s = torch.as_tensor(t_s)
        if t_s.is_floating_point() or t_s.is_complex() or t_s.dtype == torch.bool:
            raise ValueError("times must be whole numbers")
        if t_s.numel() == 0 or t_s.ndim > 2 or (t_s.ndim == 2 and t_s.size(1) != 1):
            raise ValueError(f"times of shape {tuple(t_s.shape)}")
        T, device = self.dmconfig.T, t_s.device
        t = t_s.reshape(-1, 1).long().cpu()
        if t.min() < 1 or t.max() > T:
            raise ValueError(f"times must be in 1 ... {T}")
        every = torch.arange(1, T + 1)[None]                                             # (1, T)
        slope = (self.dmconfig.beta_T - self.dmconfig.beta_1) / (T - 1) if T > 1 else 0.0
        line = self.dmconfig.beta_1 + slope * (every.double() - 1)                       # (1, T)
        alpha_bar = torch.where(every <= t, 1 - line, 1.0).prod(dim=1)                   # (B,)
        beta = self.dmconfig.beta_1 + slope * (t[:, 0].double() - 1)
        named = dict(
            beta_t=beta,
            sqrt_beta_t=beta**0.5,
            alpha_t=1 - beta,
            oneover_sqrt_alpha=(1 - beta) ** -0.5,
            alpha_t_bar=alpha_bar,
            sqrt_alpha_bar=alpha_bar**0.5,
            sqrt_oneminus_alpha_bar=(1 - alpha_bar) ** 0.5,
        )
        return {k: v.float().to(device).reshape(-1, 1, 1, 1) for k, v in named.items()}

    def forward(self, images, conditions, generator=None):
        cfg = self.dmconfig
        if not torch.is_tensor(images) or not images.is_floating_point():
            raise ValueError("images must be floats")
        if images.ndim != 4 or tuple(images.shape[1:]) != (cfg.num_channels, *cfg.input_dim):
            raise ValueError(f"images of shape {tuple(images.shape)}")
        rows = to_rows(conditions, cfg.num_classes).to(images.device)
        if len(rows) != len(images):
            raise ValueError(f"{len(rows)} conditions and {len(images)} images")
        host = generator.device if generator else images.device

        # a fair die with T sides, thrown once for each image
        sides = torch.ones(cfg.T, device=host)
        t = 1 + torch.multinomial(sides, len(images), replacement=True, generator=generator).to(images.device)
        visible = torch.bernoulli(torch.full((len(images), 1), 1 - cfg.mask_p, device=host), generator=generator).to(images.device)
        rows = torch.lerp(torch.full_like(rows, cfg.condition_mask_value), rows, visible)
        noise = torch.randn(images.size(), generator=generator, device=host).to(images.device)

        level = self.scheduler(t)
        mixed = level["alpha_t_bar"].sqrt() * images + (1 - level["alpha_t_bar"]).sqrt() * noise
        return self.loss_fn(self.network(mixed, t.div(cfg.T).reshape(-1, 1, 1, 1), rows), noise)

    def chain(self, rows, omega, generator=None):
        """x_{T-1}, ..., x_0."""
        cfg = self.dmconfig
        host = generator.device if generator else rows.device
        size = (len(rows), cfg.num_channels, *cfg.input_dim)
        blank = torch.ones_like(rows) * cfg.condition_mask_value

        def noise():
            return torch.randn(size, generator=generator, device=host).to(rows.device)

        def guided(x, t):
            time = torch.full((len(x), 1, 1, 1), t / cfg.T, device=x.device)
            with_class, without = self.network(x, time, rows), self.network(x, time, blank)
            return with_class.float().mul(1 + omega).sub(without.float(), alpha=omega)

        x = noise()
        for t in reversed(range(1, cfg.T + 1)):
            level = self.scheduler(torch.tensor([t], device=rows.device))
            z = noise() if t > 1 else torch.zeros_like(x)
            pull = level["beta_t"] / level["sqrt_oneminus_alpha_bar"]
            x = level["oneover_sqrt_alpha"] * (x - pull * guided(x, t)) + level["beta_t"].sqrt() * z
            yield x

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r} is not finite")
        rows = to_rows(conditions, self.dmconfig.num_classes).to(next(self.network.parameters()).device)
        with contextlib.ExitStack() as stack:
            stack.enter_context(evaluating(self.network))
            x = last(self.chain(rows, float(omega), generator))
        return (MEAN + STD * x).clamp(0, 1)
