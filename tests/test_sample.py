"""2.3 Sampling: ConditionalDDPM.sample. Runs on a stub network and, where yours is not right yet, on a right schedule.

The messages are whole as they stand: PYTEST_DONT_REWRITE keeps pytest from adding the values of the expression to them.
"""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import MEAN, STD, Stub, array, asked_outside, build, check_elsewhere, named, schedule

from DDPM import ConditionalDDPM

SEE = "See 2.3 Sampling in the notebook, algorithm 4."
OTHER = dict(T=7, beta_1=0.05, beta_T=0.4, num_classes=7, num_channels=3, input_dim=(8, 12))
GUIDANCE = [2.0, 0.7, 0.0, -1.0]  # at 0.5 some mistakes are the same


def draw(model, labels, omega):
    """sample with labels or, for those who take one-hot rows only, with one-hot rows."""
    try:
        return model.sample(labels, omega)
    except NotImplementedError:
        raise
    except Exception as first:
        model.network.calls.clear()
        try:
            return model.sample(F.one_hot(labels, model.dmconfig.num_classes), omega)
        except Exception:
            if asked_outside(first):
                raise AssertionError(
                    f"sample asks the schedule for a t outside 1 … T ({first}). "
                    f"This is what you get when the loop does not run from T down to 1. {SEE}"
                ) from first
            raise first from None


def observe(DDPM, omega=2.0, batch=32, predict=None, **settings):
    """One call of sample on a stub that predicts a fixed picture P for a condition and Q for the null condition.

    As both are known, each step x_t -> x_{t-1} shows how it weighs x_t, P and Q, and how much noise it adds.
    """
    K = settings.get("num_classes", 10)
    own = torch.Generator().manual_seed(1)
    pattern = []  # P and Q, of the shape that the pictures turn out to have

    def fixed(x, t, c):
        if not pattern:
            pattern.extend(torch.randn(2, *x.shape[1:], generator=own))
        return torch.where((c.max(1).values > 0.5).view(-1, 1, 1, 1), *pattern)

    stub = Stub(predict or fixed, K)
    model = build(DDPM, stub, **settings).eval()  # as those who call sample do
    labels = torch.arange(batch) * 3 % K
    images = draw(model, labels, omega)
    assert stub.calls, f"sample never runs the network. {SEE}"
    wanted = (batch, model.dmconfig.num_channels, *model.dmconfig.input_dim)
    assert torch.is_tensor(images) and tuple(images.shape) == wanted, (
        f"sample returned {tuple(images.shape) if torch.is_tensor(images) else type(images).__name__}, expected a tensor {wanted}: "
        f"num_channels and input_dim come from dmconfig. {SEE}"
    )
    return SimpleNamespace(
        config=model.dmconfig,
        omega=omega,
        calls=stub.calls,
        images=images,
        pattern=list(map(array, pattern)),
        onehot=np.eye(K)[labels.numpy()],
    )


def steps_of(run):
    """The calls of the network, step by step: time, and what the conditional and the null half saw."""
    steps = []
    for call in run.calls:
        assert np.ptp(call.t) == 0, (
            f"the network is told different times in one call, {call.t[:4]}: all pictures are at the same step. {SEE}"
        )
        if not steps or steps[-1]["t"] != call.t[0]:
            steps.append({"t": call.t[0], "x": [], "c": []})
        steps[-1]["x"].append(array(call.x))
        steps[-1]["c"].append(array(call.c))
    for step in steps:
        step["x"], step["c"] = np.concatenate(step["x"]), np.concatenate(step["c"])
    return steps


