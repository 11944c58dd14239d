"""A student's classes with what a check lends them: a network with known outputs, a schedule, a CPU in place of a GPU.

Runs in the student's process, in the grader's sandbox too. It judges nothing and holds no solution.
"""

import contextlib
import inspect
import os
import random
import traceback
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from config import DMConfig

GPUS, DEVICES = ("cuda", "mps"), (str, torch.device)


class _OnCPU(TorchFunctionMode):
    """What is sent to a GPU stays on the CPU."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.cuda:
            return args[0]
        if any(type(value) in DEVICES for value in (*args, *kwargs.values())):
            return function(*map(_cpu, args), **{name: _cpu(value) for name, value in kwargs.items()})
        return function(*args, **kwargs)


def _cpu(value):
    named = isinstance(value, str) and value.split(":")[0] in GPUS or isinstance(value, torch.device) and value.type in GPUS
    return torch.device("cpu") if named else value


class _Generator(torch.Generator):
    def __new__(cls, device="cpu"):
        return super().__new__(cls, _cpu(device))


@contextlib.contextmanager
def as_it_is(module=None):
    """Code that names a GPU or compiles its network runs as if it did not, as the checks' network answers on the CPU; used with `with`."""
    plain = lambda model=None, *args, **options: model if callable(model) else (lambda model: model)
    with contextlib.ExitStack() as stack:
        for owner, name in ((torch, "compile"), (torch.jit, "script")):
            stack.enter_context(mock.patch.object(owner, name, plain))
        stack.enter_context(mock.patch.object(nn.Module, "compile", lambda self, *args, **options: None))
        for name in ("synchronize", "empty_cache", "manual_seed", "manual_seed_all", "set_device"):
            stack.enter_context(mock.patch.object(torch.cuda, name, lambda *args, **options: None))
        stack.enter_context(mock.patch.object(torch, "Generator", _Generator))
        stack.enter_context(mock.patch.object(torch, "set_default_device", lambda device: None))
        stack.enter_context(_OnCPU())
        yield


def where(error, code):
    """The last line of the student's that an error came through, as "DDPM.py, line 40: x = y"; "" for none. code: the student's folder."""
    theirs = lambda path: path.startswith(code + os.sep) and not path.startswith((f"{code}{os.sep}tests", f"{code}{os.sep}lab"))
    if isinstance(error, SyntaxError) and error.filename and theirs(error.filename):
        return f"{os.path.relpath(error.filename, code)}, line {error.lineno}: {(error.text or '').strip()[:200]}"
    lines = [line for line in traceback.extract_tb(error.__traceback__) if theirs(line.filename)]
    return f"{os.path.relpath(lines[-1].filename, code)}, line {lines[-1].lineno}: {lines[-1].line[:200]}" if lines else ""


def seed(number):
    random.seed(number), np.random.seed(number % 2**32), torch.manual_seed(number)


class StandIn(nn.Module):
    """Replaces a network that cannot be made: that is judged in another section."""

    def __init__(self, in_channels=1, n_feat=128, n_classes=10, input_dim=(28, 28), **more):
        super().__init__()
        self.in_channels, self.n_feat, self.n_classes, self.input_dim = in_channels, n_feat, n_classes, input_dim
        self.anchor = nn.Parameter(torch.zeros(()))

    def forward(self, x, t, c):
        raise NotImplementedError


