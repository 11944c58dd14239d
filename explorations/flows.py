"""What the notebook on flow matching does more than once: a toy in two dimensions, switches of the training, and tables of few calls."""

import math

import matplotlib.pyplot as plt
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from FM import ConditionalFM
from lab import quality, samplers
from lab.check import check_images, one_hot
from lab.diffusion.process import process
from lab.diffusion.sampling import HEUN
from lab.display import cell
from utils import load_model

# ---- two dimensions


def moons(count, generator=None):
    """Points (count, 2) on two half circles with a little noise, scaled to a variance of about 1."""
    angle = math.pi * torch.rand(count, generator=generator)
    lower = torch.arange(count) % 2 == 1
    x = torch.stack([torch.where(lower, 1 - angle.cos(), angle.cos()), torch.where(lower, 0.5 - angle.sin(), angle.sin())], 1)
    return (x - torch.tensor([0.5, 0.25])) * torch.tensor([1.15, 2.0]) + 0.05 * torch.randn(count, 2, generator=generator)


TOYS = ("DDPM", "flow", "flow, transport")  # the circle of a DDPM, the straight path, and the same with coupled noise


def fit_toy(toy, steps=2000, batch=256, seed=0):
    """A small network, trained in seconds, that predicts dx/dt at points x (N, 2) and a time t from 0, data, to 1, noise. toy: of TOYS."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            x_0, noise, t = moons(batch), torch.randn(batch, 2), torch.rand(batch, 1)
            noise = transported(noise, x_0) if toy == "flow, transport" else noise
            if toy == "DDPM":
                alpha, sigma = torch.cos(math.pi / 2 * t), torch.sin(math.pi / 2 * t)
                target = math.pi / 2 * (alpha * noise - sigma * x_0)  # dx/dt on this path
            else:
                alpha, sigma, target = 1 - t, t, noise - x_0
            loss = (net(torch.cat([alpha * x_0 + sigma * noise, t], 1)) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return lambda x, t: net(torch.cat([x, torch.full((len(x), 1), float(t))], 1)).detach()


def toy_paths(velocity, start, steps):
    """Euler's way from points (N, 2) of noise at t = 1 to the data at t = 0: (steps + 1, N, 2)."""
    points = [start]
    for i in range(steps, 0, -1):
        points.append(points[-1] - velocity(points[-1], i / steps) / steps)
    return torch.stack(points)


def bend(paths):
    """How much longer paths (S, N, D) are than the straight lines between their ends, all together: 1 for straight ones."""
    along = (paths[1:] - paths[:-1]).norm(dim=-1).sum()
    return (along / (paths[-1] - paths[0]).norm(dim=-1).sum()).item()


def toy_figure(velocities, points=60, few=4, seed=0):
    """A figure, a row for each of {toy: velocity}: the field at three times as arrows, the paths, and where a few steps end."""
    generator = torch.Generator().manual_seed(seed)
    start, many = torch.randn(points, 2, generator=generator), torch.randn(1000, 2, generator=generator)
    figure, axes = plt.subplots(len(velocities), 5, figsize=(15, 3.2 * len(velocities)), layout="constrained", dpi=80, squeeze=False)
    line = torch.linspace(-2.5, 2.5, 13)
    mesh = torch.cartesian_prod(line, line)
    for row, (name, velocity) in zip(axes, velocities.items()):
        for axis, t in zip(row, (0.95, 0.5, 0.1)):
            arrows = -velocity(mesh, t)
            axis.quiver(*mesh.T, *arrows.T, color="tab:blue", angles="xy", width=0.005)
            axis.set_title(f"velocity, {1 - t:.0%} of the way")
        ways = toy_paths(velocity, start, 100)
        row[3].plot(*ways.permute(2, 0, 1), color="gray", lw=0.7)
        row[3].plot(*ways[0].T, "o", ms=3, label="noise")
        row[3].plot(*ways[-1].T, "o", ms=3, label="ends")
        row[3].set_title(f"paths: {bend(ways):.2f} × a line")
        row[3].legend(loc="upper left", fontsize=8)
        row[4].plot(*moons(1000, generator).T, ".", ms=2, color="lightgray", label="data")
        row[4].plot(*toy_paths(velocity, many, few)[-1].T, ".", ms=2, color="tab:red", label="ends")
        row[4].set_title(f"{few} steps")
        row[4].legend(loc="upper left", fontsize=8)
        row[0].set_ylabel(name)
    for axis in axes.flat:
        axis.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
    return figure


