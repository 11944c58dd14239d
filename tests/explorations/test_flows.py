"""explorations/flows.py: the toy, the switches of the training, score and velocity, and the tables of few calls."""

import itertools

import pytest
import torch

import flows
from config import DMConfig
from DDPM import ConditionalDDPM
from FM import ConditionalFM
from lab import samplers
from lab.diffusion.sampling import FLOW_METHODS

WAYS = flows.WAYS
SMALL = DMConfig(T=20, num_feat=8, precision="float32")


def test_transport_is_the_shortest_of_all_orders():
    noise, images = torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    length = lambda order: (noise[list(order)] - images).square().sum()
    best = min(itertools.permutations(range(5)), key=length)
    assert torch.equal(flows.transported(noise, images), noise[list(best)]) and length(best) < length(range(5))


def test_coupling_moves_the_noise_and_leaves_each_image_its_label():
    """What the network is shown of an image, its label beside it: with image = its label, x_t - (1 - t) noise tells which it is."""
    model, labels, seen = flows.Transport(SMALL), torch.arange(10).repeat(6), []
    images = labels.float().view(-1, 1, 1, 1).expand(-1, 1, 28, 28) + torch.randn(60, 1, 28, 28) / 100
    model.network.forward = lambda x, t, c: seen.append((x, t, c)) or torch.zeros_like(x)
    model(images, labels, generator=torch.Generator().manual_seed(0))
    ((x, t, c),) = seen
    image = ((x.mean((1, 2, 3)) / t.flatten()).round().clamp(0, 9)).long()  # the noise has a mean of next to nothing
    sure, shown = t.flatten() > 0.6, c.max(1).values == 1
    assert (sure & shown).sum() > 10 and torch.equal(image[sure & shown], c.argmax(1)[sure & shown])


@pytest.mark.parametrize("times", ["uniform", "logit-normal"])
def test_the_switches_change_times_and_coupling_alone(times):
    model, images, labels, seen = flows.Switched(SMALL, times), torch.randn(4000, 1, 28, 28) / 50, torch.zeros(4000, dtype=int), []
    model.network.forward = lambda x, t, c: seen.append(t.flatten()) or torch.zeros_like(x)
    loss = model(images, labels)
    assert loss == pytest.approx(1 + 1 / 2500, rel=0.01)  # of image - noise
    middle = ((seen[0] > 0.25) & (seen[0] < 0.75)).float().mean()
    assert middle == pytest.approx(0.5 if times == "uniform" else 0.728, abs=0.04)  # P(|normal| < log 3)
    same = ConditionalFM(SMALL)
    same.network.forward = lambda x, t, c: torch.zeros_like(x)
    if times == "uniform":
        seed = lambda: torch.Generator().manual_seed(4)
        assert torch.equal(same(images, labels, seed()), model(images, labels, seed()))
    with pytest.raises(ValueError, match="coupling = 'optimal'; allowed is one of independent, transport"):
        flows.Switched(SMALL, coupling="optimal")


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_score_and_velocity_are_turned_into_each_other(t):
    x, mean, std = torch.linspace(-3, 3, 9, dtype=torch.float64).requires_grad_(), 1.5, 0.4
    variance = (t * std) ** 2 + (1 - t) ** 2
    (score,) = torch.autograd.grad((-((x - t * mean) ** 2) / (2 * variance)).sum(), x)
    velocity = flows.gaussian_velocity(x.detach(), t, 1 - t, mean, std)
    torch.testing.assert_close(flows.score_of(velocity, x.detach(), t, 1 - t), score)
    torch.testing.assert_close(flows.velocity_of(score, x.detach(), t, 1 - t), velocity)


def test_the_exact_velocity_carries_noise_to_the_data():
    x = torch.randn(4000, dtype=torch.float64)
    for i in range(200):
        t = i / 200
        x = x + flows.gaussian_velocity(x, t, 1 - t, 1.5, 0.4) / 200
    assert x.mean() == pytest.approx(1.5, abs=0.03) and x.std() == pytest.approx(0.4, abs=0.02)


def test_bend_is_one_for_lines():
    start, end = torch.randn(7, 2), torch.randn(7, 2)
    line = torch.stack([start + (end - start) * k / 5 for k in range(6)])
    assert flows.bend(line) == pytest.approx(1) and flows.bend(line[[0, 3, 1, 5]]) > 1.5


def test_a_budget_is_kept(monkeypatch):
    """Each way asks the network as often as its column says, or has no cell."""
    monkeypatch.setattr(flows.quality, "proportional_labels", lambda count: torch.arange(4))
    monkeypatch.setattr(flows.quality, "evaluate", lambda images, labels: {"frechet": 2.0, "frechet_floor": 1.0, "accuracy": 0.5})
    calls, models = [], {"flow": ConditionalFM(SMALL), "DDPM": ConditionalDDPM(SMALL)}
    for model in models.values():
        plain = model.network.forward
        model.network.forward = lambda x, t, c, plain=plain: calls.append(1) or plain(x, t, c)
    for way, budget in itertools.product(WAYS, (1, 2, 5)):
        calls.clear()
        with monkeypatch.context() as only:
            only.setattr(flows, "WAYS", {way: WAYS[way]})
            found = flows.few_calls(models, [budget], 4, 1)
        assert len(calls) <= budget and (len(calls) > budget - 2 if found else budget == 1)
    rows = flows.few_calls(models, [1, 2], 4, 1)
    lines = flows.calls_table(rows, [1, 2]).splitlines()
    assert lines[2] == "| flow | Euler / DDIM | 2.0 ×<br>50.0% | 2.0 ×<br>50.0% |" and "| flow | Heun |  | 2.0" in lines[3]
    with pytest.raises(ValueError, match="guidance would double the calls"):
        flows.few_calls(models, [2], 4, 1, omega=1.0)


def test_every_way_is_one_of_the_engine():
    assert {method for _, method in WAYS} <= set(FLOW_METHODS) and {method for _, method in WAYS} == set(flows.NAMES)
    assert {method for name, method in WAYS if name == "DDPM"} <= set(samplers.METHODS)


def test_the_toy_learns_and_coupling_straightens_it():
    start = torch.randn(300, 2)
    bends, ends = {}, {}
    for toy in flows.TOYS:
        velocity = flows.fit_toy(toy, steps=400)
        paths = flows.toy_paths(velocity, start, 50)
        bends[toy], ends[toy] = flows.bend(paths), torch.cdist(paths[-1], flows.moons(2000)).min(1).values.mean().item()
    assert (
        bends["flow, transport"] < 1.1 < bends["flow"]
        and max(ends.values()) < 0.25 < torch.cdist(start, flows.moons(2000)).min(1).values.mean()
    )
