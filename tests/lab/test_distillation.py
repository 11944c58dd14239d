"""Networks that draw in a few calls: how they draw, what each method teaches, and that a run resumes."""

import copy
import dataclasses
import itertools
import math
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import same
from stub import Stub, build
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from config import DMConfig
from DDPM import ConditionalDDPM
from lab import display, distillation, samplers
from lab.__main__ import main
from lab.diffusion.few import STEPS, FewSteps, times
from lab.diffusion.process import process
from lab.distillation import consistency, drifting, moments, readers, trajectory
from lab.quality import judge
from lab.training import checkpoint, data, pretrained
from lab.training.trainer import Trainer
from utils import load_model

SMALL = dict(T=8, beta_1=0.02, beta_T=0.4, num_feat=8, precision="float32", batch_size=20)
IMAGE = torch.linspace(-0.4, 2.8, 28 * 28).view(1, 1, 28, 28)  # the only image that the perfect teacher knows
LABELS = torch.arange(20) % 10
QUIET = display.Reporter(silent=True)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def student(predict, omega=0.5, T=8):
    """A student whose image is predict(x, t, c)."""
    return FewSteps(build(ConditionalDDPM, Stub(predict), omega=omega, T=T))


@pytest.fixture
def perfect():
    """A teacher that knows one image: its noise is exact."""
    model = build(ConditionalDDPM, None, **{key: SMALL[key] for key in ("T", "beta_1", "beta_T")})
    model.network = Stub(lambda x, t, c: None)
    way = process(model)

    def noise(x, t, c):
        step = int((t.flatten()[0] * model.dmconfig.T).round())
        return (x - way.alpha[step] * IMAGE) / way.sigma[step]

    model.network.predict = noise
    return model.eval()


# ---- drawing


@pytest.mark.parametrize("steps, asked", [(1, [10]), (2, [10, 5]), (4, [10, 8, 5, 2])])
def test_a_step_is_a_call_and_begins_with_noise(steps, asked):
    """The image that the network predicts, with fresh noise for the next time; nothing of x_t is kept."""
    model = student(lambda x, t, c: x / 2, T=10)
    drawn = samplers.final(samplers.trajectory(model, LABELS, 0.5, steps=steps, generator=generator()))
    calls = model.network.calls
    assert [(call.t[0] * 10).round().item() for call in calls] == asked
    way, g = process(model), generator()
    x = torch.randn(20, 1, 28, 28, generator=g)
    for call, s in zip(calls, [*asked[1:], 0]):
        torch.testing.assert_close(call.x, x)
        x = way.alpha[s] * x / 2 + (way.sigma[s] * torch.randn(20, 1, 28, 28, generator=g) if s else 0)
    torch.testing.assert_close(drawn, x)


@pytest.mark.parametrize("conditions", [torch.full((2, 10), -1.0), torch.full((2, 10), 0.1), torch.tensor([10])])
def test_conditions_that_name_no_class_are_refused(conditions):
    with pytest.raises(ValueError, match="one-hot rows hold one 1 each|labels 10 to 10"):
        student(lambda x, t, c: x).sample(conditions)


def test_by_default_it_draws_in_one_call():
    model = student(lambda x, t, c: x.clamp(-0.4, 2.8))
    one = samplers.sample(model, LABELS, 0.5, generator=generator())
    torch.testing.assert_close(samplers.sample(model, LABELS, 0.5, method="few", steps=1, generator=generator()), one)
    torch.testing.assert_close(model.sample(LABELS, generator=generator()), one)
    torch.testing.assert_close(model.sample(nn.functional.one_hot(LABELS), 0.5, generator()), one)


@pytest.mark.parametrize(
    "how, named", [({"steps": 3}, "1, 2, 4"), ({"omega": 2.0}, "has learned 0.5"), ({"guidance_interval": (0, 1)}, "no other guidance"),
                   ({"method": "dpmpp"}, "allowed is one of few")]
)  # fmt: skip
def test_what_it_has_not_learned_is_refused(how, named):
    with pytest.raises(ValueError, match=named):
        samplers.trajectory(student(lambda x, t, c: x), LABELS, **{"omega": 0.5, **how})


