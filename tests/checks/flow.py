"""3. Flow matching: ConditionalFM.forward and .sample, on networks that are known."""

import numpy as np
import torch

from checks.forward import judge_conditions, judge_error
from checks.forward import observe as observe_forward
from checks.sample import observe as observe_sample
from checks.sample import predictor
from checks.student import is_unwritten, stops
from checks.truth import MEAN, STD, array
from checks.verdict import first

SEE = "See explorations/flow_matching.ipynb."
PROPERTIES = {
    "x_t": (1, "x_t = (1 - t) noise + t image, with a t for each picture, uniform in [0, 1], that the network is told"),
    "loss": (1, "the loss is the mean squared error between the prediction and the velocity image - noise"),
    "condition": (1, "conditions are hidden as whole rows, each with probability mask_p"),
    "steps": (1, "sample takes Euler's steps x + v dt from standard normal noise at t = 0 to t = 1, and returns pixels"),
    "guidance": (1, "v = (1 + omega) v_cond - omega v_uncond, both at the same x_t and t"),
}
FEW_STEPS = dict(T=20, mask_p=0.3, num_feat=16, precision="float32")
OTHER = dict(T=8, num_feat=16, precision="float32")
QUIET = 0.5  # size of the known velocities
RUNS = [(FEW_STEPS, 2.0, (7, 2, 9)), (OTHER, 0.7, (3, 0, 8, 5)), (OTHER, 0.0, (1, 6, 4)), (OTHER, -1.0, (1, 6, 4))]
ROUNDING = 3e-4


def examine(student, verdict):
    student.scheduled, unwritten = False, []
    for method, look, keys in (("forward", examine_training, ("x_t", "loss", "condition")), ("sample", examine_sampling, ("steps", "guidance"))):
        try:
            look(student, verdict)
        except Exception as error:
            if not hasattr(error, "where"):  # the checks' own
                raise
            unwritten += [error] if is_unwritten(error) else []
            for key in keys:
                verdict.fault(key, f"{method} is not written yet." if is_unwritten(error) else stops(method, error))
    if len(unwritten) == 2:
        raise unwritten[0]


# ---- training


def examine_training(student, verdict):
    runs = [observe_forward(student, FEW_STEPS, 1500, verdict, seed=number) for number in range(2)]
    if not all(runs):
        for key in ("x_t", "loss", "condition"):
            verdict.fault(key, next(iter(verdict.faults["loss"])).says)
        return
    for run in runs:
        judge_error(run, verdict, "the squared error is asked for")
        if run.target is not None:
            judge_path(run, verdict)
    judge_times(runs, verdict)
    judge_conditions(student, runs, verdict)


def judge_path(run, verdict):
    """From the target u that the prediction is compared with: which noise it holds, and how x_t is made of that and the image."""
    x_0, u, t = run.x_0, run.target, run.told[:, None]
    targets = [
        ("", x_0 - u),
        ("the velocity points from the image to the noise: it is image - noise", x_0 + u),
        ("the target is the noise, as a DDPM's is: here it is image - noise", u),
        ("the target is the image: here it is image - noise", (run.x_t - t * x_0) / np.maximum(1 - t, 1e-6) if abs(u - x_0).max() < 1e-3 else u + 1e3),
    ]
    paths = [
        ("", 1 - t, t),
        ("time runs backwards: t = 0 is noise, t = 1 the image, so x_t = (1 - t) noise + t image", t, 1 - t),
        ("the mixture has the roots of a DDPM: the path is straight, (1 - t) noise + t image", (1 - t).clip(0) ** 0.5, t.clip(0) ** 0.5),
        ("the mixture has the roots of a DDPM, and time runs backwards", t.clip(0) ** 0.5, (1 - t).clip(0) ** 0.5),
        ("t is told as an index: the network is told t in [0, 1]", 1 - t / run.settings["T"], t / run.settings["T"]),
        ("t is told as an index, and time runs backwards", t / run.settings["T"], 1 - t / run.settings["T"]),
        ("the network is shown the clean image", 0 * t, 1 + 0 * t),
        ("the network is shown noise alone", 1 + 0 * t, 0 * t),
        ("the image is not scaled by t", 1 - t, 1 + 0 * t),
        ("the noise is not scaled by 1 - t", 1 + 0 * t, t),
    ]
    for wrong_target, noise in targets:
        for wrong_path, b, a in paths:
            if abs(run.x_t - b * noise - a * x_0).max() < 1e-3:
                if wrong_target:
                    verdict.fault("loss", "what the prediction is compared with is not image - noise.", wrong_target)
                if wrong_path:
                    verdict.fault("x_t", f"x_t of the first picture, told t = {run.told[0]:.4f}, is {a[0, 0]:.4f} image + {b[0, 0]:.4f} noise.", wrong_path)
                run.noise = noise if a.any() and b.any() else None
                judge_noise(run, verdict)
                return
    own = mixed(run)
    if own is None:
        verdict.fault("loss", "what the prediction is compared with and x_t do not hold the same noise: draw it once, mix it into x_t, and compare "
                      "the prediction with image - that noise.")  # fmt: skip
    else:
        a, b = own
        shuffled = abs(np.sort(a) - np.sort(run.told)).max() < 1e-3 and abs(a + b - 1).max() < 1e-3
        verdict.fault("x_t", f"x_t of the first picture, told t = {run.told[0]:.4f}, is {a[0]:.4f} image + {b[0]:.4f} noise; "
                      f"expected {run.told[0]:.4f} and {1 - run.told[0]:.4f}.",
                      "the times are in another order than the pictures" if shuffled else "")  # fmt: skip


