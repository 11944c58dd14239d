"""Trajectory distillation: the student learns where the teacher's guided path from x_t ends.

In the spirit of Zhou et al. 2024, "Simple and Fast Distillation of Diffusion Models", arXiv:2409.19681: the teacher's paths are drawn
once, with guidance, and the student is fitted to a few times on them. Here all times of a path have its end as their target.
"""

import safetensors.torch
import torch
from torch.utils.data import DataLoader, TensorDataset

from lab.diffusion.few import times
from lab.diffusion.process import process
from lab.diffusion.sampling import trajectory
from lab.training.checkpoint import write_bytes
from lab.training.trainer import seeded

OMEGA = 0.5  # of the teacher's paths
PATHS, TEST, PART = 20_000, 1_000, 500  # paths to train and to test on; how many are drawn and kept at once
STEPS = 8  # of DPM-Solver++ on a path; `times` is among its times


def objective(teacher, dmconfig, loaders, folder, reporter):
    """Paths of the teacher in place of pictures; the loss is the mean squared error of the end, for one time of the path each."""
    way, chosen = process(teacher), times(dmconfig.T)

    def loss(student, paths, labels):
        B, C = len(paths), way.shape[0]
        states = paths.float().view(B, -1, C, *way.shape[1:])  # (B, times and the end, C, H, W)
        at = _draw(B, len(chosen)).to(paths.device)
        t = torch.tensor(chosen, device=paths.device)[at]
        x_t = states[torch.arange(B), at]
        return (student.predict(x_t, t, labels) - states[:, -1]).square().mean()

    paths, labels = _paths(teacher, dmconfig, folder, reporter)
    parts = [TensorDataset(paths[:-TEST], labels[:-TEST]), TensorDataset(paths[-TEST:], labels[-TEST:])]
    return [DataLoader(part, dmconfig.batch_size, shuffle=part is parts[0]) for part in parts], loss


def _draw(count, times):
    """Which of the times each of a batch is asked for: half of them the first, pure noise."""
    late = torch.randint(1, times, (count,))
    return torch.where(torch.rand(count) < 0.5, 0, late)


def _paths(teacher, dmconfig, folder, reporter):
    """x at `times` and at the end, stacked along the channels, (N, (times + 1) C, H, W) in half precision, and the labels (N,).

    They are kept in parts in `folder`, each with random numbers of its own, so that a stopped run draws the rest.
    """
    kept, chosen = [], {*times(dmconfig.T), 0}
    with reporter.bar(PATHS + TEST, " paths", "paths of the teacher") as bar:
        for first in range(0, PATHS + TEST, PART):
            path = folder / f"paths_{first}.safetensors"
            if not path.exists():
                write_bytes(path, safetensors.torch.save(_part(teacher, dmconfig, chosen, first)))
            kept.append(safetensors.torch.load(path.read_bytes()))
            bar.update(PART)
    return (torch.cat([part[name] for part in kept]) for name in ("paths", "labels"))


def _part(teacher, dmconfig, chosen, first):
    device = next(teacher.parameters()).device
    with seeded(device, dmconfig.seed, "paths", first):
        labels = torch.arange(PART) % dmconfig.num_classes
        x_T = process(teacher).noise(PART)
        states = [
            torch.cat([step.x for step in trajectory(teacher, part, dmconfig.omega, steps=STEPS, x_T=x) if step.t in chosen], dim=1)
            for part, x in zip(labels.split(100), x_T.split(100))
        ]
    return {"paths": torch.cat(states).half().cpu(), "labels": labels}
