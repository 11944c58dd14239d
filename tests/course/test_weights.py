"""course.grading.weights: what a network that answers by heart, an untrained one and a borrowed one get."""

import pytest
import torch
from torch import nn

from config import MEAN, STD, DMConfig
from course.grading import weights
from DDPM import ConditionalDDPM
from lab import samplers
from lab.training import pretrained


@pytest.fixture(scope="module")
def trained():
    """A ConditionalDDPM with the weights that ship."""
    state = pretrained.load(pretrained.DIGITS)
    model = ConditionalDDPM(DMConfig.from_dict(state["dmconfig"])).eval()
    model.load_state_dict(state["model_state_dict"])
    return model


class ByHeart(nn.Module):
    """The best that can be done with pictures {class: (N, 1, 28, 28)} and nothing learnt: the mean of those that x_t may have been."""

    def __init__(self, pictures, alpha_bar):
        super().__init__()
        self.pictures, self.alpha_bar, self.anchor = pictures, alpha_bar, nn.Parameter(torch.zeros(()))

    def forward(self, x, t, c):
        bars = self.alpha_bar[(t.flatten() * len(self.alpha_bar)).round().long() - 1].expand(len(x))
        return torch.stack([self._noise(*each) for each in zip(x, bars.float(), c)])

    def _noise(self, x, bar, c):
        pictures = self.pictures[int(c.argmax())] if c.min() >= 0 else torch.cat(list(self.pictures.values()))
        distances = (x - bar.sqrt() * pictures).square().sum((1, 2, 3))
        mean = (torch.softmax(-distances / (2 * (1 - bar)), 0).view(-1, 1, 1, 1) * pictures).sum(0)
        return (x - bar.sqrt() * mean) / (1 - bar).sqrt()


def judged(network, config):
    model = weights._Model(config, network)
    with torch.no_grad():
        return weights._judged(model, torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("each, words", [(1, "are alike, as if known by heart"), (12, "are alike|knows nothing of other pictures")])
def test_a_network_that_answers_by_heart_earns_nothing(trained, each, words):
    labels = torch.arange(10).repeat_interleave(each)
    drawn = samplers.sample(trained, labels, 2.0, method="ddpm", steps=10, generator=torch.Generator().manual_seed(1))
    pictures = {k: (drawn[labels == k] - MEAN) / STD for k in range(10)}
    network = ByHeart(pictures, torch.tensor(weights._Model(trained.dmconfig, None).tables["alpha_t_bar"]))
    with pytest.raises(weights.Unjudged, match=words) as why:
        judged(network, trained.dmconfig)
    assert "100% of 50 digits" in str(why.value), "they are drawn well all the same"


@pytest.mark.slow
def test_pictures_that_differ_are_not_enough(trained, monkeypatch):
    """What knows twelve pictures a digit draws some twice; one that knows very many would not, and fails by its loss."""
    monkeypatch.setattr(weights, "ALIKE", 0)
    test_a_network_that_answers_by_heart_earns_nothing(trained, 12, "its loss at little noise is [2-9]")


def test_the_weights_that_ship_are_known_and_no_others(trained):
    model = weights._Model(trained.dmconfig, trained.network)
    with torch.no_grad():
        assert (weights._asked(model) - torch.tensor(weights.SHIPPED)).abs().max() < weights.NEAR / 2
        other = ConditionalDDPM(trained.dmconfig).eval()
        assert (weights._asked(weights._Model(other.dmconfig, other.network)) - torch.tensor(weights.SHIPPED)).abs().max() > 0.1


@pytest.mark.slow
def test_trained_ones_earn_their_points_but_not_the_ones_that_ship(trained, monkeypatch):
    with pytest.raises(weights.Unjudged, match="answer as those that ship"):
        judged(trained.network, trained.dmconfig)
    monkeypatch.setattr(weights, "SHIPPED", (0.0,) * 5)
    share, notes = judged(trained.network, trained.dmconfig)
    assert share == 1 and "loss is 0.1" in notes[1] and notes[2] == weights.CANNOT


@pytest.mark.parametrize("right", [25, 45, 50])
def test_a_share_is_reached_by_as_many_digits(right, trained, monkeypatch):
    """45 of 50 are 0.9, which they are not in float32."""
    read = torch.arange(10).repeat_interleave(weights.EACH)
    read[right:] = (read[right:] + 1) % 10
    monkeypatch.setattr(weights.reader, "read", lambda *_: (read, None))
    monkeypatch.setattr(weights.samplers, "sample", lambda model, labels, *_, **__: torch.zeros(len(labels), 1, 28, 28))
    monkeypatch.setattr(weights, "SHARES", ((4, 2.0),))  # no further tests
    assert weights._judged(trained, torch.Generator())[0] == right / 50


def test_how_far_pictures_are_apart():
    images = torch.tensor([0.0, 0.3, 0.1, 0.5]).view(4, 1, 1, 1).expand(4, 1, 28, 28)
    assert weights._apart(images, torch.tensor([0, 0, 1, 1])).tolist() == pytest.approx([0.3, 0.4], abs=1e-5)