def halves(run, step):
    """(x with the condition, its rows, x without), each None where the step has no such half."""
    hidden = (step["c"] == -1).all(1)
    zero, batch = (step["c"] == 0).all(1), len(run.onehot)
    assert not zero.any(), f"the null condition is a row of zeros: training hides a condition with condition_mask_value = -1. {SEE}"
    odd = ~hidden & ~((step["c"] == 0).sum(1) == run.config.num_classes - 1)
    assert not odd.any(), f"a condition {step['c'][odd][0].tolist()} is neither one-hot nor all condition_mask_value = -1. {SEE}"
    for half, what in ((hidden, "the null condition"), (~hidden, "their own condition")):
        assert half.sum() in (0, batch), (
            f"at time {step['t']:.4f} the network ran on {half.sum()} rows with {what}, expected {batch}: each step runs once. {SEE}"
        )
    with_c, without = step["x"][~hidden], step["x"][hidden]
    return (with_c if len(with_c) else None), step["c"][~hidden], (without if len(without) else None)


def check_images(DDPM, **settings):
    """Images in [0, 1], finite, without a graph, new at every call."""
    run = observe(DDPM, **settings)
    assert torch.isfinite(run.images).all(), f"sample returned {(~torch.isfinite(run.images)).sum()} values that are not finite. {SEE}"
    low, high = run.images.min().item(), run.images.max().item()
    assert high <= 100, f"images reach to {high:.0f}, expected 1. This is what you get when they are multiplied by 255. {SEE}"
    assert low >= 0 and high <= 1, (
        f"images reach from {low:.3f} to {high:.3f}, expected 0 to 1. This is what you get without .clamp(0, 1). {SEE}"
    )
    assert not run.images.requires_grad and not any(call.grows for call in run.calls), (
        f"sample keeps the graph of every step, which fills the memory. This is what you get without torch.no_grad(). {SEE}"
    )
    assert not any(call.training for call in run.calls), (
        f"the network is in train mode while sampling, though it was in eval mode before: no .train() in sample. {SEE}"
    )
    assert run.calls[0].x.std() > 0, f"the first step starts from {run.calls[0].x.mean():.2f} everywhere: x_T is noise, torch.randn. {SEE}"
    again = observe(DDPM, **settings)
    assert not torch.equal(run.calls[0].x, again.calls[0].x), f"two calls start from the same noise: set no seed inside sample. {SEE}"


def check_times(DDPM, omega=2.0, **settings):
    """The network sees every step once, T/T down to 1/T; (t - 1) / (T - 1) is fine if training does the same."""
    run = observe(DDPM, omega, batch=3, **settings)
    told, T = np.array([step["t"] for step in steps_of(run)]), run.config.T
    t = np.arange(T, 0, -1)
    same = lambda v: len(v) == len(told) and abs(told - v).max() < 1e-5 * max(1, abs(v).max())
    mistakes = [
        ("the steps run upwards: they run from T down to 1", t[::-1] / T),
        ("the step t = 1 is left out", t[:-1] / T),
        ("the step t = T is left out", t[1:] / T),
        ("the steps t = T and t = 1 are left out", t[1:-1] / T),
        ("the step t = 0 is taken too: t = 1 is the last", np.append(t, 0) / T),
        ("the network is given t itself: divide by T", t),
        ("time is counted from 0: t / T, with t in 1 … T", (t - 1) / T),
        ("the network is given t - 1: divide t by T", t - 1),
        ("the time is one step late: t / T", (t + 1) / T),
        ("T is written into the code", t / 400),
        ("every other step is skipped", t[::2] / T),
        ("T is written into the code", np.arange(400, 0, -1) / 400),
        ("the network is always told the same time", t[:1] / T),
        ("the network is always told the same time", 0 * t[:1]),
    ]
    here = "(t - 1) / (T - 1)" if same((t - 1) / (T - 1)) else "t / T"
    assert same(t / T) or same((t - 1) / (T - 1)), (
        f"the network is told {len(told)} times, {told[:3].round(4).tolist()} … {told[-3:].round(4).tolist()}; expected {T}, "
        f"{(t[:3] / T).round(4).tolist()} … {(t[-3:] / T).round(4).tolist()}. {named(mistakes, same)} {SEE}"
    )
    there = _time_in_training(DDPM)
    assert there in (None, here), f"sample tells the network {here}, training {there}: use one of them in both. {SEE}"


