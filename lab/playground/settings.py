"""What the page has to know of a model."""

import dataclasses

from lab.diffusion.process import process

NEEDED = {"input_dim": (28, 28), "num_channels": 1, "num_classes": 10, "schedule": "linear", "process": "ddpm", "classes": []}


def settings(model):
    """A dict for JSON, of the model's DMConfig. Raises ValueError for a model that the page cannot draw with."""
    config = model.dmconfig
    for name, value in NEEDED.items():
        if getattr(config, name) != value:
            raise ValueError(f"the model has {name} = {getattr(config, name)!r}; the page draws with {name} = {value!r}, as MNIST's digits")
    way, given = process(model), dataclasses.asdict(config)
    kept = {name: given[name] for name in ("T", "beta_1", "beta_T", "num_classes", "condition_mask_value", "omega")}
    return {**kept, "shape": list(way.shape), "range": list(way.range), "output": way.output}
