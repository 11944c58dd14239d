"""lab.quality and lab.quality.judge: numbers against closed forms and plain loops, and bad input by name."""

import types

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchvision import transforms

import utils
from config import DMConfig
from lab import display, quality, samplers
from lab.quality import judge, metrics
from lab.training import data, pretrained


def points(count, shift=0.0, seed=0, dimensions=5):
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)) + shift


def test_frechet_is_the_distance_of_two_gaussians():
    """Against the formula of Dowson & Landau 1982, by scipy's matrix root."""
    a, b = points(400) @ torch.diag(torch.tensor([1.0, 2, 3, 0.5, 1])), points(300, shift=0.7, seed=1)
    means, covariances = [x.double().mean(0).numpy() for x in (a, b)], [np.cov(x.double().numpy().T) for x in (a, b)]
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(
        covariances[0] + covariances[1] - 2 * sqrtm(covariances[0] @ covariances[1]).real
    )
    assert metrics._frechet(a, b) == pytest.approx(expected, rel=1e-4)
    assert metrics._frechet(a, a) == pytest.approx(0, abs=1e-4)


def test_precision_and_recall_are_those_of_a_plain_loop():
    images, real = points(120, shift=0.5, seed=2), points(150, seed=3)

    def inside(some, manifold):
        count = 0
        for point in some:
            for centre in manifold:
                radius = sorted((manifold - centre).norm(dim=1).tolist())[3]  # the third neighbour; itself is the first here
                if (point - centre).norm() <= radius:
                    count += 1
                    break
        return count / len(some)

    some = real[metrics._shuffled(150)[:120]]  # as many as there are images
    expected = inside(images, some), inside(some, images)
    assert metrics._manifolds(images, real) == pytest.approx(expected) and 0 < expected[0] < 1 and 0 < expected[1] < 1


def test_a_collapsed_and_a_wide_model_are_told_apart():
    real = points(300, seed=4)
    narrow, wide = 0.2 * points(300, seed=5), 4 * points(300, seed=5)
    assert metrics._manifolds(narrow, real)[0] > 0.95 and metrics._manifolds(narrow, real)[1] < 0.3
    assert metrics._manifolds(wide, real)[0] < 0.3
    labels = torch.arange(300) % 10
    assert metrics._spread(narrow, labels) / metrics._spread(0.1 * narrow, labels) == pytest.approx(100, rel=1e-4)


def test_spread_is_the_variance_within_classes():
    features, labels = points(40), torch.arange(40) % 4
    expected = np.mean([features[labels == k].numpy().var(0, ddof=1).sum() for k in range(4)])
    assert metrics._spread(features, labels) == pytest.approx(expected, rel=1e-5)
    shifted = features + 10 * labels[:, None]  # classes further apart
    assert metrics._spread(shifted, labels) == pytest.approx(expected, rel=1e-3)


@pytest.fixture
def digits(real_mnist):
    """1,000 training digits and their labels: those of the floor, in the test set's proportions."""
    images, labels = next(iter(data.loader(data.mnist(transforms.ToTensor()), 60_000, shuffle=False)))
    wanted = quality.proportional_labels(1000).bincount()
    rows = torch.cat([(labels == digit).nonzero().flatten()[:count] for digit, count in enumerate(wanted)])
    return images[rows], labels[rows]


@pytest.mark.slow
def test_real_digits_are_as_good_as_real_digits(digits):
    images, labels = digits
    result = quality.evaluate(images, labels)
    assert result["samples"] == 1000 and result["accuracy"] > 0.99
    assert result["frechet"] == pytest.approx(result["frechet_floor"], rel=1e-4), "these are the digits of the floor"
    assert result["precision"] > 0.8 and result["recall"] > 0.8 and 0.85 < result["spread"] < 1.15


