"""Training over two processes, is the same training. They are started by torchrun, on gloo: `accelerate launch` does so for GPUs only."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import batches, same, train, without_times
from worker import one_step

from lab.training import experiment

WORKER = Path(__file__).parent / "worker.py"


def launch(folder, processes):
    """What each process of a run kept, and what they printed together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", processes, "--master_addr", "127.0.0.1",
               "--master_port", port, WORKER, folder]  # fmt: skip
    here = {**os.environ, "MPLBACKEND": "Agg", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=here)
    assert ended.returncode == 0, ended.stderr
    return [torch.load(folder / f"process-{rank}.pt", weights_only=True) for rank in range(processes)], ended.stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder, *launch(folder, 2)


@pytest.mark.slow
def test_each_image_is_seen_once_an_epoch_under_noise_of_its_own(two):
    _, (first, second), _ = two
    assert first["processes"] == second["processes"] == 2
    orders = []
    for one, other in zip(first["seen"], second["seen"]):
        sizes = [(len(a[0]), len(b[0])) for a, b in zip(one["batches"], other["batches"])]
        assert sizes == [(8, 8), (8, 8), (8, 8), (5, 4)], "each step shares one batch of 16, the last one of 9"
        images, labels, noise = (torch.cat([batch[i] for batch in one["batches"] + other["batches"]]) for i in range(3))
        assert sorted(images.flatten(1).sum(1).tolist()) == sorted(images_of(57).flatten(1).sum(1).tolist())
        assert torch.equal(labels, torch.tensor([int((images_of(57) == image).flatten(1).all(1).nonzero()) % 10 for image in images]))
        assert len(noise.flatten(1).round(decimals=3).unique(dim=0)) == 57, "no two images share their noise"
        assert one["counted"] == other["counted"] == 57
        orders.append(images)
    assert not torch.equal(*orders), "each epoch has its own order"


def images_of(count):
    return batches(count).dataset.tensors[0]


@pytest.mark.slow
def test_all_processes_hold_the_same(two):
    """Weights, their average, batch norm's statistics, the optimizer's state, and the losses that they report."""
    _, (first, second), _ = two
    assert same(first["state"], second["state"])
    assert [epoch["losses"] for epoch in first["seen"]] == [epoch["losses"] for epoch in second["seen"]]
    assert without_times(first["history"]) == without_times(second["history"])
    running = first["state"]["raw_model_state_dict"]["network.1.running_mean"]
    assert running.abs().min() > 0 and not torch.equal(running, first["state"]["model_state_dict"]["network.1.running_mean"])


@pytest.mark.slow
def test_files_and_lines_are_made_once(two, tmp_path):
    folder, (first, _), printed = two
    assert [line for line in printed.splitlines() if line.startswith("epoch")] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert printed.count("test_noise_loss") == 3
    train(tmp_path)
    names = [sorted(str(p.relative_to(at)) for p in at.rglob("*") if "events" not in p.name) for at in (folder / "run", tmp_path)]
    assert names[0] == names[1]
    assert len(list((folder / "run").rglob("events*"))) == len(list(tmp_path.rglob("events*")))
    history, _ = train(folder / "run")  # one process takes it up, and finds it finished
    assert history == first["history"]


@pytest.mark.slow
def test_two_processes_take_the_step_that_one_takes(two):
    """Without chance and batch norm, the mean of their gradients is the gradient of the whole batch."""
    _, (first, second), _ = two
    alone = one_step()
    assert first["step"]["loss"] == second["step"]["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    for number, moments in alone["moments"].items():
        torch.testing.assert_close(first["step"]["moments"][number]["exp_avg"], moments["exp_avg"], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
def test_two_processes_train_as_well_as_one(two, tmp_path):
    """The final test loss lies within the spread of one process over seeds: three standard deviations."""
    _, (first, _), _ = two
    losses = torch.tensor([train(tmp_path / str(seed), seed=seed)[0][-1]["test_noise_loss"] for seed in range(8)])
    assert abs(first["history"][-1]["test_noise_loss"] - losses.mean()) < 3 * losses.std()


def test_a_last_batch_that_is_too_small_to_share_is_refused(tmp_path, monkeypatch):
    class Three:
        is_main_process, num_processes = True, 3

    monkeypatch.setattr(experiment, "accelerator", Three)
    with pytest.raises(ValueError, match="2 images in the last batch for 3 processes"):
        train(tmp_path, train_loader=batches(50), batch_size=16)
    assert not list(tmp_path.iterdir())
