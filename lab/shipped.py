"""The weights that ship with the project: safetensors files that hold their config and training record."""

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch

from lab.checkpoint import CheckpointError

FOLDER = Path(__file__).parent / "weights"


def save(path, checkpoint):
    """Write what one samples from, in half precision, of a checkpoint (a dict as lab.checkpoint.load gives it) to `path`."""
    tensors = {name: (t.half() if t.is_floating_point() else t).contiguous() for name, t in checkpoint["model_state_dict"].items()}
    record = {key: checkpoint[key] for key in ("epoch", "data", "history")}
    about = {"dmconfig": json.dumps(checkpoint["dmconfig"]), "record": json.dumps(record)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path, {**about, "sha256": _digest(tensors, about)})


def load(path=FOLDER / "digits.safetensors", device="cpu"):
    """A dict of model_state_dict (float32, on `device`), dmconfig and record. Raises CheckpointError for a file that is none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = {key: file.metadata()[key] for key in ("dmconfig", "record")}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            if _digest(tensors, about) != file.metadata()["sha256"]:
                raise ValueError("its checksum is wrong")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train the network, or take the file from the project") from error
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no weights of this course ({type(error).__name__}: {error}); copy it anew") from error
    weights = {name: (t.float() if t.is_floating_point() else t).to(device) for name, t in tensors.items()}
    return {"model_state_dict": weights, **{key: json.loads(text) for key, text in about.items()}}


def _digest(tensors, about):
    """SHA-256 of everything in the file, which safetensors itself does not protect."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()