class Process:
    """A student's ConditionalDDPM or ConditionalFM, built for the settings; its network and all copies of it return what `answer` gives.

    answer(x, t, c, training, grows): a tensor like x. right(t_s, shapes): the seven values in these shapes, in place of the
    student's own scheduler; None keeps that. blind: do not call that for its shapes, since it does not return. scalar: input_dim
    is one number, as in the edition of 2026.
    """

    def __init__(self, cls, settings, answer, right=None, blind=False, scalar=False):
        self.answer, self.outs = answer, []
        config = DMConfig(**settings)
        if scalar:
            config.input_dim = config.input_dim[0]
        with as_it_is():
            self.model = _built(cls, config)
            self.networks = _networks(self.model, cls)
        self.own = getattr(self.model, "scheduler", None)
        if right is not None:
            self.model.scheduler = lambda t_s: right(_tensor(t_s), {} if blind else _shapes(self.own, t_s))

    @contextlib.contextmanager
    def _lent(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(as_it_is())
            for network in self.networks:
                own = inspect.signature(network.forward)
                call = lambda net, *args, own=own, **options: self._call(net, own, args, options)
                stack.enter_context(mock.patch.object(network, "forward", call))
            yield

    def _call(self, net, own, args, options):
        try:
            x, t, c = list(own.bind(net, *args, **options).arguments.values())[1:4]
        except (TypeError, ValueError):
            raise TypeError(f"the network is given {len(args) + len(options)} arguments; it takes x, t and c") from None
        if not torch.is_tensor(x):
            raise TypeError(f"the network is given x as {type(x).__name__}; a tensor (B, C, H, W) is asked for")
        t, c = _tensor(t), _tensor(c)
        grows = x.requires_grad and torch.is_grad_enabled()
        out = self.answer(x=x.detach(), t=t.detach(), c=c.detach(), training=net.training, grows=grows).to(x.dtype)
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():
            out.requires_grad_()
        self.outs.append(out)
        return out.clone()  # no leaf, as a network's output is none: code may go on with it in place

    def scheduler(self, t_s):
        """(what the student's own scheduler returns, t_s after the call)."""
        with as_it_is():
            got = self.own(t_s)
        return ({name: _tensor(value) for name, value in got.items()} if isinstance(got, dict) else got), t_s

    def forward(self, images, conditions):
        """(loss, its gradient for each output of the network, the images after the call)."""
        self.model.train()
        self.outs.clear()
        with self._lent():
            loss = self.model(images, conditions)
        slopes = [None] * len(self.outs)
        if torch.is_tensor(loss) and loss.requires_grad and self.outs:
            grown = [out for out in self.outs if out.requires_grad]
            found = iter(torch.autograd.grad(loss.sum(), grown, allow_unused=True))
            slopes = [next(found) if out.requires_grad else None for out in self.outs]
        return loss, slopes, images

    def sample(self, conditions, omega):
        """(the images, whether torch's global generator was reseeded)."""
        self.model.eval()
        before = torch.initial_seed()
        space = getattr(type(self.model).__init__, "__globals__", {})
        kept = {"finite": lambda x: x} if "finite" in space else {}  # values without bounds are judged, and are no error
        with self._lent(), mock.patch.dict(space, kept):
            images = self.model.sample(conditions, omega)
        return images, torch.initial_seed() != before


def _tensor(value):
    return value if torch.is_tensor(value) else torch.as_tensor(value)


def _shapes(scheduler, t_s):
    """{name: the shape that the student's scheduler gives it}, {} where it does not work."""
    try:
        got = scheduler(t_s.clone() if torch.is_tensor(t_s) else t_s)
        return {name: list(value.shape) for name, value in got.items()}
    except (Exception, SystemExit):
        return {}


def _built(cls, config):
    """cls(config), with a StandIn if its own network cannot be made."""
    try:
        return cls(config)
    except Exception as error:
        space = getattr(cls.__init__, "__globals__", {})
        if "ConditionalUnet" not in space:
            raise
        try:
            with mock.patch.dict(space, ConditionalUnet=StandIn):
                return cls(config)
        except Exception:
            raise error from None


def _networks(model, cls):
    """The classes of the model's networks: of model.network and of every other ConditionalUnet in the model."""
    unet = getattr(cls.__init__, "__globals__", {}).get("ConditionalUnet")
    is_unet = lambda module: isinstance(module, StandIn) or isinstance(unet, type) and isinstance(module, unet)
    found = [module for module in model.modules() if is_unet(module)]
    found = found or [module for name, module in model.named_children() if name == "network"]
    if not found:
        raise AttributeError(f"{cls.__name__} has no self.network; its __init__ makes one, a ConditionalUnet")
    for module in found:
        if type(module).__module__.startswith("torch."):  # a class that other modules have, too
            module.__class__ = type("Network", (type(module),), {"forward": type(module).forward})
    return {type(module) for module in found}


class Network:
    """A student's ConditionalUnet."""

    def __init__(self, cls, *args):
        with as_it_is():
            self.net = cls(*args)

    def children(self):
        return [name for name, _ in self.net.named_children()]

    def wake(self):
        """As after some training: no parameter is exactly zero."""
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter += 0.02 * torch.randn_like(parameter)

    def run(self, x, t, c, training=False, graph=False):
        """(its output, its three arguments after the call)."""
        self.net.train(training)
        with torch.set_grad_enabled(graph), as_it_is():
            return self.net(x, t, c), [x, t, c]

    def grows(self, x, t, c):
        """Whether something can learn from the output."""
        out = _first(self.run(x, t, c, graph=True))
        return torch.is_tensor(out) and out.requires_grad

    def unused(self, x, t, c):
        """Names of the parameters that may learn and that no gradient reaches: in eval mode, where a batch norm hides no bias."""
        self.run(x, t, c)  # some freeze their embeddings here
        parameters = {name: p for name, p in self.net.named_parameters() if p.requires_grad}
        out = _first(self.run(x, t, c, graph=True))
        found = torch.autograd.grad(out.square().sum(), list(parameters.values()), allow_unused=True)
        return [name for name, gradient in zip(parameters, found, strict=True) if gradient is None or not gradient.any()]

    def told(self, x, t, c):
        """{fusion block that is run: (whether its inputs beside the image depend on t, on c)}."""
        blocks = {name: block for name, block in self.net.named_children() if name.startswith("fusion")}
        seen = [self._given(blocks, x, *more) for more in ((t, c), (t.flip(0), c), (t, c.flip(0)))]
        changed = lambda one, other: any(u.shape != v.shape or not torch.equal(u, v) for u, v in zip(one, other, strict=True))
        return {name: tuple(changed(seen[0][name], other[name]) for other in seen[1:]) for name in seen[0]}

    def _given(self, blocks, x, t, c):
        """{block: its input tensors after the first}."""
        given, hooks = {}, []
        for name, block in blocks.items():
            def look(module, args, options, name=name):
                bound = inspect.signature(module.forward).bind(*args, **options)  # keywords in the order of its own parameters
                given[name] = [v.detach() for v in (*bound.args, *bound.kwargs.values()) if torch.is_tensor(v)][1:]

            hooks.append(block.register_forward_pre_hook(look, with_kwargs=True))
        try:
            self.run(x.clone(), t, c)
        finally:
            for hook in hooks:
                hook.remove()
        return given

    def reaches(self, x, t, c, of, at=None, cut=None):
        """Whether a gradient goes from the output of the block `of` to that of the block `at`, or to x, not through the block `cut`.

        Returns "yes", "no" or "never run".
        """
        x, seen, hooks = x.detach().clone().requires_grad_(), {}, []
        for name in (name for name in (of, at, cut) if name):
            def look(module, inputs, output, name=name):
                seen[name] = output
                return output.detach() if name == cut else None

            hooks.append(getattr(self.net, name).register_forward_hook(look))
        try:
            self.run(x.clone(), t, c, graph=True)
        finally:
            for hook in hooks:
                hook.remove()
        if not all(name in seen for name in (of, at, cut) if name):
            return "never run"
        if not seen[of].requires_grad:
            return "no"
        (gradient,) = torch.autograd.grad(seen[of].square().sum(), seen[at] if at else x, allow_unused=True)
        return "yes" if gradient is not None and gradient.any() else "no"

    def fit(self, x, t, c, target, steps, rate, enough):
        """Train on one batch until the squared error is below `enough`, at most so many steps: (the last output, the error)."""
        step = _adam(list(self.net.parameters()), rate)
        for _ in range(steps):
            out = _first(self.run(x.clone(), t.clone(), c.clone(), training=True, graph=True))
            loss = (out - target).square().mean()
            if loss < enough:
                break
            step(loss)
        return out, loss


def _adam(parameters, rate):
    """step(loss) by Adam: algorithm 1, Kingma & Ba 2015, arXiv:1412.6980. torch.optim imports torch's compiler: seconds a process."""
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    count = 0

    def step(loss):
        nonlocal count
        count += 1
        for p in parameters:
            p.grad = None
        loss.backward()  # and not autograd.grad, which refuses what a forward has frozen
        with torch.no_grad():
            for p, (m, v) in zip(parameters, moments):
                if p.grad is not None:
                    m.lerp_(p.grad, 0.1)
                    v.lerp_(p.grad * p.grad, 0.001)
                    p -= rate * m / (1 - 0.9**count) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)

    return step


def _first(run):
    """The output of a run; the first of several."""
    out, _ = run
    return out[0] if isinstance(out, list | tuple) and out else out
