"""Random settings: each is refused by DMConfig, or works through the model and every sampler."""

import math
import random

import pytest
import torch

from config import DMConfig
from DDPM import ConditionalDDPM
from lab import samplers

DEFAULT = 60

RANDOM = {  # usual and odd values of each field; what a network costs is kept small
    "input_dim": lambda draw: draw.choice([(4, 4), (8, 8), [8, 12], (4, 16), 8, (8, 6), (0, 8), (2048, 8), "8"]),
    "num_channels": lambda draw: draw.choice([1, 3, 2, 0, 10**9]),
    "condition_mask_value": lambda draw: draw.choice([-1, 0, 1, -1000, 1000, 10**20, -(10**5), 0.5]),
    "num_classes": lambda draw: draw.choice([1, 2, 10, 300, 0, 10**12, "10"]),
    "T": lambda draw: draw.choice([1, 2, 4, 10, 20, 0, -1, 10**30, 5.0]),
    "beta_1": lambda draw: draw.choice([1e-4, 1e-12, 1e-8, 0.01, 0.5, 0.99, 0.999, 0, -0.1, 5e-324, 1e-300, math.nan, 10 ** draw.uniform(-14, 1)]),
    "beta_T": lambda draw: draw.choice([0.02, 0.5, 0.999, 1 - 1e-16, 1 - 1e-9, 1, 1e-12, math.inf, draw.random(), 10 ** draw.uniform(-14, 1)]),
    "mask_p": lambda draw: draw.choice([0, 1, 0.1, 1e-300, 1.5, -1e-9, math.nan]),
    "num_feat": lambda draw: draw.choice([8, 16, 12, 0, -8, 10**9]),
    "omega": lambda draw: draw.choice([2.0, 0, -1, 100, -100, 1e-300, 1e30, 10**400, math.nan, draw.gauss(0, 10)]),
    "batch_size": lambda draw: draw.choice([1, 256, 0, 10**20]),
    "epochs": lambda draw: draw.choice([1, 10, 0, 10**49]),
    "learning_rate": lambda draw: draw.choice([1e-4, 10, 1e300, 0, 5e-324, math.inf]),
    "multi_lr_milestones": lambda draw: draw.choice([[], [20], [1, 1, 2], [2, 1], [10**30], 3]),
    "multi_lr_gamma": lambda draw: draw.choice([1, 0.1, 5e-324, 0, 2]),
    "lr_cycle": lambda draw: draw.choice([0, 1, 20, 0.5, 1e300]),
    "ema_decay": lambda draw: draw.choice([0, 0.999, 1 - 1e-16, 1]),
    "precision": lambda draw: draw.choice(["auto", "float32", "bfloat16", "half"]),
    "seed": lambda draw: draw.choice([0, 2**63 - 1, 2**64, -1]),
    "schedule": lambda draw: draw.choice(["linear", "cosine", "Cosine"]),
}


def settings(draw):
    """Mostly usual values: with all fields odd, every config would be refused for its first."""
    usual = dict(input_dim=draw.choice([(4, 4), (8, 4)]), T=draw.choice([1, 2, 3, 6]), num_feat=8, precision="float32", beta_T=0.1)
    return {**usual, **{name: RANDOM[name](draw) for name in draw.sample(sorted(RANDOM), draw.choice([1, 1, 2, 4]))}}


def works(config, draw):
    """Raise where a step from the model to the pictures fails, or gives anything that is not finite."""
    model = ConditionalDDPM(config)
    labels, steps = torch.tensor([0, config.num_classes - 1]), draw.randint(1, config.T)
    for name, table in model.scheduler(torch.arange(1, config.T + 1)).items():
        assert table.shape == (config.T, 1, 1, 1) and table.isfinite().all(), name
    loss = model(torch.randn(2, config.num_channels, *config.input_dim), labels)
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    pictures = {"sample": model.sample(labels, config.omega)}
    for method in samplers.METHODS:
        pictures[method] = samplers.sample(model, labels, config.omega, method=method, steps=steps)
    for name, images in pictures.items():
        assert images.shape == (2, config.num_channels, *config.input_dim) and images.dtype == torch.float32, name
        assert images.isfinite().all() and 0 <= images.min() and images.max() <= 1, name


@pytest.mark.parametrize("number", [DEFAULT, pytest.param(5000, marks=pytest.mark.nightly)])
def test_random_settings_are_refused_or_work(number):
    draw, worked = random.Random(0), 0
    for i in range(number):
        asked = settings(draw)
        try:
            config = DMConfig(**asked)
        except ValueError as error:
            assert "allowed is" in str(error), asked
            continue
        torch.manual_seed(i)
        try:
            works(config, draw)
        except Exception as error:
            raise AssertionError(f"config {i}, DMConfig(**{asked}), was taken and fails: {type(error).__name__}: {error}") from error
        worked += 1
    assert 0.2 * number < worked < 0.8 * number
