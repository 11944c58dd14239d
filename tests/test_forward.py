"""2.2 Training: ConditionalDDPM.forward. Runs on a stub network and, where yours is not right yet, on a right schedule.

The messages are whole as they stand: PYTEST_DONT_REWRITE keeps pytest from adding the values of the expression to them.
"""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import Stub, array, asked_outside, build, check_elsewhere, named, schedule

from DDPM import ConditionalDDPM

SEE = "See 2.2 Training in the notebook, algorithm 3."
OTHER = dict(T=7, beta_1=0.05, beta_T=0.4, num_classes=7, num_channels=3, input_dim=(8, 12), mask_p=0.3)


def observe(DDPM, batch=64, images=None, **settings):
    """One call of forward on a stub, and everything that it shows: x_t, t and c as the network saw them, the loss, its target.

    The stub predicts noise of its own. A squared error has the gradient 2 s (prediction - target) for some scale s, and so
    the sum of the squared gradient is 4 s loss: that gives s, and then the target, pixel by pixel.
    """
    own = torch.Generator().manual_seed(1)  # leaves torch's own random numbers to forward
    stub = Stub(lambda x, t, c: torch.randn(x.shape, generator=own), num_classes=settings.get("num_classes", 10))
    model = build(DDPM, stub, **settings)
    config = model.dmconfig
    if images is None:
        images = torch.randn(batch, config.num_channels, *config.input_dim, generator=own)
    labels = torch.arange(len(images)) * 3 % config.num_classes
    given = images.clone()
    try:
        loss = model(images, labels)
    except (IndexError, ValueError) as error:
        if not asked_outside(error):
            raise
        raise AssertionError(
            f"forward draws a t outside 1 … T ({error}). This is what you get with torch.randint(0, T): the lower end "
            f"counts, the upper does not, so torch.randint(1, T + 1). {SEE}"
        ) from error
    assert torch.equal(images, given), f"forward changes the images that it is given, in place: make x_t a new tensor. {SEE}"
    assert len(stub.calls) == 1, f"forward ran the network {len(stub.calls)} times; algorithm 3 runs it once, on the whole batch. {SEE}"
    assert torch.is_tensor(loss) and loss.ndim == 0, (
        f"forward returned {'shape ' + str(tuple(loss.shape)) if torch.is_tensor(loss) else type(loss).__name__}; "
        f"the loss is one number, the mean over everything, as a 0-dim tensor. {SEE}"
    )
    assert loss.requires_grad, f"the loss has no graph, so nothing can learn from it: no .item(), no .detach(), no torch.no_grad(). {SEE}"
    call = stub.calls[0]
    assert call.x.shape == images.shape, f"the network received x_t of shape {tuple(call.x.shape)} for images {tuple(images.shape)}. {SEE}"
    (slope,) = torch.autograd.grad(loss, call.out)
    scale = float((slope.double() ** 2).sum()) / (4 * loss.item()) if loss.item() else math.nan
    out = array(call.out)
    return SimpleNamespace(
        config=config,
        loss=loss.item(),
        scale=scale,
        out=out,
        x_0=array(images),
        x_t=array(call.x),
        slope=array(slope),
        target=out - array(slope) / (2 * scale),
        t_in=call.t,
        c=array(call.c),
        onehot=np.eye(config.num_classes)[labels.numpy()],
    )


