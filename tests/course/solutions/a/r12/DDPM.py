"""The diffusion process: the variance schedule, the training loss and the sampler, with classifier-free guidance.

Ho et al. 2020, "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, and
Ho & Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv:2207.12598.
"""

import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.capture import captured
from lab.halves import shared, twice
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


NAMES = ("beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha", "alpha_t_bar", "sqrt_alpha_bar", "sqrt_oneminus_alpha_bar")


def make_lookup(beta):
    """(T + 1, 7): row t holds the seven numbers of time t; row 0 is time 0, no noise yet."""
    beta = torch.cat([torch.zeros(1, dtype=torch.float64), beta.double()])
    alpha = 1 - beta
    abar = torch.cumprod(alpha, dim=0)
    return torch.stack([beta, beta.sqrt(), alpha, alpha.pow(-0.5), abar, abar.sqrt(), (1 - abar).sqrt()], dim=1)


def fresh_generator(generator, device):
    """The generator given, or one of our own with a seed from the system."""
    if generator is not None:
        return generator
    mine = torch.Generator(device=device)
    mine.seed()
    return mine


class ConditionalDDPM(nn.Module):
    """A denoising diffusion model of images given a class.

    dmconfig: a config.DMConfig. `network(x, t / T, c)` predicts the noise in x_t; a student completes the three methods
    that follow.
    """

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        # 28 x 28 goes unsaid, so that a network of earlier editions, which knows no other size, fits here.
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)
        self._lookup = make_lookup(torch.linspace(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T, dtype=torch.float64))

    def _chain(self, c, omega, shape, mine, device):
        """x_T, x_{T-1}, ..., x_0"""
        T = self.dmconfig.T
        null = torch.full_like(c, self.dmconfig.condition_mask_value)
        draw = lambda: torch.empty(shape, device=mine.device).normal_(generator=mine).to(device)
        x = draw()
        yield x
        for t, row in zip(range(T, 0, -1), self._lookup[1:].flip(0).tolist()):
            beta, sigma, alpha, one_over, abar, _, root = row
            tau = torch.full((shape[0],), t / T, device=device).view(-1, 1, 1, 1)
            eps = torch.zeros_like(x)
            for weight, rows in ((1 + omega, c), (-omega, null)):
                if weight:
                    eps = eps + weight * self.network(x, tau, rows)
            x = one_over * (x - (1 - alpha) / root * eps)
            if t > 1:
                x = x + sigma * draw()
            yield x

    def scheduler(self, t_s):
        t_s = self._time_steps(t_s)  # (B,)
        cosine = self._cosine_betas()  # beyond the course; None where the schedule is linear, as here
        lookup = self._lookup  # (T + 1, 7), row t for time t
        if cosine is not None:
            lookup = make_lookup(torch.as_tensor(cosine))
        variance_dict = dict(zip(NAMES, lookup[t_s.cpu()].unbind(dim=1)))
        return {name: value.to(t_s.device, torch.float32).view(-1, 1, 1, 1) for name, value in variance_dict.items()}

    def forward(self, images, conditions, generator=None):
        T, mask_p, mask_value = self.dmconfig.T, self.dmconfig.mask_p, self.dmconfig.condition_mask_value
        self._check_images(images)
        c = self._one_hot(conditions, len(images), images.device)  # (B, num_classes)
        mine = fresh_generator(generator, images.device)
        dev = mine.device
        B = images.shape[0]
        masked = torch.empty(B, 1, device=dev).bernoulli_(mask_p, generator=mine).bool().to(images.device)
        t = torch.randint(T, (B,), generator=mine, device=dev).add_(1).to(images.device)
        noise = torch.empty(images.shape, device=dev).normal_(0, 1, generator=mine).to(images.device)
        sch = self.scheduler(t)
        noise_loss = self.loss_fn(
            self.network(
                sch["sqrt_alpha_bar"].mul(images).add(sch["sqrt_oneminus_alpha_bar"].mul(noise)),
                t.div(T).view(B, 1, 1, 1),
                torch.where(masked, float(mask_value), c),
            ),
            noise,
        )
        return noise_loss

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        omega = float(omega)
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)  # (B, num_classes)
        shape = (len(c), self.dmconfig.num_channels, *self.dmconfig.input_dim)
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            mine = fresh_generator(generator, device)
            for x in self._chain(c, omega, shape, mine, device):
                pass  # only the last one counts
        return (x * STD + MEAN).clamp(0, 1)

    def _cosine_betas(self):
        if getattr(self.dmconfig, "schedule", "linear") == "cosine":  # a config of an earlier edition has no such field
            from lab import schedules

            return schedules.cosine(self.dmconfig.T)

    def _time_steps(self, t_s):
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
