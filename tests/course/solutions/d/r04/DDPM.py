"""
Gaussian diffusion in the layout of OpenAI's guided-diffusion (gaussian_diffusion.py), reduced to what the course needs:
epsilon prediction, fixed-large variance, no clipping, class-free guidance inside of p_mean_variance.

Tables are numpy float64. Inside of this file the internal index is i = t - 1 (0-based, as in that repository);
t, 1-based, is only what `scheduler` takes and what the network is told (over T).
"""

import numpy as np
import torch as th
import torch.nn as nn
import torch.nn.functional as F

import torch

from config import MEAN, STD, is_finite
from lab.halves import shared
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


def mean_flat(tensor):
    """Take the mean over all non-batch dimensions."""
    return tensor.mean(dim=list(range(1, len(tensor.shape))))


def get_named_beta_schedule(schedule_name, num_diffusion_timesteps, beta_start, beta_end):
    if schedule_name == "linear":
        return np.linspace(beta_start, beta_end, num_diffusion_timesteps, dtype=np.float64)
    raise NotImplementedError(f"unknown beta schedule: {schedule_name}")


def _extract_into_tensor(arr, timesteps, broadcast_shape):
    """
    Extract values from a 1-D numpy array for a batch of indices.
    """
    res = th.from_numpy(arr).to(device=timesteps.device)[timesteps].float()
    while len(res.shape) < len(broadcast_shape):
        res = res[..., None]
    return res


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)

        betas = get_named_beta_schedule("linear", dmconfig.T, dmconfig.beta_1, dmconfig.beta_T)
        self.betas = betas
        assert len(betas.shape) == 1, "betas must be 1-D"
        assert (betas > 0).all() and (betas <= 1).all()
        self.num_timesteps = int(betas.shape[0])

        alphas = 1.0 - betas
        self.alphas = alphas
        self.alphas_cumprod = np.cumprod(alphas, axis=0)
        self.alphas_cumprod_prev = np.append(1.0, self.alphas_cumprod[:-1])

        # calculations for diffusion q(x_t | x_{t-1}) and others
        self.sqrt_alphas_cumprod = np.sqrt(self.alphas_cumprod)
        self.sqrt_one_minus_alphas_cumprod = np.sqrt(1.0 - self.alphas_cumprod)
        self.sqrt_recip_alphas_cumprod = np.sqrt(1.0 / self.alphas_cumprod)
        self.sqrt_recipm1_alphas_cumprod = np.sqrt(1.0 / self.alphas_cumprod - 1)

        # calculations for posterior q(x_{t-1} | x_t, x_0)
        self.posterior_mean_coef1 = betas * np.sqrt(self.alphas_cumprod_prev) / (1.0 - self.alphas_cumprod)
        self.posterior_mean_coef2 = (1.0 - self.alphas_cumprod_prev) * np.sqrt(alphas) / (1.0 - self.alphas_cumprod)

    def scheduler(self, t_s):
        i = self._time_steps(t_s) - 1
        arrays = dict(
            beta_t=self.betas,
            sqrt_beta_t=np.sqrt(self.betas),
            alpha_t=self.alphas,
            oneover_sqrt_alpha=1.0 / np.sqrt(self.alphas),
            alpha_t_bar=self.alphas_cumprod,
            sqrt_alpha_bar=self.sqrt_alphas_cumprod,
            sqrt_oneminus_alpha_bar=self.sqrt_one_minus_alphas_cumprod,
        )
        return {k: _extract_into_tensor(arr, i, (len(i), 1, 1, 1)) for k, arr in arrays.items()}

    def q_mean_variance(self, x_start, i):
        mean = _extract_into_tensor(self.sqrt_alphas_cumprod, i, x_start.shape) * x_start
        variance = _extract_into_tensor(1.0 - self.alphas_cumprod, i, x_start.shape)
        return mean, variance

    def q_sample(self, x_start, i, noise):
        mean, variance = self.q_mean_variance(x_start, i)
        assert noise.shape == x_start.shape
        return mean + th.sqrt(variance) * noise

    def q_posterior_mean_variance(self, x_start, x_t, i):
        """
        The mean of q(x_{t-1} | x_t, x_0), and the variance to sample with (FIXED_LARGE for all i).
        """
        posterior_mean = (
            _extract_into_tensor(self.posterior_mean_coef1, i, x_t.shape) * x_start
            + _extract_into_tensor(self.posterior_mean_coef2, i, x_t.shape) * x_t
        )
        variance = _extract_into_tensor(self.betas, i, x_t.shape)
        return posterior_mean, variance

    def _scale_timesteps(self, i):
        return (i.float() + 1.0) / self.num_timesteps

    def _model_eps(self, model, x, i, y):
        return model(x, self._scale_timesteps(i)[:, None, None, None], y)

    def p_mean_variance(self, model, x, i, model_kwargs):
        y, w = model_kwargs["y"], model_kwargs["w"]
        null = th.ones_like(y) * self.dmconfig.condition_mask_value
        uncond_eps = self._model_eps(model, x, i, null).float()
        cond_eps = self._model_eps(model, x, i, y).float()
        eps = uncond_eps + (1.0 + w) * (cond_eps - uncond_eps)
        pred_xstart = self._predict_xstart_from_eps(x_t=x, i=i, eps=eps)
        mean, variance = self.q_posterior_mean_variance(x_start=pred_xstart, x_t=x, i=i)
        return {"mean": mean, "variance": variance, "pred_xstart": pred_xstart}

    def _predict_xstart_from_eps(self, x_t, i, eps):
        assert x_t.shape == eps.shape
        return (
            _extract_into_tensor(self.sqrt_recip_alphas_cumprod, i, x_t.shape) * x_t
            - _extract_into_tensor(self.sqrt_recipm1_alphas_cumprod, i, x_t.shape) * eps
        )

    def p_sample(self, model, x, i, noise, model_kwargs):
        out = self.p_mean_variance(model, x, i, model_kwargs)
        nonzero_mask = (i != 0).float().view(-1, *([1] * (len(x.shape) - 1)))  # no noise when t == 1
        sample = out["mean"] + nonzero_mask * th.sqrt(out["variance"]) * noise
        return {"sample": sample, "pred_xstart": out["pred_xstart"]}

    def p_sample_loop_progressive(self, model, shape, device, generator, model_kwargs):
        draw_on = device if generator is None else generator.device

        def noise():
            return th.randn(*shape, generator=generator, device=draw_on).to(device)

        img = noise()
        indices = list(range(self.num_timesteps))[::-1]
        for i in indices:
            i = th.tensor([i] * shape[0], device=device)
            out = self.p_sample(model, img, i, noise(), model_kwargs)
            yield out
            img = out["sample"]

    @th.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        device = next(self.network.parameters()).device
        y = self._one_hot(conditions, None, device)
        shape = (y.shape[0], self.dmconfig.num_channels, *self.dmconfig.input_dim)
        final = None
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            for out in self.p_sample_loop_progressive(self.network, shape, device, generator, dict(y=y, w=float(omega))):
                final = out
        return (final["sample"] * STD + MEAN).clamp(0, 1)

    def training_losses(self, model, x_start, i, y, noise):
        terms = {}
        x_t = self.q_sample(x_start, i, noise=noise)
        model_output = self._model_eps(model, x_t, i, y)
        target = noise
        assert model_output.shape == target.shape == x_start.shape
        terms["mse"] = mean_flat((target - model_output) ** 2)
        terms["loss"] = terms["mse"]
        return terms

    def forward(self, images, conditions, generator=None):
        self._check_images(images)
        y = self._one_hot(conditions, len(images), images.device)
        dev = images.device if generator is None else generator.device

        # uniform schedule sampler
        i = th.randint(self.num_timesteps, (len(images),), generator=generator, device=dev).to(images.device)
        noise = th.randn(*images.shape, generator=generator, device=dev).to(images.device)

        hide = th.rand(len(images), generator=generator, device=dev).to(images.device) < self.dmconfig.mask_p
        y = y.clone()
        y[hide] = self.dmconfig.condition_mask_value

        return self.training_losses(self.network, images, i, y, noise)["loss"].mean()

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
