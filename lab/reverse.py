"""The reverse process of any model that predicts noise: what is asked of the model, the step from t to s, and one loop for all tasks."""

import math
from collections import namedtuple
from typing import Protocol

import torch

from lab.halves import twice
from lab.samplers import Step


class Model(Protocol):
    """What the loops ask of a model, which is a subclass of this. Time t is in {1, …, T}; t = T is noise."""

    T: int
    alphas_cumprod: torch.Tensor  # (T,), t stands at t - 1; on the CPU
    shape: tuple                  # (C, H, W) of an image
    range: tuple                  # (black, white) of the pixels that it works on
    device: torch.device
    null_condition: torch.Tensor  # one row of what `embed` gives
    count: int | None = None      # how many images it makes at once, where it can make no other number

    def embed(self, condition):
        """Conditions, one or several classes or texts, as rows (B, ...). Raises ValueError for one that the model lacks."""

    def predict(self, x_t, t, condition, s=None):
        """The noise in x_t (B, C, H, W), and the log-variance of the step from t to s (t - 1 unless told), or None.

        condition: rows (B, ...). The log-variance is of the shape of x_t.
        """

    def limit(self, x_0):
        """Predicted images (B, C, H, W) back in `range`."""
        return x_0.clamp(*self.range)


Settings = namedtuple("Settings", "times guidance clip generator")  # times: [t, …, 0]


def loop(model, predict, count, how, start=lambda noise: noise(), keep=None, rounds=1):
    """Yields a Step for x at how.times[0] and one after each step of the posterior, eq. (7), Ho et al. 2020, arXiv:2006.11239.

    predict(x, t, s): as `guided` gives it, for `count` images. start(noise): x at the first time; noise() draws some.
    keep(x, s, z): x_s with what is known put in, z the noise of that step. rounds: how often each step is taken, with noise
    back to t between.
    """
    alpha_bar = levels(model)

    def noise():
        return randn(model, count, how.generator)

    x = start(noise)
    yield Step(how.times[0], x, x)
    for t, s in zip(how.times, how.times[1:]):
        for left in reversed(range(rounds if s else 1)):
            x_0, mean, deviation = _step(model, predict, alpha_bar[t], alpha_bar[s], x, t, s, how.clip)
            z = noise() if s else torch.zeros_like(x)  # the last step adds no noise
            x = mean + deviation * z
            x = keep(x, s, z) if keep else x
            if left:
                x = noised(alpha_bar[t] / alpha_bar[s], x, noise())
        yield Step(s, x, x_0)


def guided(model, rows, guidance):
    """A function (x, t, s) that gives the noise eps_u + guidance (eps_c - eps_u) and the log-variance, asking the model once.

    rows: conditions (B, ...). The log-variance is the conditional half's, as in diffusers.
    """
    null = model.null_condition.expand_as(rows)
    if guidance in (0, 1):  # one of the two predictions has no weight: leave it out
        return lambda x, t, s: model.predict(x, t, rows if guidance else null, s)
    both = torch.cat([rows, null])

    def predict(x, t, s):
        eps, log_variance = model.predict(twice(x), t, both, s)
        eps_c, eps_u = eps.chunk(2)
        return eps_u + guidance * (eps_c - eps_u), None if log_variance is None else log_variance.chunk(2)[0]

    return predict


def composed(model, conditions, views, guidance, combine):
    """A function (x, t, s) that gives the noise of several conditions in one, and the mean of their log-variances.

    conditions: rows (B, ...) for each view. views: pairs of look(x) and back(x), one the inverse of the other.
    combine: a function of the noise seen in each view, turned back.
    """
    inside = guided(model, torch.cat(conditions), guidance)

    def back(seen):
        return [view.back(part) for view, part in zip(views, seen.chunk(len(views)))]

    def predict(x, t, s):
        eps, log_variance = inside(torch.cat([view.look(x) for view in views]), t, s)
        return combine(back(eps)), None if log_variance is None else average(back(log_variance))

    return predict


def average(parts):
    """The mean of tensors, exactly theirs where they are equal."""
    return sum(parts) / len(parts)


def noised(alpha_bar, images, noise):
    """x_t of images (B, C, H, W) at the time of alpha_bar: eq. (4), Ho et al. 2020."""
    return math.sqrt(alpha_bar) * images + math.sqrt(1 - alpha_bar) * noise


def clean(model, alpha_bar, x_t, eps, clip):
    """The x_0 that the noise eps in x_t implies: eq. (15), Ho et al. 2020."""
    x_0 = (x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)
    return model.limit(x_0) if clip else x_0


def levels(model):
    """alpha_bar of each time from 0, the clean image, to T: floats, so that no step waits for the device."""
    return [1.0, *model.alphas_cumprod.tolist()]


def randn(model, count, generator):
    device = generator.device if generator else model.device
    return torch.randn((count, *model.shape), generator=generator, device=device).to(model.device)


def _step(model, predict, at_t, at_s, x, t, s, clip):
    """x_0, and mean and deviation of x_s: the model's variance where it has one, else the posterior's. at_t, at_s: alpha_bar there."""
    eps, log_variance = predict(x, t, s)
    x_0 = clean(model, at_t, x, eps, clip)
    alpha = at_t / at_s  # of the whole stride
    mean = math.sqrt(at_s) * (1 - alpha) / (1 - at_t) * x_0 + math.sqrt(alpha) * (1 - at_s) / (1 - at_t) * x
    if log_variance is None:
        return x_0, mean, math.sqrt((1 - alpha) * (1 - at_s) / (1 - at_t))
    return x_0, mean, (log_variance / 2).exp()
