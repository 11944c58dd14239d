"""Draws the figures of the notebook: four algorithm boxes and the network.

    python pics/draw.py

writes pics/*.png beside this file, 1600 pixels wide and shown at 800. It needs matplotlib (3.8 or later) and nothing
else, neither LaTeX nor the internet, and two runs give the same bytes. The network is ConditionalUnet of ResUNet.py:
whoever changes a block there changes it here.
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image

MONO = "DejaVu Sans Mono"
PICS = Path(__file__).resolve().parent
WIDTH, DPI = 8.0, 200  # inches, pixels an inch
HIGH, PITCH, WIDE = 0.42, 0.72, {28: 1.6, 14: 1.3, 7: 1.05, 1: 0.9}  # the boxes of the U, by resolution
INK, GREY, SKIP = "#16181d", "#5f6672", "#b3541e"
FILLS = {
    "ResConvBlock": "#d6e6f7",
    "UnetDown": "#cfeae2",
    "UnetUp": "#fbe3c0",
    "FusionBlock": "#e5d9f2",
    "EmbedBlock": "#f8d9e3",
    "nn.Sequential": "#e8eaed",
}

# Symbols, as in the papers: bold for what has many components.
X, C, Z, EPS, NULL = r"\mathbf{x}", r"\mathbf{c}", r"\mathbf{z}", r"\mathbfit{ϵ}", r"\varnothing"
NORMAL = r"\mathcal{N}(\mathbf{0},\,\mathbf{I})"
NOISY = rf"\sqrt{{\bar{{\alpha}}_t}}\,{X}_0+\sqrt{{1-\bar{{\alpha}}_t}}\,{EPS}"


def canvas(height):
    """A figure of WIDTH x height inches and one set of axes over all of it, in inches from the top left."""
    plt.rcdefaults()
    plt.rcParams.update({"font.family": "cmr10", "mathtext.fontset": "cm", "text.color": INK, "axes.formatter.use_mathtext": True})
    figure = plt.figure(figsize=(WIDTH, height), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def save(figure, path):
    """Write the picture with a palette, which is a third of the bytes, and without metadata."""
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    plt.close(figure)


def algorithm(title, source, lines, path):
    """A box as in a paper. A line is (indent, text, comment); an indent of None requires and has no number."""
    heights = [0.74 if "dfrac" in text else 0.5 if "sqrt" in text else 0.4 for _, text, _ in lines]
    bottom = 0.68 + sum(heights) + 0.06
    figure, axes = canvas(bottom + 0.1)
    for y, width in ((0.1, 1.8), (0.6, 0.8), (bottom, 1.8)):
        axes.plot((0.1, WIDTH - 0.1), (y, y), color=INK, linewidth=width)
    axes.text(0.2, 0.43, title, fontsize=16)
    axes.text(WIDTH - 0.2, 0.43, source, fontsize=12, color=GREY, ha="right")
    y, number = 0.68, 0
    for (indent, text, comment), height in zip(lines, heights):
        y += height
        baseline = y - height / 2 + 0.07
        if indent is not None:
            number += 1
            axes.text(0.48, baseline, f"{number}:", fontsize=12, color=GREY, ha="right")
        axes.text(0.2 if indent is None else 0.64 + 0.35 * indent, baseline, text, fontsize=15)
        axes.text(WIDTH - 0.2, baseline, comment, fontsize=12, color=GREY, ha="right")
    save(figure, path)


def training(given, extra=()):
    """The lines of a training loop; `given` is what the network sees beside the noisy image and the time."""
    comma = f",\\,{given}" if given else ""
    drawn = f"({X}_0{comma})\\sim q({X}_0{comma})" if given else f"{X}_0\\sim q({X}_0)"
    return [
        (0, r"$\mathbf{repeat}$", ""),
        (1, f"${drawn}$", "an image and its one-hot label" if given else "an image of the data set"),
        *extra,
        (1, r"$t\sim\mathrm{Uniform}(\{1,\,\ldots,\,T\})$", "how far to noise it"),
        (1, rf"${EPS}\sim{NORMAL}$", "the noise to be predicted"),
        (
            1,
            rf"Gradient step on  $\nabla_{{\!\theta}}\,\left\Vert\,{EPS}-{EPS}_\theta"
            rf"\left({NOISY},\;t{comma}\right)\right\Vert^2$",
            "",
        ),
        (0, r"$\mathbf{until}$ converged", ""),
    ]


def sampling(noise, extra=()):
    """The lines of the walk from noise to an image; `noise` is the prediction that every step subtracts."""
    return [
        (0, rf"${X}_T\sim{NORMAL}$", "nothing but noise"),
        (0, r"$\mathbf{for}\;\;t=T,\,\ldots,\,1\;\;\mathbf{do}$", ""),
        *extra,
        (1, rf"${Z}\sim{NORMAL}$  if $t>1$,  else  ${Z}=\mathbf{{0}}$", "the last step adds none"),
        (
            1,
            rf"${X}_{{t-1}}=\dfrac{{1}}{{\sqrt{{\alpha_t}}}}\left({X}_t-\dfrac{{1-\alpha_t}}"
            rf"{{\sqrt{{1-\bar{{\alpha}}_t}}}}\,{noise}\right)+\sigma_t\,{Z}$",
            r"$\sigma_t=\sqrt{\beta_t}$",
        ),
        (0, r"$\mathbf{end\;for}$", ""),
        (0, rf"$\mathbf{{return}}\;\;{X}_0$", ""),
    ]


def algorithms():
    """The four boxes: arXiv:2006.11239, algorithms 1 and 2, and arXiv:2207.12598, algorithms 1 and 2."""
    ho, salimans = "Ho et al. 2020", "after Ho & Salimans 2022"
    algorithm(r"$\mathbf{Algorithm\;1}$  Training", ho, training(""), PICS / "ddpm_training.png")
    algorithm(r"$\mathbf{Algorithm\;2}$  Sampling", ho, sampling(rf"{EPS}_\theta({X}_t,\,t)"), PICS / "ddpm_sampling.png")
    require = r"$\mathbf{Require}$:  "
    mask = (1, rf"${C}\leftarrow{NULL}$  with probability $p_{{\mathrm{{mask}}}}$", rf"${NULL}$: the one-hot row filled with $-1$")
    algorithm(
        r"$\mathbf{Algorithm\;3}$  Training for classifier-free guidance",
        salimans,
        [(None, require + r"$p_{\mathrm{mask}}$", "how often the condition is hidden"), *training(C, [mask])],
        PICS / "cfg_training.png",
    )
    guided = rf"\tilde{{{EPS}}}"
    mix = (1, rf"${guided}=(1+\omega)\,{EPS}_\theta({X}_t,\,t,\,{C})-\omega\,{EPS}_\theta({X}_t,\,t,\,{NULL})$", "the network, asked twice")
    algorithm(
        r"$\mathbf{Algorithm\;4}$  Sampling with classifier-free guidance",
        salimans,
        [
            (None, require + rf"guidance $\omega$, condition ${C}$", r"$\omega=0$: conditional,   $\omega=-1$: unconditional"),
            *sampling(guided, [mix]),
        ],
        PICS / "cfg_sampling.png",
    )


def box(axes, x, y, width, height, kind, corner=0.06):
    """A rounded box centred on (x, y), filled with the colour of its kind."""
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            facecolor=FILLS[kind],
            edgecolor=INK,
            linewidth=0.8,
            boxstyle=f"round,pad=0,rounding_size={corner}",
        )
    )


def block(axes, x, y, kind, name, channels, width=1.3):
    """One attribute of the network; its colour is its class."""
    box(axes, x, y, width, HIGH, kind)
    axes.text(x, y - 0.085, name, family=MONO, fontsize=9.5, ha="center", va="center")
    axes.text(x, y + 0.095, f"${channels}$", fontsize=10, ha="center", va="center")


def chip(axes, x, y, name):
    """One of the four embeddings, by the name it has in forward."""
    box(axes, x, y, 0.56, 0.19, "EmbedBlock", corner=0.09)
    axes.text(x, y + 0.005, name, family=MONO, fontsize=9, ha="center", va="center")


def arrow(axes, start, end, colour=INK, width=1):
    """An arrow whose tip is at end."""
    axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, shrinkA=0, shrinkB=0, color=colour, linewidth=width))


def shape(channels, side):
    """(B, channels, side, side) as mathtext."""
    return rf"$(B,\,{channels},\,{side},\,{side})$"


def arm(axes, x, top, outward, blocks):
    """One arm of the U from the top down: its blocks, the embeddings that its fusions take, the shapes between."""
    for row, (kind, name, channels, out, side) in enumerate(blocks):
        y, edge = top + PITCH * row, x + outward * WIDE[side] / 2
        block(axes, x, y, kind, name, channels, WIDE[side])
        if kind == "FusionBlock":
            level = 1 if out == "2F" else 2  # the wide pair belongs to the wide fusion
            for letter, dy in (("t", -0.115), ("c", 0.115)):
                chip(axes, x + outward * 1.4, y + dy, f"{letter}emb{level}")
                arrow(axes, (x + outward * 1.12, y + dy), (edge, y + dy))
        if row + 1 < len(blocks):
            above, below = (x, y + HIGH / 2), (x, y + PITCH - HIGH / 2)
            arrow(axes, *((above, below) if outward < 0 else (below, above)))
            _, _, _, out, side = blocks[row if outward < 0 else row + 1]
            axes.text(x + 0.1, y + PITCH / 2, shape(out, side), fontsize=10, va="center")


def unet(axes, left=2.45, right=5.55, top=0.4):
    """The U: down one arm, across the bottom, up the other. A skip is an arrow straight across."""
    down = [
        ("ResConvBlock", "init_conv", r"C\to F", "F", 28),
        ("UnetDown", "downblock1", r"F\to F", "F", 14),
        ("FusionBlock", "fusion1", r"3F\to F", "F", 14),
        ("UnetDown", "downblock2", r"F\to 2F", "2F", 7),
        ("FusionBlock", "fusion2", r"6F\to 2F", "2F", 7),
        ("nn.Sequential", "to_vec", r"2F\to 2F", "2F", 1),
    ]
    up = [
        ("nn.Sequential", "outblock", r"2F\to F\to C", "C", 28),
        ("FusionBlock", "fusion4", r"3F\to F", "F", 28),
        ("UnetUp", "upblock2", r"2F\to F", "F", 28),
        ("FusionBlock", "fusion3", r"3F\to F", "F", 14),
        ("UnetUp", "upblock1", r"4F\to F", "F", 14),
        ("nn.Sequential", "upblock0", r"2F\to 2F", "2F", 7),
    ]
    arm(axes, left, top, -1, down)
    arm(axes, right, top, 1, up)
    for row, label in ((0, "skip: down0"), (2, "skip: down1"), (4, "skip: down2"), (5, shape("2F", 1))):
        y, skip = top + PITCH * row, row < 5
        colour = SKIP if skip else INK
        arrow(axes, (left + WIDE[down[row][4]] / 2, y), (right - WIDE[up[row][4]] / 2, y), colour, 2 if skip else 1)
        axes.text((left + right) / 2, y - 0.08, label, family=MONO, fontsize=9.5 if skip else 10, color=colour, ha="center")
    for x, symbol, start, end in (
        (left - 1.75, f"{X}_t", left - 1.3, left - WIDE[28] / 2),
        (right + 1.75, rf"{EPS}_\theta", right + WIDE[28] / 2, right + 1.3),
    ):
        arrow(axes, (start, top), (end, top))
        axes.text(x, top - 0.05, f"${symbol}$", fontsize=15, ha="center")
        axes.text(x, top + 0.16, shape("C", 28), fontsize=10, ha="center")


def embeddings(axes, top):
    """What t and c become before a fusion sees them."""
    inputs = ((0.15, "$t\\,/\\,T$", r"$(B,\,1,\,1,\,1)$", "timeembed", "1"), (4.05, f"${C}$", r"$(B,\,10)$", "conditionembed", "10"))
    for x, symbol, size, name, width in inputs:
        axes.text(x + 0.36, top + 0.21, symbol, fontsize=14, ha="center")
        axes.text(x + 0.36, top + 0.42, size, fontsize=10, ha="center")
        for level, channels, y in ((1, "2F", top), (2, "F", top + 0.54)):
            arrow(axes, (x + 0.76, top + 0.27), (x + 0.93, y))
            block(axes, x + 1.6, y, "EmbedBlock", f"{name}{level}", rf"{width}\to {channels}", 1.34)
            arrow(axes, (x + 2.27, y), (x + 2.45, y))
            chip(axes, x + 2.73, y, f"{name[0]}emb{level}")
            axes.text(x + 3.05, y, shape(channels, 1), fontsize=10, va="center")


def formula(text):
    """Plain text as mathtext: names of two letters and more upright, single letters slanted, spaces kept."""
    return "$" + re.sub(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}\d?", r"\\mathrm{\g<0>}", text).replace(" ", r"\ ") + "$"


def details(axes, top):
    """The legend: what a colour stands for and what the block computes."""
    rows = (
        (0, 0, "ResConvBlock", r"(r+h(g(x)))/\sqrt{2},  r=x if in=out, else r=g(x);  g and h are each GELU(BN(conv3(\cdot)))"),
        (0, 1, "UnetDown", "maxpool2(ResConv(x))"),
        (0, 2, "UnetUp", "ResConv(ResConv(up2([x, skip])))"),
        (0, 3, "EmbedBlock", "Linear(GELU(Linear(x)))"),
        (0, 4, "FusionBlock", "GELU(BN(conv1([x, t, c])))"),
        (1, 1, "to_vec", "GELU(avgpool7(x))"),
        (1, 2, "upblock0", "ReLU(GN8(up7(x)))"),
        (1, 3, "outblock", "conv3(ReLU(GN8(conv3([x, skip]))))"),
    )
    for column, row, name, text in rows:
        x, y = 0.15 + 4.12 * column, top + 0.27 * row
        box(axes, x + 0.1, y, 0.2, 0.16, name if name in FILLS else "nn.Sequential", corner=0.02)
        axes.text(x + 0.28, y + 0.05, name, family=MONO, fontsize=9.5)
        axes.text(x + (1.05 if column else 1.35), y + 0.05, formula(text), fontsize=11)
    notes = (
        r"A number is a kernel size: conv3 is a $3\times 3$ convolution; up, a transposed one, has its kernel for a stride.",
        r"BN: batch norm. GN8: group norm of 8 groups. [ , ] joins along the channels, $t$ and $c$ spread over the image.",
        r"$F$ is $\mathtt{n\_feat}$, and $C=1$ for MNIST. In the U, the wider a box, the larger the image that leaves it.",
    )
    for row, note in enumerate(notes):
        axes.text(0.15, top + 1.45 + 0.21 * row, note, fontsize=10.5, color=GREY)


def network():
    """ConditionalUnet of ResUNet.py: the U, its embeddings, its blocks."""
    figure, axes = canvas(7.95)
    for y in (4.45, 5.68):
        axes.plot((0.15, WIDTH - 0.15), (y, y), color="#c9cdd4", linewidth=0.8)
    unet(axes)
    embeddings(axes, 4.79)
    details(axes, 5.92)
    save(figure, PICS / "network.png")


if __name__ == "__main__":
    algorithms()
    network()
