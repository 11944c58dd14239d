"""1. Denoising network: ConditionalUnet.forward. It checks properties that any good network has: another design is welcome."""

import math

import torch
import torch.nn.functional as F

from checks.student import is_unwritten, stops

SEE = "See 1. Denoising network in the notebook."
PROPERTIES = {
    "shape": (1.5, "the output has the shape of x, and is finite"),
    "inputs": (1.5, "the output depends on x, t and c, through every layer that may learn"),
    "rows": (1, "each picture's output is its own, and repeatable"),
    "skips": (1.5, "the skip connections and the bottom of the U are used"),
    "signs": (0.5, "the output can be any noise, of both signs"),
}
WIDTH = 16
FAINT = 1e-5  # below this there is no dependence: equal inputs differ by 0, a network that multiplies by its embeddings by 1e-4 at first
GIVEN = {
    "timeembed1", "timeembed2", "conditionembed1", "conditionembed2", "init_conv", "downblock1", "downblock2", "to_vec", "upblock0", "upblock1",
    "upblock2", "outblock", "fusion1", "fusion2", "fusion3", "fusion4",
}  # fmt: skip
ELSEWHERE = [
    ("pictures of 32 x 32", dict(dim=(32, 32))), ("pictures of 28 x 56", dict(dim=(28, 56))), ("colour", dict(channels=3)),
    ("100 classes", dict(classes=100)), ("a single picture", dict(size=1)),
]  # fmt: skip


def batch(size=4, channels=1, classes=10, dim=(28, 28)):
    """Noisy images, times t / T and one-hot conditions, all different."""
    own = torch.Generator().manual_seed(3)
    t = torch.linspace(1 / 400, 1, size).view(-1, 1, 1, 1)
    return torch.randn(size, channels, *dim, generator=own), t, F.one_hot(torch.arange(size) * 3 % classes, classes).float()


def examine(student, verdict):
    try:
        net = awake(student)
        raw, _ = asked(net.run, *batch())
        out, changed = run(net, *batch())
    except Stopped as why:
        verdict.fault_rest(str(why))
        return
    if not judge_shape(student, raw, verdict):
        for key in PROPERTIES:
            if key != "shape" and not torch.is_tensor(out):
                verdict.fault(key, "This could not be judged: the network returns no tensor.")
        return
    try:
        grows = judge_inputs(net, out, verdict)
        if grows and "shape" not in verdict.faults:
            judge_wiring(net, verdict)
        judge_rows(net, out, changed, verdict)
        if grows and "shape" not in verdict.faults and "rows" not in verdict.faults:
            judge_learning(student, net, verdict)
    except Stopped as why:
        verdict.fault_rest(str(why))
    if not verdict.faults:
        add_notes(student, verdict)


class Stopped(Exception):
    """An error of the student's code; the message says which."""


def asked(act, *args, **options):
    try:
        return act(*args, **options)
    except Exception as error:
        if is_unwritten(error) or getattr(error, "final", False):
            raise
        raise Stopped(stops("The network", error)) from error


def awake(student, channels=1, classes=10, dim=None):
    """A small network as after some training: no parameter is exactly zero, batch norms have seen data."""
    net = asked(student.network, channels, WIDTH, classes, *(() if dim is None else (dim,)))
    net.wake()
    for _ in range(4):
        asked(net.run, *batch(4, channels, classes, dim or (28, 28)), training=True)
    return net


def run(net, *given, **how):
    """(the output, which of x, t and c were changed in place)."""
    out, after = asked(net.run, *(v.clone() for v in given), **how)
    out = out[0] if isinstance(out, list | tuple) and out else out
    return out, [name for name, now, before in zip("xtc", after, given, strict=True) if not torch.equal(now, before)]


def judge_shape(student, out, verdict):
    """Returns whether the output can be judged further."""
    x = batch()[0]
    if isinstance(out, list | tuple) and out and torch.is_tensor(out[0]) and out[0].shape == x.shape:
        verdict.fault("shape", f"forward returns {len(out)} values; one tensor is asked for. The rest is judged by the first of them.")
        return True
    if not torch.is_tensor(out):
        forgot = "forward ends without return" if type(out).__name__ == "NoneType" or out is None else ""
        verdict.fault("shape", f"forward returns {'None' if forgot else type(out).__name__}; a tensor is asked for.", forgot)
        return False
    mistakes = [
        ("the last block is left out: return what outblock makes", out.ndim == 4 and out.shape[1] != 1 and out.shape[2:] == x.shape[2:]),
        ("it stops before the full size: go up as often as down", out.ndim == 4 and out.shape[2:] != x.shape[2:]),
        ("a dimension is squeezed away", out.ndim < 4 and out.numel() == x.numel()),
    ]
    if out.shape != x.shape:
        verdict.fault("shape", f"the network returns {tuple(out.shape)} for x {tuple(x.shape)}; noise has the shape of x.",
                      next((words for words, fits in mistakes if fits), ""))  # fmt: skip
        return out.ndim == 4 and len(out) == len(x)
    if not torch.isfinite(out).all():
        verdict.fault("shape", "the network returns values that are not finite, for ordinary input.")
        return False
    try:
        wide = asked(student.network, 1, 128, 10)
        given = torch.randn(2, 1, 28, 28), torch.rand(2, 1, 1, 1), torch.eye(10)[:2]
        got, _ = run(wide, *given)
        if not torch.is_tensor(got) or got.shape != given[0].shape:
            raise Stopped(f"The network returns {tuple(got.shape) if torch.is_tensor(got) else type(got).__name__} for x {tuple(given[0].shape)}.")
    except Stopped as why:
        verdict.fault("shape", f"With n_feat = 128, as in the notebook: {why}", "the width is written into the code: it is n_feat")
    return True


