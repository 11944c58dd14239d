"""Training and figures of the networks of `unet`, as the notebook uses them more than once."""

from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
from torch.utils.flop_counter import FlopCounterMode

from config import DMConfig
from lab import display, samplers
from lab.display import cell
from lab.speed.fast import evaluating
from lab.training import checkpoint, experiment
from lab.training.trainer import initialised
from psnr import denoise
from unet import noisy
from utils import best_device, make_dataloader

METHOD, STEPS = "sde", samplers.STEPS  # of all samples that are shown and judged


class Size(NamedTuple):
    """How large a training is."""

    features: int
    batch: int  # images a step
    images: int  # an epoch
    shown: list  # epochs after which samples are shown; training ends with the last

    def config(self, **more):
        """The settings of a training of this size, without the course's cycle of the learning rate."""
        return DMConfig(num_feat=self.features, batch_size=self.batch, epochs=self.shown[-1], lr_cycle=0, **more)

    def loaders(self, transform, tested):
        """MNIST's training images of an epoch, and the first `tested` test images."""
        return make_dataloader(transform, self.batch, limit=self.images), make_dataloader(transform, self.batch, train=False, limit=tested)

    def __str__(self):
        return f"{self.features} features, {self.shown[-1]} epochs of {self.images:,} images in batches of {self.batch}"


def train(make, dmconfig, name, train_loader, test_loader, picture):
    """Train make(dmconfig) in ./save/NAME, or resume it; returns the model with its last averaged weights, and its history."""
    device, folder = best_device(), Path("save") / name
    model = initialised(make, dmconfig, device)
    history = experiment.run(model, dmconfig, folder, train_loader, test_loader, device, picture, display.Bars())
    model.load_state_dict(checkpoint.load(folder / "last_checkpoint.pth", device)["model_state_dict"])
    return model.eval(), history


def denoised_figure(model, images, sigmas, title):
    """A figure, two rows a sigma: images (B, 1, 28, 28) with noise of each of `sigmas`, and denoised by `model` below."""
    rows, names = [], []
    for sigma in sigmas:
        seen = noisy(images, sigma, torch.Generator().manual_seed(0))
        rows += [seen.clamp(0, 1), denoise(model, seen).clamp(0, 1)]
        names += [f"σ = {sigma:g}", "denoised"]
    return display.grid_figure(torch.cat(rows), len(images), title, row_labels=names)


def samples_figure(model, omegas, title=""):
    """A row of the ten digits for each guidance weight, from the same noise, by STEPS of METHOD: a figure."""
    rows = []
    for omega in omegas:
        generator = torch.Generator().manual_seed(len(rows) if omega == -1 else 0)  # rows without a class would be alike
        rows.append(samplers.sample(model, torch.arange(10), omega, method=METHOD, steps=STEPS, generator=generator).cpu())
    return display.grid_figure(torch.cat(rows), 10, title, row_labels=[f"γ = {1 + omega:g}" for omega in omegas])


def epochs_figure(name, epochs, title):
    """The pictures that `train` left in ./save/NAME after these epochs, one below the other."""
    pictures = [plt.imread(Path("save") / name / "images" / f"generate_epoch_{epoch}.png") for epoch in epochs]
    pictures = [picture[(picture < 1).any((1, 2))] for picture in pictures]  # without the white above and below
    height = sum(0.3 + 6 * picture.shape[0] / picture.shape[1] for picture in pictures)
    figure, axes = plt.subplots(len(epochs), figsize=(6, 0.3 + height), layout="constrained", squeeze=False)
    for axis, picture, epoch in zip(axes[:, 0], pictures, epochs):
        axis.imshow(picture)
        axis.set_title(f"after epoch {epoch}", fontsize=10)
        axis.axis("off")
    figure.suptitle(title, fontsize=11)
    return figure


def loss_figure(histories, title, ylabel):
    """Train (dotted) and test loss of each of {name: history} against the epoch."""
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for color, (name, history) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in history]
        axes.semilogy(epochs, [row["test_noise_loss"] for row in history], "o-", ms=3, color=f"C{color}", label=f"{name}, test")
        axes.semilogy(epochs, [row["train_noise_loss"] for row in history], ":", color=f"C{color}", label=f"{name}, train")
    axes.set(title=title, xlabel="epoch", ylabel=ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    for pick in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        pick("{x:.2g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def cost(model):
    """The cost of the network of `model`: its number of parameters, and the FLOPs of one image's forward pass."""
    config, device = model.dmconfig, next(model.network.parameters()).device
    x, t = (torch.zeros(1, *shape, device=device) for shape in ((config.num_channels, *config.input_dim), (1, 1, 1)))
    with torch.no_grad(), evaluating(model.network), FlopCounterMode(display=False) as counter:
        model.network(x, t, torch.zeros(1, config.num_classes, device=device))
    return sum(weights.numel() for weights in model.network.parameters()), counter.get_total_flops()


def cost_rows(trained, images):
    """A row of a table for each of {name: (model, history)}: the cost of its training, with `images` an epoch, and its last test loss."""
    rows = []
    for name, (model, history) in trained.items():
        parameters, flops = cost(model)
        rates = [row["images_per_second"] for row in history]
        row = {"network": name, "parameters": f"{parameters:,}", "MFLOP an image": f"{flops / 1e6:.1f}"}
        row |= {"images/s": cell(rates, "{:.0f}"), "seconds of training": f"{sum(images / rate for rate in rates):.0f}"}
        rows.append({**row, "test noise loss": f"{history[-1]['test_noise_loss']:.4f}"})
    return rows


def quality_rows(judged):
    """A table row for each network and guidance weight, median and range over the seeds; judged: {name: rows of `lab.quality.sweep`}."""
    rows = []
    for name, all_rows in judged.items():
        for omega in sorted({row["omega"] for row in all_rows}):
            runs = [row for row in all_rows if row["omega"] == omega]
            row = {"network": name, "γ": f"{1 + omega:g}", "digits": f"{len(runs)} × {runs[0]['samples']:,}"}
            row["read as asked for"] = "nothing asked" if omega == -1 else cell([run["accuracy"] for run in runs], "{:.1%}")
            row["Fréchet distance"] = cell([run["frechet"] for run in runs], "{:.2f}")
            row["its floor"] = f"{runs[0]['frechet_floor']:.2f}"
            rows.append({**row, **{key: cell([run[key] for run in runs], "{:.2f}") for key in ("precision", "recall")}})
    return rows


def film(model, omega, path, steps):
    """A GIF at `path` of the digits 0 to 4 on their way from noise, by `steps` of eq. (7), Ho et al. 2020; in 16 greys, to be small."""
    way = samplers.trajectory(model, torch.arange(5), omega, method="ddpm", steps=steps, generator=torch.Generator().manual_seed(0))
    display.save_film([(display.grid(samplers.pixels(step.x), 5) * 15).round() / 15 for step in way], path)
