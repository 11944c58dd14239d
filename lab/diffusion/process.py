"""A diffusion process as samplers use it: x_t = alpha_t x_0 + sigma_t eps, and x_0 and eps from a network's output."""

import contextlib
import math
from collections import namedtuple

import torch
import torch.nn.functional as F

from config import MEAN, STD, DMConfig
from lab.check import is_whole
from lab.speed.fast import fast

BLACK, WHITE = -MEAN / STD, (1 - MEAN) / STD  # pixel values as the course scales them
Seen = namedtuple("Seen", "x_0 eps log_variance")
Seen.__doc__ = "The prediction at x_t, (B, C, H, W) each: image, noise, and the learned log-variance of the step or None."

# Parameterisations: (x_0, eps) from the network's output at x = alpha x_0 + sigma eps
OUTPUTS = {
    "eps": lambda out, x, alpha, sigma: ((x - sigma * out) / alpha, out),
    "x_0": lambda out, x, alpha, sigma: (out, (x - alpha * out) / sigma),
    "v": lambda out, x, alpha, sigma: (alpha * x - sigma * out, sigma * x + alpha * out),  # alpha eps - sigma x_0; alpha^2 + sigma^2 = 1
    "flow": lambda out, x, alpha, sigma: (x + sigma * out, x - alpha * out),  # velocity from noise to image, x_0 - eps; alpha + sigma = 1
}


class Process:
    """The interface for all samplers; subclass it for another model. Time t is in {1, …, T}; t = T is noise, 0 the clean image.

    alpha, sigma: lists of T + 1 floats. shape: (C, H, W) of an image. range: its pixel values (black, white).
    null_condition: one row, as `embed` returns them. output: a key of OUTPUTS. count: a fixed number of images, None for any.
    """

    T, alpha, sigma, shape, range, device, null_condition = None, None, None, None, None, None, None
    output, count = "eps", None

    def embed(self, condition):
        """Conditions, one or several classes or texts, as rows (B, ...). Raises ValueError for one that the model lacks."""
        raise NotImplementedError

    def ask(self, x, t, rows, s):
        """The network's output for x_t (B, C, H, W), and the log-variance of the step from t to s, (B, C, H, W), or None."""
        raise NotImplementedError

    def ask_both(self, x, t, rows, null, s):
        """The outputs under `rows` and under `null`, and the log-variance under `rows`, from one call with a doubled batch."""
        out, log_variance = self.ask(torch.cat([x, x]), t, torch.cat([rows, null]), s)
        return *out.chunk(2), None if log_variance is None else log_variance.chunk(2)[0]

    def limit(self, x_0):
        """Predicted images (B, C, H, W), limited to `range`."""
        return x_0.clamp(*self.range)

    def running(self):
        """A context to hold while sampling: eval mode, autocast, caches."""
        return contextlib.nullcontext()

    # ---- derived from these
    def seen(self, out, x, t):
        """(x_0, eps) from the network's output at x_t."""
        return OUTPUTS[self.output](out, x, self.alpha[t], self.sigma[t])

    def noised(self, x_0, t, noise):
        """x_t of images (B, C, H, W): eq. (4), Ho et al. 2020, arXiv:2006.11239."""
        return self.alpha[t] * x_0 + self.sigma[t] * noise

    def between(self, t, s):
        """(r, deviation) of q(x_t | x_s), s < t: x_t = r x_s + deviation eps."""
        r = self.alpha[t] / self.alpha[s]
        return r, math.sqrt(max(self.sigma[t] ** 2 - (r * self.sigma[s]) ** 2, 0))

    def noise(self, count, generator=None):
        """(count, C, H, W) of standard normal numbers on the model's device."""
        device = generator.device if generator else self.device
        return torch.randn((count, *self.shape), generator=generator, device=device).to(self.device)


def levels(beta):
    """alpha and sigma of the times 0 … T as lists of floats, from the betas (T,): alpha^2 is the product of 1 - beta."""
    log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-beta.reshape(-1).cpu().double()).cumsum(0)])
    return (log_alpha_bar / 2).exp().tolist(), (-torch.expm1(log_alpha_bar)).sqrt().tolist()


class ConditionalProcess(Process):
    """The process of a model with `network`, `scheduler` and `dmconfig`. A condition is a class or several: 7, [1, 7] or a tensor (B,)."""

    def __init__(self, model):
        self.network, config = model.network, DMConfig.of(model.dmconfig)
        self.T, self.shape, self.range = config.T, (config.num_channels, *config.input_dim), (BLACK, WHITE)
        self.device = next(model.network.parameters()).device
        self.alpha, self.sigma = self.levels(model)
        self.null_condition = torch.full((config.num_classes,), float(config.condition_mask_value), device=self.device)
        self.fast, self.output = fast(model.network, config.precision), getattr(model, "output", "eps")

    def levels(self, model):
        """alpha and sigma of the times 0 … T."""
        return levels(model.scheduler(torch.arange(1, self.T + 1, device=self.device))["beta_t"])

    def told(self, t):
        """The time t as the network's input."""
        return t / self.T

    def embed(self, condition):
        """One-hot rows (B, num_classes)."""
        K = len(self.null_condition)
        try:
            labels = torch.as_tensor(condition)
        except (TypeError, ValueError, RuntimeError):  # a text, a list with None in it
            labels = torch.tensor(torch.nan)
        if not is_whole(labels) or labels.ndim > 1 or labels.numel() == 0 or labels.min() < 0 or labels.max() >= K:
            raise ValueError(f"condition = {condition!r}; allowed are whole numbers from 0 to {K - 1}, one or several")
        return F.one_hot(labels.reshape(-1).long(), K).to(self.device, torch.float32)

    def ask(self, x, t, rows, s=None):
        with torch.no_grad(), self.running():
            return self.network(x, torch.full((len(x), 1, 1, 1), self.told(t), device=x.device), rows), None

    def ask_both(self, x, t, rows, null, s):
        with self.running():  # layers that depend on x alone are cached for the second call
            return self.ask(x, t, rows, s)[0], self.ask(x, t, null, s)[0], None

    def running(self):
        return self.fast


class FlowProcess(ConditionalProcess):
    """The process of a flow, x_t = (1 - t/T) x_0 + t/T eps. Its network's time runs the other way, from 0 (noise) to 1 (image)."""

    def levels(self, model):
        times = [t / self.T for t in range(self.T + 1)]
        return [1 - t for t in times], times

    def told(self, t):
        return 1 - t / self.T


def process(model):
    """The model itself if it is a Process, else wrapped as one."""
    if isinstance(model, Process):
        return model
    return (FlowProcess if getattr(model, "output", "eps") == "flow" else ConditionalProcess)(model)
