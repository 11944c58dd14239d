"""
Class-conditional DDPM.

Laid out like the annotated labml implementation that I learnt this from (gather, q_xt_x0, q_sample, p_sample, loss),
with the names of the course on the outside.
"""

from typing import Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.halves import shared
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


def gather(consts: torch.Tensor, t: torch.Tensor):
    """Gather consts for $t$ and reshape to feature map shape. Our $t$ counts from 1."""
    c = consts.to(t.device).gather(-1, t - 1)
    return c.reshape(-1, 1, 1, 1)


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)

        self.n_steps = dmconfig.T
        # $\beta_1, \dots, \beta_T$ linearly increasing
        self.beta = torch.linspace(dmconfig.beta_1, dmconfig.beta_T, self.n_steps)
        # $\alpha_t = 1 - \beta_t$
        self.alpha = 1. - self.beta
        # $\bar\alpha_t = \prod_{s=1}^t \alpha_s$
        self.alpha_bar = torch.cumprod(self.alpha, dim=0)
        # $\sigma^2 = \beta$
        self.sigma2 = self.beta

    def scheduler(self, t_s) -> Dict[str, torch.Tensor]:
        t = self._time_steps(t_s)
        beta = gather(self.beta, t)
        alpha = gather(self.alpha, t)
        alpha_bar = gather(self.alpha_bar, t)
        return {
            "beta_t": beta,
            "sqrt_beta_t": beta ** 0.5,
            "alpha_t": alpha,
            "oneover_sqrt_alpha": alpha ** -0.5,
            "alpha_t_bar": alpha_bar,
            "sqrt_alpha_bar": alpha_bar ** 0.5,
            "sqrt_oneminus_alpha_bar": (1 - alpha_bar) ** 0.5,
        }

    def q_xt_x0(self, x0: torch.Tensor, t: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Get $q(x_t|x_0)$ distribution: its mean and its variance"""
        mean = gather(self.alpha_bar, t) ** 0.5 * x0
        var = 1 - gather(self.alpha_bar, t)
        return mean, var

    def q_sample(self, x0: torch.Tensor, t: torch.Tensor, eps: torch.Tensor):
        """Sample from $q(x_t|x_0)$"""
        mean, var = self.q_xt_x0(x0, t)
        return mean + (var ** 0.5) * eps

    def eps_theta(self, xt, t, c):
        return self.network(xt, (t / self.n_steps).view(-1, 1, 1, 1), c)

    def p_sample(self, xt: torch.Tensor, t: torch.Tensor, c: torch.Tensor, omega: float, z: torch.Tensor):
        """Sample from $p_\\theta(x_{t-1}|x_t)$ with guidance; z is the standard normal noise to use"""
        null = torch.full_like(c, self.dmconfig.condition_mask_value)
        eps_cond, eps_null = self.eps_theta(xt, t, c), self.eps_theta(xt, t, null)
        eps_theta = (1 + omega) * eps_cond.float() - omega * eps_null.float()
        alpha_bar = gather(self.alpha_bar, t)
        alpha = gather(self.alpha, t)
        # $\frac{\beta}{\sqrt{1-\bar\alpha_t}}$
        eps_coef = (1 - alpha) / (1 - alpha_bar) ** .5
        # $$\frac{1}{\sqrt{\alpha_t}} \Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}} \epsilon_\theta\Big)$$
        mean = 1 / (alpha ** 0.5) * (xt - eps_coef * eps_theta)
        var = gather(self.sigma2, t)
        return mean + (var ** .5) * z

    def forward(self, images, conditions, generator: Optional[torch.Generator] = None):
        """Simplified loss"""
        x0 = images
        self._check_images(x0)
        batch_size = x0.shape[0]
        c = self._one_hot(conditions, batch_size, x0.device)
        draw = {"generator": generator, "device": generator.device if generator else x0.device}

        # Random $t$ for each sample in the batch
        t = torch.randint(1, self.n_steps + 1, (batch_size,), **draw).to(x0.device)
        noise = torch.randn(x0.shape, **draw).to(x0.device)
        # drop the class of some
        dropped = torch.rand(batch_size, 1, **draw).to(x0.device) < self.dmconfig.mask_p
        c = torch.where(dropped, torch.full_like(c, self.dmconfig.condition_mask_value), c)

        xt = self.q_sample(x0, t, eps=noise)
        return F.mse_loss(self.eps_theta(xt, t, c), noise)

    @torch.no_grad()
    def sample(self, conditions, omega, generator: Optional[torch.Generator] = None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        omega = float(omega)
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)
        draw = {"generator": generator, "device": generator.device if generator else device}
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            # $x_T \sim \mathcal{N}(0, I)$
            x = torch.randn([len(c), self.dmconfig.num_channels, *self.dmconfig.input_dim], **draw).to(device)
            # Remove noise for $T$ steps
            for t_ in range(self.n_steps):
                t = self.n_steps - t_
                z = torch.randn(x.shape, **draw).to(device) if t > 1 else torch.zeros_like(x)
                x = self.p_sample(x, torch.full((len(c),), t, dtype=torch.long, device=device), c, omega, z)
        return (x * STD + MEAN).clamp(0, 1)

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
