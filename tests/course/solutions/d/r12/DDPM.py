"""DDPM conditionnel. Je range le chemin de x_T à x_0 dans un petit itérateur, et les coefficients dans une dataclass."""

import dataclasses
import itertools
import math
import operator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import MEAN, STD, is_finite
from lab.halves import shared
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """Ce que les équations demandent à un instant t ; des nombres Python, donc en double précision."""

    beta: float
    alpha: float
    alpha_bar: float

    @property
    def signal(self):
        return math.sqrt(self.alpha_bar)

    @property
    def bruit(self):
        return math.sqrt(1.0 - self.alpha_bar)

    @property
    def sigma(self):
        return math.sqrt(self.beta)

    def as_row(self):
        return (self.beta, self.sigma, self.alpha, 1.0 / math.sqrt(self.alpha), self.alpha_bar, self.signal, self.bruit)


NAMES = ("beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha", "alpha_t_bar", "sqrt_alpha_bar", "sqrt_oneminus_alpha_bar")


def schedule(beta_1, beta_T, T):
    """dict t -> Coefficients, t = 1 … T : pas de décalage d'indice à oublier."""
    betas = [beta_1 + (beta_T - beta_1) * k / max(T - 1, 1) for k in range(T)]
    alphas = [1.0 - b for b in betas]
    bars = itertools.accumulate(alphas, operator.mul)
    return {t: Coefficients(*row) for t, row in enumerate(zip(betas, alphas, bars), start=1)}


class Guided:
    """eps(x, t), guidé par la classe ; ne pose que les questions dont la réponse compte."""

    def __init__(self, network, c: Tensor, null: Tensor, omega: float, T: int):
        self.network, self.c, self.null, self.omega, self.T = network, c, null, omega, T

    def ask(self, x, t, rows):
        return self.network(x, torch.full((len(x), 1, 1, 1), t / self.T, device=x.device), rows).float()

    def __call__(self, x, t):
        if self.omega == 0:
            return self.ask(x, t, self.c)
        if self.omega == -1:
            return self.ask(x, t, self.null)
        conditional, unconditional = self.ask(x, t, self.c), self.ask(x, t, self.null)
        return conditional + self.omega * (conditional - unconditional)


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)

    @property
    def _at(self):
        return schedule(self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T)

    def scheduler(self, t_s):
        t_s = self._time_steps(t_s)
        at = self._at
        columns = zip(*(at[t].as_row() for t in t_s.tolist()))
        return {name: torch.tensor(column, dtype=torch.float32, device=t_s.device).view(-1, 1, 1, 1) for name, column in zip(NAMES, columns)}

    def forward(self, images, conditions, generator=None):
        self._check_images(images)
        cfg, device = self.dmconfig, images.device
        c = self._one_hot(conditions, len(images), device)
        source = device if generator is None else generator.device
        random = dict(generator=generator, device=source)

        # un instant par image, du bruit, l'image bruitée
        t = torch.randint(1, cfg.T + 1, (len(images),), **random).to(device)
        epsilon = torch.randn(images.shape, **random).to(device)
        k = self.scheduler(t)
        x_t = k["sqrt_alpha_bar"] * images + k["sqrt_oneminus_alpha_bar"] * epsilon

        # lignes cachées : on choisit leurs indices
        cachees = torch.nonzero(torch.rand(len(images), **random) < cfg.mask_p).flatten().to(device)
        c = c.index_fill(0, cachees, cfg.condition_mask_value)

        temps = (t.to(torch.float32) / cfg.T).reshape(-1, 1, 1, 1)
        return self.loss_fn(self.network(x_t, temps, c), epsilon)

    def _path(self, x, eps, noise):
        """x_T, puis x_{T-1}, …, x_0."""
        at = self._at
        yield x
        for t in sorted(at, reverse=True):
            k = at[t]
            x = (x - k.beta / k.bruit * eps(x, t)) / math.sqrt(k.alpha)
            if t > 1:
                x = x + k.sigma * noise()
            yield x

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        cfg = self.dmconfig
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)
        null = torch.full_like(c, cfg.condition_mask_value)
        source = device if generator is None else generator.device

        def noise():
            return torch.randn(len(c), cfg.num_channels, *cfg.input_dim, generator=generator, device=source).to(device)

        with evaluating(self.network), shared(self.network), autocast(device, getattr(cfg, "precision", "auto")):
            eps = Guided(self.network, c, null, float(omega), cfg.T)
            for x in self._path(noise(), eps, noise):
                pass
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
