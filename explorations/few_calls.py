"""To compare networks that draw in few calls: train one, judge its digits, find the worst, take the time."""

import copy
import dataclasses
import time
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import torch

from frontier import by_way, floors, kept, line
from lab import display, distillation, quality, samplers
from lab.diffusion.few import STEPS, FewSteps
from lab.display import cell
from lab.quality import judge
from lab.training import data
from utils import best_device, load_model, make_dataloader

TEACHER = "teacher"
QUIET = display.Reporter(silent=True)


def trained(teacher, method, name, limit=None, **chosen):
    """A student of `teacher` by a method of lab.distillation, and its minutes of training; kept in ./save/`name`, where it resumes.

    limit: the number of pictures to train on, and a sixth as many to test, or None for all. chosen: of the student's DMConfig. Raises
    ValueError as lab.distillation does.
    """
    dmconfig, folder = distillation.settings(teacher, method, **chosen), Path("save") / name
    parts = ((True, limit), (False, limit and max(1, limit // 6)))
    loaders = [make_dataloader(data.NORMALISED, dmconfig.batch_size, train=train, limit=most) for train, most in parts]
    history = distillation.distill(teacher, method, dmconfig, folder, loaders, best_device(), distillation.picture, QUIET)
    return load_model(folder / "best_checkpoint.pth"), sum(row["seconds"] for row in history) / 60


def judged(models, seeds, count, folder):
    """Judge `count` digits of each of `models`, a dict: of students by 1, 2 and 4 calls, under each seed; of the teacher by 19, under one.

    Rows as quality.sweep gives them, with `name` and `calls`. Those of each model are kept in a CSV file in `folder` and not drawn again.
    """
    rows, folder = [], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        student = isinstance(model, FewSteps)
        how = ([model.dmconfig.omega], [samplers.FEW], list(STEPS), seeds) if student else ([0.5], ["sde"], [samplers.STEPS], 1)
        path, asked = folder / f"{name}.csv", {(steps, seed, count) for steps in how[2] for seed in range(how[3])}
        found = kept(path)
        if {(row["steps"], row["seed"], row["samples"]) for row in found} != asked:
            found = quality.sweep(model, *how, count, path, QUIET)
        rows += [{"name": name, "calls": row["steps"] if student else 2 * row["steps"] + 1, **row} for row in found]
    return rows


def table(rows):
    """A row for each network and number of calls, for lab.display.table: medians over the seeds, with their ranges."""
    return [
        {
            "network": name,
            "calls": calls,
            "read as asked for": cell([row["accuracy"] for row in found], "{:.2%}"),
            "Fréchet distance, in floors": cell([floors(row) for row in found], "{:.2f}"),
            "recall": cell([row["recall"] for row in found], "{:.2f}"),
            "spread in a class": cell([row["spread"] for row in found], "{:.2f}"),
        }
        for (name, calls), found in by_way(rows, "calls").items()
    ]


def curves(rows, title):
    """A figure: digits misread and distance over the calls, a line for each student, the teacher dotted; medians, bars over the seeds."""
    measures = {"read as another digit than asked for, %": lambda row: 100 * (1 - row["accuracy"]), "Fréchet distance / its floor": floors}
    figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained", dpi=80)
    for axis, (label, value) in zip(axes, measures.items()):
        for number, name in enumerate(dict.fromkeys(row["name"] for row in rows)):
            found = {calls: each for (whose, calls), each in by_way(rows, "calls").items() if whose == name}
            if name == TEACHER:
                ((calls, each),) = found.items()
                axis.axhline(median(map(value, each)), color="black", ls=":", label=f"{name}, {calls} calls")
            else:
                line(axis, found, value, color=f"C{number}", label=name)
        axis.set(xlabel="calls of the network", ylabel=label, xscale="log", yscale="log")  # a method that fails lies far above
        axis.set_xticks(STEPS, STEPS)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle(title)
    return figure


def worst(model, steps, count, most=20, seed=0):
    """The `most` of `count` digits that the judge is least sure of: images (most, C, H, W), and pairs (asked for, read)."""
    labels, generator = quality.proportional_labels(count), torch.Generator().manual_seed(seed)
    how = {"steps": steps, "generator": generator}
    images = torch.cat([samplers.sample(model, part, model.dmconfig.omega, **how).cpu() for part in labels.split(samplers.BATCH)])
    reader = judge.load()
    read, features = judge.read(reader, images)
    with torch.no_grad():
        sure = reader.classify(features).softmax(1)[torch.arange(count), labels]
    least = sure.argsort()[:most]
    return images[least], list(zip(labels[least].tolist(), read[least].tolist()))


def seconds(model, count, rounds, omega, precision="float32", **how):
    """How long `count` digits take, in seconds: a list, one a round, after a first that is not counted."""
    timed, taken = copy.copy(model), []
    timed.dmconfig = dataclasses.replace(model.dmconfig, precision=precision)
    for _ in range(rounds + 1):
        started = time.perf_counter()
        samplers.sample(timed, torch.arange(count) % model.dmconfig.num_classes, omega, **how)
        taken.append(time.perf_counter() - started)
    return taken[1:]
