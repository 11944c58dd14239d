"""How good digits are: read by a classifier, and compared with real ones in its features."""

import functools
import itertools
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchvision import transforms

from config import DMConfig
from lab import samplers
from lab.diffusion.redraw import check as check_reader
from lab.quality import judge
from lab.samplers import ANCESTRAL
from lab.training import checkpoint, data, pictures

NEIGHBOURS = 3  # of the manifolds of precision and recall, as in the paper
LEAST, MOST = 100, 50_000  # images: a Fréchet distance of fewer says nothing; for more there is no floor


def evaluate(images, labels, dmconfig=None):
    """How good images (N, C, H, W) in [0, 1] of the classes `labels` (N,) are, beside the test pictures of their set.

    dmconfig: of the model that drew them, which names the set; without one, MNIST and its 10,000 test digits.

    A dict of
      samples        N
      accuracy       the share that the judge reads as their label
      frechet        the Fréchet distance between the judge's features, as in Heusel et al. 2017, arXiv:1706.08500, but not FID,
                     whose features are those of Inception on ImageNet: the two cannot be compared
      frechet_floor  the same for N training digits in place of the images, the classes in the test set's proportions: what
                     is due to N being finite, and to the judge's having been trained on these digits
      precision      the share of the images that lie among the real ones, and
      recall         the share of the real ones that lie among the images: Kynkäänniemi et al. 2019, arXiv:1904.06991, k = 3
      spread         the variance within a class, relative to that of real digits: below 1, the digits are too much alike; above
                     1, they vary more, or some are read as another class than their label
    With labels in the test set's proportions (`proportional_labels`) the distance is not due to the mix of classes. Raises ValueError for
    other shapes and values, and lab.training.data.DataError where the real MNIST is not there.
    """
    _check(images, labels, dmconfig or DMConfig())
    judge.check(dmconfig or DMConfig())
    reference = Reference.of(dmconfig)
    floor = reference.floor(len(images))
    labels = labels.cpu().long()
    real, real_labels = reference.test, reference.labels
    seen, features = judge.read(reference.judge, images.float())
    precision, recall = _manifolds(features, real)
    return {
        "samples": len(images),
        "accuracy": (seen == labels).float().mean().item(),
        "frechet": _frechet(features, real),
        "frechet_floor": floor,
        "precision": precision,
        "recall": recall,
        "spread": _spread(features, labels) / _spread(real, real_labels),
    }


