"""The tasks of lab.editing on MNIST's test digits, judged: tables for the notebook, a row of pictures each for README's figure."""

import functools
import itertools
import time

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from lab import editing, quality
from lab.editing.views import IDENTITY, ROTATION
from lab.quality import judge

NOISE = (0.25, 0.5, 0.75)  # t / T of the noisy images
SIGMAS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # of the Gaussian blur, the best of which is compared with the model
HALF = torch.zeros(28, 28)
HALF[14:] = 1  # the lower half is drawn anew


def real_digits(count, digit=None):
    """The first `count` of MNIST's test digits, or of one digit among them: images (N, 1, 28, 28) in [0, 1] and labels (N,)."""
    dataset = quality.real_mnist(train=False)
    labels = torch.as_tensor(dataset.targets)
    rows = (labels >= 0 if digit is None else labels == digit).nonzero().flatten()[:count]
    return dataset.data[rows].unsqueeze(1).float() / 255, labels[rows]


@functools.cache
def _judge():
    return judge.load()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def read(model, x):
    """The digits that the judge reads in images on the model's scale, (N,)."""
    return judge.read(_judge(), editing.pixels(model, x).contiguous())[0]


def _part(right):
    return f"{right.float().mean():.0%}"


def psnr(model, x, images):
    """PSNR in dB of each image of x, on the model's scale, against clean ones in [0, 1]: (N,)."""
    return peak_signal_noise_ratio(editing.pixels(model, x).cpu(), images.cpu(), data_range=1.0, reduction="none", dim=(1, 2, 3))


def denoised(model, images, part, steps=40):
    """Images in [0, 1] with noise at t / T = part, and three ways to get rid of it, each (N, 1, 28, 28) on the model's scale."""
    start = steps - round(part * steps)
    t = editing.timesteps(model, steps)[start]
    x_t = editing.noised(model, editing.to_model(model, images), t, seeded())
    # A blurred x_t keeps alpha_t of the image, so it is divided by that. The best σ is chosen on these very images.
    blurred = [editing.blur(x_t / model.alpha[t], 15, sigma) for sigma in SIGMAS]
    return {
        "noisy": x_t,
        "Gaussian blur": max(blurred, key=lambda x: psnr(model, x, images).mean()),
        "one step": editing.clean(model, x_t, t),
        "iterative": editing.final(editing.denoise(model, x_t, start, steps=steps, generator=seeded(1))),
    }


def denoising_table(model, images):
    """Rows of PSNR: mean and standard deviation over the images."""
    rows = []
    for part in NOISE:
        values = {name: psnr(model, x, images) for name, x in denoised(model, images, part).items()}
        cells = {name: f"{value.mean():.1f}" + (f" ± {value.std():.1f}" if len(value) > 1 else "") for name, value in values.items()}
        rows.append({"t / T": part, **cells})
    return rows


def quality_row(model, count, omega, steps, seed=0):
    """`count` digits judged; the seconds are CPU time, summed over the cores."""
    labels, started = quality.proportional_labels(count), time.process_time()
    images = editing.final(editing.sample(model, labels, omega=omega, steps=steps, generator=seeded(seed)))
    seconds = time.process_time() - started
    found = quality.evaluate(editing.pixels(model, images).cpu(), labels)
    row = {"γ": 1.0 + omega, "steps": steps, "digits": count, "read as asked for": f"{found['accuracy']:.1%}"}
    row |= {"Fréchet distance": f"{found['frechet']:.2f}", "its floor": f"{found['frechet_floor']:.2f}"}
    return row | {name: f"{found[name]:.2f}" for name in ("precision", "recall")} | {"seconds": f"{seconds:.0f}"}


def become(model, images, digit, starts, steps=30):
    """Images in [0, 1] edited into `digit` from each start index: rows with the share read as `digit` and the PSNR; and the images."""
    x, rows, results = editing.to_model(model, images), [], []
    for start in starts:
        results.append(editing.final(editing.edit(model, x, start, digit, steps=steps, generator=seeded())))
        row = {"start": f"{start} of {steps}", f"read as {digit}": _part(read(model, results[-1]) == digit)}
        rows.append({**row, "PSNR against the original": f"{psnr(model, results[-1], images).mean():.1f}"})
    return rows, results


def completed(model, images, steps=30):
    """The lower half of each image drawn anew as each class: (10 N, 1, 28, 28), and whether each is read as its class."""
    labels = torch.arange(10).repeat(len(images))
    x = editing.to_model(model, images).repeat_interleave(10, dim=0)
    x = editing.final(editing.inpaint(model, x, HALF, labels, steps=steps, generator=seeded()))
    return x, read(model, x) == labels


def resampling_row(model, images, labels, resample, steps):
    """The lower half redrawn without a class: the share still read as its digit, ± one standard error, and the Fréchet distance."""
    way = editing.inpaint(model, editing.to_model(model, images), HALF, resample=resample, omega=-1.0, steps=steps, generator=seeded())
    x = editing.final(way)
    right = (read(model, x) == labels).float()
    error = right.std() / len(right) ** 0.5
    row = {"resample": resample, "steps": steps, "digits": len(images), "read as before": f"{right.mean():.1%} ± {error:.1%}"}
    return {**row, "Fréchet distance": f"{quality.evaluate(editing.pixels(model, x).cpu(), labels)['frechet']:.2f}"}


def both_ways(model, x, pair, view=ROTATION):
    """Which images are read as pair[0], and under `view` as pair[1]: (N,) of bool."""
    return (read(model, x) == pair[0]) & (read(model, view.look(x)) == pair[1])


def anagrams(model, pair, count, view=ROTATION, **how):
    """Digits that are pair[0], and pair[1] under `view`: (count, 1, 28, 28) on the model's scale."""
    return editing.final(editing.anagram(model, pair, (IDENTITY, view), count, generator=seeded(), **how))


def pair_table(model, count, view=ROTATION, **how):
    """How many of `count` digits of each pair are read right both ways, the best first.

    Pairs (a, b) with a <= b only: if a view is its own inverse, (b, a) is (a, b) turned.
    """
    rows = []
    for pair in itertools.combinations_with_replacement(range(10), 2):
        right = both_ways(model, anagrams(model, pair, count, view, **how), pair, view)
        rows.append({"upright": pair[0], "turned": pair[1], "right both ways": int(right.sum()), "of": count})
    return sorted(rows, key=lambda row: -row["right both ways"])


def hybrids(model, low, high, count, sigma, **how):
    """Hybrid digits, and a row of the shares read as `high` from near, as `low` from afar, and as both.

    The control: the share of plain digits of `high` that are read as `low` from afar.
    """
    kernel = 2 * round(2 * sigma) + 1
    x = editing.final(editing.hybrid(model, low, high, count, sigma=sigma, kernel=kernel, generator=seeded(), **how))
    plain = editing.final(editing.sample(model, high, count, generator=seeded(), **how))
    near, far, control = (read(model, seen) for seen in (x, seen_from_afar(x, sigma), seen_from_afar(plain, sigma)))
    right = {f"near: {high}": near == high, f"far: {low}": far == low, "both": (near == high) & (far == low)}
    right[f"a plain {high} from afar: {low}"] = control == low
    return x, {"σ": sigma, **{name: _part(value) for name, value in right.items()}}


def seen_from_afar(x, sigma):
    """Images as seen from too far away for the high frequencies."""
    return editing.blur(x, 2 * round(2 * sigma) + 1, sigma)
