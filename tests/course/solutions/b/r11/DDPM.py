"""Class-conditional DDPM, functional style.

The reverse mean is taken by way of the predicted image: x_0 from the noise, then eq. (7) of Ho et al. (2020).
"""

from __future__ import annotations

import contextlib
from typing import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import DMConfig, MEAN, STD
from ResUNet import ConditionalUnet


def per_image(v: Tensor) -> Tensor:
    return v.reshape(-1, 1, 1, 1)


class Schedule(nn.Module):
    """beta_t, alpha_t and alpha_bar_t for t = 0 ... T, where t = 0 is the clean image (beta_0 = 0)."""

    def __init__(self, first: float, last: float, steps: int) -> None:
        super().__init__()
        beta = F.pad(torch.linspace(first, last, steps, dtype=torch.float64), (1, 0))
        self.register_buffer("beta", beta.float(), persistent=False)
        self.register_buffer("alpha", (1 - beta).float(), persistent=False)
        self.register_buffer("alpha_bar", (1 - beta).cumprod(0).float(), persistent=False)
        self.register_buffer("lost", (1 - (1 - beta).cumprod(0)).float(), persistent=False)  # 1 - alpha_bar, before rounding


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig: DMConfig) -> None:
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = F.mse_loss
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)
        self.schedule = Schedule(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T)

    def scheduler(self, t_s: Tensor) -> dict[str, Tensor]:
        s, t = self.schedule, t_s.reshape(-1).to(self.schedule.beta.device)
        beta, alpha, alpha_bar, lost = (per_image(table[t]) for table in (s.beta, s.alpha, s.alpha_bar, s.lost))
        return {
            "beta_t": beta,
            "sqrt_beta_t": beta.sqrt(),
            "alpha_t": alpha,
            "oneover_sqrt_alpha": alpha.rsqrt(),
            "alpha_t_bar": alpha_bar,
            "sqrt_alpha_bar": alpha_bar.sqrt(),
            "sqrt_oneminus_alpha_bar": lost.sqrt(),
        }

    def forward(self, images: Tensor, conditions: Tensor, generator: torch.Generator | None = None) -> Tensor:
        size, steps = images.shape[0], self.dmconfig.T
        uniform = self._draw(torch.rand, (size,), images.device, generator)
        t = 1 + (uniform * steps).long().clamp_(max=steps - 1)
        noise = self._draw(torch.randn, images.shape, images.device, generator)
        hidden = self._draw(torch.rand, (size,), images.device, generator) < self.dmconfig.mask_p
        rows = self._rows(conditions, images.device)
        rows = torch.where(hidden.unsqueeze(-1), self._null(rows), rows)
        s = self.scheduler(t)
        x_t = s["sqrt_alpha_bar"] * images + s["sqrt_oneminus_alpha_bar"] * noise
        return self.loss_fn(self.network(x_t, t / steps, rows), noise)

    @torch.no_grad()
    def sample(self, conditions: Tensor, omega: float, generator: torch.Generator | None = None) -> Tensor:
        net, steps, s = self.network, self.dmconfig.T, self.schedule
        device = next(net.parameters()).device
        rows = self._rows(conditions, device)
        null = self._null(rows)
        shape = (len(rows), net.in_channels, *net.image_size)
        assert rows.shape[1] == net.n_classes
        with self._quiet():
            x = self._draw(torch.randn, shape, device, generator)
            for t in range(steps, 0, -1):
                times = x.new_full((len(x),), t / steps)
                uncond = net(x, times, null)
                cond = net(x, times, rows)
                eps = uncond + (1 + omega) * (cond - uncond)
                x_0 = (x - s.lost[t].sqrt() * eps) / s.alpha_bar[t].sqrt()
                to_image = s.alpha_bar[t - 1].sqrt() * s.beta[t] / s.lost[t]
                to_x = s.alpha[t].sqrt() * s.lost[t - 1] / s.lost[t]
                x = to_image * x_0 + to_x * x
                if t > 1:
                    x += s.beta[t].sqrt() * self._draw(torch.randn, shape, device, generator)
        return x.mul(STD).add(MEAN).clamp(0, 1)

    # ------------------------------------------------------------------ helpers

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        before = self.network.training
        try:
            self.network.eval()
            yield
        finally:
            self.network.train(before)

    @staticmethod
    def _draw(kind, shape, device, generator):
        return kind(tuple(shape), generator=generator, device=generator.device if generator else device).to(device)

    def _rows(self, conditions: Tensor, device) -> Tensor:
        rows = F.one_hot(conditions.long(), self.dmconfig.num_classes) if conditions.ndim == 1 else conditions
        return rows.to(device, torch.float32)

    def _null(self, rows: Tensor) -> Tensor:
        return torch.full_like(rows, self.dmconfig.condition_mask_value)