def test_another_model_does_not_draw_in_few_calls():
    with pytest.raises(ValueError, match="method = 'few'; allowed is one of ddpm"):
        samplers.trajectory(build(ConditionalDDPM, Stub(lambda x, t, c: x)), LABELS, 0.5, method="few", steps=1)


def test_batch_norm_keeps_its_statistics_in_training():
    model = FewSteps(ConditionalDDPM(DMConfig(**SMALL))).train()
    before = copy.deepcopy(dict(model.named_buffers()))
    model.predict(torch.randn(4, 1, 28, 28), 8, LABELS[:4]).square().mean().backward()
    assert model.training and same(before, dict(model.named_buffers()))
    assert all(p.grad is not None for name, p in model.named_parameters() if "embed" not in name)


# ---- what each method teaches


def test_the_energy_distance_is_that_of_its_definition():
    draw = generator()
    x, y, labels = torch.randn(12, 3, generator=draw), 1 + torch.randn(12, 3, generator=draw), torch.arange(12) % 3
    pairs = [(i, j) for i, j in itertools.permutations(range(12), 2) if labels[i] == labels[j]]
    mean = lambda a, b: sum((a[i] - b[j]).norm() for i, j in pairs) / len(pairs)
    wanted = (2 * mean(x, y) - mean(x, x) - mean(y, y)) / mean(y, y)
    torch.testing.assert_close(drifting.energy_distance(x, y, labels), wanted)


def test_the_energy_distance_is_zero_on_average_for_one_distribution_and_grows_for_another():
    draw = generator()
    labels = torch.arange(40) % 2
    sample = lambda shift=0.0: shift + torch.randn(40, 5, generator=draw)
    mean = lambda shift: sum(drifting.energy_distance(sample(), sample(shift), labels) for _ in range(200)) / 200
    assert abs(mean(0.0)) < 0.005 and mean(1.0) > 0.2


def test_a_digit_that_is_drawn_from_a_real_one_is_not_compared_with_it():
    x, labels = torch.randn(6, 4, generator=generator()), torch.zeros(6, dtype=torch.long)
    torch.testing.assert_close(drifting.energy_distance(x, x, labels), torch.tensor(0.0), atol=1e-6, rtol=0)
    assert drifting.energy_distance(x, x + 5, labels) > 1


def test_where_no_class_has_two_digits_there_is_no_distance():
    x = torch.randn(3, 4, requires_grad=True)
    distance = drifting.energy_distance(x, x.detach() + 1, torch.arange(3))
    distance.backward()
    assert distance == 0 and x.grad.isfinite().all()


@pytest.fixture
def loaders(small_mnist, tmp_path, monkeypatch):
    from conftest import put

    monkeypatch.setenv("MNIST_DIR", str(put(tmp_path / "mnist", small_mnist)))
    return [data.loader(data.mnist(data.NORMALISED, train=part), 20, shuffle=part) for part in (True, False)]


@pytest.fixture
def few_paths(monkeypatch):
    """Of 60 and 20 pictures, 20 paths to train on and 6 to test on, ten a part."""
    monkeypatch.setattr(trajectory, "PART", 10)


def test_trajectory_teaches_where_the_path_ends(perfect, loaders, few_paths, tmp_path):
    """Under the perfect teacher every path ends at its image: a student that says so has no loss, another has its error."""
    dmconfig = distillation.settings(perfect, "trajectory", batch_size=20)
    (train, test), loss = trajectory.objective(perfect, dmconfig, loaders, tmp_path, QUIET)
    paths, labels = next(iter(train))
    assert len(train.dataset) == 20 and len(test.dataset) == 6 and sorted(labels.tolist()) == sorted(LABELS.tolist())
    assert loss(student(lambda x, t, c: IMAGE.expand_as(x)), paths, labels) < 1e-5
    assert loss(student(lambda x, t, c: IMAGE.expand_as(x) + 0.5), paths, labels).item() == pytest.approx(0.25, abs=0.01)


