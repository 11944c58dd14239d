"""2.1 Variance schedule: ConditionalDDPM.scheduler. Needs nothing else solved.

The messages are whole as they stand: PYTEST_DONT_REWRITE keeps pytest from adding the values of the expression to them.
"""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import array, build_bare, float32_error, named, schedule, tables

from DDPM import ConditionalDDPM

SEE = "See 2.1 Variance schedule in the notebook."
DEFAULT = dict(beta_1=1e-4, beta_T=2e-2, T=400)
SETTINGS = [DEFAULT, dict(beta_1=1e-3, beta_T=2e-1, T=200), dict(beta_1=0.05, beta_T=0.3, T=7), dict(beta_1=0.1, beta_T=0.1, T=1)]


BETA = ("beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha")
BAR = ("alpha_t_bar", "sqrt_alpha_bar", "sqrt_oneminus_alpha_bar")


def other_schedules(beta_1, beta_T, T):
    """[(mistake, the seven tables it gives)] where beta itself is another, or read at another place."""
    t = np.arange(1, T + 1)
    line = lambda a, b, n: a + (b - a) * np.arange(n) / max(n - 1, 1)
    right, grid, bar = schedule(beta_1, beta_T, T), line(beta_1, beta_T, T + 1), tables(line(beta_1, beta_T, T + 1))
    at = lambda table, i: {name: np.resize(values, max(len(values), i.max() + 1))[i] for name, values in table.items()}
    yield "the grid has T + 1 points and starts at t = 0: take T points, t = 1 … T, and index with t - 1", at(bar, t)
    yield "the grid has T + 1 points, so that beta_T is never reached: take T points", at(bar, t - 1)
    yield "beta is right but the grid starts at t = 0, one step too many: leave t = 0 out", tables(grid[1:])
    yield "the table is read one step late: t = 1 stands at index 0, so index with t - 1", at(right, t % T)
    yield "the table is read one step early: index with t - 1, once", at(right, (t - 2) % T)
    yield "the time runs backwards: beta_1, the smallest, belongs to t = 1", at(right, T - t)
    yield "beta_1 and beta_T are swapped", tables(line(beta_T, beta_1, T))
    yield "beta_1, beta_T and T are written into the code: take them from dmconfig", at(schedule(**DEFAULT), t - 1)
    yield "beta_1 and beta_T are written into the code: take them from dmconfig", schedule(1e-4, 2e-2, T)
    yield "T is written into the code: take it from dmconfig", at(schedule(beta_1, beta_T, 400), t - 1)
    yield "the square root of beta is linear: beta itself is", tables(line(beta_1**0.5, beta_T**0.5, T) ** 2)
    yield "beta grows by constant factors: it is linear", tables(beta_1 * (beta_T / beta_1) ** line(0, 1, T))
    yield "every t has the same beta", tables(np.full(T, beta_1))


def other_formulas(table):
    """{name: [(mistake, the values it gives)]} where beta is right."""
    beta, alpha, bar = table["beta_t"], table["alpha_t"], table["alpha_t_bar"]
    before = bar / alpha  # the product that stops before alpha_t
    return {
        "beta_t": [("alpha_t is returned in its place", alpha), ("its root is taken twice", beta**0.5)],
        "sqrt_beta_t": [("the root is missing: this is beta_t", beta), ("it is sqrt(alpha_t), of 1 - beta_t", alpha**0.5)],
        "alpha_t": [
            ("it is beta_t; alpha_t = 1 - beta_t", beta),
            ("the sign is wrong: alpha_t = 1 - beta_t", 1 + beta),
            ("it is the product up to t, which is alpha_t_bar", bar),
            ("a root is taken: it is sqrt(alpha_t)", alpha**0.5),
        ],
        "oneover_sqrt_alpha": [
            ("it is not inverted: this is sqrt(alpha_t)", alpha**0.5),
            ("the root is missing: this is 1 / alpha_t", 1 / alpha),
            ("alpha_t_bar stands in place of alpha_t", bar**-0.5),
            ("beta_t stands in place of alpha_t", beta**-0.5),
        ],
        "alpha_t_bar": [
            ("alpha_bar_t leaves out alpha_t itself: the product goes up to and including t", before),
            ("it is alpha_t: the product over all steps up to t is missing", alpha),
            ("it is the product of the betas", np.cumprod(beta)),
            ("the alphas are summed, not multiplied", np.cumsum(alpha)),
            ("it is 1 - the sum of the betas: the product of the alphas is asked for", 1 - np.cumsum(beta)),
            ("it is the product over all T steps for every t", np.full_like(bar, bar[-1])),
            ("a root is taken", bar**0.5),
        ],
        "sqrt_alpha_bar": [
            ("it is sqrt(1 - alpha_bar): the two roots are swapped", (1 - bar) ** 0.5),
            ("the root is missing: this is alpha_bar", bar),
            ("the product is missing: this is sqrt(alpha_t)", alpha**0.5),
            ("alpha_bar leaves out alpha_t itself", before**0.5),
        ],
        "sqrt_oneminus_alpha_bar": [
            ("it is sqrt(alpha_bar): the two roots are swapped", bar**0.5),
            ("the root is missing: this is 1 - alpha_bar", 1 - bar),
            ("the product is missing: this is sqrt(1 - alpha_t)", beta**0.5),
            ("it is 1 - sqrt(alpha_bar)", 1 - bar**0.5),
            ("alpha_bar leaves out alpha_t itself", (1 - before) ** 0.5),
        ],
    }


