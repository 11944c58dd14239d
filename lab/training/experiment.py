"""An experiment: one training run, kept in a folder, which resumes where it was stopped."""

import contextlib
import io
import shutil
import time
from pathlib import Path

import matplotlib.pyplot as plt
from filelock import FileLock, Timeout

from config import DMConfig
from lab import display
from lab.training import checkpoint
from lab.training.trainer import Trainer, TrainingError, accelerator, placed, seeded


def run(model, dmconfig, folder, train_loader, test_loader, device, picture, reporter=None):
    """Train `model` for dmconfig.epochs and keep the results in `folder`; resume where an earlier run stopped.

    dmconfig: whatever DMConfig.of takes. picture(model) is a figure of samples, drawn with the averaged model after each epoch.
    Returns the history, a dict an epoch. Random numbers depend on dmconfig.seed and the epoch alone, so a run that is killed and
    continued ends with the same weights, on a CPU to the bit. Raises ValueError where `folder` holds a run with other settings,
    TrainingError where another process trains there, the disk has no room, or a loss is not finite, and CheckpointError for a
    last_checkpoint.pth that cannot be read.
    """
    dmconfig, processes = DMConfig.of(dmconfig), accelerator()
    main = processes.is_main_process  # of several, the one that writes, prints and draws
    rest = len(train_loader.dataset) % dmconfig.batch_size
    if 0 < rest < processes.num_processes:
        raise ValueError(f"{rest} images in the last batch for {processes.num_processes} processes; choose another batch_size")
    folder, reporter = Path(folder), reporter or display.Reporter(silent=not main)
    with _alone(folder) if main else contextlib.nullcontext():
        train_loader, test_loader = placed(train_loader, device), placed(test_loader, device)
        trainer = Trainer(model, dmconfig, len(train_loader), device)
        data = {"train": _describe(train_loader), "test": _describe(test_loader)}
        processes.wait_for_everyone()  # until the folder is there and ours
        history = _resume(trainer, folder / "last_checkpoint.pth", data, reporter)
        if main and len(history) < dmconfig.epochs:
            _check_room(folder, model)
        if history and main:
            _log(folder, history)  # a run killed after its checkpoint may lack these two
            _draw(picture, trainer, folder, len(history), again=False)
        for epoch in range(len(history) + 1, dmconfig.epochs + 1):
            reporter.line(f"epoch {epoch}/{dmconfig.epochs}")
            history.append(_epoch(trainer, epoch, train_loader, test_loader, reporter, _left(history, dmconfig.epochs)))
            reporter.line(_result(history[-1]))
            if main:
                _keep(trainer, folder, history, data)
                _draw(picture, trainer, folder, epoch)
        processes.wait_for_everyone()  # until all is written
        return history


