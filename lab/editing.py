"""Editing with a diffusion model: denoise, sample, edit, inpaint, two pictures in one.

The loops know of no model but its Protocol, lab.reverse.Model. Each gives its Steps one by one, for the caller to keep, show or film;
`final` is the image at the end. Images are (B, C, H, W) on the model's own scale, `model.range`; `to_model` and `pixels` go from [0, 1]
and back. A condition is what `model.embed` takes, one for all images or one an image; None is the null condition. All loops take
  guidance   γ of eps_u + γ (eps_c - eps_u): 0 is unconditional, 1 conditional; DDPM.py says how it stands to omega
  steps      how many of the T time steps are taken, evenly from T down: `timesteps`
  clip       keep each predicted x_0 in the model's range
  generator  a torch.Generator for all noise
and raise ValueError for what cannot work, before any work is done.
"""

from numbers import Integral

import torch
from torchvision.transforms.functional import gaussian_blur

from config import is_finite
from lab import reverse, samplers
from lab.permutations import IDENTITY, checked

GUIDANCE, STEPS = 3.0, 30
final = samplers.final  # the images at the end of a loop, (B, C, H, W)
KERNEL, SIGMA, SIDE = 33, 2.0, 64  # of hybrid images: kernel and σ in pixels, where an image has 64 a side


def timesteps(model, steps=STEPS):
    """The times of a loop: `steps` of them evenly from T down, then 0, the clean image. A start index counts in this list."""
    _whole("steps", steps, 1, model.T)
    return [*samplers.timesteps(model.T, steps), 0]


def noised(model, images, t, generator=None):
    """The forward process: x_t of images, t from 0 to T."""
    images = _images(model, images)
    _whole("t", t, 0, model.T)
    return reverse.noised(reverse.levels(model)[t], images, reverse.randn(model, len(images), generator))


def clean(model, x_t, t, condition=None, guidance=GUIDANCE, clip=True):
    """One-step denoising: the x_0 that the model sees in x_t (B, C, H, W)."""
    x_t = _images(model, x_t, noisy=True)
    _whole("t", t, 1, model.T)
    _finite(guidance)
    eps, _ = _guided(model, condition, len(x_t), guidance)(x_t, t, t - 1)
    return reverse.clean(model, reverse.levels(model)[t], x_t, eps, clip)


def denoise(model, x_t, start, condition=None, **how):
    """Iterative denoising of x_t (B, C, H, W), which stands at the time timesteps(model, steps)[start]."""
    x_t = _images(model, x_t, noisy=True)
    how = _from(start, _settings(model, **how))
    return reverse.loop(model, _guided(model, condition, len(x_t), how.guidance), len(x_t), how, lambda noise: x_t)


def sample(model, condition=None, count=None, **how):
    """New images from noise: one for each condition, or `count` of one condition or of none."""
    how, count = _settings(model, **how), _count(model, [condition], count)
    return reverse.loop(model, _guided(model, condition, count, how.guidance), count, how)


def edit(model, images, start, condition=None, **how):
    """Image to image: noise at timesteps(model, steps)[start], then denoising. SDEdit, Meng et al. 2022, arXiv:2108.01073.

    start: 0 leaves hardly anything of the image, `steps` all of it.
    """
    images = _images(model, images)
    how = _from(start, _settings(model, **how))
    alpha_bar = reverse.levels(model)[how.times[0]]
    predict = _guided(model, condition, len(images), how.guidance)
    return reverse.loop(model, predict, len(images), how, lambda noise: reverse.noised(alpha_bar, images, noise()))