def mixed(run):
    """(a, b), (n,) each: x_t = a image + b noise, the noise being image - target; None where it is not made of the two."""
    noise, weights = run.x_0 - run.target, []
    for x_t, image, other in zip(run.x_t, run.x_0, noise):
        found, rest, *_ = np.linalg.lstsq(np.stack([image, other], 1), x_t, rcond=None)
        if len(rest) and rest[0] > 1e-6 * len(x_t) * max(1, abs(x_t).max()) ** 2:
            return None
        weights.append(found)
    return np.array(weights).T


def judge_noise(run, verdict):
    """The noise is standard normal, each pixel's own: within 6 sigma."""
    if run.noise is None:
        return
    noise, bound = run.noise, 6 / run.noise.size**0.5
    shared = (noise.mean(0) ** 2).mean() * len(noise)  # 1 where each picture has its own
    fine = abs(noise.mean()) < bound and abs(noise.var() - 1) < 2**0.5 * bound and abs((noise**4).mean() - 3) < 96**0.5 * bound
    if not fine or abs(shared - 1) > 6 * (2 / noise.shape[1]) ** 0.5:
        mistakes = [
            ("the noise is uniform (torch.rand): it is to be torch.randn", noise.min() > -1e-3 and noise.max() < 1.001),
            ("all pictures of the batch share one noise: draw it in the shape of the images", shared > 6),
        ]
        verdict.fault("x_t", f"the noise is not standard normal and independent: mean {noise.mean():.3f}, variance {noise.var():.3f}.",
                      next((words for words, fits in mistakes if fits), ""))  # fmt: skip


def judge_times(runs, verdict):
    """t is each picture's own and uniform in [0, 1], by the largest distance of its distribution function (Massart 1990: 1 in a million)."""
    told = np.concatenate([run.told for run in runs])
    if "x_t" in verdict.faults:
        return
    n, T = len(told), runs[0].settings["T"]
    ranks = np.arange(1, n + 1) / n
    far = max(abs(np.sort(told) - ranks).max(), abs(np.sort(told) - ranks + 1 / n).max())
    grid = abs(told * T - np.round(told * T)).max() < 1e-4  # whole steps / T, from 0 or from 1
    if far < (np.log(2e6) / (2 * n)) ** 0.5 + grid / T:
        if grid:
            verdict.note("forward draws t from the T steps of sample alone; flow matching draws it uniformly in [0, 1].")
        return
    mistakes = [
        ("one t is drawn for the whole batch: draw one for each picture, torch.rand(B, 1, 1, 1)", len(set(told)) <= len(runs)),
        ("t is drawn from a normal distribution (torch.randn): it is uniform, torch.rand", told.min() < 0),
        ("t is told as an index: the network is told t in [0, 1]", told.max() > 1.5),
    ]
    verdict.fault("x_t", f"t lies in {told.min():.3f} to {told.max():.3f} with mean {told.mean():.3f}; it is to be uniform in [0, 1].",
                  next((words for words, fits in mistakes if fits), ""))  # fmt: skip


