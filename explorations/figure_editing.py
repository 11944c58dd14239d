"""Draws README's figure of editing, a row for each task of lab.editing on the weights that ship.

    PYTHONPATH=. python explorations/figure_editing.py

in the project's folder writes pics/editing.png; it takes a minute on two cores, and two runs on one machine give the same picture.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import drawings
import editing_on_digits as on
from lab import display, editing
from lab.diffusion.process import ConditionalProcess
from lab.editing.views import ROTATION
from utils import load_model

COLUMNS = 10


def rows(model):
    """(title, ten images in [0, 1], a name for each) of each task."""
    digits, _ = on.real_digits(2)
    clean = editing.to_model(model, digits.to(model.device))
    ways = on.denoised(model, digits, 0.5)
    shown = torch.stack([clean, *ways.values()], dim=1).flatten(0, 1)  # one digit after the other
    yield "Denoising, t / T = 0.5", shown, ["clean", "noisy", "blur", "one step", "iterative"] * 2

    classes = torch.arange(10)
    drawn = editing.final(editing.sample(model, classes, generator=on.seeded()))
    yield f"From noise, γ = {1 + editing.OMEGA:g}", drawn, classes.tolist()

    starts = (15, 12, 9, 6)
    sources = ((on.real_digits(24, digit=1)[0], 7), (drawings.seven(), 2))  # of 24 ones the first is shown
    edited = [[editing.to_model(model, x.to(model.device)), *on.become(model, x, digit, starts)[1]] for x, digit in sources]
    names = [[source, *(f"start {start}" for start in starts)] for source in ("a test 1", "a drawing")]
    yield "Image to image: the 1 as a 7, the drawing as a 2", torch.cat([x[:1] for x in sum(edited, [])]), sum(names, [])

    given = drawings.seven()
    completed, _ = on.completed(model, given)
    half = editing.to_model(model, (given * (1 - on.HALF)).to(model.device))
    yield "Lower half drawn anew", torch.cat([half, completed[1:]]), ["given", *range(1, 10)]

    turning = on.anagrams(model, (6, 9), 5, omega=6.0)
    yield "Anagram: 6, turned 9", torch.stack([turning, ROTATION.look(turning)], dim=1).flatten(0, 1), ["upright", "turned"] * 5

    near, _ = on.hybrids(model, 8, 3, 5, 1.5)
    far = on.seen_from_afar(near, 1.5)
    yield "Hybrid: 3 near, 8 afar", torch.stack([near, far], dim=1).flatten(0, 1), ["near", "afar"] * 5


def figure(model):
    drawn = list(rows(model))
    figure, axes = plt.subplots(len(drawn), 1, figsize=(8, 1.05 * len(drawn)), layout="constrained")
    for axis, (title, images, names) in zip(axes, drawn):
        axis.imshow(display.grid(editing.pixels(model, images), COLUMNS), interpolation="nearest")
        axis.set_xticks((np.arange(COLUMNS) + 0.5) * images.shape[-1] - 0.5, names, fontsize=7)
        axis.set_yticks([])
        axis.tick_params(length=0, pad=1)
        axis.set_title(title, fontsize=9, loc="left", pad=2)
    return figure


if __name__ == "__main__":
    figure(ConditionalProcess(load_model())).savefig("pics/editing.png", dpi=150)
