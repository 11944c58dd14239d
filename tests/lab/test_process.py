"""lab.diffusion against closed forms: what each kind of output says, the steps of flows and of noise, and the one loop."""

import math

import numpy as np
import pytest
import torch

from lab import samplers
from lab.diffusion.guidance import guided, seeing
from lab.diffusion.process import OUTPUTS, ConditionalProcess, Process, levels
from lab.diffusion.steps import ddim, posterior
from lab.diffusion.walk import final, timesteps, walk

T, SHAPE = 20, (1, 3, 3)
VP = levels(torch.linspace(1e-3, 0.3, T, dtype=torch.float64))
FLOW = [1 - t / T for t in range(T + 1)], [t / T for t in range(T + 1)]
X_0, EPS = torch.randn(2, 2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SAID = {  # what a network that knows x_0 and the noise answers
    "eps": lambda x_0, eps, a, s: eps,
    "x_0": lambda x_0, eps, a, s: x_0,
    "v": lambda x_0, eps, a, s: a * eps - s * x_0,
    "flow": lambda x_0, eps, a, s: x_0 - eps,
}


class Known(Process):
    """Always sees the image X_0, and the noise that leads there, whatever x is; says it in one of the four ways."""

    T, shape, range, device, null_condition = T, SHAPE, (-9.0, 9.0), torch.device("cpu"), torch.zeros(1)

    def __init__(self, output):
        self.output, (self.alpha, self.sigma) = output, FLOW if output == "flow" else VP

    def ask(self, x, t, rows, s):
        a, sigma = self.alpha[t], self.sigma[t]
        return SAID[self.output](X_0, (x - a * X_0) / sigma, a, sigma), None


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("t", [1, 7, T])
def test_an_output_says_the_image_and_the_noise(output, t):
    alpha, sigma = (values[t] for values in (FLOW if output == "flow" else VP))
    x = alpha * X_0 + sigma * EPS
    x_0, eps = OUTPUTS[output](SAID[output](X_0, EPS, alpha, sigma), x, alpha, sigma)
    torch.testing.assert_close(x_0, X_0)
    torch.testing.assert_close(eps, EPS)


def walked(process, step, times, start, clip=False):
    predict = seeing(process, guided(process, torch.zeros(2, 1), 0.0), process.limit if clip else None)
    noise = lambda: torch.randn(2, *SHAPE, generator=chance, dtype=torch.float64)
    chance = torch.Generator().manual_seed(1)
    return list(walk(process, predict, step, times, lambda: start, noise))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("step", [ddim(), ddim(0.7), posterior], ids=["ddim", "ddim with noise", "posterior"])
def test_every_walk_ends_at_the_image_that_is_seen(output, step):
    process = Known(output)
    steps = walked(process, step, timesteps(T, 6), EPS, clip=output != "flow")
    assert [each.t for each in steps] == [20, 17, 13, 10, 7, 3, 0]
    torch.testing.assert_close(steps[-1].x, X_0)
    for before, after in zip(steps, steps[1:]):  # the mean of each step, and how far noise takes x from it
        eps = (before.x - process.alpha[before.t] * X_0) / process.sigma[before.t]
        away = after.x - process.alpha[after.t] * X_0
        if after.t and step is not posterior and step.__closure__[0].cell_contents == 0:
            torch.testing.assert_close(away, process.sigma[after.t] * eps)
        assert away.abs().max() < 5 * process.sigma[after.t] + 1e-9


def test_for_a_flow_ddim_is_eulers_step():
    process = Known("flow")
    x, steps = EPS, walked(process, ddim(), timesteps(T, 5), EPS)
    for (t, s), step in zip(zip(timesteps(T, 5), timesteps(T, 5)[1:]), steps[1:]):
        velocity, _ = process.ask(x, t, None, s)
        x = x + (t - s) / T * velocity
        torch.testing.assert_close(step.x, x)


def test_the_posterior_of_a_step_is_that_of_two_gaussians():
    """q(x_s | x_t, x_0) by the product of q(x_t | x_s) and q(x_s | x_0), of one number."""
    process, t, s, x_t, x_0 = Known("eps"), 12, 5, 0.4, -0.8
    r, deviation = process.between(t, s)
    precision = r**2 / deviation**2 + 1 / process.sigma[s] ** 2
    mean = (r * x_t / deviation**2 + process.alpha[s] * x_0 / process.sigma[s] ** 2) / precision
    seen = type("Seen", (), {"x_0": x_0, "eps": (x_t - process.alpha[t] * x_0) / process.sigma[t], "log_variance": None})
    for step in (posterior, ddim(1.0)):
        assert step(process, x_t, seen, t, s, lambda: 0.0) == pytest.approx(mean)
        assert step(process, x_t, seen, t, s, lambda: 1.0) - mean == pytest.approx(precision**-0.5)


def test_noise_of_a_step_is_drawn_once_and_none_at_the_end():
    process, drawn, kept = Known("x_0"), [], []
    noise = lambda: drawn.append(torch.randn(2, *SHAPE).double()) or drawn[-1]
    keep = lambda x, s, noise: kept.append(noise()) or x
    predict = seeing(process, guided(process, torch.zeros(2, 1), 0.0))
    final(walk(process, predict, posterior, timesteps(T, 3), lambda: EPS, noise, keep))
    assert len(drawn) == 2 and all(a is b for a, b in zip(drawn, kept)) and not kept[2].any()


def test_numpys_whole_numbers_are_whole_numbers():
    from test_sampling import LABELS, Model

    ours, theirs = (
        samplers.sample(Model(), LABELS, 1.0, steps=steps, generator=torch.Generator().manual_seed(0)) for steps in (5, np.int64(5))
    )
    assert torch.equal(ours, theirs)


def test_a_network_whose_encoder_gives_two_results_is_drawn_from():
    """(h, skips), and a block that is called by keyword: both once trained, and could not be drawn from."""
    from torch import nn

    from config import DMConfig

    class Encoder(nn.Module):
        def forward(self, x):
            return x.mean((2, 3), keepdim=True), [x]

    class Block(nn.Module):
        def forward(self, h, c):
            return h * c.sum(1).view(-1, 1, 1, 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.block, self.scale = Encoder(), Block(), nn.Parameter(torch.tensor(0.1))

        def forward(self, x, t, c):
            h, (skip,) = self.encoder(x)
            return self.scale * (self.block(h=h, c=c * torch.arange(10)) + skip)

    class Course:
        dmconfig, network = DMConfig(T=10, input_dim=(4, 4), precision="float32"), Net()

        def scheduler(self, t):
            return {"beta_t": torch.linspace(1e-8, 0.2, 10)[t - 1].view(-1, 1, 1, 1)}

    for method in samplers.METHODS:
        two = samplers.sample(
            Course(),
            torch.tensor([3, 3]),
            2.0,
            method=method,
            steps=4,
            x_T=torch.ones(2, 1, 4, 4),
            generator=torch.Generator().manual_seed(0),
        )
        assert two.isfinite().all() and (method in ("ddpm", "sde", samplers.BEST) or torch.equal(two[0], two[1])), (
            "one label, one start, one image"
        )
    assert ConditionalProcess(Course()).sigma[1] == pytest.approx(math.sqrt(1e-8), rel=1e-6)
