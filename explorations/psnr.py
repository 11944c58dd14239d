"""The peak signal-to-noise ratio (PSNR) of a denoiser, compared with that of a Gaussian blur."""

import math
from statistics import median

import matplotlib.pyplot as plt
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchvision.transforms.v2 import functional

from lab import samplers
from lab.display import cell
from lab.speed.fast import evaluating
from unet import noisy

BLURS = [k / 10 for k in range(26)]  # standard deviations in pixels that `best_blur` tries; 0 leaves an image as it is


@torch.no_grad()
def denoise(model, images):
    """Images (B, C, H, W) denoised by a `unet.Denoiser`."""
    device = next(model.parameters()).device
    with evaluating(model.network):
        return torch.cat([model.network(part.to(device)).cpu() for part in images.split(samplers.BATCH)])


def blur(images, sigma):
    """Images (B, C, H, W) under a Gaussian of `sigma` pixels, cut off at 3 sigma; 0 leaves them as they are."""
    return functional.gaussian_blur(images, 2 * math.ceil(3 * sigma) + 1, sigma) if sigma else images


def psnr(images, clean):
    """The peak signal-to-noise ratio in dB, 10 log10(1 / MSE), the mean over the images (B, C, H, W), whose peak is 1.

    The images are clamped to [0, 1] first, as they are shown. Raises ValueError where the two differ in shape.
    """
    if images.shape != clean.shape:
        raise ValueError(f"images have shape {tuple(images.shape)}, the clean ones {tuple(clean.shape)}; allowed is the same")
    return peak_signal_noise_ratio(images.clamp(0, 1), clean, data_range=1.0, dim=(1, 2, 3)).item()


def best_blur(images, sigma, generator=None):
    """Of BLURS, the one that has the highest PSNR on noisy(images, sigma)."""
    seen = noisy(images, sigma, generator)
    return max(BLURS, key=lambda width: psnr(blur(seen, width), images))


def compare(model, images, blurs, seeds):
    """The PSNR of noisy, blurred and denoised images for each of {sigma: width of the best blur}, each a list over seeds of the noise."""
    rows = []
    for sigma, width in blurs.items():
        seen = [noisy(images, sigma, torch.Generator().manual_seed(seed)) for seed in range(seeds)]
        made = {"noisy": seen, "blurred": [blur(part, width) for part in seen], "denoised": [denoise(model, part) for part in seen]}
        rows.append({"σ": sigma, "blur": width, **{name: [psnr(part, images) for part in parts] for name, parts in made.items()}})
    return rows


def table(rows):
    """Rows of `compare` for a table: median and range over the seeds, in dB."""
    names = {"noisy": "noisy, dB", "blurred": "blurred, dB", "denoised": "denoised, dB"}
    cells = [{head: cell(row[name], "{:.2f}") for name, head in names.items()} for row in rows]
    return [{"σ": row["σ"], "best blur, pixels": row["blur"], **part} for row, part in zip(rows, cells)]


def figure(rows, trained_at, title):
    """The medians of `compare` against sigma."""
    drawn, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name, style in (("denoised", "o-"), ("blurred", "s-"), ("noisy", "^:")):
        axes.plot([row["σ"] for row in rows], [median(row[name]) for row in rows], style, ms=4, label=name)
    axes.axvline(trained_at, color="gray", lw=0.8, ls="--", label="trained here")
    axes.set(title=title, xlabel="σ of the noise", ylabel="PSNR in dB")
    axes.grid(alpha=0.3)
    axes.legend()
    return drawn
