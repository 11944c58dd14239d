"""Grids of images, loss curves, tables and progress bars."""

import io
import os
import sys
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

SCALE = 4  # image files are enlarged by this factor


def grid(images, columns):
    """Images (N, C, H, W) in [0, 1] as one picture (rows * H, columns * W, 3), row by row; empty places are black.

    Raises ValueError for images that are not finite, which would be black too.
    """
    images = torch.as_tensor(images).detach().float().cpu()
    if not images.isfinite().all():
        raise ValueError(f"{int((~images.isfinite()).sum())} values of the images are not finite; was the model trained, and to the end?")
    images = images.expand(-1, 3, -1, -1)  # (N, 3, H, W)
    rows = -(-len(images) // columns)
    empty = images.new_zeros(rows * columns - len(images), *images.shape[1:])
    _, C, H, W = images.shape
    cells = torch.cat([images, empty]).view(rows, columns, C, H, W)
    return cells.permute(0, 3, 1, 4, 2).reshape(rows * H, columns * W, C).numpy()


def writable(path):
    """`path` as a Path. Raises ValueError if no picture can be written there; called before any work."""
    path = Path(path)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"{path}: allowed is a name that ends in .png, .jpg or .webp")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path}: the folder {path.parent.resolve()} does not exist or cannot be written")
    return path


def save_picture(picture, path):
    """Write an (H, W, 3) array in [0, 1] as an image file, SCALE times as large."""
    _image(picture).save(path)


def as_png(picture):
    """An (H, W, 3) array in [0, 1] as the bytes of a PNG file, SCALE times as large."""
    content = io.BytesIO()
    _image(picture).save(content, "PNG")
    return content.getvalue()


def save_film(pictures, path, seconds=3.0):
    """Write (H, W, 3) arrays in [0, 1] as a GIF that takes `seconds`, pauses on the last frame, and loops."""
    frames = [_image(picture) for picture in pictures]
    each = max(20, round(1000 * seconds / len(frames)))  # milliseconds; browsers slow anything faster down
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[each] * (len(frames) - 1) + [2000], loop=0)


def _image(picture):
    image = Image.fromarray((np.asarray(picture) * 255).round().astype(np.uint8))
    return image.resize((image.width * SCALE, image.height * SCALE), Image.Resampling.NEAREST)


def grid_figure(images, columns, title, row_labels=None, column_labels=None, row_title=None, column_title=None):
    """A figure of `grid(images, columns)`, a label for each row and column."""
    picture = grid(images, columns)
    rows = -(-len(images) // columns)
    H, W = picture.shape[0] // rows, picture.shape[1] // columns
    figure, axes = plt.subplots(figsize=(0.55 * columns * W / H + 0.9, 0.55 * rows + 0.9), layout="constrained")
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title)
    axes.set_yticks((np.arange(rows) + 0.5) * H - 0.5, row_labels if row_labels is not None else [""] * rows)
    axes.set_xticks((np.arange(columns) + 0.5) * W - 0.5, column_labels if column_labels is not None else [""] * columns)
    axes.set_ylabel(row_title)
    axes.set_xlabel(column_title)
    axes.tick_params(length=0)
    return figure


def step_curve(losses, title="Noise loss while training"):
    """A figure of the loss after each step, with its moving average."""
    losses = np.asarray(losses)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.semilogy(np.arange(1, len(losses) + 1), losses, color="tab:blue", alpha=0.35, label="each step")
    width = max(1, len(losses) // 20)
    if width > 1:
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        axes.semilogy(np.arange(width, len(losses) + 1), smooth, color="tab:blue", label=f"mean of {width} steps")
    axes.set(title=title, xlabel="training step", ylabel="noise loss (mean squared error)")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def epoch_curve(history, title):
    """A figure of train and test loss against epochs; history: one dict an epoch, as lab.training keeps it."""
    epochs = [row["epoch"] for row in history]
    best = min(history, key=lambda row: row["test_noise_loss"])
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.semilogy(epochs, [row["train_noise_loss"] for row in history], "o-", ms=4, label="train (weights as they change)")
    axes.semilogy(epochs, [row["test_noise_loss"] for row in history], "s-", ms=4, label="test (averaged weights)")
    label = f"best: {best['test_noise_loss']:.4f} after epoch {best['epoch']}"
    axes.plot(best["epoch"], best["test_noise_loss"], "*", ms=14, color="tab:red", label=label)
    axes.set(title=title, xlabel="epoch", ylabel="noise loss (mean squared error)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    for pick in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        pick("{x:.2g}")  # 0.05 rather than 5 x 10^-2
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def cell(values, form):
    """The median of values and their range, each in the format `form`; one number where they do not differ."""
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(rows):
    """Dicts with the same keys, a row each, as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


class Reporter:
    """Prints the progress of a run: lines that stay, and bars that disappear. A silent one prints nothing."""

    def __init__(self, silent=False):
        self.silent = silent
        self.place = None  # of the bars in a notebook's output: one for all, as each would leave an empty line

    def line(self, text):
        if not self.silent:
            print(text, flush=True)

    def bar(self, total, unit, description):
        """A progress bar that disappears when closed. Shown in a terminal and in a notebook, nowhere else."""
        self.place = self.place or (None if self.silent else _notebook_line())
        if self.place is None:
            return tqdm(total=total, unit=unit, desc=description, leave=False, dynamic_ncols=True, disable=self.silent or None)
        return tqdm(total=total, unit=unit, desc=description, leave=False, ncols=90, mininterval=0.5, file=self.place)


class Bars(Reporter):
    """Bars and no lines, for callers that print their own results."""

    def line(self, text):
        pass


class _NotebookLine:
    """A file that shows the last line written to it in one place of a notebook's output.

    tqdm.notebook would leave a widget there, whose state is lost in a saved notebook, which GitHub then cannot show.
    """

    def __init__(self, display):
        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text):
        self.handle.update({"text/plain": text.strip("\r\n ")}, raw=True)

    def flush(self):
        pass


def _notebook_line():
    if "IPython" not in sys.modules:
        return None
    from IPython import display, get_ipython

    return _NotebookLine(display.display) if hasattr(get_ipython(), "kernel") else None
