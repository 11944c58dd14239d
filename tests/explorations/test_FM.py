"""explorations/FM.py: the closed form, one engine for both, and the checks of a student's: each mistake costs its own property."""

import dataclasses
import inspect
import math
import re
import types

import pytest
import torch
from checks.sections import FLOW_MATCHING
from checks.student import Student

import FM
from config import DMConfig
from DDPM import ConditionalDDPM
from lab import samplers
from lab.diffusion.guidance_methods import projected, rescaled
from lab.training.checkpoint import CheckpointError
from utils import check_forward, check_sample, load_model, sample_images, solver

SMALL = DMConfig(T=12, num_feat=8, batch_size=16, epochs=1, precision="float32")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return FM.ConditionalFM(SMALL).eval()


def straight(model, image, noise):
    """The model, knowing the one velocity that leads from this noise to this image."""
    model.network.forward = lambda x, t, c: (image - noise).expand_as(x)
    return model


# ---- the flow


def test_the_loss_is_that_of_the_straight_path(model):
    images, labels, seen = torch.randn(6, 1, 28, 28), torch.arange(6), []
    model.network.forward = lambda x, t, c: seen.append((x, t, c)) or torch.zeros_like(x)
    loss = model(images, labels, generator=seeded())
    ((x, t, c),) = seen
    noise = (x - t * images) / (1 - t)
    assert t.shape == (6, 1, 1, 1) and 0 <= t.min() and t.max() < 1 and len(t.unique()) == 6
    torch.testing.assert_close(loss, (images - noise).square().mean(), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(row, torch.eye(10)[k]) or (row == -1).all() for k, row in enumerate(c))


@pytest.mark.parametrize("method", ["ddim", "dpmpp", "unipc", "heun"])
@pytest.mark.parametrize("steps", [1, 3, 12])
def test_along_a_straight_line_every_method_arrives(model, method, steps):
    image, noise = torch.rand(2, 1, 28, 28) * 2 - 0.4, torch.randn(2, 1, 28, 28)
    found = samplers.final(samplers.trajectory(straight(model, image, noise), torch.arange(2), 1.5, method=method, steps=steps, x_T=noise))
    torch.testing.assert_close(found, image, rtol=1e-3, atol=2e-3)


def test_eulers_method_is_ddim_of_the_engine(model):
    labels = torch.arange(4)
    ours = samplers.sample(model, labels, 1.5, method="ddim", steps=SMALL.T, generator=seeded())
    torch.testing.assert_close(ours, model.sample(labels, 1.5, generator=seeded()), rtol=1e-4, atol=1e-4)


def test_heuns_method_is_of_second_order(model):
    """On dx/dt = -2 t x, whose solution is x_0 exp(-t^2), half the step leaves a quarter of the error; Euler's method half of it."""
    noise = torch.randn(1, 1, 28, 28)
    model.network.forward = lambda x, t, c: -2 * t * x
    walk = lambda method, steps: samplers.final(
        samplers.trajectory(model, torch.zeros(1, dtype=int), 0, method=method, steps=steps, x_T=noise)
    )
    error = lambda method, steps: (walk(method, steps) - noise / math.e).abs().max()
    assert 3.4 < error("heun", 6) / error("heun", 12) < 5 and 1.6 < error("ddim", 6) / error("ddim", 12) < 2.5
    with pytest.raises(ValueError, match="allowed is one of ddpm, ddim, dpmpp, unipc, sde, best$"):
        samplers.sample(ConditionalDDPM(SMALL), torch.arange(2), 1.0, method="heun")


@pytest.mark.parametrize("how", [{"clip": True}, {"clip": (-1, 1)}, {"guidance": projected()}, {"guidance": rescaled()}])
def test_heuns_method_takes_nothing_that_needs_the_noise_at_0(how, model):
    with pytest.raises(ValueError, match="method = 'heun' with clip = .*; allowed is not clipped, by plain guidance"):
        samplers.sample(model, torch.arange(2), 1.0, method="heun", **how)


