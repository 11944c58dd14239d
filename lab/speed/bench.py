"""The measurements behind the speeds that lab/README.md states: our way and the plain one, in turn, in one run."""

import contextlib
import copy
import dataclasses
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from lab import samplers
from lab.display import Reporter
from lab.speed import baseline
from lab.speed.precision import autocast
from lab.training import checkpoint, data
from lab.training.trainer import Trainer, TrainingError, placed

DIGITS = 100  # drawn at once, as check_sample does

Row = dataclasses.make_dataclass("Row", ["what", "unit", "amount", "seconds"])
Row.__doc__ = 'One comparison. amount: units of work in a measurement; seconds: {way: [seconds of each]}, the way "plain" the yardstick.'


def run(model, dataset, rounds, device):
    """Yields a Row a comparison. model: untrained is enough, as speed does not depend on the weights. dataset: MNIST, normalised."""
    yield training_step(model, dataset, rounds, device)
    yield loading(dataset, model.dmconfig.batch_size, rounds, device)
    yield sampling(model, rounds, device)
    yield fast_sampling(model, rounds, device)


def training_step(model, dataset, rounds, device):
    """A training step, also of two libraries' networks of about as many parameters, in our precision, if they are installed."""
    config, net = model.dmconfig, baseline.network(model).to(device).train()
    trainer = Trainer(model, config, 1, device)
    images, labels = (part.to(device) for part in next(iter(data.loader(dataset, config.batch_size, shuffle=True))))
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate)
    ways = {
        "plain": lambda: baseline.step(net, config, optimizer, images, labels),
        "ours": lambda: trainer.train_epoch([(images, labels)], _Silent()),
    }
    for name, make in (("diffusers UNet2DModel", _diffusers), ("denoising-diffusion-pytorch", _lucidrains)):
        with contextlib.suppress(ImportError):
            ways[name] = _library_step(*make(config, device), config, images, labels)
    times = 1 if torch.device(device).type == "cpu" else 20  # a GPU takes milliseconds for one
    seconds = interleaved({name: _repeated(way, times) for name, way in ways.items()}, rounds, device)
    return Row(f"training step, batch of {config.batch_size}", "images/s", times * len(images), seconds)


def loading(dataset, batch_size, rounds, device):
    """Loading 40 batches onto the device."""
    ours, theirs = placed(data.loader(dataset, batch_size, shuffle=True), device), baseline.loader(dataset, batch_size)

    def take(loader):
        for images, labels in itertools.islice(loader, 40):
            images.to(device), labels.to(device)

    seconds = interleaved({"plain": lambda: take(theirs), "ours": lambda: take(ours)}, rounds, device)
    return Row("data loader", "images/s", min(40 * batch_size, len(dataset)), seconds)


def sampling(model, rounds, device):
    """Steps of algorithm 2 for 100 guided digits."""
    config, net, steps = model.dmconfig, baseline.network(model).to(device), _timed_steps(model, device)
    labels = torch.arange(DIGITS, device=device) % config.num_classes
    few = copy.copy(model.to(device))  # the same network, a shorter process
    few.dmconfig = dataclasses.replace(config, T=steps)
    ways = {
        "plain": lambda: baseline.sample(net, config, labels, config.omega, steps),
        "ours": lambda: few.sample(labels, config.omega),
    }
    return Row(f"`sample`, {DIGITS} digits", "steps/s", steps, interleaved(ways, rounds, device))


def fast_sampling(model, rounds, device):
    """100 finished digits: the plain way's T steps, extrapolated from a few of them, and our few."""
    config, net, steps = model.dmconfig, baseline.network(model.to(device)), _timed_steps(model, device)
    labels = torch.arange(DIGITS, device=device) % config.num_classes
    ways = {
        "plain": lambda: baseline.sample(net, config, labels, config.omega, steps),
        "ours": lambda: samplers.sample(model, labels, config.omega, steps=min(samplers.STEPS, config.T)),
    }
    seconds = interleaved(ways, rounds, device)
    seconds["plain"] = [config.T / steps * value for value in seconds["plain"]]
    return Row(f"`lab.samplers`, {samplers.METHOD} in {samplers.STEPS} steps", "digits/s", DIGITS, seconds)


TRAIN_AND_SAY = """
from lab.__main__ import main
main(["train", "memory", "--epochs", "1", "--images", "640"])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])  # kB; rusage would count what the parent held at the fork
"""


def peak_memory(root):
    """The most memory, in bytes, that training the default network holds on a CPU under Linux; MNIST is in `root`.

    Raises TrainingError where that training fails.
    """
    where = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "MNIST_DIR": str(root), "CUDA_VISIBLE_DEVICES": ""}
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run([sys.executable, "-c", TRAIN_AND_SAY], cwd=folder, env=where, capture_output=True, text=True)
    if ended.returncode:
        raise TrainingError(f"training to measure its memory failed: {ended.stderr.strip().splitlines()[-1]}")
    return int(ended.stdout.split()[-1]) * 1024


