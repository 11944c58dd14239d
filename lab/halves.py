"""Guidance asks the network twice about the same x: what it computes from x alone, it computes once.

The course's network learns of time and class after its first two blocks, which are more than a third of its work.
"""

import contextlib

import torch


def twice(x):
    """x (B, ...) after itself, (2B, ...), known to be so inside `shared`."""
    both = torch.cat([x, x])
    if not both.is_inference():  # these do not tell of a change in place, which would make it untrue
        both.is_twice_since = both._version
    return both


@contextlib.contextmanager
def shared(network):
    """Inside, a part of `network` whose one input is `twice` something runs on one half, and its output is twice that of this half.

    In eval mode only, where an image's output does not depend on the rest of the batch. Anything else runs as it is.
    """
    halved = []

    def before(module, inputs):
        if len(inputs) == 1 and _is_twice(inputs[0]) and not module.training:
            halved.append(module)
            return inputs[0].chunk(2)[0]

    def after(module, inputs, output):
        if halved and halved[-1] is module:
            halved.pop()
            return twice(output)

    parts = [module for module in network.modules() if module is not network]
    hooks = [part.register_forward_pre_hook(before) for part in parts] + [part.register_forward_hook(after) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_twice(x):
    return torch.is_tensor(x) and hasattr(x, "is_twice_since") and x.is_twice_since == x._version
