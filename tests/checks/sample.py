"""2.3 Sampling: ConditionalDDPM.sample, with a network of known outputs and, if the student's schedule is wrong, with a right one.

For a condition of class k the network predicts R x + P_k, for any other R x + Q. From the x_t that the
network sees, each step x_t -> x_{t-1} shows how it weighs x_t and the two predictions, and what noise it adds.
"""

from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import torch

from checks.forward import FEW_STEPS, is_of_form, is_outside
from checks.forward import observe as observe_forward
from checks.student import is_unwritten, stops
from checks.truth import DEFAULT, MEAN, OTHER, STD, array, chi_square_bound, float32_error, schedule
from checks.verdict import Fault, Verdict

SEE = "See 2.3 Sampling in the notebook, algorithm 4."
PROPERTIES = {
    "time": (1, "the network sees every step once, from T down to 1, and is told t / T"),
    "condition": (1, "the network sees each picture's own condition and the null condition, both with the same x_t"),
    "guidance": (1, "eps = (1 + omega) eps_cond - omega eps_uncond"),
    "mean": (1, "each step goes to 1/sqrt(alpha_t) (x_t - beta_t / sqrt(1 - alpha_bar_t) eps)"),
    "noise": (1, "each step adds sqrt(beta_t) z, with z standard normal and new for each step, picture and pixel, as is x_T"),
    "last": (0.5, "the last step, from t = 1, adds no noise"),
    "image": (0.5, "pictures leave scaled back by x * 0.3081 + 0.1307 and clamped to [0, 1]"),
}
PIXELS = 28 * 28
CUT = "the values of x_t or x_0 are cut off inside the loop: clamp once, after the last step"
CROSSED = ("x_t of a picture goes on with what the network predicted for another one: the answers are taken apart "
           "in another order than they were put together.")  # fmt: skip
EARLY, FROM_BELOW = "the schedule is read one step early", "the steps run from T - 1 to 0"
R = 0.7
QUIET, LOUD = 0.5, 100.0  # size of P and Q: with one, pictures lie around [0, 1]; with the other, small differences of weights show
RUNS = [
    (DEFAULT, 2.0, (7, 2, 9), QUIET), (OTHER, 0.7, (3, 0, 8, 5), LOUD), (OTHER, 0.0, (1, 6, 4), QUIET), (OTHER, -1.0, (1, 6, 4), QUIET),
]  # fmt: skip


