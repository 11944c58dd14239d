"""Ein U-Netz aus ConvNeXt-Bloecken (tiefenweise 7x7, dann 1x1), das Zeit und Klasse durch FiLM erfaehrt."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KanalNorm(nn.Module):
    """LayerNorm ueber die Kanaele jedes Pixels."""

    def __init__(self, kanaele: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(kanaele)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class FiLM(nn.Module):
    """x -> (1 + gamma) x + delta, beides aus der Einbettung."""

    def __init__(self, einbettung: int, kanaele: int) -> None:
        super().__init__()
        self.linear = nn.Linear(einbettung, 2 * kanaele)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        gamma, delta = self.linear(e).unflatten(1, (2, -1, 1, 1)).unbind(1)
        return (1 + gamma) * x + delta


class ConvNeXtBlock(nn.Module):
    def __init__(self, kanaele: int, einbettung: int) -> None:
        super().__init__()
        self.tiefe = nn.Conv2d(kanaele, kanaele, 7, padding=3, groups=kanaele)
        self.norm = KanalNorm(kanaele)
        self.film = FiLM(einbettung, kanaele)
        self.weit = nn.Conv2d(kanaele, 2 * kanaele, 1)
        self.eng = nn.Conv2d(2 * kanaele, kanaele, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.film(self.norm(self.tiefe(x)), e)
        return x + self.eng(nn.functional.gelu(self.weit(h)))


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels: int, n_feat: int = 128, n_classes: int = 10) -> None:
        super().__init__()
        e = 2 * n_feat
        self.zeit = nn.Sequential(nn.Linear(3, e), nn.GELU(), nn.Linear(e, e))
        self.klasse = nn.Linear(n_classes, e)
        self.eingang = nn.Conv2d(in_channels, n_feat, 3, padding=1)
        self.ab1 = ConvNeXtBlock(n_feat, e)
        self.kleiner1 = nn.Conv2d(n_feat, 2 * n_feat, 2, stride=2)
        self.ab2 = ConvNeXtBlock(2 * n_feat, e)
        self.kleiner2 = nn.Conv2d(2 * n_feat, 2 * n_feat, 2, stride=2)
        self.mitte = nn.ModuleList(ConvNeXtBlock(2 * n_feat, e) for _ in range(2))
        self.groesser2 = nn.ConvTranspose2d(2 * n_feat, 2 * n_feat, 2, stride=2)
        self.auf2 = ConvNeXtBlock(2 * n_feat, e)
        self.groesser1 = nn.ConvTranspose2d(2 * n_feat, n_feat, 2, stride=2)
        self.auf1 = ConvNeXtBlock(n_feat, e)
        self.ausgang = nn.Conv2d(n_feat, in_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        t = t.reshape(-1, 1).to(x.dtype)
        e = self.zeit(torch.cat([t, t.square(), t.sqrt()], dim=1)) + self.klasse(c.to(x.dtype))
        a = self.ab1(self.eingang(x), e)
        b = self.ab2(self.kleiner1(a), e)
        h = self.kleiner2(b)
        for block in self.mitte:
            h = block(h, e)
        h = self.auf2(self.groesser2(h) + b, e)  # die Bruecken werden addiert
        h = self.auf1(self.groesser1(h) + a, e)
        return self.ausgang(h)
