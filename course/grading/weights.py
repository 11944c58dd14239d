"""The weights that a student trained: the network runs in the sandbox and is judged here.

Our sampler, with noise that the network has not seen, must draw digits that are read as asked for. A network that has memorised
pictures can do that too. So the pictures of a class must differ, and the network must denoise pictures that it cannot know: its
own samples, turned, scaled and shifted, with fresh noise. Weights do not show who trained them, and the person who marks is told
so.
"""

import hashlib
import secrets

import torch
import torch.nn.functional as F
from checks import truth
from torch import nn

from config import MEAN, STD, DMConfig
from course.report.record import Property
from course.sandbox import proxy
from course.sandbox.messages import Lost
from lab import samplers
from lab.quality import judge as reader

OMEGA, STEPS, EACH = 2.0, 10, 5  # guidance, steps, pictures a digit
# Points, and the share of the pictures that must read as the digit asked for. Of the digits that
# the weights that ship draw (ten epochs), 100 % are read right for each of four seeds; of an untrained network's, 10 %.
SHARES = ((4, 0.5), (2, 0.75), (2, 0.9))
# Root mean squared difference of two pictures of a class, in [0, 1], on average and at the least: 0.31 and 0.11 in MNIST, 0.28 and
# 0.08 for the weights that ship, 0.11 and 0.06 for a small network trained on the 1,797 stand-in digits. It is 0 where a network
# that has memorised pictures draws one twice.
LEAST, ALIKE = 0.05, 0.01
# The denoising loss at sigma / alpha = 0.3. The weights that ship have 0.16, a network that predicts no noise 1, one that has
# memorised all 60,000 of MNIST's training pictures 2.4, one that has memorised 1 or 20 a class 3.5.
NOISE, MOST_LOSS = 0.3, 0.8
# The fingerprint, `_asked`, of the weights that ship; no other training comes as near.
SHIPPED, NEAR = (-1.0135, -1.3533, -0.7566, 0.7795, 0.6166), 1e-3
SECONDS, QUIET = 25, 6  # for the section, where right weights take 5, and for one output of the network
SEE = "See 2.4 Full training in the notebook."
CANNOT = "Weights do not show who trained them, or with what code: the notebook's own output and curve should fit them."


class Unjudged(Exception):
    """Weights that a person has to look at; the message says why."""


def judge(box, checkpoint):
    """(properties, notes) of the handed-in file `checkpoint`, in what time is left; no properties where a person has to judge."""
    try:
        share, notes = _looked_at(box, hashlib.sha256(checkpoint.read_bytes()).digest())
    except Unjudged as why:
        return (), (f"{why} A person looks at the training.",)
    properties = []
    for points, wanted in SHARES:
        says = () if share >= wanted else (f"{share:.0%} of the digits read as what was asked for, expected at least {wanted:.0%}. {SEE}",)
        properties.append(Property(f"at least {wanted:.0%} of sampled digits are the ones asked for", 0 if says else points, points, says))
    return tuple(properties), notes


def _looked_at(box, digest):
    """(the share of drawn digits that read as what was asked for, notes). digest: of the file, the seed of the noise."""
    student = proxy.Student(lambda: box.link(min(SECONDS, box.until - box.now() - 1), QUIET), module="DDPM", name="ConditionalDDPM")
    try:
        channel = student.open()
        config = DMConfig.from_dict(channel.ask("checkpoint")["config"])
        if (config.num_channels, tuple(config.input_dim), config.num_classes) != (1, (28, 28), 10) or config.T > 4000:
            raise Unjudged("best_checkpoint.pth is of no network for MNIST's digits.")
        return _judged(_Model(config, _Network(channel)), torch.Generator().manual_seed(int.from_bytes(digest[:7], "big")))
    except Lost as lost:
        raise Unjudged(f"best_checkpoint.pth cannot be sampled: {lost}") from lost
    except Unjudged:
        raise
    except Exception as error:
        raise Unjudged(f"best_checkpoint.pth cannot be used: {error}") from error
    finally:
        student.close()


