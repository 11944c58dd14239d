"""Choosing the starting noise: DDIM inversion, and the start that is closest to its inversion after a round trip to an image."""

import hashlib
import io
from collections import namedtuple
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from scipy import stats

from lab import quality, samplers
from lab.diffusion.guidance import guided
from lab.diffusion.process import Seen, process
from lab.diffusion.steps import ddim
from lab.diffusion.walk import final, walk
from lab.quality import judge
from lab.training import checkpoint

Trips = namedtuple("Trips", "start image similarity")
OTHERS = 1_000_000  # added to a seed for the extra starts, which only the judge chooses among
Trips.__doc__ = "Round trips of K starts a label: x_T and the image x_0, (B, K, C, H, W), and the cosine of x_T and its inversion, (B, K)."
MEASURES = {"accuracy": "accuracy", "frechet": "Fréchet", "precision": "precision", "recall": "recall"}


def invert(model, x_0, labels, omega, *, steps):
    """DDIM inversion, from images back to the noise that would give them: eq. (12), Song et al. 2021, arXiv:2010.02502, with
    sigma = 0, upwards through the times of `lab.samplers`.

    x_0: (B, C, H, W), scaled by (x - 0.1307) / 0.3081, neither clamped nor rounded. labels, omega, steps: as for `trajectory`.
    The step up from x_s to x_t needs eps(x_t, t), but x_t is not known yet, so it takes eps(x_s, t). The time is t as in the step
    down, and because the network knows no time 0, at which the first step begins. diffusers' DDIMInverseScheduler does the same.
    Returns x_T, (B, C, H, W). Raises ValueError for other shapes and values, before any work.
    """
    samplers.trajectory(model, labels, omega, method="ddim", steps=steps)  # checks its arguments, draws nothing
    way = process(model)
    if way.output != "eps":  # the network is asked at another time than that of x
        raise ValueError(f"the network predicts {way.output!r}; allowed is 'eps'")
    wanted = (len(labels), *way.shape)
    if not (torch.is_tensor(x_0) and x_0.shape == wanted and x_0.is_floating_point() and x_0.isfinite().all()):
        raise ValueError(f"x_0 is {getattr(x_0, 'shape', x_0)!r}; allowed is a tensor {wanted} of finite floats")
    ask = guided(way, way.embed(labels), omega)
    predict = lambda x, t, s: Seen(*way.seen(ask(x, s, t)[0], x, t), None)
    return final(walk(way, predict, ddim(), samplers.timesteps(way.T, steps)[::-1], lambda: x_0.to(way.device, torch.float32), None))


def renoise(model, x_0, generator=None):
    """What sketches of this idea use in place of inversion: x_T drawn from q(x_T | x_0), eq. (4), Ho et al. 2020, arXiv:2006.11239.

    Fresh noise at each of the steps, q(x_t | x_{t-1}), adds up to the same distribution. x_0 and x_T: (B, C, H, W).
    """
    at = model.scheduler(torch.tensor([model.dmconfig.T], device=x_0.device))
    noise = torch.randn(x_0.shape, generator=generator, device=generator.device if generator else x_0.device).to(x_0.device)
    return at["sqrt_alpha_bar"] * x_0 + at["sqrt_oneminus_alpha_bar"] * noise


def fresh_similarity(model, trips, seed):
    """The similarity of Trips with `renoise` in place of the inversion: cosines (B, K)."""
    return similarity(trips.start, renoise(model, trips.image, torch.Generator().manual_seed(seed)))


def similarity(a, b):
    """The cosine of each pair of images, (..., C, H, W) twice -> (...)."""
    return F.cosine_similarity(a.flatten(-3), b.flatten(-3), dim=-1)


