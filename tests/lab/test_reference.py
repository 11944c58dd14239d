"""What our own solution promises beyond what a student's must do: the exact wiring, one call a step, errors, seeds, modes.

For maintainers. It holds a second solution of the network and so is no part of a handout.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from stub import Stub, build, build_bare
from torch import nn

from config import MEAN, STD, DMConfig
from DDPM import ConditionalDDPM
from ResUNet import ConditionalUnet, EmbedBlock, FusionBlock, ResConvBlock, UnetDown, UnetUp

# ---- the network


def expected_state(C, n, K, dim=(28, 28)):
    """{key: shape} of the course's checkpoints, from the first edition on."""
    h, w = dim[0] // 4, dim[1] // 4
    state = {}

    def layer(name, *shape, bias):
        state[f"{name}.weight"], state[f"{name}.bias"] = shape, (bias,)

    def norm(name, size):
        layer(name, size, bias=size)
        state.update({f"{name}.running_mean": (size,), f"{name}.running_var": (size,), f"{name}.num_batches_tracked": ()})

    def convs(name, before, after):
        for i, size in (("conv1", before), ("conv2", after)):
            layer(f"{name}.{i}.0", after, size, 3, 3, bias=after)
            norm(f"{name}.{i}.1", after)

    def up(name, before, after):
        layer(f"{name}.model.0", before, after, 2, 2, bias=after)
        convs(f"{name}.model.1", after, after), convs(f"{name}.model.2", after, after)

    for name, size, width in (("timeembed1", 1, 2 * n), ("timeembed2", 1, n), ("conditionembed1", K, 2 * n), ("conditionembed2", K, n)):
        layer(f"{name}.layers.0", width, size, bias=width), layer(f"{name}.layers.2", width, width, bias=width)
    convs("init_conv", C, n), convs("downblock1.model.0", n, n), convs("downblock2.model.0", n, 2 * n)
    layer("upblock0.0", 2 * n, 2 * n, h, w, bias=2 * n), layer("upblock0.1", 2 * n, bias=2 * n)
    up("upblock1", 4 * n, n), up("upblock2", 2 * n, n)
    layer("outblock.0", n, 2 * n, 3, 3, bias=n), layer("outblock.1", n, bias=n), layer("outblock.3", C, n, 3, 3, bias=C)
    for name, before, after in (("fusion1", 3 * n, n), ("fusion2", 6 * n, 2 * n), ("fusion3", 3 * n, n), ("fusion4", 3 * n, n)):
        layer(f"{name}.layers.0", after, before, 1, 1, bias=after), norm(f"{name}.layers.1", after)
    return state


def by_hand(w, x, t, c, dim=(28, 28)):
    """The course's wiring in eval mode, on the weights w, without its modules."""
    conv = lambda name, x, pad=0: F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=pad)

    def norm(name, x):
        mean, var, scale, shift = (w[f"{name}.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias"))
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def groups(name, x):
        g = x.reshape(len(x), 8, -1)
        g = (g - g.mean(2, keepdim=True)) / (g.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
        return g.view_as(x) * w[f"{name}.weight"].view(1, -1, 1, 1) + w[f"{name}.bias"].view(1, -1, 1, 1)

    gelu = lambda x: x / 2 * (1 + torch.erf(x / math.sqrt(2)))
    linear = lambda name, x: x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    embed = lambda name, x: linear(f"{name}.layers.2", gelu(linear(f"{name}.layers.0", x)))[:, :, None, None]

    def convs(name, x):
        x1 = gelu(norm(f"{name}.conv1.1", conv(f"{name}.conv1.0", x, 1)))
        x2 = gelu(norm(f"{name}.conv2.1", conv(f"{name}.conv2.0", x1, 1)))
        return ((x if x.shape == x2.shape else x1) + x2) / 2**0.5

    def halve(x):
        return x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).amax((3, 5))

    def double(name, x):
        weight = w[f"{name}.weight"]  # (in, out, k, l), stride (k, l): every pixel becomes a k x l tile
        y = torch.einsum("bihw,iokl->bohkwl", x, weight)
        return y.reshape(len(x), weight.shape[1], x.shape[2] * weight.shape[2], -1) + w[f"{name}.bias"].view(1, -1, 1, 1)

    def up(name, x, skip):
        return convs(f"{name}.model.2", convs(f"{name}.model.1", double(f"{name}.model.0", torch.cat([x, skip], 1))))

    def fuse(name, x, t, c):
        spread = [x, *(e.expand(-1, -1, *x.shape[2:]) for e in (t, c))]
        return gelu(norm(f"{name}.layers.1", conv(f"{name}.layers.0", torch.cat(spread, 1))))

    t = t.reshape(-1, 1)
    big, small = (embed("timeembed1", t), embed("conditionembed1", c)), (embed("timeembed2", t), embed("conditionembed2", c))
    down0 = convs("init_conv", x)
    down1 = fuse("fusion1", halve(convs("downblock1.model.0", down0)), *small)
    down2 = fuse("fusion2", halve(convs("downblock2.model.0", down1)), *big)
    vector = gelu(down2.mean((2, 3), keepdim=True))
    up0 = groups("upblock0.1", double("upblock0.0", vector)).relu()
    up1 = fuse("fusion3", up("upblock1", up0, down2), *small)
    up2 = fuse("fusion4", up("upblock2", up1, down1), *small)
    return conv("outblock.3", groups("outblock.1", conv("outblock.0", torch.cat([up2, down0], 1), 1)).relu(), 1)


