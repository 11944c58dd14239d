"""Guidance: each function here returns ask(x, t, s) -> (the network's output at x_t, the learned log-variance of t -> s or None).

Classifier-free guidance is (1 + omega) output_c - omega output_u: eq. (6), Ho & Salimans 2022, arXiv:2207.12598.
"""

import torch

from lab.diffusion.process import Seen


def guided(process, rows, omega):
    """Classifier-free guidance by conditions, rows (B, ...); omega = 0 and -1 take one pass. The log-variance is the conditional pass's."""
    null = process.null_condition.expand_as(rows)

    def ask(x, t, s):
        if omega in (0, -1):
            return process.ask(x, t, null if omega else rows, s)
        out_c, out_u, log_variance = process.ask_both(x, t, rows, null, s)
        return (1 + omega) * out_c - omega * out_u, log_variance

    return ask


def in_interval(process, rows, omega, low, high):
    """Guidance where low < sigma / alpha <= high, the condition alone elsewhere: Kynkäänniemi et al. 2024, arXiv:2404.07724."""
    inside, outside = guided(process, rows, omega), guided(process, rows, 0.0)
    return lambda x, t, s: (inside if low < process.sigma[t] / process.alpha[t] <= high else outside)(x, t, s)


def composed(process, conditions, views, omega, combine):
    """Several conditions in one picture: predict in each view, undo the view, combine; the log-variances are averaged.

    conditions: rows (B, ...) for each view. views: pairs of look(x) and back(x), one the inverse of the other.
    combine: a function of the outputs in a list.
    """
    inside = guided(process, torch.cat(conditions), omega)

    def ask(x, t, s):
        back = lambda seen: [view.back(part) for view, part in zip(views, seen.chunk(len(views)))]
        out, log_variance = inside(torch.cat([view.look(x) for view in views]), t, s)
        return combine(back(out)), None if log_variance is None else average(back(log_variance))

    return ask


def average(parts):
    """The mean of tensors; exact where they are all equal."""
    return sum(parts) / len(parts)


def seeing(process, ask, limit=None):
    """Make of ask a function predict(x, t, s) -> Seen. limit: clips x_0; eps is then recomputed from it."""

    def predict(x, t, s):
        out, log_variance = ask(x, t, s)
        x_0, eps = process.seen(out, x, t)
        if limit:
            x_0 = limit(x_0)
            eps = (x - process.alpha[t] * x_0) / process.sigma[t]
        return Seen(x_0, eps, log_variance)

    return predict
