"""2.1 Variance schedule: ConditionalDDPM.scheduler."""

import numpy as np
import torch

from checks.student import is_unwritten, stops
from checks.truth import DEFAULT, NAMES, OTHER, float32_error, schedule, tables
from checks.verdict import first

SEE = "See 2.1 Variance schedule in the notebook."
PROPERTIES = {
    "beta": (1.5, "beta_t and alpha_t run from beta_1 at t = 1 to beta_T at t = T, with their roots"),
    "alpha_bar": (1.5, "alpha_t_bar is the product of the alphas up to and including t, with its two roots"),
    "index": (1, "one value for each time step asked for, t at index t - 1, in their order"),
}
BETA, BAR = NAMES[:4], NAMES[4:]
FORMS = {  # ways to pass time steps: the student's scheduler is judged in the first that it takes
    "(B,)": lambda t: [t],
    "(B, 1)": lambda t: [t[:, None]],
    "(B, 1, 1, 1)": lambda t: [t[:, None, None, None]],
    "0-dim": lambda t: list(t),
    "(1,)": lambda t: list(t[:, None]),
    "(1, 1)": lambda t: list(t[:, None, None]),
    "int": lambda t: t.tolist(),
}
ASKED = ("(B,)", "(B, 1)", "0-dim")


def examine(student, verdict):
    for settings in (DEFAULT, OTHER):
        look(student.process(settings), settings, verdict)


class Unreadable(Exception):
    """A scheduler that works in no form; the message says what it did."""


def look(process, settings, verdict):
    """Judge the scheduler under one set of settings. Returns its tables {name: (T,)}, None where they are incomplete."""
    T = settings["T"]
    try:
        form, (got, changed) = ask_any(process, torch.arange(1, T + 1))
    except Unreadable as whole:
        try:  # t = T may be beyond the end of its table
            form, (got, changed) = ask_any(process, torch.arange(1, T))
        except Unreadable:
            verdict.fault_rest(str(whole))
            verdict.unreadable = True
            return None
        verdict.fault("index", f"scheduler looks beyond the end of a table at t = T = {T}: {whole}",
                      "a table is read one step late: t = 1 stands at index 0, so index with t - 1")  # fmt: skip
    if form not in ("(B,)", "(B, 1)", "(B, 1, 1, 1)") and one_for_many(process):
        verdict.fault("index", "for several time steps scheduler returns the values of one alone.", "one of t_s is used for all")
    if changed:
        verdict.fault("index", "scheduler changes the t_s that it is given, in place: write t_s - 1, not t_s -= 1.")
    if T > 2 and got and all(np.ptp(values) < 1e-9 for values in got.values()):
        alone = takes(process, "(1,)") and ask(process, "(1,)", torch.arange(1, T + 1))[0]
        if alone and not all(np.ptp(values) < 1e-9 for values in alone.values()):
            verdict.fault("index", "for several time steps every value is that of the same one.", "the first of t_s is used for all")
            got, form = alone, "(1,)"
    judge_values(got, settings, verdict)
    if form in ("(B,)", "(B, 1)", "(B, 1, 1, 1)"):
        judge_order(process, form, got, T, verdict)
    missing = [other for other in ASKED if other != form and not takes(process, other)]
    if missing:
        verdict.note(f"scheduler takes time steps as {form}, and not as {', '.join(missing)}, which the docstring allows too.")
    return got if len(got.get("beta_t", ())) == T and len(got) == len(NAMES) else None


def ask_any(process, t):
    """(form, what `ask` returns) in the first form that the scheduler takes."""
    said = None
    for form in FORMS:
        try:
            return form, ask(process, form, t)
        except (Exception, Unreadable) as error:
            if is_unwritten(error) or getattr(error, "final", False):  # the process has ended, or hangs
                raise
            said = said or (error if isinstance(error, Unreadable) else Unreadable(stops("scheduler", error)))
    raise said


def takes(process, form):
    try:
        ask(process, form, torch.tensor([3, 1]))
        return True
    except (Exception, Unreadable) as error:
        if getattr(error, "final", False):
            raise
        return False


def one_for_many(process):
    """Whether it answers several time steps with one value each, which then is broadcast over the batch in silence."""
    try:
        got, _ = process.scheduler(torch.tensor([3, 1]))
    except Exception as error:
        if getattr(error, "final", False):
            raise
        return False
    return isinstance(got, dict) and any(name in NAMES and torch.is_tensor(value) and value.numel() == 1 for name, value in got.items())


