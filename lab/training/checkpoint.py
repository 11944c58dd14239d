"""Save and load checkpoints: tensors and plain types only, written whole or not at all."""

import contextlib
import csv
import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import torch

from config import DMConfig

KEYS = ("epoch", "model_state_dict", "optimizer_state_dict", "dmconfig")
WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DataParallel put into the names of weights
POINTER = b"version https://git-lfs.github.com/spec/"  # the first bytes of a file that Git LFS has not fetched


class CheckpointError(Exception):
    """A file that is no readable checkpoint of this course; the message names it and what to do."""


def save(path, checkpoint):
    """Write a dict with at least KEYS to `path`: to a temporary file beside it, flushed, then renamed.

    Even if interrupted, `path` is either the old file or the new one. Raises OSError where the disk is full.
    """
    path = Path(path)
    missing = [key for key in KEYS if key not in checkpoint]
    if missing:
        raise ValueError(f"a checkpoint holds {', '.join(KEYS)}; {missing[0]} is missing")
    content = io.BytesIO()  # torch.save hides a full disk behind a RuntimeError of its own
    torch.save(checkpoint, content)
    write_bytes(path, content.getbuffer())


def load(path, device="cpu", keys=KEYS):
    """The dict in `path`, its tensors on `device`.

    Raises CheckpointError for a file that is damaged, runs code or lacks a key, for weights that are not finite, and for settings
    that DMConfig refuses.
    """
    refuse_pointer(path)
    try:
        if zipfile.is_zipfile(path):  # torch writes a checksum for each tensor, but does not look at it
            with zipfile.ZipFile(path) as archive:
                if archive.testzip():
                    raise zipfile.BadZipFile(f"the checksum of {archive.testzip()} is wrong")
        checkpoint = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and plain values, so it is not opened: such a file can run code. "
            "Checkpoints of earlier editions pickled their config; in a file that you trust, torch.load(path, "
            "weights_only=False)['model_state_dict'] is what load_state_dict takes"
        ) from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        why = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is damaged or no checkpoint ({why}); train it again, or copy it anew") from error
    missing = [key for key in keys if not isinstance(checkpoint, dict) or key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} is no checkpoint of this course, or not the one that is wanted here: it lacks {', '.join(missing)}")
    return checked(checkpoint, path)


def checked(state, path):
    """`state`, read from `path`, unchanged. Raises CheckpointError for weights that are not finite and settings that DMConfig refuses."""
    for key in ("model_state_dict", "raw_model_state_dict"):
        weights = state.get(key, {})
        if not isinstance(weights, dict):
            raise CheckpointError(f"{path} is no checkpoint of this course: its {key} is {type(weights).__name__}, not a dict of tensors")
        for name, weight in weights.items():
            if torch.is_tensor(weight) and not weight.isfinite().all():
                raise CheckpointError(
                    f"{path} holds weights that are not finite, the first in {name}: the training that wrote it had failed. "
                    "Take an earlier checkpoint, or train again with a smaller learning_rate"
                )
    if "dmconfig" in state:
        try:
            DMConfig.from_dict(state["dmconfig"])
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path} holds settings that do not fit here: {error}") from error
    return state


def refuse_pointer(path, error=CheckpointError):
    """Raise `error` where `path` is what Git LFS leaves in place of a file until it is fetched."""
    with contextlib.suppress(OSError), open(path, "rb") as file:  # the next reader of the file reports this
        if file.read(len(POINTER)) == POINTER:
            raise error(f"{path} is a Git LFS pointer, not the file that it stands for; run `git lfs pull`, or copy the file itself there")


def fill(model, weights, path):
    """Load all `weights`, read from `path`, into `model`; warns if their names contain WRAPPERS.

    Raises CheckpointError if they are another network's.
    """
    own = {_unwrapped(name): name for name in model.state_dict()}
    named = {own.get(_unwrapped(name), name): weight for name, weight in weights.items()}
    foreign = CheckpointError(f"{path} holds the weights of another network than ResUNet.py's")
    if named.keys() != set(own.values()):
        raise foreign
    try:
        model.load_state_dict(named)
    except RuntimeError as error:  # other shapes
        raise foreign from error
    if any(name != _unwrapped(name) for name in weights.keys() - named.keys()):
        warnings.warn(f"{path} was saved from a compiled or parallel model; its weights are read without the wrapper's names", stacklevel=3)


def _unwrapped(name):
    """The name of a weight without those of WRAPPERS, wherever they stand."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def write_bytes(path, content):
    """Write a file whole or not at all."""
    with _replacing(Path(path), "wb") as file:
        file.write(content)


def write_text(path, text):
    """Write a text file whole or not at all."""
    with _replacing(Path(path), "w", encoding="utf-8") as file:
        file.write(text)


def write_rows(path, rows):
    """Write dicts of the same keys as a CSV file, whole or not at all."""
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


@contextlib.contextmanager
def _replacing(path, mode, **how):
    """A temporary file beside `path` that takes its place once it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.partial")  # always the same name: a killed process's leftover is overwritten
    try:
        with open(temporary, mode, **how) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