def test_a_flow_is_not_clipped_unless_asked_for(model):
    """The default of the cosine schedule is for DDPMs, whose x_0 is a division by almost 0 there."""
    model.dmconfig = dataclasses.replace(model.dmconfig, schedule="cosine")
    assert samplers.sample(model, torch.arange(2), 1.0, method="heun", steps=3).isfinite().all()


def test_no_call_is_spent_on_the_start(model):
    calls, forward = [], model.network.forward
    model.network.forward = lambda x, t, c: calls.append(t.flatten()[0].item()) or forward(x, t, c)
    samplers.sample(model, torch.arange(2), 1.0, method="ddim", steps=3)
    assert calls == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3], abs=1e-6)


def test_it_trains_keeps_and_draws_as_a_ddpm_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    batches = [(torch.rand(16, 1, 28, 28), torch.arange(16) % 10)] * 2
    loader = type("Loader", (list,), {"dataset": range(32)})(batches)
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    assert isinstance(check_forward(loader, SMALL, "cpu", FM.ConditionalFM), FM.ConditionalFM)
    history = solver(SMALL, "flow", loader, loader, model_class=FM.ConditionalFM)
    path = "save/flow/best_checkpoint.pth"
    again = load_model(path, "cpu", FM.ConditionalFM)
    assert len(history) == 1 and again.dmconfig == dataclasses.replace(SMALL, process="flow")
    assert sample_images(SMALL, path, FM.ConditionalFM).shape == (280, 280, 3)
    check_sample(again, SMALL, "cpu")
    with pytest.raises(CheckpointError, match=r"process 'flow', and ConditionalDDPM is 'ddpm'.*model_class=ConditionalFM"):
        load_model(path, "cpu")
    solver(SMALL, "ddpm", loader, loader)
    with pytest.raises(CheckpointError, match="process 'ddpm', and ConditionalFM is 'flow'"):
        load_model("save/ddpm/best_checkpoint.pth", "cpu", FM.ConditionalFM)
    with pytest.raises(ValueError, match="process was 'flow', is 'ddpm'"):
        solver(SMALL, "flow", loader, loader)


# ---- the checks