def check_loss(DDPM, **settings):
    """The loss is the mean squared error between the network's prediction and the noise, over all pixels."""
    run = observe(DDPM, **settings)
    pixels, each = run.out.size, run.out[0].size
    mistakes = [
        ("the squares are summed, not averaged", 1.0),
        ("the squares are summed over a picture and averaged over the batch", each / pixels),
        ("the squares are averaged over a picture and summed over the batch", 1 / each),
        ("the loss is halved", 0.5 / pixels),
        ("the mean is divided by the size of the batch once more", each / pixels**2),
        ("the root of the mean squared error is taken", 1 / (4 * pixels * run.loss)),
    ]
    if np.ptp(abs(run.slope)) <= 1e-4 * abs(run.slope).max():
        raise AssertionError(f"The loss is a mean absolute error; algorithm 3 takes the squared error (self.loss_fn). {SEE}")
    assert abs(run.scale * pixels - 1) < 1e-3, (
        f"the loss is {run.loss:.6g}, expected {run.loss / run.scale / pixels:.6g}. "
        + named(mistakes, lambda s: abs(run.scale / s - 1) < 1e-3, f"It is {run.scale * pixels:.4g} times the mean.")
        + f" {SEE}"
    )
    wrong = [
        ("the loss compares the prediction with the images: the target is the noise", run.x_0),
        ("the loss compares the prediction with the noisy images: the target is the noise", run.x_t),
        ("the loss compares the prediction with zero: the target is the noise", 0 * run.x_0),
    ]
    words = named(wrong, lambda target: abs(run.target - target).max() < 1e-3)
    assert not words.startswith("This"), f"{words} {SEE}"
    expected = ((run.out - run.target) ** 2).mean()
    assert abs(run.loss - expected) <= 1e-5 * expected, f"the loss is {run.loss:.6f}, expected {expected:.6f}. {SEE}"


def check_noise(DDPM):
    """The target is standard normal noise, its own for every pixel of every picture: 6 sigma each way."""
    noise = observe(DDPM, 400).target
    n = noise.size
    about = noise - noise.mean()
    level = math.sqrt((about.mean((1, 2, 3)) ** 2).mean() * noise[0].size)  # 1 where a picture's pixels are independent
    shared = math.sqrt((about.mean(0) ** 2).mean() * len(noise))  # 1 where the pictures of a batch are
    figures = f"It has mean {noise.mean():.3f}, variance {noise.var():.3f}, fourth moment {(noise**4).mean():.3f}; expected 0, 1, 3."
    mistakes = [
        ("all pixels of a picture share one random number: draw noise of the shape of the images", level > 10),
        ("all pictures of the batch share one noise: draw noise of the shape of the images", shared > 10),
        (
            "the noise is uniform in 0 … 1 (torch.rand): algorithm 3 takes torch.randn",
            abs(noise.mean() - 0.5) < 0.02 and noise.max() <= 1.01,
        ),
        ("no noise is added at all", abs(noise).max() < 1e-3),
    ]
    bound = 6 / math.sqrt(n)
    fine = abs(noise.mean()) < bound and abs(noise.var() - 1) < math.sqrt(2) * bound and abs((noise**4).mean() - 3) < math.sqrt(96) * bound
    fine = fine and abs(level**2 - 1) < 6 * math.sqrt(2 / len(noise)) and abs(shared**2 - 1) < 6 * math.sqrt(2 / noise[0].size)
    assert fine, f"the noise is not standard normal and independent. {named(mistakes, bool, figures)} {SEE}"
    again = abs(observe(DDPM, 4).target - observe(DDPM, 4).target).max()
    assert again > 1e-3, f"two calls of forward draw the same noise: set no seed inside forward. {SEE}"


def mixtures(table):
    """[(mistake, how much image, how much noise)] as functions of t; the first is right."""
    bar, alpha, beta = table["alpha_t_bar"], table["alpha_t"], table["beta_t"]
    a, b, one = bar**0.5, (1 - bar) ** 0.5, np.ones_like(bar)
    return [
        (None, a, b),
        ("the two roots are swapped: the image takes sqrt_alpha_bar, the noise sqrt_oneminus_alpha_bar", b, a),
        ("the noise is subtracted", a, -b),
        ("both roots are missing", bar, 1 - bar),
        ("the image takes alpha_bar: its root is missing", bar, b),
        ("the noise takes 1 - alpha_bar: its root is missing", a, 1 - bar),
        ("alpha_t stands in place of alpha_bar_t: this is one step of noise, not t", alpha**0.5, beta**0.5),
        ("the noise takes sqrt(beta_t), of one step only", a, beta**0.5),
        ("both take sqrt(1 - alpha_bar)", b, b),
        ("both take sqrt(alpha_bar)", a, a),
        ("the image is not scaled by sqrt_alpha_bar", one, b),
        ("the noise is not scaled by sqrt_oneminus_alpha_bar", a, one),
        ("image and noise are added unscaled", one, one),
        ("the target is the noise minus the image: it is the noise alone", a + b, b),
        ("the target is a velocity: it is the noise", 1 / a, b / a),
        ("the network is shown the clean image", one, 0 * one),
        ("the network is shown noise alone", 0 * one, one),
    ]


