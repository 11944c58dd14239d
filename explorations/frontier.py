"""What the notebooks on guidance and on few calls share: ways to draw within a budget of network calls, judged under several seeds."""

import csv
from bisect import bisect_right
from collections import namedtuple
from pathlib import Path
from statistics import mean, median

import matplotlib.pyplot as plt
import torch

from lab import quality, samplers
from lab.diffusion import redraw
from lab.diffusion.guidance_methods import autoguidance, cfg_pp, interval, plain, projected, rescaled
from lab.display import cell
from lab.training.checkpoint import write_rows

HIGH = 1.0  # sigma / alpha from which on the intervals here guide: noise as strong as the image
Way = namedtuple("Way", "name guidance omega method reader", defaults=[None])
Way.__doc__ = """A way to draw: its name, a method of lab.diffusion.guidance_methods, its weight, a sampler of lab.samplers, and what says
which digits are drawn again (lab.diffusion.redraw), or None."""
OMEGAS = {  # of each method; CFG++ interpolates, so that its omega lies below 0
    "plain": (0, 0.25, 0.5, 0.7, 1, 2),
    "interval": (0.4, 0.6, 0.8, 1, 2),
    "autoguidance": (0.5, 1, 2),
    "CFG++": (-0.8, -0.6, -0.4),
    "projected": (0.5, 1, 2),
    "rescaled": (0.5, 0.7, 1, 2),
    "interval, rescaled": (0.6, 1, 2),
    "interval, projected": (0.6, 1, 2),
}


def ways(weak):
    """The Ways that are compared, by OMEGAS. weak: the model that autoguidance leads away from."""
    guidance = {
        "plain": plain,
        "interval": interval(HIGH, float("inf")),
        "autoguidance": autoguidance(weak),
        "CFG++": cfg_pp,
        "projected": projected(),
        "rescaled": rescaled(),
        "interval, rescaled": interval(HIGH, float("inf"), rescaled()),
        "interval, projected": interval(HIGH, float("inf"), projected()),
    }
    sampler = lambda name: "ddpm" if name == "CFG++" else "sde"  # CFG++ needs a step that uses the predicted noise
    return [Way(name, guidance[name], omega, sampler(name)) for name, omegas in OMEGAS.items() for omega in omegas]


def redrawn(omega, reader):
    """The Way of lab.samplers' "best" in which what `reader` doubts is drawn again."""
    return Way("interval, projected, redrawn", samplers.usual(samplers.BEST, reader)["guidance"], omega, "sde", reader)


def calls(model, way, steps, weak=None):
    """How many calls of a network `steps` steps of a way take, those of the weaker one included; of one draw."""
    count = 0

    def add(*_):
        nonlocal count
        count += 1

    hooks = [each.network.register_forward_pre_hook(add) for each in (model, weak) if each is not None]
    try:
        samplers.sample(model, torch.tensor([0]), way.omega, method=way.method, steps=steps, guidance=way.guidance)
    finally:
        for hook in hooks:
            hook.remove()
    return count


def most_steps(model, way, budget, weak=None):
    """The largest number of steps of a way within `budget` calls, all draws of a digit together. ValueError where not even one is."""
    tries = 1 if way.reader is None else redraw.TRIES
    most = bisect_right(range(1, budget + 1), budget, key=lambda steps: tries * calls(model, way, steps, weak))
    if not most:
        raise ValueError(f"{budget} calls are too few for a step of {way.name}; allowed are {tries * calls(model, way, 1, weak)} or more")
    return most


def doubted(model, way, steps, count, seed=0):
    """Of `count` digits of a way those that its reader doubts: first and second draws, (N, C, H, W) each, and what was asked for, (N,)."""
    labels, generator = torch.arange(count) % 10, torch.Generator().manual_seed(seed)
    how = {"method": way.method, "steps": steps, "guidance": way.guidance, "generator": generator}
    draw = lambda labels: torch.cat([samplers.sample(model, part, way.omega, **how) for part in labels.split(samplers.BATCH)])
    images = draw(labels)
    rows = redraw.likely(way.reader, images, labels) < redraw.LIKELY
    again = draw(labels[rows]) if rows.any() else images[rows]
    return images[rows].cpu(), again.cpu(), labels[rows]


def judged(model, way, steps, seed, count):
    """quality.evaluate of `count` digits of a way, in the proportions of the test set."""
    labels, generator = quality.proportional_labels(count), torch.Generator().manual_seed(seed)
    how = {"method": way.method, "steps": steps, "guidance": way.guidance, "generator": generator, "reader": way.reader}
    drawn = [samplers.sample(model, part, way.omega, **how).cpu() for part in labels.split(samplers.BATCH)]
    return quality.evaluate(torch.cat(drawn), labels)


