"""A student's classes as the checks call them, in the same process. The grader's stand-in for them is course.sandbox.proxy."""

import functools
import inspect
import os

import torch
import torch.nn.functional as F

from checks import lend
from checks.truth import schedule
from checks.verdict import Verdict

SEED, MOST_STEPS = 20_241_107, 100_000


class Answers:
    """A network whose prediction is known, `predict(x, t, c)`; it records every call."""

    def __init__(self, predict=None):
        self.predict, self.calls = predict, []

    def __call__(self, x, t, c, training, grows):
        repeated = 2 if t.numel() * 2 == len(x) and t.numel() > 1 else 1  # 2: the batch is doubled, its times are not
        if t.numel() * repeated not in (1, len(x)):
            raise ValueError(f"the network received a time of shape {tuple(t.shape)} for x {tuple(x.shape)}; it needs one a picture, ({len(x)}, 1, 1, 1)")
        if c.numel() != 10 * len(x):
            raise ValueError(
                f"the network received a condition of shape {tuple(c.shape)} for x {tuple(x.shape)}; it needs one row a picture, "
                f"({len(x)}, 10): one-hot, or filled with condition_mask_value"
            )
        if x.ndim != 4 or tuple(x.shape[1:]) != (1, 28, 28):
            raise ValueError(f"the network received x of shape {tuple(x.shape)}; it needs (B, 1, 28, 28)")
        shared = t.numel() == 1 < len(x)
        t = t.double().reshape(-1).expand(len(x)) if t.numel() == 1 else t.double().reshape(-1).repeat(repeated)
        c = c.double().reshape(len(x), 10)
        out = self.predict(x.float(), t, c)
        self.calls.append(Call(x.detach().clone(), t, c, out, training, grows, repeated, shared))
        return out.clone()


class Call:
    """One call of the network: x (n, 1, 28, 28), times (n,), conditions (n, 10), its output, its mode, whether x has a graph.

    repeated: 2 where only half of the times were given. shared: whether one was given for all.
    """

    def __init__(self, x, t, c, out, training, grows, repeated, shared):
        self.x, self.t, self.c, self.out, self.training, self.grows = x, t, c, out, training, grows
        self.repeated, self.shared = repeated, shared


class Lender:
    """A right schedule in the student's own shapes. A time step outside 1 … T is an error, or, if lenient, clamped.

    blind: the student's own scheduler is not called for its shapes.
    """

    def __init__(self, settings, lenient=False, blind=False):
        self.T, self.tables, self.lenient, self.blind = settings["T"], schedule(**settings), lenient, blind

    def __call__(self, t_s, shapes):
        if t_s.numel() > MOST_STEPS:
            raise ValueError(f"{t_s.numel():,} time steps at once; more than {MOST_STEPS:,} are not answered")
        t = t_s.reshape(-1).long()
        t = t.clamp(1, self.T) if self.lenient else t
        if t.numel() == 0 or t.min() < 1 or t.max() > self.T:
            raise ValueError(f"time steps {t.tolist()[:3]}; allowed is 1 to T = {self.T}")
        count = t.numel()
        fits = lambda shape: shape is not None and torch.Size(shape).numel() == count
        return {
            name: torch.tensor(table[t.numpy() - 1], dtype=torch.float32).view(shapes[name] if fits(shapes.get(name)) else (-1, 1, 1, 1))
            for name, table in self.tables.items()
        }


class Noting:
    """The object that make() returns; its errors get an attribute `where`, the last line of the student's that they passed."""

    def __init__(self, cls, make):
        try:
            self._folder = os.path.dirname(os.path.abspath(inspect.getfile(cls)))
        except (TypeError, OSError):  # a class that stands in no file
            self._folder = None
        self._inner = self._noted(make)

    def __getattr__(self, name):
        return functools.partial(self._noted, getattr(self._inner, name))

    def _noted(self, act, *args, **options):
        try:
            return act(*args, **options)
        except Exception as error:
            error.where = lend.where(error, self._folder) if self._folder else ""
            raise


def is_unwritten(error):
    """Whether an error is that of a method that nobody has written. torch raises it, too, with a text: for a ModuleList that is called."""
    return isinstance(error, NotImplementedError) and not str(error)


def stops(what, error):
    """A sentence on an error of the student's code."""
    if getattr(error, "final", False):  # its message is for the student already
        return str(error)
    where = f" ({error.where[:300]})" if getattr(error, "where", "") else ""
    return f"{what} stops with {type(error).__name__}: {str(error)[:500]}{where}."


class Student:
    """cls: a ConditionalDDPM, a ConditionalFM or a ConditionalUnet.

    hung: its scheduler does not return, or only raises errors: do not call it again. scheduled: whether it has one.
    """

    def __init__(self, cls):
        self.cls, self.schedules, self.hung, self.scheduled = cls, {}, False, True

    def process(self, settings, answer=None, right=None, scalar=False, seed=SEED):
        lend.seed(seed)
        blind = right is not None and right.blind
        return Noting(self.cls, lambda: lend.Process(self.cls, settings, answer, right, blind, scalar))

    def network(self, *args):
        lend.seed(SEED)
        return Noting(self.cls, lambda: lend.Network(self.cls, *args))

    def run(self, settings, predict, labels, call, seed=SEED, lenient=False):
        """call(process, conditions) in the first form of conditions and config that the student's code takes: (calls, its result, form).

        lenient: a t outside 1 … T is no error. Raises the error of the first form where none is taken.
        """
        right = Lender(settings, lenient, self.hung) if lenient else self.scheduler(settings)[0]
        said = None
        for scalar in (False, True):
            for form, conditions in (("labels", labels), ("one-hot rows", F.one_hot(labels, 10))):
                answers = Answers(predict)
                try:
                    return answers.calls, call(self.process(settings, answers, right, scalar, seed), conditions.clone()), form
                except Exception as error:
                    if is_unwritten(error) or getattr(error, "final", False):  # the process has ended, or hangs
                        raise
                    said = said or error
        raise said

    def scheduler(self, settings):
        """(a Lender in place of the student's scheduler if that is wrong, else None; the student's own tables or None)."""
        if not self.scheduled:
            return None, None
        key = settings["T"]
        if key not in self.schedules:
            self.schedules[key] = self._scheduler(settings)
        return self.schedules[key]

    def _scheduler(self, settings):
        from checks import scheduler  # here, as the network's section does not need it

        verdict, got = Verdict(scheduler.PROPERTIES, ""), None
        try:
            if not self.hung:
                got = scheduler.look(self.process(settings), settings, verdict)
                if not verdict.faults and not scheduler.takes(self.process(settings), "(B,)"):
                    verdict.fault_rest("")  # forward asks for a batch, which is judged there
                self.hung = verdict.unreadable
        except Exception as error:
            self.hung = getattr(error, "final", False)
            verdict.fault_rest("")
        return (Lender(settings, blind=self.hung) if verdict.faults or self.hung else None), got
