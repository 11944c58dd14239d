"""The weights that ship with the project: safetensors files that hold their config and training record."""

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
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(tensors, path, {"dmconfig": json.dumps(checkpoint["dmconfig"]), "record": json.dumps(record)})


def load(path=FOLDER / "digits.safetensors", device="cpu"):
    """A dict of model_state_dict (float32, on `device`), dmconfig and record. Raises CheckpointError for a file that is none."""
    try:
        with safetensors.safe_open(path, "pt", device=str(device)) as file:
            about = {key: json.loads(file.metadata()[key]) for key in ("dmconfig", "record")}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train the network, or take the file from the project") from error
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no weights of this course ({type(error).__name__}: {error}); copy it anew") from error
    return {"model_state_dict": {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, **about}
