"""2.2 Training: ConditionalDDPM.forward, with a network of known outputs and, if the student's schedule is wrong, with a right one."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from checks.truth import DEFAULT, OTHER, array, chi_square_bound, schedule
from checks.verdict import Verdict, first

SEE = "See 2.2 Training in the notebook, algorithm 3."
PROPERTIES = {
    "loss": (1.5, "the loss is the mean squared error between the prediction and the noise"),
    "noise": (1, "the noise is standard normal, new for each pixel, picture and call"),
    "x_t": (1.5, "x_t = sqrt_alpha_bar x_0 + sqrt_oneminus_alpha_bar noise"),
    "time": (1, "each picture has a t of its own, uniform in 1 … T, and the network is told t / T"),
    "condition": (1, "conditions are hidden as whole rows, each with probability mask_p"),
}
FEW_STEPS = dict(T=50, beta_1=2e-3, beta_T=4e-1, mask_p=0.3, num_feat=16, precision="float32")
PIXELS = 28 * 28
SEEDED = "two calls of forward draw the same noise: set no seed inside forward."
FROM_ZERO = "torch.randint(0, T) is drawn from: the lower end counts, the upper does not, so torch.randint(1, T + 1)"


@dataclass
class Run:
    """One call of forward and what it shows, a row a picture. slope: gradient of the loss for the predictions, None without a graph."""

    settings: dict
    x_0: np.ndarray
    onehot: np.ndarray
    x_t: np.ndarray
    told: np.ndarray
    c: np.ndarray
    out: np.ndarray
    slope: np.ndarray | None
    loss: float
    seed: int
    target: np.ndarray | None = None  # what the prediction is compared with
    t: np.ndarray | None = None       # the time steps of x_t, (n,)
    noise: np.ndarray | None = None   # in x_t
    loud: "Run | None" = None         # a run on bright images, if that was needed to find t


def examine(student, verdict):
    runs = [observe(student, DEFAULT, 256, verdict), observe(student, OTHER, 256, verdict)]
    runs += [observe(student, FEW_STEPS, 1500, verdict, seed=number) for number in range(4)]
    if not all(runs):
        verdict.fault_rest(next(iter(verdict.faults["loss"])).says if "loss" in verdict.faults else "forward cannot be run.")
        return
    for run in runs:
        judge_loss(run, verdict)
        judge_x_t(student, run, verdict)
        judge_time(run, verdict)
    few = runs[2:]
    judge_noise(runs[1:], verdict)
    judge_time_steps(few, verdict)
    judge_conditions(student, runs, verdict)
    if not verdict.faults:
        add_notes(student, few, verdict)


def observe(student, settings, batch, verdict, scale=1.0, seed=0):
    """A Run, or None where forward cannot be run; says why in the verdict."""
    own = torch.Generator().manual_seed(1)  # leaves torch's own random numbers to forward
    images = scale * torch.randn(batch, 1, 28, 28, generator=own)
    labels = torch.arange(batch) * 3 % 10
    predict = lambda x, t, c: torch.randn(x.shape, generator=own)
    call = lambda process, conditions: process.forward(images.clone(), conditions)
    try:
        calls, (loss, slopes, after), form = student.run(settings, predict, labels, call, seed)
    except (IndexError, ValueError) as error:
        if not is_outside(error):
            raise
        calls, (loss, slopes, after), form = student.run(settings, predict, labels, call, seed, lenient=True)
        judge_outside(error, calls, settings["T"], verdict)
    if form != "labels":
        verdict.note("forward takes conditions as one-hot rows and not as labels (B,), which this edition of the course hands it.")
    if not calls:
        verdict.fault("loss", "forward never runs the network.")
        return None
    if torch.is_tensor(after) and not torch.equal(after, images):
        verdict.fault("x_t", "forward changes the images that it is given, in place: make x_t a new tensor.")
    if not torch.is_tensor(loss) or loss.numel() != 1:
        shape = f"shape {tuple(loss.shape)}" if torch.is_tensor(loss) else type(loss).__name__
        verdict.fault("loss", f"forward returned {shape}; the loss is one number, the mean over everything, as a 0-dim tensor.")
        slopes = [slope / loss.numel() if slope is not None else None for slope in slopes] if torch.is_tensor(loss) else slopes
        loss = loss.mean() if torch.is_tensor(loss) else loss
    elif loss.ndim:
        verdict.note(f"forward returns the loss as a tensor of shape {tuple(loss.shape)}; one number, a 0-dim tensor, is asked for.")
    used = [slope is not None and bool(slope.any()) for slope in slopes]
    if torch.is_tensor(loss) and not any(used):
        verdict.fault("loss", "the loss has no graph, so nothing can learn from it: no .item(), no .detach(), no torch.no_grad().")
    return rows(settings, images, labels, calls, loss, slopes if any(used) else None, verdict, seed)


def judge_outside(error, calls, T, verdict):
    """A t that the schedule refuses: of another form, drawn too low or too high, or drawn rightly and not handed on as it is."""
    told = np.concatenate([array(call.t) for call in calls]) if calls else np.zeros(1)
    if is_of_form(error):
        verdict.fault("time", f"forward asks the schedule in a form that it does not take ({error}).")
    elif 0 < told.min() and told.max() <= 1 + 1e-6:
        verdict.fault("time", f"forward asks the schedule for a t outside 1 … T ({error}).", "the schedule is asked for t - 1, or t + 1: it takes t itself")
    elif f"to {T + 1};" in str(error) or told.max() > T + 0.5 or 1 < told.max() < 1 + 1.5 / T:
        verdict.fault("time", f"forward draws a t outside 1 … T ({error}).", "t = T + 1 is drawn: the upper end of torch.randint does not count, so torch.randint(1, T + 1)")
    else:
        verdict.fault("time", f"forward draws a t outside 1 … T ({error}).", FROM_ZERO)


def is_outside(error):
    """Whether an error is that of a schedule for a t outside 1 … T, or of another form."""
    return isinstance(error, IndexError) and "out of bounds" in str(error) or isinstance(error, ValueError) and "time steps" in str(error)


def is_of_form(error):
    """Whether an error that `is_outside` knows is that of a t of another shape or type."""
    return isinstance(error, ValueError) and "allowed is 1 to" not in str(error)


def rows(settings, images, labels, calls, loss, slopes, verdict, seed):
    """The rows of all calls that the loss depends on, one for each picture: forward may ask the network in parts, or twice."""
    n = len(images)
    join = lambda name: np.concatenate([array(getattr(call, name)) for call in calls])
    at = np.concatenate([np.arange(len(call.x)) for call in calls]) if all(len(call.x) == n for call in calls) else None
    total = sum(len(call.x) for call in calls)
    slope = None
    keep = np.ones(total, bool)
    if slopes is not None:
        slope = np.concatenate([array(s) if s is not None else np.zeros(call.x.shape) for s, call in zip(slopes, calls, strict=True)])
        keep = slope.reshape(total, -1).any(1)
    elif total > n:
        keep = np.arange(total) < n
    at = at[keep] if at is not None else np.arange(keep.sum())
    if len(at) != n or len(set(at)) != n:
        verdict.fault("loss", f"the loss depends on {keep.sum()} predictions for {n} pictures; algorithm 3 takes one a picture.")
        return None
    order = np.argsort(at)
    take = lambda values: values.reshape(total, -1)[keep][order]
    value = float(loss.detach().double().sum()) if torch.is_tensor(loss) else math.nan
    return Run(
        settings=settings, x_0=array(images).reshape(n, -1), onehot=np.eye(10)[labels.numpy()], x_t=take(join("x")),
        told=take(join("t"))[:, 0], c=take(join("c")), out=take(join("out")), slope=None if slope is None else take(slope), loss=value, seed=seed,
    )  # fmt: skip


def judge_error(run, verdict, told="algorithm 3 takes the squared error"):
    """Find how the loss is computed, from its value and gradient; and from that run.target, pixel by pixel.

    A squared error, scaled by s, has the gradient 2 s (prediction - target), so the sum of the squared gradient is 4 s loss.
    """
    if run.slope is None:
        return
    if not math.isfinite(run.loss) or not np.isfinite(run.slope).all():
        verdict.fault("loss", f"the loss is {run.loss:g}, or its gradient is not finite, for ordinary images.")
        return
    count = run.out.size
    pulls = abs(run.slope[run.slope != 0])  # where a prediction is met to the last bit the gradient of |.| is 0
    if pulls.size > 0.99 * run.slope.size and np.ptp(pulls) <= 1e-4 * pulls.max():
        verdict.fault("loss", "every pixel pulls equally hard on the prediction, however wrong it is.",
                      f"the loss is a mean absolute error: {told} (self.loss_fn)")  # fmt: skip
        return
    scale = (run.slope**2).sum() / (4 * run.loss) if run.loss > 0 else math.nan
    near = lambda s: abs(scale / s - 1) < 1e-3
    root = near(1 / (4 * count * run.loss))
    run.target = run.out - run.slope * (count * run.loss if root else 1 / (2 * scale))
    mistakes = [
        ("the squares are summed, not averaged", 1.0),
        ("the squares are summed over a picture and averaged over the batch", PIXELS / count),
        ("the squares are averaged over a picture and summed over the batch", 1 / PIXELS),
        ("the loss is halved", 0.5 / count),
        ("the loss is doubled", 2 / count),
        ("the mean is divided by the size of the batch once more", PIXELS / count**2),
        ("the mean is divided by T", 1 / count / run.settings["T"]),
        ("the root of the mean squared error is taken", 1 / (4 * count * run.loss)),
    ]
    if not near(1 / count):
        verdict.fault("loss", f"the loss is {run.loss:.6g}, {scale * count:.4g} times the mean squared error of what the prediction is compared with.",
                      first(mistakes, near))  # fmt: skip
    elif abs(run.loss - ((run.out - run.target) ** 2).mean()) > 1e-4 * run.loss:
        verdict.fault("loss", f"the loss is {run.loss:.6f}, expected {((run.out - run.target) ** 2).mean():.6f}.")


def judge_loss(run, verdict):
    """The loss is the mean squared error between the prediction and the noise."""
    judge_error(run, verdict)
    if run.target is None:
        return
    wrong = [
        ("the loss compares the prediction with the images: the target is the noise", run.x_0),
        ("the loss compares the prediction with the noisy images: the target is the noise", run.x_t),
        ("the loss compares the prediction with zero: the target is the noise", 0 * run.x_0),
    ]
    words = first(wrong, lambda target: abs(run.target - target).max() < 1e-3)
    if words and abs(np.corrcoef(run.x_t.ravel(), run.x_0.ravel())[0, 1]) < 0.02:  # then x_t is that noise, and no image is in it
        words = ""
    if words:
        verdict.fault("loss", "what the prediction is compared with is no noise.", words)
        run.target = None


TARGETS, SHOWN = "the target is", "the network is shown"  # first words of the mixtures with a wrong target; of those without t


def mixtures(table):
    """[(mistake, how much image, how much of the target)] as functions of t; the first is right."""
    bar, alpha, beta = table["alpha_t_bar"], table["alpha_t"], table["beta_t"]
    a, b, one = bar**0.5, (1 - bar) ** 0.5, np.ones_like(bar)
    return [
        ("", a, b),
        ("the network is shown the clean image", one, 0 * one),
        ("the network is shown noise alone", 0 * one, one),
        ("the two roots are swapped: the image takes sqrt_alpha_bar, the noise sqrt_oneminus_alpha_bar", b, a),
        ("the noise is subtracted", a, -b),
        ("both roots are missing", bar, 1 - bar),
        ("the image takes alpha_bar: its root is missing", bar, b),
        ("the noise takes 1 - alpha_bar: its root is missing", a, 1 - bar),
        ("the noise takes 1 - sqrt(alpha_bar): it is sqrt(1 - alpha_bar)", a, 1 - a),
        ("alpha_t stands in place of alpha_bar_t: this is one step of noise, not t", alpha**0.5, beta**0.5),
        ("the noise takes sqrt(beta_t), of one step only", a, beta**0.5),
        ("the image takes sqrt(alpha_t), of one step only", alpha**0.5, b),
        ("the noise takes beta_t: it is sqrt(1 - alpha_bar)", a, beta),
        ("both take sqrt(1 - alpha_bar)", b, b),
        ("both take sqrt(alpha_bar)", a, a),
        ("the image is not scaled by sqrt_alpha_bar", one, b),
        ("the noise is not scaled by sqrt_oneminus_alpha_bar", a, one),
        ("image and noise are added unscaled", one, one),
        ("the target is the noise minus the image: it is the noise alone", a + b, b),
        ("the target is the image minus the noise: it is the noise alone", a + b, -b),
        ("the target is a velocity: it is the noise", 1 / a, b / a),
        ("the target is minus the noise", a, -b),
        ("the target is the noise as it is scaled in x_t: it is the noise itself", a, one),
    ]


def judge_x_t(student, run, verdict):
    """Find how x_t is mixed from image and noise, and at which t: exactly if the target is known, else from bright images."""
    if run.target is not None:
        a, b, rest = mixed(run.x_t, run.x_0, run.target)
        if rest < 1e-3:  # float32 leaves 1e-5
            decode_exact(student, run, a, b, verdict)
            return
        usual = "loss" not in verdict.faults
        look = decode_loud(student, run, verdict)
        if usual and look:
            verdict.fault("loss", f"the prediction is not compared with the noise in x_t: {rest:.2g} of x_t is left over when image and target are "
                          "taken out. Draw the noise once, mix it into x_t, and compare the prediction with that same noise.")  # fmt: skip
        return
    decode_loud(student, run, verdict)


def mixed(x_t, x_0, noise):
    """(a, b, rest): x_t = a x_0 + b noise row by row, by least squares, and the most that is left over."""
    dot = lambda u, v: (u * v).sum(1)
    det = dot(x_0, x_0) * dot(noise, noise) - dot(x_0, noise) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        a = (dot(x_t, x_0) * dot(noise, noise) - dot(x_t, noise) * dot(x_0, noise)) / det
        b = (dot(x_t, noise) * dot(x_0, x_0) - dot(x_t, x_0) * dot(x_0, noise)) / det
    rest = abs(x_t - a[:, None] * x_0 - b[:, None] * noise).max()
    return a, b, rest if np.isfinite(rest) else np.inf


def candidates(student, settings):
    """The mixtures of the right schedule; and the right one of the student's own schedule, where that is another."""
    found = mixtures(schedule(**settings))
    own = student.scheduler(settings)[1]
    if own and all(np.isfinite(own[name]).all() for name in own):
        found.insert(1, ("", own["sqrt_alpha_bar"], own["sqrt_oneminus_alpha_bar"]))
        bar = own["alpha_t_bar"]
        if ((bar >= 0) & (bar <= 1)).all():
            found.insert(2, ("", bar**0.5, (1 - bar) ** 0.5))
    if settings["T"] != DEFAULT["T"]:
        bar = schedule(DEFAULT["beta_1"], DEFAULT["beta_T"], settings["T"])["alpha_t_bar"]
        found.append(("beta_1 and beta_T are written into the code: take them from dmconfig", bar**0.5, (1 - bar) ** 0.5))
    return found