def test_trajectory_asks_at_the_times_of_the_path(perfect, loaders, few_paths, tmp_path):
    """x_T is noise and x_t stands t of T along; half are asked for at T."""
    dmconfig = distillation.settings(perfect, "trajectory", batch_size=20)
    (train, _), loss = trajectory.objective(perfect, dmconfig, loaders, tmp_path, QUIET)
    model, way = student(lambda x, t, c: x), process(perfect)
    asked = []
    for _ in range(50):
        loss(model, *next(iter(train)))
        asked.append(model.network.calls[-1])
    t, x = torch.tensor(np.concatenate([call.t for call in asked])).mul(8).round(), torch.cat([call.x for call in asked])
    assert set(t.tolist()) == {8, 6, 4, 2} and 0.4 < (t == 8).float().mean() < 0.6
    assert x[t == 8].std().item() == pytest.approx(1, abs=0.02)
    start = (1 + (way.alpha[8] * IMAGE.std().item()) ** 2) ** 0.5  # of x_T - alpha_T x_0, which shrinks with sigma on the way
    for time in (6, 4, 2):
        rest = x[t == time] - way.alpha[time] * IMAGE
        assert rest.std().item() == pytest.approx(way.sigma[time] / way.sigma[8] * start, rel=0.05)


def test_a_stopped_drawing_of_paths_goes_on(perfect, loaders, few_paths, tmp_path):
    dmconfig = distillation.settings(perfect, "trajectory")
    draw = lambda: dict(zip("xy", trajectory._paths(perfect, dmconfig, 26, tmp_path, QUIET)))
    first = draw()
    (tmp_path / "paths_10.safetensors").unlink()
    perfect.network.calls.clear()
    assert same(draw(), first) and perfect.network.calls[0].x.shape[0] == 10


def test_consistency_asks_for_the_same_image_one_step_on(perfect, loaders, tmp_path):
    """One that always knows the image has no loss; one that is wrong at T alone is pulled to what it says a step on."""

    def knows(x, t, c):
        own = (t * 8 / 2).clamp(max=1)  # below the last time, t = 2, the rest is x_t
        return (IMAGE - (1 - own) * x) / own

    dmconfig = distillation.settings(perfect, "consistency")
    same_loaders, loss = consistency.objective(perfect, dmconfig, loaders, tmp_path, QUIET)
    assert same_loaders is loaders
    images = IMAGE.expand(20, -1, -1, -1)
    right, late = student(knows), student(lambda x, t, c: knows(x, t, c) + (t == 1) * 0.1)
    for right.progress in (0.0, 0.5, 1.0):
        assert max(loss(right, images, LABELS) for _ in range(30)) < 1e-4
    losses = [loss(late, images, LABELS).item() for _ in range(60)]
    c = consistency.HUBER * 28
    assert {round(each, 2) for each in losses} == {0.0, round((0.01 * 784 + c**2) ** 0.5 - c, 2)}


@pytest.mark.parametrize("progress, expected", [(0.0, [0, 0, 0, 0]), (0.34, [0, 1, 1, 200]), (0.67, [0, 1, 2, 300]), (1.0, [0, 1, 2, 300])])
def test_the_times_that_are_to_agree_come_closer(progress, expected):
    assert [consistency.earlier(t, progress) for t in (1, 2, 3, 400)] == expected


def test_at_the_end_of_the_way_the_image_is_what_is_there():
    """Else images that are all alike would agree, too; where it draws it is the network's own."""
    model, x = student(lambda x, t, c: torch.full_like(x, 3.0)), torch.randn(20, 1, 28, 28, generator=generator())
    for t, own in ((0, 0.0), (1, 0.5), (2, 1.0), (8, 1.0)):  # it draws at 8, 6, 4 and 2
        torch.testing.assert_close(consistency.image(model, x, t, LABELS), own * torch.full_like(x, 3.0) + (1 - own) * x)


