"""One loop that trains a model, and the experiment around it: files, resuming, the best checkpoint."""

import contextlib
import csv
import hashlib
import io
import math
import random
import shutil
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from filelock import FileLock, Timeout
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lab import checkpoint, display
from lab.precision import autocast, choose


class TrainingError(Exception):
    """A run that cannot go on: a loss that is no number, an experiment in use, a full disk; the message says what to do."""


class Trainer:
    """A model with its optimizer, learning rate and averaged weights.

    model(images, labels) is the noise loss. dmconfig: config.DMConfig. steps: optimizer steps an epoch.
    `averaged` is the model that one tests and samples with: the moving average of the weights.
    """

    def __init__(self, model, dmconfig, steps, device):
        self.dmconfig, self.steps, self.device = dmconfig, steps, torch.device(device)
        self.step = 0  # optimizer steps done
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.ema = AveragedModel(self.model, multi_avg_fn=self._average, use_buffers=True)
        self.averaged = self.ema.module
        weights = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(weights, dmconfig.learning_rate, fused=self.device.type in ("cpu", "cuda"))
        self.dtype = choose(self.device, dmconfig.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def _average(self, averaged, weights, count):
        count = int(self.ema.n_averaged)  # the same number, on the CPU: nothing waits for the device
        decay = min((1 + count) / (10 + count), self.dmconfig.ema_decay)  # warm-up: forget the random start
        get_ema_multi_avg_fn(decay)(averaged, weights, count)

    @property
    def learning_rate(self):
        return self.dmconfig.learning_rate * rate(self.dmconfig, self.step, self.steps)

    def train_epoch(self, batches, bar):
        """One pass over `batches`; the loss of each step. Raises TrainingError where one is not finite."""
        self.model.train()
        losses = []
        for images, labels in batches:
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
            images, labels = images.to(self.device), labels.to(self.device)
            with autocast(self.device, self.dmconfig.precision):
                loss = self.model(images, labels)
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            losses.append(loss.item())
            self._check("loss", losses[-1], self.step + 1)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.step += 1
            self.ema.update_parameters(self.model)
            bar.update(len(images))
            bar.set_postfix_str(f"loss {losses[-1]:.4f}", refresh=False)
        return losses

    @torch.no_grad()
    def test(self, batches, bar):
        """The mean noise loss of the averaged model, with the same noise and time steps each time it is asked.

        Raises TrainingError where it is not finite.
        """
        self.averaged.eval()
        total = count = 0
        with seeded(self.device, "test"), autocast(self.device, self.dmconfig.precision):
            for images, labels in batches:
                loss = self.averaged(images.to(self.device), labels.to(self.device))
                total, count = total + loss.item() * len(images), count + len(images)
                bar.update(len(images))
        self._check("test loss", total / count, self.step)
        return total / count

    def _check(self, name, loss, step):
        if not math.isfinite(loss):
            raise TrainingError(
                f"the {name} is {loss} at step {step}, with learning rate {self.optimizer.param_groups[0]['lr']:.2g} "
                f"in {str(self.dtype)[6:]}; the last good checkpoint stays. Try a smaller learning_rate or lr_cycle, or precision='float32'"
            )

    def state_dict(self):
        return {
            "model_state_dict": self.averaged.state_dict(),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "raw_model_state_dict": self.model.state_dict(),
            "n_averaged": self.ema.n_averaged,
            "step": self.step,
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state):
        self.averaged.load_state_dict(state["model_state_dict"])
        self.model.load_state_dict(state["raw_model_state_dict"])
        self.optimizer.load_state_dict(state["optimizer_state_dict"])
        self.ema.n_averaged.copy_(state["n_averaged"])
        self.step = state["step"]
        if state["scaler"]:  # empty where the earlier part ran in another precision
            self.scaler.load_state_dict(state["scaler"])


def rate(dmconfig, step, steps):
    """What multiplies learning_rate at a step: one cycle (Smith 2018, arXiv:1803.09820) times the decay at each milestone."""
    passed = sum(step >= milestone * steps for milestone in dmconfig.multi_lr_milestones)
    decay = dmconfig.multi_lr_gamma**passed
    if not dmconfig.lr_cycle:
        return decay
    total = dmconfig.epochs * steps
    warm = 0.2 * total
    if step < warm:
        return decay * (1 + (dmconfig.lr_cycle - 1) * (1 - math.cos(math.pi * step / warm)) / 2)
    return decay * dmconfig.lr_cycle * (1 + math.cos(math.pi * min(1, (step - warm) / (total - warm)))) / 2


def placed(loader, device):
    """A loader that can hold its images on the device does so; any other stays as it is."""
    return loader.to(device) if hasattr(loader, "to") else loader


@contextlib.contextmanager
def seeded(device, *names):
    """Random numbers that depend on `names` alone inside; the ones outside go on as if nothing had been drawn."""
    device = torch.device(device)
    devices = [] if device.type == "cpu" else [torch.accelerator.current_device_index() if device.index is None else device.index]
    others = random.getstate(), np.random.get_state()  # for transforms that draw from these
    seed = int.from_bytes(hashlib.sha256("/".join(map(str, names)).encode()).digest()[:7], "big")
    with torch.random.fork_rng(devices, device_type=device.type):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(others[0])
            np.random.set_state(others[1])


def run(model, dmconfig, folder, train_loader, test_loader, device, picture, reporter=None):
    """Train `model` for dmconfig.epochs, everything that is worth keeping in `folder`; go on where an earlier run stopped.

    picture(model) is a figure of samples, drawn with the averaged model after each epoch. Returns the history, a dict an
    epoch. Random numbers depend on dmconfig.seed and the epoch alone, so a run that is killed and continued ends
    with the same weights, on a CPU to the bit. Raises ValueError where `folder` holds a run with other settings, and
    TrainingError where another process trains there, the disk has no room, or a loss is not finite.
    """
    folder, reporter = Path(folder), reporter or display.Reporter()
    with _alone(folder):
        _check_room(folder, model)
        train_loader, test_loader = placed(train_loader, device), placed(test_loader, device)
        trainer = Trainer(model, dmconfig, len(train_loader), device)
        data = {"train": _describe(train_loader), "test": _describe(test_loader)}
        history = _resume(trainer, folder / "last_checkpoint.pth", data, reporter)
        if history:
            _log(folder, history)  # a run that stopped after its checkpoint may not have come to these two
            _draw(picture, trainer, folder, len(history), again=False)
        for epoch in range(len(history) + 1, dmconfig.epochs + 1):
            reporter.line(f"epoch {epoch}/{dmconfig.epochs}")
            history.append(_epoch(trainer, epoch, train_loader, test_loader, reporter))
            reporter.line(_result(history[-1]))
            _keep(trainer, folder, history, data)
            _draw(picture, trainer, folder, epoch)
        return history


@contextlib.contextmanager
def _alone(folder):
    """`folder`, made where it must be, for the only process that trains in it; the lock of a process that died is free."""
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise TrainingError(f"another process is training {folder}; wait for it, or take another experiment name") from None
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written ({error}); take another experiment name, or run in another folder") from error
    with lock:
        yield


def _check_room(folder, model):
    """Better now than after an epoch: room for both checkpoints, of four and three times the weights, and one being written."""
    needed = 11 * sum(tensor.nbytes for tensor in model.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(f"{folder} has {free / 1e6:.0f} MB free, its checkpoints need {needed / 1e6:.0f} MB; make room there")


def _epoch(trainer, epoch, train_loader, test_loader, reporter):
    started = time.perf_counter()
    images = len(train_loader.dataset)
    learning_rate = trainer.learning_rate
    with seeded(trainer.device, trainer.dmconfig.seed, "epoch", epoch), reporter.bar(images, " images", "train") as bar:
        losses = trainer.train_epoch(train_loader, bar)
    trained = time.perf_counter()
    with reporter.bar(len(test_loader.dataset), " images", "test") as bar:
        test_loss = trainer.test(test_loader, bar)
    return {
        "epoch": epoch,
        "train_noise_loss": sum(losses) / len(losses),
        "test_noise_loss": test_loss,
        "learning_rate": learning_rate,
        "images_per_second": images / (trained - started),
        "seconds": time.perf_counter() - started,
    }


def _result(row):
    return f"train: train_noise_loss = {row['train_noise_loss']:.4f} test: test_noise_loss = {row['test_noise_loss']:.4f}"


def _keep(trainer, folder, history, data):
    """The checkpoints and the log after an epoch; the best first, so that `last` never speaks of one that is not there."""
    state = {"epoch": len(history), "dmconfig": trainer.dmconfig.to_dict(), "history": history, "data": data, **trainer.state_dict()}
    if history[-1] == min(history, key=lambda row: row["test_noise_loss"]):
        checkpoint.save(folder / "best_checkpoint.pth", {key: state[key] for key in (*checkpoint.KEYS, "history", "data")})
    checkpoint.save(folder / "last_checkpoint.pth", state)
    _log(folder, history)


def _log(folder, history):
    """The history as a table and as a picture."""
    table = io.StringIO()
    writer = csv.DictWriter(table, history[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    checkpoint.write_text(folder / "log.csv", table.getvalue())
    _save_figure(display.epoch_curve(history, f"Training of {folder.name}"), folder / "loss_curve.png")


def _draw(picture, trainer, folder, epoch, again=True):
    path = folder / "images" / f"generate_epoch_{epoch}.png"
    if again or not path.exists():
        trainer.averaged.eval()
        _save_figure(picture(trainer.averaged), path)


def _save_figure(figure, path):
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _resume(trainer, path, data, reporter):
    """Put an earlier run's state into the trainer, print what it had reached, and return its history."""
    if not path.exists():
        return []
    state = checkpoint.load(path, trainer.device, (*checkpoint.KEYS, "history", "data", *trainer.state_dict()))
    settings = type(trainer.dmconfig).from_dict(state["dmconfig"]).to_dict()  # one that is younger than the run has its default
    then = {**settings, "data": state["data"], "steps an epoch": state["step"] // state["epoch"]}
    now = {**trainer.dmconfig.to_dict(), "data": data, "steps an epoch": trainer.steps}
    differing = [f"{key} was {then[key]!r}, is {now[key]!r}" for key in now if now[key] != then[key]]
    if differing:
        raise ValueError(
            f"{path.parent} holds a run with other settings: {'; '.join(differing)}. Take another experiment name, or delete that folder"
        )
    trainer.load_state_dict(state)
    for row in state["history"]:
        reporter.line(f"epoch {row['epoch']}/{trainer.dmconfig.epochs}")
        reporter.line(_result(row))
    return state["history"]


def _describe(loader):
    """What a loader serves, as a plain string that another run's can be compared with."""
    return f"{type(loader.dataset).__name__}, {len(loader.dataset)} images"
