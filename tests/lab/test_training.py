"""lab.training: the same run gives the same weights, a run that was stopped loses nothing, and what is saved is true."""

import csv
import math
import os
import random
import re
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import Bar, Toy, batches, same, same_run, settings, toy, train, without_times

from lab import display
from lab.speed import precision
from lab.training import checkpoint, experiment
from lab.training.trainer import Trainer, TrainingError, rate, seeded

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing disturbed: its folder, and its result."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


class Stopping:
    """A loader that stops the run before its n-th batch, as Ctrl-C would."""

    def __init__(self, loader, batch, error=KeyboardInterrupt):
        self.loader, self.dataset, self.left, self.error = loader, loader.dataset, batch, error

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for both in self.loader:
            self.left -= 1
            if self.left == 0:
                raise self.error
            yield both


def unused():
    """A loader for a run that must not come to train."""
    return Stopping(batches(56, shuffle=True), 1, AssertionError("it trains"))


class Changing:
    """A loader whose images are changed by a function of the epoch and the batch, both from 0."""

    def __init__(self, loader, change):
        self.loader, self.dataset, self.change, self.epoch = loader, loader.dataset, change, -1

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.epoch += 1
        for batch, (images, labels) in enumerate(self.loader):
            yield self.change(images, self.epoch, batch), labels


# The same run, whatever happens to it


def test_the_same_settings_give_the_same_weights(whole, tmp_path):
    _, result = whole
    torch.manual_seed(99)  # what was drawn before does not matter
    assert same_run(train(tmp_path / "again"), result)
    assert not same_run(train(tmp_path / "other", seed=1), result)


def test_each_epoch_draws_anew(tmp_path):
    seen = {0: [], 1: [], 2: []}
    train(tmp_path, train_loader=Changing(batches(56, shuffle=True), lambda images, epoch, batch: seen[epoch].append(images) or images))
    orders = [torch.cat(images) for images in seen.values()]
    assert orders[0].shape == (56, 1, 8, 8)
    assert not any(torch.equal(orders[i], orders[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("batch", [2, 5, 8, 11])  # in the first epoch, after one epoch, at the end of one, in the last
def test_a_stopped_run_goes_on_to_the_same_weights(whole, tmp_path, batch):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, train_loader=Stopping(batches(56, shuffle=True), batch))
    assert same_run(train(tmp_path), whole[1])
    assert (tmp_path / "best_checkpoint.pth").exists() and not list(tmp_path.glob(".*partial"))


def test_a_run_stopped_in_its_picture_and_twice_goes_on(whole, tmp_path):
    def fails(model):
        raise KeyboardInterrupt

    for picture, batch in ((fails, None), (None, 6), (fails, None)):
        loader = batches(56, shuffle=True)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, train_loader=Stopping(loader, batch) if batch else loader, picture=picture)
    assert same_run(train(tmp_path), whole[1])
    assert (tmp_path / "images/generate_epoch_2.png").exists(), "the picture that failed is drawn when the run is taken up again"


def test_a_picture_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """Half a picture would stay: one that is there is not drawn again."""

    def killed(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        experiment._save_figure(plt.figure(), tmp_path / "generate_epoch_1.png")
    assert not any(tmp_path.iterdir())


DIE = """
import os, random, signal, sys
sys.path[:0] = [{root!r}, {here!r}]
from conftest import train

def watch(frame, event, value):
    global lines
    if not frame.f_code.co_filename.startswith({engine!r}):
        return None
    lines += event == "line"
    if lines == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return watch

def life(folder, until):  # of a process of its own, that dies before the n-th line that it runs in lab/
    global lines, last
    lines, last = 0, until
    if not (child := os.fork()):
        sys.settrace(watch)
        train(folder)
        sys.settrace(None)
        open(folder + ".lines", "w").write(str(lines))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

assert life({folder!r}, -1) == 0
total, draw = int(open({folder!r} + ".lines").read()), random.Random(0)
for kill in range({kills}):
    moment = max(1, round((kill + draw.random()) / {kills} * total))
    assert life({folder!r} + str(kill), moment) == -signal.SIGKILL
"""


def survives_kills(whole, tmp_path, kills):
    root = HERE.parent.parent
    script = DIE.format(root=str(root), here=str(HERE), engine=str(root / "lab"), folder=str(tmp_path / "run"), kills=kills)
    here = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": str(torch.get_num_threads())}  # another number adds up in another order
    dead = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=here)
    assert dead.returncode == 0, dead.stderr
    for kill in range(kills):
        folder = tmp_path / f"run{kill}"
        assert same_run(train(folder), whole[1]), f"after kill {kill} of {kills}"
        assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole[0].iterdir())
        assert (folder / "log.csv").read_text().count("\n") == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("kills", [pytest.param(4, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.nightly)])