@pytest.mark.slow
def test_what_is_wrong_with_digits_shows(digits):
    images, labels = digits
    good = quality.evaluate(images, labels)
    assert quality.evaluate(images, (labels + 1) % 10)["accuracy"] < 0.2
    noisy = (images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    worse = quality.evaluate(noisy, labels)
    assert worse["frechet"] > 5 * good["frechet"] and worse["precision"] < good["precision"] - 0.1
    firsts = torch.stack([images[labels == k][i % 5] for i, k in enumerate(labels)])  # five of each class, again and again
    alike = quality.evaluate(firsts, labels)
    assert alike["recall"] < 0.3 and alike["accuracy"] > 0.95 and alike["spread"] < 0.95


@pytest.mark.slow
def test_the_judge_that_ships_reads_the_test_set(real_mnist):
    images, labels = next(iter(data.loader(data.mnist(transforms.ToTensor(), train=False), 10_000, shuffle=False)))
    accuracy = (judge.read(judge.load(), images)[0] == labels).float().mean().item()
    assert accuracy >= 0.995
    assert accuracy == pytest.approx(pretrained.load(pretrained.JUDGE)["record"]["test_accuracy"], abs=3e-4)


def test_the_floor_is_of_as_many_pictures_as_are_judged(monkeypatch):
    """Of fewer it would be higher, and the pictures seem closer to real ones than they are."""
    few = types.SimpleNamespace(data=torch.zeros(150, 28, 28, dtype=torch.uint8), targets=torch.arange(150) % 10)
    reference = metrics.Reference(DMConfig())
    monkeypatch.setattr(reference, "real", lambda train: few)
    monkeypatch.setattr(metrics.Reference, "of", staticmethod(lambda dmconfig=None: reference))
    assert quality.most() == 150 and reference.floor(quality.most()) > -1e-3
    for judging in (lambda: reference.floor(300), lambda: quality.evaluate(torch.rand(300, 1, 28, 28), torch.arange(300) % 10)):
        with pytest.raises(ValueError, match="300 pictures to judge, and 150 in the same proportions to train with"):
            judging()


def test_pictures_of_another_form_than_the_judges_are_refused(real_mnist):
    pairs = DMConfig(num_classes=100, input_dim=(28, 56))
    with pytest.raises(ValueError, match="the model draws 100 classes of 1 x .*; what reads MNIST's digits cannot read them"):
        quality.evaluate(torch.rand(100, 1, 28, 56), torch.arange(100), pairs)


@pytest.mark.parametrize("count", [100, 5000, 10_000, 12_345])
def test_labels_come_in_the_proportions_of_the_test_set(real_mnist, count):
    counts = quality.proportional_labels(count).bincount(minlength=10)
    share = torch.tensor([980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]) * count / 10_000
    assert counts.sum() == count and (counts - share).abs().max() < 1
    halves = quality.proportional_labels(count).chunk(2)
    assert all(len(half.unique()) == 10 for half in halves), "in random order, so that a batch holds all"


def test_a_judge_learns():
    """Lines that lie and lines that stand are told apart in a few epochs, wherever they are."""
    images, labels = torch.zeros(60, 1, 28, 28), torch.arange(60) % 2
    for i in range(60):
        line = images[i, 0].T if labels[i] else images[i, 0]
        line[4 + i // 3] = 1
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), 10)
    model = judge.train(batches, 5, 0, "cpu", display.Reporter(silent=True))
    assert (judge.read(model, images)[0] == labels).all() and not model.training


def centres(images):
    """Where the light of each image is, (N, 2): right and down from the middle."""
    line = torch.arange(28.0) - 13.5
    return torch.stack([(images.sum(axis).squeeze(1) * line).sum(1) / images.sum((1, 2, 3)) for axis in (2, 3)], dim=1)


def test_moved_digits_keep_to_their_bounds():
    """Two spots, four pixels to the left and right of the middle: their mean is the shift, their difference scale and angle."""
    down, right = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
    spots = [torch.exp(-((right - x) ** 2 + down**2) / 4).expand(2000, 1, 28, 28) for x in (-4, 4)]
    left, right = [], []
    for spot, kept in zip(spots, (left, right)):
        torch.manual_seed(0)  # the same moves for both
        kept.append(centres(judge.moved(spot)))
    left, right = left[0], right[0]
    shift, arm = (left + right) / 2, right - left
    scale, angle = arm.norm(dim=1) / 8, torch.atan2(arm[:, 1], arm[:, 0]).rad2deg()
    for value, limit, off in ((shift[:, 0], 2, 0.05), (shift[:, 1], 2, 0.05), (scale - 1, 0.1, 0.01), (angle, 12, 0.5)):
        assert limit - 3 * off < value.abs().max() < limit + off and abs(value.mean()) < limit / 10, "the whole range, to either side"
        assert abs(value.std() - limit / 3**0.5) < limit / 10, "evenly"


@pytest.mark.nightly
def test_a_start_around_what_the_network_sees_in_noise_brings_digits_closer(real_mnist, capsys):
    """What lab/README.md says of it, and prints with -s: at ω = 0, 500 digits a way, one seed."""
    model, labels, distance = utils.load_model(), quality.proportional_labels(500), {}
    for method in ("dpmpp", "sde"):
        for start in ("pure noise", "around an image"):
            generator = torch.Generator().manual_seed(0)
            x_T = torch.randn(500, 1, 28, 28, generator=generator) if start == "pure noise" else None
            images = samplers.sample(model, labels, 0.0, method=method, x_T=x_T, generator=generator)
            distance[method, start] = quality.evaluate(images.cpu(), labels)["frechet"]
            with capsys.disabled():
                print(f"\n{method}, 9 steps from {start}: Fréchet distance {distance[method, start]:.2f}", end="")
    for method in ("dpmpp", "sde"):
        assert distance[method, "around an image"] < distance[method, "pure noise"] / 2
    assert distance["sde", "around an image"] < distance["dpmpp", "around an image"]


