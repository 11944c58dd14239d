"""lab.training.checkpoint: what is saved comes back, what is damaged or runs code is refused, and a failed save harms nothing."""

import errno
import os
import pickle
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from conftest import same, settings, toy

from lab.training import checkpoint, pretrained
from lab.training.trainer import Trainer

HERE = Path(__file__).parent
STATE = {
    "epoch": 3,
    "model_state_dict": {"weight": torch.arange(60.0).view(3, 20), "count": torch.tensor(7), "half": torch.ones(5).bfloat16()},
    "optimizer_state_dict": {"state": {0: {"step": torch.tensor(4.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
    "dmconfig": {"input_dim": [28, 28], "precision": "auto"},
    "history": [{"epoch": 1, "test_noise_loss": 0.5}],
}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "last.pth", STATE)
    return tmp_path / "last.pth"


def test_what_is_saved_comes_back(path):
    assert same(checkpoint.load(path), STATE) and same(checkpoint.load(str(path)), STATE)
    assert not same(checkpoint.load(path), {**STATE, "epoch": 4})
    assert os.listdir(path.parent) == ["last.pth"]


def test_a_checkpoint_that_lacks_something_is_refused(path):
    for key in checkpoint.KEYS:
        part = {name: value for name, value in STATE.items() if name != key}
        with pytest.raises(ValueError, match=f"{key} is missing"):
            checkpoint.save(path, part)
        torch.save(part, path.with_name("part.pth"))
        with pytest.raises(checkpoint.CheckpointError, match=f"part.pth .*lacks {key}"):
            checkpoint.load(path.with_name("part.pth"))
    with pytest.raises(checkpoint.CheckpointError, match="lacks step"):
        checkpoint.load(path, keys=(*checkpoint.KEYS, "step"))
    assert same(checkpoint.load(path), STATE)


class Evil:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["zip", "older torch", "bare pickle"])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, how):
    trap, path = tmp_path / "it ran", tmp_path / "evil.pth"
    evil = {**STATE, "dmconfig": Evil(trap)}
    if how == "bare pickle":
        path.write_bytes(pickle.dumps({"epoch": Evil(trap)}))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(checkpoint.CheckpointError, match="evil.pth .*can run code"):
        checkpoint.load(path)
    assert not trap.exists()
    if how == "zip":
        torch.load(path, weights_only=False)
        assert trap.exists()  # the trap is a good one


class OldConfig:
    """What earlier editions pickled whole."""

    def __init__(self):
        self.T = 400


def test_a_checkpoint_of_an_earlier_edition_gets_advice_that_works(tmp_path):
    path = tmp_path / "old.pth"
    torch.save({**STATE, "dmconfig": OldConfig()}, path)
    with pytest.raises(checkpoint.CheckpointError, match=r"earlier editions.*weights_only=False\)\['model_state_dict'\]"):
        checkpoint.load(path)
    assert same(torch.load(path, weights_only=False)["model_state_dict"], STATE["model_state_dict"])


def test_a_file_cut_short_anywhere_is_refused(path):
    content = path.read_bytes()
    for length in [0, 1, 2, 4, len(content) - 1, *range(3, len(content), len(content) // 60)]:
        path.write_bytes(content[:length])
        with pytest.raises(checkpoint.CheckpointError, match="last.pth"):
            checkpoint.load(path)


def test_a_changed_byte_is_refused_or_changes_nothing(path):
    content, draw, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(250):
        place = draw.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ draw.randrange(1, 256)]) + content[place + 1 :])
        try:
            assert same(checkpoint.load(path), STATE), f"byte {place} of {len(content)} changed what was loaded"
        except checkpoint.CheckpointError as error:
            assert "last.pth" in str(error)
            refused += 1
    assert refused > 150


def test_a_changed_weight_is_noticed(path):
    """torch.load alone would take it: a weight of 6 becomes 2.875."""
    six, content = torch.tensor(6.0).numpy().tobytes(), path.read_bytes()
    path.write_bytes(content.replace(six, torch.tensor(2.875).numpy().tobytes(), 1))
    assert not same(torch.load(path, weights_only=True), STATE)
    with pytest.raises(checkpoint.CheckpointError, match="last.pth is damaged.*checksum"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), "text"])
def test_another_file_of_torch_is_refused(path, content):
    torch.save(content, path)
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint of this course"):
        checkpoint.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize("key", ["model_state_dict", "raw_model_state_dict"])
def test_weights_that_are_not_finite_are_refused(path, key, value):
    weights = {"count": torch.tensor(7), "late": torch.tensor([0.5, value]).bfloat16()}
    checkpoint.save(path, {**STATE, key: weights})
    with pytest.raises(
        checkpoint.CheckpointError, match="last.pth holds weights that are not finite, the first in late.*smaller learning_rate"
    ):
        checkpoint.load(path)
    pretrained.save(path.with_name("digits.safetensors"), weights)
    with pytest.raises(checkpoint.CheckpointError, match="digits.safetensors holds weights that are not finite, the first in late"):
        pretrained.load(path.with_name("digits.safetensors"))


