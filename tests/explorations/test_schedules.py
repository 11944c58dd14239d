"""The cosine schedule, and the model with added embeddings of explorations/schedules.ipynb."""

import math
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from checks.truth import tables
from PIL import Image
from torch import nn

import additive
from config import DMConfig
from DDPM import ConditionalDDPM
from lab.diffusion import schedules
from lab.training import checkpoint
from ResUNet import ConditionalUnet

TINY = dict(num_feat=8, T=10, schedule="cosine", precision="float32")


def tiny(**settings):
    torch.manual_seed(0)
    return additive.AdditiveDDPM(DMConfig(**{**TINY, **settings})).eval()


@pytest.mark.parametrize("T", [1, 2, 10, 100, 1000])
def test_the_betas_are_those_of_diffusers(T):
    theirs = diffusers.DDPMScheduler(T, beta_schedule="squaredcos_cap_v2").betas
    ours = schedules.cosine(T)
    assert ours.dtype == torch.float64 and ours.shape == (T,)
    torch.testing.assert_close(ours.float(), theirs, rtol=1e-6, atol=0)


def test_alpha_bar_is_a_squared_cosine_of_the_time_however_many_steps():
    for T in (10, 1000):
        f = [math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(T)]
        alpha_bar = (1 - schedules.cosine(T)).cumprod(0)[:-1].numpy()  # the last beta is bounded
        np.testing.assert_allclose(alpha_bar, np.array(f[1:]) / f[0], rtol=1e-10)


@pytest.mark.parametrize("T", [0, -1, 2.0, True, None])
def test_a_schedule_of_no_steps_is_refused(T):
    with pytest.raises(ValueError, match="allowed is a whole number of at least 1"):
        schedules.cosine(T)


def test_the_process_follows_the_schedule_of_its_settings():
    """All seven tables, in any order of t; a config that knows of no schedule is the course's."""
    t = torch.tensor([10, 1, 7, 3])
    for schedule, betas in (("cosine", schedules.cosine(10).numpy()), ("linear", np.linspace(1e-4, 2e-2, 10))):
        model = ConditionalDDPM(DMConfig(**{**TINY, "schedule": schedule}))
        got, right = model.scheduler(t), tables(betas)
        for name in right:
            np.testing.assert_allclose(got[name].flatten().numpy(), right[name][t - 1], rtol=3e-7, err_msg=f"{schedule} {name}")
    older = vars(DMConfig(**{**TINY, "schedule": "linear"})).copy()
    del older["schedule"]
    model.dmconfig = SimpleNamespace(**older)
    torch.testing.assert_close(model.scheduler(t), got)


def test_time_and_label_are_added():
    """What is moved from one embedding to the other changes nothing; what is added to one does; each image has its own."""
    net = tiny().network
    x, t, c = torch.randn(4, 1, 28, 28), torch.rand(4, 1, 1, 1), torch.eye(10)[:4]
    before = net(x, t, c)
    with torch.no_grad():
        for times, labels in ((net.timeembed1, net.conditionembed1), (net.timeembed2, net.conditionembed2)):
            times.layers[2].bias += 0.5
            labels.layers[2].bias -= 0.5
    torch.testing.assert_close(net(x, t, c), before, rtol=1e-4, atol=1e-5)
    for name in ("timeembed1", "timeembed2", "conditionembed1", "conditionembed2"):
        with torch.no_grad():
            getattr(net, name).layers[2].bias += 0.5
            assert (net(x, t, c) - before).abs().max() > 1e-3, name
            getattr(net, name).layers[2].bias -= 0.5
    for other in (net(x, torch.cat([t[:1] / 2, t[1:]]), c), net(x, t, torch.cat([c[-1:], c[1:]]))):
        torch.testing.assert_close(other[1:], before[1:], rtol=1e-4, atol=1e-5)
        assert (other[0] - before[0]).abs().max() > 1e-5


@pytest.mark.parametrize("low, black, grey", [(-1.0, -1, 2 * 51 / 255 - 1), (0.0, 0, 51 / 255)])
def test_scaling(low, black, grey):
    pixels = additive.scaling(low)(Image.fromarray(np.array([[0, 51, 255]], np.uint8)))
    torch.testing.assert_close(pixels, torch.tensor([[[black, grey, 1.0]]]))


class Oracle(nn.Module):
    """A network that knows the image of each class, as the model scales it, and answers with the noise that leads there."""

    def __init__(self, model, known, null):
        super().__init__()
        self.known, self.null, self.table = known, null, schedules.cosine(model.dmconfig.T)
        self.anchor, self.calls = nn.Parameter(torch.zeros(())), 0

    def forward(self, x, t, c):
        self.calls += 1
        assert bool((c == -1).all()) == self.null
        bar = (1 - self.table).cumprod(0)[(t.flatten() * len(self.table)).round().long() - 1].view(-1, 1, 1, 1)
        known = self.known[0].expand_as(x) if self.null else self.known[c.argmax(1)]
        return ((x - bar.sqrt() * known) / (1 - bar).sqrt()).float()


