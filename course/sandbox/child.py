"""Runs inside the sandbox, in the process of one check: calls the student's classes as course.sandbox.proxy asks.

Nothing is judged here. But lend.Network finds out a network's wiring here, in the same process as the student's code: code that
replaces lend can forge it, and gain points of section 1 at most.
"""

import importlib
import os
import random
import sys
import types

import numpy as np
import torch
from checks import lend

from config import DMConfig
from course.sandbox import earlier
from course.sandbox.messages import Lost, error_fields, raised
from lab.diffusion import sampling, walk
from lab.training import checkpoint

CHECKPOINT = "best_checkpoint.pth"
OF_NETWORK = ("children", "wake", "run", "grows", "unused", "told", "reaches", "fit")  # methods of lend.Network that may be called


def serve(link, code):
    """Answer each frame {"do": name, …} by the method of that name, until the other side hangs up."""
    inside = Inside(link, code)
    earlier.install()
    walk.walk = sampling.walk = _refuse
    while True:
        try:
            fields = link.receive()
        except Lost:
            return
        try:
            answer = getattr(inside, fields.pop("do"))(**fields)
        except BaseException as error:  # also sys.exit() in a student's module
            answer = {"error": error_fields(error, lend.where(error, code))}
            answer["error"]["message"] = answer["error"]["message"].replace(f"{code}{os.sep}", "")
        try:
            link.send(**answer)
        except (RecursionError, ValueError, RuntimeError, MemoryError) as error:
            link.send(error=error_fields(error))


def _refuse(*args, **options):
    """Replaces the course's own sampling loop, which students must not use."""
    raise RuntimeError("a sampler of the course's was called; sampling is to be written in DDPM.py")


class Inside:
    """The student's classes and the objects made of them. Each public method returns the fields of a frame."""

    def __init__(self, link, code):
        self.link, self.code, self.networks = link, code, []

    def load(self, module, name, stand_in=False):
        """Import a class. stand_in: without the student's ResUNet.py, for a DDPM.py that can be judged on its own."""
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        if stand_in:
            sys.modules["ResUNet"] = types.ModuleType("ResUNet")
            sys.modules["ResUNet"].__getattr__ = lambda name: lend.StandIn
        found = vars(importlib.import_module(module)).get(name)
        if not isinstance(found, type):
            classes = [key for key, value in vars(sys.modules[module]).items() if isinstance(value, type) and value.__module__ == module]
            raise AttributeError(f"{module}.py has no class {name}; it has {', '.join(classes) or 'none'}")
        self.cls = found
        return {}

    # ---- the process

    def process(self, settings, lent, blind, scalar, seed):
        """Make a ConditionalDDPM for these settings. The grader answers for its network, and for its scheduler if that is lent."""
        lend.seed(seed)
        right = (lambda t_s, shapes: self._ask("right", t_s=t_s, shapes=shapes)) if lent else None
        self.model = lend.Process(self.cls, settings, lambda **fields: self._ask("answer", **fields), right, blind, scalar)
        return {}

    def scheduler(self, t_s):
        return {"value": self.model.scheduler(t_s)}

    def forward(self, images, conditions):
        return {"value": self.model.forward(images, conditions)}

    def sample(self, conditions, omega):
        return {"value": self.model.sample(conditions, omega)}

    def _ask(self, ask, **fields):
        self.link.send(ask=ask, **fields)
        answer = self.link.receive()
        if "error" in answer:
            raise raised(answer["error"])
        return answer["value"]

    # ---- the network

    def network(self, args, seed):
        lend.seed(seed)
        self.networks.append(lend.Network(self.cls, *args))
        return {}

    def with_network(self, number, name, args, options):
        if name not in OF_NETWORK:
            raise AttributeError(name)
        return {"value": getattr(self.networks[number], name)(*args, **options)}

    # ---- the handed-in weights

    def checkpoint(self):
        """The network of the handed-in weights, in the student's own classes. Answers with its settings."""
        state = checkpoint.load(os.path.join(self.code, CHECKPOINT))
        model = self.cls(DMConfig.from_dict(state["dmconfig"]))
        checkpoint.fill(model, state["model_state_dict"], CHECKPOINT)
        self.trained = model.network.eval()
        return {"config": state["dmconfig"]}

    def predict(self, x, t, c):
        with torch.no_grad(), lend.as_it_is():
            return {"value": self.trained(x, t, c)}
