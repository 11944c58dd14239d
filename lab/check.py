"""Checks of arguments before any work. Each error says what was received and what is allowed."""

from numbers import Integral

import torch
import torch.nn.functional as F

from config import is_finite


def whole(name, value, least, most=None):
    """`value` as an int. Raises ValueError unless it is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least or (most is not None and value > most):
        limit = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise ValueError(f"{name} = {value!r}; allowed is a whole number {limit}")
    return int(value)


def number(name, value, example):
    """`value` as a float. Raises ValueError unless it is a finite number."""
    if not is_finite(value):
        raise ValueError(f"{name} = {value!r}; allowed is a finite number, as {example}")
    return float(value)


def is_whole(tensor):
    """Whether a tensor is of a type for whole numbers, as labels and time steps are."""
    return torch.is_tensor(tensor) and not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def one_hot(conditions, num_classes, batch, device):
    """Labels (B,) or one-hot rows (B, num_classes) as float rows on `device`. batch: the number of images, None for any.

    Raises ValueError for other shapes, types, labels and rows, and for another B.
    """
    K = num_classes
    if not torch.is_tensor(conditions):
        raise ValueError(f"conditions are {type(conditions).__name__}; allowed is a tensor of labels (B,) or rows (B, {K})")
    if conditions.ndim == 1 and is_whole(conditions):
        if conditions.numel() and (conditions.min() < 0 or conditions.max() >= K):
            raise ValueError(f"labels {int(conditions.min())} to {int(conditions.max())}; allowed is 0 to {K - 1}")
        rows = F.one_hot(conditions.long(), K)
    elif conditions.ndim == 2 and conditions.shape[1] == K:
        rows = conditions
        if not ((rows == 0) | (rows == 1)).all() or not (rows.sum(1) == 1).all():
            raise ValueError("one-hot rows hold one 1 each and 0 elsewhere; these do not")
    else:
        raise ValueError(
            f"conditions are {conditions.dtype} of shape {tuple(conditions.shape)}; "
            f"allowed are whole numbers (B,) from 0 to {K - 1}, or one-hot rows (B, {K})"
        )
    if len(rows) == 0 or batch not in (None, len(rows)):
        raise ValueError(f"{len(rows)} conditions; allowed is one for each of {batch or 'one or more'} images")
    return rows.to(device, torch.float32)


def check_generator(generator):
    """Raises ValueError unless `generator` is a torch.Generator or None."""
    if not isinstance(generator, (torch.Generator, type(None))):
        raise ValueError(f"generator = {generator!r}; allowed is a torch.Generator, as torch.Generator().manual_seed(0), or None")


def check_images(images, dmconfig):
    """Raises ValueError unless `images` are floats, not of 64 bits, of the shape (B, C, H, W) that dmconfig names."""
    wanted = (dmconfig.num_channels, *dmconfig.input_dim)
    if not torch.is_tensor(images) or not images.is_floating_point() or images.dtype == torch.float64:
        raise ValueError(f"images are {getattr(images, 'dtype', type(images))}; allowed is a tensor of floats, as torch.float32")
    if images.ndim != 4 or images.shape[1:] != wanted or len(images) == 0:
        raise ValueError(f"images have shape {tuple(images.shape)}; allowed is (B, {', '.join(map(str, wanted))})")


def finite(images):
    """`images` as they are. Raises ValueError where they hold NaN or infinity."""
    bad = int((~images.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{bad:,} of the images' {images.numel():,} values are not finite: the network's answers grew out of bounds. "
            "Try an omega nearer to 0, precision='float32', a flatter schedule, or other weights"
        )
    return images
