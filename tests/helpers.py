"""What the checks of the sections share: the schedule as a float64 loop, stub networks, and the naming of mistakes.

Every check is a plain function of the class under test, `check_…(ConditionalDDPM)`: the student's test calls it, and so
do the grader and the proof that each check catches its mistakes. Beside a check stands its table of mistakes: a sentence, and
what that mistake would give. PROPERTIES at the end of a section's checks says what each is worth: (points, what a right
solution does, its checks). NOTES are right solutions' oddities, worth a word and no points.
"""

from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from torch import nn

from config import DMConfig

# Few and large steps: every mistake shows, float32 costs no digits that matter, and a run takes milliseconds.
SMALL = dict(T=10, beta_1=0.02, beta_T=0.3, num_feat=8, precision="float32")
MEAN, STD = 0.1307, 0.3081
ULP = 2.0**-23  # float32's


def schedule(beta_1=SMALL["beta_1"], beta_T=SMALL["beta_T"], T=SMALL["T"]):
    """The seven tables by a float64 loop, (T,) each; t stands at t - 1."""
    return tables([beta_1 + (beta_T - beta_1) * (t - 1) / max(T - 1, 1) for t in range(1, T + 1)])


def tables(betas):
    """The seven tables that follow from betas, the rest of the schedule being right."""
    beta, alpha_bar = np.array(betas, dtype=np.float64), []
    for b in beta:
        alpha_bar.append((alpha_bar[-1] if alpha_bar else 1.0) * (1 - b))
    bar = np.array(alpha_bar)
    return {
        "beta_t": beta,
        "sqrt_beta_t": beta**0.5,
        "alpha_t": 1 - beta,
        "oneover_sqrt_alpha": (1 - beta) ** -0.5,
        "alpha_t_bar": bar,
        "sqrt_alpha_bar": bar**0.5,
        "sqrt_oneminus_alpha_bar": (1 - bar) ** 0.5,
    }


def float32_error(table):
    """How far each table may be off, (T,) each, when it was made in float32 throughout.

    linspace is good to a few ulp of its largest value, a product of t factors to about 4 (t + 1) ulp, and a root passes
    the error of what stands under it on divided by twice itself.
    """
    t = np.arange(1, len(table["beta_t"]) + 1)
    beta, bar = 4 * ULP * table["beta_t"].max(), 4 * (t + 1) * ULP * table["alpha_t_bar"]
    root = lambda error, name: error / (2 * table[name]) + ULP
    return {
        "beta_t": np.full(len(t), beta),
        "sqrt_beta_t": root(beta, "sqrt_beta_t"),
        "alpha_t": np.full(len(t), beta + ULP),
        "oneover_sqrt_alpha": (beta + ULP) / 2 * table["oneover_sqrt_alpha"] ** 3 + 2 * ULP,
        "alpha_t_bar": bar,
        "sqrt_alpha_bar": root(bar, "sqrt_alpha_bar"),
        "sqrt_oneminus_alpha_bar": root(bar + ULP, "sqrt_oneminus_alpha_bar"),
    }


def named(mistakes, fits, measured=""):
    """Words for the first mistake of [(words, what it gives)] that fits, else what was measured."""
    for words, gives in mistakes:
        if fits(gives):
            return f"This is what you get when {words}."
    return f"No usual mistake fits. {measured}".strip()


def array(tensor):
    return tensor.detach().cpu().double().numpy()


def asked_outside(error):
    """Whether an error is what the schedule says to a t outside 1 … T."""
    return isinstance(error, IndexError) or (isinstance(error, ValueError) and "time steps" in str(error))


