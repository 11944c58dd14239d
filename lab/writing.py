"""Write a string of digits, with a model that draws one digit an image or with one that draws several side by side."""

import torch

from lab import samplers

SIDE = 28  # pixels of a digit


def digits(text):
    """The digits of a string, a list of whole numbers. Raises ValueError for an empty string or any other character."""
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no string of the digits 0 to 9, as 00297375")
    return [int(digit) for digit in text]


def width(model):
    """How many digits an image of `model` shows: one of 10 classes at 28 x 28, two of 100 at 28 x 56. Raises ValueError for others."""
    config = model.dmconfig
    count = len(str(config.num_classes)) - 1
    numbers = all(name.isdecimal() and int(name) == k for k, name in enumerate(config.classes))
    if not numbers or count < 1 or config.num_classes != 10**count or tuple(config.input_dim) != (SIDE, SIDE * count):
        size = " x ".join(map(str, config.input_dim))
        what = config.named() if config.classes else f"{config.num_classes} classes"
        raise ValueError(f"the model draws {what} at {size}; allowed are digits: 10 at 28 x 28, 100 at 28 x 56, and so on")
    return count


def write(model, text, omega, **how):
    """The digits of `text` in a row, (len(text), C, 28, 28) in [0, 1]; further arguments are those of `lab.samplers.sample`.

    If the digits do not fill the last image, the last digit is repeated, and the copy is cut off again.
    """
    row, count = digits(text), width(model)
    row += [row[-1]] * (-len(row) % count)
    labels = torch.tensor([int("".join(map(str, row[i : i + count]))) for i in range(0, len(row), count)])  # (ceil(len / count),)
    images = torch.cat([samplers.sample(model, part, omega, **how) for part in labels.split(samplers.BATCH)])
    return split(images)[: len(text)]


def split(images):
    """The digits of images (N, C, 28, 28 k), from left to right: (N k, C, 28, 28)."""
    return torch.stack(images.split(SIDE, dim=-1), dim=1).flatten(0, 1)
