"""Gaussian diffusion with classifier-free guidance, my own layout."""

import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


def at(buffer, t):
    """buffer[t - 1], ready to be multiplied with images"""
    return buffer[t.to(buffer.device) - 1].view(-1, 1, 1, 1)


class ConditionalDDPM(nn.Module):
    KEYS = [
        "beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha", "alpha_t_bar", "sqrt_alpha_bar", "sqrt_oneminus_alpha_bar",
    ]

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, input_dim=dmconfig.input_dim)
        self._make_buffers()

    def _make_buffers(self):
        cfg = self.dmconfig
        beta = self._cosine_betas()
        if beta is None:
            beta = torch.linspace(cfg.beta_1, cfg.beta_T, cfg.T)
        beta = beta.double()
        abar = (1 - beta).cumprod(dim=0)
        values = [beta, beta.sqrt(), 1 - beta, (1 - beta).rsqrt(), abar, abar.sqrt(), (1 - abar).sqrt()]
        for key, value in zip(self.KEYS, values):
            self.register_buffer(key, value.float())

    # ------------------------------------------------------------------ what the course asks for

    def scheduler(self, t_s):
        t_s = self._time_steps(t_s)
        return {key: at(getattr(self, key), t_s).to(t_s.device) for key in self.KEYS}

    def forward(self, images, conditions, generator=None):
        self._check_images(images)
        c = self._one_hot(conditions, len(images), images.device)
        rand = self._random(generator, images.device)

        c = self._drop(c, rand)
        t = rand("randint", 1, self.dmconfig.T + 1, (len(images),))
        eps = rand("randn", images.shape)
        x_t = at(self.sqrt_alpha_bar, t) * images + at(self.sqrt_oneminus_alpha_bar, t) * eps
        return self.loss_fn(self.network(x_t, self._tau(t), c), eps)

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        cfg = self.dmconfig
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)
        rand = self._random(generator, device)
        with evaluating(self.network), autocast(device, getattr(cfg, "precision", "auto")):
            x = rand("randn", (len(c), cfg.num_channels, *cfg.input_dim))
            for step in torch.arange(cfg.T, 0, -1, device=device):
                x = self._ancestral(x, step.repeat(len(c)), c, float(omega), rand)
        return x.mul(STD).add(MEAN).clamp(0, 1)

    # ------------------------------------------------------------------ parts

    def _tau(self, t):
        return (t.float() / self.dmconfig.T).view(-1, 1, 1, 1)

    def _null(self, c):
        return torch.full_like(c, self.dmconfig.condition_mask_value)

    def _drop(self, c, rand):
        dropped = rand("rand", (len(c),)) < self.dmconfig.mask_p
        return torch.where(dropped[:, None], self._null(c), c)

    def _guided(self, x, t, c, omega):
        t, rows = self._tau(t), torch.cat([self._null(c), c])
        without, with_class = self.network(x.repeat(2, 1, 1, 1), t.repeat(2, 1, 1, 1), rows).float().chunk(2)
        return torch.lerp(without, with_class, 1 + omega)

    def _ancestral(self, x, t, c, omega, rand):
        eps = self._guided(x, t, c, omega)
        mean = at(self.oneover_sqrt_alpha, t) * (x - at(self.beta_t, t) / at(self.sqrt_oneminus_alpha_bar, t) * eps)
        z = rand("randn", x.shape)
        not_last = (t > 1).float().view(-1, 1, 1, 1)
        return mean + not_last * at(self.sqrt_beta_t, t) * z

    @staticmethod
    def _random(generator, device):
        """torch's random functions by name, from the generator if there is one, on the device"""
        where = generator.device if generator else device
        return lambda name, *size: getattr(torch, name)(*size, generator=generator, device=where).to(device)

    def _cosine_betas(self):
        """The cosine schedule's betas (T,) where the settings ask for it, else None. A handout lacks it: ImportError."""
        if getattr(self.dmconfig, "schedule", "linear") == "cosine":  # a config of an earlier edition has no such field
            from lab import schedules

            return schedules.cosine(self.dmconfig.T)

    def _time_steps(self, t_s):
        """t_s as (B,) whole numbers in 1 … T, or ValueError."""
        t_s = torch.as_tensor(t_s)
        if not _is_whole(t_s):
            raise ValueError(f"time steps are {t_s.dtype}; allowed are whole numbers, as torch.long")
        if t_s.ndim > 2 or (t_s.ndim == 2 and t_s.shape[1] != 1) or t_s.numel() == 0:
            raise ValueError(f"time steps have shape {tuple(t_s.shape)}; allowed is a 0-dim tensor, (B,) or (B, 1)")
        if t_s.min() < 1 or t_s.max() > self.dmconfig.T:
            raise ValueError(f"time steps {int(t_s.min())} to {int(t_s.max())}; allowed is 1 to T = {self.dmconfig.T}")
        return t_s.reshape(-1).long()

    def _check_images(self, images):
        wanted = (self.dmconfig.num_channels, *self.dmconfig.input_dim)
        if not torch.is_tensor(images) or not images.is_floating_point():
            raise ValueError(f"images are {getattr(images, 'dtype', type(images))}; allowed is a tensor of floats")
        if images.ndim != 4 or images.shape[1:] != wanted or len(images) == 0:
            raise ValueError(f"images have shape {tuple(images.shape)}; allowed is (B, {', '.join(map(str, wanted))})")

    def _one_hot(self, conditions, batch, device):
        """conditions as float rows (B, num_classes), or ValueError; batch: the B that the images have, if any."""
        K = self.dmconfig.num_classes
        if not torch.is_tensor(conditions):
            raise ValueError(f"conditions are {type(conditions).__name__}; allowed is a tensor of labels (B,) or rows (B, {K})")
        if conditions.ndim == 1 and _is_whole(conditions):
            if conditions.numel() and (conditions.min() < 0 or conditions.max() >= K):
                raise ValueError(f"labels {int(conditions.min())} to {int(conditions.max())}; allowed is 0 to {K - 1}")
            rows = F.one_hot(conditions.long(), K)
        elif conditions.ndim == 2 and conditions.shape[1] == K:
            rows = conditions
            if not ((rows == 0) | (rows == 1)).all() or not (rows.sum(1) == 1).all():
                raise ValueError("one-hot rows hold one 1 each and 0 elsewhere; these do not")
        else:
            raise ValueError(
                f"conditions are {conditions.dtype} of shape {tuple(conditions.shape)}; "
                f"allowed are whole numbers (B,) from 0 to {K - 1}, or one-hot rows (B, {K})"
            )
        if len(rows) == 0 or batch not in (None, len(rows)):
            raise ValueError(f"{len(rows)} conditions; allowed is one for each of {batch or 'one or more'} images")
        return rows.to(device, torch.float32)


def _is_whole(tensor):
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
