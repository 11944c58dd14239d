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
        return Seen(*process.seen(out, x, t), log_variance)

    return limited(process, predict, limit) if limit else predict


def limited(process, predict, limit):
    """predict with x_0 clipped by `limit`, and eps recomputed from it."""

    def clipped(x, t, s):
        seen = predict(x, t, s)
        x_0 = limit(seen.x_0)
        return Seen(x_0, (x - process.alpha[t] * x_0) / process.sigma[t], seen.log_variance)

    return clipped