# ---- switches of the training


class Switched(ConditionalFM):
    """A flow trained with other times or another coupling; everything else is ConditionalFM's.

    times: "uniform", or "logit-normal", which spends more of them in the middle: Esser et al. 2024, arXiv:2403.03206. coupling:
    "independent", or "transport", which gives each image of a batch the noise that makes all lines together shortest: Tong et al. 2024,
    arXiv:2302.00482. It permutes the noise: an image keeps its label.
    """

    def __init__(self, dmconfig, times="uniform", coupling="independent"):
        for name, value, known in (("times", times, ("uniform", "logit-normal")), ("coupling", coupling, ("independent", "transport"))):
            if value not in known:
                raise ValueError(f"{name} = {value!r}; allowed is one of {', '.join(known)}")
        super().__init__(dmconfig)
        self.times, self.coupling = times, coupling

    def forward(self, images, conditions, generator=None):
        config, draw = self.dmconfig, {"generator": generator, "device": generator.device if generator else images.device}
        check_images(images, config)
        c = one_hot(conditions, config.num_classes, len(images), images.device)
        c = torch.where(torch.rand(len(c), 1, **draw).to(c.device) < config.mask_p, config.condition_mask_value, c)
        t = (torch.rand if self.times == "uniform" else torch.randn)(len(images), 1, 1, 1, **draw).to(images.device)
        t = t if self.times == "uniform" else t.sigmoid()
        noise = torch.randn(images.shape, **draw).to(images.device)
        noise = noise if self.coupling == "independent" else transported(noise, images)
        return self.loss_fn(self.network((1 - t) * noise + t * images, t, c), images - noise)


class LogitNormal(Switched):
    """A flow trained with logit-normal times."""

    def __init__(self, dmconfig):
        super().__init__(dmconfig, times="logit-normal")


class Transport(Switched):
    """A flow trained with coupled noise."""

    def __init__(self, dmconfig):
        super().__init__(dmconfig, coupling="transport")


def transported(noise, images):
    """`noise` (B, C, H, W) in another order: the one in which the lines to the images are shortest, by their squared lengths in all."""
    cost = torch.cdist(noise.flatten(1).float(), images.flatten(1).float()).square()
    rows, columns = linear_sum_assignment(cost.cpu().numpy())
    order = torch.empty(len(noise), dtype=torch.long)
    order[torch.as_tensor(columns)] = torch.as_tensor(rows)  # image j takes the noise order[j]
    return noise[order.to(noise.device)]


# ---- score and velocity


def score_of(velocity, x, alpha, sigma):
    """The score of p_t from a flow's velocity, image - noise, where alpha + sigma = 1: -eps / sigma with eps = x - alpha v."""
    return -(x - alpha * velocity) / sigma


def velocity_of(score, x, alpha, sigma):
    """Its inverse: the velocity from the score."""
    return (x + sigma * score) / alpha


def gaussian_velocity(x, alpha, sigma, mean, std):
    """The exact velocity of the straight path where the data are normal: E[x_0 - eps | x_t]."""
    variance = (alpha * std) ** 2 + sigma**2
    x_0 = mean + alpha * std**2 / variance * (x - alpha * mean)
    return x_0 - sigma / variance * (x - alpha * mean)


# ---- few calls of the network

WAYS = {  # (model, method): how many calls of the network a step takes without guidance, and how many come before
    ("flow", "ddim"): (1, 0),
    ("flow", HEUN): (2, 0),
    ("flow", "dpmpp"): (1, 0),
    ("flow", "unipc"): (1, 0),
    ("DDPM", "ddim"): (1, 1),
    ("DDPM", "dpmpp"): (1, 1),
    ("DDPM", "unipc"): (1, 1),
}
NAMES = {"ddim": "Euler / DDIM", HEUN: "Heun", "dpmpp": "DPM-Solver++", "unipc": "UniPC"}