def decode(run):
    """(mistake or None, t): how x_t is mixed from image and noise, and so at which time step (B,)."""
    config, count = run.config, len(run.x_0)
    x_0, noise, x_t = (v.reshape(count, -1) for v in (run.x_0, run.target, run.x_t))
    dot = lambda u, v: (u * v).sum(1)
    det = dot(x_0, x_0) * dot(noise, noise) - dot(x_0, noise) ** 2
    a = (dot(x_t, x_0) * dot(noise, noise) - dot(x_t, noise) * dot(x_0, noise)) / det  # least squares
    b = (dot(x_t, noise) * dot(x_0, x_0) - dot(x_t, x_0) * dot(x_0, noise)) / det
    rest = abs(x_t - a[:, None] * x_0 - b[:, None] * noise).max()
    assert rest < 1e-3, (  # float32 leaves 1e-5
        f"x_t is not made of the image and the noise in the loss: {rest:.2g} is left over. Draw the noise once, "
        f"mix it into x_t and compare the prediction with that same noise. {SEE}"
    )
    run.mixed = f"{a[0]:.4f} image {b[0]:+.4f} noise"
    for words, for_image, for_noise in mixtures(schedule(config.beta_1, config.beta_T, config.T)):
        off = np.maximum(abs(a[:, None] - for_image), abs(b[:, None] - for_noise))  # (B, T)
        if (off.min(1) < 1e-3).all():
            return words and f"This is what you get when {words}.", off.argmin(1) + 1
    return "No usual mistake fits.", None


def check_noisy_image(DDPM, **settings):
    """x_t = sqrt_alpha_bar x_0 + sqrt_oneminus_alpha_bar noise, eq. (4), Ho et al. 2020."""
    run = observe(DDPM, **settings)
    mistake, _ = decode(run)
    assert mistake is None, f"x_t of the first picture is {run.mixed}, which belongs to no t. {mistake} {SEE}"


def check_against_diffusers(DDPM):
    diffusers = pytest.importorskip("diffusers")
    run = observe(DDPM)
    theirs = diffusers.DDPMScheduler(num_train_timesteps=run.config.T, beta_start=run.config.beta_1, beta_end=run.config.beta_T)
    t = torch.tensor(decode(run)[1] - 1)
    off = abs(array(theirs.add_noise(torch.tensor(run.x_0), torch.tensor(run.target), t)) - run.x_t).max()
    assert off < 1e-4, f"x_t is {off:.2g} from diffusers' DDPMScheduler.add_noise. {SEE}"


def check_time(DDPM, **settings):
    """The network is told t / T, picture by picture. (t - 1) / (T - 1) is fine too, if sampling does the same."""
    run = observe(DDPM, **settings)
    _, t = decode(run)
    assert t is not None, f"x_t belongs to no time step. {SEE}"
    T, told = run.config.T, np.resize(run.t_in, len(run.x_0))
    mistakes = [
        ("the network is given t itself: divide by T", t),
        ("the time is counted from 0: t / T, with t in 1 … T", (t - 1) / T),
        ("the network is given t - 1: divide t by T", t - 1),
        ("the time is one step late: t / T", (t + 1) / T),
        ("the time runs backwards: t / T", 1 - t / T),
        ("t is divided by T - 1", t / (T - 1)),
        ("T is written into the code", t / 400),
        ("the times are in another order than the pictures", None),
        ("the network is given no time", 0 * t),
    ]
    fits = lambda v: abs(np.sort(told) - np.sort(t / T)).max() < 1e-5 if v is None else abs(told - v).max() < 1e-5 * max(1, abs(v).max())
    if not (fits(t / T) or fits((t - 1) / (T - 1))):
        i = int(abs(told - t / T).argmax())
        raise AssertionError(
            f"x_t is of t = {t[i]} of {T}, but the network is told {told[i]:.4f}; expected {t[i] / T:.4f}. {named(mistakes, fits)} {SEE}"
        )


