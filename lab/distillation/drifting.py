"""Drifting by an energy distance: drawn digits are pulled to real ones of their class and pushed from each other, in a reader's features.

The drawn distribution moves to the real one in training, as in Deng et al. 2026, "Generative Modeling via Drifting", arXiv:2602.04770;
here by the gradient of the energy distance of Székely & Rizzo 2013, as in Bellemare et al. 2017, arXiv:1705.10743. Its kernel is the
distance, so there is no bandwidth to tune.
"""

import torch
import torch.nn.functional as F

from lab.diffusion.few import times
from lab.diffusion.process import process
from lab.distillation import readers

OMEGA = 0.0  # no guidance is learned
SEED = 1  # of the reader
READ = 0.02  # weight of reading a drawn digit as what it was asked for


def objective(teacher, dmconfig, loaders, folder, reporter):
    """The loss is the energy distance and, READ times, the reader's cross-entropy.

    A batch has one time, as the digits of each time have to match by themselves; half the batches draw from pure noise.
    """
    way = process(teacher)
    reader = readers.reader(SEED, dmconfig, loaders[0], folder, way.device, reporter)
    first, *later = times(dmconfig.T)

    def loss(student, images, labels):
        t = first if torch.rand(()) < 0.5 else later[torch.randint(len(later), ()).item()]
        noise = torch.randn_like(images)
        drawn = student.predict(noise if t == first else way.noised(images, t, noise), t, labels)
        seen, logits = readers.features(reader, drawn)
        with torch.no_grad():
            real = readers.features(reader, images)[0]
        apart = sum(energy_distance(*pair, labels) for pair in zip(seen, real))
        return apart + READ * F.cross_entropy(logits, labels)

    return loaders, loss


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
