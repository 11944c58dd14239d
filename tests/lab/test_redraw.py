"""lab.diffusion.redraw: what a reader doubts is drawn again, the likeliest draw is kept, and the reader is not the judge."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from stub import SMALL, Stub, build

from config import DMConfig
from DDPM import ConditionalDDPM
from lab import samplers
from lab.__main__ import main
from lab.diffusion import redraw
from lab.quality import judge
from lab.training import checkpoint, pictures, pretrained
from utils import load_model

LABELS = torch.tensor([3, 1, 4, 1])


class Draws:
    """Draws pictures of two pixels: how likely it is, from `chances`, a list for each time it is asked, and of what class. It writes down what for."""

    def __init__(self, *chances):
        self.chances, self.asked = list(chances), []

    def __call__(self, labels):
        self.asked.append(labels.tolist())
        return torch.stack([torch.tensor(self.chances.pop(0)), labels / 10], 1).view(-1, 1, 1, 2)


def reader(images):
    """Logits (B, 10) by which a picture is its class with its own chance, and else the next one."""
    chance, label = images[:, 0, 0, 0], (10 * images[:, 0, 0, 1]).round().long()
    found = torch.full((len(images), 10), -1e9)
    rows = torch.arange(len(images))
    found[rows, label], found[rows, (label + 1) % 10] = chance.log(), (1 - chance).log()
    return found


def test_what_is_doubted_is_drawn_again_and_the_likeliest_is_kept():
    draw = Draws([0.9, 0.2, 0.71, 0.5], [0.1, 0.95])
    images = redraw.redrawn(draw, LABELS, reader)
    assert draw.asked == [[3, 1, 4, 1], [1, 1]]
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([0.9, 0.2, 0.71, 0.95]))  # 0.1 is no better than 0.2
    torch.testing.assert_close(images[:, 0, 0, 1], LABELS / 10)


def test_what_is_still_doubted_is_drawn_as_often_as_is_said(monkeypatch):
    monkeypatch.setattr(redraw, "TRIES", 4)
    draw = Draws([0.1, 0.9, 0.9, 0.3], [0.2, 0.8], [0.05], [0.6])
    images = redraw.redrawn(draw, LABELS, reader)
    assert draw.asked == [[3, 1, 4, 1], [3, 1], [3], [3]]
    torch.testing.assert_close(images[:, 0, 0, 0], torch.tensor([0.6, 0.9, 0.9, 0.8]))


def test_what_is_read_is_drawn_once():
    draw = Draws([0.7, 0.8, 0.9, 1.0])  # LIKELY itself is enough
    redraw.redrawn(draw, LABELS, reader)
    assert draw.asked == [[3, 1, 4, 1]]


def test_a_sampler_draws_again_with_its_own_arguments():
    """The first batch is read as another class; the second one comes from the same generator, for the same settings."""
    model, batches = build(ConditionalDDPM, Stub(lambda x, t, c: 0.1 * x)), []

    def doubts(images):
        batches.append(images)
        return 100.0 * torch.nn.functional.one_hot(torch.full((len(images),), len(batches)), 10)  # reads a 1, then a 2

    how = {"method": "ddim", "steps": 3, "eta": 1.0}
    generator = lambda: torch.Generator().manual_seed(0)
    images = samplers.sample(model, torch.tensor([1, 2]), 0.5, generator=generator(), reader=doubts, **how)
    both = generator()
    first = samplers.sample(model, torch.tensor([1, 2]), 0.5, generator=both, **how)
    second = samplers.sample(model, torch.tensor([2]), 0.5, generator=both, **how)
    torch.testing.assert_close(images, torch.cat([first[:1], second]))


def test_best_leaves_half_of_the_calls_for_a_second_draw():
    model, labels = build(ConditionalDDPM, Stub(lambda x, t, c: 0.1 * x), T=400, beta_1=1e-4, beta_T=0.02), torch.tensor([1])
    for reader, calls in ((None, 19), (lambda images: 9.0 * torch.eye(10)[labels], 10), (lambda images: -9.0 * torch.eye(10)[labels], 20)):
        model.network.calls.clear()
        samplers.sample(model, labels, 0.6, method="best", reader=reader)
        rows = sum(len(call.x) for call in model.network.calls)
        assert rows == calls
    model.network.calls.clear()
    samplers.sample(model, labels, 0.6, method="best", steps=11, reader=lambda images: 9.0 * torch.eye(10)[labels])
    assert sum(len(call.x) for call in model.network.calls) == 15  # what is asked for: eleven steps, guided in three


@pytest.mark.parametrize(
    "omega, more, words",
    [
        (-1.0, {}, "omega = -1.0 and x_T = None with a reader"),
        (0.5, {"x_T": torch.zeros(1, 1, 28, 28)}, "no start of your own"),
        ("much", {}, "omega"),
        (0.5, {"steps": 0}, "steps"),
    ],
)
def test_bad_input_is_refused_before_it_draws(omega, more, words):
    model = build(ConditionalDDPM, Stub(lambda x, t, c: pytest.fail("it draws")))
    with pytest.raises(ValueError, match=words):
        samplers.sample(model, torch.tensor([1]), omega, reader=reader, **more)


def test_the_one_that_chooses_is_not_the_one_that_measures():
    one, other = (pretrained.load(path) for path in (pretrained.JUDGE, pretrained.SECOND))
    assert one["record"]["seed"] != other["record"]["seed"] and other["record"]["test_accuracy"] >= judge.ACCURACY
    assert set(one["model_state_dict"]) == set(other["model_state_dict"])
    weight = "classify.weight"
    assert not torch.allclose(one["model_state_dict"][weight], other["model_state_dict"][weight], atol=0.05)


@pytest.mark.slow
def test_digits_drawn_again_are_read_as_asked_for():
    """Unguided, one digit in twenty is read as another one; by the judge, which did not choose."""
    model, labels = load_model(device="cpu"), torch.arange(200) % 10
    how = {"method": "sde", "steps": 9}
    share = {}
    for reader in (None, judge.load(second=True)):
        generator = torch.Generator().manual_seed(0)
        images = torch.cat([samplers.sample(model, part, 0.0, reader=reader, generator=generator, **how) for part in labels.split(100)])
        share[reader is None] = (judge.read(judge.load(), images)[0] == labels).float().mean().item()
    assert share[True] < 0.985 < 0.99 <= share[False]


# ---- the command line
@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The checkpoint of a tiny model, in the folder where the test runs; and what --redraw asks is `asked`, which reads a 1 in each."""
    monkeypatch.chdir(tmp_path)
    config = DMConfig(**SMALL | {"T": 10})
    state = {"epoch": 1, "model_state_dict": ConditionalDDPM(config).state_dict(), "optimizer_state_dict": {}, "dmconfig": config.to_dict()}
    checkpoint.save("net.pth", {**state, "history": [{"epoch": 1, "test_noise_loss": 0.5}], "data": {"train": "toy"}})
    asked = []

    def load(device, dmconfig, second):
        assert second and dmconfig.T == 10
        return lambda images: asked.append(len(images)) or 100.0 * torch.eye(10)[torch.ones(len(images)).long()].to(images)

    monkeypatch.setattr(judge, "load", load)
    return asked