def test_consistency_holds_the_later_image_fixed(perfect, loaders, tmp_path):
    dmconfig = distillation.settings(perfect, "consistency")
    _, loss = consistency.objective(perfect, dmconfig, loaders, tmp_path, QUIET)
    model = FewSteps(ConditionalDDPM(DMConfig(**SMALL)))
    grows, forward = [], model.network.forward
    model.network.forward = lambda *inputs: grows.append(torch.is_grad_enabled()) or forward(*inputs)
    while len(grows) < 2:
        grows.clear()
        loss(model, IMAGE.expand(20, -1, -1, -1) + 0.1, LABELS).backward()
    assert grows == [False, True]


def test_drifting_pulls_to_the_class(perfect, loaders, tmp_path):
    """Classes that differ in brightness: other pictures of a class are near those of the class, and those of the next one are not."""
    bright = lambda seed, labels: 0.3 * labels.view(-1, 1, 1, 1) + 0.1 * torch.randn(len(labels), 1, 28, 28, generator=generator(seed))
    labels = torch.arange(100) % 10
    made = DataLoader(TensorDataset(bright(0, labels), labels), 50)
    _, loss = drifting.objective(perfect, distillation.settings(perfect, "drifting"), [made, made], tmp_path, QUIET)
    near, far = (loss(student(lambda x, t, c, k=k: bright(1, (labels + k) % 10), 0.0), bright(2, labels), labels).item() for k in (0, 1))
    assert abs(near) < 0.2 and far > near + 1


def test_drifting_reads_what_it_draws(perfect, loaders, tmp_path, monkeypatch):
    """Where drawn digits are the real ones, all that is left is the reader's cross-entropy, here of one that cannot decide."""
    monkeypatch.setattr(readers, "reader", lambda *_: None)
    monkeypatch.setattr(readers, "features", lambda reader, images: ([images.flatten(1)], torch.zeros(20, 10)))
    _, loss = drifting.objective(perfect, distillation.settings(perfect, "drifting"), loaders, tmp_path, QUIET)
    images = torch.randn(20, 1, 28, 28, generator=generator())
    read = loss(student(lambda x, t, c: images), images, LABELS).item()
    assert read == pytest.approx(drifting.READ * math.log(10), abs=1e-5)


@pytest.mark.parametrize("method", distillation.FROM_PICTURES)
def test_what_learns_from_pictures_takes_no_guidance(method, perfect):
    with pytest.raises(ValueError, match=f"omega = 1.0 with {method}"):
        distillation.settings(perfect, method, omega=1.0)


def test_a_reader_is_kept(perfect, loaders, tmp_path, monkeypatch):
    get = lambda seed: readers.reader(seed, distillation.settings(perfect, "drifting"), loaders[0], tmp_path, "cpu", QUIET)
    reader, other = get(1), get(2)
    monkeypatch.setattr(judge, "train", lambda *_: pytest.fail("it is there already"))
    again = get(1)
    assert same(reader.state_dict(), again.state_dict()) and not any(p.requires_grad for p in again.parameters())
    assert not same(reader.state_dict(), other.state_dict())


def test_no_reader_is_the_judge_that_measures():
    assert pretrained.load(pretrained.JUDGE)["record"]["seed"] not in {drifting.SEED, *moments.SEEDS}


def test_the_frechet_distance_is_that_of_two_normal_distributions():
    """With diagonal covariances: (m - n)^2 + (s - r)^2 summed, over the real variance."""
    normal = lambda mean, deviation: moments.Moments(mean, torch.diag(deviation**2) + mean[:, None] * mean)
    m, s = torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.5, 2.0]]).double()
    n, r = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.5, 1.0]]).double()
    torch.testing.assert_close(moments.frechet(normal(m, s), normal(n, r)).item(), (2 + 2) / (4 + 0.25 + 1), rtol=1e-5, atol=0)
    assert abs(moments.frechet(normal(m, s), normal(m, s))) < 1e-6


