"""One loop that trains a model: on a CPU, one GPU, or several processes under `accelerate launch`."""

import contextlib
import hashlib
import math
import random

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from config import DMConfig
from lab.speed.precision import autocast, choose
from lab.training import checkpoint


class TrainingError(Exception):
    """A run that cannot go on: a loss that is not finite, an experiment in use, a full disk; the message says what to do."""


class Trainer:
    """A model with its optimizer, learning rate and averaged weights.

    model(images, labels) is the noise loss. dmconfig: whatever DMConfig.of takes. steps: optimizer steps an epoch.
    `averaged` is the model for testing and sampling, with the moving average of the weights.
    Several processes share each batch, and hold the same weights and statistics after each step.
    """

    def __init__(self, model, dmconfig, steps, device):
        self.accelerator = accelerator()
        dmconfig = DMConfig.of(dmconfig)
        self.dmconfig, self.steps, self.device = dmconfig, steps, torch.device(device)
        self.step = 0  # optimizer steps done
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.ema = averaging(self.model, dmconfig.ema_decay)
        self.averaged = self.ema.module
        self.parallel = self.accelerator.prepare_model(self.model)  # the same weights, their gradients averaged over the processes
        weights = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(weights, dmconfig.learning_rate, fused=self.device.type in ("cpu", "cuda"))
        self.dtype = choose(self.device, dmconfig.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    @property
    def learning_rate(self):
        return self.dmconfig.learning_rate * rate(self.dmconfig, self.step, self.steps)

    def train_epoch(self, batches, bar):
        """One pass over `batches`; the loss of each step. Raises TrainingError where one is not finite."""
        self.model.train()
        losses = []
        for images, labels in batches:
            if not losses:
                self._part()
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate
            if hasattr(self.model, "progress"):
                self.model.progress = self.step / (self.dmconfig.epochs * self.steps)
            share = self._share(images, labels)
            with autocast(self.device, self.dmconfig.precision):
                loss = self.parallel(*share)
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            losses.append(self.accelerator.reduce(loss.detach(), "mean").item())  # over all processes: if one is not finite, all stop
            self._check("loss", losses[-1], self.step + 1)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.step += 1
            self._agree()
            self.ema.update_parameters(self.model)
            bar.update(len(images))
            bar.set_postfix_str(f"loss {losses[-1]:.4f}", refresh=False)
        return losses

    def _share(self, images, labels):
        """This process's part of a batch; all parts are about equally large."""
        with self.accelerator.split_between_processes({"images": images, "labels": labels}) as share:
            return share["images"].to(self.device), share["labels"].to(self.device)

    def _part(self):
        """From here on each process draws its own noise; the order of the images, drawn before, is the same for all."""
        if self.accelerator.num_processes > 1:
            torch.manual_seed(torch.initial_seed() + 1 + self.accelerator.process_index)

    def _agree(self):
        """Average batch norm's running statistics, which each process takes from its share, over the processes."""
        if self.accelerator.num_processes > 1:
            buffers = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
            means = self.accelerator.reduce(torch.cat([buffer.flatten() for buffer in buffers]), "mean")
            for buffer, mean in zip(buffers, means.split([buffer.numel() for buffer in buffers])):
                buffer.copy_(mean.view_as(buffer))

    @torch.no_grad()
    def test(self, batches, bar):
        """The mean noise loss of the averaged model, with the same noise and time steps in each call.

        Each process tests with all of `batches`, so that the loss does not depend on the number of processes.
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
            "model_state_dict": _uncompiled(self.averaged.state_dict()),
            "optimizer_state_dict": self.optimizer.state_dict(),
            "raw_model_state_dict": _uncompiled(self.model.state_dict()),
            "n_averaged": self.ema.n_averaged,
            "step": self.step,
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state, path="the checkpoint"):
        """Resume from a `state_dict` that was read from `path`. Raises lab.training.checkpoint.CheckpointError for another network's."""
        checkpoint.fill(self.averaged, state["model_state_dict"], path)
        checkpoint.fill(self.model, state["raw_model_state_dict"], path)
        self.optimizer.load_state_dict(state["optimizer_state_dict"])
        self.ema.n_averaged.copy_(state["n_averaged"])
        self.step = state["step"]
        if state["scaler"]:  # empty where the earlier part ran in another precision
            self.scaler.load_state_dict(state["scaler"])


def accelerator():
    """Accelerate's view of the processes, if `accelerate launch` or torchrun started several."""
    # "no": Accelerate would believe a T4 that it has bfloat16; lab.speed.precision does not. _agree averages the buffers.
    alike = DistributedDataParallelKwargs(broadcast_buffers=False)
    return Accelerator(mixed_precision="no", device_placement=False, kwargs_handlers=[alike])


def averaging(model, decay):
    """torch's moving average of a model, batch norm's statistics included; its decay starts lower than `decay`."""

    def blend(averaged, weights, count):
        count = int(ema.n_averaged)  # the same number, on the CPU: nothing waits for the device
        get_ema_multi_avg_fn(min((1 + count) / (10 + count), decay))(averaged, weights, count)

    ema = AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
    return ema


def rate(dmconfig, step, steps):
    """The factor of learning_rate at a step: one cycle (Smith 2018, arXiv:1803.09820) times the decay at each milestone."""
    passed = sum(step >= milestone * steps for milestone in dmconfig.multi_lr_milestones)
    decay = dmconfig.multi_lr_gamma**passed
    if not dmconfig.lr_cycle:
        return decay
    total = dmconfig.epochs * steps
    warm = 0.2 * total
    if step < warm:
        return decay * (1 + (dmconfig.lr_cycle - 1) * (1 - math.cos(math.pi * step / warm)) / 2)
    return decay * dmconfig.lr_cycle * (1 + math.cos(math.pi * min(1, (step - warm) / (total - warm)))) / 2


def initialised(make, dmconfig, device):
    """The model make(dmconfig), its weights drawn from dmconfig.seed alone. dmconfig: whatever DMConfig.of takes."""
    with seeded(device, DMConfig.of(dmconfig).seed, "weights"):
        return make(dmconfig)


def _uncompiled(weights):
    """Weights under the names of a model that is not compiled."""
    return {name.replace("_orig_mod.", ""): weight for name, weight in weights.items()}


def placed(loader, device):
    """A loader that can hold its images on the device does so; any other stays as it is."""
    return loader.to(device) if hasattr(loader, "to") else loader


@contextlib.contextmanager
def seeded(device, *names):
    """Inside, random numbers depend on `names` alone; outside, they go on as if nothing had been drawn."""
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
