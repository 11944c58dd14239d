"""One of the processes of a training run, for test_processes.py: torchrun worker.py FOLDER."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import torch
from conftest import Bar, Toy, batches, settings, toy, train

from lab.training.trainer import Trainer, accelerator, seeded


class Remembering(Toy):
    """A toy that keeps what it was trained with: images, labels, noise."""

    def forward(self, images, labels):
        keep = lambda network, inputs: self.seen.append((images, labels, inputs[0] - images))
        with self.network.register_forward_pre_hook(keep):
            return super().forward(images, labels)


class Still(Toy):
    """A toy without chance, and with batch norm in eval mode: the gradient of a batch is the mean over its parts."""

    def forward(self, images, labels):
        self.network.eval()
        return self.network(images).square().mean()


def epoch_by_epoch():
    """Two epochs; what this process was given in each, and all that it holds at the end."""
    model, seen = toy(settings(), Remembering), []
    trainer = Trainer(model, settings(), 4, "cpu")
    for epoch in (1, 2):
        model.seen, bar = [], Bar()
        with seeded("cpu", 0, "epoch", epoch):
            losses = trainer.train_epoch(batches(57, shuffle=True), bar)
        seen.append({"batches": model.seen, "losses": losses, "counted": bar.count})
    return {"seen": seen, "state": trainer.state_dict(), "processes": trainer.accelerator.num_processes}


def one_step():
    """What Adam keeps of the gradient of one batch, and the loss."""
    trainer = Trainer(toy(settings(), Still), settings(), 1, "cpu")
    losses = trainer.train_epoch([next(iter(batches(16)))], Bar())
    return {"moments": trainer.optimizer.state_dict()["state"], "loss": losses[0]}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    history, _ = train(folder / "run", reporter=None)
    result = {"history": history, **epoch_by_epoch(), "step": one_step()}
    torch.save(result, folder / f"process-{accelerator().process_index}.pt")
