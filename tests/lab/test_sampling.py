"""lab.samplers against diffusers, step by step under the same noise, and against what a stub's answers imply."""

import math
from fractions import Fraction
from types import SimpleNamespace

import diffusers
import pytest
import torch
from torch import nn

from config import MEAN, STD, DMConfig
from lab import samplers
from lab.check import finite
from lab.diffusion.guidance_methods import plain
from lab.diffusion.process import levels

T = 40


class Answers(nn.Module):
    """A network whose noise is a known function: slope * x + shift of the class asked for, shift 0.3 without one."""

    def __init__(self, slope=0.6):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))
        self.seen = []

    def forward(self, x, t, c):
        self.seen.append((t.reshape(-1)[0].item(), c))
        shift = torch.where(c[:, 0] == -1, 0.3, c.argmax(1) / 10)
        return self.slope * torch.tanh(x) * t + shift.view(-1, 1, 1, 1)


class Model:
    """What lab asks of a model, without ResUNet.py and DDPM.py."""

    def __init__(self, T=T, beta_1=1e-3, beta_T=0.2):
        self.dmconfig = DMConfig(T=T, beta_1=beta_1, beta_T=beta_T, input_dim=(4, 4), precision="float32")
        self.network = Answers()

    def scheduler(self, t):
        beta = torch.linspace(self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T, dtype=torch.float64)
        at = t.reshape(-1) - 1
        values = {"beta_t": beta[at], "alpha_t_bar": (1 - beta).cumprod(0)[at]}
        return {name: value.float().view(-1, 1, 1, 1) for name, value in values.items()}


LABELS = torch.arange(10)
BETAS = torch.linspace(1e-3, 0.2, T, dtype=torch.float64).numpy()
X_T = torch.randn(10, 1, 4, 4, generator=torch.Generator().manual_seed(7))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def guided(model, x, t, omega):
    def rows(c):
        return model.network(x, torch.full((len(x), 1, 1, 1), t / T), c).detach()

    return (1 + omega) * rows(torch.eye(10)[LABELS]) - omega * rows(torch.full((10, 10), -1.0))


def theirs(model, method, steps, omega, eta, seed):
    """The same trajectory by diffusers, which names our time t t - 1."""
    kinds = {
        "ddpm": lambda: diffusers.DDPMScheduler(T, trained_betas=BETAS, clip_sample=False, timestep_spacing="trailing"),
        "ddim": lambda: diffusers.DDIMScheduler(T, trained_betas=BETAS, clip_sample=False, timestep_spacing="trailing"),
        "dpmpp": lambda: diffusers.DPMSolverMultistepScheduler(
            T, trained_betas=BETAS, timestep_spacing="trailing", final_sigmas_type="zero"
        ),
        "unipc": lambda: diffusers.UniPCMultistepScheduler(T, trained_betas=BETAS, timestep_spacing="trailing", final_sigmas_type="zero"),
        "sde": lambda: diffusers.DPMSolverMultistepScheduler(
            T, trained_betas=BETAS, timestep_spacing="trailing", final_sigmas_type="zero", algorithm_type="sde-dpmsolver++"
        ),
    }
    scheduler = kinds[method]()
    scheduler.set_timesteps(steps)
    generator, x = seeded(seed), X_T
    extra = {"ddpm": {"generator": generator}, "sde": {"generator": generator}, "ddim": {"generator": generator, "eta": eta}}.get(
        method, {}
    )
    yield x
    for t in scheduler.timesteps:
        x = scheduler.step(guided(model, x, int(t) + 1, omega), t, x, **extra).prev_sample
        yield x


