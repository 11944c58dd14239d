"""Editing with a diffusion model: denoise, sample, edit, inpaint, two pictures in one. Each task is a walk, which yields its Steps.

model: a Process of lab.diffusion.process, or the course's model. Images are (B, C, H, W) on the model's own scale, its `range`;
`to_model` and `pixels` go from [0, 1] and back. A condition is what the model's `embed` takes, one for all images or one an image;
None is the null condition. All tasks take
  omega      the guidance weight: -1 is unconditional, 0 conditional
  steps      how many of the T time steps are taken, evenly from T down: `timesteps`
  clip       keep each predicted x_0 in the model's range
  generator  a torch.Generator for all noise
and raise ValueError for what cannot work, before any work is done.
"""

from collections import namedtuple

import torch
from torchvision.transforms.functional import gaussian_blur

from config import is_finite
from lab.check import check_generator, number, whole
from lab.diffusion import walk as walking
from lab.diffusion.guidance import average, composed, guided, seeing
from lab.diffusion.process import process
from lab.diffusion.steps import posterior
from lab.editing.views import IDENTITY, checked

OMEGA, STEPS = 2.0, 30
KERNEL, SIGMA, SIDE = 33, 2.0, 64  # of hybrid images: kernel and standard deviation in pixels, where an image has 64 a side
Settings = namedtuple("Settings", "times omega clip generator")  # times: [t, …, 0]


def timesteps(model, steps=STEPS):
    """The times of a task: `steps` of them evenly from T down, then 0, the clean image. Other tasks' `start` is an index into it."""
    T = process(model).T
    return walking.timesteps(T, whole("steps", steps, 1, T))


def noised(model, images, t, generator=None):
    """The forward process: x_t of images, t from 0 to T."""
    model = process(model)
    images, t = _images(model, images), whole("t", t, 0, model.T)
    check_generator(generator)
    return model.noised(images, t, model.noise(len(images), generator))


def clean(model, x_t, t, condition=None, omega=OMEGA, clip=True):
    """One-step denoising: the x_0 that the model predicts from x_t (B, C, H, W)."""
    model = process(model)
    x_t, t = _images(model, x_t, noisy=True), whole("t", t, 1, model.T)
    how = _settings(model, omega, 1, clip)
    ask = _guided(model, condition, len(x_t), how.omega)
    with torch.no_grad(), model.running():
        return seeing(model, ask, model.limit if how.clip else None)(x_t, t, t - 1).x_0


def denoise(model, x_t, start, condition=None, **how):
    """Iterative denoising of x_t (B, C, H, W), whose time is timesteps(model, steps)[start]."""
    model = process(model)
    x_t = _images(model, x_t, noisy=True)
    how = _from(start, _settings(model, **how))
    return _walk(model, _guided(model, condition, len(x_t), how.omega), len(x_t), how, lambda noise: x_t)


def sample(model, condition=None, count=None, **how):
    """New images from noise: one for each condition, or `count` of one condition or of none."""
    model = process(model)
    how, count = _settings(model, **how), _count(model, [condition], count)
    return _walk(model, _guided(model, condition, count, how.omega), count, how)


def edit(model, images, start, condition=None, **how):
    """Image to image: noise at timesteps(model, steps)[start], then denoising. SDEdit, Meng et al. 2022, arXiv:2108.01073.

    start: 0 leaves hardly anything of the image, `steps` all of it.
    """
    model = process(model)
    images = _images(model, images)
    how = _from(start, _settings(model, **how))
    ask = _guided(model, condition, len(images), how.omega)
    return _walk(model, ask, len(images), how, lambda noise: model.noised(images, how.times[0], noise()))


def inpaint(model, images, mask, condition=None, *, resample=1, **how):
    """Draw anew where `mask` is 1; all other pixels come out exactly as they went in. mask: (H, W) or (B, 1, H, W).

    resample: how often each step is taken, noised back in between: U in algorithm 1, RePaint, Lugmayr et al. 2022, arXiv:2201.09865.
    """
    model = process(model)
    images = _images(model, images)
    _mask(model, mask, len(images))
    whole("resample", resample, 1)
    how, anew = _settings(model, **how), mask.to(model.device).bool()

    def keep(x, t, noise):  # with this step's noise, which the pixels outside the mask have not used yet
        return torch.where(anew, x, model.noised(images, t, noise()))

    def start(noise):
        x = noise()
        return keep(x, how.times[0], lambda: x)

    return _walk(model, _guided(model, condition, len(images), how.omega), len(images), how, start, keep, resample)


def anagram(model, conditions, views, count=None, **how):
    """Images that show conditions[i] under views[i]: the mean of the noise seen in each, Geng et al. 2024, arXiv:2311.17919.

    views: of lab.editing.views. conditions[i]: one condition, or one an image. count: how many images, if each view has one condition.
    """
    model = process(model)
    if not all(isinstance(several, (list, tuple)) for several in (conditions, views)) or not len(conditions) == len(views) > 0:
        raise ValueError(f"conditions {conditions!r} and views {views!r}; allowed are a list of one view or more, and a condition for each")
    if model.count is not None:
        raise ValueError("this model enlarges pictures, which no view turns; allowed is one that draws from noise, as stage I")
    return _several(model, conditions, checked(views, model.shape, model.device), count, average, **how)


