"""Stand-ins for the student's classes: the checks of tests/ use them like the classes themselves, and every call crosses to the sandbox.

The network that a check lends, its random numbers and all judging stay on this side.
"""

import time

import torch
from torch import nn

from course.wire import GARBLED, Lost, error_fields, raised

SLOW_SECONDS = 2  # for one call of scheduler that then fails


class Channel:
    """Questions to one child of the sandbox, and its questions in between. Raises the student's errors, and Lost.

    connect: a function that gives a fresh Link. load: what the child imports first. broken: a list that channels may share; an
    error of a scheduler that hangs or takes too long is put there, and raised again without asking.
    """

    def __init__(self, connect, broken=None, **load):
        self.connect, self.load = connect, load
        self.link, self.models, self.broken = None, [], [] if broken is None else broken

    def open(self):
        """Have the child import the module; the first question does, too."""
        self.link = self.connect()
        self.ask("load", **self.load)

    def ask(self, do, **fields):
        if self.link is None:
            self.open()
        self.link.send(do=do, **fields)
        while True:
            answer = self.link.receive()
            try:
                if "error" in answer:
                    error = raised(answer["error"])
                elif "ask" not in answer:
                    return answer
                else:
                    self._answer(**answer)
                    continue
            except (KeyError, TypeError, IndexError, ValueError, AttributeError) as garbled:
                raise Lost(GARBLED) from garbled
            raise error

    def _answer(self, ask, model, **fields):
        model = self.models[model]
        try:
            if ask == "network":
                training, grows = bool(fields.pop("training")), bool(fields.pop("grows"))
                network = model.network.train(training)
                value = network(fields["x"], fields["t"], fields["c"])
                network.calls[-1].grows = grows
                model.outs.append(network.calls[-1].out)
            else:
                value = model.scheduler(fields["t_s"])
        except Exception as error:  # goes through the student's code, as it would if the network were there
            self.link.send(error=error_fields(error))
        else:
            self.link.send(value=value)

    def close(self):
        if self.link:
            self.link.close()
        self.link = None


class RemoteDDPM:
    """Stands for a student's ConditionalDDPM; `channel` is set in the subclass that `ddpm` makes."""

    channel = None

    def __init__(self, dmconfig):
        self.__dict__.update(dmconfig=dmconfig, network=None, outs=[])
        self._make()

    def _make(self):
        self.__dict__["number"] = self.channel.ask("process", config=self.dmconfig.to_dict())["value"]
        if self.number != len(self.channel.models):
            raise Lost(GARBLED)
        self.channel.models.append(self)

    def __setattr__(self, name, value):
        self.__dict__[name] = value
        self.channel.ask("lend", model=self.number, name=name)

    def __call__(self, images, conditions):
        self.outs.clear()
        answer = self._call("forward", images, conditions)
        loss, slopes = answer["value"], answer["slopes"]
        if not torch.is_tensor(loss) or not loss.requires_grad:
            return loss
        if [slope.shape if torch.is_tensor(slope) else None for slope in slopes] != [out.shape for out in self.outs]:
            slopes = [None] * len(self.outs)
        return _Loss.apply(loss.detach(), slopes, *self.outs)

    def sample(self, conditions, omega):
        return self._call("sample", conditions, omega)["value"]

    def scheduler(self, t_s):
        """The student's own. Where it hangs or ends the process, that is found out once; the rest goes on in a fresh child."""
        if self.channel.broken:
            raise self.channel.broken[0]
        start = time.monotonic()
        try:
            return self._call("scheduler", t_s)["value"]
        except Lost as lost:
            self.channel.broken.append(lost)
            self._start_again()
            raise
        except Exception as error:
            if time.monotonic() - start > SLOW_SECONDS:
                self.channel.broken.append(error)
            raise

    def _start_again(self):
        self.channel.close()
        self.channel.models.clear()
        self._make()
        if self.network is not None:
            self.channel.ask("lend", model=self.number, name="network")

    def eval(self):
        self._call("eval")
        return self

    def train(self, mode=True):
        self._call("train", mode)
        return self

    def _call(self, name, *args):
        answer = self.channel.ask("call", model=self.number, name=name, args=list(args))
        mirror(args, answer["args"])
        if answer["drew"]:
            torch.rand(())  # so did the student's code
        return answer


class _Loss(torch.autograd.Function):
    """A loss whose value and slopes are known."""

    @staticmethod
    def forward(ctx, loss, slopes, *outs):
        ctx.slopes = slopes
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return None, None, *(None if slope is None else slope * gradient for slope in ctx.slopes)


class RemoteUnet(nn.Module):
    """Stands for a student's ConditionalUnet, with parameters of its own that follow theirs by name."""

    channel = None

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.names, self.sent = [], {}
        for name, value in self.channel.ask("network", args=list(args), kwargs=kwargs)["parameters"].items():
            self.names.append(name)
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value.detach(), requires_grad=value.requires_grad))
        self.sent = {name: p._version for name, p in self.named_parameters()}

    def named_parameters(self, *args, **kwargs):
        for name, parameter in super().named_parameters(*args, **kwargs):
            yield name.replace("/", "."), parameter

    def train(self, mode=True):
        self.channel.ask("mode", training=mode)
        return super().train(mode)

    def forward(self, x, t, c):
        learning = [p for p in self.parameters() if p.requires_grad]
        return _Run.apply(self, torch.is_grad_enabled(), x, t, c, *learning)

    def gradient_between(self, args, **names):
        return self.channel.ask("between", args=list(args), parameters=self.changed(), names=names)["value"]

    def changed(self):
        """The parameters that the student's network does not have yet as they are here."""
        parameters = {name: p for name, p in self.named_parameters() if self.sent.get(name) != p._version}
        self.sent.update((name, p._version) for name, p in parameters.items())
        return parameters


class _Run(torch.autograd.Function):
    """A run of the student's network, forwards and backwards."""

    @staticmethod
    def forward(ctx, net, grows, *args):
        args = args[:3]
        ctx.net = net
        answer = net.channel.ask("run", args=list(args), parameters=net.changed(), grows=grows)
        mirror(args, answer["args"])
        out = answer["value"]
        if not torch.is_tensor(out):
            return out
        value = out.detach()
        if not out.requires_grad:
            ctx.mark_non_differentiable(value)
        return value

    @staticmethod
    def backward(ctx, slope):
        answer = ctx.net.channel.ask("back", slope=slope.contiguous())
        parameters = [answer["parameters"][name] for name, p in ctx.net.named_parameters() if p.requires_grad]
        return None, None, *answer["args"], *parameters


def mirror(args, after):
    """Do to the arguments what the student's code did to its copies, in place."""
    for mine, theirs in zip(args, after, strict=False):
        if torch.is_tensor(mine) and torch.is_tensor(theirs) and mine.shape == theirs.shape and not torch.equal(mine, theirs):
            with torch.no_grad():
                mine.copy_(theirs)


def ddpm(channel):
    """A class that stands for the student's ConditionalDDPM."""
    return type("ConditionalDDPM", (RemoteDDPM,), {"channel": channel})


def unet(channel):
    """A class that stands for the student's ConditionalUnet."""
    return type("ConditionalUnet", (RemoteUnet,), {"channel": channel})
