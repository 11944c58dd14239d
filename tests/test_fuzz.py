"""Random settings: each is refused by DMConfig, or works through the model and every sampler."""

import math
import random

import pytest
import torch

from config import DMConfig
from DDPM import ConditionalDDPM
from lab import samplers

USUAL = dict(input_dim=(4, 4), T=4, num_feat=8, beta_T=0.1, precision="float32")  # what a network costs is kept small
FITTING = {
    "input_dim": [(4, 4), (8, 8), [8, 12], (4, 16)], "num_channels": [1, 2, 3], "condition_mask_value": [-1, 0, 1, -1000, 1000],
    "num_classes": [1, 2, 300], "T": [1, 2, 3, 12], "beta_1": [1e-12, 1e-8, 0.01, 0.5, 0.999], "beta_T": [1e-12, 0.02, 0.5, 0.999],
    "mask_p": [0, 1, 1e-300], "num_feat": [8], "omega": [2, 0, -1, 100, -100, 1e-300], "batch_size": [1, 10**6], "epochs": [1, 10**6],
    "learning_rate": [1e-12, 10], "multi_lr_milestones": [[], [1, 1, 2]], "multi_lr_gamma": [1e-12, 1], "lr_cycle": [0, 1, 1000],
    "ema_decay": [0, 0.999], "precision": ["auto", "bfloat16"], "seed": [0, 2**63 - 1], "schedule": ["linear", "cosine"],
}  # fmt: skip
ODD = {
    "input_dim": [8, (8, 6), (0, 8), (2**40, 8), "8"], "num_channels": [0, 10**12], "condition_mask_value": [10**20, -(10**40), 0.5],
    "num_classes": [0, 10**15, "10"], "T": [0, -1, 10**30, 5.0], "beta_1": [0, -0.1, 5e-324, 1, math.nan],
    "beta_T": [1 - 2**-53, 1 - 1e-9, 1, 5e-324, math.inf], "mask_p": [1.5, -1e-9, math.nan], "num_feat": [12, 0, -8, 10**12],
    "omega": [1e30, -1e300, 10**400, math.nan], "batch_size": [0, 10**20], "epochs": [0, 10**49], "learning_rate": [1e300, 0, math.inf],
    "multi_lr_milestones": [[2, 1], [10**30], 3], "multi_lr_gamma": [5e-324, 0, 2], "lr_cycle": [0.5, 1e300], "ema_decay": [1 - 2**-53, 1],
    "precision": ["half"], "seed": [2**64, -1], "schedule": ["Cosine"],
}  # fmt: skip


def settings(draw):
    """Some fields at random, most of them fitting: with all odd, every config would be refused for its first."""
    fields = draw.sample(sorted(FITTING), draw.randint(2, 8))
    drawn = {name: draw.choice(ODD[name] if draw.random() < 0.05 else FITTING[name]) for name in fields}
    if draw.random() < 0.5:
        betas = sorted(10 ** draw.uniform(-12.5, 0.1) for _ in range(2))
        drawn.update(zip(("beta_1", "beta_T"), betas), omega=draw.gauss(0, 30))
    return {**USUAL, **drawn}


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
        omega = abs(config.omega) if method == samplers.BEST else config.omega
        pictures[method] = samplers.sample(model, labels, omega, method=method, steps=steps)
    for name, images in pictures.items():
        assert images.shape == (2, config.num_channels, *config.input_dim) and images.dtype == torch.float32, name
        assert images.isfinite().all() and 0 <= images.min() and images.max() <= 1, name


def taken(asked, draw):
    """Whether DMConfig takes the settings asked for, which then work."""
    try:
        config = DMConfig(**asked)
    except ValueError as error:
        assert "allowed is" in str(error), asked
        return False
    try:
        works(config, draw)
    except Exception as error:
        raise AssertionError(f"DMConfig(**{asked}) was taken and fails: {type(error).__name__}: {error}") from error
    return True


def test_an_odd_value_is_refused_or_works():
    for name, values in ODD.items():
        for value in values:
            taken({**USUAL, name: value}, random.Random(0))


@pytest.mark.parametrize("number", [60, pytest.param(5000, marks=pytest.mark.nightly)])
def test_random_settings_are_refused_or_work(number):
    draw = random.Random(0)
    count = sum(taken(settings(draw), draw) for _ in range(number))
    assert 0.2 * number < count < 0.8 * number