def judged(model, count, omega=0.0, method="ddim", steps=16, seed=0):
    """quality.evaluate of `count` digits that a model draws, in the proportions of the test set."""
    labels, generator = quality.proportional_labels(count), torch.Generator().manual_seed(seed)
    draw = lambda part: samplers.sample(model, part, omega, method=method, steps=steps, generator=generator).cpu()
    return quality.evaluate(torch.cat([draw(part) for part in labels.split(samplers.BATCH)]), labels)


def few_calls(models, calls, count, seeds, omega=0.0):
    """Digits by each of WAYS under a budget of network calls, judged: {(model, method, calls): [a row of quality.evaluate a seed]}.

    models: {"flow": …, "DDPM": …}. A DDPM's start costs a call. Guidance doubles the calls of a step, so omega is 0 or -1.
    """
    if omega not in (0, -1):
        raise ValueError(f"omega = {omega!r}; allowed are 0 and -1: guidance would double the calls")
    rows = {}
    for (name, method), budget in ((way, budget) for way in WAYS for budget in calls):
        each, before = WAYS[name, method]
        steps = (budget - before) // each
        if steps and name in models:
            rows[name, method, budget] = [judged(models[name], count, omega, method, steps, seed) for seed in range(seeds)]
    return rows


def calls_table(rows, calls):
    """The rows of few_calls as a Markdown table: for each way and number of calls the distance in floors, and what is read right."""
    lines = [
        "| model | method | " + " | ".join(f"{budget} call{'s' * (budget > 1)}" for budget in calls) + " |",
        "|---|---|" + "---|" * len(calls),
    ]
    for name, method in WAYS:
        cells = []
        for budget in calls:
            found = rows.get((name, method, budget))
            floors = found and cell([row["frechet"] / row["frechet_floor"] for row in found], "{:.1f}")
            cells.append(f"{floors} ×<br>{cell([row['accuracy'] for row in found], '{:.1%}')}" if found else "")
        lines.append(f"| {name} | {NAMES[method]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def calls_figure(rows, title):
    """A figure of both measures against the calls of the network, a line a way; bars show the range over the seeds."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", dpi=90)
    for number, (name, method) in enumerate(WAYS):
        budgets = sorted(budget for model, way, budget in rows if (model, way) == (name, method))
        for axis, value in zip(axes, (lambda row: row["frechet"] / row["frechet_floor"], lambda row: 1 - row["accuracy"])):
            values = torch.tensor([[value(row) for row in rows[name, method, budget]] for budget in budgets])
            middle = values.median(1).values
            spread = [(middle - values.min(1).values).clamp(min=0).tolist(), (values.max(1).values - middle).clamp(min=0).tolist()]
            style = "o-" if name == "flow" else "s--"
            axis.errorbar(budgets, middle, spread, fmt=style, color=f"C{number}", ms=4, capsize=2, label=f"{name}, {NAMES[method]}")
    for axis, label in zip(axes, ("Fréchet distance / its floor", "read as another digit than asked for")):
        axis.set(xscale="log", yscale="log", xlabel="calls of the network a digit", ylabel=label)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(fontsize=8, loc="upper right")
    figure.suptitle(title)
    return figure


def straightness(model, labels, steps=50, seed=0):
    """How much longer a model's ways from noise to images are than straight lines, for each label: `bend` of its walk without guidance."""
    way, generator = process(model), torch.Generator().manual_seed(seed)
    x_T = way.noise(len(labels), generator)
    states = [step.x.flatten(1).cpu() for step in samplers.trajectory(model, labels, 0.0, method="ddim", steps=steps, x_T=x_T)]
    return bend(torch.stack(states))


def trained(name, model_class=None):
    """The model with the best test loss of the experiment ./save/NAME."""
    return load_model(f"save/{name}/best_checkpoint.pth", model_class=model_class)