def test_a_killed_run_goes_on_to_the_same_weights(whole, tmp_path, kills):
    survives_kills(whole, tmp_path, kills)


def test_a_finished_run_returns_its_history(whole, monkeypatch):
    folder, (history, state) = whole
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 0}))  # it writes little
    (folder / "log.csv").unlink()  # as if it had been killed after the last checkpoint
    before = (folder / "last_checkpoint.pth").read_bytes()
    again, _ = train(folder, train_loader=unused())
    assert again == history and (folder / "last_checkpoint.pth").read_bytes() == before
    assert (folder / "log.csv").read_text().count("\n") == 4


def test_other_settings_are_refused_by_name(whole):
    with pytest.raises(ValueError) as error:
        train(whole[0], learning_rate=0.5, mask_p=0.25, multi_lr_milestones=[1, 2])
    message = str(error.value)
    for words in ("learning_rate was 0.001, is 0.5", "mask_p was 0.1, is 0.25", "multi_lr_milestones was [20], is [1, 2]"):
        assert words in message
    assert "seed" not in message and "epochs" not in message and "another experiment name" in message


def test_other_data_is_refused(whole):
    with pytest.raises(ValueError, match="data was .*56 images.* is .*64 images"):
        train(whole[0], train_loader=batches(64, shuffle=True))
    with pytest.raises(ValueError, match="steps an epoch was 4, is 7"):
        train(whole[0], train_loader=batches(56, 8, shuffle=True))


def test_a_checkpoint_of_another_kind_is_refused(whole, tmp_path):
    (tmp_path / "last_checkpoint.pth").write_bytes((whole[0] / "best_checkpoint.pth").read_bytes())
    with pytest.raises(checkpoint.CheckpointError, match="lacks raw_model_state_dict"):
        train(tmp_path)


def test_a_setting_that_is_younger_than_the_run_has_its_default(whole, tmp_path):
    state = checkpoint.load(whole[0] / "last_checkpoint.pth")
    del state["dmconfig"]["precision"], state["dmconfig"]["omega"]
    checkpoint.save(tmp_path / "last_checkpoint.pth", state)
    with pytest.raises(ValueError, match="settings: precision was 'auto', is 'float32'. Take"):
        train(tmp_path)


# One process, room on the disk

HOLD = "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path):
    command = [sys.executable, "-c", HOLD, tmp_path / ".lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="another process is training"):
            train(tmp_path, train_loader=unused())
        first.kill()
        first.wait()
    assert len(train(tmp_path, epochs=1)[0]) == 1


def test_no_room_and_no_folder_are_errors_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="file cannot be written"):
        train(tmp_path / "file", train_loader=unused())
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(TrainingError, match="make room"):
        train(tmp_path / "full", train_loader=unused())


# What is saved is true


def test_the_files_of_a_run(whole):
    folder, (history, state) = whole
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and "tensorboard" not in p.parts) == sorted(
        [".lock", "best_checkpoint.pth", "last_checkpoint.pth", "log.csv", "loss_curve.png"]
        + [str(Path("images") / f"generate_epoch_{epoch}.png") for epoch in (1, 2, 3)]
    )
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items()} for row in rows] == history
    assert list(rows[0]) == ["epoch", "train_noise_loss", "test_noise_loss", "learning_rate", "images_per_second", "seconds"]
    assert plt.imread(folder / "loss_curve.png").std() > 0.01  # there is something on it
    assert list(state) == ["epoch", "dmconfig", "history", "data", "model_state_dict", "optimizer_state_dict",
                           "raw_model_state_dict", "n_averaged", "step", "scaler"]  # fmt: skip
    assert (state["epoch"], state["step"], state["n_averaged"].item(), state["history"]) == (3, 12, 12, history)
    Toy(settings()).load_state_dict(state["model_state_dict"], strict=True)


def test_the_numbers_of_a_run(whole):
    """The test loss is that of the saved weights; the learning rate that of each epoch's first step."""
    _, (history, state) = whole
    trainer = Trainer(toy(settings()), settings(), 4, "cpu")
    trainer.load_state_dict(state)
    assert trainer.test(batches(16), Bar()) == history[-1]["test_noise_loss"]
    assert [row["learning_rate"] for row in history] == [1e-3 * rate(settings(), step, 4) for step in (0, 4, 8)]
    assert all(row["images_per_second"] > 0 and row["seconds"] > 0 for row in history)


def test_the_rate_is_right_in_the_log_of_a_run_that_went_on(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, train_loader=Stopping(batches(56, shuffle=True), 6))
    history, _ = train(tmp_path)
    assert without_times(history) == without_times(whole[1][0])


