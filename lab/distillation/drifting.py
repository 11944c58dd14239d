"""Drifting by an energy distance: drawn digits are pulled to real ones of their class and pushed from each other, in a reader's features.

The drawn distribution moves to the real one in training, as in arXiv:2602.04770, by the gradient of the energy distance of
Székely & Rizzo 2013, as in Bellemare et al. 2017, arXiv:1705.10743. Its kernel is the distance: nothing has to be tuned.
The reader is a judge of its own seed: the one that measures is never trained on.
"""

import torch
import torch.nn.functional as F

from config import MEAN, STD
from lab.diffusion.few import times
from lab.diffusion.process import process
from lab.quality import judge
from lab.training import pretrained

OMEGA = 0.0  # no guidance is learned
SEED, EPOCHS = 1, 3  # of the reader
READ = 0.02  # weight of reading a drawn digit as what it was asked for


def objective(teacher, dmconfig, loaders, folder, reporter):
    """The loss is the energy distance, at one time a batch, which has to be matched by itself; half the batches draw from pure noise."""
    way, reader = process(teacher), _reader(teacher, dmconfig, loaders[0], folder, reporter)
    first, *later = times(dmconfig.T)

    def loss(student, images, labels):
        t = first if torch.rand(()) < 0.5 else later[torch.randint(len(later), ()).item()]
        noise = torch.randn_like(images)
        drawn = student.predict(noise if t == first else way.noised(images, t, noise), t, labels)
        seen, logits = features(reader, drawn)
        with torch.no_grad():
            real = features(reader, images)[0]
        apart = sum(energy_distance(*pair, labels) for pair in zip(seen, real))
        return apart + READ * F.cross_entropy(logits, labels)

    return loaders, loss


def features(reader, images):
    """The pixels of images (B, C, H, W) and what the reader makes of them layer by layer: a list of (B, D); and its logits."""
    x = images * STD + MEAN
    found = [x.flatten(1)]
    for layer in reader.features:
        x = layer(x)
        if isinstance(layer, torch.nn.MaxPool2d):
            found.append(F.adaptive_avg_pool2d(x, 7 if len(found) == 1 else 3).flatten(1))
    return [*found, x], reader.classify(x)


def energy_distance(drawn, real, labels):
    """2 E|x - y| - E|x - x'| - E|y - y'| within the classes, over E|y - y'|; drawn and real (B, D), labels (B,). A 0-dim tensor.

    Each mean leaves out a digit's own index: no digit is compared with itself, nor with the real one that it was made from. So the
    numerator is unbiased. It is 0 where no class has two digits in the batch.
    """
    same = labels[:, None] == labels
    same = (same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)).float()
    same = same / same.sum().clamp(min=1)
    across, inside, real = ((_distances(*pair) * same).sum() for pair in ((drawn, real), (drawn, drawn), (real, real)))
    return (2 * across - inside - real) / real.clamp(min=1e-12)


def _distances(x, y):
    return (torch.cdist(x.float(), y.float()).square() + 1e-12).sqrt()  # a gradient where two are equal


def _reader(teacher, dmconfig, batches, folder, reporter):
    """A judge of the training pictures with a seed of its own, kept in `folder`."""
    path, device = folder / "reader.safetensors", process(teacher).device
    if not path.exists():
        pictures = _InPixels(batches)
        trained = judge.train(pictures, EPOCHS, SEED, device, reporter, dmconfig.num_channels, dmconfig.num_classes)
        pretrained.save(path, trained.state_dict())
    reader = judge.Judge(dmconfig.num_channels, dmconfig.num_classes).to(device)
    reader.load_state_dict(pretrained.load(path, device)["model_state_dict"])
    return reader.eval().requires_grad_(False)


class _InPixels:
    """Batches with images in [0, 1]."""

    def __init__(self, batches):
        self.batches, self.dataset = batches, batches.dataset

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        for images, labels in self.batches:
            yield images * STD + MEAN, labels