@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("omega, clip", [(0.0, True), (-1.0, True), (0.0, False)])
def test_draws_in_the_models_own_range(low, omega, clip):
    """What comes out is the known image in [0, 1]; what it has beyond the model's range is clipped on the way or at the end."""
    model, pixels = tiny(omega=omega), torch.rand(10, 1, 28, 28) * 1.4 - 0.2
    model.network = Oracle(model, low + (1 - low) * pixels, null=omega == -1)
    labels = torch.arange(10).repeat(11)  # more than one batch
    images = additive.draw(model, labels, low, steps=10, clip=clip)
    right = pixels.clamp(0, 1)[labels] if omega == 0 else pixels.clamp(0, 1)[:1].expand(110, -1, -1, -1)
    torch.testing.assert_close(images, right, rtol=0, atol=1e-4)


def test_clips_while_it_draws_and_by_a_seed(monkeypatch):
    model, labels, asked, trajectory = tiny(), torch.arange(10), [], additive.samplers.trajectory
    monkeypatch.setattr(additive.samplers, "trajectory", lambda *words, **how: asked.append(how["clip"]) or trajectory(*words, **how))
    kept, again, other, free = (
        additive.draw(model, labels, -1.0, steps=5, seed=seed, clip=clip) for seed, clip in ((0, True), (0, True), (1, True), (0, False))
    )
    additive.draw(model, labels, 0.0, steps=1)
    assert torch.equal(kept, again) and not torch.equal(kept, other) and not torch.equal(kept, free)
    assert asked == [(-1.0, 1.0)] * 3 + [False, (0.0, 1.0)]


def test_a_label_or_a_step_that_the_model_lacks_is_refused_before_any_work():
    model = tiny()
    model.network = Oracle(model, torch.zeros(10, 1, 28, 28), null=False)
    for labels, steps, word in (([10], 5, "0 to 9"), ([-1], 5, "0 to 9"), ([1], 11, "1 to 10"), ([1], 0, "steps")):
        with pytest.raises(ValueError, match=word):
            additive.draw(model, torch.tensor(labels), -1.0, steps=steps)
    assert model.network.calls == 0


