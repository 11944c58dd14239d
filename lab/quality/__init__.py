"""How good drawn digits are: `from lab import quality`, `quality.evaluate(images, labels)`.

The names of lab.quality.metrics, which is imported on first use: scikit-learn takes a second, and the judge does not need it.
"""

import importlib

__all__ = ["ANCESTRAL", "evaluate", "figure", "line", "most", "proportional_labels", "real_mnist", "sweep"]


def __getattr__(name):
    if name in __all__:
        return getattr(importlib.import_module("lab.quality.metrics"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