def decode_exact(student, run, a, b, verdict):
    found, T = [], run.settings["T"]
    told = np.clip(np.round(run.told * T), 0, T).astype(int)
    for words, for_image, for_noise in candidates(student, run.settings):
        for_image, for_noise = np.append(1.0, for_image), np.append(0.0, for_noise)  # at t = 0 the image is clean
        off = np.maximum(abs(a[:, None] - for_image) / np.maximum(1, abs(for_image)), abs(b[:, None] - for_noise) / np.maximum(1, abs(for_noise)))
        if (off[:, bool(words) :].min(1) < 3e-4).all():
            found.append((words, off[:, bool(words) :].argmin(1) + bool(words)))  # with the time steps, (n,)
        if not words and (off[np.arange(len(told)), told] < 3e-4).all():  # prefer the time steps that the network is told
            found.insert(0, (words, told))
    for words, run.t in found[:1]:
        if (run.t == 0).all() or words.startswith(SHOWN):
            run.t = None
            verdict.fault("x_t", f"x_t of the first picture is {a[0]:.4f} image {b[0]:+.4f} noise.", words or f"{SHOWN} the clean image")
            return
        if (run.t == 0).any():
            verdict.fault("time", "forward draws t = 0.", FROM_ZERO)
        if words.startswith(TARGETS):
            verdict.fault("loss", "the prediction is not compared with the noise.", words)
        else:
            run.noise = run.target
            if words:
                verdict.fault("x_t", f"x_t of the first picture is {a[0]:.4f} image {b[0]:+.4f} noise, which belongs to no t.", words)
        return
    run.noise = run.target
    guess = closest(run, a, b, schedule(**run.settings))
    verdict.fault("x_t", f"x_t of the first picture is {a[0]:.4f} image {b[0]:+.4f} noise, which belongs to no t.{guess}")


