"""One change at a time: a model whose time and label embeddings are added, trained and judged in several variants."""

import itertools
import json
import shutil
from collections import namedtuple
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import transforms

from config import DMConfig
from DDPM import ConditionalDDPM
from lab import display, quality, samplers
from lab.speed.fast import evaluating
from lab.speed.precision import autocast
from lab.training import checkpoint, experiment
from lab.training.trainer import initialised
from utils import best_device, make_dataloader

Variant = namedtuple("Variant", "settings low", defaults=(-1.0,))
Variant.__doc__ = "How one training differs: settings of DMConfig, and the pixel value of black (white is 1)."
BASELINE = {"T": 1000, "schedule": "cosine"}
VARIANTS = {
    "baseline": Variant(BASELINE),
    "linear": Variant({**BASELINE, "schedule": "linear"}),
    "no scaling": Variant(BASELINE, low=0.0),
    "T = 100": Variant({**BASELINE, "T": 100}),
    "T = 10": Variant({**BASELINE, "T": 10}),
}
KINDS = ("conditional", "unconditional")
WAYS = {  # what is judged: a training, and how its model is sampled
    **{name: (name, {}) for name in VARIANTS},
    "no clipping": ("baseline", {"clip": False}),
    "no averaging": ("baseline", {"averaged": False}),
}
BARS = display.Bars()  # one for all trainings, as each leaves an empty line in a notebook


class Added(nn.Module):
    """In the place of a FusionBlock: x (B, F, H, W), t and c (B, F, 1, 1) -> their sum (B, F, H, W)."""

    def forward(self, x, t, c):
        return x + t + c


class AdditiveDDPM(ConditionalDDPM):
    """The course's model with time and label embeddings that are added to the features.

    With mask_p = 1 the network sees the null row alone: an unconditional model.
    """

    def __init__(self, dmconfig):
        super().__init__(dmconfig)
        for name in ("fusion1", "fusion2", "fusion3", "fusion4"):
            setattr(self.network, name, Added())


def scaling(low):
    """The transform of an image to pixels from `low` (black) to 1 (white)."""
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((low / (low - 1),), (1 / (1 - low),))])  # low + (1 - low) x


def place(folder, name, kind):
    """Where the training of a variant is kept."""
    return Path(folder) / f"{name}_{kind}_from_{VARIANTS[name].low:g}".replace(" = ", "").replace(" ", "_")


def train(name, kind, folder, *, moments, limit, test_limit, **settings):
    """Train the variant `name` as `kind`, one of KINDS, in its folder below `folder`, or resume it; returns its history.

    moments: the epochs whose whole state is kept, as epoch_<k>.pth. limit, test_limit: numbers of images. settings: of
    DMConfig. Raises ValueError if an earlier training did not keep one of `moments`.
    """
    variant, device, folder = VARIANTS[name], best_device(), place(folder, name, kind)
    condition = {"conditional": {"mask_p": 0.1, "omega": 1.0}, "unconditional": {"mask_p": 1.0, "omega": -1.0}}[kind]
    dmconfig = DMConfig(**variant.settings, **condition, **settings)
    parts = ((True, limit), (False, test_limit))
    loaders = [make_dataloader(scaling(variant.low), dmconfig.batch_size, train=part, limit=size) for part, size in parts]

    def picture(averaged):  # after each epoch, when last_checkpoint.pth is that of this epoch
        epoch = checkpoint.load(folder / "last_checkpoint.pth")["epoch"]
        if epoch in moments:
            shutil.copy(folder / "last_checkpoint.pth", folder / f"epoch_{epoch}.pth")
        return display.grid_figure(draw(averaged, torch.arange(10), variant.low, steps=10), 10, f"{name}, epoch {epoch}, 10 steps")

    model = initialised(AdditiveDDPM, dmconfig, device)
    history = experiment.run(model, dmconfig, folder, *loaders, device, picture, BARS)
    for epoch in moments:
        if not (folder / f"epoch_{epoch}.pth").exists():
            raise ValueError(f"{folder} kept nothing of epoch {epoch}, as it was trained for other moments; move it away to train anew")
    return history


def load(path, averaged=True):
    """The model of an epoch_<k>.pth: with its averaged weights, or those of the optimizer."""
    state = checkpoint.load(path, best_device(), (*checkpoint.KEYS, "raw_model_state_dict"))
    model = AdditiveDDPM(DMConfig.from_dict(state["dmconfig"])).to(best_device(), memory_format=torch.channels_last)
    model.load_state_dict(state["model_state_dict" if averaged else "raw_model_state_dict"])
    return model.eval()