def round_trips(model, labels, omega, K, *, steps, generator=None):
    """K starts for each label, sampled with deterministic DDIM and inverted: Trips, on the CPU.

    The starts are those of `lab.samplers`: the first Step of a trajectory is the x_T that it drew. It takes K (2 steps + 1) calls
    of the network a label: for each start one, `steps` down and `steps` back. Raises ValueError for K below 1 and for what
    `samplers.trajectory` refuses, before any work.
    """
    _check_K(K)
    samplers.trajectory(model, labels, omega, method="ddim", steps=steps)  # checks its arguments, draws nothing
    parts = []
    for part in labels.repeat_interleave(K).split(samplers.BATCH):
        first, *_, last = samplers.trajectory(model, part, omega, method="ddim", steps=steps, clip=False, generator=generator)
        back = invert(model, last.x, part, omega, steps=steps)
        parts.append([first.x.cpu(), last.x.cpu(), similarity(first.x, back).cpu()])
    return Trips(*(torch.cat(values).unflatten(0, (len(labels), K)) for values in zip(*parts)))


def picked(values, scores):
    """The one of K values with the highest score: (B, K, ...) and (B, K) -> (B, ...)."""
    return values[torch.arange(len(values)), scores.argmax(1)]


@torch.no_grad()
def read_as(images, labels):
    """The judge's probability that images (B, K, C, H, W) of the process are the `labels` (B,), and whether it reads them so, (B, K)."""
    reader = judge.load()
    seen, features = judge.read(reader, samplers.pixels(images.flatten(0, 1)))
    wanted = labels.repeat_interleave(images.shape[1])
    probability = reader.classify(features).softmax(1)[torch.arange(len(wanted)), wanted]
    return probability.view(images.shape[:2]), (seen == wanted).float().view(images.shape[:2])


def measure(model, labels, omega, Ks, steps, seed, folder):
    """The table's rows under one seed, a dict each: the best of K starts by three criteria, and one start with more steps.

    The judge needs no inversion, so for the cost of K round trips it gets more starts: the K, and others drawn for it alone.
    Samples are cached in `folder`, so that a stopped run resumes. Returns the rows and the Trips. Raises ValueError, before any
    work, for Ks below 1, or if the steps that a choice among K costs are more than T.
    """
    for K in Ks:
        _check_K(K)
        samplers.trajectory(model, labels, omega, method="ddim", steps=K * (2 * steps + 1) - 1)  # checks its arguments, draws nothing
    kept, rows = Path(folder) / f"{_known(model, labels)} omega {omega:g} seed {seed}", []
    chance, K = torch.Generator().manual_seed(seed), max(Ks)
    trips = Trips(*_kept(f"{kept}, {K} trips of {steps}.pt", lambda: round_trips(model, labels, omega, K, steps=steps, generator=chance)))
    others = K * (2 * steps + 1) // (steps + 1) - K  # starts of the judge alone
    chance = torch.Generator().manual_seed(seed + OTHERS)
    drawn = lambda: _sampled(model, labels.repeat_interleave(others), omega, steps, generator=chance).unflatten(0, (len(labels), others))
    images = torch.cat([trips.image, _kept(f"{kept}, {others} more of {steps}.pt", drawn)], dim=1) if others else trips.image
    fresh, (sure, _) = fresh_similarity(model, trips, seed), read_as(images, labels)

    def add(way, K, evaluations, images):
        rows.append({"way": way, "K": K, "evaluations": evaluations, "seed": seed, **quality.evaluate(samplers.pixels(images), labels)})

    for K in Ks:
        if K == 1:
            add("one start", 1, steps + 1, trips.image[:, 0])
            continue
        budget = K * (2 * steps + 1)
        add("round trip", K, budget, picked(trips.image[:, :K], trips.similarity[:, :K]))
        add("fresh noise", K, K * (steps + 1), picked(trips.image[:, :K], fresh[:, :K]))
        asked = budget // (steps + 1)
        add("judge", asked, asked * (steps + 1), picked(images[:, :asked], sure[:, :asked]))
        finer = lambda: _sampled(model, labels, omega, budget - 1, trips.start[:, 0])  # noqa: B023
        add(f"{budget - 1} steps", 1, budget, _kept(f"{kept}, {budget - 1} steps.pt", finer))
    return rows, trips


def correlation(a, b):
    """Pearson's correlation of (B, K) with (B, K) within the K starts of each label, over all labels: what a choice can use."""
    a, b = (v - v.mean(1, keepdim=True) for v in (a, b))
    return F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def interval(values):
    """The mean of two or more values and half the width of its 95 % t-interval."""
    values = torch.as_tensor(values, dtype=torch.float64)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5
    return values.mean().item(), half.item()