def test_the_course_s_lines_are_printed_and_nothing_else(tmp_path, capsys):
    history, _ = train(tmp_path, reporter=display.Reporter())
    lines = [words for row in history for words in (
        f"epoch {row['epoch']}/3",
        f"train: train_noise_loss = {row['train_noise_loss']:.4f} test: test_noise_loss = {row['test_noise_loss']:.4f}",
    )]  # fmt: skip
    assert capsys.readouterr().out.splitlines() == lines
    assert re.fullmatch(r"train: train_noise_loss = \d\.\d{4} test: test_noise_loss = \d\.\d{4}", lines[1])
    train(tmp_path, reporter=display.Reporter())
    assert capsys.readouterr().out.splitlines() == lines  # a finished run shows its history


def test_the_best_is_the_lowest_test_loss(tmp_path):
    drawn = []

    def picture(model):
        drawn.append({name: value.clone() for name, value in model.state_dict().items()})
        return plt.figure(figsize=(1, 1))

    worse_at_the_end = Changing(batches(16), lambda images, epoch, batch: images * (1 if epoch < 2 else 30))
    history, last = train(tmp_path, test_loader=worse_at_the_end, picture=picture, epochs=4)
    losses = [row["test_noise_loss"] for row in history]
    lowest = losses.index(min(losses))
    assert lowest == 1, losses
    best = checkpoint.load(tmp_path / "best_checkpoint.pth")
    assert best["epoch"] == 2 and same(best["model_state_dict"], drawn[1]) and best["history"] == history[:2]
    assert last["epoch"] == 4 and same(last["model_state_dict"], drawn[3]) and not same(drawn[1], drawn[3])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, bad):
    spoilt = Changing(batches(56, shuffle=True), lambda images, epoch, batch: images * bad if (epoch, batch) == (1, 2) else images)
    lr = 1e-3 * rate(settings(), 6, 4)
    with pytest.raises(TrainingError, match=rf"the loss is (nan|inf) at step 7, with learning rate {lr:.2g} in float32"):
        train(tmp_path, train_loader=spoilt)
    state = checkpoint.load(tmp_path / "last_checkpoint.pth")
    assert state["epoch"] == 1 and all(value.isfinite().all() for value in state["raw_model_state_dict"].values())


def test_a_test_loss_that_is_no_number_is_not_saved(tmp_path):
    spoilt = Changing(batches(16), lambda images, epoch, batch: images * (math.nan if epoch == 1 else 1))
    with pytest.raises(TrainingError, match="the test loss is nan at step 8"):
        train(tmp_path, test_loader=spoilt)
    assert checkpoint.load(tmp_path / "last_checkpoint.pth")["epoch"] == 1


