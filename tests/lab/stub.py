"""A model around a network whose predictions are known."""

from types import SimpleNamespace
from unittest import mock

import torch
from checks.truth import array
from torch import nn

from config import DMConfig

# Few and large steps: every mistake shows, float32 costs no digits that matter, and a run takes milliseconds.
SMALL = dict(T=10, beta_1=0.02, beta_T=0.3, num_feat=8, precision="float32")


class Stub(nn.Module):
    """A network whose prediction is known, `predict(x, t, c)`; it writes down every call."""

    def __init__(self, predict):
        super().__init__()
        self.predict, self.calls = predict, []
        self.anchor = nn.Parameter(torch.zeros(()))  # gives it a device, and its output a graph

    def forward(self, x, t, c):
        out = self.predict(x.detach(), t.detach(), c.detach()).to(x.dtype) + 0 * self.anchor
        call = dict(x=x.detach().clone(), t=array(t).reshape(-1), c=c.detach().clone(), out=out)
        self.calls.append(SimpleNamespace(**call, grows=x.requires_grad, training=self.training))
        return out


def build_bare(DDPM, **settings):
    """DDPM(DMConfig) without a network: the class's own is not even made."""
    with mock.patch.dict(DDPM.__init__.__globals__, ConditionalUnet=lambda *args, **kwargs: nn.Identity()):
        return DDPM(DMConfig(**{**SMALL, **settings}))


def build(DDPM, network, **settings):
    """DDPM(DMConfig) around a given network."""
    model = build_bare(DDPM, **settings)
    model.network = network
    return model