def _time_in_training(DDPM):
    """What forward tells the network as time: "t / T", "(t - 1) / (T - 1)" or, where it is not solved or tells others, None."""
    stub = Stub(lambda x, t, c: x)
    try:
        model = build(DDPM, stub)
        model(torch.randn(300, 1, 28, 28), torch.zeros(300, dtype=torch.long))
        told, T = np.unique(stub.calls[0].t.round(5)), model.dmconfig.T
    except Exception:  # its own section says why
        return None
    t = np.arange(1, T + 1)
    for words, times in (("t / T", t / T), ("(t - 1) / (T - 1)", (t - 1) / (T - 1))):
        if len(told) == T and abs(told - times).max() < 1e-4:
            return words
    return None


def check_conditions(DDPM, omega=2.0, **settings):
    """Each half sees the same x, its own condition, in the order asked for. One half is enough when the other has no weight."""
    run = observe(DDPM, omega, batch=12, **settings)
    for step in steps_of(run):
        with_c, c, without = halves(run, step)
        if omega != -1:
            assert with_c is not None, f"no picture is sampled with its condition: every row is null (omega = {omega}). {SEE}"
        if omega != 0:
            assert without is not None, (
                f"omega = {omega}, but the network never sees the null condition: guidance needs both predictions. {SEE}"
            )
        if with_c is not None:
            mistakes = [
                ("the rows are in another order than the labels asked for", (np.sort(c.argmax(1)) == np.sort(run.onehot.argmax(1))).all())
            ]
            assert (c == run.onehot).all(), (
                f"classes {c.argmax(1).tolist()} are sampled, expected {run.onehot.argmax(1).tolist()}. {named(mistakes, bool)} {SEE}"
            )
        if with_c is not None and without is not None:
            assert (with_c == without).all(), f"the two predictions are made from different x: both see the same x_t. {SEE}"


def step_tables(table, w):
    """[(mistake, weight of x_t, of eps_cond, of eps_uncond, of the noise)] as functions of t; the first is right."""
    beta, alpha, bar = table["beta_t"], table["alpha_t"], table["alpha_t_bar"]
    A, s, r = alpha**-0.5, beta**0.5, (1 - bar) ** 0.5
    k, before = beta / r, np.append(1.0, bar[:-1])
    guided = lambda a, k: (a, -(1 + w) * k, w * k)
    plain = guided(A, A * k)
    return [
        (None, *plain, s),
        ("the noise is not scaled by sigma_t = sqrt(beta_t)", *plain, np.ones_like(s)),
        ("sigma_t is beta_t: its root is missing", *plain, beta),
        ("sigma_t is the root of the posterior variance: here it is sqrt(beta_t)", *plain, (beta * (1 - before) / (1 - bar)) ** 0.5),
        ("sigma_t is sqrt(1 - alpha_bar): it is sqrt(beta_t)", *plain, r),
        ("sigma_t is sqrt(alpha_t): it is sqrt(beta_t)", *plain, alpha**0.5),
        ("no noise is added between the steps: only the last step adds none", *plain, 0 * s),
        ("the step t = 2 adds no noise: only t = 1, the last, adds none", *plain, np.where(np.arange(1, len(s) + 1) == 2, 0, s)),
        ("the noise is divided by sqrt(alpha_t) too: add it after that", *plain, A * s),
        ("the two predictions are swapped: eps = (1 + omega) eps_cond - omega eps_uncond", A, A * k * w, -A * k * (1 + w), s),
        ("guidance has the other sign: eps = (1 + omega) eps_cond - omega eps_uncond", A, -A * k * (1 - w), -A * k * w, s),
        ("omega weighs the condition: eps_u + omega (eps_c - eps_u) is guidance by omega - 1", A, -A * k * w, -A * k * (1 - w), s),
        ("the unconditional prediction is added, not subtracted", A, -A * k * (1 + w), -A * k * w, s),
        ("1 + omega is left out: omega eps_cond - omega eps_uncond", A, -A * k * w, A * k * w, s),
        ("1 + omega is left out: eps_cond - omega eps_uncond", A, -A * k, A * k * w, s),
        ("omega is ignored: this is the conditional prediction alone", A, -A * k, 0 * k, s),
        ("omega is ignored: this is the unconditional prediction alone", A, 0 * k, -A * k, s),
        ("omega is ignored and taken from dmconfig", A, -3 * A * k, 2 * A * k, s),
        ("x and eps are not divided by sqrt(alpha_t)", *guided(np.ones_like(A), k), s),
        ("only x_t, not the noise taken from it, is divided by sqrt(alpha_t)", *guided(A, k), s),
        ("sqrt(alpha_t) multiplies: divide by it", *guided(1 / A, k / A), s),
        ("the root is missing: divide by sqrt(alpha_t), not alpha_t", *guided(A**2, A**2 * k), s),
        ("alpha_bar stands in place of alpha_t in 1 / sqrt(alpha_t)", *guided(bar**-0.5, bar**-0.5 * k), s),
        ("the predicted noise is added: subtract it", A, A * k * (1 + w), -A * k * w, s),
        ("the predicted noise is not divided by sqrt(1 - alpha_bar)", *guided(A, A * beta), s),
        ("the root is missing: beta_t / sqrt(1 - alpha_bar), not beta_t / (1 - alpha_bar)", *guided(A, A * beta / (1 - bar)), s),
        ("sqrt(beta_t) stands in place of beta_t in beta_t / sqrt(1 - alpha_bar)", *guided(A, A * s / r), s),
        ("sqrt(alpha_bar) stands in place of sqrt(1 - alpha_bar)", *guided(A, A * beta / bar**0.5), s),
        ("alpha_t stands in place of 1 - alpha_t", *guided(A, A * alpha / r), s),
        ("the predicted noise is taken off whole, without a weight", *guided(A, A), s),
    ]


