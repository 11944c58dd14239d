"""Rauschschaetzer: ein kleines Faltungsnetz ohne Pooling, dafuer mit einem Blick aufs ganze Bild.

Zeit und Klasse werden zu je einer Merkmalskarte und kommen als zusaetzliche Kanaele dazu.
"""

import torch
from torch import nn


class Karte(nn.Module):
    """Ein Vektor (B, ein) wird zu einer Karte (B, kanaele, H, W)."""

    def __init__(self, ein, kanaele, groesse):
        super().__init__()
        self.kanaele, self.groesse = kanaele, groesse
        self.netz = nn.Sequential(nn.Linear(ein, 32), nn.GELU(), nn.Linear(32, kanaele))
        self.ort = nn.Parameter(0.02 * torch.randn(1, kanaele, *groesse))

    def forward(self, v):
        return self.netz(v)[:, :, None, None] + self.ort


class Stufe(nn.Module):
    def __init__(self, ein, aus, weite):
        super().__init__()
        self.falten = nn.Conv2d(ein, aus, 3, padding=weite, dilation=weite)
        self.norm = nn.GroupNorm(4, aus)
        self.aktiv = nn.GELU()

    def forward(self, x):
        return self.aktiv(self.norm(self.falten(x)))


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
        super().__init__()
        self.n_classes = n_classes
        self.zeitkarte = Karte(1, 4, tuple(input_dim))
        self.klassenkarte = Karte(n_classes, 8, tuple(input_dim))
        self.stufe1 = Stufe(in_channels + 12, n_feat, 1)
        self.stufe2 = Stufe(n_feat, n_feat, 2)
        self.stufe3 = Stufe(n_feat, n_feat, 4)
        self.stufe4 = Stufe(n_feat, n_feat, 8)
        self.stufe5 = Stufe(2 * n_feat, n_feat, 2)
        self.stufe6 = Stufe(2 * n_feat, n_feat, 1)
        self.ausgang = nn.Conv2d(n_feat + in_channels, in_channels, 3, padding=1)

    def forward(self, x, t, c):
        zeit = self.zeitkarte(t.reshape(-1, 1).to(x.dtype))
        klasse = self.klassenkarte(c.to(x.dtype))
        a = self.stufe1(torch.cat([x, zeit, klasse], dim=1))
        b = self.stufe2(a)
        mitte = self.stufe4(self.stufe3(b))
        hoch = self.stufe5(torch.cat([mitte, b], dim=1))
        hoch = self.stufe6(torch.cat([hoch, a], dim=1))
        return self.ausgang(torch.cat([hoch, x], dim=1))