def test_the_frechet_distance_agrees_with_that_of_the_judgement():
    from lab.quality.metrics import _frechet

    draw = generator()
    x, y = (torch.randn(2000, 6, generator=draw) @ torch.randn(6, 6, generator=draw) + shift for shift in (0, 1))
    ours = moments.frechet(moments.Moments.batch(x), moments.Moments.batch(y))
    assert ours * y.var(0).sum() == pytest.approx(_frechet(x, y), rel=1e-3)


def test_moments_are_averaged_over_batches_and_learn_from_the_last(monkeypatch):
    monkeypatch.setattr(moments, "WARM", 2)
    monkeypatch.setattr(moments, "KEEP", 0.6)
    average, batches = moments.MovingAverage(), torch.randn(3, 50, 4, generator=generator()).double().requires_grad_()
    means = batches.mean(1)
    assert average.add(batches[0]) is None  # too few for a covariance
    torch.testing.assert_close(average.add(batches[1]).mean, means[:2].mean(0))
    last = average.add(batches[2])
    torch.testing.assert_close(last.mean, 0.6 * means[:2].mean(0) + 0.4 * means[2])
    last.mean.sum().backward()
    assert batches.grad[:2].abs().max() == 0
    torch.testing.assert_close(batches.grad[2], torch.full((50, 4), 1 / 50).double())


@pytest.fixture
def matching(perfect, loaders, tmp_path, monkeypatch):
    """The loss of moment matching; it reads with readers that have learned nothing."""
    fresh = lambda seed, *_: judge.Judge().eval().requires_grad_(False)
    monkeypatch.setattr(readers, "reader", fresh)
    return moments.objective(perfect, distillation.settings(perfect, "moments"), loaders, tmp_path, QUIET)[1]


def test_a_later_call_learns_on_what_an_earlier_one_drew(matching, perfect, loaders, tmp_path, monkeypatch):
    """The student draws the brighter the earlier, the pictures are black: brightness tells what it goes on from; at T it is noise."""
    endless = moments._Pass
    monkeypatch.setattr(moments, "_Pass", lambda length: endless(10**6))
    _, loss = moments.objective(perfect, distillation.settings(perfect, "moments"), loaders, tmp_path, QUIET)
    model, way = student(lambda x, t, c: torch.zeros_like(x) + 80 * t), process(perfect)
    torch.manual_seed(0)
    for _ in range(300):
        loss(model, torch.zeros(20, 1, 28, 28), LABELS)
    found = {8: [], 6: [], 4: [], 2: []}  # at each time, the times that drew what it begins with; 0 for pictures and noise
    for call in model.network.calls:
        t = round(call.t[0].item() * 8)
        found[t].append(0 if t == 8 else round(call.x.mean().item() / way.alpha[t] / 10))
    assert set(found[8]) == {0} and len(found[8]) / 300 == pytest.approx(moments.FIRST, abs=0.1)
    assert [set(found[t]) for t in (6, 4, 2)] == [{0, 8}, {0, 8, 6}, {0, 8, 6, 4}]
    later = found[6] + found[4] + found[2]
    assert sum(map(bool, later)) / len(later) == pytest.approx(moments.OWN, abs=0.08)


def test_a_pass_over_the_pictures_begins_without_what_the_last_one_drew(matching, monkeypatch):
    """So do the pass that tests and the one that trains; else a run would resume other than it would have gone on."""
    monkeypatch.setattr(moments, "WARM", 1)
    monkeypatch.setattr(moments, "FIRST", 1.0)
    images = torch.randn(20, 1, 28, 28, generator=generator())

    def losses(count, training=True):
        drawn = iter(torch.randn(count, 20, 1, 28, 28, generator=generator(2)))
        model = student(lambda x, t, c: next(drawn)).train(training)
        return [matching(model, images, LABELS).item() for _ in range(count)]

    first = losses(3)  # of 60 pictures, a pass
    assert losses(3) == first and losses(1, training=False) == first[:1]
    assert losses(2) == first[:2] and losses(1)[0] != first[0]  # the third of a pass is averaged with the two before