def closest(run, a, b, table):
    """What x_t of the first picture should be at the time that the network is told, if that is a time step."""
    t = round(run.told[0] * run.settings["T"])
    if not (1 <= t <= run.settings["T"] and abs(run.told[0] * run.settings["T"] - t) < 1e-3):
        return ""
    return f" At t = {t}, which the network is told, it is {table['sqrt_alpha_bar'][t - 1]:.4f} and {table['sqrt_oneminus_alpha_bar'][t - 1]:.4f}."


def decode_loud(student, run, verdict):
    """The same from a run on images 300 times as bright, where the image's share shows whatever the loss is.

    Returns whether x_t is right.
    """
    loud = observe(student, run.settings, len(run.x_0), Verdict(PROPERTIES, SEE), scale=300.0, seed=100 + run.seed)
    if loud is None:
        return False
    T = run.settings["T"]
    x_0 = np.stack([loud.x_0, np.ones_like(loud.x_0)], 2)
    weights = np.linalg.solve(np.einsum("npi,npj->nij", x_0, x_0), np.einsum("npi,np->ni", x_0, loud.x_t)[..., None])[..., 0]
    a, rest = weights[:, 0], loud.x_t - weights[:, :1] * loud.x_0
    told = np.clip(np.round(loud.told * T).astype(int), 1, T) - 1
    for words, for_image, for_noise in candidates(student, run.settings):
        if words.startswith(TARGETS):
            continue
        error = lambda at, for_noise=for_noise: 6 * abs(for_noise[at]) / 300 / PIXELS**0.5 + 1e-5
        at = abs(a[:, None] - for_image).argmin(1) if np.ptp(for_image) > 1e-6 else told
        at = np.where(abs(a - for_image[told]) < error(told), told, at)  # where two t can hardly be told apart
        size = np.maximum(abs(for_noise[at]), 1e-3)
        if (abs(a - for_image[at]) < error(at)).all() and abs((rest**2).mean(1) / size**2 - (for_noise[at] / size) ** 2).mean() < 12 * (2 / PIXELS) ** 0.5:
            loud.t, loud.noise = at + 1, rest / size[:, None]
            run.t = None
            if words.startswith(SHOWN):
                loud.t = None
            if words:
                verdict.fault("x_t", f"x_t of the first picture is {a[0]:.4f} of the image and noise of size {rest[0].std():.4f}, which belongs to no t.", words)
            run.loud = loud
            return not words
    verdict.fault("x_t", f"x_t of the first picture is {a[0]:.4f} of the image and noise of size {rest[0].std():.4f}, which belongs to no t.")
    return False