def trajectory(run):
    """x_T … x_1, as the network saw them."""
    x = [with_c if with_c is not None else without for with_c, _, without in (halves(run, step) for step in steps_of(run))]
    assert len(x) == run.config.T, f"sample takes {len(x)} steps, expected T = {run.config.T}. {SEE}"
    return x


def shifted(table, by):
    index = np.clip(np.arange(len(table["beta_t"])) + by, 0, len(table["beta_t"]) - 1)
    return {name: values[index] for name, values in table.items()}


def backwards(table):
    return {name: values[::-1] for name, values in table.items()}


def weights_of(run):
    """How each step t = 2 … T weighs x_t, P, Q and 1, its noise, and the standard errors of these five: (T - 1, 10), by least squares."""
    found, x = [], trajectory(run)
    P, Q = (np.broadcast_to(p, x[0].shape).ravel() for p in run.pattern)
    for old, new in zip(x, x[1:], strict=False):  # t = T … 2; the last step has a check of its own
        design = np.stack([old.ravel(), P, Q, np.ones_like(P)], 1)
        inverse = np.linalg.pinv(design.T @ design)
        weights = inverse @ (design.T @ new.ravel())
        spread = np.sqrt(max(((new.ravel() - design @ weights) ** 2).mean(), 1e-12))
        found.append((*weights, spread, *np.sqrt(np.diag(inverse)), math.sqrt(0.5 / len(P))))
    return np.array(found[::-1])


def clamped(run):
    """Words where many pixels of an x_t have the same greatest value, as by chance no two have."""
    if any((x == x.max()).sum() > 3 for x in trajectory(run)[1:]):
        return "The values of x_t are cut off inside the loop: clamp once, after the last step."
    return ""


