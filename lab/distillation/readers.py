"""Readers: judges with seeds of their own, in whose features students are compared. The one that measures is never trained on."""

import torch
import torch.nn.functional as F

from config import MEAN, STD
from lab.quality import judge
from lab.training import pretrained

EPOCHS = 3  # of a reader


def reader(seed, dmconfig, batches, folder, device, reporter):
    """A judge.Judge of the pictures in `batches`, trained from `seed` and kept in `folder`; its weights do not learn any more."""
    path = folder / f"reader_{seed}.safetensors"
    if not path.exists():
        pictures = _InPixels(batches)
        trained = judge.train(pictures, EPOCHS, seed, device, reporter, dmconfig.num_channels, dmconfig.num_classes)
        pretrained.save(path, trained.state_dict())
    model = judge.Judge(dmconfig.num_channels, dmconfig.num_classes).to(device)
    model.load_state_dict(pretrained.load(path, device)["model_state_dict"])
    return model.eval().requires_grad_(False)


def features(reader, images):
    """Of images (B, C, H, W) the pixels, what the reader has after each pooling, and its features: a list of (B, D); and its logits."""
    x = images * STD + MEAN
    found = [x.flatten(1)]
    for layer in reader.features:
        x = layer(x)
        if isinstance(layer, torch.nn.MaxPool2d):
            found.append(F.adaptive_avg_pool2d(x, 7 if len(found) == 1 else 3).flatten(1))
    return [*found, x], reader.classify(x)


class _InPixels:
    """Batches with images in [0, 1]."""

    def __init__(self, batches):
        self.batches, self.dataset = batches, batches.dataset

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for images, labels in self.batches:
            yield images * STD + MEAN, labels