def predictor(size):
    """A network that answers R x + P_k for the condition of class k, and R x + Q for any other row."""
    patterns = size * torch.randn(11, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    return lambda x, t, c: R * x + patterns[torch.tensor(classes(c.numpy()))]


def classes(c):
    """(n,): the class of each row that is one-hot, else 10."""
    one_hot = (abs(c.max(1) - 1) < 1e-6) & ((abs(c) > 1e-6).sum(1) == 1)
    return np.where(one_hot, c.argmax(1), 10)


@dataclass
class State:
    """An x_t of a picture, (784,), and what the network was asked with it."""

    x: np.ndarray
    told: float
    asked: int = 0                    # times with its own condition
    null: np.ndarray | None = None    # the row that was shown in place of a condition, (10,)
    null_x: np.ndarray | None = None  # the x that was shown with it


@dataclass
class Run:
    """One call of sample. states: for each picture its x_T … x_1; X: the same (steps, B, 784); t: their time steps (steps,), or None."""

    settings: dict
    omega: float
    labels: tuple
    images: object
    states: list
    size: float
    reseeds: bool              # whether torch's global generator was reseeded
    seen: list = field(default_factory=list)  # the classes whose conditions were shown
    has_null: bool = False     # whether the null condition was
    sound: int = 0             # states before the values run away
    X: np.ndarray = None
    C: np.ndarray = None  # eps_cond and (U) eps_uncond for each x, (steps, B, 784)
    U: np.ndarray = None
    t: np.ndarray | None = None
    found: object = None  # the hypothesis that fits the steps, (Step, weights of the two predictions) …
    same: list = field(default_factory=list)  # … and others that cannot be told apart from it
    stray: list = field(default_factory=list)
    other_t: object = None
    mixed: bool = False   # whether the two predictions are made from different x, so that no step can be judged
    beyond: bool = False  # whether steps past t = 1 were left out
    cut: bool = False     # whether values are cut off inside the loop, or the predictions are those of others: no more can be said
    early: bool = False   # whether the whole loop runs one step early
    silent_first: bool = False  # whether the step from t = T adds no noise


def examine(student, verdict):
    runs = []
    for number, (settings, omega, labels, size) in enumerate(RUNS):
        run = observe(student, settings, omega, labels, verdict, first=not number, size=size)
        if run is None and not number:
            return
        runs += [run] if run else []
    for run in runs:
        judge_conditions(run, verdict)
        judge_times(run, verdict)
    usable = [run for run in runs if line_up(run) and not any(run.mixed for run in runs)]
    for run in usable:
        judge_steps(student, run, verdict)
    sharpest(verdict)
    for run in usable:
        judge_noise(student, run, verdict)
    for run in runs:
        judge_images(run, verdict)
    if any(run.silent_first for run in usable):
        judge_first(verdict)
    judge_many(student, verdict)
    judge_twins(student, verdict)
    judge_seeds(student, verdict)
    judge_time_of_training(student, verdict)
    if not verdict.faults:
        add_notes(student, verdict)


def sharpest(verdict):
    """If the runs suggest different wrong means, only the diagnosis of the second run, the most precise, is kept."""
    faults = verdict.faults.get("mean", [])
    known = [fault for fault in faults if f"omega = {RUNS[1][1]:g} " in fault.says]
    if known and len(faults) > 1:
        verdict.faults["mean"] = [known[0], *(Fault(fault.says) for fault in faults if fault is not known[0])]


def observe(student, settings, omega, labels, verdict, first=True, seed=0, size=QUIET):
    """A Run, or None where sample cannot be run; says why in the verdict."""
    call = lambda process, conditions: process.sample(conditions, omega)
    here = "" if first else f"with omega = {omega:g} and T = {settings['T']} "
    run = lambda lenient: student.run(settings, predictor(size), torch.tensor(labels), call, seed, lenient)
    try:
        try:
            calls, (images, reseeds), form = run(lenient=False)
        except Exception as error:
            if not is_outside(error):
                raise
            if is_of_form(error):
                verdict.fault("time", f"{here}sample asks the schedule in a form that it does not take ({error}).")
            else:
                verdict.fault("time", f"{here}sample asks the schedule for a t outside 1 … T ({error}).", "the loop does not run from T down to 1")
            calls, (images, reseeds), form = run(lenient=True)
    except Exception as error:
        if first or is_unwritten(error):
            raise
        verdict.fault("guidance" if omega in (0, -1) else "time", stops(f"{here}sample", error))
        return None
    if form != "labels":
        verdict.note("sample takes conditions as one-hot rows and not as labels (B,), which this edition of the course hands it.")
    if not calls:
        verdict.fault_rest("sample never runs the network.")
        return None
    short = next((call for call in calls if call.repeated > 1), None)
    if short:
        verdict.fault("time", f"the network is given {len(short.t) // short.repeated} times for {len(short.x)} pictures.",
                      "the batch is doubled and its times are not")  # fmt: skip
    if any(call.shared for call in calls):
        verdict.note("sample gives the network one time for all pictures; the course's blocks take one a picture, (B, 1, 1, 1), as .expand(len(x), 1, 1, 1) makes it.")
    if any(call.training for call in calls):
        verdict.note("sample puts the network into train mode, so that batch statistics go into the pictures: call self.network.eval().")
    if any(call.grows for call in calls):
        verdict.note("sample keeps the graph of every step, which fills the memory: put it under torch.no_grad().")
    run = Run(settings, omega, labels, images, [], size, reseeds)
    follow(run, calls)
    return run


def follow(run, calls):
    """Collect the rows of all calls into the states of each picture, however they are spread over the calls."""
    rows = [
        (array(call.x)[i].reshape(-1), float(call.t[i]), call.c.numpy()[i], kind)
        for call in calls for i, kind in enumerate(classes(call.c.numpy()))
    ]  # fmt: skip
    seen = list(dict.fromkeys(int(kind) for *_, kind in rows if kind < 10))
    if sorted(seen) == sorted(run.labels):
        states = {kind: [] for kind in run.labels}
        for x, told, _, kind in rows:
            if kind < 10:
                if not states[kind] or not np.array_equal(states[kind][-1].x, x):
                    states[kind].append(State(x, told))
                states[kind][-1].asked += 1
        run.states = list(states.values())
    elif all(len(call.x) == len(run.labels) for call in calls):  # no condition tells the pictures apart: their order does
        run.states = [[] for _ in run.labels]
        for i, (x, told, _, kind) in enumerate(rows):
            states = run.states[i % len(run.labels)]
            if not states or not np.array_equal(states[-1].x, x):
                states.append(State(x, told))
            states[-1].asked += kind < 10
    else:  # … or their order among those of the same time
        by_time = {}
        for x, told, _, kind in rows:
            at = by_time.setdefault(round(told, 6), [])
            if not any(np.array_equal(state.x, x) for state in at):
                at.append(State(x, told))
            next(state for state in at if np.array_equal(state.x, x)).asked += kind < 10
        count = len(run.labels)
        run.states = [[at[b] for at in by_time.values() if len(at) == count] for b in range(count)]
    by_x = {}
    for states in run.states:
        for state in states:
            by_x.setdefault(state.x.tobytes(), []).append(state)
    for x, told, c, kind in rows:
        if kind == 10:
            at = by_x.get(x.tobytes(), [])
            state = next((each for each in at if each.null is None), at[0] if at else None)
            if state is None:
                run.stray.append((x, told, c))
            elif state.null is None or abs(state.null + 1).max() < abs(c + 1).max():
                state.null, state.null_x = c, x
    run.seen = seen


def judge_conditions(run, verdict):
    """Own condition and null condition, whole and with the same x, in the order asked for. One is enough where the other has no weight."""
    if any(not states for states in run.states):
        verdict.fault("condition", f"the pictures' steps cannot be told apart: conditions of the classes {run.seen} were shown, expected {list(run.labels)}.")
        return
    if run.seen and sorted(run.seen) != sorted(run.labels):
        verdict.fault("condition", f"the network sees conditions of the classes {run.seen}, expected {list(run.labels)}.")
        run.mixed = True
        return
    if run.omega != -1 and not run.seen:
        shown = next((state.null for states in run.states for state in states if state.null is not None), None)
        verdict.fault("condition", f"no picture is sampled with its condition: the network sees {None if shown is None else shown.tolist()} (omega = {run.omega:g}).")
        return
    nulls = [state.null for states in run.states for state in states if state.null is not None] + [c for _, _, c in run.stray]
    wrong = next((null for null in nulls if abs(null + 1).max() > 1e-6), None)
    if wrong is not None:
        mistakes = [
            ("the null condition is a row of zeros: training hides a condition with condition_mask_value = -1", not wrong.any()),
            ("the null condition is -1 only where the 1 was: the whole row is condition_mask_value", (wrong == -1).sum() == 1 and (wrong == 0).sum() == 9),
            ("the null condition has another value than condition_mask_value", np.ptp(wrong) < 1e-6),
        ]
        verdict.fault("condition", f"a row that the network sees is {wrong.tolist()}, neither one-hot nor all condition_mask_value = -1.",
                      next((words for words, fits in mistakes if fits), ""))  # fmt: skip
    if run.stray and run.seen:
        verdict.fault("condition", "the predictions with and without condition are made from different x: both see the same x_t.")
        run.mixed = True
        strays = iter(run.stray)
        for state in (state for column in zip(*run.states, strict=False) for state in column):
            if state.null is None and (stray := next(strays, None)):
                state.null_x, _, state.null = stray
    elif run.omega != 0 and not nulls:
        if min(state.asked for states in run.states for state in states) > 1:
            verdict.fault("condition", f"with omega = {run.omega:g} the network never sees the null condition, and each picture's own condition more than once.",
                          "the null condition is the picture's own condition: it is a row of condition_mask_value")  # fmt: skip
        else:
            verdict.fault("guidance", f"with omega = {run.omega:g} the network never sees the null condition: guidance needs both predictions.")


def judge_times(run, verdict):
    """Every step once, told T / T down to 1 / T; (t - 1) / (T - 1) is fine if training does the same."""
    T = run.settings["T"]
    t = np.arange(T, 0, -1)
    for states in run.states:
        told = np.array([state.told for state in states])
        same = lambda v, told=told: len(v) == len(told) and abs(told - v).max() < 1e-5 * max(1, abs(v).max())
        if same(t / T) or same((t - 1) / (T - 1)):
            continue
        mistakes = [
            ("the steps run upwards: they run from T down to 1", t[::-1] / T),
            ("the step t = 1 is left out", t[:-1] / T),
            ("the step t = T is left out", t[1:] / T),
            ("the steps t = T and t = 1 are left out", t[1:-1] / T),
            ("the step t = 0 is taken too: t = 1 is the last", np.append(t, 0) / T),
            ("the steps run from T - 1 to 0: they run from T down to 1", (t - 1) / T),
            ("the network is given t itself: divide by T", t),
            ("the network is given t - 1: divide t by T", t - 1),
            ("the time is one step late: t / T", (t + 1) / T),
            ("t is divided by T - 1", t / (T - 1)),
            ("t is divided by T + 1", t / (T + 1)),
            ("the time runs backwards: t / T", 1 - t / T),
            ("T is written into the code", t / 400),
            ("T is written into the code", t / 1000),
            ("every other step is skipped", t[::2] / T),
            ("T is written into the code", np.arange(400, 0, -1) / 400),
            ("T is written into the code", np.arange(400, 0, -1) / T),
            ("the network is always told the same time", np.full(T, told[0]) if len(told) else t),
            ("t / T is rounded to a whole number", t // T),
            ("the network is told t - 1 in place of t, as t / T of the step after", np.maximum(t - 1, 1) / T),
            ("T is written into the code", np.arange(len(told), 0, -1) / max(len(told), 1)),
        ]
        show = lambda v: f"{v[:3].round(4).tolist()} … {v[-3:].round(4).tolist()}"
        verdict.fault("time", f"the network is told {len(told)} times, {show(told)}; expected {T}, {show(t / T)}.",
                      next((words for words, gives in mistakes if same(np.asarray(gives, float))), ""))  # fmt: skip
        return


def line_up(run):
    """Whether the states make whole trajectories; puts them into arrays, with the time step of each."""
    if min(map(len, run.states), default=0) < 3 or len({len(states) for states in run.states}) > 1:
        return False
    run.t, run.other_t = time_steps(np.array([state.told for state in run.states[0]]), run.settings["T"])
    if run.t is not None and run.t[-1] < 1:  # a step beyond the end counts as a fault in time only
        run.beyond, keep = True, int((run.t >= 1).sum())
        run.t, run.states = run.t[:keep], [states[:keep] for states in run.states]
    run.X = np.array([[state.x for state in states] for states in run.states]).transpose(1, 0, 2)  # (steps, B, 784)
    with np.errstate(invalid="ignore", over="ignore"):
        sound = np.isfinite(run.X).all((1, 2)) & (abs(run.X).max((1, 2)) < 1e5)
    run.sound = int(sound.argmin()) if not sound.all() else len(run.X)
    P = array(predictor(run.size)(torch.zeros(11, 1, 28, 28), None, torch.cat([torch.eye(10), -torch.ones(1, 10)]))).reshape(11, PIXELS)
    of = [k if run.seen else 10 for k in run.labels]
    null_x = np.array([[state.x if state.null_x is None else state.null_x for state in states] for states in run.states]).transpose(1, 0, 2)
    run.has_null = any(state.null is not None for states in run.states for state in states)
    with np.errstate(invalid="ignore", over="ignore"):
        run.C = R * run.X + P[of][None]
        run.U = R * null_x + P[10][None, None] if run.has_null else None
    return run.t is not None and run.sound >= 3


def time_steps(told, T):
    """(time steps of the states, other possible ones), from the times that the network is told and their number.

    Each is None where it cannot be told.
    """
    count = len(told)
    if count == T:
        upwards = abs(told - np.arange(1, T + 1) / T).max() < 1e-5
        return np.arange(1, T + 1) if upwards else np.arange(T, 0, -1), None
    some = np.round(told * T).astype(int)  # of those of T steps
    some = some if (abs(told * T - some) < 1e-3).all() and (told[1:] < told[:-1]).all() else None
    all_of_another = np.arange(count, 0, -1) if abs(told - np.arange(count, 0, -1) / count).max() < 1e-5 else None
    return (all_of_another, some) if some is None else (some, all_of_another)


def designs(run):
    """The columns that a step may weigh: x_t, eps_cond - R x_t, eps_uncond - R x_t (as far as the network was asked), and 1.

    R x_t is subtracted so that the columns stay independent of x_t, however large that is.
    """
    columns = [run.X]
    columns += [run.C - R * run.X] if run.seen else []
    columns += [run.U - R * run.X] if run.has_null else []
    return np.nan_to_num(np.stack([*columns, np.ones_like(run.X)], -1))  # (steps, B, 784, columns)


@dataclass
class Weights:
    """How steps weigh the columns: value, by least squares, (steps, columns); precision (steps, columns - 1, columns - 1) for noise
    of size 1; rest, the residual plus the constant, (steps, B, 784); and its size (steps,)."""

    t: np.ndarray
    value: np.ndarray
    precision: np.ndarray
    rest: np.ndarray
    size: np.ndarray


def weigh(run, pictures=slice(None)):
    design = designs(run)[: run.sound, pictures]
    steps, k = len(design) - 1, design.shape[-1]
    now = design[:-1].reshape(steps, -1, k)
    then = run.X[1 : run.sound, pictures].reshape(steps, -1)
    gram = np.einsum("sni,snj->sij", now, now)
    inverse = np.linalg.pinv(gram, rcond=1e-12, hermitian=True)
    value = np.einsum("sij,snj,sn->si", inverse, now, then)
    rest = then - np.einsum("sni,si->sn", now[..., :-1], value[:, :-1])  # the constant stays in: noise shared by all pixels is noise
    precision = np.linalg.pinv(inverse[:, :-1, :-1], rcond=1e-12, hermitian=True)
    size = np.sqrt((rest**2).mean(1))
    return Weights(run.t[: run.sound][:-1], value, precision, rest.reshape(steps, -1, PIXELS), size)


@dataclass
class Step:
    """A hypothesis: x_{t-1} = A x_t - K (on_c eps_cond + on_u eps_uncond) + S z; tables over t."""

    words: str
    A: np.ndarray
    K: np.ndarray
    S: np.ndarray
    whole: bool = False  # whether one slip explains A, K and S together


def means(table):
    """The means that a step may have, the right one first."""
    beta, alpha, bar = table["beta_t"], table["alpha_t"], table["alpha_t_bar"]
    A, s, r = alpha**-0.5, beta**0.5, (1 - bar) ** 0.5
    k, before, one = beta / r, np.append(1.0, bar[:-1]), np.ones_like(beta)
    # by way of x_0 = (x - r eps) / sqrt(bar): x_{t-1} = from_0 x_0 + from_t x
    from_0, from_t = before**0.5 * beta / (1 - bar), alpha**0.5 * (1 - before) / (1 - bar)
    by_x_0 = lambda f, g: (f / bar**0.5 + g, f * r / bar**0.5)
    rows = [
        ("", A, A * k),
        ("x and eps are not divided by sqrt(alpha_t)", one, k),
        ("only x_t, not the noise taken from it, is divided by sqrt(alpha_t)", A, k),
        ("only the noise taken from x_t, not x_t itself, is divided by sqrt(alpha_t)", one, A * k),
        ("sqrt(alpha_t) multiplies: divide by it", 1 / A, k / A),
        ("the root is missing: divide by sqrt(alpha_t), not alpha_t", A**2, A**2 * k),
        ("alpha_bar stands in place of alpha_t in 1 / sqrt(alpha_t)", bar**-0.5, bar**-0.5 * k),
        ("sqrt(1 - beta_t) is taken for 1 / sqrt(alpha_t)", alpha**0.5, alpha**0.5 * k),
        ("the predicted noise is added: subtract it", A, -A * k),
        ("the predicted noise is not divided by sqrt(1 - alpha_bar)", A, A * beta),
        ("the predicted noise is multiplied by sqrt(1 - alpha_bar): divide by it", A, A * beta * r),
        ("the root is missing: beta_t / sqrt(1 - alpha_bar), not beta_t / (1 - alpha_bar)", A, A * beta / (1 - bar)),
        ("sqrt(beta_t) stands in place of beta_t in beta_t / sqrt(1 - alpha_bar)", A, A * s / r),
        ("sqrt(alpha_bar) stands in place of sqrt(1 - alpha_bar)", A, A * beta / bar**0.5),
        ("sqrt(alpha_t) stands in place of sqrt(1 - alpha_bar)", A, A * beta / alpha**0.5),
        ("sqrt(1 - alpha_t) stands in place of sqrt(1 - alpha_bar)", A, A * beta / s),
        ("1 - sqrt(alpha_bar) stands in place of sqrt(1 - alpha_bar)", A, A * beta / (1 - bar**0.5)),
        ("alpha_t stands in place of 1 - alpha_t", A, A * alpha / r),
        ("beta_t / sqrt(1 - alpha_bar_t) is read backwards", A, A * k[::-1]),
        ("1 - alpha_bar stands in place of 1 - alpha_t", A, A * r),
        ("1 - sqrt(alpha_t) stands in place of 1 - alpha_t", A, A * (1 - alpha**0.5) / r),
        ("the predicted noise is taken off whole, without a weight", A, A),
        ("1 / (1 - alpha_bar) is missing and sqrt(beta_t) weighs the predicted noise", A, A * s),
        ("the mean leaves out the predicted noise", A, 0 * k),
        ("the step goes to the predicted x_0 and not to x_{t-1}", *by_x_0(one, 0 * one)),
        ("the step is DDIM's, without noise of its own", (before / bar) ** 0.5, (before / bar) ** 0.5 * r - (1 - before) ** 0.5),
        ("the posterior's mean takes alpha_bar_t in place of alpha_bar_{t-1} at x_0", *by_x_0(bar**0.5 * beta / (1 - bar), from_t)),
        ("the posterior's mean takes alpha_bar_t in place of alpha_bar_{t-1} at x_t", *by_x_0(from_0, alpha**0.5)),
        ("the posterior's mean takes alpha_bar_t in place of alpha_bar_{t-1}", *by_x_0(bar**0.5 * beta / (1 - bar), alpha**0.5)),
        ("the posterior's two weights are swapped", *by_x_0(from_t, from_0)),
        ("the posterior's weight of x_t misses sqrt(alpha_t)", *by_x_0(from_0, from_t / alpha**0.5)),
        ("the posterior's weight of x_t takes alpha_t: its root is missing", *by_x_0(from_0, from_t * alpha**0.5)),
        ("the posterior's weight of x_0 takes alpha_bar_{t-1}: its root is missing", *by_x_0(from_0 * before**0.5, from_t)),
        ("the posterior's weight of x_0 misses the root of alpha_bar", *by_x_0(before * beta / (1 - bar), from_t)),
        ("x_0 = (x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar) misses its division", from_0 + from_t, from_0 * r),
        ("x_0 misses its root: (1 - alpha_bar) eps in place of sqrt(1 - alpha_bar) eps", from_0 / bar**0.5 + from_t, from_0 * (1 - bar) / bar**0.5),
        ("x_0 misses its root: it is divided by alpha_bar", from_0 / bar + from_t, from_0 * r / bar),
    ]
    return [Step(words, a, b, s) for words, a, b in rows]


def all_means(student, run):
    """The means for the right schedule, for one that is read at wrong places, and for the student's own if that differs."""
    settings = run.settings
    table = schedule(**settings)
    found = means(table)
    own = student.scheduler(settings)[1]
    if own and all(np.isfinite(own[name]).all() for name in own):
        with np.errstate(all="ignore"):
            mine = Step("", own["oneover_sqrt_alpha"], own["oneover_sqrt_alpha"] * own["beta_t"] / own["sqrt_oneminus_alpha_bar"], own["sqrt_beta_t"], True)
        if np.isfinite(mine.K).all():
            found.insert(1, mine)
    elsewhere = [
        ("the schedule is read one step late: step t takes beta_t and alpha_bar_t", moved(table, 1)),
        ("the schedule is read one step early: step t takes beta_t and alpha_bar_t", moved(table, -1)),
        ("the schedule is read backwards: step t takes beta_t and alpha_bar_t", {name: values[::-1] for name, values in table.items()}),
        ("every step takes the values of t = T", {name: np.full_like(values, values[-1]) for name, values in table.items()}),
        ("every step takes the values of t = 1", {name: np.full_like(values, values[0]) for name, values in table.items()}),
    ]
    if settings["T"] != DEFAULT["T"]:
        elsewhere.append(("beta_1 and beta_T are written into the code", schedule(DEFAULT["beta_1"], DEFAULT["beta_T"], settings["T"])))
        elsewhere.append(("beta_1, beta_T and T are written into the code",
                          {name: values[: settings["T"]] for name, values in schedule(**DEFAULT).items()}))  # fmt: skip
    late = {**table, "alpha_t_bar": moved(table, -1)["alpha_t_bar"]}
    found += [Step("alpha_bar_{t-1} stands in place of alpha_bar_t", means(late)[0].A, np.nan_to_num(means(late)[0].K, posinf=0), table["sqrt_beta_t"])]
    return found + [Step(words, *(getattr(means(other)[0], name) for name in "AKS"), True) for words, other in elsewhere]


def moved(table, by):
    index = np.clip(np.arange(len(table["beta_t"])) + by, 0, len(table["beta_t"]) - 1)
    return {name: values[index] for name, values in table.items()}


def guidances(w):
    """[(mistake, (weight of eps_cond, of eps_uncond))], the right one first."""
    return [
        ("", (1 + w, -w)),
        ("the two predictions are swapped: eps = (1 + omega) eps_cond - omega eps_uncond", (-w, 1 + w)),
        ("guidance has the other sign: eps = (1 + omega) eps_cond - omega eps_uncond", (1 - w, w)),
        ("omega weighs the condition: eps_u + omega (eps_c - eps_u) is guidance by omega - 1", (w, 1 - w)),
        ("the unconditional prediction is added, not subtracted", (1 + w, w)),
        ("1 + omega is left out: omega eps_cond - omega eps_uncond", (w, -w)),
        ("1 + omega is left out: eps_cond - omega eps_uncond", (1, -w)),
        ("omega is left out: (1 + omega) eps_cond - eps_uncond", (1 + w, -1)),
        ("omega weighs the unconditional prediction by 1 + omega: (1 + omega) (eps_cond - eps_uncond)", (1 + w, -1 - w)),
        ("1 + omega weighs the unconditional prediction, and omega the conditional one", (w, -1 - w)),
        ("omega is ignored: this is the conditional prediction alone", (1, 0)),
        ("omega is ignored: this is the unconditional prediction alone", (0, 1)),
        ("the unconditional prediction is left out: (1 + omega) eps_cond alone", (1 + w, 0)),
        ("the unconditional prediction is left out: omega eps_cond alone", (w, 0)),
        ("eps_uncond stands where eps_cond does: eps_u + omega (eps_c - eps_u) starts at eps_c", (w, 1 - w)),
        ("omega is counted twice: eps_c + 2 omega (eps_c - eps_u)", (1 + 2 * w, -2 * w)),
        ("one too much: eps_c + (1 + omega) (eps_c - eps_u) is guidance by omega + 1", (2 + w, -1 - w)),
        ("guidance is by 1 / omega", (1 + 1 / w, -1 / w) if w else (1, 0)),
        ("guidance is by omega squared", (1 + w * w, -w * w)),
        ("omega is halved", (1 + w / 2, -w / 2)),
        ("the two are averaged, not guided", (0.5, 0.5)),
        ("guidance is divided by 1 + omega: it is a mean that does not go further", (1 / (1 + w), w / (1 + w)) if w != -1 else (1, 0)),
        ("omega is ignored and taken from dmconfig", (3, -2)),
    ]


def judge_steps(student, run, verdict):
    """Which mean and which guidance the steps have. One slip is looked for first; then one in each."""
    w, seen = run.omega, weigh(run)
    times = verdict.faults.get("time", ())
    run.early = any("for a t outside" in fault.says for fault in times) and any(fault.mistake.startswith(FROM_BELOW) for fault in times)
    if run.other_t is not None:  # decided by the size of the noise
        sigma = schedule(**run.settings)["sqrt_beta_t"]
        off = lambda t: abs(np.log(np.maximum(seen.size, 1e-9) / sigma[t[: len(seen.size)] - 1])).mean()
        run.t = min(run.t, run.other_t, key=off)
        seen = weigh(run)
    if cut_off(run):
        verdict.fault("mean", "many pixels of an x_t have the same greatest value, as by chance no two have.",
                      CUT)  # fmt: skip
        return
    candidates = all_means(student, run)
    right = candidates[0]
    run.same = [step for step in candidates if not step.words]
    good = lambda step, on: explains(run, seen, step, on)
    first_guess = guidances(w)[0][1]
    repeated = next((step for step in candidates if not step.words and drawn_once(run, step, first_guess)), None)
    if repeated:
        run.found = (repeated, first_guess)
        verdict.fault("noise", "the noise of all steps is the same.", "it is drawn once, before the loop")
        return
    if any(fault.says == CROSSED for fault in verdict.faults.get("condition", ())):
        run.cut = True
        return
    if shared_by_pictures(seen) or shared_by_pixels(seen):
        seen = weigh(run, slice(0, 1))
    no_null = run.omega != 0 and not run.has_null
    on = (1.0, 0.0) if no_null else first_guess  # both of the predictions, or the one there is, come from the same condition
    known = {fault.mistake for fault in verdict.faults.get("guidance", ())}  # what another omega has shown already
    for words, other in guidances(w):
        if words in known and not good(right, on) and good(right, other):
            run.found = (right, other)
            return
    for step in candidates:
        if good(step, on):
            run.found = (step, on)
            if step.words and not (run.early and step.words.startswith(EARLY)):
                verdict.fault("mean", step_words(run, seen, right, on), step.words)
            return
    if cut_inside(run):
        run.cut = True
        verdict.fault("mean", step_words(run, seen, right, on), CUT)
        return
    if w in (0, -1) or no_null:
        words, other = min(guidances(w)[1:], key=lambda guess: misfit(run, seen, right, guess[1]))
        if good(right, other):
            run.found = (right, other)
            if not verdict.faults.get("guidance"):
                verdict.fault("guidance", guidance_words(run, other), words)
            return
    else:
        free = fitted(run, seen, right)
        if free is not None and good(right, free):
            run.found = (right, free)
            scale = free[0] / (1 + w)
            if abs(free[1] + scale * w) < 0.03 * max(1, abs(scale)):
                verdict.fault("mean", f"{step_words(run, seen, right, on)} The predicted noise weighs {scale:.3g} times what it should.",
                              "the predicted noise is added: subtract it" if abs(scale + 1) < 0.03 else "")  # fmt: skip
            else:
                near = [(words, other) for words, other in guidances(w) if words and good(right, other)]
                run.found = (right, near[0][1] if near else free)
                verdict.fault("guidance", guidance_words(run, free), near[0][0] if near else "")
            return
        for step in candidates:
            for words, other in guidances(w):
                if words and good(step, other):
                    run.found = (step, other)
                    verdict.fault("guidance", guidance_words(run, other), words)
                    if step.words:
                        verdict.fault("mean", step_words(run, seen, right, on), step.words)
                    return
        if crossed(run, right):
            verdict.fault("condition", CROSSED)
            run.cut = True
            return
        ratio(run, seen, verdict)
    verdict.fault("mean", step_words(run, seen, right, on))


def cut_inside(run):
    """Whether the steps are right, except that the mean or the x_0 in it is clamped before the noise is added."""
    w, count = run.omega, run.sound - 1
    if (w != -1 and not run.seen) or (w != 0 and not run.has_null):
        return False
    at = {name: values[run.t[:count] - 1][:, None, None] for name, values in schedule(**run.settings).items()}
    beta, alpha, bar = at["beta_t"], at["alpha_t"], at["alpha_t_bar"]
    x, then = run.X[:count], run.X[1 : run.sound]
    eps = (1 + w) * (run.C[:count] if w != -1 else 0) - w * (run.U[:count] if w != 0 else 0)
    mean, x_0 = (x - beta / (1 - bar) ** 0.5 * eps) / alpha**0.5, (x - (1 - bar) ** 0.5 * eps) / bar**0.5
    before = bar / alpha
    from_0, from_t = before**0.5 * beta / (1 - bar), alpha**0.5 * (1 - before) / (1 - bar)
    for low, high in ((-1, 1), (0, 1), (-MEAN / STD, (1 - MEAN) / STD)):
        for cut in (mean.clip(low, high), from_0 * x_0.clip(low, high) + from_t * x):
            size = ((then - cut) ** 2).mean((1, 2)) ** 0.5 / beta[:, 0, 0] ** 0.5
            if abs(size - 1).max() < 7 * (0.5 / x[0].size) ** 0.5:
                return True
    return False


def crossed(run, step):
    """Whether the steps are right, except that they take the predictions of other pictures."""
    t = run.t[: run.sound][:-1]
    count = run.X.shape[1]
    K, A = step.K[t - 1], step.A[t - 1]
    pool = np.concatenate([run.C, run.U], 1)[: run.sound - 1] if run.seen and run.has_null else None  # (steps, 2 B, 784)
    if pool is None or count < 2:
        return False
    size = schedule(**run.settings)["sqrt_beta_t"][t - 1]
    others = 0.0
    for b in range(count):
        then = (run.X[1 : run.sound, b] - A[:, None] * run.X[: run.sound - 1, b]) / size[:, None]
        columns = -K[:, None, None] * pool / size[:, None, None]
        gram = np.einsum("sip,sjp->ij", columns, columns)
        on = np.linalg.lstsq(gram, np.einsum("sip,sp->i", columns, then), rcond=1e-10)[0]
        rest = then - np.einsum("sip,i->sp", columns, on)
        if abs(rest.var() - 1) > 0.1:
            return False
        others = max(others, abs(np.delete(on, [b, count + b])).max())
    return others > 0.2


def weights_for(run, step, on, t):
    """The weights of the columns under a hypothesis, (steps, columns - 1)."""
    A, K = step.A[t - 1], step.K[t - 1]
    rows = [-K * on[0]] if run.seen else []
    rows += [-K * on[1]] if run.has_null else []
    return np.stack([A + R * sum(rows), *rows], 1)


def spread_of(run, seen):
    """The size of the noise for judging the weights; never 0, so that rounding does not count."""
    table = schedule(**run.settings)
    return np.maximum(seen.size, table["sqrt_beta_t"][seen.t - 1]) + 3e-7 * abs(run.X[: run.sound - 1]).max((1, 2))


def explains(run, seen, step, on):
    """Whether the steps' weights are those of the hypothesis, by chi square over all steps: a right one fails less than once in a million."""
    return misfit(run, seen, step, on) < np.inf


def misfit(run, seen, step, on):
    """Chi square of the hypothesis, infinite where it is ruled out."""
    want = weights_for(run, step, on, seen.t)
    off = seen.value[:, :-1] - want
    certain = seen.precision / spread_of(run, seen)[:, None, None] ** 2
    rounding = np.linalg.inv(float32_off(run, seen.t, want))
    q = np.einsum("si,sij,sj->s", off, rounding @ np.linalg.solve(certain + rounding, certain), off)
    fits = np.isfinite(q).all() and q.sum() < chi_square_bound(off.size) and q.max() < chi_square_bound(off.shape[1], 20)
    return q.sum() if fits else np.inf


def float32_off(run, t, want):
    """The covariance of the weights' errors where the schedule was made in float32: they are largest in 1 - alpha_bar near t = 1."""
    table = schedule(**run.settings)
    root = float32_error(table)["sqrt_oneminus_alpha_bar"] / table["sqrt_oneminus_alpha_bar"]
    least = abs(table["beta_t"] / table["sqrt_oneminus_alpha_bar"])[t - 1]
    off = (1e-5 + root[t - 1])[:, None] * np.maximum(abs(want), least[:, None])
    off[:, 0] = 1e-6
    mixed = np.eye(want.shape[1])
    mixed[0, 1:] = R
    return mixed @ (off[:, :, None] ** 2 * mixed.T)


def fitted(run, seen, step):
    """The weights of the two predictions that fit best under this mean, or None where one of them was never asked for."""
    if not (run.seen and run.has_null):
        return None
    K = step.K[seen.t - 1]
    weight = seen.precision / spread_of(run, seen)[:, None, None] ** 2
    off = seen.value[:, :-1] - weights_for(run, step, (0, 0), seen.t)
    columns = np.zeros((len(K), 3, 2))
    columns[:, 0] = -R * K[:, None]
    columns[:, 1, 0], columns[:, 2, 1] = -K, -K
    left = np.einsum("sia,sij,sjb->ab", columns, weight, columns)
    return tuple(np.linalg.solve(left, np.einsum("sia,sij,sj->a", columns, weight, off)))


def ratio(run, seen, verdict):
    """Whether the two predictions weigh as 1 + omega to -omega, however the steps scale them."""
    w, b, c = run.omega, seen.value[:, 1], seen.value[:, 2]
    error = np.linalg.pinv(seen.precision, hermitian=True) * spread_of(run, seen)[:, None, None] ** 2

    def fits(on):
        direction = np.array([0, on[1], -on[0]])
        off = seen.value[:, :-1] @ direction
        q = off**2 / (direction @ error @ direction + 1e-12)
        return q.sum() < chi_square_bound(len(q))

    if not fits((1 + w, -w)):
        words = next((words for words, on in guidances(w) if words and fits(on)), "")
        i = len(b) // 2
        verdict.fault("guidance", f"with omega = {w:g} the step from t = {seen.t[i]} takes {-b[i]:.3f} of eps_cond and {-c[i]:.3f} of eps_uncond; "
                      f"expected is a ratio of {1 + w:g} to {-w:g}.", words)  # fmt: skip


def guidance_words(run, on):
    w = run.omega
    return f"with omega = {w:g} the noise is {on[0]:.3g} eps_cond {on[1]:+.3g} eps_uncond; expected {1 + w:.3g} and {-w:+.3g}."


def step_words(run, seen, right, on):
    want = weights_for(run, right, on, seen.t)
    off = abs(seen.value[:, :-1] - want) / (1e-3 + abs(want))
    i = int(np.nanargmax(off.max(1)))
    plain = lambda row: [row[0] - R * sum(row[1:]), *row[1:]]
    names = ["x_t", *(["eps_cond"] if run.seen else []), *(["eps_uncond"] if run.has_null else [])]
    spell = lambda row: " ".join(f"{value:+.4f} {name}" for value, name in zip(row, names, strict=True))
    return (
        f"with omega = {run.omega:g} the step from t = {seen.t[i]} of {run.settings['T']} goes to {spell(plain(seen.value[i, :-1]))} beside its noise, "
        f"expected {spell(plain(want[i]))}."
    )


def cut_off(run):
    x = run.X[1 : run.sound]
    return bool(((x == x.max((1, 2), keepdims=True)).sum((1, 2)) > 3).mean() > 0.05)


def implied(run, step, on):
    """The noise of each step if the hypothesis holds, (steps, B, 784), not divided by its size."""
    t = run.t[: run.sound][:-1]
    design = designs(run)[: run.sound - 1, ..., :-1]
    return run.X[1 : run.sound] - np.einsum("sbni,si->sbn", design, weights_for(run, step, on, t))


def drawn_once(run, step, on):
    if len(weights_for(run, step, on, run.t[:2])[0]) != 1 + bool(run.seen) + run.has_null:
        return False
    t = run.t[: run.sound][:-1]
    z = implied(run, step, on)[:-1] / step.S[t - 1][:-1, None, None]
    spread = z.std()
    return bool(spread > 0.05 and (z - z.mean(0)).std() < 0.05 * spread)


def shared_by_pixels(seen):
    return bool((seen.rest.mean(2) ** 2).mean() * PIXELS > 30 * (seen.rest**2).mean())


def shared_by_pictures(seen):
    rest = seen.rest / np.maximum(seen.size, 1e-9)[:, None, None]
    return bool(seen.rest.shape[1] > 1 and (rest[:, 0] * rest[:, 1]).mean() > 0.3)


def sizes(student, run):
    """[(mistake, sigma_t over t)], the right one first."""
    table = schedule(**run.settings)
    beta, alpha, bar = table["beta_t"], table["alpha_t"], table["alpha_t_bar"]
    before = np.append(1.0, bar[:-1])
    s, one = beta**0.5, np.ones_like(beta)
    own = student.scheduler(run.settings)[1]
    mine = [("", own["sqrt_beta_t"])] if own else []
    return [("", s), *mine,
        ("the noise is not scaled by sigma_t = sqrt(beta_t)", one),
        ("sigma_t is beta_t: its root is missing", beta),
        ("sigma_t is the root of the posterior variance: here it is sqrt(beta_t)", (beta * (1 - before) / (1 - bar)) ** 0.5),
        ("sigma_t is the posterior variance: here it is sqrt(beta_t)", beta * (1 - before) / (1 - bar)),
        ("sigma_t is sqrt(1 - alpha_bar): it is sqrt(beta_t)", (1 - bar) ** 0.5),
        ("sigma_t is sqrt(1 - alpha_bar_{t-1}): it is sqrt(beta_t)", (1 - before) ** 0.5),
        ("sigma_t is sqrt(alpha_t): it is sqrt(beta_t)", alpha**0.5),
        ("sigma_t is sqrt(alpha_bar_t): it is sqrt(beta_t)", bar**0.5),
        ("sigma_t is alpha_t: it is sqrt(beta_t)", alpha),
        ("no noise is added between the steps: only the last step adds none", 0 * s),
        ("the step t = 2 adds no noise: only t = 1, the last, adds none", np.where(np.arange(1, len(s) + 1) == 2, 0, s)),
        ("the noise is divided by sqrt(alpha_t) too: add it after that", alpha**-0.5 * s),
        ("the noise is halved", s / 2),
        ("the noise is doubled", 2 * s),
        ("sigma_t is that of the step before: it is sqrt(beta_t)", np.append(s[1:], s[-1])),
        ("sigma_t is that of the step after: it is sqrt(beta_t)", np.append(s[:1], s[:-1])),
        ("sigma_t is beta_t to the power 1/4: the root is taken twice", s**0.5),
        ("sigma_t is read backwards", s[::-1]),
        ("every step takes the sigma of t = 1", np.full_like(s, s[0])),
        ("every step takes the sigma of t = T", np.full_like(s, s[-1])),
        *([("beta_1 and beta_T are written into the code", schedule(DEFAULT["beta_1"], DEFAULT["beta_T"], run.settings["T"])["sqrt_beta_t"])]
          if run.settings["T"] != DEFAULT["T"] else []),
    ]  # fmt: skip


def judge_noise(student, run, verdict):
    """x_T and the noise of each step are standard normal, new for every step, picture and pixel; 6 sigma each way."""
    if "noise" in verdict.faults and any(fault.mistake for fault in verdict.faults["noise"]):
        return
    x_T = run.X[0]
    known = judge_distribution(verdict, x_T[None], "x_T", 1.0)
    if cut_off(run) or run.cut or run.early or run.found is None and "mean" in verdict.faults or run.t[0] < run.t[-1]:
        return  # then the noise cannot be told from the step
    seen = weigh(run)
    z = implied(run, *run.found) if run.found else seen.rest
    size = np.sqrt((z**2).mean((1, 2)))
    count = PIXELS if shared_by_pictures(seen) else z[0].size
    fits = lambda s: (abs(size**2 - s**2) < 1e-9 + 7 * s**2 * (2 / count) ** 0.5).all() and (
        (((size / np.maximum(s, 1e-12)) ** 2 - 1) ** 2).sum() * count / 2 < chi_square_bound(len(size)) if s.all() else True
    )
    step = run.found[0] if run.found else None
    table = sizes(student, run)
    sigma = table[0][1][seen.t - 1]
    run.silent_first = size[0] < 0.05 * sigma[0] and seen.t[0] == run.settings["T"] and size[1:].min() > 1e-6
    if run.early:
        z, size, seen.t = z[:-1], size[:-1], seen.t[:-1]
    if run.silent_first:  # judge_first reports it, with the last step
        z, size, seen.t = z[1:], size[1:], seen.t[1:]
    if known:  # if x_T is wrong, so is the size
        if not (fits(table[0][1][seen.t - 1]) or step is not None and step.whole and fits(step.S[seen.t - 1]) or len(table[1][0]) == 0 and fits(table[1][1][seen.t - 1])):
            words = next((words for words, s in table if words and fits(s[seen.t - 1])), None)
            unit = z / np.maximum(size, 1e-12)[:, None, None]
            if words is None and not judge_distribution(verdict, unit, "the noise of the steps", None, seen.t, z / table[0][1][seen.t - 1][:, None, None]):
                return
            right = table[0][1][seen.t - 1]
            i = int(abs(size / right - 1).argmax())
            verdict.fault("noise", f"the step from t = {seen.t[i]} of {run.settings['T']} adds noise of size {size[i]:.4f}, expected {right[i]:.4f}.", words or "")
            if words:
                return
    if size.min() > 1e-6:
        judge_distribution(verdict, z / size[:, None, None], "the noise of the steps", None, seen.t)


def judge_distribution(verdict, z, where, variance, t=None, raw=None):
    """Whether z (steps, B, 784) is standard normal and independent. variance: expected; None: z is scaled to 1. raw: z before that."""
    n, means = z.size, z.mean(2)
    level = (means**2).mean() * PIXELS                                # 1 where a picture's pixels are independent
    pairs = [(z[:, i] * z[:, j]).mean() for i in range(z.shape[1]) for j in range(i)]
    shared = max(map(abs, pairs), default=0) * (len(z) * PIXELS) ** 0.5  # in sigmas
    along = abs((z[1:] * z[:-1]).mean()) * z[1:].size ** 0.5 if len(z) > 1 else 0
    as_drawn = z if raw is None else raw
    mistakes = [
        ("the noise is uniform in 0 … 1 (torch.rand): it is torch.randn", 0.25 < as_drawn.mean() < 0.6 and as_drawn.var() < 0.2 and z.min() > -0.1),
        ("all pixels of a picture share one random number", level > 30),
        ("all pictures share one noise", max(pairs, default=0) > 0.9),
        ("the noise is uniform in -1 … 1: it is torch.randn", abs(as_drawn.mean()) < 0.05 and 0.25 < as_drawn.var() < 0.4),
        ("it is zero", abs(z).max() < 1e-3),
        ("it is drawn once, before the loop", (z[1:] * z[:-1]).mean() > 0.9 if len(z) > 1 else False),
        ("the same noise is used in several steps", along > 6),
    ]
    fine = abs(z.mean()) < 6 / n**0.5 and (variance is None or abs(z.var() - variance) < 6 * (2 / n) ** 0.5)
    fine = fine and abs((z**4).mean() / max((z**2).mean(), 1e-12) ** 2 - 3) < 8 * (24 / n) ** 0.5 + 0.01 * (variance is None)
    fine = fine and abs(level - 1) < max(10 if means.size < 100 else 6, 6) * (2 / means.size) ** 0.5 and shared < 6.5 and along < 6
    if not fine:
        verdict.fault("noise", f"{where} has mean {z.mean():.3f} and variance {z.var():.3f}" + (
            ", expected standard normal, independent numbers." if variance is not None else " when scaled to 1, and is not made of independent normal numbers."
        ), next((words for words, fits in mistakes if fits), ""))  # fmt: skip
    return fine


def judge_first(verdict):
    """The step from t = T adds no noise: a fault of "last" if the last step adds noise, else of "noise"."""
    if "last" in verdict.faults:
        verdict.faults["last"] = [Fault(fault.says) for fault in verdict.faults["last"]]
        verdict.fault("last", "the step from t = T adds no noise.", "z = 0 at t = T: that is the first step, and the last is t = 1")
    else:
        verdict.fault("noise", "the step from t = T adds no noise.")


def judge_images(run, verdict):
    """The last step and the way back to pixels, judged exactly, from the x_1 that the network saw."""
    images = run.images
    wanted = (len(run.labels), 1, 28, 28)
    if not torch.is_tensor(images) or tuple(images.shape) != wanted:
        got = f"{tuple(images.shape)}" if torch.is_tensor(images) else type(images).__name__
        verdict.fault("image", f"sample returned {got}, expected a tensor {wanted}.")
        return
    if images.requires_grad:
        verdict.note("the pictures that sample returns have a graph, which fills the memory: put it under torch.no_grad().")
    got = array(images).reshape(len(run.labels), PIXELS)
    if not np.isfinite(got).all():
        verdict.fault("image" if "mean" not in verdict.faults else "mean", f"sample returned {(~np.isfinite(got)).sum()} values that are not finite.")
        return
    if run.mixed or run.X is None or run.t is None or run.sound < len(run.X) or run.beyond:
        if got.min() < 0 or got.max() > 1:
            verdict.fault("image", f"images reach from {got.min():.3f} to {got.max():.3f}, expected 0 to 1.", range_words(got))
        return
    step, on = run.found or (None, None)
    if run.early:
        return
    if step is None or run.t[-1] != 1:
        judge_end_unknown(run, got, verdict)
        return
    design = designs(run)[-1, ..., :-1]
    x_0 = design @ weights_for(run, step, on, run.t[-1:])[0]
    show = lambda x: (x * STD + MEAN).clip(0, 1)
    x_1, noise = run.X[-1], step.S[0]
    near = lambda values: abs(got - values).max() < 2e-4 + 2e-5 * abs(x_1).max()
    if run.size == LOUD:
        return  # nearly all pixels are 0 or 1 there
    if near(show(x_0)) or any(near(show(design @ weights_for(run, other, on, run.t[-1:])[0])) for other in run.same):
        return
    order = next((o for o in orders(len(got)) if near(show(x_0)[o])), None)
    if order:
        verdict.fault("condition", f"the pictures leave in another order than the labels: {[run.labels[i] for i in order]} for {list(run.labels)}.")
        return
    for words, shown in [*ways_back(), *twice()]:
        if words and near(shown(x_0)):
            verdict.fault("image", f"images reach from {got.min():.3f} to {got.max():.3f}; x_0 reaches from {x_0.min():.3f} to {x_0.max():.3f}.", words)
            return
    lasts = [
        ("the last step is left out: t = 1 is taken too", x_1),
        ("the last step returns the mean without the predicted noise", step.A[0] * x_1),
        ("the last step is not divided by sqrt(alpha_1)", x_0 / step.A[0]),
    ]
    for words, shown in ways_back():
        for other, x in lasts:
            if near(shown(x)):
                verdict.fault("last", "the pictures are not what the step from t = 1 gives.", other)
                if words:
                    verdict.fault("image", f"images reach from {got.min():.3f} to {got.max():.3f}.", words)
                return
        inside = (got > 0.01) & (got < 0.99) if "clamp" not in words else np.ones_like(got, bool)
        rest = (got - shown(x_0))[inside]
        slope = {True: STD, False: None}[not words]
        if slope and inside.sum() > 50 and 0.5 < rest.std() / (STD * noise) < 1.6 and abs(rest.mean()) < 0.3 * STD * noise + 1e-4:
            verdict.fault("last", f"the result is off by noise of standard deviation {rest.std() / STD:.4f}, which is sigma_1 = {noise:.4f}.",
                          "the last step, t = 1, adds noise; z = 0 there")  # fmt: skip
            return
    if got.min() < 0 or got.max() > 1:
        verdict.fault("image", f"images reach from {got.min():.3f} to {got.max():.3f}, expected 0 to 1.", range_words(got))
        return
    if not judge_end_unknown(run, got, verdict):
        verdict.fault("last", f"the pictures are up to {abs(got - show(x_0)).max():.3f} off what the step from their x_1 gives.")


def judge_end_unknown(run, got, verdict):
    """If the step is not known: pixels strictly inside [0, 1] must be a weighted sum of the columns and 0.1307, without noise.

    Returns whether a fault was found."""
    if got.min() < -1e-6 or got.max() > 1 + 1e-6:
        verdict.fault("image", f"images reach from {got.min():.3f} to {got.max():.3f}, expected 0 to 1.", range_words(got))
        return True
    inside = (got > 1e-4) & (got < 1 - 1e-4)
    design = designs(run)[-1][inside]
    if len(design) < 50 or cut_off(run) or run.cut or run.t[-1] != 1 or run.size == LOUD:
        return False
    weights, *_ = np.linalg.lstsq(design, got[inside], rcond=None)
    rest = (got[inside] - design @ weights).std()
    if rest > 0.3 * STD * schedule(**run.settings)["sqrt_beta_t"][0]:
        verdict.fault("last", f"the pictures hold noise of size {rest / STD:.4f} that is in none of x_1 and the predictions.", "the last step, t = 1, adds noise; z = 0 there")
        return True
    if abs(weights[-1] - MEAN) > 0.01:
        verdict.fault("image", f"x = 0 comes out as {weights[-1]:.4f}, expected {MEAN}.")
        return True
    return False


def range_words(got):
    if got.max() > 50:
        return "they are multiplied by 255"
    return "the result is not clamped to [0, 1]: .clamp(0, 1)"


def ways_back():
    """[(mistake, how it shows x_0)], the right one first."""
    return [
        ("", lambda x: (x * STD + MEAN).clip(0, 1)),
        ("the result is not clamped to [0, 1]: .clamp(0, 1)", lambda x: x * STD + MEAN),
        ("the result is not scaled back by x * 0.3081 + 0.1307", lambda x: x.clip(0, 1)),
        ("the result is neither scaled back nor clamped", lambda x: x),
        ("0.1307 and 0.3081 are swapped: x * 0.3081 + 0.1307", lambda x: (x * MEAN + STD).clip(0, 1)),
        ("the result is normalised once more: scale it back by x * 0.3081 + 0.1307", lambda x: ((x - MEAN) / STD).clip(0, 1)),
        ("the result is scaled back by (x + 0.1307) * 0.3081: it is x * 0.3081 + 0.1307", lambda x: ((x + MEAN) * STD).clip(0, 1)),
        ("the result is scaled back by (x - 0.1307) * 0.3081: it is x * 0.3081 + 0.1307", lambda x: ((x - MEAN) * STD).clip(0, 1)),
        ("the result is divided by 0.3081: it is x * 0.3081 + 0.1307", lambda x: (x / STD + MEAN).clip(0, 1)),
        ("the mean is subtracted: x * 0.3081 + 0.1307", lambda x: (x * STD - MEAN).clip(0, 1)),
        ("the mean is not added: x * 0.3081 + 0.1307", lambda x: (x * STD).clip(0, 1)),
        ("the mean alone is added: x * 0.3081 + 0.1307", lambda x: (x + MEAN).clip(0, 1)),
        ("the result is scaled back twice", lambda x: ((x * STD + MEAN).clip(0, 1) * STD + MEAN).clip(0, 1)),
        ("it is clamped before it is scaled back", lambda x: x.clip(0, 1) * STD + MEAN),
        ("it is clamped to [-1, 1] before it is scaled back", lambda x: x.clip(-1, 1) * STD + MEAN),
        ("it is clamped to [-1, 1]: pixels lie in [0, 1]", lambda x: (x * STD + MEAN).clip(-1, 1)),
        ("the result is (x + 1) / 2", lambda x: ((x + 1) / 2).clip(0, 1)),
        ("the result is clamped to [-1, 1] and then (x + 1) / 2", lambda x: (x.clip(-1, 1) + 1) / 2),
        ("the result is x / 2 + 0.5 without the course's mean and spread", lambda x: x / 2 + 0.5),
        ("it is multiplied by 255: pixels lie in [0, 1]", lambda x: (x * STD + MEAN).clip(0, 1) * 255),
        ("only values above 1 are cut off, not those below 0", lambda x: (x * STD + MEAN).clip(None, 1)),
        ("only values below 0 are cut off, not those above 1", lambda x: (x * STD + MEAN).clip(0, None)),
        ("the result is squashed by a sigmoid: x * 0.3081 + 0.1307, clamped", lambda x: 1 / (1 + np.exp(-x))),
        ("each batch is stretched to 0 … 1: x * 0.3081 + 0.1307", lambda x: (x - x.min()) / np.ptp(x)),
        ("each picture is stretched to 0 … 1: x * 0.3081 + 0.1307",
         lambda x: (x - x.min(1, keepdims=True)) / np.ptp(x, axis=1)[:, None]),
    ]  # fmt: skip


def twice():
    """The same where the given line goes on with what the student has made of x already."""
    given = lambda x: (x * STD + MEAN).clip(0, 1)
    ways = [
        ("the result is scaled back twice: the line below does it", lambda x: x * STD + MEAN),
        ("it is clamped to [-1, 1] before it is scaled back", lambda x: x.clip(-1, 1)),
        ("it is (x + 1) / 2 before it is scaled back: x is still normalised there", lambda x: (x + 1) / 2),
        ("it is clamped to [-1, 1] and (x + 1) / 2 before it is scaled back", lambda x: (x.clip(-1, 1) + 1) / 2),
        ("it is stretched to 0 … 1 before it is scaled back", lambda x: (x - x.min()) / np.ptp(x)),
    ]
    return [(words, lambda x, make=make: given(make(x))) for words, make in ways]


def orders(count):
    return [list(order) for order in permutations(range(count)) if list(order) != list(range(count))]


def judge_many(student, verdict):
    """The pictures of a large batch come back in the order of their labels: each shows its class's pattern."""
    if not verdict.faults.keys().isdisjoint(("condition", "image", "guidance")):
        return
    labels = torch.arange(70) * 7 % 10
    call = lambda process, conditions: process.sample(conditions, 0.0)
    try:
        _, (images, _), _ = student.run(dict(OTHER, T=40), predictor(LOUD), labels, call)
    except Exception as error:
        if not hasattr(error, "where"):
            raise
        if is_outside(error):  # which is reported already
            return
        verdict.fault("condition", stops("with 70 pictures sample", error))
        return
    if not torch.is_tensor(images) or tuple(images.shape) != (70, 1, 28, 28):
        got = tuple(images.shape) if torch.is_tensor(images) else type(images).__name__
        verdict.fault("image", f"for 70 conditions sample returned {got}, expected (70, 1, 28, 28).")
        return
    patterns = predictor(LOUD)(torch.zeros(10, 1, 28, 28), None, torch.eye(10)).reshape(10, PIXELS)
    shown = np.corrcoef(-array(patterns), array(images).reshape(70, PIXELS))[:10, 10:].argmax(0)  # minus: the noise is subtracted
    if "mean" not in verdict.faults and (wrong := np.flatnonzero(shown != labels.numpy())).size:
        verdict.fault("condition", f"of 70 pictures {wrong.size} are not of the class asked for: picture {wrong[0]} is a {shown[wrong[0]]} and not "
                      f"a {labels[wrong[0]]}.", "the parts of a large batch leave in another order than they came")  # fmt: skip


def judge_twins(student, verdict):
    """Two pictures of one class have noise of their own. What the network adds for the class is the same and cancels."""
    if "noise" in verdict.faults:
        return
    try:
        run = observe(student, dict(OTHER, T=40), 0.0, (4, 4), Verdict(PROPERTIES, SEE))
    except Exception as error:
        if not hasattr(error, "where"):
            raise
        return
    if run is None or not run.states or not line_up(run) or run.sound < len(run.X):
        return
    apart = run.X[:, 0] - run.X[:, 1]
    follows = (apart[1:] * apart[:-1]).sum(1) / np.maximum((apart[:-1] ** 2).sum(1), 1e-12)
    own = (apart[1:] - follows[:, None] * apart[:-1]).std(1)
    if (own < 0.3 * schedule(**run.settings)["sqrt_beta_t"][run.t[:-1] - 1]).all():
        verdict.fault("noise", "two pictures of one class go through the same noise.", "all pictures of a class share one noise")


def judge_seeds(student, verdict):
    """Two calls draw different noise, unless from a generator of the student's own."""
    short = dict(OTHER, T=40)
    quiet = Verdict(PROPERTIES, SEE)
    one, two = (observe(student, short, 0.0, (1, 6), quiet, seed=seed) for seed in (11, 12))
    if one and two and one.states and two.states and one.states[0] and two.states[0] and np.array_equal(one.states[0][0].x, two.states[0][0].x):
        if len(one.states[0]) > 1 and one.states[0][0].x.any():
            if one.reseeds:
                verdict.fault("noise", "two calls of sample start from the same noise: set no seed inside sample.")
            else:
                verdict.note("two calls of sample draw the same pictures, from a generator that is seeded inside it.")


def judge_time_of_training(student, verdict):
    """sample and forward count time alike."""
    if "time" in verdict.faults:
        return
    try:
        run = observe_forward(student, FEW_STEPS, 300, Verdict({"loss": (0, ""), "time": (0, ""), "x_t": (0, "")}, ""))
        mine = observe(student, dict(OTHER, T=40), 0.0, (1, 6), Verdict(PROPERTIES, SEE))
    except Exception as error:  # its own section says why
        if getattr(error, "final", False):
            raise
        return
    if run is None or mine is None or not mine.states or not mine.states[0]:
        return
    T, told = FEW_STEPS["T"], np.unique(run.told.round(5))
    t = np.arange(1, T + 1)
    forms = {"t / T": t / T, "(t - 1) / (T - 1)": (t - 1) / (T - 1)}
    there = next((words for words, times in forms.items() if len(told) == T and abs(told - times).max() < 1e-4), None)
    here = "(t - 1) / (T - 1)" if abs(mine.states[0][-1].told) < 1e-6 else "t / T"
    if there not in (None, here):
        verdict.fault("time", f"sample tells the network {here}, training {there}: use one of them in both.")


def add_notes(student, verdict):
    """Notes on right solutions; they cost no points."""
    other = observe(student, dict(OTHER, T=40, condition_mask_value=-2), 0.7, (1, 6), Verdict(PROPERTIES, SEE))
    if other and any(state.null is not None and (state.null == -1).all() for states in other.states for state in states):
        verdict.note("sample fills the null condition with a literal -1; dmconfig.condition_mask_value says with what.")
    if other and other.states and other.states[0] and abs(other.states[0][-1].told) < 1e-6:
        verdict.note("sample tells the network the time as (t - 1) / (T - 1), as forward does; the course's samplers and weights take t / T.")
