"""What the page has to know of a model."""

import dataclasses

from lab.diffusion.few import METHOD, STEPS
from lab.diffusion.process import process

NEEDED = {"input_dim": (28, 28), "num_channels": 1, "num_classes": 10, "schedule": "linear", "classes": []}


def settings(model, few=None):
    """A dict for JSON, of the model's DMConfig. few: a network of the same schedule that draws in few calls, or None.

    Raises ValueError for a model that the page cannot draw with.
    """
    _check(model, NEEDED | {"process": "ddpm"})
    way, given = process(model), dataclasses.asdict(model.dmconfig)
    kept = {name: given[name] for name in ("T", "beta_1", "beta_T", "num_classes", "condition_mask_value", "omega")}
    if few is not None:
        _check(few, NEEDED | {"process": METHOD} | {name: kept[name] for name in ("T", "beta_1", "beta_T", "condition_mask_value")})
    distilled = None if few is None else {"output": few.output, "steps": list(STEPS)}
    return {**kept, "shape": list(way.shape), "range": list(way.range), "output": way.output, "few": distilled}


def _check(model, needed):
    for name, value in needed.items():
        if getattr(model.dmconfig, name) != value:
            raise ValueError(
                f"the model has {name} = {getattr(model.dmconfig, name)!r}; the page draws with {name} = {value!r}, as MNIST's digits"
            )
