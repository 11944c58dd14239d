"""1. Denoising network: ConditionalUnet.forward in ResUNet.py. Needs nothing else solved.

What is tested are properties that any good network has, not the wiring: another design is welcome.

The messages are whole as they stand: PYTEST_DONT_REWRITE keeps pytest from adding the values of the expression to them.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import gradient_between, named

from ResUNet import ConditionalUnet

SEE = "See 1. Denoising network in the notebook."


def batch(size=4, channels=1, classes=10, dim=(28, 28)):
    """Noisy images, times t / T and one-hot conditions, all different."""
    t = torch.linspace(1 / 400, 1, size).view(-1, 1, 1, 1)
    return torch.randn(size, channels, *dim), t, F.one_hot(torch.arange(size) * 3 % classes, classes).float()


def awake(Net, channels=1, classes=10, dim=None):
    """A small network in eval mode, as after some training: no parameter is exactly zero, batch norms have seen data."""
    net = Net(channels, 8, classes, **({} if dim is None else {"input_dim": dim}))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        for _ in range(4):
            run(net, *batch(4, channels, classes, dim or (28, 28)))
    return net.eval()


def changed(one, other):
    """How much two outputs differ, in units of the spread of the first."""
    return ((one - other).abs().max() / one.std()).item()


def run(net, x, t, c, grad=False):
    """The network's output, which has to be a tensor and, with grad, to have a graph."""
    with torch.set_grad_enabled(grad):
        out = net(x, t, c)
    assert torch.is_tensor(out), f"forward returns {type(out).__name__}; a tensor is asked for. {SEE}"
    assert out.requires_grad or not grad, (
        f"the output has no graph, so nothing can learn from it: no .detach(), no torch.no_grad(). {SEE}"
    )
    return out


def check_shape(Net, channels=1, classes=10, dim=None, size=4):
    x, t, c = batch(size, channels, classes, dim or (28, 28))
    try:
        out = run(awake(Net, channels, classes, dim), x, t, c)
    except NotImplementedError:
        raise
    except RuntimeError as error:
        raise AssertionError(
            f"The network fails on {size} pictures of {channels} channels, {x.shape[2]}x{x.shape[3]}, with {classes} classes: {error}. "
            f"This is what you get when a size is written into forward, or layers meet that do not fit each other. {SEE}"
        ) from error
    mistakes = [
        (
            "the last block is left out: return what outblock makes",
            out.ndim == 4 and out.shape[1] != channels and out.shape[2:] == x.shape[2:],
        ),
        ("it stops before the full size: go up as often as down", out.ndim == 4 and out.shape[2:] != x.shape[2:]),
        ("a dimension is squeezed away", out.ndim < 4 and out.numel() == x.numel()),
    ]
    assert out.shape == x.shape, (
        f"The network returns {tuple(out.shape)} for x {tuple(x.shape)}; noise has the shape of x. {named(mistakes, bool)} {SEE}"
    )
    assert torch.isfinite(out).all(), f"The network returns values that are not finite, for ordinary input. {SEE}"


def check_notebook_shape(Net):
    """The dimension check of the notebook, with a smaller batch."""
    x, t, c = torch.randn(2, 1, 28, 28), torch.rand(2, 1, 1, 1), torch.eye(10)[:2]
    out = run(Net(in_channels=1, n_feat=128, n_classes=10), x, t, c)
    assert out.shape == x.shape, f"The network returns {tuple(out.shape)} for x {tuple(x.shape)}; noise has the shape of x. {SEE}"


