"""The same model seen by somebody who learnt it as score matching.

score(x, t) = -eps(x, t) / sqrt(1 - alpha_bar_t), and one step back of the variance preserving chain is
    x_{t-1} = (x_t + beta_t * score) / sqrt(1 - beta_t) + sqrt(beta_t) * z         (Song et al. 2021, ancestral sampling)
Training is denoising score matching with weight 1 - alpha_bar_t, which is the plain noise loss.
"""

import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.halves import shared
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


class VPSDE:
    """Discrete variance preserving chain with N noise scales."""

    def __init__(self, beta_min, beta_max, N):
        self.N = N
        self.discrete_betas = torch.linspace(beta_min, beta_max, N, dtype=torch.float64)
        self.alphas = 1.0 - self.discrete_betas
        self.log_mean_coeff = 0.5 * torch.cumsum(torch.log(self.alphas), dim=0)  # log sqrt(alpha_bar)

    def at(self, table, t):
        return table[t.cpu() - 1].view(-1, 1, 1, 1).to(torch.float32).to(t.device)

    def marginal_prob(self, x, t):
        """Mean and standard deviation of p(x_t | x_0 = x)."""
        log_coeff = self.log_mean_coeff
        mean = self.at(torch.exp(log_coeff), t) * x
        std = self.at(torch.sqrt(1.0 - torch.exp(2.0 * log_coeff)), t)
        return mean, std

    def reverse_mean(self, x, t, score):
        beta = self.at(self.discrete_betas, t)
        return (x + beta * score) / torch.sqrt(1.0 - beta)


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss(reduction="sum")
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)
        self.sde = VPSDE(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T)

    def scheduler(self, t_s):
        t = self._time_steps(t_s)
        bar = torch.exp(2.0 * self.sde.log_mean_coeff)
        tables = {
            "beta_t": self.sde.discrete_betas,
            "sqrt_beta_t": torch.sqrt(self.sde.discrete_betas),
            "alpha_t": self.sde.alphas,
            "oneover_sqrt_alpha": 1.0 / torch.sqrt(self.sde.alphas),
            "alpha_t_bar": bar,
            "sqrt_alpha_bar": torch.exp(self.sde.log_mean_coeff),
            "sqrt_oneminus_alpha_bar": torch.sqrt(1.0 - bar),
        }
        return {name: self.sde.at(table, t) for name, table in tables.items()}

    def forward(self, images, conditions, generator=None):
        self._check_images(images)
        c = self._one_hot(conditions, len(images), images.device)
        where = generator.device if generator else images.device

        t = torch.randint(1, self.sde.N + 1, (len(images),), generator=generator, device=where).to(images.device)
        z = torch.randn(images.shape, generator=generator, device=where).to(images.device)
        mean, std = self.sde.marginal_prob(images, t)
        perturbed = mean + std * z

        p_keep = torch.full((len(images), 1), 1.0 - self.dmconfig.mask_p, device=where)
        keep = torch.bernoulli(p_keep, generator=generator).bool().to(images.device)
        c = c.where(keep, torch.full_like(c, self.dmconfig.condition_mask_value))

        eps = self.network(perturbed, t[:, None, None, None].float() / self.sde.N, c)
        return self.loss_fn(eps, z) / z.numel()

    def score(self, x, t, c):
        _, std = self.sde.marginal_prob(x, t)
        return -self.network(x, t[:, None, None, None].float() / self.sde.N, c).float() / std

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)
        null = torch.full_like(c, self.dmconfig.condition_mask_value)
        where = generator.device if generator else device
        x = torch.randn(len(c), self.dmconfig.num_channels, *self.dmconfig.input_dim, generator=generator, device=where).to(device)
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            for i in range(self.sde.N, 0, -1):
                t = torch.full((len(c),), i, dtype=torch.long, device=device)
                # Bayes: log p(c | x)^(1 + omega) p(x), as scores
                prior, posterior = self.score(x, t, null), self.score(x, t, c)
                classifier = posterior - prior
                x = self.sde.reverse_mean(x, t, prior + (1.0 + omega) * classifier)
                if i == 1:
                    break
                z = torch.randn(x.shape, generator=generator, device=where).to(device)
                x = x + self.scheduler(t)["sqrt_beta_t"] * z
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
