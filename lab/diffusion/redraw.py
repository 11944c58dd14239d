"""Drawing again what cannot be read: rejection by a classifier, as in Razavi et al. 2019, arXiv:1906.00446.

Guidance has nearly all digits read as asked for by making all of them alike. A second draw mends the few that are not.
"""

import torch
from torch import nn

LIKELY = 0.7  # probability of the class asked for from which on a picture is kept
TRIES = 2  # draws of a picture at most


def redrawn(draw, labels, reader):
    """Images of `labels` (B,), (B, C, H, W) in [0, 1], as draw(labels) gives them; those that `reader` doubts are drawn again.

    Of a picture's draws the likeliest is taken, so that none is read worse than by one draw. reader: a lab.quality.judge.Judge, or what
    else gives logits (B, num_classes) of images. One that chooses pictures cannot measure them: lab.quality.metrics has another.
    """
    images = draw(labels)
    sure = likely(reader, images, labels)
    for _ in range(TRIES - 1):
        doubted = (sure < LIKELY).nonzero().flatten()
        if len(doubted) == 0:
            break
        again = draw(labels[doubted])
        found = likely(reader, again, labels[doubted])
        surer = found > sure[doubted]
        images[doubted[surer]], sure[doubted[surer]] = again[surer], found[surer]
    return images


def check(model, omega, reader):
    """Raise ValueError for a reader that does not read the model's pictures, and where no class is asked for."""
    if not omega > -1:
        raise ValueError(f"omega = {omega!r} with a reader; allowed is more than -1, as it reads the class that is asked for")
    if not callable(reader):
        raise ValueError(f"reader = {reader!r}; allowed is a classifier, as lab.quality.judge.load(second=True)")
    config = model.dmconfig
    shape, wanted = tuple(_logits(reader, torch.zeros(1, config.num_channels, *config.input_dim)).shape), (1, config.num_classes)
    if shape != wanted:
        raise ValueError(f"the reader's logits of a picture have shape {shape}; allowed is {wanted}, the classes that the model draws")


def likely(reader, images, labels):
    """The probability that `reader` gives to each label, (B,), on the CPU."""
    return _logits(reader, images).softmax(1)[torch.arange(len(labels)), labels.cpu().long()]


@torch.no_grad()
def _logits(reader, images):
    device = next(reader.parameters()).device if isinstance(reader, nn.Module) else images.device
    return reader(images.to(device)).cpu()
