"""explorations/inversion.py: DDIM backwards, and the choice among starts that stands on it."""

import diffusers
import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn

import inversion
from config import DMConfig
from lab import quality, samplers
from lab.quality import judge

T = 40
BETAS = torch.linspace(1e-3, 0.2, T, dtype=torch.float64)


class Answers(nn.Module):
    """A network whose noise is a known function of x, of the time and of the class; it counts the images that it is asked about."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked, self.weight = answer, 0, nn.Parameter(torch.zeros(()))

    def forward(self, x, t, c):
        self.asked += len(x)
        return self.answer(x, t.view(-1, 1, 1, 1), torch.where(c[:, 0] == -1, 3.0, c.argmax(1)).view(-1, 1, 1, 1))


class Model:
    """What lab asks of a model, with betas of its own."""

    def __init__(self, answer, size=4, betas=BETAS):
        self.dmconfig = DMConfig(T=len(betas), input_dim=(size, size), precision="float32")
        self.network, self.betas = Answers(answer), betas

    def scheduler(self, t):
        at = t.reshape(-1) - 1
        alpha_bar = (1 - self.betas).cumprod(0)[at].float().view(-1, 1, 1, 1)
        names = {"alpha_t_bar": alpha_bar, "sqrt_alpha_bar": alpha_bar.sqrt(), "sqrt_oneminus_alpha_bar": (1 - alpha_bar).sqrt()}
        return {"beta_t": self.betas[at].float().view(-1, 1, 1, 1), **names}


def curved(x, t, c):
    return 0.6 * torch.tanh(x) * t + c / 10


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape):
    return torch.randn(*shape, generator=seeded(7))


@pytest.mark.parametrize("omega", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("steps", [1, 8, 10, T])
def test_inversion_is_that_of_diffusers(steps, omega):
    labels, x = torch.arange(10), drawn(10, 1, 4, 4)
    ours = inversion.invert(Model(curved), x, labels, omega, steps=steps)
    scheduler = diffusers.DDIMInverseScheduler(T, trained_betas=BETAS.numpy(), clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:  # their time t is our t + 1
        time = (t + 1.0) / T
        with_class, without = (curved(x, time, c) for c in (labels.view(-1, 1, 1, 1), torch.tensor(3.0)))
        x = scheduler.step((1 + omega) * with_class - omega * without, t, x).prev_sample
    torch.testing.assert_close(ours, x, rtol=2e-5, atol=2e-5)  # float32, up to 40 steps


def gaussian(s, betas):
    """The best noise for data of variance s^2: sqrt(1 - alpha_bar) x / (alpha_bar s^2 + 1 - alpha_bar)."""
    alpha_bar = (1 - betas).cumprod(0)

    def answer(x, t, c):
        at = alpha_bar[(t * len(betas)).round().long() - 1].float()
        return (1 - at).sqrt() * x / (at * s**2 + 1 - at)

    return Model(answer, betas=betas), (alpha_bar[-1] * s**2 + 1 - alpha_bar[-1]).sqrt().item() / s


def test_inversion_comes_as_close_to_the_closed_form_as_its_steps_are_many():
    """Of Gaussian data, the flow keeps x_t in units of its own deviation: x_T = x_0 sqrt(alpha_bar_T s^2 + 1 - alpha_bar_T) / s."""
    x_0, labels, away = 2 * drawn(3, 1, 4, 4), torch.arange(3), []
    model, factor = gaussian(2.0, torch.linspace(1e-4, 2e-2, 400, dtype=torch.float64))
    for steps in (100, 400):
        x_T = inversion.invert(model, x_0, labels, 0.0, steps=steps)
        away.append((x_T / (x_0 * factor) - 1).abs().max().item())
    assert away[1] < 0.005 and away[0] / away[1] == pytest.approx(4, rel=0.02)  # an error of first order


def test_there_and_back_is_where_it_began():
    model, _ = gaussian(0.5, torch.linspace(1e-4, 2e-2, 400, dtype=torch.float64))
    x_T, labels = drawn(3, 1, 4, 4), torch.arange(3)
    *_, last = samplers.trajectory(model, labels, 0.0, method="ddim", steps=400, x_T=x_T)
    back = inversion.invert(model, last.x, labels, 0.0, steps=400)
    torch.testing.assert_close(back, x_T, rtol=0.005, atol=0)
    assert (last.x / x_T - 1).abs().min() > 0.3, "that the image is not the start already"


def test_renoising_is_a_draw_from_the_forward_process():
    model, x_0 = Model(curved), drawn(5, 3, 1, 4, 4)
    alpha_bar = (1 - BETAS).prod().item()
    noise = torch.randn(x_0.shape, generator=seeded(1))
    torch.testing.assert_close(inversion.renoise(model, x_0, seeded(1)), alpha_bar**0.5 * x_0 + (1 - alpha_bar) ** 0.5 * noise)


def test_round_trips_are_of_the_samplers_starts_label_by_label():
    labels, model = torch.tensor([4, 0, 9]), Model(curved)
    trips = inversion.round_trips(model, labels, 0.0, 5, steps=8, generator=seeded())
    assert model.network.asked == 3 * 5 * (2 * 8 + 1)
    rows = labels.repeat_interleave(5)
    first, *_ = samplers.trajectory(Model(curved), rows, 0.0, method="ddim", steps=8, generator=seeded())
    assert torch.equal(trips.start.flatten(0, 1), first.x)
    for b, k in ((0, 0), (1, 4), (2, 2)):
        label, start = labels[b : b + 1], trips.start[b, k][None]
        *_, last = samplers.trajectory(Model(curved), label, 0.0, method="ddim", steps=8, x_T=start)
        torch.testing.assert_close(trips.image[b, k][None], last.x)
        back = inversion.invert(Model(curved), last.x, label, 0.0, steps=8).double().flatten()
        start = start.double().flatten()
        assert trips.similarity[b, k].item() == pytest.approx((back @ start / (back.norm() * start.norm())).item(), abs=1e-5)


def test_the_chosen_one_survives_best():
    trips = inversion.round_trips(Model(curved), torch.tensor([4, 0, 9]), 2.0, 5, steps=8, generator=seeded())
    best = [max(range(5), key=lambda k: trips.similarity[b, k]) for b in range(3)]
    assert len({*best}) > 1, "a choice that is always the same tests nothing"
    assert torch.equal(inversion.picked(trips.image, trips.similarity), torch.stack([trips.image[b, k] for b, k in enumerate(best)]))


def test_a_round_trip_is_of_one_ode_whatever_the_schedule():
    """Clipped on the way there, as samplers are under a cosine schedule, it would not be the way that is inverted."""
    linear, cosine = Model(curved), Model(curved)
    cosine.dmconfig.schedule = "cosine"
    trips = [inversion.round_trips(m, torch.arange(3), 0.0, 2, steps=8, generator=seeded()) for m in (linear, cosine)]
    assert trips[0].image.max() > samplers.WHITE and all(map(torch.equal, *trips))


def test_correlation_is_within_a_label():
    a, b = torch.tensor([[1.0, 2, 3], [11, 12, 13]]), torch.tensor([[5.0, 7, 9], [-20, -20, -23]])
    # a - mean: -1 0 1, -1 0 1; b - mean: -2 0 2, 1 1 -2; sums of products 4 - 3, squares 4 and 8 + 6
    assert inversion.correlation(a, b) == pytest.approx(1 / (4 * 14) ** 0.5)
    assert inversion.linked([a, a], [b, a]) == "+0.567 ± 5.504"  # of 0.1336 and 1: half is 12.706 (t of 1) times (1 - 0.1336) / 2


def test_interval_is_students():
    assert inversion.interval([1, 2, 3]) == pytest.approx((2, 4.302653 / 3**0.5))  # t of 2 degrees of freedom, in any table


def test_table_beside_one_way_compares_under_the_same_seed():
    measures = ("frechet", "precision", "recall", "spread")
    rows = [
        {"way": way, "K": 1, "evaluations": 6, "seed": seed, "accuracy": accuracy, **dict.fromkeys(measures, 0.5)}
        for way, accuracies in (("one start", (0.1, 0.5, 0.9)), ("judge", (0.3, 0.7, 1.1))) for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip
    assert "| judge | 1 | 6 | 0.700 ± 0.994 | 0.500 ± 0.000 |" in inversion.table(rows)
    lines = inversion.table(rows, beside="one start").splitlines()
    assert len(lines) == 3 and "| judge | 1 | 6 | +0.200 ± 0.000 | +0.000 ± 0.000 |" in lines[2]


def test_cost_figure_shows_means_and_ranges():
    measures = ("accuracy", "frechet", "frechet_floor", "precision", "recall", "spread")
    rows = [
        {"way": way, "K": 1, "evaluations": evaluations, "seed": seed, **dict.fromkeys(measures, value + seed)}
        for way, evaluations, value in (("judge", 6, 0.5), ("43 steps", 44, 3.0), ("9 steps", 10, 7.0)) for seed in (0, 1, 3)
    ]  # fmt: skip
    figure = inversion.cost_figure(rows, "")
    for axis in figure.axes:
        judged, more = axis.containers
        assert judged.lines[0].get_xdata() == pytest.approx([6]) and more.lines[0].get_xdata() == pytest.approx([44 * 1.04, 10 * 1.04])
        assert more.lines[0].get_ydata() == pytest.approx([3 + 4 / 3, 7 + 4 / 3])
        assert [part[:, 1].tolist() for part in more.lines[2][0].get_segments()] == [pytest.approx([3, 6]), pytest.approx([7, 10])]
        assert more.get_label() == "more steps"
    plt.close(figure)


@pytest.mark.parametrize("K", [0, -1, 1.5, True, None])
def test_K_that_is_no_number_of_starts(K):
    model = Model(curved)
    with pytest.raises(ValueError, match="K = .*; allowed is a whole number of starts, 1 or more"):
        inversion.round_trips(model, torch.arange(3), 0.0, K, steps=8)
    with pytest.raises(ValueError, match="K = "):
        inversion.measure(model, torch.arange(3), 0.0, (1, K), 8, 0, "unused")
    assert model.network.asked == 0


def test_other_bad_input_comes_before_any_work(tmp_path):
    model, labels, x_0 = Model(curved), torch.arange(3), drawn(3, 1, 4, 4)
    for steps in (0, T + 1, 2.0):
        with pytest.raises(ValueError, match="steps = .*; allowed is a whole number from 1 to 40"):
            inversion.invert(model, x_0, labels, 0.0, steps=steps)
        with pytest.raises(ValueError, match="steps = "):
            inversion.round_trips(model, labels, 0.0, 2, steps=steps)
    for wrong in (None, x_0[:2], x_0[..., :3], x_0.long(), x_0 / 0):
        with pytest.raises(ValueError, match=r"x_0 is .*; allowed is a tensor \(3, 1, 4, 4\) of finite floats"):
            inversion.invert(model, wrong, labels, 0.0, steps=8)
    with pytest.raises(ValueError, match="labels 1 to 10; allowed is 0 to 9"):
        inversion.round_trips(model, torch.tensor([1, 10]), 0.0, 2, steps=8)
    with pytest.raises(ValueError, match="steps = 67; allowed"):  # what a choice among 4 in 8 steps costs is more than T steps
        inversion.measure(model, labels, 0.0, (1, 4), 8, 0, tmp_path)
    assert model.network.asked == 0 and not [*tmp_path.iterdir()]


def test_each_way_is_measured_on_what_it_chooses(tmp_path, monkeypatch):
    """With the judge, on 28 x 28; quality.evaluate, which needs the real MNIST, only keeps what it is handed."""
    judged = []
    monkeypatch.setattr(quality, "evaluate", lambda images, labels: judged.append(images) or {"accuracy": 1.0})
    labels, model = torch.arange(10), Model(curved, size=28)
    rows, trips = inversion.measure(model, labels, 0.0, (1, 2, 4), 3, 0, tmp_path)
    assert [(row["way"], row["K"], row["evaluations"]) for row in rows] == [
        ("one start", 1, 4),
        ("round trip", 2, 14), ("fresh noise", 2, 8), ("judge", 3, 12), ("13 steps", 1, 14),
        ("round trip", 4, 28), ("fresh noise", 4, 16), ("judge", 7, 28), ("27 steps", 1, 28),
    ]  # fmt: skip
    cost = 10 * (4 * 7 + 3 * 4 + 13 + 27)
    assert model.network.asked == cost, "4 there and back, 3 there alone; the many steps begin at a start that is there"
    more = samplers.trajectory(model, labels.repeat_interleave(3), 0.0, method="ddim", steps=3, generator=seeded(inversion.OTHERS))
    images = torch.cat([trips.image, samplers.final(more).unflatten(0, (10, 3))], dim=1)
    assert not any(torch.allclose(images[:, k], trips.image[:, 0]) for k in range(1, 7)), "all drawn anew"
    sure, right = inversion.read_as(images, labels)
    assert ((sure > 0.5) <= (right == 1)).all(), "of more than one half, none has more"
    fresh = inversion.similarity(trips.start, inversion.renoise(model, trips.image, seeded()))
    scores = {"round trip": trips.similarity, "fresh noise": fresh, "judge": sure}
    for row, judged_images in zip(rows, judged):
        if row["way"] in scores:
            best = [max(range(row["K"]), key=lambda k: scores[row["way"]][b, k]) for b in range(10)]
            torch.testing.assert_close(judged_images, samplers.pixels(torch.stack([images[b, k] for b, k in enumerate(best)])))
    assert torch.equal(judged[0], samplers.pixels(trips.image[:, 0]))
    for finer, many in ((judged[4], 13), (judged[8], 27)):
        torch.testing.assert_close(finer, samplers.sample(model, labels, 0.0, method="ddim", steps=many, x_T=trips.start[:, 0]))
    asked = model.network.asked
    again, same = inversion.measure(model, labels, 0.0, (1, 2, 4), 3, 0, tmp_path)
    assert model.network.asked == asked and again == rows and torch.equal(same.similarity, trips.similarity)
    inversion.measure(model, labels.flip(0), 0.0, (1, 2, 4), 3, 0, tmp_path)
    assert model.network.asked == asked + cost, "what is kept is of other labels"
    torch.nn.init.ones_(model.network.weight)
    inversion.measure(model, labels, 0.0, (1, 2, 4), 3, 0, tmp_path)
    assert model.network.asked == asked + 2 * cost, "and of other weights"


def test_the_judge_says_how_sure_it_is():
    images, reader = drawn(3, 2, 1, 28, 28), judge.load()
    read = reader(samplers.pixels(images.flatten(0, 1))).softmax(1).detach().view(3, 2, 10)
    taken = read[0, 1].argmax()
    labels = torch.stack([taken, (taken + 1) % 10, (taken + 3) % 10])
    sure, right = inversion.read_as(images, labels)
    for b in range(3):
        for k in range(2):
            assert sure[b, k].item() == pytest.approx(read[b, k, labels[b]].item(), rel=1e-4)
            assert right[b, k] == (read[b, k].argmax() == labels[b])