def chi_square_bound(free, x=16.1):  # exp(16.1) is ten million
    """Exceeded less than once in exp(x) by chi square with so many degrees of freedom: Laurent & Massart 2000, lemma 1."""
    return free + 2 * math.sqrt(free * x) + 2 * x


def check_time_steps(DDPM):
    """Every picture has a time step of its own, every t in 1 … T as often as another."""
    run = observe(DDPM, 2000)
    _, t = decode(run)
    assert t is not None, f"x_t belongs to no time step. {SEE}"
    T = run.config.T
    count = np.bincount(t, minlength=T + 1)[1:]
    chi = ((count - len(t) / T) ** 2).sum() * T / len(t)
    mistakes = [
        ("one t is drawn for the whole batch: draw one for each picture, torch.randint(1, T + 1, (B,))", (count > 0).sum() == 1),
        ("t = T is never drawn: the upper end of randint does not count, so T + 1", count[-1] == 0 and (count[:-1] > 0).all()),
        ("t = 1 is never drawn: t is in 1 … T", count[0] == 0 and (count[1:] > 0).all()),
        ("t is rounded: the two ends come half as often as the rest", max(count[0], count[-1]) < 0.7 * count[1:-1].min()),
    ]
    assert chi < chi_square_bound(T - 1), (
        f"t = 1 … {T} came {count.tolist()} times; each should come about {len(t) // T} times. {named(mistakes, bool)} {SEE}"
    )


def check_conditions(DDPM, **settings):
    """What is not hidden is the picture's own class, one-hot; all is hidden at mask_p = 1, nothing at 0."""
    run = observe(DDPM, **{**settings, "mask_p": 0.0})
    null = (run.c == -1).all(1)
    mistakes = [
        ("conditions are hidden although mask_p = 0: compare a number from torch.rand with mask_p", null.any()),
        ("the one-hot rows belong to other pictures", (np.sort(run.c, 1) == np.sort(run.onehot, 1)).all()),
    ]
    assert abs(run.c - run.onehot).max() < 1e-6, (
        f"with mask_p = 0 the network is told {run.c[1].tolist()} for a picture of class {run.onehot[1].argmax()}. "
        f"{named(mistakes, bool)} {SEE}"
    )
    run = observe(DDPM, **{**settings, "mask_p": 1.0})
    assert not (run.c == run.onehot).all(1).all(), f"with mask_p = 1 no condition is hidden. This is what you get without a mask. {SEE}"
    assert (abs(run.c + 1) < 1e-6).all(), (
        f"with mask_p = 1 the network is told {run.c[0].tolist()}; a hidden condition is a whole row of condition_mask_value = -1. {SEE}"
    )


def check_mask_rate(DDPM, p):
    """Whole rows are hidden, each with probability mask_p: 5.5 sigma over 20,000 rows in batches of 500."""
    runs = [observe(DDPM, images=torch.ones(500, 1, 4, 4), input_dim=(4, 4), mask_p=p) for _ in range(40)]
    c, onehot = np.concatenate([r.c for r in runs]), np.concatenate([r.onehot for r in runs])
    hidden, kept, zero = (c == -1).all(1), (c == onehot).all(1), (c == 0).all(1)
    batches, rate = hidden.reshape(len(runs), -1).mean(1), hidden.mean()
    odd = ~(hidden | kept)
    mistakes = [
        ("hidden rows are zeros: fill them with condition_mask_value", zero.any() and (zero | kept).all()),
        ("only the 1 of a hidden row is replaced: the whole row is", odd.any() and (c[odd] == -onehot[odd]).all()),
        ("single entries are masked: draw one number a row, (B, 1)", odd.any() and np.isin(c, (-1, 0, 1)).all()),
    ]
    assert not odd.any(), (
        f"{odd.mean():.1%} of the rows are neither one-hot nor null, such as {c[odd][0].tolist()}. {named(mistakes, bool)} {SEE}"
    )
    mistakes = [
        ("one number is drawn for the whole batch: draw one a row", np.isin(batches, (0, 1)).all() and batches.any()),
        ("conditions are never hidden", rate == 0),
        ("conditions are always hidden", rate == 1),
        ("torch.randn is compared with mask_p: torch.rand is uniform in 0 … 1", abs(rate - (1 + math.erf(p / math.sqrt(2))) / 2) < 0.04),
        ("the comparison is the wrong way round: hide where torch.rand is below mask_p", abs(rate - (1 - p)) < 0.04),
        ("mask_p is written into the code: take it from dmconfig", abs(rate - 0.1) < 0.025),
        ("the number is compared with 0.5, not with mask_p", abs(rate - 0.5) < 0.04),
    ]
    spread, free = ((batches - p) ** 2).sum() * len(c) / len(runs) / (p * (1 - p)), len(runs)
    even = spread < chi_square_bound(free)  # hidden row by row; by exact count the spread is even less
    assert even and abs(rate - p) < 5.5 * math.sqrt(p * (1 - p) / len(c)), (
        f"{rate:.1%} of the conditions are hidden, {batches.min():.0%} to {batches.max():.0%} of a batch; expected {p:.0%}. "
        f"{named(mistakes, bool)} {SEE}"
    )