@pytest.mark.parametrize("sure, weighs", [(5.0, False), (0.0, True)])
def test_only_what_is_read_badly_is_taught_to_be_read(sure, weighs, matching, monkeypatch):
    monkeypatch.setattr(moments, "WARM", 10**6)
    logits = sure * torch.nn.functional.one_hot(LABELS, 10).float()
    monkeypatch.setattr(readers, "features", lambda reader, images: ([images.flatten(1)], logits))
    images = torch.randn(20, 1, 28, 28, generator=generator())
    loss = lambda: matching(student(lambda x, t, c: images), images, LABELS).item()
    read = len(moments.SEEDS) * moments.READ * (math.log(10) - moments.UNSURE) if weighs else 0
    assert loss() == pytest.approx(read, abs=1e-5)


# ---- a run


@pytest.mark.parametrize("method", distillation.METHODS)
def test_a_run_resumes_ends_with_the_same_weights_and_loads(method, loaders, few_paths, tmp_path, monkeypatch):
    monkeypatch.setattr(moments, "WARM", 1)  # of three batches an epoch
    torch.manual_seed(0)
    teacher = ConditionalDDPM(DMConfig(**SMALL)).eval()

    def run(name, stop=None):
        def picture(model):
            if stop and (folder / "last_checkpoint.pth").exists() and checkpoint.load(folder / "last_checkpoint.pth")["epoch"] == stop:
                raise KeyboardInterrupt
            return plt.figure(figsize=(1, 1))

        folder, dmconfig = tmp_path / name, distillation.settings(teacher, method, epochs=2)
        return distillation.distill(teacher, method, dmconfig, folder, loaders, torch.device("cpu"), picture, QUIET)

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", stop=1)
    run("stopped")
    states = [checkpoint.load(tmp_path / name / "last_checkpoint.pth") for name in ("whole", "stopped")]
    assert same(*(state["model_state_dict"] for state in states)) and len(whole) == 2
    assert not same(states[0]["model_state_dict"], teacher.state_dict())
    model = load_model(tmp_path / "whole" / "best_checkpoint.pth", "cpu")
    assert isinstance(model, FewSteps) and model.sample(LABELS).shape == (20, 1, 28, 28)


