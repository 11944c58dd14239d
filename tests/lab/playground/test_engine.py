"""The page's own modules and onnxruntime-web, in Node, against the Python engine: the same numbers from the same noise."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from lab import editing, samplers
from lab.diffusion.few import STEPS
from lab.diffusion.process import OUTPUTS, ConditionalProcess, process
from lab.diffusion.walk import timesteps

pytestmark = pytest.mark.slow
LABELS = [3, 8]


@pytest.fixture(scope="module")
def asked(page, node, tmp_path_factory):
    """asked(name=…, …): what the page's modules answer; tensors among the arguments go by files."""
    folder = tmp_path_factory.mktemp("asked")
    command = [node, Path(__file__).with_name("engine.mjs"), page, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as engine:

        def ask(**arguments):
            for name, value in arguments.items():
                if torch.is_tensor(value):
                    value.contiguous().numpy().astype("float32").tofile(folder / f"{name}.bin")
                    arguments[name] = f"{name}.bin"
            engine.stdin.write(json.dumps(arguments) + "\n")
            engine.stdin.flush()
            assert engine.stdout.readline() == "answered\n"
            return torch.from_numpy(np.fromfile(folder / "answer.bin", "float32"))

        yield ask
        engine.stdin.close()


@pytest.fixture
def noise(monkeypatch):
    """100 draws for both images, which the Python engine uses one after another."""
    draws = torch.randn(100, len(LABELS), 1, 28, 28)
    left = list(draws)
    monkeypatch.setattr(ConditionalProcess, "noise", lambda self, count, generator=None: left.pop(0))
    return draws


@pytest.mark.parametrize("count", [1, 3])
def test_the_network_gives_torchs_output(asked, shipped, count):
    x, t = torch.randn(count, 1, 28, 28), torch.linspace(0.01, 1, count).view(-1, 1, 1, 1)
    c = torch.eye(10)[torch.arange(count)] if count == 1 else torch.cat([torch.eye(10)[:2], torch.full((1, 10), -1.0)])
    with torch.no_grad():
        wanted = shipped.network.eval()(x, t, c)
    torch.testing.assert_close(asked(name="network", x=x, t=t, c=c, count=count), wanted.flatten(), rtol=0, atol=1e-4)


def test_the_schedule_is_that_of_the_model(asked, shipped):
    way = process(shipped)
    torch.testing.assert_close(asked(name="levels"), torch.tensor([*way.alpha, *way.sigma]), rtol=1e-6, atol=1e-7)


def test_the_times_are_the_same_for_every_number_of_steps(asked, shipped):
    wanted = [t for steps in range(1, 401) for t in timesteps(400, steps)]  # some are halves before they are rounded
    assert asked(name="times").tolist() == wanted


@pytest.mark.parametrize("output", ["eps", "x_0", "v"])
def test_image_and_noise_from_every_kind_of_output(asked, shipped, output):
    x, out, way = torch.randn(1, 1, 28, 28), torch.randn(1, 1, 28, 28), process(shipped)
    wanted = torch.cat(OUTPUTS[output](out, x, way.alpha[150], way.sigma[150])).flatten()
    torch.testing.assert_close(asked(name="seen", output=output, x=x, out=out, t=150), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "method, steps, omega",
    [("sde", 9, 2.0), ("sde", 3, 0.0), ("sde", 3, -1.0), ("sde", 1, 2.0), ("dpmpp", 9, 2.0), ("ddim", 9, 2.0), ("ddpm", 9, 2.0)],
)
def test_a_digit_is_drawn_in_the_same_steps(asked, shipped, noise, method, steps, omega):
    wanted = samplers.trajectory(shipped, torch.tensor(LABELS), omega, method=method, steps=steps)
    assert_same(asked(name="walk", task="sample", labels=LABELS, omega=[omega] * 2, method=method, steps=steps, noise=noise), wanted)


@pytest.mark.parametrize("steps", STEPS)
def test_a_digit_is_drawn_in_the_same_few_calls(asked, shipped_few, noise, steps):
    wanted = samplers.trajectory(shipped_few, torch.tensor(LABELS), 0.0, steps=steps)
    assert_same(asked(name="walk", task="sample", labels=LABELS, method="few", steps=steps, noise=noise), wanted)


def test_a_digit_is_edited_in_the_same_steps(asked, shipped, noise):
    images = editing.to_model(shipped, torch.rand(2, 1, 28, 28))
    wanted = editing.edit(shipped, images, 3, LABELS, steps=10)
    assert_same(asked(name="walk", task="edit", labels=LABELS, omega=[2.0] * 2, steps=10, start=3, image=images, noise=noise), wanted)


def test_half_a_digit_is_completed_in_the_same_steps(asked, shipped, noise):
    images, mask = editing.to_model(shipped, torch.rand(2, 1, 28, 28)), torch.zeros(28, 28)
    mask[14:] = 1
    wanted = editing.inpaint(shipped, images, mask, LABELS, steps=8)
    both = mask.expand(2, 1, 28, 28)
    answer = asked(name="walk", task="inpaint", labels=LABELS, omega=[2.0] * 2, steps=8, image=images, mask=both, noise=noise)
    assert_same(answer, wanted)
    assert (answer[-2 * 2 * 784 :][: 2 * 784].view(2, 28, 28)[:, :14] == images[:, 0, :14]).all()


def test_each_image_has_its_own_weight(asked, shipped, noise):
    """Two weights side by side give what each gives alone."""
    answer = asked(name="walk", task="sample", labels=LABELS, omega=[0.5, 4.0], method="ddim", steps=3, noise=noise)
    for number, omega in enumerate([0.5, 4.0]):
        draws = noise[:, number : number + 1]
        alone = asked(name="walk", task="sample", labels=LABELS[number : number + 1], omega=[omega], method="ddim", steps=3, noise=draws)
        last = [values.view(-1, 784)[number if len(values) > 2 * 784 else 0] for values in (answer[-4 * 784 :], alone[-2 * 784 :])]
        torch.testing.assert_close(*last, rtol=0, atol=1e-4)


def assert_same(answer, wanted):
    """The page's steps [t, x, x_0, …] are the engine's."""
    wanted = list(wanted)
    answer = answer.view(len(wanted), -1)
    for found, step in zip(answer, wanted, strict=True):
        assert found[0] == step.t
        x, x_0 = found[1:].chunk(2)
        torch.testing.assert_close(x, step.x.flatten(), rtol=0, atol=1e-3)
        torch.testing.assert_close(x_0, step.x_0.flatten(), rtol=0, atol=1e-3)