def folder_of(name):
    """Where the experiment `name` is kept. Raises ValueError for what is no name of a folder in ./save."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"exp_name = {name!r}; allowed is the name of a folder in ./save")
    return Path("save") / name


@contextlib.contextmanager
def _alone(folder):
    """Make `folder` if needed, and lock it for this process; the lock of a dead process is free."""
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise TrainingError(f"another process is training {folder}; wait for it, or take another experiment name") from None
    except OSError as error:
        raise TrainingError(f"{folder} cannot be written ({error}); take another experiment name, or run in another folder") from error
    with lock:
        yield


def _check_room(folder, model):
    """Raise TrainingError if the disk lacks room for both checkpoints, 4 and 3 times the weights, and 4 times for a temporary file."""
    needed = 11 * sum(tensor.nbytes for tensor in model.state_dict().values())
    needed -= sum(path.stat().st_size for path in folder.glob("*_checkpoint.pth"))  # which they replace
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(f"{folder} has {free / 1e6:.0f} MB free, its checkpoints need {needed / 1e6:.0f} MB; make room there")


def _left(history, epochs):
    """The time left, estimated from the last epoch, in words."""
    if not history:
        return ""
    minutes = history[-1]["seconds"] * (epochs - len(history)) / 60
    return f", {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"


def _epoch(trainer, epoch, train_loader, test_loader, reporter, left):
    started = time.perf_counter()
    images = len(train_loader.dataset)
    learning_rate = trainer.learning_rate
    with seeded(trainer.device, trainer.dmconfig.seed, "epoch", epoch), reporter.bar(images, " images", f"train{left}") as bar:
        losses = trainer.train_epoch(train_loader, bar)
    trained = time.perf_counter()
    with reporter.bar(len(test_loader.dataset), " images", "test") as bar:
        test_loss = trainer.test(test_loader, bar)
    return {
        "epoch": epoch,
        "train_noise_loss": sum(losses) / len(losses),
        "test_noise_loss": test_loss,
        "learning_rate": learning_rate,
        "images_per_second": images / (trained - started),
        "seconds": time.perf_counter() - started,
    }


def _result(row):
    return f"train: train_noise_loss = {row['train_noise_loss']:.4f} test: test_noise_loss = {row['test_noise_loss']:.4f}"


def _keep(trainer, folder, history, data):
    """Write the checkpoints and the log after an epoch; the best first, so that the last never refers to a missing best."""
    state = {"epoch": len(history), "dmconfig": trainer.dmconfig.to_dict(), "history": history, "data": data, **trainer.state_dict()}
    if history[-1] == min(history, key=lambda row: row["test_noise_loss"]):
        checkpoint.save(folder / "best_checkpoint.pth", {key: state[key] for key in (*checkpoint.KEYS, "history", "data")})
    checkpoint.save(folder / "last_checkpoint.pth", state)
    _log(folder, history)


def _log(folder, history):
    """The history as a table, as a picture, and for TensorBoard where that is installed."""
    checkpoint.write_rows(folder / "log.csv", history)
    _save_figure(display.epoch_curve(history, f"Training of {folder.name}"), folder / "loss_curve.png")
    _tell_tensorboard(folder, history[-1])


def _tell_tensorboard(folder, row):
    """Write the numbers of the last epoch for TensorBoard, if it is installed; log.csv holds the same."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # here, as it may bring all of TensorFlow along
    except ImportError:
        return
    with SummaryWriter(folder / "tensorboard", purge_step=row["epoch"]) as writer:  # drops what a stopped run wrote of this epoch
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(name, value, row["epoch"])


def _draw(picture, trainer, folder, epoch, again=True):
    path = folder / "images" / f"generate_epoch_{epoch}.png"
    if again or not path.exists():
        trainer.averaged.eval()
        _save_figure(picture(trainer.averaged), path)


def _save_figure(figure, path):
    content = io.BytesIO()
    figure.savefig(content, dpi=150)
    plt.close(figure)
    checkpoint.write_bytes(path, content.getbuffer())


def _resume(trainer, path, data, reporter):
    """Put an earlier run's state into the trainer, print what it had reached, and return its history."""
    if not path.exists():
        return []
    state = checkpoint.load(path, trainer.device, (*checkpoint.KEYS, "history", "data", *trainer.state_dict()))
    settings = DMConfig.from_dict(state["dmconfig"]).to_dict()  # settings newer than that run take their defaults
    then = {**settings, "data": state["data"], "steps an epoch": state["step"] // state["epoch"]}
    now = {**trainer.dmconfig.to_dict(), "data": data, "steps an epoch": trainer.steps}
    differing = [f"{key} was {then[key]!r}, is {now[key]!r}" for key in now if now[key] != then[key]]
    if differing:
        raise ValueError(
            f"{path.parent} holds a run with other settings: {'; '.join(differing)}. Take another experiment name, or delete that folder"
        )
    trainer.load_state_dict(state, path)
    for row in state["history"]:
        reporter.line(f"epoch {row['epoch']}/{trainer.dmconfig.epochs}")
        reporter.line(_result(row))
    return state["history"]


def _describe(loader):
    """What a loader serves, as a string, to be compared between runs."""
    return f"{type(loader.dataset).__name__}, {len(loader.dataset)} images"