def ask(model, t_s):
    """scheduler(t_s) as float64 arrays (B,), whatever shape it returns them in."""
    t_s = torch.as_tensor(t_s)
    try:
        got = model.scheduler(t_s)
    except IndexError as error:
        raise AssertionError(
            f"scheduler({t_s.flatten()[:3].tolist()}…) looked beyond the end of a table. t is in 1 … T and stands at index t - 1. {SEE}"
        ) from error
    except NotImplementedError:
        raise
    except Exception as error:
        raise AssertionError(
            f"scheduler fails for t_s of shape {tuple(t_s.shape)}: {type(error).__name__}: {error}. A 0-dim tensor, (B,) and (B, 1) are "
            f"allowed, of whole numbers in 1 … T. {SEE}"
        ) from error
    assert isinstance(got, dict), f"scheduler returns {type(got).__name__}; a dict of seven tensors is asked for. {SEE}"
    missing = [name for name in schedule(T=1) if name not in got]
    assert not missing, f"scheduler returns {sorted(got)}; {missing} is missing. {SEE}"
    got = {name: got[name] for name in schedule(T=1)}
    for name in got:
        assert torch.is_tensor(got[name]), f"scheduler returns {name} as {type(got[name]).__name__}; a tensor is asked for. {SEE}"
        assert got[name].numel() == t_s.numel(), (
            f"scheduler returns {name} of shape {tuple(got[name].shape)} for {t_s.numel()} time steps; one value a time step is asked for"
            + (", not the whole table: read it at t_s - 1" if got[name].numel() >= model.dmconfig.T else "")
            + f". {SEE}"
        )
    return {name: array(got[name]).reshape(-1) for name in got}


def check_values(DDPM, names, settings=DEFAULT):
    """Some of the seven tables at every t against a float64 loop, as exact as float32 can be."""
    got = ask(build_bare(DDPM, **settings), range(1, settings["T"] + 1))
    want = schedule(**settings)
    error, formulas, schedules = float32_error(want), other_formulas(want), list(other_schedules(**settings))
    if names == BAR and _follow_from_their_own_beta(got):
        return  # a wrong beta is the other tables' mistake
    for name in names:  # in this order, so that the first message is about the cause
        off = abs(got[name] - want[name])
        if (off <= error[name]).all():
            continue
        t = int(np.nanargmax(np.where(np.isfinite(off), off / error[name], np.inf))) + 1
        mistakes = [(words, table[name]) for words, table in schedules] + formulas[name]
        mistakes = [(words.replace("it is", f"{name} is", 1) if words.startswith("it is") else words, values) for words, values in mistakes]
        why = named(mistakes, lambda values, got=got[name], by=error[name]: (abs(got - values) <= by + 1e-6 * abs(values)).all())
        raise AssertionError(
            f"{name} at t = {t} of {settings['T']} is {got[name][t - 1]:.6f}, expected {want[name][t - 1]:.6f}. {why} {SEE}"
        )


def _follow_from_their_own_beta(got):
    beta = got["beta_t"]
    if not ((0 < beta) & (beta < 1)).all():
        return False
    own = tables(beta)
    error = float32_error(own)
    return all((abs(got[name] - own[name]) <= 2 * error[name]).all() for name in BAR)