def test_weights_that_are_no_dict_are_refused(path):
    checkpoint.save(path, {**STATE, "model_state_dict": torch.zeros(3)})
    with pytest.raises(checkpoint.CheckpointError, match="last.pth .*its model_state_dict is Tensor"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "settings, words", [({"width": 64}, "unknown setting 'width'"), ({"T": 0}, "T = 0; allowed"), ([1], "unknown"), (3, "")]
)
def test_settings_that_do_not_fit_name_the_file(path, settings, words):
    checkpoint.save(path, {**STATE, "dmconfig": settings})
    with pytest.raises(checkpoint.CheckpointError, match=f"last.pth holds settings that do not fit here: .*{words}"):
        checkpoint.load(path)
    pretrained.save(path.with_name("digits.safetensors"), STATE["model_state_dict"], dmconfig=settings)
    with pytest.raises(checkpoint.CheckpointError, match=f"digits.safetensors holds settings that do not fit here: .*{words}"):
        pretrained.load(path.with_name("digits.safetensors"))


@pytest.mark.parametrize("load", [checkpoint.load, pretrained.load])
def test_a_git_lfs_pointer_is_called_one(path, load):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 47040016\n")
    with pytest.raises(checkpoint.CheckpointError, match="last.pth is a Git LFS pointer.*git lfs pull"):
        load(path)


WRAPPED = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "a part compiled": lambda name: name.replace("network.", "network._orig_mod.", 1),
    "parallel": lambda name: f"module.{name}",
    "both": lambda name: f"_orig_mod.module.{name}",
    "both, the other way": lambda name: f"module._orig_mod.{name}",
}


@pytest.mark.parametrize("rename", WRAPPED.values(), ids=WRAPPED)
def test_a_compiled_or_parallel_models_weights_are_taken_with_a_word(rename):
    one, other = (toy(settings(seed=seed)) for seed in (0, 1))
    with pytest.warns(UserWarning, match="last.pth was saved from a compiled or parallel model"):
        checkpoint.fill(one, {rename(name): weight for name, weight in other.state_dict().items()}, "last.pth")
    assert same(dict(one.state_dict()), dict(other.state_dict()))


def test_other_weights_are_taken_without_a_word_or_refused():
    one, other = (toy(settings(seed=seed)) for seed in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint.fill(one, other.state_dict(), "last.pth")
        assert same(dict(one.state_dict()), dict(other.state_dict()))
        few = {name: weight for name, weight in other.state_dict().items() if "num_batches" not in name}
        for weights in (few, {name: weight[..., None] for name, weight in other.state_dict().items()}):
            with pytest.raises(checkpoint.CheckpointError, match="last.pth holds the weights of another network than ResUNet.py's"):
                checkpoint.fill(one, weights, "last.pth")
        for change in (
            lambda name: f"ema.{name}",
            lambda name: name.replace("0.weight", "9.weight"),
            lambda name: f"module.{name}.module.x",
        ):
            with pytest.raises(checkpoint.CheckpointError, match="last.pth holds the weights of another network"):
                checkpoint.fill(one, {change(name): weight for name, weight in other.state_dict().items()}, "last.pth")


def test_a_run_of_a_compiled_network_is_saved_without_its_prefix_and_goes_on(tmp_path):
    def compiled(dmconfig):
        model = toy(dmconfig)
        model.network = torch.compile(model.network, backend="eager")
        return model

    trainer, plain = (Trainer(make(settings()), settings(), 4, "cpu") for make in (compiled, toy))
    state = trainer.state_dict()
    assert same(state["model_state_dict"], plain.state_dict()["model_state_dict"])
    assert same(state["raw_model_state_dict"], plain.state_dict()["raw_model_state_dict"])
    again = Trainer(compiled(settings(seed=1)), settings(), 4, "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again.load_state_dict(state, "last.pth")
    assert same(again.state_dict()["model_state_dict"], state["model_state_dict"])


def test_no_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="nothing.pth does not exist"):
        checkpoint.load(tmp_path / "nothing.pth")
    with pytest.raises(checkpoint.CheckpointError, match=str(tmp_path.name)):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_old_file_and_no_litter(path, monkeypatch, step):
    def full(*anything):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {**STATE, "epoch": 4})
    assert same(checkpoint.load(path), STATE) and os.listdir(path.parent) == ["last.pth"]
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write_text(path.with_name("log.csv"), "text")
    with pytest.raises(OSError, match="No space left"):
        pretrained.save(path, {"weight": torch.zeros(3)})
    assert same(checkpoint.load(path), STATE) and os.listdir(path.parent) == ["last.pth"]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path):
    """A real disk of one megabyte, where this machine allows to make one."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        path = tmp_path / "last.pth"
        checkpoint.save(path, STATE)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(path, {**STATE, "history": torch.zeros(1 << 20)})
        assert same(checkpoint.load(path), STATE) and os.listdir(tmp_path) == ["last.pth"]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


DIE_IN_SAVE = """
import os, signal, sys
sys.path[:0] = [{root!r}, {here!r}]
from lab.training import checkpoint
from test_checkpoint import STATE
os.{step} = lambda *anything: os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save({path!r}, {{**STATE, "epoch": 4}})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_save_leaves_the_old_file_and_the_next_one_tidies_up(path):
    for step in ("fsync", "replace"):
        script = DIE_IN_SAVE.format(root=str(HERE.parent.parent), here=str(HERE), step=step, path=str(path))
        assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
        assert same(checkpoint.load(path), STATE)
        assert len(os.listdir(path.parent)) == 2  # a dead process cannot clean up
    checkpoint.save(path, {**STATE, "epoch": 4})
    assert checkpoint.load(path)["epoch"] == 4 and os.listdir(path.parent) == ["last.pth"]