def ask(process, form, t):
    """({name: float64 array, one value a time step}, whether t_s was changed in place)."""
    parts, changed = [], False
    for t_s in FORMS[form](t):
        got, after = process.scheduler(t_s.clone() if torch.is_tensor(t_s) else t_s)
        count = t_s.numel() if torch.is_tensor(t_s) else 1
        if not isinstance(got, dict):
            raise Unreadable(f"scheduler returns {type(got).__name__}; a dict of seven tensors is asked for.")
        for name, value in got.items():
            if name in NAMES and not (torch.is_tensor(value) and value.numel() == count):
                shape = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
                whole = ", not the whole table: read it at t_s - 1" if torch.is_tensor(value) and value.numel() > count else ""
                raise Unreadable(f"scheduler returns {name} of shape {shape} for {count} time steps; one value a time step is asked for{whole}.")
        changed |= torch.is_tensor(t_s) and torch.is_tensor(after) and not torch.equal(t_s, after)
        parts.append({name: value.detach().double().reshape(-1).numpy() for name, value in got.items() if name in NAMES})
    return {name: np.concatenate([part[name] for part in parts]) for name in NAMES if all(name in part for part in parts)}, changed


def judge_values(got, settings, verdict):
    want, count = schedule(**settings), len(next(iter(got.values()), ()))
    error = float32_error(want)
    fits = lambda name, table, by=1.0: (abs(got[name] - table[:count]) <= by * error[name][:count] + 1e-6 * (by > 1) * abs(table[:count])).all()
    for name in NAMES:
        if name not in got:
            verdict.fault("beta" if name in BETA else "alpha_bar", f"scheduler returns no {name}; it returns {', '.join(got) or 'nothing'}.")
    if all(fits(name, want[name]) for name in got):
        return
    for words, by in (("one step late: t = 1 stands at index 0, so index with t - 1", 1), ("one step early: index with t - 1, once", -1)):
        inner = slice(1, count - 1)  # the values at the ends are not judged then
        close = lambda name, by=by, inner=inner: (
            abs(got[name][inner] - np.roll(want[name], -by)[inner]) <= 2 * error[name][inner] + 1e-6 * abs(want[name][inner])
        ).all()
        if all(map(close, got)):
            verdict.fault("index", f"the values for t = 2 are those of t = {2 + by}.", f"the table is read {words}")
            return
    schedules, formulas = list(other_schedules(**settings)), other_formulas(want)
    own = tables(got["beta_t"]) if "beta_t" in got and ((0 <= got["beta_t"]) & (got["beta_t"] < 1)).all() else None
    wrong_beta = [name for name in BETA if name in got and not fits(name, want[name])]
    wrong_bar = [name for name in BAR if name in got and not fits(name, want[name])]
    if own is not None and len(wrong_beta) > 1 and "beta_t" in wrong_beta:  # what follows rightly from a wrong beta is no mistake of its own
        with np.errstate(all="ignore"):  # a beta of 0 has the root 0
            by = float32_error(own)
        follows = lambda name: (abs(got[name] - own[name]) <= 2 * by[name] + 1e-6 * abs(own[name])).all()
        wrong_bar = [name for name in wrong_bar if not follows(name)]
        wrong_beta = ["beta_t", *(name for name in wrong_beta if name != "beta_t" and not follows(name))]
    bar = got.get("alpha_t_bar")
    if wrong_bar[:1] == ["alpha_t_bar"] and ((0 <= bar) & (bar <= 1)).all():  # nor are the right roots of a wrong product
        roots = {"sqrt_alpha_bar": bar**0.5, "sqrt_oneminus_alpha_bar": (1 - bar) ** 0.5}
        wrong_bar = [name for name in wrong_bar if name == "alpha_t_bar" or not np.allclose(got[name], roots[name], rtol=1e-3, atol=1e-4)]
    for name in (*wrong_beta, *wrong_bar):
        mistakes = [(words, table[name]) for words, table in schedules] + formulas[name]
        mistakes = [(words.replace("it is", f"{name} is", 1) if words.startswith("it is") else words, values) for words, values in mistakes]
        if name in BAR and first(told_of_beta(verdict, mistakes), lambda values, name=name: fits(name, values, 2)):
            continue  # which follows from the mistake in beta
        off = abs(got[name] - want[name][:count])
        t = int(np.argmax(np.where(np.isfinite(off), off / error[name][:count], np.inf))) + 1
        verdict.fault(
            "beta" if name in BETA else "alpha_bar",
            f"{name} at t = {t} of {settings['T']} is {got[name][t - 1]:.6f}, expected {want[name][t - 1]:.6f}.",
            first(mistakes, lambda values, name=name: fits(name, values, 2)),
        )


def told_of_beta(verdict, mistakes):
    """The mistakes that have been found in beta already."""
    told = {fault.mistake for fault in verdict.faults.get("beta", ())}
    return [(words, values) for words, values in mistakes if words in told]


