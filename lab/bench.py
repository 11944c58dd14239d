"""Measurements behind the numbers that the project states."""

import dataclasses
import statistics

from lab.display import Reporter
from lab.training import Trainer, seeded


def compare(makers, dmconfig, train_loader, test_loader, seeds, device="cpu"):
    """Final test loss of several models, each trained with every seed, in turn.

    makers: {name: function of a DMConfig that gives a model}. Returns {name: [a test loss a seed]}.
    """
    losses = {name: [] for name in makers}
    reporter = Reporter()
    for seed in range(seeds):
        config = dataclasses.replace(dmconfig, seed=seed)
        for name, make in makers.items():
            with seeded(device, seed, "weights"):
                trainer = Trainer(make(config), config, len(train_loader), device)
            for epoch in range(1, config.epochs + 1):
                with seeded(device, seed, "epoch", epoch), reporter.bar(len(train_loader.dataset), " images", name) as bar:
                    trainer.train_epoch(train_loader, bar)
            with reporter.bar(len(test_loader.dataset), " images", "test") as bar:
                losses[name].append(trainer.test(test_loader, bar))
            reporter.line(f"seed {seed}  {name:10} test loss {losses[name][-1]:.4f}")
    return losses


def table(losses):
    """One line a model: median and range of its losses."""
    width = max(map(len, losses))
    return "\n".join(
        f"{name:{width}}  median {statistics.median(values):.4f}, {min(values):.4f} to {max(values):.4f} over {len(values)} seeds"
        for name, values in losses.items()
    )