# ---- sampling


def examine_sampling(student, verdict):
    for number, (settings, omega, labels) in enumerate(RUNS):
        run = observe_sample(student, settings, omega, labels, _Renamed(verdict), first=not number, size=QUIET)
        if run is None or not all(run.states):
            verdict.fault("steps", "sample never shows the network each picture's steps.")
            continue
        judge_walk(run, verdict)
    judge_start(student, verdict)


class _Renamed:
    """A verdict whose faults on how a network is asked are faults of the steps."""

    def __init__(self, verdict):
        self.verdict = verdict
        self.note = verdict.note

    def fault(self, key, *words):
        self.verdict.fault(key if key == "guidance" else "steps", *words)

    def fault_rest(self, words):
        for key in ("steps", "guidance"):
            self.verdict.fault(key, words)


def judge_walk(run, verdict):
    """Each picture's steps: when, how far along the two known velocities, and where the last one ends."""
    T, omega, velocity = run.settings["T"], run.omega, predictor(run.size)
    for b, states in enumerate(run.states):
        told = np.array([state.told for state in states])
        if not judge_told(told, T, verdict):
            return
        x = np.array([state.x for state in states])
        kind = np.zeros((1, 10)) - 1
        ask = lambda x, c: array(velocity(torch.tensor(x).float().view(-1, 1, 28, 28), None, torch.tensor(np.repeat(c, len(x), 0)))).reshape(len(x), -1)
        v_c = ask(x, np.eye(10)[[run.labels[b]]])
        v_u = ask(x, kind)
        if omega not in (0, -1) and any(state.null is None for state in states):
            verdict.fault("guidance", f"with omega = {omega:g} the network never sees the null condition at the same x_t: guidance needs both velocities.")
            return
        null = next((state.null for state in states if state.null is not None), None)
        if null is not None and abs(null + 1).max() > 1e-6:
            words = "the null condition is a row of zeros: training hides a condition with condition_mask_value = -1"
            verdict.fault("guidance", f"the null condition that the network sees is {null.tolist()}.", words if not null.any() else "")
        image = array(run.images)[b].reshape(-1) if torch.is_tensor(run.images) and len(run.images) == len(run.states) else None
        if image is None or image.size != x.shape[1] or image.min() < 0 or image.max() > 1:
            verdict.fault("steps", "sample does not return one picture (1, 28, 28) in [0, 1] for each condition.")
            return
        judge_step_sizes(run, x, told, v_c, v_u, image, verdict)


def judge_told(told, T, verdict):
    """Whether the times run from 0 to 1 in even steps: i / T, or i / (T - 1) without the last."""
    same = lambda v: len(v) == len(told) and abs(told - v).max() < 1e-5
    i = np.arange(T)
    if same(i / T) or same(i[:-1] / max(T - 1, 1)) or same(i / max(T - 1, 1)):
        return True
    mistakes = [
        ("time runs backwards: sampling goes from t = 0, noise, to t = 1", (T - i) / T),
        ("time runs backwards: sampling goes from t = 0, noise, to t = 1", 1 - (i + 1) / T),
        ("each step is taken at its end: Euler's step takes the velocity where it starts, t = i / T", (i + 1) / T),
        ("t is told as an index: the network is told i / T", i),
        ("t is told as an index: the network is told i / T", i + 1),
        ("one step too many is taken: t = 1 is the image", np.arange(T + 1) / T),
    ]
    verdict.fault("steps", f"the network is told t = {', '.join(f'{t:.4g}' for t in told[:3])} … {told[-1]:.4g} in {len(told)} steps; "
                  f"expected 0, {1 / T:.4g}, {2 / T:.4g} … {(T - 1) / T:.4g}.", first(mistakes, same))  # fmt: skip
    return False