def check_depends_on_x_t_c(Net):
    """Each of the three matters; every class and the null condition are told apart."""
    net, (x, t, c) = awake(Net), batch()
    out = run(net, x, t, c)
    assert changed(out, run(net, x + 0.5 * torch.randn_like(x), t, c)) > 1e-3, f"The output does not depend on x. {SEE}"
    assert changed(out, run(net, x, t.flip(0), c)) > 1e-3, (
        f"The output does not depend on the time t. This is what you get when the time embeddings are left out. {SEE}"
    )
    one = torch.zeros(11, 10)
    one[range(10), range(10)], one[10] = 1, -1  # ten classes and the null condition
    same = x[:1].repeat(11, 1, 1, 1), t[1:2].repeat(11, 1, 1, 1)
    outs = run(net, *same, one)
    assert changed(outs, outs[:1].expand_as(outs)) > 1e-3, (
        f"The output does not depend on the condition c. This is what you get when the condition embeddings are left out. {SEE}"
    )
    for i in range(11):
        for j in range(i):
            assert changed(outs[i], outs[j]) > 1e-4, f"conditions {j} and {i} of 0 … 9 and null (10) give the same output. {SEE}"


def check_rows_are_independent(Net):
    """In eval mode a picture's output depends on its own x, t and c only, and follows it to another place of the batch."""
    net, given = awake(Net), batch()
    out = run(net, *given)
    for name, i in (("x", 0), ("t", 1), ("c", 2)):
        other = [v.clone() for v in given]
        other[i][0] = other[i][2]
        leak = changed(out[1:], run(net, *other)[1:])
        assert leak < 1e-4, (
            f"Changing {name} of the first picture changes the others' output by {leak:.2g}. This is what you get when the {name} of one "
            f"picture is used for the whole batch, or the batch is averaged. {SEE}"
        )
    order = torch.tensor([2, 0, 3, 1])
    off = changed(out[order], run(net, *(v[order] for v in given)))
    assert off < 1e-4, (
        f"Another order of the batch gives other outputs. This is what you get when t or c are matched with other pictures' x. {SEE}"
    )
    off = changed(out[1:2], run(net, *(v[1:2] for v in given)))
    assert off < 1e-4, f"A picture alone gives another output than in a batch, by {off:.2g}. {SEE}"


def check_repeatable(Net):
    """In eval mode nothing is random, and forward leaves its inputs alone."""
    net, given = awake(Net), batch()
    copies = [v.clone() for v in given]
    out = run(net, *given)
    for name, now, before in zip("xtc", given, copies, strict=True):
        assert torch.equal(now, before), f"forward changes {name} in place: make a new tensor. {SEE}"
    assert torch.equal(out, run(net, *given)), (
        f"Two runs on the same input differ in eval mode. This is what you get from F.dropout without training=self.training. {SEE}"
    )


def check_time_shapes(Net):
    net, (x, t, c) = awake(Net), batch()
    out = run(net, x, t, c)
    for shape in ((4, 1), (4,)):
        try:
            off = changed(out, run(net, x, t.view(shape), c))
        except (RuntimeError, IndexError) as error:
            raise AssertionError(
                f"t of shape {shape} fails: {error}. The embedding blocks take any shape: hand them t as it is. {SEE}"
            ) from error
        assert off < 1e-4, f"t of shape {shape} gives another output than (4, 1, 1, 1), by {off:.2g}. {SEE}"


