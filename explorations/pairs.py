"""Two digits at once: pairs of digits to train with, and a model of the numbers 00 to 99."""

import time
from pathlib import Path

import torch
import torch.nn.functional as F

from DDPM import ConditionalDDPM
from lab import display, quality, samplers
from lab.quality import judge
from lab.training import data, experiment
from lab.training.trainer import initialised
from lab.writing import SIDE, split, width
from utils import best_device, make_dataloader

SIZE, CLASSES = (SIDE, 2 * SIDE), 100
INK = 0.5  # a pixel brighter than this is ink
COLUMNS = {  # of a table: the keys of `measure`, and how they are printed
    "both right": ("both right", "{:.1%}"),
    "digits right": ("accuracy", "{:.2%}"),
    "Fréchet distance": ("frechet", "{:.3f}"),
    "its floor": ("frechet_floor", "{:.3f}"),
    "precision": ("precision", "{:.2f}"),
    "recall": ("recall", "{:.2f}"),
    "touching": ("touching", "{:.1%}"),
    "seconds a pair": ("seconds a pair", "{:.3f}"),
}


class Pairs:
    """Batches of the digits of one loader, each with a digit of another to its right: (B, C, 28, 56), numbers 0 to 99 (B,).

    Two passes over a loader that shuffles pair its digits anew each time.
    """

    def __init__(self, left, right):
        self.left, self.right, self.dataset = left, right, left.dataset

    def to(self, device):
        return Pairs(self.left.to(device), self.right.to(device))

    def __len__(self):
        return len(self.left)

    def __iter__(self):
        for (left, tens), (right, ones) in zip(self.left, self.right):
            yield torch.cat([left, right], dim=-1), 10 * tens + ones


def loaders(batch_size, limit=None):
    """Pairs to train with, drawn anew each epoch, and to test with, always the same."""
    train = make_dataloader(data.NORMALISED, batch_size, limit=limit)
    left, right = (make_dataloader(data.NORMALISED, batch_size, train=False, limit=limit) for _ in range(2))
    order = torch.randperm(len(right.labels), generator=torch.Generator().manual_seed(0))
    right.images, right.labels = right.images[order], right.labels[order]
    return Pairs(train, train), Pairs(left, right)


def train(dmconfig, name, limit=None):
    """Train a model of pairs in ./save/NAME, or go on with it; returns its history, a dict an epoch."""
    device = best_device()
    model = initialised(ConditionalDDPM, dmconfig, device)
    return experiment.run(model, dmconfig, Path("save") / name, *loaders(dmconfig.batch_size, limit), device, _picture)


def draw(model, numbers, omega, seed):
    """Images of numbers (N,), (N, 1, 28, 56) in [0, 1]: by a model of pairs, or two digits side by side by a model of digits."""
    paired = width(model) == 2
    labels = numbers if paired else torch.stack([numbers // 10, numbers % 10], dim=1).flatten()
    generator = torch.Generator().manual_seed(seed)
    images = torch.cat([samplers.sample(model, part, omega, generator=generator).cpu() for part in labels.split(samplers.BATCH)])
    return images if paired else torch.cat([images[0::2], images[1::2]], dim=-1)


def measure(model, omega, count, seed):
    """`count` pairs of `model`, judged: a dict of numbers, including those of `quality.evaluate` for their digits."""
    digits = quality.proportional_labels(2 * count).view(count, 2)
    numbers, started = 10 * digits[:, 0] + digits[:, 1], time.perf_counter()
    images = draw(model, numbers, omega, seed)
    seconds = (time.perf_counter() - started) / count
    right, touch = (part.float().mean().item() for part in (both_right(images, numbers), touching(images)))
    return {"both right": right, "touching": touch, "seconds a pair": seconds, **quality.evaluate(split(images), digits.flatten())}


def row(model, omega, count, seeds):
    """A line of a table: what `measure` says under each seed, as median and range."""
    runs = [measure(model, omega, count, seed) for seed in range(seeds)]
    cells = {title: display.cell([run[name] for run in runs], form) for title, (name, form) in COLUMNS.items()}
    return {"ω": f"{omega:g}", "pairs": f"{seeds} × {count:,}", **cells}


def both_right(images, numbers):
    """Whether the judge reads both digits of each image (N, 1, 28, 56) in [0, 1] as those of its number: (N,) booleans."""
    seen = judge.read(judge.load(), split(images))[0].view(-1, 2)
    return (seen == torch.stack([numbers // 10, numbers % 10], dim=1)).all(1)


def touching(images):
    """Whether ink of the left digit meets ink of the right one in an image (N, 1, 28, 56): (N,) booleans."""
    ink = images[:, 0] > INK  # (N, 28, 56)
    left, right = ink[..., SIDE - 1], F.max_pool1d(ink[..., SIDE].float(), 3, 1, 1).bool()  # corners meet as well
    return (left & right).any(1)


def _picture(model):
    numbers = torch.arange(0, 100, 5)
    generator = torch.Generator().manual_seed(0)
    images = samplers.sample(model, numbers, model.dmconfig.omega, generator=generator)
    return display.grid_figure(images, 5, f"{samplers.STEPS} steps of {samplers.METHOD}, ω = {model.dmconfig.omega:g}")
