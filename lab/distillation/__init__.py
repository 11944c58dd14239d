"""Distillation: from a diffusion model to a network that draws in one, two or four calls. A method is a file with `objective`.

objective(teacher, dmconfig, loaders, folder, reporter) -> (loaders, loss): what the student is trained on, made of the training and
the test batches of pictures, and the function loss(student, images, labels), which may change with student.progress. dmconfig: the
student's, omega the guidance that it learns. folder: where a method keeps what it makes beforehand. The teacher is a ConditionalDDPM or
any other model with `network`, `scheduler` and `dmconfig`; the student a lab.diffusion.few.FewSteps that begins with its weights.
Those of FROM_PICTURES, which have no teacher but these weights, also go on from another student.
"""

import copy
import dataclasses
import json
from pathlib import Path

import torch

from config import DMConfig
from lab import display
from lab.diffusion import sampling
from lab.diffusion.few import METHOD, STEPS, FewSteps
from lab.distillation import consistency, drifting, moments, trajectory
from lab.training import checkpoint, experiment, pretrained

METHODS = {"trajectory": trajectory, "consistency": consistency, "drifting": drifting, "moments": moments}
FROM_PICTURES = ("drifting", "moments")  # learn from pictures: no guidance, and they go on from any student
SETTINGS = {"epochs": 6, "learning_rate": 1e-4, "lr_cycle": 5.0}  # unless chosen; a gentler cycle, as the weights are trained ones


def settings(teacher, method, **chosen):
    """The DMConfig of a student of `teacher` by a method of METHODS: SETTINGS, the method's OMEGA, and what is `chosen`.

    Raises ValueError for another method, for a teacher of too few times, and for a weight of guidance with those that have none.
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}; allowed is one of {', '.join(METHODS)}")
    least = trajectory.PATH_STEPS if method == "trajectory" else max(STEPS)
    if teacher.dmconfig.T < least:
        raise ValueError(f"the teacher has T = {teacher.dmconfig.T}; allowed is {least} or more with {method}, a time for each step")
    omega = METHODS[method].OMEGA
    if method in FROM_PICTURES and chosen.get("omega", omega) != omega:
        raise ValueError(f"omega = {chosen['omega']} with {method}; allowed is {omega}, as it learns from pictures and not from guidance")
    return dataclasses.replace(DMConfig.of(teacher.dmconfig), process=METHOD, **{**SETTINGS, "omega": omega, **chosen})


def distill(teacher, method, dmconfig, folder, loaders, device, picture, reporter):
    """Train a student of `teacher` by a method of METHODS and keep it in `folder`, as lab.training.experiment.run does.

    dmconfig: as `settings` makes it. loaders: training and test batches of pictures. Returns the history. Raises ValueError for a
    teacher that does not predict noise (those of FROM_PICTURES also take a FewSteps), and where `folder` was begun in another way.
    """
    if getattr(teacher, "output", "eps") != "eps" and not (method in FROM_PICTURES and isinstance(teacher, FewSteps)):
        raise ValueError(
            f"the teacher predicts {teacher.output!r}; allowed is a DDPM, and with {' and '.join(FROM_PICTURES)} also a network that draws "
            "in few calls"
        )
    folder = Path(folder)
    _begin(folder, method, teacher, dmconfig, loaders)
    teacher = teacher.to(device).eval().requires_grad_(False)
    pupil = copy.deepcopy(teacher).requires_grad_(True)
    pupil.dmconfig = dmconfig
    loaders, loss = METHODS[method].objective(teacher, dmconfig, loaders, folder, reporter)
    return experiment.run(FewSteps(pupil, loss), dmconfig, folder, *loaders, device, picture, reporter)


def _begin(folder, method, teacher, dmconfig, loaders):
    """Make `folder` and write down there what it depends on. Raises ValueError if it was begun with something else."""
    pictures = [len(loader.dataset) for loader in loaders]
    what = {"method": method, "omega": dmconfig.omega, "seed": dmconfig.seed, "pictures": pictures}
    what["teacher"] = pretrained.digest(teacher.state_dict(), {})
    path = folder / "begun.json"
    if path.exists() and json.loads(path.read_text("utf-8")) != what:
        raise ValueError(
            f"{folder} was begun by another method or teacher, or with other pictures, omega or seed; take another name, or delete it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(path, json.dumps(what, indent=1))


def picture(student):
    """A figure of ten digits of each class, a row a class, by one call of the network, from the same noise whenever it is drawn."""
    dmconfig, generator = student.dmconfig, torch.Generator().manual_seed(0)
    labels = torch.arange(dmconfig.num_classes).repeat_interleave(10)
    images = sampling.sample(student, labels, dmconfig.omega, method=METHOD, generator=generator)
    return display.grid_figure(images, 10, "one call of the network", dmconfig.classes or range(dmconfig.num_classes))
