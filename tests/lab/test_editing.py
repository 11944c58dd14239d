"""lab.editing on a stub whose noise is a formula: against loops in float64, and what must hold exactly."""

import math

import pytest
import torch

from lab import editing
from lab.diffusion.process import Process, levels
from lab.editing import tasks
from lab.editing.views import FLIP, IDENTITY, ROTATION, View, permutation

T, SHAPE = 40, (1, 6, 6)
BETA = torch.linspace(1e-3, 0.2, T, dtype=torch.float64)
ALPHA_BAR = [1.0, *(1 - BETA).cumprod(0).tolist()]


class Stub(Process):
    """A Process of classes 0 to 9: its noise is a function of x, t and the class, its log-variance of t and s."""

    T, shape, range, device = T, SHAPE, (-1.0, 2.0), torch.device("cpu")
    alpha, sigma = levels(BETA)
    null_condition = torch.tensor([-0.3])

    def __init__(self, learned=False):
        self.learned, self.asked = learned, []

    def embed(self, condition):
        classes = torch.as_tensor(condition).reshape(-1, 1)
        if classes.min() < 0 or classes.max() > 9:
            raise ValueError(f"condition = {condition!r}")
        return classes / 10.0

    def ask(self, x, t, rows, s):
        self.asked.append((len(x), t))
        eps, log_variance = answer(x, t, rows), spread(x, t, s)
        return eps, log_variance if self.learned else None


def ramp(x):
    """A factor that differs from pixel to pixel, so that a view that is forgotten is seen."""
    return torch.linspace(0.2, 0.9, 36, dtype=x.dtype).view(SHAPE)


def answer(x, t, rows):
    """The upper half of the image is seen in the lower one and the lower in the upper."""
    slope = ramp(x)
    return slope * torch.tanh(x + x.roll(3, -2)) * (t / T) + rows.to(x.dtype).view(-1, 1, 1, 1) * slope.flip(-1)


def spread(x, t, s):
    return ramp(x) * torch.tanh(x) - (3.0 + t / T + s / 100)


class Draws:
    """The same noise as the loops draw, in float64."""

    def __init__(self, count, seed=5):
        self.count, self.generator = count, torch.Generator().manual_seed(seed)

    def __call__(self):
        return torch.randn((self.count, *SHAPE), generator=self.generator).double()


def seeded(seed=5):
    return torch.Generator().manual_seed(seed)


def rows(*classes):
    return torch.tensor(classes, dtype=torch.float64).view(-1, 1) / 10


def guided(x, t, condition, guidance):
    eps_u = answer(x, t, torch.full((len(x), 1), -0.3, dtype=torch.float64))
    return eps_u + guidance * (answer(x, t, condition) - eps_u)


def diffuse(x, alpha_bar, z):
    return math.sqrt(alpha_bar) * x + math.sqrt(1 - alpha_bar) * z


def back(x, t, s, eps, z, variance=None, clip=True):
    """Eq. (7) of Ho et al. for a stride, written with its beta."""
    x_0 = (x - math.sqrt(1 - ALPHA_BAR[t]) * eps) / math.sqrt(ALPHA_BAR[t])
    x_0 = x_0.clamp(-1, 2) if clip else x_0
    beta = 1 - ALPHA_BAR[t] / ALPHA_BAR[s]
    mean = math.sqrt(ALPHA_BAR[s]) * beta * x_0 + math.sqrt(1 - beta) * (1 - ALPHA_BAR[s]) * x
    variance = beta * (1 - ALPHA_BAR[s]) / (1 - ALPHA_BAR[t]) if variance is None else variance
    return mean / (1 - ALPHA_BAR[t]) + variance**0.5 * z, x_0


def reverse(x, times, draws, noise_of, learned=False, clip=True):
    for t, s in zip(times, times[1:]):
        variance = spread(x, t, s).exp() if learned else None
        x, x_0 = back(x, t, s, noise_of(x, t), draws() if s else 0, variance, clip)
    return x, x_0


def close(ours, reference):
    torch.testing.assert_close(ours.double(), reference, rtol=1e-5, atol=1e-5)


def pictures(count=3, seed=1):
    return torch.rand(count, *SHAPE, generator=seeded(seed)) * 3 - 1


HALF = torch.zeros(6, 6)
HALF[3:] = 1
TIMES = [40, 30, 20, 10, 0]  # of four steps


def test_forward_process_is_equation_4():
    images = pictures()
    for t in (0, 1, 17, T):
        z = Draws(3)()
        close(editing.noised(Stub(), images, t, seeded()), ALPHA_BAR[t] ** 0.5 * images.double() + (1 - ALPHA_BAR[t]) ** 0.5 * z)
    assert editing.noised(Stub(), images, 0, seeded()).equal(images)