def judge_time(run, verdict):
    """The network is told t / T, picture by picture. (t - 1) / (T - 1) is fine too, if sampling does the same."""
    run = run if run.t is not None else run.loud or run
    T, told = run.settings["T"], run.told
    steps = np.round(told * T)
    if run.t is None:  # x_t is of no time step, so this is all that can be said
        if "x_t" not in verdict.faults and not (abs(told * T - steps) < 1e-3).all():
            verdict.fault("time", f"the network is told {told[0]:.4f} as time, which is no t / T.")
        return
    t = run.t
    mistakes = [
        ("the network is given t itself: divide by T", t),
        ("the time is counted from 0: t / T, with t in 1 … T", (t - 1) / T),
        ("the network is given t - 1: divide t by T", t - 1),
        ("the time is one step late: t / T", (t + 1) / T),
        ("the time runs backwards: t / T", 1 - t / T),
        ("the time runs backwards: t / T", (T - t + 1) / T),
        ("t is divided by T - 1", t / (T - 1)),
        ("t is divided by T + 1", t / (T + 1)),
        ("t is multiplied by T", t * T),
        ("the time is 2 t / T - 1: t / T", 2 * t / T - 1),
        ("T is written into the code", t / 400),
        ("T is written into the code", t / 1000),
        ("the times are in another order than the pictures", None),
        ("t / T is rounded to a whole number", t // T),
        ("the network is given no time", 0 * t),
        ("the first picture's time is told for all", np.full_like(told, t[0] / T)),
        ("the last picture's time is told for all", np.full_like(told, t[-1] / T)),
    ]
    fits = lambda v: abs(np.sort(told) - np.sort(t / T)).max() < 1e-5 if v is None else abs(told - v).max() < 1e-5 * max(1, abs(v).max())
    if not (fits(t / T) or fits((t - 1) / (T - 1))):
        i = int(abs(told - t / T).argmax())
        verdict.fault("time", f"x_t is of t = {t[i]} of {T}, but the network is told {told[i]:.4f}; expected {t[i] / T:.4f}.", first(mistakes, fits))


def judge_time_steps(runs, verdict):
    """Every picture has a time step of its own, every t in 1 … T as often as another."""
    T = runs[0].settings["T"]
    found = [run if run.t is not None else run.loud for run in runs]
    if any(run is None for run in found) or "time" in verdict.faults or SEEDED in [fault.says for fault in verdict.faults.get("noise", ())]:
        return
    t = np.concatenate([run.t for run in found])
    count = np.bincount(t, minlength=T + 1)[1:]
    each = len(t) / T
    chi = ((count - each) ** 2).sum() / each
    ends = count[0] + count[-1]
    mistakes = [
        ("one t is drawn for the whole batch: draw one for each picture, torch.randint(1, T + 1, (B,))", (count > 0).sum() <= len(found)),
        ("t = T is never drawn: the upper end of randint does not count, so T + 1", count[-1] == 0 and (count[:-1] > 0).all()),
        ("t = 1 is never drawn: t is in 1 … T", count[0] == 0 and (count[1:] > 0).all()),
        ("the two ends t = 1 and t = T are never drawn: torch.randint(1, T + 1)", ends == 0),
        ("t is rounded: the two ends come half as often as the rest", 0.3 < ends / (2 * each) < 0.7),
        ("small t are drawn more often than large ones, or the other way round: every t is as likely", abs(t.mean() - (T + 1) / 2) > T / 20),
    ]
    if count.min() == 0 or chi >= chi_square_bound(T - 1) or abs(ends - 2 * each) > 5.5 * (2 * each) ** 0.5:
        verdict.fault("time", f"t = 1, 2, 3 … {T} came {count[:3].tolist()} … {count[-1]} times; each should come about {each:.0f} times.",
                      next((words for words, fits in mistakes if fits), ""))  # fmt: skip


def judge_noise(runs, verdict):
    """The noise is standard normal, its own for every pixel of every picture: 6 sigma each way."""
    known = [run.noise if run.noise is not None else (run.loud or run).noise for run in runs]
    if any(noise is None for noise in known):
        return
    if known[0].shape == known[1].shape and abs(known[0] - known[1]).max() < 1e-2 or abs(known[-1] - known[-2]).max() < 1e-3:
        verdict.fault("noise", SEEDED)
    noise = np.concatenate([each for each in known if np.isfinite(each).all()])
    n, each = noise.size, noise[0].size
    about = noise - noise.mean()
    level = math.sqrt((about.mean(1) ** 2).mean() * each)  # 1 where a picture's pixels are independent
    first_batch = known[0] - known[0].mean()
    shared = math.sqrt((first_batch.mean(0) ** 2).mean() * len(first_batch))  # 1 where the pictures of a batch are
    figures = f"It has mean {noise.mean():.3f}, variance {noise.var():.3f}, fourth moment {(noise**4).mean():.3f}; expected 0, 1, 3."
    mistakes = [
        ("all pixels of a picture share one random number: draw noise of the shape of the images", level > 10),
        ("all pictures of the batch share one noise: draw noise of the shape of the images", shared > 6),
        ("the noise is uniform in 0 … 1 (torch.rand): algorithm 3 takes torch.randn", abs(noise.mean() - 0.5) < 0.02 and noise.max() <= 1.01),
        ("the noise is uniform in -1 … 1: algorithm 3 takes torch.randn", abs(noise.mean()) < 0.02 and 0.98 < abs(noise).max() <= 1.01),
        ("no noise is added at all", abs(noise).max() < 1e-3),
        ("the noise is cut off: algorithm 3 takes torch.randn as it is", (abs(noise - noise.max()) < 1e-5).sum() > 100),
        ("the noise is never negative: algorithm 3 takes torch.randn as it is", noise.min() > -1e-3),
    ]
    bound = 6 / math.sqrt(n)
    loose = 1.0 if "loss" not in verdict.faults else 4.0  # then the noise is known from bright images only
    fine = abs(noise.mean()) < bound and abs(noise.var() - 1) < loose * math.sqrt(2) * bound
    fine = fine and abs((noise**4).mean() - 3) < loose * math.sqrt(96) * bound
    fine = fine and abs(level**2 - 1) < 6 * math.sqrt(2 / len(noise)) and abs(shared**2 - 1) < 6 * math.sqrt(2 / each)
    if not fine:
        verdict.fault("noise", f"the noise is not standard normal and independent. {figures}", next((words for words, fits in mistakes if fits), ""))


def judge_conditions(student, runs, verdict):
    """What is not hidden is the picture's own class, one-hot; whole rows are hidden, each with probability mask_p: 5.5 sigma."""
    c, onehot = np.concatenate([run.c for run in runs]), np.concatenate([run.onehot for run in runs])
    same = lambda values: abs(c - values).max(1) < 1e-6
    hidden, kept, zero = same(-1), same(onehot), same(0)
    odd = ~(hidden | kept)
    if odd.any():
        mistakes = [
            ("hidden rows are zeros: fill them with condition_mask_value", (zero | kept | hidden).all()),
            ("only the 1 of a hidden row is replaced: the whole row is", (c[odd] == -onehot[odd]).all()),
            ("only the zeros of a hidden row are replaced: the whole row is", (abs(c[odd] - (2 * onehot[odd] - 1)) < 1e-6).all()),
            ("condition_mask_value is added to a hidden row, not put in its place", (abs(c[odd] - (onehot[odd] - 1)) < 1e-6).all()),
            ("hidden rows are filled with another value than condition_mask_value", (np.ptp(c[odd], axis=1) < 1e-6).all()),
            ("the one-hot rows belong to other pictures, or other classes", np.isin(c[odd], (0, 1)).all() and (c[odd].sum(1) == 1).all()),
            ("single entries are masked: draw one number a row, (B, 1)", np.isin(c, (-1, 0, 1)).all()),
        ]
        verdict.fault("condition", f"{odd.mean():.1%} of the rows are neither the picture's own one-hot row nor all condition_mask_value = -1, "
                      f"such as {c[odd][0].tolist()}.", next((words for words, fits in mistakes if fits), ""))  # fmt: skip
        return
    judge_rate(student, runs, verdict)


def judge_rate(student, runs, verdict):
    """How many rows are hidden, over all and batch by batch."""
    batch = lambda run: (abs(run.c + 1).max(1) < 1e-6).mean()
    n, p = np.array([len(run.c) for run in runs]), np.array([run.settings.get("mask_p", 0.1) for run in runs])
    rates = np.array(list(map(batch, runs)))
    spread = (rates - p) ** 2 * n / (p * (1 - p))  # for rows hidden independently; less if an exact count is hidden
    over_all = ((rates - p) * n).sum() / np.sqrt((p * (1 - p) * n).sum())
    if spread.sum() < chi_square_bound(len(runs)) and abs(over_all) < 5.5:
        return
    if np.isin(rates, (0, 1)).all():  # one draw a batch shows both outcomes in so many batches
        more = [observe(student, FEW_STEPS, 8, Verdict(PROPERTIES, SEE), seed=50 + number) for number in range(20)]
        coins = [*rates, *(batch(run) for run in more if run)]
    else:
        coins = rates
    level = {value: np.average(rates[p == value], weights=n[p == value]) for value in p}
    near = lambda f, by=0.05: all(abs(rate - f(value)) < by for value, rate in level.items())
    mistakes = [
        ("one number is drawn for the whole batch: draw one a row", np.isin(coins, (0, 1)).all() and 0 < np.mean(coins) < 1),
        ("conditions are never hidden", not np.any(coins)),
        ("conditions are always hidden", np.equal(coins, 1).all()),
        ("the comparison is the wrong way round: hide where torch.rand is below mask_p", near(lambda p: 1 - p)),
        ("torch.randn is compared with mask_p: torch.rand is uniform in 0 … 1", near(lambda p: (1 + math.erf(p / math.sqrt(2))) / 2)),
        ("mask_p is written into the code: take it from dmconfig", near(lambda p: 0.1, 0.04)),
        ("the number is compared with 0.5, not with mask_p", near(lambda p: 0.5)),
        ("a row is hidden with probability mask_p squared", near(lambda p: p**2, 0.03)),
        ("half of mask_p is hidden", near(lambda p: p / 2, 0.03)),
    ]
    i = int(spread.argmax())
    verdict.fault("condition", f"{rates[i]:.1%} of the conditions of a batch of {n[i]} are hidden, expected {p[i]:.0%}; "
                  f"{min(coins):.0%} to {max(coins):.0%} over {len(coins)} batches.", next((words for words, fits in mistakes if fits), ""))  # fmt: skip


def add_notes(student, few, verdict):
    """Notes on right solutions; they cost no points."""
    p = few[0].settings["mask_p"]
    if {int((run.c == -1).all(1).sum()) for run in few} == {round(p * len(few[0].c))}:  # by chance less than once in ten thousand
        verdict.note("forward hides exactly a share mask_p of each batch; algorithm 3 draws for each picture on its own.")
    run, T = few[0], few[0].settings["T"]
    if run.t is not None and abs(run.told - (run.t - 1) / (T - 1)).max() < 1e-5:
        verdict.note("forward tells the network the time as (t - 1) / (T - 1); the course's samplers and weights take t / T.")
    other = observe(student, {**FEW_STEPS, "condition_mask_value": -2}, 64, Verdict(PROPERTIES, SEE))
    if other and (other.c == -1).all(1).any():
        verdict.note("forward fills hidden conditions with a literal -1; dmconfig.condition_mask_value says with what.")