def proportional_labels(count, dmconfig=None):
    """`count` labels in the proportions of the test set, each class within 1 of its exact share; in one fixed random order."""
    labels = Reference.of(dmconfig).labels.sort().values
    labels = labels[torch.arange(count) * len(labels) // count]
    return labels[_shuffled(count)]


def most(dmconfig=None):
    """The most pictures of a set that can be judged: of as many there is a floor. Without dmconfig, MNIST's."""
    reference = Reference.of(dmconfig)
    train, test = (_targets(reference.real(part)).bincount(minlength=reference.dmconfig.num_classes) for part in (True, False))
    return min(MOST, *(int(own * test.sum() // tested) for own, tested in zip(train, test) if tested))


def sweep(model, omegas, methods, steps, seeds, count, path, reporter, reader=None):
    """Judge `count` digits of `model` for each of `omegas`, `methods`, `steps` and `seeds`; a dict each, and a line in the CSV file `path`.

    methods: of lab.samplers, and ANCESTRAL, which is the model's own `sample` in all its T steps. steps: a list, or None, which is
    each method's usual number. reader: as for lab.samplers.sample, and not the judge. The file is written after each row, so that a
    stopped run keeps its rows. Raises ValueError, before any work, for settings that cannot be drawn or judged.
    """
    config = model.dmconfig
    if not LEAST <= count <= MOST or seeds < 1:
        raise ValueError(f"{count} digits under {seeds} seeds; allowed are {LEAST} to {MOST:,} under one seed or more")
    numbers = lambda method: [config.T] if method == ANCESTRAL else steps or [samplers.usual(method, reader)["steps"]]
    ways = [(method, number) for method in methods for number in numbers(method)]
    for omega, (method, number) in itertools.product(omegas, ways):
        checked = "ddpm" if method == ANCESTRAL else method  # the same algorithm
        samplers.trajectory(
            model, torch.arange(config.num_classes), omega, method=checked, steps=number
        )  # checks its arguments; nothing is drawn yet
    if reader is not None:
        if ANCESTRAL in methods:
            raise ValueError(f"method = {ANCESTRAL!r} with a reader; allowed are the others, as the model's own sample draws once")
        check_reader(model, min(omegas), reader)
    judge.check(config)
    Reference.of(config).floor(count)  # raises if the judge or the set is missing, or the set too small
    rows = []
    for (method, number), omega, seed in itertools.product(ways, omegas, range(seeds)):
        images, labels, seconds = _draw(model, omega, method, number, seed, count, reporter, reader)
        how = {"method": method if reader is None else f"{method}, redrawn", "steps": number, "omega": omega, "seed": seed}
        rows.append({**how, **evaluate(images, labels, config), "seconds": seconds})
        checkpoint.write_rows(path, rows)
        reporter.line(line(rows[-1]))
    return rows


def line(row):
    """A row of a sweep as one line of text."""
    return (
        f"ω = {row['omega']:<4g} {row['method']} {row['steps']} steps  accuracy {row['accuracy']:.2%}  Fréchet {row['frechet']:.3f} "
        f"(floor {row['frechet_floor']:.3f}, so {row['frechet'] / row['frechet_floor']:.1f} ×)  precision {row['precision']:.3f}  "
        f"recall {row['recall']:.3f}  spread {row['spread']:.2f}  {row['samples']:,} digits in {row['seconds']:.0f} s"
    )


def real_mnist(train):
    """MNIST with pixels in [0, 1]. Raises lab.training.data.DataError if it is missing: the stand-in digits are no reference."""
    dataset = data.mnist(transforms.ToTensor(), train=train)
    if isinstance(dataset, data.Digits):
        raise data.DataError("digits are compared with the real MNIST, which is not here; set MNIST_DIR to the folder that holds MNIST/raw")
    return dataset


def _draw(model, omega, method, steps, seed, count, reporter, reader):
    """`count` digits in the proportions of the test set, on the CPU: images, labels, and the seconds that they took."""
    labels, started = proportional_labels(count, model.dmconfig), time.perf_counter()
    generator, images = torch.Generator().manual_seed(seed), []
    with reporter.bar(count, " digits", f"ω = {omega:g}, {method}, {steps} steps") as bar:
        for part in labels.split(samplers.BATCH):
            if method == ANCESTRAL:
                drawn = model.sample(part, omega, generator)
            else:
                drawn = samplers.sample(model, part, omega, method=method, steps=steps, generator=generator, reader=reader)
            images.append(drawn.cpu())
            bar.update(len(part))
    return torch.cat(images), labels, time.perf_counter() - started


class Reference:
    """What drawn pictures are compared with: the judge of a set, and what it sees in the set's own pictures.

    What it has is made when it is asked for: ValueError where there is no judge, lab.training.data.DataError where the set is missing.
    """

    @staticmethod
    def of(dmconfig=None):
        """The Reference of a model's pictures, made once; without dmconfig, MNIST's."""
        c = dmconfig or DMConfig()
        return _reference(c.data, c.num_channels, c.input_dim, c.num_classes, tuple(c.classes))

    def __init__(self, dmconfig):
        self.dmconfig, self.floors = dmconfig, {}

    @functools.cached_property
    def judge(self):
        return judge.load(dmconfig=self.dmconfig)

    @functools.cached_property
    def labels(self):
        """Of the test pictures, (N,)."""
        return _targets(self.real(train=False))

    @functools.cached_property
    def test(self):
        """The features of the test pictures, (N, 128)."""
        return self._features(self.real(train=False), torch.arange(len(self.labels)))

    def real(self, train):
        c = self.dmconfig
        return (
            real_mnist(train)
            if c.data == "mnist"
            else pictures.dataset(transforms.ToTensor(), c.data, train=train, input_dim=c.input_dim, num_channels=c.num_channels)
        )

    def floor(self, count):
        """The distance of `count` training pictures, the first of each class, in the test set's proportions. ValueError for too few."""
        if count not in self.floors:
            dataset = self.real(train=True)
            labels, wanted = _targets(dataset), proportional_labels(count, self.dmconfig).bincount(minlength=self.dmconfig.num_classes)
            rows = torch.cat([(labels == k).nonzero().flatten()[:number] for k, number in enumerate(wanted)])
            if len(rows) < count:
                raise ValueError(
                    f"{count:,} pictures to judge, and {len(rows):,} in the same proportions to train with; judge no more than these"
                )
            self.floors[count] = _frechet(self._features(dataset, rows), self.test)
        return self.floors[count]

    def _features(self, dataset, rows):
        pixels = torch.as_tensor(dataset.data)[rows]
        images = (pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)).float() / 255
        return judge.read(self.judge, images)[1]


@functools.cache
def _reference(data, num_channels, input_dim, num_classes, classes):
    shape = dict(num_channels=num_channels, input_dim=input_dim, num_classes=num_classes, classes=list(classes))
    return Reference(DMConfig(data=data, **(shape if data != "mnist" else {})))


def _targets(dataset):
    return torch.as_tensor(np.asarray(dataset.targets)).long()


def _frechet(features, real):
    extractor = nn.Identity()  # the features are at hand
    extractor.num_features = features.shape[1]
    distance = FrechetInceptionDistance(extractor)
    distance.update(real, real=True)
    distance.update(features, real=False)
    return distance.compute().item()


def _manifolds(features, real):
    """Precision and recall on equally many points of both sets, as the radii depend on the density of points."""
    count = min(len(features), len(real))
    features, real = features[_shuffled(len(features))[:count]].numpy(), real[_shuffled(len(real))[:count]].numpy()
    return _inside(features, real), _inside(real, features)


def _inside(points, manifold):
    """The share of `points` that lie no further from a point of `manifold` than its third nearest neighbour does."""
    radii = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(manifold).kneighbors(manifold)[0][:, -1]  # the first is the point itself
    near = lambda distances, start: (distances <= radii).any(axis=1)
    parts = pairwise_distances_chunked(points, manifold, reduce_func=near, working_memory=256)  # MB at once
    return float(np.concatenate(list(parts)).mean())


def _shuffled(count):
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _spread(features, labels):
    """The variance of the features within a class, averaged over the classes."""
    classes = [features[labels == label] for label in labels.unique()]
    return torch.stack([part.var(0).sum() for part in classes if len(part) > 1]).mean().item()


def _check(images, labels, dmconfig):
    shape, num_classes = (dmconfig.num_channels, *dmconfig.input_dim), dmconfig.num_classes
    if not torch.is_tensor(images) or not images.is_floating_point():
        raise ValueError(f"images are {getattr(images, 'dtype', type(images))}; allowed is a tensor of floats")
    if images.ndim != 4 or images.shape[1:] != shape:
        raise ValueError(f"images have shape {tuple(images.shape)}; allowed is (N, {', '.join(map(str, shape))})")
    if not LEAST <= len(images) <= MOST:
        raise ValueError(f"{len(images)} images; allowed are {LEAST} to {MOST:,}, and at least 5,000 for a number that is reported")
    if not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"images go from {images.min():g} to {images.max():g}; allowed is 0 to 1, as `sample` gives them")
    whole = torch.is_tensor(labels) and not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if not whole or labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels are {labels!r}; allowed is a tensor of {len(images)} whole numbers from 0 to {num_classes - 1}, one an image"
        )


def figure(rows):
    """A figure of accuracy, Fréchet distance, precision and recall against the guidance weight; rows: as `sweep` gives them."""
    drawn, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    lines = sorted({(row["method"], row["steps"]) for row in rows})
    panels = (("accuracy",), ("frechet",), ("precision", "recall"))
    titles = ("Read as the digit asked for", "Fréchet distance to real digits", "Precision (solid) and recall (dashed)")
    units = ("part of the digits", "distance in the judge's features", "part of the digits")
    for axis, names, title, unit in zip(axes, panels, titles, units):
        for color, (method, steps) in enumerate(lines):
            chosen = [row for row in rows if (row["method"], row["steps"]) == (method, steps)]
            omegas = sorted({row["omega"] for row in chosen})
            for name, style in zip(names, ("o-", "s--")):
                values = [[row[name] for row in chosen if row["omega"] == omega] for omega in omegas]
                label = f"{method}, {steps} steps" if style == "o-" else None
                axis.plot(omegas, [np.median(part) for part in values], style, color=f"C{color}", ms=4, label=label)
        axis.set(title=title, xlabel="guidance weight ω", ylabel=unit)
        axis.grid(alpha=0.3)
    axes[1].axhline(rows[0]["frechet_floor"], color="gray", ls=":", label="floor: real digits")
    axes[1].set_ylim(bottom=0)
    axes[1].legend()
    drawn.suptitle(f"{rows[0]['samples']:,} pictures a point, beside the test set")
    return drawn