def hybrid(model, low, high, count=None, *, kernel=None, sigma=None, **how):
    """Images with the low frequencies of one condition, seen from afar, and the high ones of another: Geng et al. 2024, arXiv:2404.11615.

    kernel, sigma: of the Gaussian that separates them, in pixels; by default 33 and 2 at 64 pixels, in proportion at another size.
    """
    model = process(model)
    side = min(model.shape[1:])
    kernel = 2 * round((KERNEL * side / SIDE - 1) / 2) + 1 if kernel is None else kernel
    sigma = SIGMA * side / SIDE if sigma is None else sigma
    whole("kernel", kernel, 1, 2 * side - 1)  # the border is padded by reflection, once
    if kernel % 2 == 0 or not is_finite(sigma) or sigma <= 0:
        raise ValueError(f"kernel = {kernel}, sigma = {sigma!r}; allowed are an odd kernel and a sigma above 0")

    def combine(parts):
        return blur(parts[0], kernel, sigma) + parts[1] - blur(parts[1], kernel, sigma)

    return _several(model, (low, high), (IDENTITY, IDENTITY), count, combine, **how)


def blur(images, kernel, sigma):
    """Images (B, C, H, W) through a Gaussian of standard deviation sigma, cut off at kernel pixels."""
    return gaussian_blur(images, [kernel, kernel], [sigma, sigma])


def to_model(model, images):
    """Images in [0, 1] on the model's own scale."""
    black, white = process(model).range
    return images * (white - black) + black


def pixels(model, x):
    """Images on the model's own scale as pixels in [0, 1]."""
    black, white = process(model).range
    return ((x - black) / (white - black)).clamp(0, 1)


def _walk(model, ask, count, how, start=lambda noise: noise(), keep=None, rounds=1):
    """The walk by the DDPM posterior's steps. ask: of lab.diffusion.guidance, for `count` images. start(noise): x at the first time."""
    noise = lambda: model.noise(count, how.generator)
    predict = seeing(model, ask, model.limit if how.clip else None)
    return walking.walk(model, predict, posterior, how.times, lambda: start(noise), noise, keep, rounds)


def _several(model, conditions, views, count, combine, **how):
    how, count = _settings(model, **how), _count(model, conditions, count)
    rows = [_rows(model, condition, count) for condition in conditions]
    return _walk(model, composed(model, rows, views, how.omega, combine), count, how)


def _guided(model, condition, count, omega):
    return guided(model, _rows(model, condition, count), omega if condition is not None else -1)


def _rows(model, condition, count):
    """Conditions as rows (count, ...)."""
    rows = model.null_condition[None] if condition is None else model.embed(condition)
    if len(rows) not in (1, count):
        raise ValueError(f"{len(rows)} conditions for {count} images; allowed is one for all, or one an image")
    return rows.expand(count, *rows.shape[1:])


def _count(model, conditions, count):
    """How many images: `count`, or as many as there are conditions."""
    if count is None:
        count = model.count or max(1 if condition is None else len(model.embed(condition)) for condition in conditions)
    return _possible(model, whole("count", count, 1))


def _possible(model, count):
    if model.count not in (None, count):
        raise ValueError(f"{count} images; allowed are {model.count}: one for each of those that the model enlarges")
    return count


def _settings(model, omega=OMEGA, steps=STEPS, clip=True, generator=None):
    if not isinstance(clip, bool):
        raise ValueError(f"clip = {clip!r}; allowed is True or False")
    check_generator(generator)
    return Settings(timesteps(model, steps), number("omega", omega, OMEGA), clip, generator)


def _from(start, how):
    return how._replace(times=how.times[whole("start", start, 0, len(how.times) - 1) :])


def _images(model, images, noisy=False):
    """The images, checked, detached, on the model's device."""
    if not torch.is_tensor(images) or images.dtype != torch.float32:
        raise ValueError(f"images are {getattr(images, 'dtype', type(images).__name__)}; allowed is a tensor of float32")
    if images.ndim != 4 or images.shape[1:] != model.shape or len(images) == 0:
        raise ValueError(f"images have shape {tuple(images.shape)}; allowed is (B, {', '.join(map(str, model.shape))})")
    if not images.isfinite().all():
        raise ValueError("images hold NaN or infinite pixels; allowed are finite ones")
    black, white = model.range
    low, high = images.min(), images.max()
    if not noisy and (low < black - 1e-3 or high > white + 1e-3):
        raise ValueError(f"images go from {low:.4g} to {high:.4g}; allowed is {black:.4g} to {white:.4g}, as `to_model` gives them")
    _possible(model, len(images))
    return images.detach().to(model.device)


def _mask(model, mask, count):
    H, W = model.shape[1:]
    if not torch.is_tensor(mask) or tuple(mask.shape) not in ((H, W), (1, 1, H, W), (count, 1, H, W)):
        got = tuple(mask.shape) if torch.is_tensor(mask) else type(mask).__name__
        raise ValueError(f"mask is {got}; allowed is a tensor ({H}, {W}) or ({count}, 1, {H}, {W})")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("mask holds other values; allowed are 0, which stays, and 1, which is drawn anew")