def differ(one, other):
    """How much two outputs differ, in units of the spread of the first."""
    if one.shape != other.shape:
        return math.inf
    return ((one - other).abs().max() / (one.std() + 1e-12)).item()


def judge_inputs(net, out, verdict):
    """Whether x, t and c each change the output. Returns whether something can learn from it."""
    x, t, c = batch()
    if not out.any():  # as behind a ReLU, which judge_learning reports
        return asked(net.grows, x, t, c)
    own = torch.Generator().manual_seed(4)
    if differ(out, run(net, x + 0.5 * torch.randn(x.shape, generator=own), t, c)[0]) < FAINT:
        verdict.fault("inputs", "the output does not depend on x.")
    between = torch.tensor([0.2, 0.4, 0.6, 0.8]).view(-1, 1, 1, 1)  # all below 1, so that a t cut to a whole number shows
    if differ(run(net, x, between, c)[0], run(net, x, between**2, c)[0]) < FAINT:
        verdict.fault("inputs", "the output does not depend on the time t.", "the time embeddings are left out")
    every = torch.cat([torch.eye(10), -torch.ones(1, 10)])  # ten classes and the null condition
    ask = lambda c: run(net, x[:1].repeat(11, 1, 1, 1), t[1:2].repeat(11, 1, 1, 1), c)[0]
    outs = ask(every)
    if differ(outs, outs[:1].expand_as(outs)) < FAINT:
        if differ(outs, ask(every[5:6].repeat(11, 1))) < FAINT:  # else all pictures share one condition, which judge_rows reports
            verdict.fault("inputs", "the output does not depend on the condition c.", "the condition embeddings are left out")
    else:
        alike = next(((j, i) for i in range(11) for j in range(i) if differ(outs[i], outs[j]) < FAINT), None)
        if alike:
            verdict.fault("inputs", f"conditions {alike[0]} and {alike[1]} of 0 … 9 and null (10) give the same output.")
    if not asked(net.grows, x, t, c):
        verdict.fault("inputs", "the output has no graph, so nothing can learn from it: no .detach(), no torch.no_grad().")
        return False
    return True


def judge_wiring(net, verdict):
    """For a network of exactly the course's blocks: whether each is used and told t and c, and the skip connections."""
    x, t, c = batch()
    unused = asked(net.unused, x, t, c)
    embeddings = [name for name in unused if name.startswith(("timeembed", "conditionembed"))]
    if set(net.children()) != GIVEN:  # a design of its own; a layer that it no longer needs does no harm
        if unused:
            verdict.note(f"no gradient reaches {', '.join(unused[:4])}{' …' if len(unused) > 4 else ''}: frozen, or not used.")
        spot = x.clone()
        spot[:, :, 14, 14] += 1
        moved = (run(net, spot, t, c)[0] - run(net, x, t, c)[0]).abs()
        moved[:, :, 14, 14] = 0
        if moved.max() < FAINT:
            verdict.fault("skips", "a pixel of the output depends on that pixel of x alone: the network sees no shapes.")
        return
    skips = judge_skips(net, verdict)
    told = asked(net.told, x, t, c)
    for block, knows in told.items():
        missing = [name for name, does in zip(("time", "condition"), knows, strict=True) if not does]
        if missing and "inputs" not in verdict.faults:
            verdict.fault("inputs", f"{block} is not told the {' and the '.join(missing)}.", f"the {missing[0]} embeddings are not used there")
    if embeddings and "inputs" not in verdict.faults:
        verdict.note(f"no gradient reaches {', '.join(dict.fromkeys(name.split('.')[0] for name in embeddings))}: they stay as they are at the start.")
    blocks = [name for name in dict.fromkeys(name.split(".")[0] for name in unused) if not name.startswith(("timeembed", "conditionembed"))]
    if not skips:  # blocks unused because of a missing skip or bottom are no further fault
        blocks = []
    why = [
        ("a fusion block is left out", "fusion"),
        ("the last block is left out", "outblock"),
        ("an up block is left out", "upblock"),
        ("a down block is left out", "downblock"),
        ("the first block is left out", "init_conv"),
    ]
    if blocks:
        verdict.fault("inputs", f"no gradient reaches {', '.join(blocks)}.", next((words for words, start in why if blocks[0].startswith(start)), ""))