SOURCE = inspect.getsource(FM)
PATH = "x_t = (1 - t) * noise + t * images"
NET = "self.network(x_t, t, c)"
STEP = "x = x + v / T"
TIME = "torch.full((len(x), 1, 1, 1), i / T, device=device)"
GUIDE = "v = (1 + omega) * v_c - omega * v_u"
WRONG = [  # (name, edits, the property that it costs, words)
    ("time reversed", [(PATH, "x_t = t * noise + (1 - t) * images")], "x_t", "time runs backwards"),
    ("roots", [(PATH, "x_t = (1 - t).sqrt() * noise + t.sqrt() * images")], "x_t", "roots of a DDPM"),
    ("t as an index", [(NET, "self.network(x_t, t * self.dmconfig.T, c)")], "x_t", "t is told as an index"),
    ("one t for all", [("torch.rand(len(images), 1, 1, 1,", "torch.rand(1, 1, 1, 1,"), (NET, "self.network(x_t, t.expand(len(c), 1, 1, 1), c)")],
     "x_t", "one t is drawn for the whole batch"),
    ("times of others", [(NET, "self.network(x_t, t.flip(0), c)")], "x_t", "in another order than the pictures"),
    ("uniform noise", [("torch.randn(images.shape", "torch.rand(images.shape")], "x_t", "the noise is uniform"),
    ("one noise for all", [("noise = torch.randn(images.shape, **draw)", "noise = torch.randn(1, *images.shape[1:], **draw).expand_as(images)")],
     "x_t", "share one noise"),
    ("clean images", [(PATH, "x_t = images")], "x_t", "the clean image"),
    ("normal times", [("t = torch.rand(len(images)", "t = torch.randn(len(images)")], "x_t", "normal distribution"),
    ("logit-normal times", [(PATH, "t = torch.randn_like(t).sigmoid()\n        " + PATH)], "x_t", "uniform in"),
    ("wrong sign", [("c), images - noise)", "c), noise - images)")], "loss", "points from the image to the noise"),
    ("noise as target", [("c), images - noise)", "c), noise)")], "loss", "the target is the noise"),
    ("image as target", [("c), images - noise)", "c), images)")], "loss", "the target is the image"),
    ("other noise", [("c), images - noise)", "c), images - torch.randn_like(noise))")], "loss", "do not hold the same noise"),
    ("absolute loss", [("self.loss_fn(self", "torch.nn.functional.l1_loss(self")], "loss", "mean absolute error"),
    ("sum", [("self.loss_fn(self", "torch.nn.MSELoss(reduction='sum')(self")], "loss", "summed, not averaged"),
    ("never hidden", [("hidden = torch.rand(len(c), 1, **draw).to(c.device) < mask_p", "hidden = torch.zeros(len(c), 1) > 0")],
     "condition", "conditions are never hidden"),
    ("hidden as zeros", [("torch.where(hidden, mask_value, c)", "torch.where(hidden, 0.0, c)")], "condition", "hidden rows are zeros"),
    ("entries hidden", [("torch.rand(len(c), 1, **draw)", "torch.rand(c.shape, **draw)")], "condition", "single entries are masked"),
    ("noise in the steps", [(STEP, STEP + " + 0.1 * torch.randn_like(x)")], "steps", "noise is added in the steps"),
    ("backwards", [(STEP, "x = x - v / T")], "steps", "the step goes the wrong way"),
    ("dt left out", [(STEP, "x = x + v")], "steps", "the velocity is added whole"),
    ("times from 1 to 0", [(TIME, "torch.full((len(x), 1, 1, 1), 1 - i / T, device=device)")], "steps", "time runs backwards"),
    ("at the end", [(TIME, "torch.full((len(x), 1, 1, 1), (i + 1) / T, device=device)")], "steps", "each step is taken at its end"),
    ("index in sampling", [(TIME, "torch.full((len(x), 1, 1, 1), float(i), device=device)")], "steps", "t is told as an index"),
    ("one step too many", [("for i in range(T):", "for i in range(T + 1):")], "steps", "one step too many"),
    ("uniform start", [("x = torch.randn(shape", "x = torch.rand(shape")], "steps", "the start is uniform"),
    ("no scaling back", [("return (x * STD + MEAN).clamp(0, 1)", "return x.clamp(0, 1)")], "steps", "x \\* 0.3081 \\+ 0.1307"),
    ("without 1 +", [(GUIDE, "v = omega * v_c + (1 - omega) * v_u")], "guidance", "the 1 \\+ is left out"),
    ("swapped", [(GUIDE, "v = (1 + omega) * v_u - omega * v_c")], "guidance", "swapped"),
    ("no guidance", [(GUIDE, "v = v_c + 0 * v_u")], "guidance", "there is no guidance"),
    ("zeros for null", [("torch.full_like(c, mask_value)", "torch.zeros_like(c)")], "guidance", "row of zeros"),
]  # fmt: skip
RIGHT = [
    ("doubled batch", [("v_c = self.network(x, t, c)  # (B, C, H, W)", ""), ("v_u = self.network(x, t, null)", "both = torch.cat([c, null])"),
                       (GUIDE, "v_c, v_u = self.network(torch.cat([x, x]), torch.cat([t, t]), both).chunk(2)\n                " + GUIDE)]),
    ("a step fewer", [("i / T, device", "i / (T - 1), device"), ("for i in range(T):", "for i in range(T - 1):"), (STEP, "x = x + v / (T - 1)")]),
    ("another order of the target", [("c), images - noise)", "c) + noise, images)")]),
    ("times of a generator", [("t = torch.rand(len(images), 1, 1, 1, **draw)", "t = torch.empty(len(images)).uniform_().view(-1, 1, 1, 1)")]),
    ("other letters", [(PATH, "x_t = torch.lerp(noise, images, t)")]),
]  # fmt: skip
EDITION_2026 = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from ResUNet import ConditionalUnet

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class ConditionalFM(nn.Module):
    def __init__(self, modelconfig):
        super().__init__()
        self.modelconfig = modelconfig
        self.network = ConditionalUnet(modelconfig.num_channels, modelconfig.num_feat, modelconfig.num_classes, (modelconfig.input_dim,) * 2)
        self.to(device)

    def forward(self, images, conditions):
        rows = F.one_hot(conditions, self.modelconfig.num_classes).float()
        rows[torch.rand(len(rows), device=device) < self.modelconfig.mask_p] = self.modelconfig.condition_mask_value
        start, when = torch.randn_like(images), torch.rand(len(images), device=device).view(-1, 1, 1, 1)
        return F.mse_loss(self.network(when * images + (1 - when) * start, when, rows), images - start)

    def sample(self, conditions, omega):
        m, n = self.modelconfig, len(conditions)
        rows = F.one_hot(conditions, m.num_classes).float()
        nothing = torch.ones_like(rows) * m.condition_mask_value
        X = torch.randn(n, m.num_channels, m.input_dim, m.input_dim, device=device)
        self.network.eval()
        with torch.no_grad():
            for when in torch.linspace(0, 1, m.T + 1)[:-1]:
                when = when.repeat(n, 1, 1, 1).view(n, 1, 1, 1)
                u = self.network(X, when, nothing)
                X += (u + (1 + omega) * (self.network(X, when, rows) - u)) / m.T
        return (X * 0.3081 + 0.1307).clamp(0, 1)
