"""Moment matching: drifting, and the mean and covariance of what two readers see in drawn digits are made those of real ones.

They are matched by their Fréchet distance, as in Mathiasen & Hvilshøj 2020, arXiv:2009.14075. A batch has too few digits for a
covariance of 128 features: its value comes from a moving average, its gradient from the batch alone. A later call learns on what an
earlier one has drawn, as it will find it in sampling (Yin et al. 2024, arXiv:2405.14867), since it has to mend that one's errors.
It goes on from a student that has drifted.
"""

from collections import namedtuple

import torch
import torch.nn.functional as F

from config import MEAN, STD
from lab.diffusion.few import times
from lab.diffusion.process import process
from lab.distillation import drifting, readers
from lab.training.trainer import seeded

OMEGA = drifting.OMEGA
SEEDS = (drifting.SEED, 2)  # of the readers: neither is the judge that measures
FIRST, OWN = 0.4, 0.8  # share of the batches from pure noise; of the others, those that begin with digits of its own
FRECHET, READ = 3.0, 0.6  # weights, for each reader
UNSURE = 0.3  # a drawn digit whose cross-entropy is less is read well enough: only what lies above it is lowered
KEEP, WARM = 0.95, 8  # of the moving average; batches that it takes before it is used


def objective(teacher, dmconfig, loaders, folder, reporter):
    """The loss, summed over the readers: drifting's energy distance, the Fréchet distance, and the cross-entropy above UNSURE."""
    way = process(teacher)
    known = [readers.reader(seed, dmconfig, loaders[0], folder, way.device, reporter) for seed in SEEDS]
    with seeded(way.device, dmconfig.seed, "moments"):  # else another order of the pictures would round otherwise in a resumed run
        known = [(reader, Moments.of(reader, loaders[0], way.device)) for reader in known]
    first, *later = times(dmconfig.T)
    passes = {training: _Pass(len(loader)) for training, loader in zip((True, False), loaders)}

    def loss(student, images, labels):
        now = passes[student.training]
        now.begin_batch()
        t = first if torch.rand(()) < FIRST else _any(later)
        start, earlier = images, [s for s in now.drawn if s > t]
        if earlier and torch.rand(()) < OWN:
            start, images, labels = now.drawn[_any(earlier)]
        noise = torch.randn_like(images)
        drawn = student.predict(noise if t == first else way.noised(start, t, noise), t, labels)
        now.drawn[t] = drawn.detach().float(), images, labels
        total = 0
        for number, (reader, real_moments) in enumerate(known):
            seen, logits = readers.features(reader, drawn)
            with torch.no_grad():
                real = readers.features(reader, images)[0]
            total = total + sum(drifting.energy_distance(*pair, labels) for pair in zip(seen, real))
            total = total + READ * (F.cross_entropy(logits, labels, reduction="none") - UNSURE).relu().mean()
            moments = now.averages.setdefault((t, number), MovingAverage()).add(seen[-1])
            if moments:
                total = total + FRECHET * frechet(moments, real_moments)
        return total

    return loaders, loss


class Moments(namedtuple("Moments", "mean second")):
    """Mean (D,) and second moments (D, D) of features (N, D), in float64 on the CPU: half the digits of float32 would be lost."""

    @classmethod
    def batch(cls, features):
        x = features.to("cpu", torch.float64)
        return cls(x.mean(0), x.T @ x / len(x))

    @classmethod
    @torch.no_grad()
    def of(cls, reader, batches, device):
        """Those of all pictures of `batches`, which are scaled as in the course."""
        return cls.batch(torch.cat([reader.features(images.to(device) * STD + MEAN) for images, _ in batches]))

    @property
    def covariance(self):
        return self.second - self.mean[:, None] * self.mean


class MovingAverage:
    """Moments of features over batches, of which the first ones weigh the same."""

    def __init__(self):
        self.value, self.count = None, 0

    def add(self, features):
        """The average with those of `features` (B, D), its gradient that of the batch alone; None for the first WARM - 1 batches."""
        new, keep = Moments.batch(features), min(KEEP, self.count / (self.count + 1))
        self.value = Moments(*(keep * old + (1 - keep) * now.detach() for old, now in zip(self.value or (0, 0), new)))
        self.count += 1
        if self.count >= WARM:
            return Moments(*(value + now - now.detach() for value, now in zip(self.value, new)))


def frechet(drawn, real):
    """The Fréchet distance of two normal distributions with these Moments, over the trace of the real one's covariance: 0-dim."""
    a, b = drawn.covariance, real.covariance
    values, vectors = torch.linalg.eigh(b)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    between = torch.linalg.eigvalsh(root @ a @ root).clamp(min=1e-12).sqrt().sum()  # the trace of (b^1/2 a b^1/2)^1/2
    distance = (drawn.mean - real.mean).square().sum() + a.trace() + b.trace() - 2 * between
    return (distance / b.trace()).float()


class _Pass:
    """What a pass over the pictures has drawn; the next one begins without it, so that a run resumes as it would have gone on."""

    def __init__(self, length):
        self.length, self.count = length, 0

    def begin_batch(self):
        if self.count % self.length == 0:
            self.drawn, self.averages = {}, {}  # of each time the last batch; of each time and reader a MovingAverage
        self.count += 1


def _any(items):
    return items[torch.randint(len(items), ()).item()]