def check_gradients(Net):
    """Every parameter that may learn is used: in eval mode, where a batch norm does not cancel the bias before it."""
    net, (x, t, c) = awake(Net), batch()
    run(net, x, t, c, grad=True).square().sum().backward()
    unused = [name for name, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    why = [
        ("the time embeddings are not used, or detached", "timeembed"),
        ("the condition embeddings are not used, or detached", "conditionembed"),
        ("the bottom is left out: upblock0 goes back up from to_vec", "upblock0"),
        ("a fusion block is left out", "fusion"),
        ("the last block is left out", "outblock"),
        ("an up block is left out", "upblock"),
        ("a down block is left out", "downblock"),
    ]
    assert not unused, f"No gradient reaches {', '.join(unused)}. {named(why, lambda start: unused[0].startswith(start))} {SEE}"


def check_skips_and_bottom(Net):
    """Where the course's blocks are there: what reaches an up block beside the block below it, and what the bottom adds.

    With the output of the block below cut from the graph, x must still reach the up block, through its skip connection.
    """
    net, given = awake(Net), batch()
    between = getattr(net, "gradient_between", None) or partial(gradient_between, net)
    for block, below, skip in (
        ("upblock1", "upblock0", "down2, at 7x7"),
        ("upblock2", "upblock1", "down1, at 14x14"),
        ("outblock", "upblock2", "init_conv's output, at 28x28"),
    ):
        found = between(given, of=block, cut=below)
        if isinstance(found, str) and found == "own design":
            return
        assert not isinstance(found, str), f"{block} or {below} is never run. {SEE}"
        assert found is not None and found.any(), (
            f"{block} has no skip connection. This is what you get when it is given {below}'s output twice, not {skip}. {SEE}"
        )
    found = between(given, of="outblock", at="to_vec")
    assert not isinstance(found, str), f"to_vec is never run: the bottom of the U is left out. {SEE}"
    assert found is not None and found.any(), f"The bottom is not used: nothing of to_vec's output reaches the result. {SEE}"


def check_can_learn_noise(Net):
    """A few steps of Adam fit an output of standard deviation 2 in both directions, which a squashed output cannot."""
    net, (x, t, c) = Net(1, 8, 10).train(), batch(2)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        out = run(net, x, t, c, grad=True)
        loss = (out - 2 * x).square().mean()  # 4 at first; 2.0 is the least without negative values, 1.6 within -1 … 1
        if loss < 1.2:
            return
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mistakes = [
        ("the output passes a ReLU, a sigmoid or a softmax: noise is negative too", out.min() >= 0),
        ("the output passes a tanh: noise has no bounds", out.abs().max() <= 1),
    ]
    raise AssertionError(
        f"30 steps of Adam cannot fit given noise: the error is {loss:.2f}, expected below 1.2. "
        f"{named(mistakes, bool, f'The output reaches from {out.min():.2f} to {out.max():.2f}.')} {SEE}"
    )


SIZES = [dict(dim=(32, 32)), dict(dim=(28, 56)), dict(channels=3, dim=(32, 32)), dict(channels=3), dict(classes=100), dict(size=1)]
PROPERTIES = [
    (
        1.5,
        "the output has the shape of x, for every size of images and number of classes",
        [check_notebook_shape, check_shape, *(partial(check_shape, **sizes) for sizes in SIZES)],
    ),
    (1.5, "the output depends on x, t and c, through every layer that may learn", [check_depends_on_x_t_c, check_gradients]),
    (1, "each picture's output is its own, and repeatable", [check_rows_are_independent, check_repeatable, check_time_shapes]),
    (1.5, "the skip connections and the bottom of the U are used", [check_skips_and_bottom]),
    (0.5, "the output can be any noise, of both signs", [check_can_learn_noise]),
]
CHECKS = [check for _, _, checks in PROPERTIES for check in checks]


def test_shape_of_the_notebook():
    check_notebook_shape(ConditionalUnet)


@pytest.mark.parametrize("sizes", [{}, *SIZES], ids=lambda sizes: " ".join(f"{name}={value}" for name, value in sizes.items()) or "MNIST")
def test_shape(sizes):
    check_shape(ConditionalUnet, **sizes)


def test_output_depends_on_x_t_and_c():
    check_depends_on_x_t_c(ConditionalUnet)


def test_rows_are_independent():
    check_rows_are_independent(ConditionalUnet)


def test_repeatable():
    check_repeatable(ConditionalUnet)


def test_time_in_any_shape():
    check_time_shapes(ConditionalUnet)


def test_every_parameter_gets_a_gradient():
    check_gradients(ConditionalUnet)


def test_skips_and_bottom_are_used():
    check_skips_and_bottom(ConditionalUnet)


def test_noise_can_be_learnt():
    check_can_learn_noise(ConditionalUnet)
