"""How good drawn digits are: `from lab import quality`, `quality.evaluate(images, labels)`."""

from lab.quality.metrics import ANCESTRAL, evaluate, line, proportional_labels, real_mnist, sweep

__all__ = ["ANCESTRAL", "evaluate", "line", "proportional_labels", "real_mnist", "sweep"]