def judge_skips(net, verdict):
    """With the output of the block below detached, x must still reach an up block, through its skip. Returns whether it does."""
    given, fine = batch(), True
    for block, below, skip in (
        ("upblock1", "upblock0", "down2, at 7x7"),
        ("upblock2", "upblock1", "down1, at 14x14"),
        ("outblock", "upblock2", "init_conv's output, at 28x28"),
    ):
        found = asked(net.reaches, *given, of=block, cut=below)
        if found == "no":
            verdict.fault("skips", f"{block} has no skip connection.", f"it is given {below}'s output twice, or zeros, and not {skip}")
        if found == "never run":
            verdict.fault("skips", f"{block} or {below} is never run.", "the bottom is left out: upblock0 goes back up from to_vec" if below == "upblock0" else "")
        fine &= found == "yes"
    if fine:
        found = asked(net.reaches, *given, of="outblock", at="to_vec")
        if found != "yes":
            verdict.fault("skips", "nothing of to_vec's output reaches the result.", "the bottom of the U is left out, or detached")
            fine = False
    return fine


def judge_rows(net, out, changed, verdict):
    """In eval mode a picture's output depends on its own x, t and c only, not on its place in the batch, and is repeatable."""
    for name in changed:
        verdict.fault("rows", f"forward changes {name} in place: make a new tensor.")
    given = batch()
    again, _ = run(net, *given)
    if not torch.equal(out, again):
        if differ(out, again) > 1e-5:
            verdict.fault("rows", "two runs on the same input differ in eval mode.", "F.dropout has no training=self.training, or noise is drawn in forward")
            return
    for name, i in (("x", 0), ("t", 1), ("c", 2)):
        other = [v.clone() for v in given]
        other[i][0] = other[i][2]
        leak = differ(out[1:], run(net, *other)[0][1:])
        if leak > 1e-4:
            verdict.fault("rows", f"changing {name} of the first picture changes the others' output by {leak:.2g}.",
                          f"the {name} of one picture is used for others, or the batch is averaged")  # fmt: skip
            return
    order = torch.tensor([2, 0, 3, 1])
    if differ(out[order], run(net, *(v[order] for v in given))[0]) > 1e-4:
        verdict.fault("rows", "another order of the batch gives other outputs.", "t or c are matched with other pictures' x")
    try:
        part = run(net, *(v[1:3] for v in given))[0]
    except Stopped as why:
        verdict.fault("rows", f"with two pictures in place of four: {why}")
        return
    if differ(out[1:3], part) > 1e-4:
        verdict.fault("rows", "two pictures alone give other outputs than in a batch of four.", "the batch is averaged")


def judge_learning(student, net, verdict):
    """A few steps of Adam fit a target of standard deviation 2 and both signs, which a squashed output cannot."""
    x, t, c = batch(2)
    fresh = asked(student.network, 1, WIDTH, 10)
    out, loss = asked(fresh.fit, x, t, c, 2 * x, 60, 1e-2, 1.2)  # 4 at first; 2.0 is the least without negative values, 1.6 within -1 … 1
    if not torch.is_tensor(out) or not torch.is_tensor(loss) or out.shape != x.shape:
        return
    mistakes = [
        ("the output passes a ReLU, a sigmoid or a softmax: noise is negative too", out.min() >= 0),
        ("the output passes a tanh or is cut off: noise has no bounds", out.abs().max() <= 1.001),
    ]
    if not loss < 1.2 and "inputs" not in verdict.faults:
        verdict.fault("signs", f"60 steps of Adam cannot fit given noise: the error is {loss:.2f}, expected below 1.2; the output reaches from "
                      f"{out.min():.2f} to {out.max():.2f}.", next((words for words, fits in mistakes if fits), ""))  # fmt: skip


def add_notes(student, verdict):
    """Notes on what nobody asked for; they cost no points."""
    fails = []
    for words, sizes in ELSEWHERE:
        try:
            net = awake(student, **{name: value for name, value in sizes.items() if name != "size"})
            given = batch(**sizes)
            out, _ = run(net, *given)
            fine = torch.is_tensor(out) and out.shape == given[0].shape
        except (Stopped, NotImplementedError):
            fine = False
        fails += [] if fine else [words]
    if fails:
        verdict.note(f"the network does not work for {', '.join(fails)}; nobody asked for that here.")
    for shape in ((4, 1), (4,)):
        try:
            net, (x, t, c) = awake(student), batch()
            run(net, x, t.view(shape), c)
        except Stopped:
            verdict.note("the network takes t as (B, 1, 1, 1) only.")
            return