def test_the_numbers_for_tensorboard(tmp_path):
    """One value an epoch, those of the log, also where a stopped run wrote some already."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, train_loader=Stopping(batches(56, shuffle=True), 6))
    history, _ = train(tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert sorted(events.Tags()["scalars"]) == sorted(name for name in history[0] if name != "epoch")
    for name in ("train_noise_loss", "test_noise_loss", "learning_rate"):
        told = [(event.step, event.value) for event in events.Scalars(name)]
        assert told == [(row["epoch"], pytest.approx(row[name])) for row in history]


def test_a_bar_says_how_long_the_run_will_take(tmp_path):
    said = []

    class Listening(display.Reporter):
        def bar(self, total, unit, description):
            said.append(description)
            return super().bar(total, unit, description)

    train(tmp_path, reporter=Listening(silent=True))
    assert said == ["train", "test", "train, less than a minute left", "test", "train, less than a minute left", "test"]
    assert experiment._left([{"seconds": 60}, {"seconds": 120}], 5) == ", 6 min left"


# Chance


def states():
    return torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(np.int64)), random.getstate()


def test_a_run_leaves_the_caller_s_chance_alone(tmp_path):
    before = states()
    train(tmp_path, epochs=1)
    assert same(states(), before)


def test_the_test_loss_has_the_same_noise_each_time():
    trainer = Trainer(toy(settings()), settings(), 4, "cpu")
    with torch.no_grad():
        images, labels = next(iter(batches(16)))
        trainer.averaged.eval()
        assert trainer.averaged(images, labels) != trainer.averaged(images, labels)  # the model draws its noise
    losses = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.add(trainer.test(batches(16), Bar()))
    assert len(losses) == 1


def test_seeded_numbers_depend_on_their_names_alone():
    def draw(*names):
        with seeded("cpu", *names):
            return torch.rand(1).item(), np.random.rand(), random.random()

    random.seed(5)
    first = draw(0, "epoch", 1)
    random.seed(6)
    assert draw(0, "epoch", 1) == first
    assert not set(draw(0, "epoch", 2)) & set(first) and not set(draw(1, "epoch", 1)) & set(first)
    before = states()
    with pytest.raises(KeyboardInterrupt), seeded("cpu", 0):
        draw("inside")
        raise KeyboardInterrupt
    assert same(states(), before)


# Learning rate, average, precision


def test_one_cycle():
    dmconfig, steps = settings(epochs=10, lr_cycle=20), 50  # 500 steps: up in 100, down in 400
    rates = [rate(dmconfig, step, steps) for step in range(501)]
    assert rates[0] == 1 and rates[100] == pytest.approx(20) and rates[500] == pytest.approx(0, abs=1e-9)
    assert rates[50] == pytest.approx(10.5) and rates[300] == pytest.approx(10)  # half way up and down
    assert rates[:101] == sorted(rates[:101]) and rates[100:] == sorted(rates[100:], reverse=True)
    assert 0 < rates[499] < 0.01


def test_milestones():
    dmconfig = settings(epochs=10, lr_cycle=0, multi_lr_milestones=[2, 5], multi_lr_gamma=0.1)
    rates = [rate(dmconfig, step, 50) for step in range(500)]
    expected = [1] * 100 + [0.1] * 150 + [0.01] * 250
    assert rates == pytest.approx(expected)
    cycle, both = (settings(epochs=10, lr_cycle=20, multi_lr_milestones=m, multi_lr_gamma=0.1) for m in ([], [2, 5]))
    for step in (0, 99, 100, 249, 250, 499):
        assert rate(both, step, 50) == pytest.approx(rate(cycle, step, 50) * expected[step])


def test_the_rate_reaches_the_optimizer():
    trainer = Trainer(toy(settings()), settings(), 4, "cpu")
    for step, batch in enumerate(batches(56)):
        trainer.train_epoch([batch], Bar())
        assert trainer.optimizer.param_groups[0]["lr"] == 1e-3 * rate(settings(), step, 4)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_average_of_the_weights(decay):
    """Against a plain loop: decay d_n = min((1 + n) / (10 + n), decay), running statistics of batch norm included."""
    trainer, mean = Trainer(toy(settings()), settings(ema_decay=decay), 4, "cpu"), None
    for n in range(5):
        for batch in batches(56):
            trainer.train_epoch([batch], Bar())
            count, raw = trainer.step - 1, {k: v.double() for k, v in trainer.model.state_dict().items() if v.is_floating_point()}
            d = min((1 + count) / (10 + count), decay)
            mean = {k: d * mean[k] + (1 - d) * raw[k] for k in raw} if mean else raw
    averaged = trainer.averaged.state_dict()
    assert set(mean) == {k for k, v in averaged.items() if v.is_floating_point()} and "network.1.running_var" in mean
    for name in mean:
        torch.testing.assert_close(averaged[name].double(), mean[name], rtol=1e-5, atol=1e-6)
    if decay == 0:
        assert all(torch.equal(averaged[name], trainer.model.state_dict()[name]) for name in mean)
    else:
        assert not torch.equal(averaged["network.0.weight"], trainer.model.state_dict()["network.0.weight"])


def test_the_format_that_the_hardware_has(monkeypatch):
    for capability, dtype in (((7, 5), torch.float16), ((7, 0), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16),
                              ((12, 0), torch.bfloat16), ((6, 1), torch.float32)):  # fmt: skip
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, capability=capability: capability)
        assert precision.choose("cuda") == dtype
    for has, dtype in (({"avx512_bf16": True, "sse4a": True}, torch.bfloat16), ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
                       ({"avx512_bf16": True, "sse4a": False, "amx_bf16": False}, torch.float32), ({"sse4a": True}, torch.float32),
                       ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
                       ({"neon": True}, torch.float32)):  # fmt: skip
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has: has)
        assert precision.choose("cpu") == dtype
    assert precision.choose("mps") == torch.float32
    assert precision.choose("cpu", "float16") == torch.float16 and precision.choose("cuda", "float32") == torch.float32


def test_autocast_computes_in_the_format():
    a = torch.ones(2, 2)
    for name in ("float32", "bfloat16"):
        with precision.autocast("cpu", name):
            assert (a @ a).dtype == getattr(torch, name)


def test_a_run_goes_on_in_another_format():
    """Colab lends another GPU tomorrow: float16 has a loss scale to go on with, the others have none."""
    states = {}
    for name in ("float32", "float16"):
        states[name] = Trainer(toy(settings()), settings(precision=name), 4, "cpu").state_dict()
    assert states["float32"]["scaler"] == {} and states["float16"]["scaler"]["scale"] > 1
    for ours, theirs in (("float16", "float32"), ("float32", "float16"), ("float16", "float16")):
        Trainer(toy(settings()), settings(precision=ours), 4, "cpu").load_state_dict(states[theirs])


def test_a_loss_scale_that_overflows_skips_the_step():
    trainer = Trainer(toy(settings()), settings(precision="float16"), 4, "cpu")
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.train_epoch([next(iter(batches(16)))], Bar())
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())
    assert trainer.scaler.get_scale() == 2.0**119