def check_steps(DDPM, omega, together=False, **settings):
    """Each step is 1/sqrt(alpha_t) (x_t - beta_t / sqrt(1 - alpha_bar_t) eps) + sqrt(beta_t) z with guided eps.

    together: look at the weights of both predictions as one sum, which is right however they share it.
    6 sigma each way: some two hundred numbers are tested, and a right solution fails less than once in a million runs.
    """
    run = observe(DDPM, omega, **settings)
    config, found = run.config, weights_of(run)
    table = schedule(config.beta_1, config.beta_T, config.T)

    def off(tables):
        a, b, c, sigma = (v[1:] for v in tables)
        want = np.stack([a, b, c, 0 * a, sigma], 1)
        bound = 6 * np.maximum(sigma, 1e-3)[:, None] * found[:, 5:] + 1e-5 * abs(want).max()
        off = found[:, :5] - want
        if together:
            off[:, 1], bound[:, 1], off[:, 2] = off[:, 1] + off[:, 2], bound[:, 1] + bound[:, 2], 0
        return (abs(off) / bound).max(1)  # 1 is the limit, step by step

    rows = step_tables(table, omega)
    right = rows[0][1:]
    mistakes = [(row[0], row[1:]) for row in rows[1:]] + [
        ("the schedule is read one step late: step t takes beta_t and alpha_bar_t", step_tables(shifted(table, 1), omega)[0][1:]),
        ("the schedule is read one step early: step t takes beta_t and alpha_bar_t", step_tables(shifted(table, -1), omega)[0][1:]),
        ("the schedule is read backwards: step t takes beta_t and alpha_bar_t", step_tables(backwards(table), omega)[0][1:]),
        ("beta_1 and beta_T are written into the code", step_tables(schedule(1e-4, 2e-2, config.T), omega)[0][1:]),
    ]
    i, fits = int(off(right).argmax()), lambda tables: off(tables).max() < 1
    spell = lambda a, b, c, s: f"{a:.3f} x_t {b:+.3f} eps_cond {c:+.3f} eps_uncond + {s:.3f} z"
    assert fits(right), (
        f"with omega = {omega} the step from t = {i + 2} of {config.T} is x = {spell(*found[i, :3], found[i, 4])}, expected "
        f"{spell(*(v[i + 1] for v in right))}. {named(mistakes, fits, clamped(run))} {SEE}"
    )


def check_guidance(DDPM, omega):
    """In each step the two predictions weigh as 1 + omega to -omega, whatever the step makes of them."""
    found = weights_of(observe(DDPM, omega))
    b, c, spread = found[:, 1], found[:, 2], np.maximum(found[:, 4], 1e-3)

    def fits(weights):
        on_c, on_u = weights
        error = 6 * spread * np.hypot(on_u * found[:, 6], on_c * found[:, 7]) + 1e-5 * (abs(b) + abs(c))
        return (abs(on_u * b - on_c * c) < error).all()

    w = omega
    mistakes = [
        ("the two predictions are swapped: eps = (1 + omega) eps_cond - omega eps_uncond", (-w, 1 + w)),
        ("guidance has the other sign: eps = (1 + omega) eps_cond - omega eps_uncond", (1 - w, w)),
        ("omega weighs the condition: eps_u + omega (eps_c - eps_u) is guidance by omega - 1", (w, 1 - w)),
        ("the unconditional prediction is added, not subtracted", (1 + w, w)),
        ("1 + omega is left out: omega eps_cond - omega eps_uncond", (w, -w)),
        ("1 + omega is left out: eps_cond - omega eps_uncond", (1, -w)),
        ("omega is ignored: this is the conditional prediction alone", (1, 0)),
        ("omega is ignored: this is the unconditional prediction alone", (0, 1)),
        ("omega is ignored and taken from dmconfig", (3, -2)),
    ]
    i = len(found) // 2
    assert fits((1 + w, -w)), (
        f"with omega = {w} the step from t = {i + 2} takes {-b[i]:.3f} of eps_cond and {-c[i]:.3f} of eps_uncond; expected is a ratio of "
        f"{1 + w:g} to {-w:g}. {named(mistakes, fits)} {SEE}"
    )


