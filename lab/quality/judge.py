"""The judge: a small classifier of the pictures of a set, which reads what a model draws; that of MNIST's digits ships."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from config import DMConfig
from lab.speed.precision import autocast, choose
from lab.training import pictures, pretrained
from lab.training.trainer import averaging, seeded

BATCH = 1000  # digits read at once
ACCURACY = 0.995  # on the test set; a judge below this is not kept


class Judge(nn.Module):
    """Pictures (B, C, H, W) in [0, 1] -> the logits of the classes (B, num_classes). `features` gives the layer before, (B, 128)."""

    def __init__(self, num_channels=1, num_classes=10):
        super().__init__()

        def block(inside, outside):
            return nn.Sequential(nn.Conv2d(inside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())

        self.features = nn.Sequential(
            block(num_channels, 32), block(32, 32), nn.MaxPool2d(2),     # (B, 32, 14, 14)
            block(32, 64), block(64, 64), nn.MaxPool2d(2),    # (B, 64, 7, 7), of 28 x 28
            block(64, 128), block(128, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.classify = nn.Linear(128, num_classes)

    def forward(self, images):
        return self.classify(self.features(images))


def train(batches, epochs, seed, device, reporter, num_channels=1, num_classes=10):
    """A Judge trained on `batches` of (images in [0, 1], labels), each image shifted, turned and scaled a little; with averaged weights."""
    with seeded(device, seed, "judge"):
        model = Judge(num_channels, num_classes).to(device, memory_format=torch.channels_last)
        average = averaging(model, 0.998)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs=epochs, steps_per_epoch=len(batches))
        with reporter.bar(epochs * len(batches.dataset), " images", "judge") as bar:
            for _ in range(epochs):
                for images, labels in batches:
                    images, labels = moved(images.to(device)), labels.to(device)
                    with autocast(device, "float32" if choose(device) == torch.float16 else "auto"):  # float16 would need loss scaling
                        loss = F.cross_entropy(model(images), labels, label_smoothing=0.05)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    rate.step()
                    average.update_parameters(model)
                    bar.update(len(images))
    return average.module.eval()


def moved(images):
    """Each image turned by up to 12 degrees, scaled by up to a tenth and shifted by up to two pixels, at random."""

    def draw(limit):
        return (2 * torch.rand(len(images), device=images.device) - 1) * limit

    angle, scale = draw(math.radians(12)), 1 + draw(0.1)
    x, y = (draw(2) * 2 / images.shape[-1] for _ in range(2))  # in units of half a picture
    cos, sin = angle.cos() / scale, angle.sin() / scale  # affine_grid takes the map from output to input pixels: the inverse
    theta = torch.stack([cos, sin, -cos * x - sin * y, -sin, cos, sin * x - cos * y], dim=1).view(-1, 2, 3)
    return F.grid_sample(images, F.affine_grid(theta, images.shape, align_corners=False), align_corners=False)


def path_of(dmconfig, second=False):
    """Where the judge of a model's pictures is kept: the one that ships for MNIST, else one in ./save/judges, by set and shape.

    second: of the other one, which says what is drawn again (lab.diffusion.redraw), and so cannot measure.
    """
    if dmconfig.data == "mnist":
        return pretrained.SECOND if second else pretrained.JUDGE
    shape = "x".join(map(str, (dmconfig.num_channels, *dmconfig.input_dim)))
    return Path("save") / "judges" / f"{Path(dmconfig.data).name}-{shape}{'-second' * second}.safetensors"


def check(dmconfig):
    """Raise ValueError for a model whose set is MNIST, and which draws something else than its digits."""
    shape, own = ((c.num_channels, c.input_dim, c.num_classes) for c in (dmconfig, DMConfig()))
    if dmconfig.data == "mnist" and shape != own:
        drawn = f"{dmconfig.num_classes} classes of {dmconfig.num_channels} x {dmconfig.input_dim}"
        raise ValueError(f"the model draws {drawn}; what reads MNIST's digits cannot read them")


def load(device="cpu", dmconfig=None, second=False):
    """The Judge of a model's pictures, in eval mode; without dmconfig, the one of MNIST's digits. second: as for `path_of`.

    Raises ValueError where nobody has trained it, or for other classes.
    """
    dmconfig = dmconfig or DMConfig()
    check(dmconfig)
    path = path_of(dmconfig, second)
    if not path.exists():
        shape = "" if dmconfig.data in pictures.SHAPES else f" --size {dmconfig.input_dim[0]} --num-channels {dmconfig.num_channels}"
        raise ValueError(
            f"nothing reads pictures of {dmconfig.data}: {path} is not there. Train it: python -m lab judge --data {dmconfig.data}{shape}"
            + " --second" * second
        )
    state = pretrained.load(path, device)
    if state.get("classes", []) != dmconfig.classes:
        raise ValueError(f"{path} reads the classes {state.get('classes')}, the model draws {dmconfig.classes}; train the judge anew")
    model = Judge(dmconfig.num_channels, dmconfig.num_classes).to(device, memory_format=torch.channels_last)
    model.load_state_dict(state["model_state_dict"])
    return model.eval()


@torch.no_grad()
def read(model, images):
    """What a Judge sees in images (N, C, H, W) in [0, 1]: the classes that it reads (N,) and its features (N, 128), on the CPU."""
    device = next(model.parameters()).device
    features = torch.cat([model.features(part.to(device)) for part in images.split(BATCH)])
    return model.classify(features).argmax(1).cpu(), features.cpu()