def perceptron(images, labels):
    """What the last layer but one of a perceptron says that has learned to read images (N, 1, 28, 28), pixel by pixel and unmoved."""
    torch.manual_seed(0)
    seen = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 128), torch.nn.ReLU())
    reads = torch.nn.Sequential(seen, torch.nn.Linear(128, 10))
    optimizer = torch.optim.Adam(reads.parameters(), 1e-3)
    for _ in range(5):
        for part in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(reads(images[part]), labels[part]).backward()
            optimizer.step()
    return lambda x: seen(x).detach()


@pytest.mark.nightly
def test_in_features_unlike_the_judges(real_mnist, capsys):
    """What lab/README.md says of them, and prints with -s: 1,000 digits, one seed.

    The teacher's 19 calls are closer than the network of few calls, which has learned in features like the judge's, and than what is
    drawn again, whose draws have 10.
    """
    (images, labels), (test, _) = ((part.data[:, None] / 255, part.targets) for part in map(quality.real_mnist, (True, False)))
    mean, axes = images.flatten(1).mean(0), torch.pca_lowrank(images.flatten(1), 64, center=True)[2]
    eyes = {"a perceptron": perceptron(images, labels), "64 principal components": lambda x: (x.flatten(1) - mean) @ axes}
    asked = quality.proportional_labels(1000)
    real = images[torch.cat([(labels == k).nonzero().flatten()[:number] for k, number in enumerate(asked.bincount())])]
    teacher, few, found = utils.load_model(), utils.load_model(pretrained.FEW), {}
    reader = judge.load(utils.best_device(), second=True)
    ways = {
        "teacher, 19 calls": (teacher, 0.5, {"method": "sde"}),
        "teacher, 10 calls": (teacher, 0.6, {"method": "best", **samplers.usual("best", reader)}),
        "teacher, drawn again": (teacher, 0.6, {"method": "best", "reader": reader}),
    }
    ways |= {f"few, {calls}": (few, 0.0, {"steps": calls}) for calls in (1, 2, 4)}
    for name, (model, omega, how) in ways.items():
        how["generator"] = torch.Generator().manual_seed(0)
        drawn = torch.cat([samplers.sample(model, part, omega, **how).cpu() for part in asked.split(samplers.BATCH)])
        for eye, see in eyes.items():
            found[name, eye] = metrics._frechet(see(drawn), see(test)) / metrics._frechet(see(real), see(test))
            with capsys.disabled():
                print(f"\n{name}, in {eye}: {found[name, eye]:.2f} floors", end="")
    for eye in eyes:
        assert all(found["teacher, 19 calls", eye] < found[f"few, {calls}", eye] < 3 for calls in (1, 2, 4))
        assert found["teacher, 19 calls", eye] < found["teacher, drawn again", eye] < 3


@pytest.mark.parametrize(
    "images, labels, words",
    [
        (torch.rand(99, 1, 28, 28), torch.zeros(99).long(), "99 images; allowed are 100"),
        (torch.rand(100, 28, 28), torch.zeros(100).long(), r"\(100, 28, 28\)"),
        (torch.rand(100, 3, 28, 28), torch.zeros(100).long(), r"\(100, 3, 28, 28\)"),
        (np.zeros((100, 1, 28, 28)), torch.zeros(100).long(), "images"),
        (2 * torch.rand(100, 1, 28, 28), torch.zeros(100).long(), "allowed is 0 to 1"),
        (torch.full((100, 1, 28, 28), torch.nan), torch.zeros(100).long(), "images go from nan"),
        (torch.rand(100, 1, 28, 28), torch.zeros(99).long(), "100 whole numbers"),
        (torch.rand(100, 1, 28, 28), torch.zeros(100), "whole numbers"),
        (torch.rand(100, 1, 28, 28), torch.full((100,), 10), "0 to 9"),
        (torch.rand(100, 1, 28, 28), list(range(100)), "labels"),
        (torch.rand(100, 1, 28, 28), torch.zeros(100).bool(), "whole numbers"),
    ],
)
def test_bad_input_is_refused(images, labels, words):
    with pytest.raises(ValueError, match=words):
        quality.evaluate(images, labels)


def test_without_the_real_mnist_there_is_no_judging(monkeypatch, tmp_path):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    metrics._reference.cache_clear()
    with pytest.warns(UserWarning, match="stand in"), pytest.raises(data.DataError, match="real MNIST"):
        quality.proportional_labels(10)