@pytest.mark.parametrize("omega", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("method, eta, steps", [("ddpm", 0, T), ("ddpm", 0, 10), ("ddim", 0, 10), ("ddim", 0.7, 10), ("ddim", 0, T),
                                                ("dpmpp", 0, 10), ("dpmpp", 0, 20), ("unipc", 0, 10), ("sde", 0, 10), ("sde", 0, 20)])  # fmt: skip
def test_each_step_is_that_of_diffusers(method, eta, steps, omega):
    ours = list(samplers.trajectory(Model(), LABELS, omega, method=method, steps=steps, eta=eta, generator=seeded(3), x_T=X_T))
    other = list(theirs(Model(), method, steps, omega, eta, 3))
    assert len(ours) == len(other) == steps + 1
    assert [step.t for step in ours] == [T, *[T - i * T // steps for i in range(1, steps)], 0]
    for step, x in zip(ours, other):
        torch.testing.assert_close(step.x, x, rtol=2e-5, atol=2e-5)  # float32, up to 40 steps


def test_a_wrong_step_would_be_seen():
    """The proof of the comparison above: another sampler, guidance, eta or stride are all further away than its tolerance."""
    ours = [s.x for s in samplers.trajectory(Model(), LABELS, 2.0, method="ddim", steps=10, generator=seeded(3), x_T=X_T)]
    for wrong in (("dpmpp", 10, 2.0, 0, 3), ("ddim", 10, 1.0, 0, 3), ("ddim", 10, 2.0, 0.1, 3), ("ddim", 20, 2.0, 0, 3)):
        assert (list(theirs(Model(), *wrong))[-1] - ours[-1]).abs().max() > 1e-2


def test_eta_one_is_the_posterior():
    a = samplers.sample(Model(), LABELS, 1.0, method="ddpm", steps=8, generator=seeded(0))
    b = samplers.sample(Model(), LABELS, 1.0, method="ddim", eta=1.0, steps=8, generator=seeded(0))
    assert torch.equal(a, b)


def test_asks_only_for_what_has_weight():
    for omega, calls in ((2.0, 2), (0.0, 1), (-1.0, 1)):
        model = Model()
        samplers.sample(model, LABELS, omega, method="ddim", steps=8, x_T=X_T)
        assert [len(c) for _, c in model.network.seen] == [10] * calls * 8
        assert [t for t, _ in model.network.seen[::calls]] == pytest.approx([(8 - i) / 8 for i in range(8)])
        assert (model.network.seen[calls - 1][1] == -1).all() == (omega != 0)


def test_guidance_interval():
    """Inside the interval guided, outside conditional and half the work; an interval of everything changes nothing."""
    model = Model()
    alpha_bar = model.scheduler(torch.arange(T, 0, -5))["alpha_t_bar"].flatten()
    sigma = ((1 - alpha_bar) / alpha_bar).sqrt()  # of the eight times, falling
    interval = (sigma[5].item() * 1.01, sigma[2].item() * 1.01)
    inside = samplers.sample(model, LABELS, 2.0, method="ddim", steps=8, guidance_interval=interval, x_T=X_T)
    times = [t for t, _ in model.network.seen]
    assert [times.count(t) for t in dict.fromkeys(times)] == [1, 1, 2, 2, 2, 1, 1, 1]
    everywhere, always, never = (
        samplers.sample(Model(), LABELS, omega, method="ddim", steps=8, guidance_interval=band, x_T=X_T)
        for omega, band in ((2.0, (0, math.inf)), (2.0, None), (0.0, None))
    )
    assert torch.equal(everywhere, always)
    assert not torch.allclose(inside, always) and not torch.allclose(inside, never)


def test_the_best_method_is_a_choice_of_settings():
    """What explorations/guidance recommends, by name; what the caller says comes first."""
    usual = samplers.usual(samplers.BEST)
    draw = lambda method, **how: samplers.sample(Model(), LABELS, 2.0, method=method, generator=seeded(0), **how)
    assert torch.equal(draw("best"), draw("sde", **usual)) and usual["guidance"] is not plain
    told = dict(steps=5, guidance=plain)
    assert torch.equal(draw("best", **told), draw("sde", **told)) and not torch.allclose(draw("best"), draw("sde", steps=usual["steps"]))


def test_clip_keeps_the_prediction_in_the_range_of_pixels():
    low, high = -MEAN / STD, (1 - MEAN) / STD
    free = list(samplers.trajectory(Model(), LABELS, 2.0, method="ddim", steps=8, generator=seeded(0)))
    kept = list(samplers.trajectory(Model(), LABELS, 2.0, method="ddim", steps=8, clip=True, generator=seeded(0)))
    assert max(step.x_0.max() for step in free[1:]) > high + 0.1
    assert all(low - 1e-6 <= step.x_0.min() and step.x_0.max() <= high + 1e-6 for step in kept[1:])
    torch.testing.assert_close(kept[-1].x, kept[-1].x_0)  # the last step lands on the prediction
    torch.testing.assert_close(kept[1].x_0, free[1].x_0.clamp(low, high))


def test_clip_takes_another_range():
    """A model of images in [-1, 1] is clipped there; True is the range of MNIST's pixels, no other pair of its own."""

    def walk(clip):
        return list(samplers.trajectory(Model(), LABELS, 2.0, method="ddpm", steps=8, clip=clip, generator=seeded(0), x_T=X_T))

    free, kept = walk(False), walk((-0.5, 1.5))
    torch.testing.assert_close(kept[1].x_0, free[1].x_0.clamp(-0.5, 1.5))
    assert free[1].x_0.min() < -0.6 and free[1].x_0.max() > 1.6
    assert all(step.x_0.min() >= -0.5 and step.x_0.max() <= 1.5 for step in kept[1:])
    low, high = -MEAN / STD, (1 - MEAN) / STD
    assert all(torch.equal(a.x, b.x) for a, b in zip(walk(True), walk((low, high)), strict=True))


@pytest.mark.parametrize("schedule, clip", [("linear", False), ("cosine", True)])
def test_unless_asked_it_clips_where_the_schedule_leaves_nothing_of_an_image(schedule, clip):
    model = Model()
    model.dmconfig.schedule = schedule
    unasked, asked = (
        samplers.sample(model, LABELS, 2.0, method="ddim", steps=8, generator=seeded(0), **how) for how in ({}, {"clip": clip})
    )
    assert torch.equal(unasked, asked)
    assert not torch.equal(asked, samplers.sample(model, LABELS, 2.0, method="ddim", steps=8, generator=seeded(0), clip=not clip))


def test_the_start_is_what_training_knows():
    """x_T is drawn around an image, not as noise alone: with one call, without guidance, for the class asked for."""
    model = Model()
    first = next(iter(samplers.trajectory(model, LABELS.repeat(400), 2.0, steps=8, generator=seeded(0)))).x  # (4000, 1, 4, 4)
    assert [len(c) for _, c in model.network.seen] == [4000] and model.network.seen[0][0] == 1
    draws = seeded(0)
    noise, again = (torch.randn(4000, 1, 4, 4, generator=draws) for _ in range(2))
    bar = model.scheduler(torch.tensor(T))["alpha_t_bar"]
    eps = model.network(noise, torch.ones(4000, 1, 1, 1), torch.eye(10).repeat(400, 1)).detach()
    x_0 = ((noise - (1 - bar).sqrt() * eps) / bar.sqrt()).clamp(-MEAN / STD, (1 - MEAN) / STD)
    torch.testing.assert_close(first, bar.sqrt() * x_0 + (1 - bar).sqrt() * again)
    assert first.view(400, 10, -1).mean((0, 2)).diff().abs().max() > 3 / (400 * 16) ** 0.5  # the classes start apart
    unconditional = Model()
    next(iter(samplers.trajectory(unconditional, LABELS, -1.0, steps=8)))
    assert (unconditional.network.seen[0][1] == -1).all()


def test_a_start_of_the_callers_is_taken_as_it_is():
    model = Model()
    steps = list(samplers.trajectory(model, LABELS, 2.0, method="ddim", steps=8, x_T=X_T))
    assert torch.equal(steps[0].x, X_T) and len(model.network.seen) == 16


def test_pixels_seed_and_mode():
    model = Model()
    model.network.train()
    a, b, c = (samplers.sample(model, LABELS, 2.0, steps=8, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.allclose(a, c)
    assert a.shape == (10, 1, 4, 4) and 0 <= a.min() and a.max() <= 1 and model.network.training and not a.requires_grad
    torch.testing.assert_close(samplers.pixels(torch.tensor([-10.0, 0.0, 1.0, 10.0])), torch.tensor([0, MEAN, MEAN + STD, 1]))


@pytest.mark.parametrize("method", samplers.METHODS)
@pytest.mark.parametrize(
    "schedule", [dict(T=10, beta_1=1e-8), dict(T=3, beta_1=1e-12, beta_T=1e-12), dict(T=1), dict(T=12, beta_1=0.999, beta_T=0.999)]
)
def test_gentle_and_steep_schedules_give_images(method, schedule):
    """1 - 1e-8 is 1 in float32, and alpha_bar goes down to 1e-36."""
    model = Model(**schedule)
    for steps in {1, 2, model.dmconfig.T} - ({2} if model.dmconfig.T == 1 else set()):
        images = samplers.sample(model, LABELS, 2.0, method=method, steps=steps, generator=seeded(0))
        assert images.dtype == torch.float32 and images.shape == (10, 1, 4, 4) and images.isfinite().all()


def test_levels_are_those_of_float64():
    alpha, sigma = levels(torch.linspace(1e-12, 0.2, 10, dtype=torch.float64))
    exact = [Fraction(1)]
    for beta in torch.linspace(1e-12, 0.2, 10, dtype=torch.float64).tolist():
        exact.append(exact[-1] * (1 - Fraction(beta)))
    assert (alpha[0], sigma[0]) == (1, 0)
    assert [a**2 for a in alpha] == pytest.approx([float(bar) for bar in exact], rel=1e-14)
    assert [s**2 for s in sigma] == pytest.approx([float(1 - bar) for bar in exact], rel=1e-14)  # 1 - alpha_bar loses no digit


def test_images_that_are_not_finite_are_an_error():
    model = Model()
    model.network.slope.data.fill_(math.nan)
    for method in samplers.METHODS:
        with pytest.raises(ValueError, match="160 of the images' 160 values are not finite.*float32"):
            samplers.sample(model, LABELS, 2.0, method=method, steps=4)
    with pytest.raises(ValueError, match="1 of the images' 2 values"):
        samplers.pixels(torch.tensor([0.0, math.inf]))
    assert torch.equal(finite(X_T), X_T)


def test_a_model_with_a_config_of_an_earlier_edition():
    model, ours = Model(), Model()
    model.dmconfig = SimpleNamespace(T=T, input_dim=4, num_channels=1, num_classes=10, condition_mask_value=-1, beta_1=1e-3, beta_T=0.2)
    one, other = (samplers.sample(m, LABELS, 2.0, method="ddim", steps=8, generator=seeded(0)) for m in (model, ours))
    torch.testing.assert_close(one, other, rtol=0, atol=0.1)  # its precision is this machine's


@pytest.mark.parametrize(
    "wrong, word",
    [
        (dict(method="euler"), "dpmpp"), (dict(steps=0), "steps"), (dict(steps=T + 1), f"1 to {T}"), (dict(steps=True), "steps"),
        (dict(omega=math.nan), "omega"), (dict(omega="2"), "omega"), (dict(method="best", omega=-1), "0 or more"), (dict(eta=0.5), "eta"), (dict(method="ddim", eta=-1), "eta"),
        (dict(guidance_interval=(2, 1)), "low < high"), (dict(guidance_interval=1), "guidance_interval"),
        (dict(labels=torch.tensor([10])), "0 to 9"), (dict(labels=torch.tensor([-1])), "0 to 9"), (dict(labels=torch.eye(10)), "labels"),
        (dict(clip=1), "clip"), (dict(clip=(1, -1)), "low < high"), (dict(clip=("0", "1")), "clip"),
        (dict(clip=(-1, 0, 1)), "clip"), (dict(clip="01"), "clip"), (dict(x_T=X_T[:9]), "x_T"), (dict(x_T=X_T.long()), "x_T"), (dict(x_T=X_T / 0), "finite"), (dict(x_T=3), "x_T"),
        (dict(labels=torch.tensor([], dtype=torch.long)), "labels"), (dict(labels=[1]), "labels"), (dict(labels=torch.tensor([1.0])), "labels"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_before_any_work(wrong, word):
    model = Model()
    arguments = {"labels": LABELS, "omega": 2.0, "steps": 8, **wrong}
    with pytest.raises(ValueError, match=word):
        samplers.sample(model, arguments.pop("labels"), arguments.pop("omega"), **arguments)
    assert model.network.seen == []