def check_notebook_values(DDPM, names=BETA + BAR):
    """The table of the notebook, at t = 77 of the default schedule, two-sided."""
    got = ask(build_bare(DDPM, **DEFAULT), [[77]])
    want = dict(
        beta_t=0.003890,
        sqrt_beta_t=0.062374,
        alpha_t=0.996110,
        oneover_sqrt_alpha=1.001951,
        alpha_t_bar=0.857414,
        sqrt_alpha_bar=0.925967,
        sqrt_oneminus_alpha_bar=0.377606,
    )
    for name, value in ((name, want[name]) for name in names):
        assert abs(got[name][0] - value) <= 5e-6, f"{name} at t = 77 is {got[name][0]:.6f}, expected {value:.6f}. {SEE}"


def check_against_diffusers(DDPM, names=("beta_t", "alpha_t_bar")):
    diffusers = pytest.importorskip("diffusers")
    got = ask(build_bare(DDPM, **DEFAULT), range(1, 401))
    theirs = diffusers.DDPMScheduler(num_train_timesteps=400, beta_start=1e-4, beta_end=2e-2, beta_schedule="linear")
    for name in names:
        off = abs(got[name] - array({"beta_t": theirs.betas, "alpha_t_bar": theirs.alphas_cumprod}[name])).max()
        assert off <= 2 * float32_error(schedule(**DEFAULT))[name].max(), f"{name} is {off:.2g} from diffusers' DDPMScheduler. {SEE}"


def check_shapes_and_order(DDPM):
    """One value a time step, whatever shape, order and repetition they come in; nothing else happens."""
    model = build_bare(DDPM, **DEFAULT)
    want = ask(model, range(1, 401))  # its own values: whether they are right is another check's question
    t, before = torch.tensor([400, 3, 3, 77, 1]), torch.get_rng_state()
    for t_s in (t, t[:, None], t[3], t[3:4]):
        given = t_s.clone()
        got = ask(model, t_s)
        assert torch.equal(t_s, given), f"scheduler changes the t_s that it is given, in place: write t_s - 1, not t_s -= 1. {SEE}"
        few = tables(want["beta_t"][t_s.numpy().reshape(-1) - 1])  # as if these were all steps
        for name in want:
            expected = want[name][t_s.numpy().reshape(-1) - 1]
            off = abs(got[name] - expected).max()
            assert off <= 1e-5, (
                f"{name} for t_s = {t_s.flatten().tolist()} of shape {tuple(t_s.shape)} is {got[name].round(6).tolist()}, expected "
                f"{expected.round(6).tolist()}. "
                + named(
                    [
                        ("the values are sorted by time: keep the order of t_s", np.sort(expected)),
                        ("the product runs over the t_s asked for: make the table of all T steps, then read it at t_s - 1", few[name]),
                    ],
                    lambda values, got=got[name]: len(got) > 1 and np.allclose(got, values, rtol=1e-4),
                )
                + f" {SEE}"
            )
    assert torch.equal(before, torch.get_rng_state()), f"scheduler draws random numbers; nothing in it is random. {SEE}"


PROPERTIES = [
    (
        1.5,
        "beta_t and alpha_t run from beta_1 at t = 1 to beta_T at t = T, with their roots",
        [
            *(partial(check_values, names=BETA, settings=s) for s in SETTINGS),
            partial(check_notebook_values, names=BETA),
            partial(check_against_diffusers, names=("beta_t",)),
        ],
    ),
    (
        1.5,
        "alpha_t_bar is the product of the alphas up to and including t, with its two roots",
        [partial(check_values, names=BAR, settings=s) for s in SETTINGS],
    ),
    (1, "one value for each time step asked for, whatever their shape and order", [check_shapes_and_order]),
]
CHECKS = [check for _, _, checks in PROPERTIES for check in checks]


@pytest.mark.parametrize("names", [BETA, BAR], ids=["beta_and_alpha", "alpha_bar"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: f"T={s['T']}")
def test_values_at_every_t(settings, names):
    check_values(ConditionalDDPM, names, settings)


def test_values_of_the_notebook_at_t_77():
    check_notebook_values(ConditionalDDPM)


def test_values_agree_with_diffusers():
    check_against_diffusers(ConditionalDDPM)


def test_shapes_and_order():
    check_shapes_and_order(ConditionalDDPM)