def check_noise(DDPM):
    """x_T and the noise of each step are standard normal, new for every step, picture and pixel; 6 sigma each way.

    omega = 0, so that a mistake in guidance is not taken for one in the noise.
    """
    run = observe(DDPM, 0.0, batch=64)
    weights, x = step_tables(schedule(), 0.0)[0][1:], trajectory(run)
    noise = [x[0]]
    for t, old, new in zip(range(run.config.T, 1, -1), x, x[1:], strict=False):
        a, b, c, sigma = (v[t - 1] for v in weights)
        noise.append((new - a * old - b * run.pattern[0] - c * run.pattern[1]) / sigma)
    for t, z in zip(range(run.config.T + 1, 1, -1), noise, strict=True):
        where, n, about = "x_T" if t > run.config.T else f"the noise of step t = {t}", z.size, z - z.mean()
        level, shared = (about.mean((1, 2, 3)) ** 2).mean() * z[0].size, (about.mean(0) ** 2).mean() * len(z)
        mistakes = [
            ("all pixels of a picture share one random number", level > 100),
            ("all pictures share one noise", shared > 30),
            ("the noise is uniform in 0 … 1 (torch.rand): it is torch.randn", abs(z.mean() - 0.5) < 0.05 and z.var() < 0.2),
            ("it is zero", abs(z).max() < 1e-3),
        ]
        fine = abs(z.mean()) < 6 / n**0.5 and abs(z.var() - 1) < 6 * (2 / n) ** 0.5 and abs((z**4).mean() - 3) < 6 * (96 / n) ** 0.5
        fine = (
            fine and abs(level - 1) < 10 * (2 / len(z)) ** 0.5 and abs(shared - 1) < 6 * (2 / z[0].size) ** 0.5
        )  # 64 rows have longer tails
        assert fine, f"{where} has mean {z.mean():.3f} and variance {z.var():.3f}, expected standard normal. {named(mistakes, bool)} {SEE}"
    for first, second in zip(noise, noise[1:], strict=False):
        alike = (first * second).mean()
        assert abs(alike) < 6 / first.size**0.5, (
            f"the noise of two steps has correlation {alike:.3f}, expected 0. "
            f"This is what you get when it is drawn once, before the loop. {SEE}"
        )


def check_last_step(DDPM, omega=0.0, **settings):
    """The last step adds no noise; then x * 0.3081 + 0.1307, clamped to [0, 1]. Exact, from the x_1 that the network saw."""
    run = observe(DDPM, omega, **settings)
    config = run.config
    with_c, _, without = halves(run, steps_of(run)[-1])
    x_1 = with_c if with_c is not None else without
    P, Q = run.pattern
    last = lambda row: row[1][0] * x_1 + row[2][0] * P + row[3][0] * Q
    rows = step_tables(schedule(config.beta_1, config.beta_T, config.T), omega)
    x, got = last(rows[0]), array(run.images)
    show = lambda x: (x * STD + MEAN).clip(0, 1)
    noise = config.beta_1**0.5
    inside = (got > 0) & (got < 1)
    rest = ((got - MEAN) / STD - x)[inside]
    scale = lambda x: (x - x.min()) / np.ptp(x)
    mistakes = [
        ("the result is not clamped to [0, 1]", x * STD + MEAN),
        ("the result is not scaled back by x * 0.3081 + 0.1307", x.clip(0, 1)),
        ("the result is neither scaled back nor clamped", x),
        ("0.1307 and 0.3081 are swapped: x * 0.3081 + 0.1307", (x * MEAN + STD).clip(0, 1)),
        ("the result is normalised once more: scale it back by x * 0.3081 + 0.1307", ((x - MEAN) / STD).clip(0, 1)),
        ("the mean is subtracted: x * 0.3081 + 0.1307", (x * STD - MEAN).clip(0, 1)),
        ("the mean is not added: x * 0.3081 + 0.1307", (x * STD).clip(0, 1)),
        ("it is clamped before it is scaled back", x.clip(0, 1) * STD + MEAN),
        ("the result is (x + 1) / 2", ((x + 1) / 2).clip(0, 1)),
        ("each batch is stretched to 0 … 1: x * 0.3081 + 0.1307", scale(x)),
        ("the last step is left out: t = 1 is taken too", show(x_1)),
        *((row[0], show(last(row))) for row in rows[1:]),
    ]
    # float32 leaves some ulp of x_1 times 1 / sqrt(1 - alpha_bar_1)
    if abs(got - show(x)).max() < 1e-5 * (1 + abs(x_1).max()):
        return
    for words, values in mistakes:
        assert not abs(got - values).max() < 1e-4, f"The last step is wrong. This is what you get when {words}. {SEE}"
    spread = rest.std() if len(rest) else math.nan
    assert not 0.7 < spread / noise < 1.1, (  # clamping cuts some of it off
        f"the result is off by noise of standard deviation {spread:.3f}, which is sqrt(beta_1) = {noise:.3f}: "
        f"This is what you get when the last step, t = 1, adds noise; z = 0 there. {SEE}"
    )
    raise AssertionError(f"the result is up to {abs(got - show(x)).max():.3f} off what its last x_1 gives. No usual mistake fits. {SEE}")


