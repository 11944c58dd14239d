"""lab.speed.bench and lab.speed.baseline: what is compared computes the same, in turn, and the table says what was measured."""

import sys

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import put
from torchvision import transforms

from config import DMConfig
from DDPM import ConditionalDDPM
from lab.speed import baseline, bench
from lab.training import data

CONFIG = DMConfig(num_feat=8, T=6, batch_size=4, precision="float32")


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ConditionalDDPM(CONFIG)


def seeded(function, *arguments):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return function(*arguments)


def test_the_plain_network_is_the_same_network(model):
    x, t, c = torch.randn(3, 1, 28, 28), torch.rand(3, 1, 1, 1), torch.eye(10)[:3]
    for mode in (True, False):
        torch.testing.assert_close(baseline.network(model).train(mode)(x, t, c), model.network.train(mode)(x, t, c), rtol=1e-4, atol=1e-5)


def test_the_plain_loss_is_the_same_loss(model):
    images, labels = torch.randn(20, 1, 28, 28), torch.arange(20) % 10
    net = baseline.network(model)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = net.init_conv.conv1[0].weight.clone()
    assert seeded(baseline.step, net, CONFIG, optimizer, images, labels) == pytest.approx(seeded(model, images, labels).item(), rel=1e-4)
    assert not torch.equal(net.init_conv.conv1[0].weight, before)


def test_the_plain_sampler_is_the_same_sampler(model):
    labels = torch.tensor([3, 1, 4])
    ours, theirs = seeded(model.sample, labels, 2.0), seeded(baseline.sample, baseline.network(model), CONFIG, labels, 2.0)
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)
    assert 0.05 < ours.std() and not torch.allclose(
        seeded(baseline.sample, baseline.network(model), CONFIG, labels, 2.0, 2), ours, atol=1e-2
    )


def test_ways_are_measured_in_turn_after_a_round_that_does_not_count():
    order = []
    seconds = bench.interleaved({"plain": lambda: order.append("plain"), "ours": lambda: order.append("ours")}, 3, "cpu")
    assert order == ["plain", "ours"] * 4
    assert [len(values) for values in seconds.values()] == [3, 3] and all(value > 0 for values in seconds.values() for value in values)


def test_the_table_holds_medians_ranges_and_ratios():
    row = bench.Row("work", "images/s", 100, {"plain": [4.0, 2.0, 5.0], "ours": [1.0, 0.5, 2.0]})
    assert bench.table([row]).splitlines()[2:] == [
        "| work | plain | 25 images/s | 20 to 50 | 1.00 |",
        "| work | ours | 100 images/s | 50 to 200 | 4.00 |",
    ]
    figure = bench.figure([row])
    assert [text.get_text() for text in figure.axes[0].texts] == ["1 ×", "4 ×"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["work: plain", "work: ours"]
    plt.close(figure)


def test_every_comparison_runs(model, small_mnist, tmp_path):
    dataset = data.mnist(transforms.ToTensor(), put(tmp_path, small_mnist))
    rows = list(bench.run(model, dataset, 1, "cpu"))
    assert [row.what for row in rows] == [
        "training step, batch of 4",
        "data loader",
        "`sample`, 100 digits",
        "`lab.samplers`, dpmpp in 9 steps",
    ]
    assert [row.amount for row in rows] == [4, 60, 6, 100]
    assert all({"plain", "ours"} <= set(row.seconds) for row in rows) and "diffusers UNet2DModel" in rows[0].seconds


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="counts as Linux does")
def test_the_peak_memory_of_training(real_mnist):
    assert 0.5e9 < bench.peak_memory(real_mnist) < 4e9


def test_the_command_writes_a_table_and_a_figure(real_mnist, monkeypatch, tmp_path, capsys):
    from lab.__main__ import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "run", lambda *anything: iter([bench.Row("work", "images/s", 100, {"plain": [4.0], "ours": [1.0]})]))
    monkeypatch.setattr(bench, "peak_memory", lambda root: 1.5e9)
    main(["bench", "--rounds", "1", "--device", "cpu", "--out", "b.png"])
    table = (tmp_path / "b.md").read_text()
    assert "threads of a CPU" in table and "| work | ours | 100 images/s | 100 to 100 | 4.00 |" in table
    assert plt.imread(tmp_path / "b.png").std() > 0.01
    assert "| work | plain |" in capsys.readouterr().out
    for arguments, words in ((["--rounds", "0"], "--rounds 0"), (["--out", "nowhere/b.png"], "nowhere")):
        with pytest.raises(SystemExit, match=words):
            main(["bench", *arguments])


def test_without_the_real_mnist_nothing_is_measured(monkeypatch, tmp_path):
    from lab.__main__ import main

    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "run", lambda *anything: pytest.fail("it measures"))
    with pytest.warns(UserWarning, match="stand in"), pytest.raises(SystemExit, match="real MNIST"):
        main(["bench"])