def judge_order(process, form, table, T, verdict):
    """Some time steps, unsorted, one of them twice, must give the values of the whole table."""
    t = torch.tensor([T - 1, 3, 3, T // 3, 2])
    try:
        got, _ = ask(process, form, t)
    except Unreadable as why:
        verdict.fault("index", str(why))
        return
    at = t.numpy() - 1
    few = tables(table["beta_t"][at]) if "beta_t" in table else {}  # as if these were all steps
    for name in got:
        expected = table[name][at]
        if not np.allclose(got[name], expected, rtol=0, atol=1e-5, equal_nan=True):
            close = lambda values, name=name: np.allclose(got[name], values, rtol=1e-4)
            says = f"{name} for t_s = {t.tolist()} is {got[name].round(6).tolist()}, expected {expected.round(6).tolist()}."
            if name in few and close(few[name]):
                words = "the product runs over the t_s asked for: make the table of all T steps, then read it at t_s - 1"
                verdict.fault("alpha_bar", says, words)
            else:
                verdict.fault("index", says, "the values are sorted by time: keep the order of t_s" if close(np.sort(expected)) else "")


def other_schedules(beta_1, beta_T, T, **other):
    """[(mistake, the seven tables it gives)] where beta itself is wrong, or read at a wrong place."""
    t = np.arange(1, T + 1)
    line = lambda a, b, n: a + (b - a) * np.arange(n) / max(n - 1, 1)
    right, grid, bar = schedule(beta_1, beta_T, T), line(beta_1, beta_T, T + 1), tables(line(beta_1, beta_T, T + 1))
    at = lambda table, i: {name: np.resize(values, max(len(values), i.max() + 1))[i] for name, values in table.items()}
    default = {name: DEFAULT[name] for name in ("beta_1", "beta_T", "T")}
    yield "the grid has T + 1 points and starts at t = 0: take T points, t = 1 … T, and index with t - 1", at(bar, t)
    yield "the grid has T + 1 points, so that beta_T is never reached: take T points", at(bar, t - 1)
    yield "the grid has T + 1 points, so that beta_T is never reached: take T points", tables(beta_1 + (beta_T - beta_1) * t / (T + 1))
    yield "beta is right but the grid starts at t = 0, one step too many: leave t = 0 out", tables(grid[1:])
    yield "beta_T is never reached: t = 1 … T divides by T - 1, as in (t - 1) / (T - 1)", tables(beta_1 + (beta_T - beta_1) * (t - 1) / T)
    yield "beta rises by t / T: it is beta_1 at t = 1, so (t - 1) / (T - 1)", tables(beta_1 + (beta_T - beta_1) * t / T)
    yield "beta grows beyond beta_T: it rises by (t - 1) / (T - 1)", tables(beta_1 + (beta_T - beta_1) * t / (T - 1))
    yield "beta starts at 0 and not at beta_1", tables(line(0, beta_T, T))
    yield "beta starts at 0 and not at beta_1: beta_1 + (beta_T - beta_1) (t - 1) / (T - 1)", tables((beta_T - beta_1) * (t - 1) / (T - 1))
    yield "beta rises by beta_T, not by beta_T - beta_1", tables(beta_1 + beta_T * (t - 1) / (T - 1))
    yield "the time runs backwards: beta_1, the smallest, belongs to t = 1", at(right, T - t)
    yield "beta_1 and beta_T are swapped", tables(line(beta_T, beta_1, T))
    if T != DEFAULT["T"]:
        yield "beta_1, beta_T and T are written into the code: take them from dmconfig", at(schedule(**default), t - 1)
        yield "beta_1 and beta_T are written into the code: take them from dmconfig", schedule(DEFAULT["beta_1"], DEFAULT["beta_T"], T)
        yield "T is written into the code: take it from dmconfig", at(schedule(beta_1, beta_T, DEFAULT["T"]), t - 1)
        yield "beta_1 is written into the code: take it from dmconfig", schedule(DEFAULT["beta_1"], beta_T, T)
        yield "beta_T is written into the code: take it from dmconfig", schedule(beta_1, DEFAULT["beta_T"], T)
    for n, words in ((T, ""), (1000, " of 1000 steps, scaled")):
        s = 0.008
        f = lambda u, s=s: np.cos((u + s) / (1 + s) * np.pi / 2) ** 2
        yield f"beta follows a cosine schedule{words}: it is linear", tables(np.clip(1 - f(t / n) / f((t - 1) / n), 0, 0.999))
    yield "the square root of beta is linear: beta itself is", tables(line(beta_1**0.5, beta_T**0.5, T) ** 2)
    yield "beta grows by constant factors: it is linear", tables(beta_1 * (beta_T / beta_1) ** line(0, 1, T))
    yield "every t has the same beta", tables(np.full(T, beta_1))
    yield "every t has the same beta", tables(np.full(T, beta_T))


def other_formulas(table):
    """{name: [(mistake, the values it gives)]} where beta is right."""
    beta, alpha, bar = table["beta_t"], table["alpha_t"], table["alpha_t_bar"]
    before = bar / alpha  # the product that stops before alpha_t
    after = bar * np.append(alpha[1:], 1)
    return {
        "beta_t": [("alpha_t is returned in its place", alpha), ("its root is taken twice", beta**0.5), ("it is squared", beta**2)],
        "sqrt_beta_t": [
            ("the root is missing: this is beta_t", beta),
            ("it is sqrt(alpha_t), of 1 - beta_t", alpha**0.5),
            ("it is squared, where a root is asked for", beta**2),
            ("it is 1 / sqrt(beta_t)", beta**-0.5),
            ("it is the root of the posterior's variance: it is sqrt(beta_t)", (beta * (1 - before) / (1 - bar)) ** 0.5),
            ("it is sqrt(1 - alpha_bar)", (1 - bar) ** 0.5),
        ],
        "alpha_t": [
            ("it is beta_t; alpha_t = 1 - beta_t", beta),
            ("the sign is wrong: alpha_t = 1 - beta_t", 1 + beta),
            ("it is the product up to t, which is alpha_t_bar", bar),
            ("a root is taken: it is sqrt(alpha_t)", alpha**0.5),
            ("it is 1 - sqrt(beta_t)", 1 - beta**0.5),
            ("it is squared", alpha**2),
        ],
        "oneover_sqrt_alpha": [
            ("it is not inverted: this is sqrt(alpha_t)", alpha**0.5),
            ("the root is missing: this is 1 / alpha_t", 1 / alpha),
            ("alpha_t_bar stands in place of alpha_t", bar**-0.5),
            ("beta_t stands in place of alpha_t", beta**-0.5),
            ("1 + beta_t stands in place of alpha_t", (1 + beta) ** -0.5),
            ("the square stands in place of the root: this is 1 / alpha_t^2", alpha**-2.0),
        ],
        "alpha_t_bar": [
            ("alpha_bar_t leaves out alpha_t itself: the product goes up to and including t", before),
            ("the product goes one step too far: it stops at alpha_t", after),
            ("it is alpha_t: the product over all steps up to t is missing", alpha),
            ("it is the product of the betas", np.cumprod(beta)),
            ("the alphas are summed, not multiplied", np.cumsum(alpha)),
            ("it is 1 - the sum of the betas: the product of the alphas is asked for", 1 - np.cumsum(beta)),
            ("it is exp(-the sum of the betas): the product of the alphas is asked for", np.exp(-np.cumsum(beta))),
            ("it is alpha_t to the power t: alpha changes with t, and each step's own is multiplied", alpha ** np.arange(1, len(bar) + 1)),
            ("it is the product over all T steps for every t", np.full_like(bar, bar[-1])),
            ("the product runs from t to T: it runs from 1 to t", np.cumprod(alpha[::-1])[::-1]),
            ("a root is taken", bar**0.5),
            ("it is 1 - alpha_bar", 1 - bar),
        ],
        "sqrt_alpha_bar": [
            ("it is sqrt(1 - alpha_bar): the two roots are swapped", (1 - bar) ** 0.5),
            ("the root is missing: this is alpha_bar", bar),
            ("the product is missing: this is sqrt(alpha_t)", alpha**0.5),
            ("alpha_bar leaves out alpha_t itself", before**0.5),
            ("the root is taken twice", bar**0.25),
            ("it is inverted: this is 1 / sqrt(alpha_bar)", bar**-0.5),
            ("it is squared, where a root is asked for", bar**2),
        ],
        "sqrt_oneminus_alpha_bar": [
            ("it is sqrt(alpha_bar): the two roots are swapped", bar**0.5),
            ("the root is missing: this is 1 - alpha_bar", 1 - bar),
            ("the product is missing: this is sqrt(1 - alpha_t)", beta**0.5),
            ("it is 1 - sqrt(alpha_bar)", 1 - bar**0.5),
            ("alpha_bar leaves out alpha_t itself", (1 - before) ** 0.5),
            ("it is sqrt(1 + alpha_bar)", (1 + bar) ** 0.5),
            ("it is the root of 1 - sqrt(alpha_bar)", (1 - bar**0.5) ** 0.5),
            ("it is squared, where a root is asked for", (1 - bar) ** 2),
        ],
    }