def note_exact_count(DDPM):
    """Whether a fixed share of each batch is hidden: then no picture's chance is independent of its neighbours'."""
    runs = [observe(DDPM, images=torch.ones(500, 1, 4, 4), input_dim=(4, 4), mask_p=0.3) for _ in range(6)]
    if len({int((run.c == -1).all(1).sum()) for run in runs}) == 1:  # by chance less than once in ten million
        return "forward hides exactly a share mask_p of each batch; algorithm 3 draws for each picture on its own."


def note_literal_mask_value(DDPM):
    c = observe(DDPM, mask_p=1.0, condition_mask_value=-2).c
    if (c == -1).all():
        return "forward fills hidden conditions with a literal -1; dmconfig.condition_mask_value says with what."


def note_time(DDPM):
    run = observe(DDPM)
    _, t = decode(run)
    T = run.config.T
    if t is not None and abs(np.resize(run.t_in, len(t)) - (t - 1) / (T - 1)).max() < 1e-5:
        return "forward tells the network the time as (t - 1) / (T - 1); the course's samplers and weights take t / T."


elsewhere = lambda check: partial(check_elsewhere, check=check, settings=OTHER)  # nothing of the settings is written into the code
PROPERTIES = [
    (1.5, "the loss is the mean squared error between the prediction and the noise", [check_loss, elsewhere(check_loss)]),
    (1, "the noise is standard normal, new for each pixel, picture and call", [check_noise]),
    (
        1.5,
        "x_t = sqrt_alpha_bar x_0 + sqrt_oneminus_alpha_bar noise",
        [check_noisy_image, check_against_diffusers, elsewhere(check_noisy_image)],
    ),
    (
        1,
        "each picture has a t of its own, uniform in 1 … T, and the network is told t / T",
        [check_time, check_time_steps, elsewhere(check_time)],
    ),
    (
        1,
        "conditions are hidden as whole rows, each with probability mask_p",
        [check_conditions, elsewhere(check_conditions), partial(check_mask_rate, p=0.3), partial(check_mask_rate, p=0.1)],
    ),
]
CHECKS = [check for _, _, checks in PROPERTIES for check in checks]
NOTES = [note_exact_count, note_literal_mask_value, note_time]


def test_loss_is_the_mean_squared_error_of_the_noise():
    check_loss(ConditionalDDPM)


def test_noise_is_standard_normal():
    check_noise(ConditionalDDPM)


def test_noisy_image():
    check_noisy_image(ConditionalDDPM)


def test_noisy_image_agrees_with_diffusers():
    check_against_diffusers(ConditionalDDPM)


def test_time_as_a_fraction_of_T():
    check_time(ConditionalDDPM)


def test_time_steps_are_uniform():
    check_time_steps(ConditionalDDPM)


def test_conditions_shown_or_hidden():
    check_conditions(ConditionalDDPM)


@pytest.mark.parametrize("mask_p", [0.1, 0.3])
def test_rate_of_hidden_conditions(mask_p):
    check_mask_rate(ConditionalDDPM, mask_p)


@pytest.mark.parametrize("check", [check_loss, check_noisy_image, check_time, check_conditions], ids=lambda check: check.__name__[6:])
def test_other_settings(check):
    check_elsewhere(ConditionalDDPM, check, OTHER)
