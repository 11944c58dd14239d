"""Drawing again what cannot be read: rejection by a classifier, as in Razavi et al. 2019, arXiv:1906.00446.

Guidance has nearly all digits read as asked for by making all of them alike. A second draw mends the few that are not.
"""

import torch

LIKELY = 0.7  # probability of the class asked for from which on a picture is kept
TRIES = 2  # draws of a picture at most


@torch.no_grad()
def redrawn(draw, labels, reader):
    """Images of `labels` (B,), (B, C, H, W) in [0, 1], as draw(labels) gives them; those that `reader` doubts are drawn again.

    Of a picture's draws the likeliest is taken, so that none is read worse than by one draw. reader: a lab.quality.judge.Judge, or what
    else gives logits (B, num_classes) of images. What it has read for a model cannot measure it: lab.quality.metrics has another one.
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


@torch.no_grad()
def likely(reader, images, labels):
    """The probability that `reader` gives to each label, (B,), on the CPU."""
    return reader(images).softmax(1).cpu()[torch.arange(len(labels)), labels.cpu()]
