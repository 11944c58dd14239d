"""The diffusion process: the variance schedule, the training loss and the sampler, with classifier-free guidance.

Ho et al. 2020, "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, and
Ho & Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv:2207.12598.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.capture import captured
from lab.halves import shared, twice
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


def numpy_rng(generator):
    # numpy draws here. A torch.Generator, if there is one, gives the seed, and moves on by doing so.
    if generator is None:
        return np.random.default_rng()
    return np.random.default_rng(torch.randint(2 ** 31, (4,), generator=generator, device=generator.device).tolist())


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

    def scheduler(self, t_s):
        beta_1, beta_T, T = self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T
        t_s = self._time_steps(t_s)  # (B,)
        cosine = self._cosine_betas()  # beyond the course; None where the schedule is linear, as here
        T_axis = np.arange(1, T + 1)
        beta = np.interp(T_axis, [1, max(T, 2)], [beta_1, beta_T])
        if cosine is not None:
            beta = np.array(cosine, dtype=float)
        abar = np.array([np.prod(1 - beta[:k]) for k in T_axis])
        pick = lambda v: torch.tensor(np.take(v, t_s.cpu().numpy() - 1))
        variance_dict = {
            "beta_t": pick(beta), "sqrt_beta_t": pick(beta ** .5),
            "alpha_t": pick(1 - beta), "oneover_sqrt_alpha": pick((1 - beta) ** -.5),
            "alpha_t_bar": pick(abar), "sqrt_alpha_bar": pick(abar ** .5), "sqrt_oneminus_alpha_bar": pick((1 - abar) ** .5),
        }
        return {name: value.to(t_s.device, torch.float32).view(-1, 1, 1, 1) for name, value in variance_dict.items()}

    def forward(self, images, conditions, generator=None):
        T, mask_p, mask_value = self.dmconfig.T, self.dmconfig.mask_p, self.dmconfig.condition_mask_value
        self._check_images(images)
        c = self._one_hot(conditions, len(images), images.device)  # (B, num_classes)
        draw = {"generator": generator, "device": generator.device if generator else images.device}
        rng = numpy_rng(generator)
        n = len(images)
        labels = c.cpu().numpy().copy()
        labels[rng.uniform(size=n) < mask_p, :] = mask_value
        t = rng.integers(1, T + 1, n)
        eps = rng.normal(0.0, 1.0, images.shape)
        v = {k: s.double().numpy() for k, s in self.scheduler(torch.from_numpy(t)).items()}
        x_t = v["sqrt_alpha_bar"] * images.detach().cpu().numpy() + v["sqrt_oneminus_alpha_bar"] * eps
        f32 = lambda a: torch.as_tensor(a, dtype=torch.float32, device=images.device)
        pred = self.network(f32(x_t), f32(t / T).reshape(n, 1, 1, 1), f32(labels))
        noise_loss = self.loss_fn(pred, f32(eps))
        return noise_loss

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        T, mask_value = self.dmconfig.T, self.dmconfig.condition_mask_value
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        omega = float(omega)
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)  # (B, num_classes)
        shape = (len(c), self.dmconfig.num_channels, *self.dmconfig.input_dim)
        draw = {"generator": generator, "device": generator.device if generator else device}
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            rng = numpy_rng(generator)
            n = shape[0]
            null = torch.full_like(c, mask_value)

            def ask(state, t, rows):
                xs = torch.as_tensor(state, dtype=torch.float32, device=device)
                return self.network(xs, torch.full((n, 1, 1, 1), t / T, device=device), rows).float().cpu().numpy().astype(np.float64)

            v = {k: s.double().flatten().numpy() for k, s in self.scheduler(torch.arange(1, T + 1)).items()}
            state = rng.normal(size=shape)
            for k in np.arange(T)[::-1]:  # k = t - 1
                t = int(k) + 1
                e = (1 + omega) * ask(state, t, c) - omega * ask(state, t, null)
                state = (state - v["beta_t"][k] / v["sqrt_oneminus_alpha_bar"][k] * e) / np.sqrt(v["alpha_t"][k])
                if k:
                    state = state + v["sqrt_beta_t"][k] * rng.normal(size=shape)
            x = torch.as_tensor(state, dtype=torch.float32, device=device)
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