def test_times_go_evenly_from_T_to_the_clean_image():
    assert editing.timesteps(Stub(), 4) == TIMES
    assert editing.timesteps(Stub(), T) == list(range(T, -1, -1))
    assert editing.timesteps(Stub(), 3) == [40, 27, 13, 0]


@pytest.mark.parametrize("clip", [True, False])
def test_one_step_denoising_is_the_guided_x_0(clip):
    x, t = 3 * pictures(), 20
    eps = guided(x.double(), t, rows(4), 2.5)
    x_0 = (x.double() - math.sqrt(1 - ALPHA_BAR[t]) * eps) / math.sqrt(ALPHA_BAR[t])
    close(editing.clean(Stub(), x, t, 4, omega=1.5, clip=clip), x_0.clamp(-1, 2) if clip else x_0)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("clip", [True, False])
def test_sample_as_in_float64(learned, clip):
    draws = Draws(3)
    reference = reverse(draws(), TIMES, draws, lambda x, t: guided(x, t, rows(1, 7, 9), 2.5), learned, clip)
    steps = list(editing.sample(Stub(learned), [1, 7, 9], omega=1.5, steps=4, clip=clip, generator=seeded()))
    assert [step.t for step in steps] == TIMES
    close(steps[-1].x, reference[0])
    close(steps[-1].x_0, reference[1])


def test_denoise_as_in_float64():
    x = pictures()
    reference, _ = reverse(x.double(), TIMES[1:], Draws(3), lambda x, t: guided(x, t, rows(4), 3.0))
    close(editing.final(editing.denoise(Stub(), x, 1, 4, omega=2.0, steps=4, generator=seeded())), reference)


def test_edit_as_in_float64():
    images, draws = pictures(), Draws(3)
    x = diffuse(images.double(), ALPHA_BAR[20], draws())
    reference, _ = reverse(x, TIMES[2:], draws, lambda x, t: guided(x, t, rows(1, 2, 3), 3.0))
    steps = list(editing.edit(Stub(), images, 2, [1, 2, 3], omega=2.0, steps=4, generator=seeded()))
    assert [step.t for step in steps] == TIMES[2:]
    close(steps[-1].x, reference)


@pytest.mark.parametrize("resample", [1, 3])
def test_inpaint_as_in_float64(resample):
    """RePaint's algorithm 1, with the noise of one draw in both the known and the new pixels of a step."""
    images, draws, new = pictures(), Draws(3), HALF.bool()
    z = draws()
    x = torch.where(new, z, diffuse(images.double(), ALPHA_BAR[T], z))
    for t, s in zip(TIMES, TIMES[1:]):
        for turn in range(resample if s else 1):
            if turn:
                x = diffuse(x, ALPHA_BAR[t] / ALPHA_BAR[s], draws())
            z = draws() if s else torch.zeros(3, *SHAPE).double()
            x, _ = back(x, t, s, guided(x, t, rows(4), 3.0), z)
            x = torch.where(new, x, diffuse(images.double(), ALPHA_BAR[s], z))
    close(editing.final(editing.inpaint(Stub(), images, HALF, 4, resample=resample, omega=2.0, steps=4, generator=seeded())), x)


@pytest.mark.parametrize("learned", [False, True])
def test_anagram_as_in_float64(learned):
    draws = Draws(2)
    turned = permutation(torch.randperm(36, generator=seeded(3)))  # not its own inverse
    x = draws()
    for t, s in zip(TIMES, TIMES[1:]):
        upright, other = guided(x, t, rows(6), 3.0), turned.back(guided(turned.look(x), t, rows(9), 3.0))
        log_variance = (spread(x, t, s) + turned.back(spread(turned.look(x), t, s))) / 2
        x, _ = back(x, t, s, (upright + other) / 2, draws() if s else 0, log_variance.exp() if learned else None)
    close(editing.final(editing.anagram(Stub(learned), (6, 9), (IDENTITY, turned), 2, steps=4, generator=seeded())), x)


def test_hybrid_as_in_float64():
    draws = Draws(2)
    weights = torch.exp(-(torch.tensor([-1.0, 0.0, 1.0]).double() ** 2) / (2 * 0.8**2))
    weights = weights / weights.sum()
    kernel = (weights[:, None] * weights).view(1, 1, 3, 3)

    def low(eps):
        return torch.nn.functional.conv2d(torch.nn.functional.pad(eps, [1, 1, 1, 1], mode="reflect"), kernel)

    def noise_of(x, t):
        far, near = guided(x, t, rows(2), 3.0), guided(x, t, rows(5), 3.0)
        return low(far) + near - low(near)

    reference, _ = reverse(draws(), TIMES, draws, noise_of)
    close(editing.final(editing.hybrid(Stub(), 2, 5, 2, kernel=3, sigma=0.8, steps=4, generator=seeded())), reference)