class Batches(list):
    dataset = range(32)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """A function that trains the variant T = 10 for three epochs of toy images in a folder of the test; the folder."""

    def batches(transform, batch_size, train, limit):
        assert limit == (32 if train else 16) and batch_size == 16
        return Batches((transform(Image.new("L", (28, 28), 255)).expand(16, -1, -1, -1), torch.arange(16) % 10) for _ in range(limit // 16))

    def train(kind, name="T = 10"):
        size = dict(num_feat=8, batch_size=16, epochs=3, precision="float32", ema_decay=0.9)
        return additive.train(name, kind, tmp_path, moments=(1, 3), limit=32, test_limit=16, **size)

    monkeypatch.setattr(additive, "make_dataloader", batches)
    train.folder = tmp_path
    return train


def test_keeps_the_moments_of_a_training_and_goes_on_with_it(trained):
    history = trained("conditional")
    folder = trained.folder / "T10_conditional_from_-1"
    assert sorted(path.name for path in folder.glob("epoch_*.pth")) == ["epoch_1.pth", "epoch_3.pth"]
    first, last = (checkpoint.load(folder / f"epoch_{k}.pth") for k in (1, 3))
    assert (first["epoch"], last["epoch"]) == (1, 3) and last["dmconfig"]["T"] == 10 and last["dmconfig"]["schedule"] == "cosine"
    name = "network.init_conv.conv2.0.weight"
    averaged, raw = (additive.load(folder / "epoch_3.pth", averaged).state_dict()[name].cpu() for averaged in (True, False))
    assert torch.equal(averaged, last["model_state_dict"][name]) and torch.equal(raw, last["raw_model_state_dict"][name])
    assert not torch.equal(averaged, raw) and not torch.equal(averaged, first["model_state_dict"][name])
    (folder / "epoch_3.pth").unlink()
    with pytest.raises(ValueError, match="kept nothing of epoch 3"):  # and nothing is trained again
        trained("conditional")
    checkpoint.save(folder / "epoch_3.pth", last)
    assert trained("conditional") == history


def test_without_a_class_it_is_trained_on_the_null_row_alone(trained, monkeypatch):
    seen, forward = [], ConditionalUnet.forward
    monkeypatch.setattr(additive, "draw", lambda model, labels, low, steps: torch.zeros(10, 1, 28, 28))  # guided, it asks for both
    monkeypatch.setattr(ConditionalUnet, "forward", lambda self, x, t, c: seen.append(c) or forward(self, x, t, c))
    trained("unconditional")
    rows = torch.cat(seen)
    assert (rows == -1).all()
    seen.clear()
    trained("conditional")
    assert 0.6 < (torch.cat(seen).sum(1) == 1).float().mean() < 1


def test_variants_train_with_what_their_names_say(trained, monkeypatch):
    """No scaling: the white images of the toy are 1 in either, black is 0; linear has no cosine; T is T."""
    lows, scaling = [], additive.scaling
    monkeypatch.setattr(additive, "scaling", lambda low: lows.append(low) or scaling(low))
    trained("conditional", "no scaling")
    assert set(lows) == {0.0} and {v.low for name, v in additive.VARIANTS.items() if name != "no scaling"} == {-1.0}
    settings = {name: (v.settings["T"], v.settings["schedule"]) for name, v in additive.VARIANTS.items()}
    cosine = {"baseline": 1000, "no scaling": 1000, "T = 100": 100, "T = 10": 10}
    assert settings == {**{name: (T, "cosine") for name, T in cosine.items()}, "linear": (1000, "linear")}


def test_what_was_judged_is_kept(trained, monkeypatch):
    trained("conditional")
    path, drawn = trained.folder / "T10_conditional_from_-1" / "epoch_3.pth", []

    def evaluate(images, labels):
        drawn.append((len(images), labels.tolist()))
        return {"frechet": images.mean().item()}

    monkeypatch.setattr(additive.quality, "evaluate", evaluate)
    monkeypatch.setattr(additive.quality, "proportional_labels", lambda count: torch.arange(count) % 10)
    ask = lambda **how: additive.judged(path, -1.0, 20, **{"steps": 3, **how})
    one = ask()
    assert ask() == one and drawn == [(20, list(range(10)) * 2)]
    others = [ask(seed=1), ask(clip=False), ask(averaged=False), ask(steps=4)]
    assert len(drawn) == 5 and len({row["frechet"] for row in (one, *others)}) == 5


def test_every_way_is_measured_with_what_its_name_says(monkeypatch, tmp_path):
    """Which checkpoint is judged how; and the table, in which two seeds are a range and a variant has its own loss."""
    asked = []

    def judged(path, low, count, *, seed, **how):
        asked.append((path.parent.name, path.name, low, count, seed, tuple(sorted(how.items()))))
        return {"frechet": 12 - len(asked), "recall": 0.5, "accuracy": seed / 10}

    monkeypatch.setattr(additive, "judged", judged)
    rows = additive.measured(tmp_path, (1, 4), 200, 25, 2)
    assert len(rows) == 2 * 7 * 2 and len(asked) == len(set(asked)) == 2 * 7 * 3
    assert ("T10_unconditional_from_-1", "epoch_1.pth", -1.0, 200, 0, (("steps", 10),)) in asked
    assert ("no_scaling_conditional_from_0", "epoch_4.pth", 0.0, 200, 1, (("steps", 25),)) in asked
    assert ("baseline_conditional_from_-1", "epoch_4.pth", -1.0, 200, 0, (("clip", False), ("steps", 25))) in asked
    assert ("baseline_unconditional_from_-1", "epoch_1.pth", -1.0, 200, 0, (("averaged", False), ("steps", 25))) in asked
    lines = additive.table(rows, "conditional", (1, 4), {name: i / 10 for i, name in enumerate(additive.VARIANTS)}).splitlines()
    assert lines[0] == "| conditional | test loss | Fréchet distance | recall | read as asked for |" and len(lines) == 9
    assert lines[2] == "| baseline | 0.0000 | 11.000 → 9.000 to 10.000 | 0.500 → 0.500 | 0.000 → 0.000 to 0.100 |"
    assert lines[3].startswith("| linear | 0.1000 |") and lines[7].startswith("| no clipping | 0.0000 (of the baseline) |")
    assert "asked for" not in additive.table(rows, "unconditional", (1, 4), dict.fromkeys(additive.VARIANTS, 0))


def test_loss_by_time():
    """Of a network that answers with x_t itself: a closed form in float64."""
    model = tiny()

    class Echo(nn.Module):
        def forward(self, x, t, c):
            assert (c.sum(1) == 1).all() and t.shape == (len(x), 1, 1, 1) and t[0].item() in (np.float32(0.1), np.float32(0.7), 1)
            return x

    model.anchor, model.network = nn.Parameter(torch.zeros(())), Echo()
    images = torch.rand(50, 1, 28, 28) * 2 - 1
    losses, signal = additive.loss_by_time(model, images, torch.arange(50) % 10, [1, 7, 10])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).double()
    bar = (1 - schedules.cosine(10)).cumprod(0)[[0, 6, 9]]
    right = [((b.sqrt() * images.double() + ((1 - b).sqrt() - 1) * noise) ** 2).mean().item() for b in bar]
    np.testing.assert_allclose(losses, right, rtol=1e-5)
    np.testing.assert_allclose(signal, (bar / (1 - bar)).numpy(), rtol=1e-5)