def linked(many, others):
    """The `correlation` of two quantities, a list over seeds each, in words: mean ± half of the 95 % interval."""
    mean, half = interval([correlation(a, b) for a, b in zip(many, others)])
    return f"{mean:+.3f} ± {half:.3f}"


def table(rows, beside=None):
    """Rows of `measure` under several seeds as Markdown, mean ± half of the 95 % interval.

    beside: a way, as "one start"; the others are then given as differences from it under the same seed, with the same starts.
    """
    base = {row["seed"]: row for row in rows if row["way"] == beside}
    lines = ["| way | K | network evaluations a digit | " + " | ".join(MEASURES.values()) + " |", "|---" * (3 + len(MEASURES)) + "|"]
    for (way, K, evaluations), group in _grouped(rows).items():
        if way == beside:
            continue
        values = [interval([row[name] - (base[row["seed"]][name] if base else 0) for row in group]) for name in MEASURES]
        numbers = [f"{mean:{'+' if base else ''}.3f} ± {half:.3f}" for mean, half in values]
        lines.append(f"| {way} | {K} | {evaluations} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def cost_figure(rows, title):
    """A figure of rows of `measure` against network evaluations a digit: the mean over the seeds and the range from least to most."""
    figure, axes = plt.subplots(1, len(MEASURES), figsize=(3 * len(MEASURES), 3.6), layout="constrained")
    lines = {}
    for (way, _, evaluations), group in _grouped(rows).items():
        lines.setdefault("more steps" if way.endswith("steps") else way, []).append((evaluations, group))
    for axis, (name, label) in zip(axes, MEASURES.items()):
        for shift, (way, points) in enumerate(lines.items()):
            values = torch.tensor([[row[name] for row in group] for _, group in points])  # (points, seeds)
            mean = values.mean(1)
            errors = torch.stack([mean - values.amin(1), values.amax(1) - mean]).clamp(min=0)
            places = [evaluations * 1.04**shift for evaluations, _ in points]  # a little apart, or one would hide another
            axis.errorbar(places, mean, errors, fmt="o-", ms=4, capsize=2, label=way)
        axis.set(title=label, xlabel="network evaluations a digit", xscale="log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
        axis.grid(alpha=0.3)
    axes[1].axhline(rows[0]["frechet_floor"], color="gray", ls=":", label="floor: real digits")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=len(lines) + 1)
    figure.suptitle(f"{title}; mean and range over the seeds")
    return figure


def _grouped(rows):
    groups = {}
    for row in rows:
        groups.setdefault((row["way"], row["K"], row["evaluations"]), []).append(row)
    return groups


def _sampled(model, labels, omega, steps, starts=None, generator=None):
    images = []
    for rows in torch.arange(len(labels)).split(samplers.BATCH):
        x_T = None if starts is None else starts[rows]
        way = samplers.trajectory(model, labels[rows], omega, method="ddim", steps=steps, clip=False, generator=generator, x_T=x_T)
        images.append(samplers.final(way).cpu())
    return torch.cat(images)


def _known(model, labels):
    """A cache name for these labels and weights, so that samples of others are not taken for theirs."""
    digest = hashlib.sha256(str(model.dmconfig).encode())
    for tensor in (*model.network.state_dict().values(), labels):
        digest.update(tensor.cpu().numpy().tobytes())
    return f"{digest.hexdigest()[:12]} {len(labels)} labels"


def _kept(path, make):
    """The tensor in the file `path`, or a tuple of them, made first where the file does not exist."""
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        content, made = io.BytesIO(), make()
        torch.save(made if torch.is_tensor(made) else tuple(made), content)
        checkpoint.write_bytes(path, content.getbuffer())
    return torch.load(path, weights_only=True)


def _check_K(K):
    if isinstance(K, bool) or not isinstance(K, int) or K < 1:
        raise ValueError(f"K = {K!r}; allowed is a whole number of starts, 1 or more")