def draw(model, labels, low, *, steps, clip=True, seed=0):
    """Images (N, 1, 28, 28) in [0, 1] of a model whose pixels go from `low` to 1, by `steps` of its T steps of the posterior.

    They start from noise alone: lab.samplers' own start is for images scaled as the course does.
    """
    generator, images = torch.Generator().manual_seed(seed), []
    for part in labels.split(samplers.BATCH):
        x_T = torch.randn(len(part), model.dmconfig.num_channels, *model.dmconfig.input_dim, generator=generator)
        how = {"method": "ddpm", "steps": steps, "clip": (low, 1.0) if clip else False, "generator": generator, "x_T": x_T}
        x = samplers.final(samplers.trajectory(model, part, model.dmconfig.omega, **how))
        images.append(((x - low) / (1 - low)).clamp(0, 1).cpu())
    return torch.cat(images)


def judged(path, low, count, *, averaged=True, **how):
    """The result of lab.quality.evaluate for `count` images by the model of `path`, an epoch_<k>.pth; cached beside it.

    averaged: see `load`. how: see `draw`. Labels are in the proportions of the test set; an unconditional model ignores them.
    """
    said = "_".join(f"{name}={value}" for name, value in {"count": count, "averaged": averaged, **how}.items())
    kept = path.with_name(f"{path.stem}_{said}.json")
    if not kept.exists():
        labels = quality.proportional_labels(count)
        images = draw(load(path, averaged), labels, low, **how)
        checkpoint.write_text(kept, json.dumps(quality.evaluate(images, labels)))
    return json.loads(kept.read_text("utf-8"))


def measured(folder, moments, count, steps, seeds):
    """All WAYS of both KINDS judged at each moment, at the last under each of `seeds` seeds: {(kind, way, epoch): a dict a seed}."""
    rows = {}
    for kind, (way, (name, how)), epoch in itertools.product(KINDS, WAYS.items(), moments):
        path, few = place(folder, name, kind) / f"epoch_{epoch}.pth", min(steps, VARIANTS[name].settings["T"])
        drawn = range(seeds if epoch == moments[-1] else 1)
        rows[kind, way, epoch] = [judged(path, VARIANTS[name].low, count, steps=few, seed=seed, **how) for seed in drawn]
    return rows


def table(rows, kind, moments, losses):
    """The rows of one kind in Markdown, moment after moment, seeds as a range; losses: {variant: the last test noise loss}."""
    names = {"frechet": "Fréchet distance", "recall": "recall"} | ({"accuracy": "read as asked for"} if kind == "conditional" else {})

    def cell(way, epoch, name):
        values = [row[name] for row in rows[kind, way, epoch]]
        return " to ".join(dict.fromkeys(f"{value:.3f}" for value in (min(values), max(values))))

    lines = [f"| {kind} | test loss | {' | '.join(names.values())} |", "|---" * (len(names) + 2) + "|"]
    for way, (name, how) in WAYS.items():
        cells = [" → ".join(cell(way, epoch, column) for epoch in moments) for column in names]
        lines.append(f"| {way} | {losses[name]:.4f}{' (of the baseline)' if how else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


@torch.no_grad()
def loss_by_time(model, images, labels, times):
    """The noise loss of a conditional model at each of `times`, 1 to T, and the signal-to-noise ratio there, alpha_bar / (1 - alpha_bar).

    images: (N, C, H, W), scaled as the model's; labels: (N,). The noise is the same at each time. Returns two lists.
    """
    device, T = next(model.parameters()).device, model.dmconfig.T
    images, c = images.to(device), F.one_hot(labels, model.dmconfig.num_classes).to(device, torch.float32)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).to(device)
    losses, signal = [], []
    for t in times:
        at = model.scheduler(torch.tensor(t, device=device))
        x_t = at["sqrt_alpha_bar"] * images + at["sqrt_oneminus_alpha_bar"] * noise
        with evaluating(model), autocast(device, model.dmconfig.precision):
            eps = model.network(x_t, torch.full((len(c), 1, 1, 1), t / T, device=device), c)
        losses.append(model.loss_fn(eps.float(), noise).item())
        signal.append((at["alpha_t_bar"] / at["sqrt_oneminus_alpha_bar"] ** 2).item())
    return losses, signal