def interleaved(ways, rounds, device):
    """Time the functions {name: function} in turn: {name: seconds of each round}. A first round is not counted."""
    seconds = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            _wait(device)
            started = time.perf_counter()
            way()
            _wait(device)
            if number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def machine(device):
    """The hardware and torch version, in words."""
    device = torch.device(device)
    processor = f"{torch.get_num_threads()} threads of a CPU ({platform.processor() or platform.machine()})"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor if device.type == "cpu" else device.type
    return f"{name}, torch {torch.__version__}"


def table(rows):
    """The rows as a Markdown table: units a second, median and range over the rounds, and the ratio of the medians."""
    lines = ["| | way | a second | range | × plain |", "|---|---|---|---|---|"]
    for row in rows:
        for name, seconds in row.seconds.items():
            median, low, high = (row.amount / value for value in (statistics.median(seconds), max(seconds), min(seconds)))
            ratio = statistics.median(row.seconds["plain"]) / statistics.median(seconds)
            lines.append(f"| {row.what} | {name} | {_round(median)} {row.unit} | {_round(low)} to {_round(high)} | {ratio:.2f} |")
    return "\n".join(lines)


def figure(rows):
    """A figure of how much faster each way is than the plain one; rows: as `run` gives them."""
    drawn, axis = plt.subplots(figsize=(8, 0.35 * sum(len(row.seconds) for row in rows) + 1.2), layout="constrained")
    places, names = [], []
    for row in rows:
        base = statistics.median(row.seconds["plain"])
        for way, seconds in row.seconds.items():
            place = len(places) + rows.index(row)  # a gap between the comparisons
            ratios = [base / value for value in seconds]
            axis.barh(place, statistics.median(ratios), color={"ours": "tab:blue", "plain": "lightgray"}.get(way, "tab:orange"))
            axis.plot([min(ratios), max(ratios)], [place, place], color="black", lw=1.5)
            axis.text(1.05 * max(ratios), place, f"{statistics.median(ratios):.3g} ×", va="center")
            places.append(place)
            names.append(f"{row.what}: {way}")
    axis.set_yticks(places, names)
    axis.invert_yaxis()
    axis.set(xscale="log", xlabel="times as fast as the plain way (bar: median, line: range)", title="Speed beside the plain way")
    axis.margins(x=0.15)
    return drawn


def losses_of(model, weights, test_loader, device="cpu"):
    """{name: test loss} of one model under several sets of weights, {name: state_dict}, each with the same noise and time steps."""
    losses = {}
    for name, state in weights.items():
        checkpoint.fill(model, state, name)
        trainer = Trainer(model, model.dmconfig, 1, device)  # a new one: its averaged weights start from these
        with Reporter().bar(len(test_loader.dataset), " images", name) as bar:
            losses[name] = trainer.test(test_loader, bar)
    return losses


class _Silent:
    """A progress bar that shows nothing."""

    def update(self, count):
        pass

    def set_postfix_str(self, *words, **more):
        pass


def _diffusers(config, device):
    """diffusers' U-Net with classes, 1.70 M parameters, and its noise loss."""
    from diffusers import DDPMScheduler, UNet2DModel

    net = UNet2DModel(
        sample_size=config.input_dim, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(64, 96), norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=config.num_classes, add_attention=False,
    ).to(device)  # fmt: skip
    process = DDPMScheduler(config.T, config.beta_1, config.beta_T)

    def loss(images, labels):
        noise, t = torch.randn_like(images), torch.randint(config.T, (len(images),), device=device)
        return torch.nn.functional.mse_loss(net(process.add_noise(images, noise, t), t, labels).sample, noise)

    return net, loss


def _lucidrains(config, device):
    """denoising-diffusion-pytorch's U-Net, which has attention and no classes, 1.76 M parameters, and its noise loss."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    net = Unet(48, dim_mults=(1, 2), channels=1)
    process = GaussianDiffusion(net, image_size=config.input_dim, timesteps=config.T, objective="pred_noise", beta_schedule="linear")
    return process.to(device), lambda images, labels: process(images)


def _library_step(net, loss, config, images, labels):
    """A training step set up like ours: the same precision, memory format and optimizer."""
    net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate, fused=images.device.type in ("cpu", "cuda"))

    def step():
        with autocast(images.device, config.precision):
            noise_loss = loss(images, labels)
        optimizer.zero_grad()
        noise_loss.backward()
        optimizer.step()

    return step


def _repeated(way, times):
    def several():
        for _ in range(times):
            way()

    return several


def _round(value):
    return f"{float(f'{value:.3g}'):,.10g}"


def _timed_steps(model, device):
    """How many of the T steps to time: a few on a CPU, as each costs the same and all take minutes."""
    return min(10, model.dmconfig.T) if torch.device(device).type == "cpu" else model.dmconfig.T


def _wait(device):
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(torch.device(device))
