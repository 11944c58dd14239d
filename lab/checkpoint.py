"""Save and load checkpoints: tensors and plain types only, written whole or not at all."""

import contextlib
import csv
import io
import os
import pickle
import zipfile
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
    content = io.BytesIO()  # torch.save hides a full disk behind a RuntimeError of its own
    torch.save(checkpoint, content)
    write_bytes(path, content.getbuffer())


def load(path, device="cpu", keys=KEYS):
    """The dict in `path`, its tensors on `device`. Raises CheckpointError for a file that is damaged, runs code or lacks a key."""
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
    return checkpoint


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
    temporary = path.with_name(f".{path.name}.partial")  # one name: what a killed process left is overwritten
    try:
        with open(temporary, mode, **how) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
