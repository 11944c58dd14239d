"""Save and load checkpoints: tensors and plain types only, written whole or not at all."""

import os
import pickle
from pathlib import Path

import torch

KEYS = ("epoch", "model_state_dict", "optimizer_state_dict", "dmconfig")


class CheckpointError(Exception):
    """A file that is no readable checkpoint of this course; the message names it and what to do."""


def save(path, checkpoint):
    """Write a dict with at least KEYS to `path`: to a temporary file beside it, flushed, then renamed.

    Whatever happens meanwhile, `path` is the old file or the new one. Raises OSError where the disk is full.
    """
    path = Path(path)
    missing = [key for key in KEYS if key not in checkpoint]
    if missing:
        raise ValueError(f"a checkpoint holds {', '.join(KEYS)}; {missing[0]} is missing")
    with _replacing(path, "wb") as file:
        torch.save(checkpoint, file)


def load(path, device="cpu"):
    """The dict in `path`, its tensors on `device`. Raises CheckpointError for a file that is damaged or runs code."""
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values, so it is not opened: such a file can run code. "
            "Checkpoints of earlier editions pickled their config; in a file that you trust, torch.load(path, "
            "weights_only=False)['model_state_dict'] is what load_state_dict takes"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, AttributeError, TypeError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint ({type(error).__name__}: {error}); train it again, or copy it anew") from error
    missing = [key for key in KEYS if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of this course: it lacks {', '.join(missing)}")
    return checkpoint


def write_text(path, text):
    """Write a text file whole or not at all."""
    with _replacing(Path(path), "w") as file:
        file.write(text)


class _replacing:
    """A temporary file beside `path` that takes its place once it is complete and on the disk."""

    def __init__(self, path, mode):
        self.path, self.mode = path, mode

    def __enter__(self):
        self.temporary = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        self.file = open(self.temporary, self.mode)
        return self.file

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.file.flush()
                os.fsync(self.file.fileno())
            self.file.close()
            if kind is None:
                os.replace(self.temporary, self.path)
        finally:
            if os.path.exists(self.temporary):
                os.unlink(self.temporary)