def test_hybrid_scales_the_kernel_of_64_pixels(monkeypatch):
    asked, blur = [], editing.blur
    monkeypatch.setattr(tasks, "blur", lambda x, kernel, sigma: asked.append((kernel, sigma)) or blur(x, kernel, sigma))

    class Sized(Stub):
        def ask(self, x, t, rows, s):
            return x, None

    for side, wanted in ((64, (33, 2.0)), (28, (15, 0.875))):
        Sized.shape = (1, side, side)
        editing.final(editing.hybrid(Sized(), 2, 5, steps=1))
        assert asked[-1] == wanted


def test_views():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert FLIP.look(x).flatten().tolist() == [3, 4, 5, 0, 1, 2]
    assert ROTATION.look(x).flatten().tolist() == [5, 4, 3, 2, 1, 0]
    view = permutation([2, 0, 1, 3, 4, 5])
    assert view.look(x).flatten().tolist() == [2, 0, 1, 3, 4, 5]
    assert view.back(x).flatten().tolist() == [1, 2, 0, 3, 4, 5]


def test_one_step_of_a_process_that_is_shorter_than_a_loop():
    class Short(Stub):
        T, (alpha, sigma) = 3, levels(BETA[:3])

    assert editing.clean(Short(), pictures(), 3).isfinite().all()


# What holds exactly.


def run(loop, *arguments, **more):
    return editing.final(loop(Stub(), *arguments, steps=4, generator=seeded(), **more))


def test_omega_minus_1_is_unconditional_and_0_conditional_by_one_call_an_image():
    assert run(editing.sample, [1, 7], omega=-1).equal(run(editing.sample, count=2))
    for omega, asked in ((-1, 2), (0, 2), (2.0, 4)):
        model = Stub()
        editing.final(editing.sample(model, [1, 7], omega=omega, steps=4))
        assert model.asked == [(asked, t) for t in TIMES[:-1]]
    draws = Draws(2)
    close(run(editing.sample, [1, 7], omega=0), reverse(draws(), TIMES, draws, lambda x, t: answer(x, t, rows(1, 7)))[0])


def test_empty_and_full_masks():
    images = pictures()
    assert run(editing.inpaint, images, torch.zeros(6, 6), 4).equal(images)
    assert run(editing.inpaint, images, torch.ones(6, 6), 4).equal(run(editing.sample, 4, 3))


@pytest.mark.parametrize("resample", [1, 2])
def test_known_pixels_come_out_as_they_went_in(resample):
    images = pictures()
    mask = (torch.rand(3, 1, 6, 6, generator=seeded()) < 0.5).float()
    result = run(editing.inpaint, images, mask, 4, resample=resample)
    known = mask == 0
    assert result[known].equal(images[known]) and not (result[~known] == images[~known]).any()


def test_start_at_the_end_leaves_the_image():
    images = pictures()
    assert run(editing.edit, images, 4, 7).equal(images) and run(editing.denoise, images, 4, 7).equal(images)


def test_views_that_change_nothing():
    plain = run(editing.sample, 4, 3)
    assert run(editing.anagram, [4], [IDENTITY], 3).equal(plain)
    assert run(editing.anagram, [4, 4], [IDENTITY, IDENTITY], 3).equal(plain)
    assert run(editing.anagram, [4], [permutation(range(36))], 3).equal(plain)


def test_hybrid_of_one_condition_is_a_sample():
    torch.testing.assert_close(run(editing.hybrid, 4, 4, 3, kernel=3), run(editing.sample, 4, 3), rtol=0, atol=1e-6)


def test_a_batch_is_its_images_one_by_one():
    images = pictures(2)
    both = editing.final(editing.denoise(Stub(), images, 3, [3, 8], steps=4))  # one step, to the end: no noise
    for image, condition, one in zip(images, (3, 8), both):
        assert editing.final(editing.denoise(Stub(), image[None], 3, condition, steps=4))[0].equal(one)


def test_scale_of_pixels_and_back():
    images = torch.tensor([0.0, 0.5, 1.0])
    assert editing.to_model(Stub(), images).tolist() == [-1, 0.5, 2]
    assert editing.pixels(Stub(), torch.tensor([-1.0, 0.5, 2.0, 9.0])).tolist() == [0, 0.5, 1, 1]


def test_a_pair_of_functions_is_a_view():
    one, other = (editing.anagram(Stub(), (2, 5), (IDENTITY, view), 2, steps=4, generator=seeded()) for view in (FLIP, tuple(FLIP)))
    assert editing.final(one).equal(editing.final(other))


def test_no_graph_is_kept():
    images = pictures().requires_grad_()
    for loop in (editing.edit(Stub(), images, 1, 2, steps=4), editing.inpaint(Stub(), images, HALF, 2, steps=4)):
        assert not editing.final(loop).requires_grad