def check_gaussian(DDPM, omega):
    """With eps linear in x every x_t is Gaussian, with a mean and a variance known by recursion. Looks at the images only.

    eps = 5 (x - b), with b of the class for a condition and b = 1.2 without: every pixel ends 16 sigma inside [0, 1], so
    that nothing is clamped. 6 sigma each way, class by class.
    """
    settings, gain = dict(T=20, beta_1=0.01, beta_T=0.05), 5.0
    b = 1.2 + 0.03 * torch.arange(-5, 5)

    def predict(x, t, c):
        centre = torch.where(c.max(1).values < 0.5, torch.tensor(1.2), b[c.argmax(1)])
        return gain * (x - centre.view(-1, 1, 1, 1))

    run = observe(DDPM, omega, 32, predict, **settings)
    x = (array(run.images) - MEAN) / STD
    classes = run.onehot.argmax(1)
    mean, var = np.array([x[classes == k].mean() for k in range(10)]), np.mean([x[classes == k].var() for k in range(10)])
    rows, n = step_tables(schedule(**settings), omega), x.size

    def ends(row, last_noise=False):
        m, v = np.zeros(10), 1.0
        for t in range(20, 0, -1):
            A, on_c, on_u, sigma = (values[t - 1] for values in row[1:])
            slope = A + gain * (on_c + on_u)
            m = slope * m - gain * (on_c * b.numpy() + on_u * 1.2)
            v = slope**2 * v + sigma**2 * (t > 1 or last_noise)
        return m, v

    def fits(end):
        m, v = end
        return abs(mean - m).max() < 6 * math.sqrt(v / (3 * n / 32)) + 1e-5 and abs(var - v) < 6 * v * math.sqrt(2 / n) + 1e-5

    right = ends(rows[0])
    mistakes = [("the last step, t = 1, adds noise", ends(rows[0], True))] + [(row[0], ends(row)) for row in rows[1:]]
    assert fits(right), (
        f"for a network that is linear in x and omega = {omega} the pictures of class 0 and 9 have mean {mean[0]:.3f} and {mean[9]:.3f}, "
        f"variance {var:.4f}; expected {right[0][0]:.3f}, {right[0][9]:.3f} and {right[1]:.4f}. {named(mistakes, fits)} {SEE}"
    )


def check_against_diffusers(DDPM):
    """The last step, which has no noise, as diffusers' DDPMScheduler takes it."""
    diffusers = pytest.importorskip("diffusers")
    run = observe(DDPM, 2.0)
    c = run.config
    theirs = diffusers.DDPMScheduler(num_train_timesteps=c.T, beta_start=c.beta_1, beta_end=c.beta_T, clip_sample=False)
    x_1 = torch.tensor(trajectory(run)[-1])
    eps = 3 * torch.tensor(run.pattern[0]) - 2 * torch.tensor(run.pattern[1])
    x_0 = theirs.step(eps, 0, x_1).prev_sample
    off = (run.images - (x_0 * STD + MEAN).clamp(0, 1)).abs().max().item()
    assert off < 1e-4, f"the last step is {off:.2g} from diffusers' DDPMScheduler.step. {SEE}"


