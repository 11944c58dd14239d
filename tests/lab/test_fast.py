"""lab.speed.fast: the same calls give the same numbers, and what the network makes of x alone is made once."""

import copy

import pytest
import torch
from torch import nn

from lab.speed.fast import OFTEN, fast


class Encoder(nn.Module):
    """Two results, one of them a list."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.GELU())

    def forward(self, x):
        h = self.one(x)
        return self.two(h), [h]


class Net(nn.Module):
    """An encoder that sees x alone, a block that takes a keyword, and one that meets a tensor changed in place."""

    def __init__(self, careless=False):
        super().__init__()
        self.encoder, self.after, self.last, self.careless = Encoder(), nn.Linear(3, 3), nn.Linear(3, 3), careless
        self.runs = {name: 0 for name, _ in self.named_modules() if name}
        for name, part in self.named_modules():
            if name:
                part.forward = self.counted(name, part.forward)

    def counted(self, name, forward):
        def run(*args, **options):
            self.runs[name] += 1
            return forward(*args, **options)

        return run

    def forward(self, x, t, c):
        h, (skip,) = self.encoder(x)
        if self.careless:
            h += c
        return self.last(input=self.after(input=h) + skip + c * t)


def asked(net, x, t, *conditions):
    with torch.no_grad():
        return [net(x, t, c) for c in conditions]


@pytest.mark.parametrize("careless", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_the_same_numbers_and_the_parts_that_see_x_alone_run_once(careless, count):
    net, (x, t) = Net(careless).eval(), (torch.randn(count, 3), torch.rand(count, 1))
    one, two = torch.randn(count, 3), torch.randn(count, 3)
    plain = asked(net, x, t, one, two, one)
    net.runs = dict.fromkeys(net.runs, 0)
    with fast(net, "float32"):
        ours = asked(net, x, t, one, two, one)
    assert all(torch.equal(a, b) for a, b in zip(plain, ours))
    once = 3 if careless else 2  # the second time to compare; what was changed in place since is made anew
    assert net.runs == {**dict.fromkeys(net.runs, once), "last": 3}
    again = asked(net, x, t, one)
    assert torch.equal(again[0], plain[0]) and net.runs["encoder"] == once + 1, "outside, nothing is remembered"


def test_another_x_is_another_x_and_so_is_one_that_was_changed():
    net, x, t, c = Net().eval(), torch.randn(4, 3), torch.rand(4, 1), torch.randn(4, 3)
    with fast(net, "float32"):
        first, other = asked(net, x, t, c), asked(net, x.clone(), t, c)
        x += 1
        changed = asked(net, x, t, c)
    assert torch.equal(first[0], other[0]) and torch.equal(changed[0], asked(net, x, t, c)[0]) and not torch.equal(changed[0], first[0])


def test_the_condition_is_never_taken_for_x():
    """A block that is given the same tensor as x and as c."""
    net, x = Net().eval(), torch.randn(4, 3)
    with fast(net, "float32"):
        ours = asked(net, x, torch.ones(4, 1), x, 2 * x)
    assert all(torch.equal(a, b) for a, b in zip(ours, asked(net, x, torch.ones(4, 1), x, 2 * x)))


def test_inference_tensors_which_tell_of_no_change_run_whole():
    net, x, t = Net().eval(), torch.randn(4, 3), torch.rand(4, 1)
    with torch.inference_mode(), fast(net, "float32"):
        x = x + 1
        one, two = net(x, t, x), net(x, t, -x)
    assert net.runs["encoder"] == 2 and torch.equal(two, asked(net, x, t, -x)[0]) and torch.equal(one, asked(net, x, t, x)[0])


def test_every_part_is_as_it_was_afterwards_whatever_happens():
    net = Net().train()
    net.last.eval()
    before = {name: module.training for name, module in net.named_modules()}
    forwards = {name: vars(module).get("forward") for name, module in net.named_modules()}
    with pytest.raises(KeyError), fast(net):
        assert not any(module.training for module in net.modules())
        raise KeyError
    assert before == {name: module.training for name, module in net.named_modules()}
    assert forwards == {name: vars(module).get("forward") for name, module in net.named_modules()}
    copy.deepcopy(net)


def test_it_may_be_entered_in_itself_and_again():
    net, x, t = Net().eval(), torch.randn(4, 3), torch.rand(4, 1)
    inside = fast(net, "float32")
    for runs in (2, 1):  # the first time it is seen that the encoder depends on x alone
        net.runs = dict.fromkeys(net.runs, 0)
        with inside, inside:
            asked(net, x, t, x, -x)
        assert net.runs["encoder"] == runs
    assert inside.depth == 0 and not inside.memory.outputs, "and holds nothing"


def test_outputs_come_in_the_type_of_x():
    net = nn.Sequential(nn.Linear(3, 3)).eval()
    with torch.no_grad(), fast(net, "bfloat16"):
        out = net(torch.ones(2, 3))
    assert out.dtype == torch.float32 and torch.equal(out, out.bfloat16().float())


def test_a_gradient_goes_through():
    net, x, t, c = Net().eval(), torch.randn(4, 3), torch.rand(4, 1), torch.randn(4, 3)
    loss = lambda: sum(net(x, t, each).square().sum() for each in (c, -c))
    plain = torch.autograd.grad(loss(), list(net.parameters()))
    with fast(net, "float32"):
        ours = torch.autograd.grad(loss(), list(net.parameters()))
    for a, b in zip(plain, ours):
        torch.testing.assert_close(a, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("waits", [False, True])
def test_on_cuda_what_is_called_often_is_replayed(waits):
    net = nn.Sequential(nn.Linear(3, 3), nn.GELU()).cuda().eval()
    if waits:
        net.append(nn.Module())
        net[2].forward = lambda x: x * x.sum().item()
    xs = [torch.randn(4, 3, device="cuda") for _ in range(OFTEN + 4)]
    with torch.no_grad():
        plain = [net(x) for x in xs]
        with fast(net, "float32") as asked, pytest.warns(UserWarning, match="no CUDA graph") if waits else torch.no_grad():
            ours = [asked(x) for x in xs]
    for a, b in zip(plain, ours):
        torch.testing.assert_close(a, b)


def test_of_the_course_network_the_first_two_blocks_run_once():
    from config import DMConfig
    from DDPM import ConditionalDDPM

    net, runs = ConditionalDDPM(DMConfig(num_feat=8)).network.eval(), {}
    x, t, (one, two) = torch.randn(3, 1, 28, 28), torch.rand(3, 1, 1, 1), torch.eye(10)[:6].chunk(2)
    plain = asked(net, x, t, one, two)
    for name, part in net.named_children():
        part.forward = lambda *args, name=name, own=part.forward: runs.update({name: runs.get(name, 0) + 1}) or own(*args)
    with fast(net, "float32"):
        asked(net, x.clone(), t, one, two)
        runs.clear()
        ours = asked(net, x, t, one, two)
    assert all(torch.equal(a, b) for a, b in zip(plain, ours))
    assert runs["init_conv"] == runs["downblock1"] == 1 and runs["downblock2"] == runs["outblock"] == 2


class Uses(nn.Module):
    """An encoder and a block that is told of the condition by `how`, and not by an argument."""

    def __init__(self, how):
        super().__init__()
        self.one, self.two, self.how, self.c = nn.Linear(3, 3), nn.SiLU(inplace=how == "in place"), how, 0
        if how == "a list":
            self.one.forward = lambda x: [x + 1, x + 2]
        if how == "an attribute":
            self.one.forward = lambda x: x + self.c

    def forward(self, x, t, c):
        self.c = c
        if self.how == "a list":
            h = self.one(x)
            return h.pop() * h.pop() + c
        a, b = self.two(self.one(x)), self.one(x)
        if self.how == "twice":
            a = a.add_(c)
        return a + b + c * t


@pytest.mark.parametrize("how", ["a list", "an attribute", "in place", "twice"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_a_cache_could_get_wrong(how, mode):
    net, (x, t, one, two) = Uses(how).eval(), torch.randn(4, 5, 3)
    with mode():
        plain = [net(x, t, c) for c in (one, two, one, two)]
        with fast(net, "float32"):
            ours = [net(x, t, c) for c in (one, two, one, two)]
            with torch.no_grad():
                net.one.bias += 1
            changed = net(x, t, one)
    assert all(torch.equal(a, b) for a, b in zip(plain, ours))
    assert how in ("a list", "an attribute") or not torch.equal(changed, plain[0]), "other weights are other answers"


def test_a_weight_that_changes_is_cast_anew():
    """The cast of a weight outlives a call, and not a change of the weight."""
    net, (x, t, c) = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 3)}).eval(), torch.randn(3, 1, 1, 8, 8)
    net.forward = lambda x, t, c: net["conv"](x)
    with torch.no_grad(), fast(net, "bfloat16"):
        first, again = net(x, t, c), net(x.clone(), t, c)
        net["conv"].weight.mul_(2)
        changed = net(x.clone(), t, c)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        alone = net["conv"](x).float()
    assert torch.equal(first, again) and torch.equal(changed, alone) and not torch.equal(changed, first)