# What cannot work: ValueError, before the model is asked.

NAN = pictures()
NAN[0, 0, 0, 0] = math.nan
WRONG = {
    "wrong size": lambda m: editing.edit(m, torch.zeros(3, 1, 6, 7), 1),
    "no batch": lambda m: editing.edit(m, torch.zeros(1, 6, 6), 1),
    "no images": lambda m: editing.edit(m, torch.zeros(0, 1, 6, 6), 1),
    "bytes": lambda m: editing.edit(m, torch.zeros(3, 1, 6, 6, dtype=torch.uint8), 1),
    "0 to 255": lambda m: editing.edit(m, 255 * pictures(), 1),
    "NaN in edit": lambda m: editing.edit(m, NAN, 1),
    "NaN in inpaint": lambda m: editing.inpaint(m, NAN, HALF),
    "NaN in denoise": lambda m: editing.denoise(m, NAN, 1),
    "NaN in clean": lambda m: editing.clean(m, NAN, 1),
    "NaN in noised": lambda m: editing.noised(m, NAN, 1),
    "t of 0": lambda m: editing.clean(m, pictures(), 0),
    "t above T": lambda m: editing.noised(m, pictures(), T + 1),
    "start below 0": lambda m: editing.edit(m, pictures(), -1, steps=4),
    "start beyond the end": lambda m: editing.edit(m, pictures(), 5, steps=4),
    "start no number": lambda m: editing.denoise(m, pictures(), 1.0, steps=4),
    "mask not binary": lambda m: editing.inpaint(m, pictures(), HALF / 2),
    "mask NaN": lambda m: editing.inpaint(m, pictures(), HALF * math.nan),
    "mask of another size": lambda m: editing.inpaint(m, pictures(), torch.ones(5, 6)),
    "masks for more images": lambda m: editing.inpaint(m, pictures(), torch.ones(4, 1, 6, 6)),
    "resample 0": lambda m: editing.inpaint(m, pictures(), HALF, resample=0),
    "no inverse": lambda m: editing.anagram(m, (1, 2), (IDENTITY, View(FLIP.look, ROTATION.look))),
    "inverse on one side": lambda m: editing.anagram(m, (1, 2), (IDENTITY, View(torch.zeros_like, lambda x: x))),
    "no permutation": lambda m: editing.anagram(m, (1, 2), (IDENTITY, View(lambda x: 2 * x, lambda x: x / 2))),
    "view of another size": lambda m: editing.anagram(m, (1, 2), (IDENTITY, permutation(range(35)))),
    "view that is none": lambda m: editing.anagram(m, (1, 2), (IDENTITY, None)),
    "view of None": lambda m: editing.anagram(m, (1, 2), (IDENTITY, View(None, None))),
    "view over images": lambda m: editing.anagram(m, (1, 2), (IDENTITY, View(lambda x: x.flip(0), lambda x: x.flip(0)))),
    "one condition for two views": lambda m: editing.anagram(m, 6, (IDENTITY, FLIP)),
    "generator no generator": lambda m: editing.sample(m, 1, generator=3),
    "generator no generator in noised": lambda m: editing.noised(m, pictures(), 1, generator=3),
    "clip a word": lambda m: editing.sample(m, 1, clip="no"),
    "clip a word in clean": lambda m: editing.clean(m, pictures(), 1, clip="no"),
    "fewer conditions than views": lambda m: editing.anagram(m, (1,), (IDENTITY, FLIP)),
    "no views": lambda m: editing.anagram(m, (), ()),
    "pixel twice": lambda m: permutation([0, 0, 1]),
    "even kernel": lambda m: editing.hybrid(m, 1, 2, kernel=4),
    "kernel beyond the border": lambda m: editing.hybrid(m, 1, 2, kernel=13),
    "sigma 0": lambda m: editing.hybrid(m, 1, 2, sigma=0.0),
    "a class that the model lacks": lambda m: editing.sample(m, 10),
    "a class that the model lacks, in an edit": lambda m: editing.edit(m, pictures(), 1, 10),
    "conditions for other images": lambda m: editing.edit(m, pictures(), 1, [1, 2]),
    "count 0": lambda m: editing.sample(m, 1, 0),
    "steps 0": lambda m: editing.sample(m, 1, steps=0),
    "more steps than T": lambda m: editing.sample(m, 1, steps=T + 1),
    "omega no number": lambda m: editing.sample(m, 1, omega=math.nan),
    "omega no number in clean": lambda m: editing.clean(m, pictures(), 1, 1, omega=math.inf),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_before_any_work(wrong):
    model = Stub()
    with pytest.raises(ValueError, match="allowed|condition"):
        WRONG[wrong](model)
    assert not model.asked
