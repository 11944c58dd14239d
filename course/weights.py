"""The weights that a student trained: sampled through the sandbox, read by the judge."""

import torch
from checks import truth
from torch import nn

from config import DMConfig
from course import remote
from course.record import Property
from course.wire import Lost
from lab import judge as reader
from lab import samplers

OMEGA, STEPS, EACH = 2.0, 10, 5  # guidance, steps, pictures a digit
# Points, and the share of the pictures that must read as the digit asked for. The weights that ship with the project, of ten
# epochs, read 100 % right for each of four seeds; a network that has learnt nothing reads 10 %.
SHARES = ((4, 0.5), (2, 0.75), (2, 0.9))
SEE = "See 2.4 Full training in the notebook."


class Unjudged(Exception):
    """Weights that a person has to look at; the message says why."""


def judge(box):
    """(properties, notes) of the handed-in best_checkpoint.pth, in what time is left; no properties where a person has to judge."""
    try:
        share = _share(box)
    except Unjudged as why:
        return (), (f"{why} A person looks at the training.",)
    properties = []
    for points, wanted in SHARES:
        says = () if share >= wanted else (f"{share:.0%} of the digits read as what was asked for, expected at least {wanted:.0%}. {SEE}",)
        properties.append(Property(f"at least {wanted:.0%} of sampled digits are the ones asked for", 0 if says else points, points, says))
    return tuple(properties), (
        f"{share:.0%} of {10 * EACH} digits, sampled from best_checkpoint.pth in {STEPS} steps with omega = {OMEGA:g}, read as what was "
        "asked for, by the judge that ships with the course.",
    )


def _share(box):
    """The share of sampled digits that the judge reads as what was asked for."""
    student = remote.Student(lambda: box.link(box.until - box.now() - 1), module="DDPM", name="ConditionalDDPM")
    try:
        channel = student.open()
        config = DMConfig.from_dict(channel.ask("checkpoint")["config"])
        if (config.num_channels, tuple(config.input_dim), config.num_classes) != (1, (28, 28), 10) or config.T > 4000:
            raise Unjudged("best_checkpoint.pth is of no network for MNIST's digits.")
        model = _Model(config, _Network(channel))
        labels = torch.arange(10).repeat_interleave(EACH)
        steps, generator = min(STEPS, config.T), torch.Generator().manual_seed(0)
        images = samplers.sample(model, labels, OMEGA, method="ddpm", steps=steps, generator=generator)  # without diffusers
    except Lost as lost:
        raise Unjudged(f"best_checkpoint.pth cannot be sampled: {lost}") from lost
    except Unjudged:
        raise
    except Exception as error:
        raise Unjudged(f"best_checkpoint.pth cannot be used: {error}") from error
    finally:
        student.close()
    digits, _ = reader.read(reader.load(), images.nan_to_num())
    return (digits == labels).float().mean().item()


class _Model:
    """What lab.samplers asks for: the network with the student's weights, and a right schedule."""

    def __init__(self, config, network):
        self.dmconfig, self.network = config, network
        self.tables = truth.schedule(config.beta_1, config.beta_T, config.T)

    def scheduler(self, t):
        return {name: torch.tensor(table[t.numpy() - 1], dtype=torch.float32).view(-1, 1, 1, 1) for name, table in self.tables.items()}


class _Network(nn.Module):
    """Stands for the network in the sandbox that has the student's weights."""

    def __init__(self, channel):
        super().__init__()
        self.channel, self.anchor = channel, nn.Parameter(torch.zeros(()))

    def forward(self, x, t, c):
        out = self.channel.value("predict", x=x, t=t, c=c)
        if not torch.is_tensor(out) or out.shape != x.shape:
            raise Unjudged("The network of best_checkpoint.pth does not return a tensor of the shape of x.")
        return out.detach().float()
