"""The weights that ship with the project: safetensors files that hold their config and training record."""

import hashlib
import json
from pathlib import Path

import safetensors
import safetensors.torch

from lab.training.checkpoint import CheckpointError, checked, refuse_pointer, write_bytes

DIGITS = Path(__file__).parents[1] / "weights" / "digits.safetensors"  # the default network
PAIRS = DIGITS.with_name("pairs.safetensors")  # two digits side by side: explorations/two_digits
FEW = DIGITS.with_name("few.safetensors")  # the default network, distilled to draw in one to four calls: lab.distillation
JUDGE = DIGITS.with_name("judge.safetensors")  # the classifier of lab.quality.judge
SECOND = DIGITS.with_name("second.safetensors")  # another one, which says what is drawn again: lab.diffusion.redraw


def save(path, weights, **about):
    """Write the tensors of a state_dict to `path`, in half precision, with the metadata `about` as JSON."""
    tensors = {name: (t.half() if t.is_floating_point() else t).cpu().contiguous() for name, t in weights.items()}
    about = {key: json.dumps(value) for key, value in about.items()}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, safetensors.torch.save(tensors, {**about, "sha256": digest(tensors, about)}))


def load(path, device="cpu"):
    """A dict of model_state_dict (float32, on `device`) and the metadata of `save`. Raises CheckpointError as checkpoint.load does."""
    refuse_pointer(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = file.metadata()
            sha256 = about.pop("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            if digest(tensors, about) != sha256:
                raise ValueError("its checksum is wrong")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train the network, or take the file from the project") from error
    except (safetensors.SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no weights of this course ({type(error).__name__}: {error}); copy it anew") from error
    weights = {name: (t.float() if t.is_floating_point() else t).to(device) for name, t in tensors.items()}
    return checked({"model_state_dict": weights, **{key: json.loads(text) for key, text in about.items()}}, path)


def digest(tensors, about):
    """SHA-256 of the tensors of a state_dict and of metadata, in hexadecimal; safetensors has no checksum of its own."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode() + tensors[name].cpu().numpy().tobytes())
    return found.hexdigest()
