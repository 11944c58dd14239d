"""lab.diffusion.redraw: what a reader doubts is drawn again, the likeliest draw is kept, and the reader is not the judge."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from stub import SMALL, Stub, build

from config import DMConfig
from DDPM import ConditionalDDPM
from lab import display, quality, samplers
from lab.__main__ import main
from lab.diffusion import redraw
from lab.diffusion.guidance_methods import plain
from lab.quality import judge, metrics
from lab.training import checkpoint, pictures, pretrained
from utils import load_model

LABELS = torch.tensor([3, 1, 4, 1])


class Draws:
    """Draws pictures of two pixels: how likely it is, from `chances`, a list for each time it is asked, and of what class; `asked` says which."""

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


def reads(label, then, asked=None):
    """A reader that reads `label` in all, and `then` in what it is given next; `asked` gets how many each time, the black trial aside."""
    batches = [] if asked is None else asked

    def reader(images):
        drawn = bool(images.any())
        if drawn:
            batches.append(len(images))
        return 100.0 * torch.eye(10)[[label if len(batches) < 2 else then] * len(images)].to(images)

    return reader


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
    """What is asked for as a 2 is read as a 1; its second draw comes from the same generator, for the same settings."""
    model, doubts = build(ConditionalDDPM, Stub(lambda x, t, c: 0.1 * x)), reads(1, then=2)
    how = {"method": "ddim", "steps": 3, "eta": 1.0}
    generator = lambda: torch.Generator().manual_seed(0)
    images = samplers.sample(model, torch.tensor([1, 2]), 0.5, generator=generator(), reader=doubts, **how)
    both = generator()
    first = samplers.sample(model, torch.tensor([1, 2]), 0.5, generator=both, **how)
    second = samplers.sample(model, torch.tensor([2]), 0.5, generator=both, **how)
    torch.testing.assert_close(images, torch.cat([first[:1], second]))


def test_best_leaves_half_of_the_calls_for_a_second_draw():
    model, labels = build(ConditionalDDPM, Stub(lambda x, t, c: 0.1 * x), T=400, beta_1=1e-4, beta_T=0.02), torch.tensor([1])

    def calls(**how):
        model.network.calls.clear()
        samplers.sample(model, labels, 0.6, method="best", **how)
        return sum(len(call.x) for call in model.network.calls)

    sure = reads(1, then=1)
    assert (calls(), calls(reader=sure), calls(reader=reads(0, then=0))) == (19, 10, 20)
    assert calls(reader=sure, steps=11) == 15  # what is asked for is done: eleven steps, guided in three
    assert calls(reader=sure, guidance=plain) == 15  # seven, guided in all


@pytest.mark.parametrize(
    "omega, more, words",
    [
        (-1.0, {}, "omega = -1.0 with a reader; allowed is more than -1"),
        (0.5, {"x_T": torch.zeros(1, 1, 28, 28)}, r"x_T of shape \(1, 1, 28, 28\) with a reader"),
        (0.5, {"reader": "second"}, "reader = 'second'; allowed is a classifier"),
        (0.5, {"reader": lambda images: torch.zeros(1, 9)}, r"shape \(1, 9\); allowed is \(1, 10\)"),
        ("much", {}, "omega"),
        (0.5, {"steps": 0}, "steps"),
    ],
)
def test_bad_input_is_refused_before_it_draws(omega, more, words):
    model = build(ConditionalDDPM, Stub(lambda x, t, c: pytest.fail("it draws")))
    with pytest.raises(ValueError, match=words):
        samplers.sample(model, torch.tensor([1]), omega, **{"reader": reads(1, then=1), **more})


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_whole_type(dtype):
    model = build(ConditionalDDPM, Stub(lambda x, t, c: 0.1 * x))
    how = {"steps": 2, "reader": judge.Judge().eval()}  # which doubts all
    assert samplers.sample(model, torch.tensor([3, 1, 1], dtype=dtype), 0.5, **how).shape == (3, 1, 28, 28)


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
    """A tiny model in net.pth, in the folder where the test runs. --redraw asks one that reads a 1 in each picture; of how many, by turn."""
    monkeypatch.chdir(tmp_path)
    config = DMConfig(**SMALL | {"T": 10})
    state = {"epoch": 1, "model_state_dict": ConditionalDDPM(config).state_dict(), "optimizer_state_dict": {}, "dmconfig": config.to_dict()}
    checkpoint.save("net.pth", {**state, "history": [{"epoch": 1, "test_noise_loss": 0.5}], "data": {"train": "toy"}})
    asked, load = [], judge.load

    def found(device="cpu", dmconfig=None, second=False):
        return reads(1, then=2, asked=asked) if second else load(device, dmconfig)

    monkeypatch.setattr(judge, "load", found)
    return asked


DRAW = ["--checkpoint", "net.pth", "--method", "ddim", "--steps", "2", "--out", "out.png"]


@pytest.mark.parametrize("command", ["sample", "write"])
def test_commands_draw_again(trained, command):
    """Four digits are read as a 1, and the two that are drawn again as a 2."""
    main([command, "1021", *DRAW])
    once = np.asarray(Image.open("out.png")).copy()
    assert trained == []
    main([command, "1021", *DRAW, "--redraw"])
    again = np.asarray(Image.open("out.png"))
    assert trained == [4, 2]
    changed = [bool((one != other).any()) for one, other in zip(np.split(once, 4, 1), np.split(again, 4, 1))]
    assert changed == [False, False, True, False]


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


def test_best_is_judged_in_as_many_steps_as_it_is_drawn_in(trained, real_mnist, monkeypatch):
    monkeypatch.setattr(
        metrics,
        "evaluate",
        lambda *anything: dict.fromkeys(("samples", "accuracy", "frechet", "frechet_floor", "precision", "recall", "spread"), 1),
    )
    rows = quality.sweep(load_model("net.pth"), [0.6], ["best"], None, 1, 100, "q.csv", display.Reporter(silent=True), reads(1, then=1))
    assert [row["steps"] for row in rows] == [samplers.usual("best", reads)["steps"]] == [7]


@pytest.mark.parametrize(
    "how, words",
    [
        (["sample", "--n-samples", "4"], "--redraw reads the class that is asked for, and none is"),
        (["sample", "1", "--omega", "-1"], "--redraw reads the class"),
        (["write", "1", "--omega", "-1"], "omega = -1.0 with a reader"),
        (["evaluate", "--samples", "100", "--method", "ancestral", "--omega", "0"], "method = 'ancestral' with a reader"),
        (["evaluate", "--samples", "100", "--omega", "0", "-1"], "omega = -1.0 with a reader"),
    ],
)
def test_what_cannot_be_drawn_again(trained, monkeypatch, how, words):
    monkeypatch.setattr(metrics, "_draw", lambda *anything: pytest.fail("it draws"))
    with pytest.raises(SystemExit, match=words):
        main([*how, "--checkpoint", "net.pth", "--redraw", "--out", "q.png"])


def test_pairs_are_not_drawn_again():
    with pytest.raises(SystemExit, match="the model draws 100 classes of 1 x .*; what reads MNIST's digits cannot read them"):
        main(["write", "12", "--model", "pair", "--redraw"])


@pytest.mark.parametrize("how", [["--seed", "1"], ["--second", "--seed", "0"]])
def test_the_two_judges_have_seeds_of_their_own(monkeypatch, how):
    monkeypatch.setattr(judge, "train", lambda *anything: pytest.fail("it trains"))
    with pytest.raises(SystemExit, match="has to be another than the one that measures"):
        main(["judge", *how])


def test_a_set_of_your_own_needs_a_second_judge(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = DMConfig(**pictures.settings("fashion"))
    assert judge.path_of(config) != judge.path_of(config, second=True)
    with pytest.raises(ValueError, match="Train it: python -m lab judge --data fashion --second"):
        judge.load(dmconfig=config, second=True)
