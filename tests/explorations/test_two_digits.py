"""explorations/pairs.py: two digits at once."""

import pytest
import torch

import pairs
from lab.quality import judge
from lab.training import data


class Numbered:
    """A loader of 28x28 images that all show their own number as brightness, reversed in each second pass."""

    dataset = range(6)

    def __init__(self):
        self.passes = 0

    def __len__(self):
        return 3

    def __iter__(self):
        self.passes += 1
        order = torch.arange(6) if self.passes % 2 else torch.arange(6).flip(0)
        return iter([(part.view(-1, 1, 1, 1).expand(-1, 1, 28, 28).float(), part) for part in order.split(2)])


def test_each_half_is_the_digit_that_the_number_names():
    seen = list(pairs.Pairs(Numbered(), Numbered()))
    images, numbers = (torch.cat(part) for part in zip(*seen))
    assert len(seen) == 3 and images.shape == (6, 1, 28, 56) and numbers.tolist() == [0, 11, 22, 33, 44, 55]
    both = Numbered()
    images, numbers = (torch.cat(part) for part in zip(*pairs.Pairs(both, both)))
    assert numbers.tolist() == [5, 14, 23, 32, 41, 50], "two passes over one loader"
    assert (images[..., :28] == (numbers // 10).view(-1, 1, 1, 1)).all() and (images[..., 28:] == (numbers % 10).view(-1, 1, 1, 1)).all()


def test_pairs_to_train_with_are_drawn_anew_and_those_to_test_with_stay(monkeypatch):
    monkeypatch.setattr(pairs, "make_dataloader", small_loader)
    train, test = pairs.loaders(50, limit=200)
    passes = [torch.cat([labels for _, labels in loader]) for loader in (train, train, test, test)]
    assert all(len(numbers) == 200 for numbers in passes)
    assert (passes[0] != passes[1]).any() and (passes[2] == passes[3]).all()
    first = torch.cat([labels for _, labels in pairs.loaders(50, limit=200)[1]])
    assert (first == passes[2]).all(), "the same in every run"
    assert (passes[2] // 10 != passes[2] % 10).any(), "no digit beside itself"
    images = torch.cat([images for images, _ in test])
    ours = images[..., :28].flatten(1)
    assert not (ours == images[..., 28:].flatten(1)).all(1).sum() > 20


def small_loader(transform, batch_size, train=True, limit=None):
    return data.loader(data.Digits(transform, train), batch_size, shuffle=train, limit=limit)


def test_a_pair_is_right_where_both_digits_are(monkeypatch):
    monkeypatch.setattr(judge, "load", lambda: None)
    # This judge reads the brightness: 0.3 is a 3.
    monkeypatch.setattr(judge, "read", lambda model, images: ((images.mean((1, 2, 3)) * 10).round().long(), None))
    row = torch.tensor([[3, 7], [3, 8], [4, 7], [7, 3]])
    images = (row / 10).view(4, 1, 1, 2).repeat_interleave(28, 3).expand(4, 1, 28, 56)
    assert pairs.both_right(images, torch.tensor([37, 37, 37, 37])).tolist() == [True, False, False, False]


@pytest.mark.parametrize("digits", [1, 2])
def test_both_kinds_of_model_draw_the_numbers_asked_for(digits, monkeypatch):
    """Tens to the left, whoever draws, over several batches: each digit d is as bright as d / 10."""

    def drawn(model, labels, omega, generator):
        row = torch.stack([labels // 10**place % 10 for place in reversed(range(digits))], dim=1) / 10
        return row.repeat_interleave(28, dim=1).view(len(labels), 1, 1, -1).expand(-1, -1, 28, -1)

    monkeypatch.setattr(pairs.samplers, "BATCH", 4)
    monkeypatch.setattr(pairs.samplers, "sample", drawn)
    monkeypatch.setattr(pairs, "width", lambda model: digits)
    numbers = torch.tensor([7, 70, 12, 93, 55, 30, 4])
    images = pairs.draw(None, numbers, 0.0, seed=0)
    seen = torch.stack([part.mean((1, 2, 3)) for part in images.split(28, dim=-1)], dim=1)
    torch.testing.assert_close(seen, torch.stack([numbers // 10, numbers % 10], dim=1) / 10)


@pytest.mark.parametrize(
    "left, right, meets",
    [((5, 27), (5, 28), True), ((5, 27), (6, 28), True), ((5, 27), (4, 28), True), ((5, 27), (7, 28), False), ((5, 26), (5, 28), False), ((5, 27), (5, 29), False)],
)  # fmt: skip
def test_strokes_touch_where_ink_meets_ink_across_the_middle(left, right, meets):
    images = torch.zeros(2, 1, 28, 56)
    images[0, 0][left] = images[0, 0][right] = 0.9
    images[1, 0][left], images[1, 0][right] = 0.9, 0.4  # too pale for ink
    assert pairs.touching(images).tolist() == [meets, False]
