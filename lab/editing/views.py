"""Views of a picture: permutations of its pixels, as a mirror's. Noise stays noise, so a diffusion model can predict in each view."""

from collections import namedtuple

import torch

View = namedtuple("View", "look back")
View.__doc__ = "A permutation of the pixels of images (B, C, H, W), and its inverse: two functions."
IDENTITY = View(lambda x: x, lambda x: x)
FLIP = View(*[lambda x: x.flip(-2)] * 2)  # top and bottom change places
ROTATION = View(*[lambda x: x.rot90(2, (-2, -1))] * 2)  # by 180 degrees


def permutation(order):
    """The View that puts pixel order[i] where pixel i was, counted row by row; order: each of 0 … H W - 1 once."""
    order = torch.as_tensor(order)
    if order.ndim != 1 or not order.sort().values.equal(torch.arange(len(order))):
        raise ValueError(f"order is {order!r}; allowed is each whole number from 0 to H * W - 1 once")
    return View(*[lambda x, at=at: x.flatten(-2)[..., at.to(x.device)].view_as(x) for at in (order, order.argsort())])


def checked(views, shape, device):
    """The views, each a View or a pair of functions, as Views.

    Raises ValueError unless each moves the pixels of an image `shape` and its inverse moves them back: tried on two, of distinct pixels.
    """
    probe = torch.arange(2 * torch.Size(shape).numel(), dtype=torch.float32, device=device).view(2, *shape)
    found = []
    for number, view in enumerate(views):
        try:
            found.append(View(*view))
            seen = found[-1].look(probe)
            moved = seen.shape == probe.shape and seen.flatten(1).sort().values.equal(probe.flatten(1))
            inverse = found[-1].back(seen).equal(probe)
        except (AttributeError, IndexError, RuntimeError, TypeError) as error:
            raise ValueError(f"views[{number}] fails on an image {tuple(probe.shape)} ({error}); allowed is a View that fits it") from error
        if not (inverse and moved):
            raise ValueError(f"views[{number}] is no View; allowed are two functions that move pixels there and back")
    return found
