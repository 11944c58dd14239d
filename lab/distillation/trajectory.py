"""Trajectory distillation: the student learns where the teacher's guided path from x_t ends.

In the spirit of Zhou et al. 2024, "Simple and Fast Distillation of Diffusion Models", arXiv:2409.19681: the teacher's paths are drawn
once, with guidance, and the student is fitted to a few times on them. Here all times of a path have its end as their target.
"""

import safetensors.torch
import torch
from torch.utils.data import DataLoader, TensorDataset

from lab.diffusion.few import times
from lab.diffusion.process import process
from lab.diffusion.sampling import BATCH, trajectory
from lab.training.checkpoint import write_bytes
from lab.training.trainer import seeded

OMEGA = 0.5  # of the teacher's paths
PICTURES = 3  # of the set, for a path, as that takes 16 calls
PART = 500  # paths that are drawn and kept at once
PATH_STEPS = 8  # of DPM-Solver++; `times` is among its times


def objective(teacher, dmconfig, loaders, folder, reporter):
    """Paths of the teacher in place of pictures; the loss is the mean squared error of the end, for one time of the path each."""
    way, chosen = process(teacher), times(dmconfig.T)

    def loss(student, paths, labels):
        B, C = len(paths), way.shape[0]
        states = paths.view(B, -1, C, *way.shape[1:])  # (B, times and the end, C, H, W)
        at = _draw(B, len(chosen)).to(paths.device)
        t = torch.tensor(chosen, device=paths.device)[at]
        x_t = states[torch.arange(B), at]
        return (student.predict(x_t, t, labels) - states[:, -1]).square().mean()

    train, test = (max(1, len(each.dataset) // PICTURES) for each in loaders)
    paths = _paths(teacher, dmconfig, train + test, folder, reporter)
    parts = [TensorDataset(*(tensor[rows] for tensor in paths)) for rows in (slice(train), slice(train, None))]
    return [DataLoader(part, dmconfig.batch_size, shuffle=part is parts[0]) for part in parts], loss


def _draw(B, count):
    """For each of a batch the index of one of `count` times, (B,): for half of them the first, pure noise."""
    late = torch.randint(1, count, (B,))
    return torch.where(torch.rand(B) < 0.5, 0, late)


def _paths(teacher, dmconfig, count, folder, reporter):
    """x at `times` and at the end, stacked along the channels, (count, (times + 1) C, H, W), and the labels (count,).

    They are kept in parts in `folder`, in half precision, each with random numbers of its own, so that a stopped run draws the rest.
    """
    kept, chosen = [], {*times(dmconfig.T), 0}
    with reporter.bar(count, " paths", "paths of the teacher") as bar:
        for first in range(0, count, PART):
            number = min(PART, count - first)
            path = folder / f"paths_{first}.safetensors"
            if not path.exists():
                write_bytes(path, safetensors.torch.save(_part(teacher, dmconfig, chosen, first, number)))
            kept.append(safetensors.torch.load_file(path))
            bar.update(number)
    paths, labels = (torch.cat([part[name] for part in kept]) for name in ("paths", "labels"))
    return paths.float(), labels  # float32, as autocast on CPUs refuses float16


def _part(teacher, dmconfig, chosen, first, number):
    device = next(teacher.parameters()).device
    with seeded(device, dmconfig.seed, "paths", first):
        labels = torch.arange(number) % dmconfig.num_classes
        x_T = process(teacher).noise(number)
        states = [
            torch.cat([step.x for step in trajectory(teacher, part, dmconfig.omega, steps=PATH_STEPS, x_T=x) if step.t in chosen], dim=1)
            for part, x in zip(labels.split(BATCH), x_T.split(BATCH))
        ]
    return {"paths": torch.cat(states).half().cpu(), "labels": labels}