def shaken(module):
    """Every parameter and statistic far from where it starts, so that none can be left out unseen."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif value.is_floating_point():
                value.add_(0.1 * torch.randn_like(value))
    return module


@pytest.mark.parametrize(("C", "n", "K", "dim"), [(1, 8, 10, (28, 28)), (3, 16, 100, (32, 32)), (1, 8, 3, (28, 56))])
def test_the_wiring_by_hand_in_float64(C, n, K, dim):
    net = shaken(ConditionalUnet(C, n, K, dim)).double().eval()
    x, t, c = torch.randn(5, C, *dim).double(), torch.rand(5, 1, 1, 1).double(), torch.eye(K).double()[torch.arange(5) % K]
    c[2] = -1
    with torch.no_grad():
        expected = by_hand(net.state_dict(), x, t, c, dim)
        assert torch.allclose(net(x, t, c), expected, rtol=1e-9, atol=1e-9)
        assert torch.allclose(net.float()(x.float(), t.float(), c.float()).double(), expected, rtol=1e-3, atol=1e-4)


def test_keys_and_shapes_of_the_earlier_editions():
    for arguments in ((1, 64, 10), (3, 16, 100, (32, 32)), (1, 128, 10)):
        got = {key: tuple(value.shape) for key, value in ConditionalUnet(*arguments).state_dict().items()}
        assert got == expected_state(*arguments)
    assert sum(p.numel() for p in ConditionalUnet(1, 64, 10).parameters()) == 1_737_281
    model = ConditionalDDPM(DMConfig(num_feat=8))
    assert set(model.state_dict()) == {f"network.{key}" for key in expected_state(1, 8, 10)}  # the schedule adds no buffers


def test_names_and_arguments_of_the_course():
    net = ConditionalUnet(in_channels=1, n_feat=8, n_classes=10)
    kinds = dict(
        timeembed1=EmbedBlock,
        timeembed2=EmbedBlock,
        conditionembed1=EmbedBlock,
        conditionembed2=EmbedBlock,
        init_conv=ResConvBlock,
        downblock1=UnetDown,
        downblock2=UnetDown,
        to_vec=nn.Sequential,
        upblock0=nn.Sequential,
        upblock1=UnetUp,
        upblock2=UnetUp,
        outblock=nn.Sequential,
        fusion1=FusionBlock,
        fusion2=FusionBlock,
        fusion3=FusionBlock,
        fusion4=FusionBlock,
    )
    assert {name: type(child) for name, child in net.named_children()} == kinds
    assert ConditionalUnet(1).n_feat == 128 and ConditionalUnet(1).n_classes == 10
    assert all(p.requires_grad for p in net.parameters())
    net(torch.randn(2, 1, 28, 28), torch.rand(2), torch.eye(10)[:2])
    assert all(p.requires_grad for p in net.parameters())  # running it freezes nothing


@pytest.mark.parametrize("train", [True, False])
def test_fusion_is_the_plain_concatenation(train):
    block = shaken(FusionBlock(8 + 6 + 6, 5)).double().train(train)
    x, t, c = torch.randn(4, 8, 14, 10).double(), torch.randn(4, 6, 1, 1).double(), torch.randn(4, 6, 1, 1).double()
    leaves = [v.requires_grad_() for v in (x, t, c)] + list(block.parameters())
    out = block(x, t, c)
    plain = block.layers(torch.cat([x, t.expand(-1, -1, 14, 10), c.expand(-1, -1, 14, 10)], 1))
    assert torch.allclose(out, plain, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(out)
    for ours, theirs in zip(
        torch.autograd.grad((out * weight).sum(), leaves), torch.autograd.grad((plain * weight).sum(), leaves), strict=True
    ):
        assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def test_time_of_any_shape_and_kind():
    net = ConditionalUnet(1, 8).eval()
    x, c, t = torch.randn(3, 1, 28, 28), torch.eye(10)[:3], torch.tensor([0.25, 0.5, 1.0])
    out = net(x, t.view(3, 1, 1, 1), c)
    for other in (t, t.view(3, 1), t.view(1, 3), t.double(), t.half()):
        assert torch.equal(net(x, other, c), out)
    assert torch.equal(net(x, t, c.long()), out)
    assert net.double()(x.double(), t, c).dtype == torch.float64


# ---- the process


def runs(omega=2.0, predict=lambda x, t, c: x, labels=None, generator=None, **settings):
    model = build(ConditionalDDPM, Stub(predict), **settings)
    images = model.sample(torch.tensor([3, 0, 9]) if labels is None else labels, omega, generator=generator)
    return model, model.network.calls, images


def test_schedule_has_its_shape_and_type():
    model = build_bare(ConditionalDDPM, T=400, beta_1=1e-4, beta_T=2e-2)
    for t_s, B in (
        (torch.tensor(7), 1),
        (torch.tensor([7, 8]), 2),
        (torch.tensor([[7], [8], [9]]), 3),
        (torch.tensor([400], dtype=torch.int16), 1),
    ):
        got = model.scheduler(t_s)
        assert list(got) == [
            "beta_t",
            "sqrt_beta_t",
            "alpha_t",
            "oneover_sqrt_alpha",
            "alpha_t_bar",
            "sqrt_alpha_bar",
            "sqrt_oneminus_alpha_bar",
        ]
        assert all(v.shape == (B, 1, 1, 1) and v.dtype == torch.float32 for v in got.values())


def test_a_smallest_beta_is_refused_or_works():
    for beta_1 in (1e-5, 1e-9, 1e-17):
        try:
            model = build_bare(ConditionalDDPM, beta_1=beta_1, T=3)
        except ValueError:
            continue
        at = model.scheduler(torch.arange(1, 4))
        assert torch.isfinite(at["beta_t"] / at["sqrt_oneminus_alpha_bar"]).all(), f"beta_1 = {beta_1} divides by zero in the last step"


@pytest.mark.parametrize("omega", [2.0, 0.5, -2, 0, -1.0])
def test_two_calls_a_step(omega):
    _, calls, _ = runs(omega)
    assert len(calls) == 20
    for t, (with_c, without) in zip(range(10, 0, -1), zip(calls[::2], calls[1::2]), strict=True):
        assert with_c.x.shape == (3, 1, 28, 28) and with_c.t.shape == (3,) and abs(with_c.t - t / 10).max() < 1e-6
        assert torch.equal(with_c.x, without.x) and (with_c.t == without.t).all()
        assert with_c.c.argmax(1).tolist() == [3, 0, 9] and (without.c == -1).all()


@pytest.mark.parametrize("value", [-1, 0, 7])
def test_null_rows_have_the_mask_value(value):
    _, calls, _ = runs(condition_mask_value=value)
    assert (calls[1].c == value).all()
    stub = Stub(lambda x, t, c: x)
    build(ConditionalDDPM, stub, condition_mask_value=value, mask_p=1.0)(torch.randn(4, 1, 28, 28), torch.arange(4))
    assert (stub.calls[0].c == value).all()


def test_labels_and_one_hot_rows_are_the_same():
    labels = torch.tensor([3, 0, 9])
    one = F.one_hot(labels, 10)
    forms = (labels, labels.to(torch.uint8), labels.int(), one, one.float(), one.double(), one.bool())
    images = [runs(labels=form, generator=torch.Generator().manual_seed(1))[2] for form in forms]
    assert all(torch.equal(images[0], other) for other in images[1:])
    model = build(ConditionalDDPM, Stub(lambda x, t, c: x * c.sum()))
    losses = [model(torch.ones(3, 1, 28, 28), form, generator=torch.Generator().manual_seed(1)).item() for form in forms]
    assert len(set(losses)) == 1


def test_the_generator_rules_all_chance():
    state = torch.get_rng_state()
    seeded = lambda seed: torch.Generator().manual_seed(seed)
    first, again, other = (runs(generator=seeded(s))[2] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    model = build(ConditionalDDPM, Stub(lambda x, t, c: x * t + c.sum()), mask_p=0.5)
    loss = lambda seed: model(torch.ones(64, 1, 28, 28), torch.arange(64) % 10, generator=seeded(seed)).item()
    assert loss(1) == loss(1) != loss(2)
    assert torch.equal(state, torch.get_rng_state())  # nothing was drawn elsewhere
    torch.manual_seed(5)
    images = runs()[2]
    torch.manual_seed(5)
    assert torch.equal(images, runs()[2])  # without one, torch's own seed rules


def test_whole_trajectory_agrees_with_diffusers_under_one_seed():
    diffusers = pytest.importorskip("diffusers")
    predict = lambda x, t, c: (0.5 + 0.1 * c[:, 1].view(-1, 1, 1, 1)) * x - 0.3 * c.amax(1).view(-1, 1, 1, 1)
    model, _, images = runs(1.5, predict, torch.tensor([1, 2]), torch.Generator().manual_seed(3))
    config, draw = model.dmconfig, torch.Generator().manual_seed(3)
    theirs = diffusers.DDPMScheduler(config.T, config.beta_1, config.beta_T, "linear", variance_type="fixed_large", clip_sample=False)
    theirs.set_timesteps(config.T)
    c, null = F.one_hot(torch.tensor([1, 2]), 10).float(), torch.full((2, 10), -1.0)
    x = torch.randn(2, 1, 28, 28, generator=draw)
    for t in theirs.timesteps:
        eps = predict(x, None, null) + 2.5 * (predict(x, None, c) - predict(x, None, null))
        x = theirs.step(eps, t, x, generator=draw).prev_sample
    assert torch.allclose(images, (x * STD + MEAN).clamp(0, 1), atol=1e-4)


def test_modes_are_left_as_found():
    class Net(Stub):
        def __init__(self, predict):
            super().__init__(predict)
            self.a, self.b = nn.BatchNorm2d(1), nn.Sequential(nn.Dropout(), nn.BatchNorm2d(1))

    def boom(x, t, c):
        raise ZeroDivisionError

    for predict in (lambda x, t, c: x, boom):
        for mixed in (False, True):
            net = Net(predict)
            model = build(ConditionalDDPM, net).train(mixed)
            net.b.eval(), net.a.train()
            before = [m.training for m in model.modules()]
            try:
                model.sample(torch.tensor([1]), 2.0)
            except ZeroDivisionError:
                pass
            assert [m.training for m in model.modules()] == before
            assert not any(call.training for call in net.calls)
            assert torch.is_grad_enabled()


def test_statistics_and_weights_are_left_alone():
    model = ConditionalDDPM(DMConfig(num_feat=8, T=3, precision="float32")).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = model.sample(torch.arange(3), 2.0)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not images.requires_grad and images.dtype == torch.float32
    loss = model(torch.randn(4, 1, 28, 28), torch.arange(4))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_guidance_of_real_predictions():
    """On our own network: guided is the stated mix of the two, which one-half runs give separately."""
    model = ConditionalDDPM(DMConfig(num_feat=8, T=1, beta_1=0.5, beta_T=0.5, precision="float32")).eval()
    with torch.no_grad():
        model.network.outblock[-1].weight.mul_(4)
    x = {w: model.sample(torch.tensor([4]), w, generator=torch.Generator().manual_seed(0)) for w in (0, -1, 2.0)}
    inside = (torch.stack(list(x.values())) % 1 > 0).all(0)  # one step is linear where nothing is clamped
    assert inside.float().mean() > 0.1 and (x[0] - x[-1])[inside].abs().max() > 1e-3
    assert torch.allclose(x[2.0][inside], (3 * x[0] - 2 * x[-1])[inside], atol=1e-4)


def no_network(x, t, c):
    raise AssertionError("the network ran before the arguments were checked")


LABELS = [
    torch.tensor([0, 10]),
    torch.tensor([-1]),
    torch.tensor([1.0, 2.0]),
    torch.tensor([True, False]),
    torch.tensor(3),
    torch.tensor([[3], [4]]),
    torch.zeros(0, dtype=torch.long),
    torch.zeros(0, 10),
    torch.zeros(2, 10),
    torch.ones(2, 10),
    torch.full((2, 10), -1.0),
    torch.eye(10)[:2, :9],
    torch.eye(11)[:2],
    torch.eye(10)[:2] * 2,
    torch.full((2, 10), 0.1),
    torch.full((2, 10), math.nan),
    torch.eye(10)[None],
    torch.tensor([1j]),
    [1, 2],
    3,
    "3",
    None,
]


@pytest.mark.parametrize(
    "labels", LABELS, ids=lambda v: f"{type(v).__name__} {tuple(v.shape)} {v.dtype}" if torch.is_tensor(v) else repr(v)
)
def test_wrong_labels_are_refused_before_any_work(labels):
    model = build(ConditionalDDPM, Stub(no_network))
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="allowed|one-hot"):
        model.sample(labels, 2.0)
    with pytest.raises(ValueError, match="allowed|one-hot"):
        model(torch.randn(2, 1, 28, 28, generator=torch.Generator()), labels)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("omega", [math.nan, math.inf, -math.inf, None, "2", True, 2j, [2.0], torch.tensor([1.0, 2.0])], ids=str)
def test_a_wrong_omega_is_refused_before_any_work(omega):
    with pytest.raises(ValueError, match="omega"):
        build(ConditionalDDPM, Stub(no_network)).sample(torch.tensor([1]), omega)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 28, 28),
        torch.zeros(2, 3, 28, 28),
        torch.zeros(2, 1, 28, 27),
        torch.zeros(2, 784),
        torch.zeros(0, 1, 28, 28),
        torch.zeros(2, 1, 28, 28, dtype=torch.uint8),
        torch.zeros(2, 1, 28, 28, dtype=torch.complex64),
        [[0.0]],
        None,
        torch.zeros(3, 1, 28, 28),
    ],
    ids=lambda v: f"{tuple(v.shape)} {v.dtype}" if torch.is_tensor(v) else repr(v),
)
def test_wrong_images_are_refused_before_any_work(images):
    with pytest.raises(ValueError, match="allowed"):
        build(ConditionalDDPM, Stub(no_network))(images, torch.tensor([1, 2]))


@pytest.mark.parametrize(
    "t_s",
    [
        torch.tensor(0),
        torch.tensor([1, 11]),
        torch.tensor([-1]),
        torch.tensor([1.0]),
        torch.tensor([True]),
        torch.tensor([1j]),
        torch.ones(2, 2, dtype=torch.long),
        torch.ones(2, 1, 1, 1, dtype=torch.long),
        torch.zeros(0, dtype=torch.long),
        torch.zeros(0, 1, dtype=torch.long),
    ],
    ids=lambda v: f"{v.tolist()} {v.dtype}",
)
def test_wrong_time_steps_are_refused(t_s):
    with pytest.raises(ValueError, match="allowed"):
        build_bare(ConditionalDDPM).scheduler(t_s)