def note_mode(DDPM):
    stub = Stub(lambda x, t, c: x)
    draw(build(DDPM, stub).train(), torch.arange(3), 2.0)
    if any(call.training for call in stub.calls):
        return "sample does not call self.network.eval(): whoever calls it right after training gets batch statistics in the pictures."


def note_literal_mask_value(DDPM):
    run = observe(DDPM, condition_mask_value=-2)
    if any((array(call.c) == -1).all(1).any() for call in run.calls):
        return "sample fills the null condition with a literal -1; dmconfig.condition_mask_value says with what."


def note_time(DDPM):
    if steps_of(observe(DDPM, batch=3))[-1]["t"] == 0:
        return "sample tells the network the time as (t - 1) / (T - 1), as forward does; the course's samplers and weights take t / T."


elsewhere = lambda check, **more: partial(check_elsewhere, check=check, settings=OTHER, **more)  # nothing is written into the code
GUIDED = [omega for omega in GUIDANCE if omega not in (0, -1)]
PROPERTIES = [
    (1, "the network sees every step once, from T down to 1, and is told t / T", [check_times, elsewhere(check_times)]),
    (
        1,
        "one half of each step sees its own condition, the other the null condition, both the same x_t",
        [*(partial(check_conditions, omega=w) for w in GUIDANCE), elsewhere(check_conditions)],
    ),
    (1, "eps = (1 + omega) eps_cond - omega eps_uncond", [partial(check_guidance, omega=w) for w in GUIDED]),
    (
        1.5,
        "each step is 1/sqrt(alpha_t) (x_t - beta_t / sqrt(1 - alpha_bar_t) eps) + sqrt(beta_t) z, with new noise z",
        [partial(check_steps, omega=2.0, together=True), check_noise],
    ),
    (
        1,
        "the last step adds no noise, and pictures leave scaled back and clamped to [0, 1]",
        [check_last_step, check_images, elsewhere(check_images), elsewhere(check_last_step)],
    ),
    (
        0.5,
        "all together: the pictures of known networks come out as they must",
        [
            *(partial(check_steps, omega=w) for w in GUIDANCE),
            *(partial(check_gaussian, omega=w) for w in GUIDANCE),
            partial(check_last_step, omega=2.0),
            check_against_diffusers,
            elsewhere(check_steps, omega=1.0),
        ],
    ),
]
CHECKS = [check for _, _, checks in PROPERTIES for check in checks]
NOTES = [note_mode, note_literal_mask_value, note_time]


def test_images_in_range():
    check_images(ConditionalDDPM)


def test_times_from_T_to_1():
    check_times(ConditionalDDPM)


@pytest.mark.parametrize("omega", GUIDANCE)
def test_conditions(omega):
    check_conditions(ConditionalDDPM, omega)


@pytest.mark.parametrize("omega", GUIDANCE)
def test_steps_and_guidance(omega):
    check_steps(ConditionalDDPM, omega)


@pytest.mark.parametrize("omega", GUIDED)
def test_weights_of_the_two_predictions(omega):
    check_guidance(ConditionalDDPM, omega)


def test_noise_of_every_step():
    check_noise(ConditionalDDPM)


def test_last_step_and_scaling():
    check_last_step(ConditionalDDPM)


@pytest.mark.parametrize("omega", GUIDANCE)
def test_gaussian_in_closed_form(omega):
    check_gaussian(ConditionalDDPM, omega)


def test_last_step_agrees_with_diffusers():
    check_against_diffusers(ConditionalDDPM)


@pytest.mark.parametrize("check", [check_times, check_conditions, check_images, check_last_step], ids=lambda check: check.__name__[6:])
def test_other_settings(check):
    check_elsewhere(ConditionalDDPM, check, OTHER)


def test_other_settings_steps():
    check_elsewhere(ConditionalDDPM, check_steps, OTHER, omega=1.0)