def judge_step_sizes(run, x, told, v_c, v_u, image, verdict):
    """Each step as a share of v_cond and one of v_uncond, by least squares; what is left over is noise."""
    omega, dt = run.omega, np.diff(np.append(told, 1.0))  # the last is 0 where t = 1 is told as well
    for i in range(len(x) - 1):
        basis = np.stack([v_c[i], v_u[i]], 1)
        (a, b), rest, *_ = np.linalg.lstsq(basis, x[i + 1] - x[i], rcond=None)
        if rest[0] / x.shape[1] > 1e-6:
            verdict.fault("steps", f"the step from t = {told[i]:.4g} is not made of the two velocities alone: {(rest[0] / x.shape[1]) ** 0.5:.3g} a pixel is left over.",
                          "noise is added in the steps: a flow adds none")  # fmt: skip
            return
        whole = a + b
        if abs(whole - dt[i]) > ROUNDING:
            sizes = [
                ("the step goes the wrong way: x + v dt", -dt[i]),
                ("the velocity is added whole: each of T steps adds v / T", 1.0),
                ("the velocity is multiplied by t: each of T steps adds v / T", told[i]),
                ("the velocity is multiplied by 1 - t: each of T steps adds v / T", 1 - told[i]),
            ]
            verdict.fault("steps", f"the step from t = {told[i]:.4g} adds {whole:.4g} of the velocity, expected {dt[i]:.4g}.",
                          first(sizes, lambda size, whole=whole: abs(whole - size) < ROUNDING))  # fmt: skip
            return
        weight = a / whole
        if abs(weight - (1 + omega)) > 10 * ROUNDING / abs(whole):
            forms = [
                ("the 1 + is left out: v = (1 + omega) v_cond - omega v_uncond", omega),
                ("the two velocities are swapped", -omega),
                ("there is no guidance: the condition's velocity alone is taken", 1.0),
                ("omega is counted once more", 2 + omega),
            ]
            verdict.fault("guidance", f"with omega = {omega:g} a step is {weight:.4g} v_cond {1 - weight:+.4g} v_uncond, expected {1 + omega:g} and {-omega:g}.",
                          first(forms, lambda form, weight=weight, whole=whole: abs(weight - form) < 10 * ROUNDING / abs(whole)))  # fmt: skip
            return
    end = x[-1] + dt[-1] * ((1 + omega) * v_c[-1] - omega * v_u[-1])
    if "guidance" in verdict.faults or abs(image - np.clip(end * STD + MEAN, 0, 1)).max() < 1e-3:
        return
    ways = [
        ("the last step is not taken", np.clip(x[-1] * STD + MEAN, 0, 1)),
        ("pictures are returned as the process has them: x * 0.3081 + 0.1307, clamped to [0, 1]", np.clip(end, 0, 1)),
        ("pixels are scaled from [-1, 1]: x * 0.3081 + 0.1307", np.clip((end + 1) / 2, 0, 1)),
    ]
    verdict.fault("steps", "the picture that sample returns is not where the last step ends, scaled back to pixels.",
                  first(ways, lambda way: abs(image - way).max() < 1e-3))  # fmt: skip


def judge_start(student, verdict):
    """x at t = 0 is standard normal, each picture's own: within 6 sigma."""
    labels = tuple(range(10))
    run = observe_sample(student, OTHER, 0.5, labels, _Renamed(verdict), size=QUIET, seed=5)
    if run is None or not all(run.states) or "steps" in verdict.faults:
        return
    start = np.array([states[0].x for states in run.states])
    bound, shared = 6 / start.size**0.5, (start.mean(0) ** 2).mean() * len(start)
    if abs(start.mean()) > bound or abs(start.var() - 1) > 2**0.5 * bound or abs((start**4).mean() - 3) > 96**0.5 * bound or shared > 2:
        mistakes = [
            ("the start is uniform (torch.rand): it is to be torch.randn", start.min() > -1e-3 and start.max() < 1.001),
            ("the start is all zero", not start.any()),
            ("all pictures start from one noise", shared > 6),
        ]
        verdict.fault("steps", f"the start is not standard normal: mean {start.mean():.3f}, variance {start.var():.3f}.",
                      next((words for words, fits in mistakes if fits), ""))  # fmt: skip