"""


def judged(source):
    torch.set_num_threads(1)
    module = types.ModuleType("FM_edited")
    exec(compile(source, "FM_edited.py", "exec"), module.__dict__)
    return FLOW_MATCHING.examine(Student(module.ConditionalFM))


def edited(edits):
    source = SOURCE
    for old, new in edits:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in FM.py"
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("name, edits, key, words", WRONG, ids=[row[0] for row in WRONG])
def test_a_mistake_costs_its_property_and_is_named(name, edits, key, words):
    found = judged(edited(edits))
    assert list(found.faults) == [key], found.faults
    assert re.search(words, " ".join(found.says(key))), list(found.says(key))


@pytest.mark.parametrize(
    "source", [SOURCE, EDITION_2026, *(edited(edits) for _, edits in RIGHT)], ids=["ours", "2026", *(row[0] for row in RIGHT)]
)
def test_right_ones_keep_all_points(source):
    found = judged(source)
    assert not found.faults and FLOW_MATCHING.points == 5, found.faults


def test_what_is_written_is_judged_without_the_rest():
    forward, sample = SOURCE.split("### BEGIN SOLUTION")[1].split("### END")[0], SOURCE.split("### BEGIN SOLUTION")[2].split("### END")[0]
    assert set(judged(SOURCE.replace(forward, "\n        raise NotImplementedError\n        ")).faults) == {"x_t", "loss", "condition"}
    assert set(judged(SOURCE.replace(sample, "\n                raise NotImplementedError\n            ")).faults) == {"steps", "guidance"}
    assert judged(
        SOURCE.replace(forward, "\n        raise NotImplementedError\n        ").replace(
            sample, "\n                raise NotImplementedError\n            "
        )
    ).unwritten


def test_a_ddpm_is_no_flow():
    assert ConditionalDDPM(SMALL).dmconfig.process == "ddpm" and FM.ConditionalFM(SMALL).dmconfig.process == "flow"
