"""The judge: a small classifier of MNIST digits, which reads what a model draws."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from lab.speed.precision import autocast, choose
from lab.training import pretrained
from lab.training.trainer import averaging, seeded

BATCH = 1000  # digits read at once
ACCURACY = 0.995  # on the test set; a judge below this is not kept


class Judge(nn.Module):
    """Digits (B, 1, 28, 28) in [0, 1] -> the logits of ten classes (B, 10). `features` gives the layer before, (B, 128)."""

    def __init__(self):
        super().__init__()

        def block(inside, outside):
            return nn.Sequential(nn.Conv2d(inside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU())

        self.features = nn.Sequential(
            block(1, 32), block(32, 32), nn.MaxPool2d(2),     # (B, 32, 14, 14)
            block(32, 64), block(64, 64), nn.MaxPool2d(2),    # (B, 64, 7, 7)
            block(64, 128), block(128, 128), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.classify = nn.Linear(128, 10)

    def forward(self, images):
        return self.classify(self.features(images))


def train(batches, epochs, seed, device, reporter):
    """A Judge trained on `batches` of (images in [0, 1], labels), each image shifted, turned and scaled a little; with averaged weights."""
    with seeded(device, seed, "judge"):
        model = Judge().to(device, memory_format=torch.channels_last)
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


def load(device="cpu"):
    """The Judge that ships with the project, in eval mode."""
    model = Judge().to(device, memory_format=torch.channels_last)
    model.load_state_dict(pretrained.load(pretrained.JUDGE, device)["model_state_dict"])
    return model.eval()


@torch.no_grad()
def read(model, images):
    """What a Judge sees in images (N, 1, 28, 28) in [0, 1]: the digits that it reads (N,) and its features (N, 128), on the CPU."""
    device = next(model.parameters()).device
    features = torch.cat([model.features(part.to(device)) for part in images.split(BATCH)])
    return model.classify(features).argmax(1).cpu(), features.cpu()