def inpaint(model, images, mask, condition=None, *, resample=1, **how):
    """Draw anew where `mask` is 1; all other pixels come out exactly as they went in. mask: (H, W) or (B, 1, H, W).

    resample: how often each step is taken, with noise back between: U in algorithm 1, RePaint, Lugmayr et al. 2022, arXiv:2201.09865.
    """
    images = _images(model, images)
    _mask(model, mask, len(images))
    _whole("resample", resample, 1)
    how, alpha_bar = _settings(model, **how), reverse.levels(model)
    anew = mask.to(model.device).bool()

    def keep(x, t, z):  # z is the noise in x: of each of its pixels one use is made, there or here
        return torch.where(anew, x, reverse.noised(alpha_bar[t], images, z))

    def start(noise):
        z = noise()
        return keep(z, how.times[0], z)

    predict = _guided(model, condition, len(images), how.guidance)
    return reverse.loop(model, predict, len(images), how, start, keep, resample)


def anagram(model, conditions, views, count=None, **how):
    """Images that show conditions[i] under views[i]: the mean of the noise seen in each, Geng et al. 2024, arXiv:2311.17919.

    views: of lab.permutations. conditions: for each view one, or one an image. count: how many images, where there is one a view.
    """
    if not all(isinstance(several, (list, tuple)) for several in (conditions, views)) or not len(conditions) == len(views) > 0:
        raise ValueError(f"conditions {conditions!r} and views {views!r}; allowed are a list of one view or more, and a condition for each")
    if model.count is not None:
        raise ValueError("this model enlarges pictures, which no view turns; allowed is one that draws from noise, as stage I")
    return _several(model, conditions, checked(views, model.shape, model.device), count, reverse.average, **how)


def hybrid(model, low, high, count=None, *, kernel=None, sigma=None, **how):
    """Images with the low frequencies of one condition, seen from afar, and the high ones of another: Geng et al. 2024, arXiv:2404.11615.

    kernel, sigma: of the Gaussian that parts them, in pixels; by default 33 and 2 at 64 pixels, in proportion at another size.
    """
    side = min(model.shape[1:])
    kernel = 2 * round((KERNEL * side / SIDE - 1) / 2) + 1 if kernel is None else kernel
    sigma = SIGMA * side / SIDE if sigma is None else sigma
    _whole("kernel", kernel, 1, 2 * side - 1)  # the border is reflected, once
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
    black, white = model.range
    return images * (white - black) + black


def pixels(model, x):
    """What a person sees of images on the model's own scale: [0, 1]."""
    black, white = model.range
    return ((x - black) / (white - black)).clamp(0, 1)


def _several(model, conditions, views, count, combine, **how):
    how, count = _settings(model, **how), _count(model, conditions, count)
    rows = [_rows(model, condition, count) for condition in conditions]
    return reverse.loop(model, reverse.composed(model, rows, views, how.guidance, combine), count, how)


def _guided(model, condition, count, guidance):
    return reverse.guided(model, _rows(model, condition, count), guidance if condition is not None else 0)


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
    _whole("count", count, 1)
    return _possible(model, count)


def _possible(model, count):
    if model.count not in (None, count):
        raise ValueError(f"{count} images; allowed are {model.count}: one for each of those that the model enlarges")
    return count


def _settings(model, guidance=GUIDANCE, steps=STEPS, clip=True, generator=None):
    _finite(guidance)
    if not isinstance(clip, bool):
        raise ValueError(f"clip = {clip!r}; allowed is True or False")
    if not isinstance(generator, (torch.Generator, type(None))):
        raise ValueError(f"generator = {generator!r}; allowed is a torch.Generator, as torch.Generator().manual_seed(0), or None")
    return reverse.Settings(timesteps(model, steps), guidance, clip, generator)


def _finite(guidance):
    if not is_finite(guidance):
        raise ValueError(f"guidance = {guidance!r}; allowed is a finite number, as {GUIDANCE}")


def _from(start, how):
    _whole("start", start, 0, len(how.times) - 1)
    return how._replace(times=how.times[start:])


def _whole(name, value, least, most=None):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least or (most is not None and value > most):
        limit = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ValueError(f"{name} = {value!r}; allowed is a whole number {limit}")


def _images(model, images, noisy=False):
    """The images on the model's device, without a graph behind them."""
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
