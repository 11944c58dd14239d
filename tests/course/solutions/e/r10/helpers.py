"""Small helpers, after the manner of the well-known pytorch diffusion repositories."""

import torch


def exists(val):
    return val is not None


def default(val, d):
    return val if exists(val) else (d() if callable(d) else d)


def linear_beta_schedule(timesteps, beta_start, beta_end):
    return torch.linspace(beta_start, beta_end, timesteps, dtype=torch.float64)


def extract(a, t, x_shape=None):
    """Entry of the table `a` (T,) for each t (B,); t counts from 1. Reshaped so that it multiplies x."""
    out = a.to(t.device if a.dtype != torch.float64 else "cpu").gather(-1, (t - 1).to("cpu" if a.dtype == torch.float64 else t.device))
    if not exists(x_shape):
        return out
    return out.to(t.device, torch.float32).reshape(len(t), *((1,) * (len(x_shape) - 1)))


def prob_mask(shape, prob, **draw):
    """True with probability prob."""
    if prob == 1:
        return torch.ones(shape, dtype=torch.bool, device=draw["device"])
    if prob == 0:
        return torch.zeros(shape, dtype=torch.bool, device=draw["device"])
    return torch.rand(shape, **draw) < prob


def noise_like(x, generator=None, device=None):
    return torch.randn(x.shape, generator=generator, device=device).to(x.device)