def _judged(model, generator):
    """The same for a model. Raises Unjudged for one that draws digits but fails one of the other tests."""
    labels = torch.arange(10).repeat_interleave(EACH)
    steps = min(STEPS, model.dmconfig.T)
    images = samplers.sample(model, labels, OMEGA, method="ddpm", steps=steps, generator=generator).nan_to_num()  # without diffusers
    digits, _ = reader.read(reader.load(), images)
    share = (digits == labels).double().mean().item()  # in float32 45 of 50 are less than 0.9
    notes = [
        f"{share:.0%} of {len(labels)} digits, sampled from best_checkpoint.pth in {steps} steps with omega = {OMEGA:g}, read as what was "
        "asked for, by the judge that ships with the course.",
    ]
    if share >= SHARES[0][1]:  # what earns nothing needs no further tests
        apart = _apart(images, labels)
        loss = _loss(model, labels, images, torch.Generator().manual_seed(secrets.randbits(60)))  # noise that nobody can know
        answer = _asked(model)
        notes.append(f"Two pictures of a digit differ by {apart.mean():.2f}, those of MNIST by 0.31. In new pictures, which are these "
                     f"turned, scaled and shifted, the network's loss is {loss:.2f}, and 1 for one that predicts no noise.")  # fmt: skip
        if apart.mean() < LEAST or apart.min() < ALIKE:
            raise Unjudged(f"{notes[0]} But the pictures of a digit are alike, as if known by heart: two differ by {apart.mean():.3f} on "
                           f"average and by {apart.min():.3f} at the least, and by 0.31 and 0.11 in MNIST.")  # fmt: skip
        if not loss <= MOST_LOSS:
            raise Unjudged(f"{notes[0]} But it knows nothing of other pictures: of these turned, scaled and shifted its loss at little "
                           f"noise is {loss:.2f}, where one that predicts no noise has 1.")  # fmt: skip
        if (answer - torch.tensor(SHIPPED)).abs().max() < NEAR:
            raise Unjudged(f"{notes[0]} But these weights answer as those that ship with the course.")
        notes.append(CANNOT)
    return share, notes


def _apart(images, labels):
    """Root mean squared distances of each two pictures of a class."""
    distances = torch.cdist(images.flatten(1), images.flatten(1), compute_mode="donot_use_mm_for_euclid_dist") / images[0].numel() ** 0.5
    return distances[(labels[:, None] == labels).triu(1)]


def _loss(model, labels, images, generator):
    """The denoising loss on changed pictures, at the t whose sigma / alpha is nearest to NOISE."""
    alpha_bar = torch.tensor(model.tables["alpha_t_bar"])
    t = int(((1 / alpha_bar - 1).sqrt() - NOISE).abs().argmin()) + 1
    if abs((1 / alpha_bar[t - 1] - 1).sqrt() - NOISE) > 0.1:
        raise Unjudged("The schedule of best_checkpoint.pth has no time with little noise, at which it could be looked at.")
    x = _changed(images, generator)
    noise = torch.randn(x.shape, generator=generator)
    x_t = alpha_bar[t - 1].sqrt().float() * x + (1 - alpha_bar[t - 1]).sqrt().float() * noise
    times = torch.full((len(x), 1, 1, 1), t / model.dmconfig.T)
    return (model.network(x_t, times, F.one_hot(labels, 10).float()) - noise).square().mean().item()


def _changed(images, generator):
    """The pictures in [0, 1], turned by 7 to 13 degrees, scaled by up to a tenth, shifted by up to a pixel; as the network sees them."""
    random = torch.rand(len(images), 5, generator=generator)
    angle = (0.12 + 0.1 * random[:, 0]) * torch.where(random[:, 1] < 0.5, 1, -1)
    scale, shift = 0.9 + 0.2 * random[:, 2], (random[:, 3:] - 0.5) / 7
    cos, sin = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    moved = F.grid_sample(images, F.affine_grid(affine, images.shape, align_corners=False), align_corners=False)
    return (moved - MEAN) / STD


def _asked(model):
    """A fingerprint of the network: a few pixels of its answer to a picture that is always the same."""
    x = torch.linspace(-3, 3, 784).sin().view(1, 1, 28, 28)
    return model.network(x, torch.full((1, 1, 1, 1), 0.5), F.one_hot(torch.tensor([3]), 10).float()).flatten()[100:600:100]


class _Model:
    """The model that lab.samplers needs: the network with the student's weights, and a right schedule."""

    def __init__(self, config, network):
        self.dmconfig, self.network = config, network
        self.tables = truth.schedule(config.beta_1, config.beta_T, config.T)

    def scheduler(self, t):
        return {name: torch.tensor(table[t.numpy() - 1], dtype=torch.float32).view(-1, 1, 1, 1) for name, table in self.tables.items()}


class _Network(nn.Module):
    """A proxy for the network with the student's weights, which runs in the sandbox."""

    def __init__(self, channel):
        super().__init__()
        self.channel, self.anchor = channel, nn.Parameter(torch.zeros(()))

    def forward(self, x, t, c):
        out = self.channel.value("predict", x=x, t=t, c=c)
        if not torch.is_tensor(out) or out.shape != x.shape:
            raise Unjudged("The network of best_checkpoint.pth does not return a tensor of the shape of x.")
        if not out.isfinite().all():
            raise Unjudged("The network of best_checkpoint.pth returns values that are not finite.")
        return out.detach().float()
