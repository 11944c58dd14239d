"""What earlier handouts imported from lab, for submissions that were begun with one of them."""

import contextlib
import sys
import types

import torch

from lab import samplers
from lab.check import finite
from lab.speed import fast, precision

EARLIER = {
    "halves": {"twice": lambda x: torch.cat([x, x]), "shared": contextlib.nullcontext},
    "capture": {"captured": lambda function, *inputs: function},
    "precision": {"autocast": precision.autocast, "choose": precision.choose},
}


def install():
    """Register modules that lab no longer has in sys.modules."""
    for name, values in EARLIER.items():
        module = types.ModuleType(f"lab.{name}")
        vars(module).update(values)
        sys.modules[module.__name__] = module
    samplers.evaluating, samplers.finite = fast.evaluating, finite
