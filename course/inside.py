"""Runs inside the sandbox, in the process of one check: does with the student's classes what course.remote asks for.

Nothing here judges. What the student's code could forge here is only what it could as well have returned.
"""

import importlib
import os
import random
import sys
import traceback
import types
from unittest import mock

import numpy as np
import torch
from course.helpers import gradient_between
from torch import nn

from config import DMConfig
from course.wire import Lost, error_fields, raised
from lab import checkpoint

CHECKPOINT = "best_checkpoint.pth"


def serve(link, code):
    """Answer each frame {"do": name, …} by the method of that name, until the other side hangs up."""
    inside = Inside(link, code)
    while True:
        try:
            fields = link.receive()
        except Lost:
            return
        try:
            answer = getattr(inside, fields.pop("do"))(**fields)
        except BaseException as error:  # also sys.exit() in a student's module
            answer = {"error": error_fields(error, where(error, code))}
        try:
            link.send(**answer)
        except (RecursionError, ValueError, RuntimeError, MemoryError) as error:
            link.send(error=error_fields(error))


def where(error, code):
    """The last line of the student's that an error came through, as "DDPM.py, line 40: x = y"; "" for none."""
    if isinstance(error, SyntaxError) and error.filename and error.filename.startswith(code):
        return f"{os.path.relpath(error.filename, code)}, line {error.lineno}: {(error.text or '').strip()[:200]}"
    lines = [line for line in traceback.extract_tb(error.__traceback__) if line.filename.startswith(code)]
    return f"{os.path.relpath(lines[-1].filename, code)}, line {lines[-1].lineno}: {lines[-1].line[:200]}" if lines else ""


class Inside:
    """The student's classes and what was made of them. Each public method answers with the fields of a frame."""

    def __init__(self, link, code):
        self.link, self.code, self.models, self.net, self.last = link, code, [], None, None

    def load(self, module, name, seed, stand_in=False):
        """Import a class. stand_in: without the student's ResUNet.py, for a DDPM.py that can be judged on its own."""
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        if stand_in:
            sys.modules["ResUNet"] = types.ModuleType("ResUNet")
            sys.modules["ResUNet"].__getattr__ = lambda name: _Empty
        found = vars(importlib.import_module(module)).get(name)
        if not isinstance(found, type):
            classes = [key for key, value in vars(sys.modules[module]).items() if isinstance(value, type) and value.__module__ == module]
            raise AttributeError(f"{module}.py has no class {name}; it has {', '.join(classes) or 'none'}")
        self.cls = found
        return {}

    # ---- the process

    def process(self, config):
        """A ConditionalDDPM without a network of its own, as tests/helpers.build_bare makes it."""
        with mock.patch.dict(self.cls.__init__.__globals__, ConditionalUnet=_Empty):
            self.models.append(self.cls(DMConfig.from_dict(config)))
        return {"value": len(self.models) - 1}

    def lend(self, model, name):
        """Put the grader's network or scheduler in place of the model's."""
        if name == "network":
            self.models[model].network = _Network(lambda **fields: self._ask("network", model, **fields))
        else:
            self.models[model].scheduler = lambda t_s: self._ask("scheduler", model, t_s=t_s)
        return {}

    def call(self, model, name, args):
        """A method of the model. Its arguments go back too, as they are afterwards, and whether it drew random numbers."""
        model, before = self.models[model], torch.get_rng_state()
        value = model(*args) if name == "forward" else getattr(model, name)(*args)
        drew = not torch.equal(before, torch.get_rng_state())
        plain = name in ("eval", "train")  # which return the model itself
        slopes = _slopes(value, model.network.outs) if name == "forward" else []
        return {"value": None if plain else value, "args": args, "drew": drew, "slopes": slopes}

    def _ask(self, what, model, **fields):
        self.link.send(ask=what, model=model, **fields)
        answer = self.link.receive()
        if "error" in answer:
            raise raised(answer["error"])
        return answer["value"]

    # ---- the network

    def network(self, args, kwargs):
        self.net = self.cls(*args, **kwargs)
        return {"parameters": dict(self.net.named_parameters())}

    def checkpoint(self):
        """The network of the handed-in weights, in the student's own classes. Answers with its settings."""
        state = checkpoint.load(os.path.join(self.code, CHECKPOINT))
        model = self.cls(DMConfig.from_dict(state["dmconfig"]))
        model.load_state_dict(state["model_state_dict"])
        self.net = model.network.eval()
        return {"config": state["dmconfig"], "parameters": {}}

    def mode(self, training):
        self.net.train(training)
        return {}

    def run(self, args, parameters, grows):
        """The network on these arguments, after its parameters that changed outside have been set."""
        self._set(parameters)
        with torch.set_grad_enabled(grows):
            value = self.net(*args)
        self.last = (value, [arg for arg in args if torch.is_tensor(arg)]) if grows else None
        return {"value": value, "args": args}

    def back(self, slope):
        """The gradients of the last run, for its arguments and each parameter."""
        (value, args), parameters = self.last, dict(self.net.named_parameters())
        wanted = [v for v in (*args, *parameters.values()) if v.requires_grad]
        found = iter(torch.autograd.grad(value, wanted, slope, allow_unused=True))
        return {
            "args": [next(found) if arg.requires_grad else None for arg in args],
            "parameters": {name: next(found) for name, p in parameters.items() if p.requires_grad},
        }

    def between(self, args, parameters, names):
        self._set(parameters)
        return {"value": gradient_between(self.net, args, **names)}

    def _set(self, parameters):
        with torch.no_grad():
            own = dict(self.net.named_parameters())
            for name, value in parameters.items():
                own[name].copy_(value)


class _Empty(nn.Module):
    """In place of a network that is not judged: nothing of it runs."""

    def __init__(self, *args, **kwargs):
        super().__init__()


class _Network(nn.Module):
    """In place of the model's network: each call is answered by the grader's."""

    def __init__(self, ask):
        super().__init__()
        self.ask, self.outs = ask, []
        self.anchor = nn.Parameter(torch.zeros(()))  # gives it a device, and its output a graph

    def forward(self, x, t, c):
        grows = isinstance(x, torch.Tensor) and x.requires_grad
        out = self.ask(x=x, t=t, c=c, training=self.training, grows=grows).detach() + 0 * self.anchor
        self.outs.append(out)
        return out


def _slopes(loss, outs):
    """d loss / d out for each prediction, None where there is none."""
    if not torch.is_tensor(loss) or loss.numel() != 1 or not loss.requires_grad:
        return [None] * len(outs)
    return list(torch.autograd.grad(loss.sum(), outs, allow_unused=True)) if outs else []
