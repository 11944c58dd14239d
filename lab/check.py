"""What is asked of values before any work: each says what was received and what is allowed."""

from numbers import Integral

import torch

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


def finite(images):
    """`images` as they are. Raises ValueError where they hold NaN or infinity."""
    bad = int((~images.isfinite()).sum())
    if bad:
        raise ValueError(
            f"{bad:,} of the images' {images.numel():,} values are not finite: the network's answers grew out of bounds. "
            "Try an omega nearer to 0, precision='float32', a flatter schedule, or other weights"
        )
    return images