def compared(model, weak, budget, seeds, count, path, chosen=None):
    """Judge `chosen` Ways, by default ways(weak), with as many steps as `budget` calls allow: a row for each seed and way.

    The rows are kept in the CSV file `path`, where a stopped comparison goes on. It belongs to one model and one budget.
    """
    path = Path(path)
    rows = kept(path)
    done = {(row["name"], row["omega"], row["seed"], row["samples"]) for row in rows}
    chosen = ways(weak) if chosen is None else chosen
    steps = {way: most_steps(model, way, budget, weak) for way in chosen}
    for seed in range(seeds):
        for way in chosen:
            if (way.name, float(way.omega), seed, count) not in done:
                row = {"name": way.name, "omega": float(way.omega), "seed": seed, "method": way.method, "steps": steps[way]}
                rows.append({**row, **judged(model, way, steps[way], seed, count)})
                path.parent.mkdir(parents=True, exist_ok=True)
                write_rows(path, rows)
    asked = {(way.name, float(way.omega)) for way in chosen}
    return [row for row in rows if (row["name"], row["omega"]) in asked and row["seed"] < seeds and row["samples"] == count]


def kept(path):
    """The rows of an earlier comparison, with numbers as numbers."""
    if not path.exists():
        return []
    whole = ("seed", "steps", "samples")
    kind = {"name": str, "method": str, **dict.fromkeys(whole, int)}
    with open(path, newline="") as file:
        return [{key: kind.get(key, float)(value) for key, value in row.items()} for row in csv.DictReader(file)]


def by_way(rows, by="omega"):
    """Rows grouped by (name, row[by]), one a seed in each, in the order in which each group first comes: a dict."""
    found = {}
    for row in rows:
        found.setdefault((row["name"], row[by]), []).append(row)
    return found


def floors(row):
    """The Fréchet distance of a row in floors."""
    return row["frechet"] / row["frechet_floor"]


def table(rows):
    """A row for each way, for lab.display.table: medians over the seeds, with their ranges."""
    lines = []
    for (name, omega), found in by_way(rows).items():
        lines.append(
            {
                "guidance": name,
                "ω": f"{omega:g}",
                "steps": found[0]["steps"],
                "read as asked for": cell([row["accuracy"] for row in found], "{:.1%}"),
                "Fréchet distance, in floors": cell([floors(row) for row in found], "{:.2f}"),
                "recall": cell([row["recall"] for row in found], "{:.2f}"),
                "spread in a class": cell([row["spread"] for row in found], "{:.2f}"),
            }
        )
    return lines


def line(axis, found, value, **style):
    """Draw the median of value(row) over x for {x: rows, one a seed}, with bars from the least to the most."""
    values = {x: [value(row) for row in rows] for x, rows in found.items()}
    middle = [median(each) for each in values.values()]
    below, above = ([abs(end(each) - m) for m, each in zip(middle, values.values())] for end in (min, max))
    axis.errorbar(list(values), middle, [below, above], fmt="o-", ms=4, capsize=2, lw=1, **style)


def curves(rows, title):
    """A figure: accuracy, distance, recall and spread over the weight, a line for each method; medians, bars over the seeds."""
    measures = {  # and how far up is shown: far from plain guidance CFG++ lies outside
        "misread": (lambda row: 1 - row["accuracy"], 0.06),
        "Fréchet distance / its floor": (floors, 4),
        "recall": (lambda row: row["recall"], 1),
        "spread in a class": (lambda row: row["spread"], 2.5),
    }
    figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained", dpi=80)
    for axis, (label, (value, top)) in zip(axes.flat, measures.items()):
        for number, name in enumerate(OMEGAS):
            line(axis, {omega: each for (way, omega), each in by_way(rows).items() if way == name}, value, color=f"C{number}", label=name)
        axis.set(xlabel="ω", ylabel=label, ylim=(0.4 if label == "recall" else 0, top))
        axis.grid(alpha=0.3)
    axes[0, 1].legend(fontsize=8)
    figure.suptitle(title)
    return figure


def pareto_front(rows):
    """The ways on the Pareto front: no other is read better and closer to real digits, by the means over the seeds."""
    points = {key: (mean(row["accuracy"] for row in each), mean(map(floors, each))) for key, each in by_way(rows).items()}
    better = lambda one, other: one != other and one[0] >= other[0] and one[1] <= other[1]
    return [key for key, point in points.items() if not any(better(other, point) for other in points.values())]


def pareto_figure(rows, title):
    """A figure of accuracy against distance: a point for each way (the mean over the seeds), its weight beside those on the front."""
    figure, axis = plt.subplots(figsize=(8, 5.5), layout="constrained", dpi=90)
    front, ends = pareto_front(rows), []
    for number, name in enumerate(OMEGAS):
        found = {omega: each for (way, omega), each in by_way(rows).items() if way == name}
        x = [mean(map(floors, each)) for each in found.values()]
        y = [100 * (1 - mean(row["accuracy"] for row in each)) for each in found.values()]
        axis.plot(x, y, "o-", ms=5, lw=0.8, color=f"C{number}", label=name)
        for omega, *point in zip(found, x, y):
            if (name, omega) in front:
                ends.append(point)
                axis.annotate(f"{omega:g}", point, textcoords="offset points", xytext=(6, 5), fontsize=9)
    axis.plot(*zip(*sorted(ends)), "k:", lw=1, label="Pareto front, with ω")
    axis.set(xlabel="Fréchet distance / its floor", ylabel="read as another digit than asked for, %", title=title)
    axis.set(xlim=(0.7, 3.5), ylim=(-0.15, 3.5))  # what lies outside is far from the front
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)
    return figure