class Stub(nn.Module):
    """A network whose prediction is known, `predict(x, t, c)`; it writes down every call."""

    def __init__(self, predict, num_classes=10):
        super().__init__()
        self.predict, self.num_classes, self.calls = predict, num_classes, []
        self.anchor = nn.Parameter(torch.zeros(()))  # gives it a device, and its output a graph

    def forward(self, x, t, c):
        assert tuple(c.shape) == (len(x), self.num_classes), (
            f"the network received a condition of shape {tuple(c.shape)} for x {tuple(x.shape)}; it needs one row a picture, "
            f"({len(x)}, {self.num_classes}): one-hot, or filled with condition_mask_value"
        )
        assert torch.is_tensor(t) and t.numel() in (1, len(x)), (
            f"the network received {getattr(t, 'shape', t)} as time for x {tuple(x.shape)}; it needs one a picture, ({len(x)}, 1, 1, 1)"
        )
        out = self.predict(x.detach(), t.detach(), c.detach()).to(x.dtype) + 0 * self.anchor
        self.calls.append(
            SimpleNamespace(
                x=x.detach().clone(), t=array(t).reshape(-1), c=c.detach().clone(), out=out, grows=x.requires_grad, training=self.training
            )
        )
        return out


def gradient_between(net, given, of, at=None, cut=None):
    """The gradient of the sum of squares of the output of the block `of`, for the output of the block `at`, or for x.

    given: (x, t, c). cut: a block whose output is cut from the graph. Returns None where no path leads there, "never run"
    where one of the blocks is not run, "own design" where the network has no such block.
    """
    names = [name for name in (of, at, cut) if name]
    if not all(isinstance(getattr(net, name, None), nn.Module) for name in names):
        return "own design"
    x, seen, hooks = given[0].detach().clone().requires_grad_(), {}, []
    for name in names:
        def look(module, inputs, output, name=name):
            seen[name] = output
            return output.detach() if name == cut else None

        hooks.append(getattr(net, name).register_forward_hook(look))
    try:
        net(x.clone(), *given[1:])
    finally:
        for hook in hooks:
            hook.remove()
    if len(seen) < len(names):
        return "never run"
    if not seen[of].requires_grad:
        return None
    (gradient,) = torch.autograd.grad(seen[of].square().sum(), seen[at] if at else x, allow_unused=True)
    return gradient


def build_bare(DDPM, **settings):
    """DDPM(DMConfig) without a network: the class's own, which may be unsolved or wrong, is not even made."""
    with mock.patch.dict(DDPM.__init__.__globals__, ConditionalUnet=lambda *args, **kwargs: nn.Identity()):
        return DDPM(DMConfig(**{**SMALL, **settings}))


def build(DDPM, network, **settings):
    """DDPM(DMConfig) around a given network, with a right schedule even where its own is unsolved or wrong.

    So a mistake costs its own section only.
    """
    model = build_bare(DDPM, **settings)
    config, model.network = model.dmconfig, network
    right = schedule(config.beta_1, config.beta_T, config.T)
    error, shape = float32_error(right), (1, 1, 1)
    t = torch.cat([torch.arange(config.T, 0, -1), torch.tensor([1])])  # neither sorted nor the whole table as it stands
    try:
        given, at = t.clone(), t.numpy() - 1
        own = model.scheduler(given)
        shape = own["beta_t"].shape[1:]
        if torch.equal(given, t) and all((abs(array(own[name]).reshape(-1) - right[name][at]) <= error[name][at]).all() for name in right):
            return model
    except Exception:  # whatever is wrong with it is for its own section to say
        pass

    def lent(t_s):
        t = torch.as_tensor(t_s).reshape(-1).long()
        if t.min() < 1 or t.max() > config.T:
            raise ValueError(f"time steps {int(t.min())} to {int(t.max())}; allowed is 1 to T = {config.T}")
        shaped = (-1, *shape) if np.prod(shape) == 1 else (-1, 1, 1, 1)
        return {name: torch.tensor(table[t.numpy() - 1], dtype=torch.float32).view(shaped) for name, table in right.items()}

    model.scheduler = lent
    return model


def check_elsewhere(DDPM, check, settings, **more):
    """Run a check of a section under other settings than the default; a failure says what that hints at."""
    try:
        check(DDPM, **more, **settings)
    except NotImplementedError:
        raise
    except Exception as error:
        raise AssertionError(
            f"With {settings}: {error} If the default settings pass, something is written into the code "
            "that should come from dmconfig or from the images' shape."
        ) from None
