"""explorations/frontier.py: budgets of calls, a comparison that goes on, the Pareto front, table and figures."""

import matplotlib.pyplot as plt
import pytest
import torch

import frontier
from config import DMConfig
from DDPM import ConditionalDDPM
from lab import quality

SMALL = DMConfig(T=20, beta_T=0.4, num_feat=8, precision="float32")  # noise outweighs the image for a part of the way


@pytest.fixture(scope="module")
def model():
    return ConditionalDDPM(SMALL).eval()


@pytest.fixture(scope="module")
def weak():
    return ConditionalDDPM(SMALL).eval()


@pytest.fixture
def judged(monkeypatch):
    """quality.evaluate without a judge; what was drawn, by call."""
    drawn = []

    def evaluate(images, labels):
        drawn.append(images)
        return {
            "samples": len(images),
            "accuracy": 0.5,
            "frechet": 2.0,
            "frechet_floor": 1.0,
            "precision": 0.5,
            "recall": 0.5,
            "spread": 1.0,
        }

    monkeypatch.setattr(quality, "evaluate", evaluate)
    monkeypatch.setattr(quality, "proportional_labels", lambda count: torch.arange(count) % 10)
    return drawn


def way(weak, name, omega):
    return next(each for each in frontier.ways(weak) if (each.name, each.omega) == (name, omega))


@pytest.mark.parametrize(
    "name, omega, steps",
    [("plain", 0, 19), ("plain", 1, 9), ("autoguidance", 1, 9), ("CFG++", -0.4, 9), ("projected", 1, 9), ("rescaled", 1, 9)],
)
def test_the_budget_counts_every_call_of_either_network(model, weak, name, omega, steps):
    """One call for the start, two where omega is negative; a step takes two with guidance, whichever network answers."""
    chosen = way(weak, name, omega)
    assert frontier.most_steps(model, chosen, 20, weak) == steps
    assert frontier.calls(model, chosen, steps, weak) == (1 if omega >= 0 else 2) + (2 if omega else 1) * steps


def test_guidance_that_rests_has_more_steps(model, weak):
    chosen = way(weak, "interval", 1)
    steps = frontier.most_steps(model, chosen, 20, weak)
    assert 9 < steps < 19 and frontier.calls(model, chosen, steps, weak) <= 20 < frontier.calls(model, chosen, steps + 1, weak)


def test_a_budget_that_is_too_small_is_refused(model, weak):
    with pytest.raises(ValueError, match="2 calls are too few for a step of plain; allowed are 3 or more"):
        frontier.most_steps(model, way(weak, "plain", 1), 2, weak)


def test_a_second_draw_takes_half_of_the_budget(model):
    once, twice = (frontier.redrawn(0.6, reader) for reader in (None, lambda images: images))
    assert frontier.most_steps(model, once, 20) > 9 > frontier.most_steps(model, twice, 20) > 4
    assert frontier.calls(model, twice, frontier.most_steps(model, twice, 20)) <= 10


def test_what_is_doubted_and_drawn_again(model, judged):
    """The reader finds each second digit of a class likely."""
    seen = []

    def reader(images):
        seen.append(images.clone())  # as what is drawn again is put among them
        label = torch.arange(len(images)) % 10
        return torch.where(torch.arange(len(images)) % 20 < 10, 50.0, -50.0)[:, None] * torch.nn.functional.one_hot(label, 10)

    way = frontier.redrawn(0.6, reader)
    first, second, asked = frontier.doubted(model, way, 3, 40)
    assert asked.tolist() == [*range(10)] * 2 and first.shape == second.shape == (20, 1, 28, 28)
    assert torch.equal(first, seen[0][torch.arange(40) % 20 >= 10]) and not torch.equal(first, second)
    frontier.judged(model, way, 3, 0, 40)
    assert torch.equal(judged[0][:10], seen[-2][:10]) and not torch.equal(judged[0][10:20], seen[-2][10:20])
    assert torch.equal(judged[0][10:20], seen[-1][:10])  # the likelier second draws


def test_where_nothing_is_doubted_nothing_is_shown(model):
    way = frontier.redrawn(0.6, lambda images: 50.0 * torch.nn.functional.one_hot(torch.arange(len(images)) % 10, 10))
    first, second, asked = frontier.doubted(model, way, 3, 10)
    assert len(first) == len(second) == len(asked) == 0


def test_a_stopped_comparison_goes_on(model, weak, judged, tmp_path):
    chosen, path = [way(weak, "plain", 0), way(weak, "plain", 1)], tmp_path / "rows.csv"
    compare = lambda seeds, count=4: frontier.compared(model, weak, 6, seeds, count, path, chosen)
    first = compare(1)
    assert len(judged) == 2 and [row["omega"] for row in first] == [0, 1]
    both = compare(2)
    assert len(judged) == 4 and both[:2] == first and [row["seed"] for row in both] == [0, 0, 1, 1]
    assert len(compare(2, count=6)) == 4 and len(judged) == 8 and compare(2) == both
    assert not torch.equal(judged[0], judged[2]), "each seed has noise of its own"
    again = frontier.judged(model, chosen[0], both[0]["steps"], 0, 4)
    assert again["samples"] == 4 and torch.equal(judged[-1], judged[0])


def rows():
    """Three ways under two seeds: one is better in accuracy, one in distance, one in neither."""
    values = {("plain", 0.0): (0.9, 1.0), ("plain", 1.0): (0.99, 2.0), ("interval", 1.0): (0.98, 2.5)}
    rest = {"method": "sde", "steps": 9, "samples": 400, "frechet_floor": 0.1, "precision": 0.9, "recall": 0.8, "spread": 0.7}
    return [
        {"name": name, "omega": omega, "seed": seed, **rest, "accuracy": accuracy + seed / 100, "frechet": distance / 10}
        for seed in (0, 1)
        for (name, omega), (accuracy, distance) in values.items()
    ]


def test_the_front_holds_what_nothing_else_beats():
    assert frontier.pareto_front(rows()) == [("plain", 0.0), ("plain", 1.0)]


def test_the_table_has_medians_and_ranges():
    table = frontier.table(rows())
    assert [(line["guidance"], line["ω"]) for line in table] == [("plain", "0"), ("plain", "1"), ("interval", "1")]
    assert table[0]["read as asked for"] == "90.5% (90.0% to 91.0%)" and table[1]["Fréchet distance, in floors"] == "2.00"


def test_the_figures_show_every_way():
    curves, pareto = frontier.curves(rows(), "title"), frontier.pareto_figure(rows(), "title")
    (axis,) = pareto.axes
    assert [text.get_text() for text in axis.texts] == ["0", "1"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert lines["plain"] == [[pytest.approx(1.0), pytest.approx(9.5)], [pytest.approx(2.0), pytest.approx(0.5)]]
    assert len(curves.axes) == 4
    plt.close("all")