DRAW = ["--checkpoint", "net.pth", "--method", "ddim", "--steps", "2", "--out", "out.png"]


@pytest.mark.parametrize("command", ["sample", "write"])
def test_commands_draw_again(trained, command):
    main([command, "1021", *DRAW])
    once = np.asarray(Image.open("out.png")).copy()
    assert trained == []
    main([command, "1021", *DRAW, "--redraw"])
    again = np.asarray(Image.open("out.png"))
    assert trained == [4, 2]  # the 0 and the 2 alone
    changed = [bool((one != other).any()) for one, other in zip(np.split(once, 4, 1), np.split(again, 4, 1))]
    assert not changed[0] and not changed[3]  # what was read as a 1


def test_a_film_shows_one_draw(trained):
    with pytest.raises(SystemExit, match="--gif and --redraw; give one of them"):
        main(["sample", "1", *DRAW, "--gif", "--redraw"])


@pytest.mark.slow
def test_what_is_drawn_again_is_judged(trained, real_mnist):
    base = ["evaluate", *DRAW[:-1], "q.png", "--samples", "100", "--omega", "0"]
    main([*base, "--redraw"])
    with open("q.csv", newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["ddim, redrawn"]
    assert trained[0] == 100


@pytest.mark.parametrize("how", [["--method", "ancestral", "--omega", "0"], ["--method", "ddim", "--omega", "-1"]])
def test_what_cannot_be_drawn_again_is_not_judged(trained, how):
    with pytest.raises(SystemExit, match="drawn again; allowed are"):
        main(["evaluate", "--checkpoint", "net.pth", "--samples", "100", *how, "--redraw", "--out", "q.png"])


def test_a_set_of_your_own_needs_a_second_judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = DMConfig(**pictures.settings("fashion"))
    assert judge.path_of(config) != judge.path_of(config, second=True)
    with pytest.raises(ValueError, match="Train it: python -m lab judge --data fashion --second"):
        judge.load(dmconfig=config, second=True)