def test_an_objective_is_told_how_far_the_training_is():
    """But for the test, which is that of the end in every epoch."""
    told = []
    model = FewSteps(ConditionalDDPM(DMConfig(**SMALL)), lambda student, images, labels: told.append(student.progress) or images.mean())
    trainer = Trainer(model, DMConfig(**SMALL, epochs=2), 2, "cpu")
    bar = types.SimpleNamespace(update=lambda count: None, set_postfix_str=lambda *_, **__: None)
    batches = [(torch.randn(2, 1, 28, 28, requires_grad=True), LABELS[:2])] * 2
    for _ in range(2):
        trainer.train_epoch(batches, bar)
        trainer.test(batches[:1], bar)
    assert told == [0.0, 0.25, 1.0, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("method", distillation.METHODS)
def test_a_run_in_bfloat16(method, loaders, few_paths, tmp_path, monkeypatch):
    monkeypatch.setattr(moments, "WARM", 1)  # of three batches an epoch
    torch.manual_seed(0)
    teacher = ConditionalDDPM(DMConfig(**SMALL)).eval()
    dmconfig = distillation.settings(teacher, method, epochs=1, precision="bfloat16")
    picture = lambda model: plt.figure(figsize=(1, 1))
    history = distillation.distill(teacher, method, dmconfig, tmp_path, loaders, torch.device("cpu"), picture, QUIET)
    assert math.isfinite(history[0]["test_noise_loss"])


@pytest.mark.parametrize("change", [None, "method", "omega", "seed", "teacher", "pictures"])
def test_what_was_begun_in_another_way_is_refused(change, loaders, few_paths, tmp_path, monkeypatch):
    """Before any work: paths, readers and checkpoints in the folder are of what it was begun with."""
    torch.manual_seed(0)
    teacher = ConditionalDDPM(DMConfig(**SMALL)).eval()
    monkeypatch.setattr(distillation.experiment, "run", lambda *_: "ran")

    def distill(method="trajectory", loaders=loaders, **chosen):
        dmconfig = distillation.settings(teacher, method, epochs=1, **chosen)
        return distillation.distill(teacher, method, dmconfig, tmp_path, loaders, torch.device("cpu"), None, QUIET)

    assert distill() == "ran"
    if change is None:
        assert distill() == "ran"
        return
    if change == "teacher":
        next(teacher.parameters()).data += 1
    how = {"method": {"method": "consistency"}, "omega": {"omega": 0.6}, "seed": {"seed": 1}, "pictures": {"loaders": loaders[:1] * 2}}
    with pytest.raises(ValueError, match="was begun by another method or teacher, or with other pictures, omega or seed"):
        distill(**how.get(change, {}))


def test_a_distilled_checkpoint_is_no_ddpm(loaders, few_paths, tmp_path):
    teacher = ConditionalDDPM(DMConfig(**SMALL)).eval()
    how = dict(folder=tmp_path / "run", loaders=loaders, device=torch.device("cpu"), picture=lambda model: plt.figure(), reporter=QUIET)
    distillation.distill(teacher, "trajectory", distillation.settings(teacher, "trajectory", epochs=1), **how)
    with pytest.raises(checkpoint.CheckpointError, match="process 'few'"):
        load_model(tmp_path / "run" / "best_checkpoint.pth", "cpu", ConditionalDDPM)


def test_a_teacher_that_is_no_ddpm_is_refused(loaders, tmp_path):
    pupil = student(lambda x, t, c: x)
    for method in ("trajectory", "consistency"):
        with pytest.raises(ValueError, match="the teacher predicts 'x_0'"):
            distillation.distill(pupil, method, pupil.dmconfig, tmp_path, loaders, "cpu", None, QUIET)


@pytest.mark.parametrize("method", distillation.FROM_PICTURES)
def test_what_learns_from_pictures_goes_on_from_a_student(method, loaders, tmp_path):
    """With a learning rate of next to nothing the weights stay those that it begins with."""
    torch.manual_seed(0)
    pupil = FewSteps(ConditionalDDPM(DMConfig(**SMALL)).eval())
    dmconfig = distillation.settings(pupil, method, epochs=1, learning_rate=1e-12)
    picture = lambda model: plt.figure(figsize=(1, 1))
    distillation.distill(pupil, method, dmconfig, tmp_path, loaders, torch.device("cpu"), picture, QUIET)
    model = load_model(tmp_path / "best_checkpoint.pth", "cpu")
    for one, other in zip(model.state_dict().values(), pupil.state_dict().values()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_another_method_is_refused(perfect):
    with pytest.raises(ValueError, match="method = 'magic'; allowed is one of trajectory, consistency, drifting"):
        distillation.settings(perfect, "magic")


@pytest.mark.parametrize("method", distillation.METHODS)
def test_a_teacher_of_too_few_times_is_refused(method):
    least = 8 if method == "trajectory" else 4
    of = lambda T: distillation.settings(ConditionalDDPM(DMConfig(**{**SMALL, "T": T})), method)
    with pytest.raises(ValueError, match=f"the teacher has T = {least - 1}; allowed is {least} or more"):
        of(least - 1)
    assert of(least).T == least


def test_the_times_are_those_of_four_calls():
    assert times(400) == [400, 300, 200, 100] and dataclasses.replace(DMConfig(), process="few").process == "few"


@pytest.fixture
def little(loaders, tmp_path, monkeypatch):
    """In a folder of its own, a checkpoint of a teacher with random weights, which is no good and small."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    teacher = ConditionalDDPM(DMConfig(**SMALL))
    state = {"epoch": 1, "model_state_dict": teacher.state_dict(), "optimizer_state_dict": {}, "dmconfig": teacher.dmconfig.to_dict()}
    checkpoint.save(tmp_path / "teacher.pth", state)
    return "teacher.pth"


def test_from_the_command_line_it_is_trained_drawn_and_judged(little, tmp_path):
    main(["distill", "pupil", "--teacher", little, "--method", "consistency", "--images", "40", "--epochs", "1", "--omega", "0.7"])
    made = "save/pupil/best_checkpoint.pth"
    main(["sample", "2026", "--checkpoint", made, "--out", "one.png"])
    main(["sample", "2026", "--checkpoint", made, "--method", "few", "--steps", "4", "--out", "four.png"])
    main(["write", "2026", "--checkpoint", made, "--steps", "2", "--out", "row.png"])
    assert load_model(made, "cpu").dmconfig.omega == 0.7
    assert all((tmp_path / f"{name}.png").exists() for name in ("one", "four", "row"))
    with pytest.raises(SystemExit, match="omega = 2.0 with method 'few'; the network has learned 0.7"):
        main(["sample", "2026", "--checkpoint", made, "--omega", "2"])
    with pytest.raises(SystemExit, match="method = 'dpmpp'; allowed is one of few"):
        main(["sample", "2026", "--checkpoint", made, "--method", "dpmpp"])


@pytest.mark.parametrize("steps", STEPS)
def test_the_network_that_ships_draws_what_is_asked_for(steps):
    model, labels = load_model(pretrained.FEW, "cpu"), torch.arange(200) % 10
    images = samplers.sample(model, labels, 0.0, method="few", steps=steps, generator=generator())
    assert (judge.read(judge.load(), images)[0] == labels).float().mean() >= 0.97


def test_the_command_draws_with_it_where_no_other_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["sample", "2026", "--method", "few", "--seed", "3", "--out", "one.png"])
    main(["sample", "2026", "--checkpoint", str(pretrained.FEW), "--seed", "3", "--out", "other.png"])
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_the_command_keeps_to_its_folder(little, tmp_path):
    with pytest.raises(SystemExit, match="exp_name = '../x'; allowed is the name of a folder in ./save"):
        main(["distill", "../x", "--teacher", little])
    assert not (tmp_path / "x").exists()


def test_the_command_names_the_methods_that_there_are(little):
    with pytest.raises(SystemExit, match="method = 'magic'; allowed is one of trajectory, consistency, drifting"):
        main(["distill", "pupil", "--teacher", little, "--method", "magic"])


def test_the_command_says_what_it_does_by_default(capsys):
    with pytest.raises(SystemExit):
        main(["distill", "--help"])
    said, settings = " ".join(capsys.readouterr().out.split()), distillation.SETTINGS
    assert f"(default: {settings['epochs']})" in said and f"(default: {settings['learning_rate']})" in said
    assert settings["lr_cycle"] == 5 and "climbs to five times as much" in said


def test_training_is_no_way_to_such_a_network(little, tmp_path):
    with pytest.raises(SystemExit, match="python -m lab distill NAME"):
        main(["train", "x", "--process", "few"])
    assert not (tmp_path / "save").exists()


def test_the_command_refuses_guidance_for_drifting(little):
    with pytest.raises(SystemExit, match="omega = 1.0 with drifting"):
        main(["distill", "pupil", "--teacher", little, "--method", "drifting", "--omega", "1"])


def test_another_network_that_predicts_the_image_takes_the_other_samplers():
    model = build(ConditionalDDPM, Stub(lambda x, t, c: IMAGE.expand_as(x)), T=8)
    model.output = "x_0"
    drawn = samplers.sample(model, LABELS, 1.0, steps=4)
    torch.testing.assert_close(drawn, samplers.pixels(IMAGE).expand_as(drawn))
