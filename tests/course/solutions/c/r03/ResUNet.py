"""Una U-Net propia: bloques residuales cuya normalización aprende del tiempo y de la clase."""

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """GroupNorm, SiLU y convolución, dos veces; entre ambas, escala y desplazamiento según la información (B, E)."""

    def __init__(self, entrada, salida, info):
        super().__init__()
        self.norma1, self.conv1 = nn.GroupNorm(4, entrada), nn.Conv2d(entrada, salida, 3, padding=1)
        self.norma2, self.conv2 = nn.GroupNorm(4, salida), nn.Conv2d(salida, salida, 3, padding=1)
        self.ajuste = nn.Linear(info, 2 * salida)
        self.atajo = nn.Identity() if entrada == salida else nn.Conv2d(entrada, salida, 1)

    def forward(self, x, info):
        h = self.conv1(F.silu(self.norma1(x)))
        escala, desplazo = self.ajuste(info)[:, :, None, None].chunk(2, dim=1)
        h = self.norma2(h) * (1 + escala) + desplazo
        return self.atajo(x) + self.conv2(F.silu(h))


class Informacion(nn.Module):
    """Tiempo y clase en un solo vector."""

    def __init__(self, clases, ancho):
        super().__init__()
        self.tiempo = nn.Sequential(nn.Linear(1, ancho), nn.SiLU(), nn.Linear(ancho, ancho))
        self.clase = nn.Sequential(nn.Linear(clases, ancho), nn.SiLU(), nn.Linear(ancho, ancho))

    def forward(self, t, c):
        return F.silu(self.tiempo(t) + self.clase(c))


class ConditionalUnet(nn.Module):
    def __init__(self, in_channels, n_feat=128, n_classes=10):
        super().__init__()
        E = 4 * n_feat
        self.n_classes = n_classes
        self.informacion = Informacion(n_classes, E)
        self.entrada = nn.Conv2d(in_channels, n_feat, 3, padding=1)
        self.baja1 = Residual(n_feat, n_feat, E)
        self.mitad1 = nn.Conv2d(n_feat, n_feat, 3, stride=2, padding=1)
        self.baja2 = Residual(n_feat, 2 * n_feat, E)
        self.mitad2 = nn.Conv2d(2 * n_feat, 2 * n_feat, 3, stride=2, padding=1)
        self.fondo = Residual(2 * n_feat, 2 * n_feat, E)
        self.sube2 = Residual(4 * n_feat, n_feat, E)
        self.sube1 = Residual(2 * n_feat, n_feat, E)
        self.salida = nn.Sequential(nn.GroupNorm(4, n_feat), nn.SiLU(), nn.Conv2d(n_feat, in_channels, 3, padding=1))

    def forward(self, x, t, c):
        info = self.informacion(t.reshape(-1, 1).to(x.dtype), c.reshape(-1, self.n_classes).to(x.dtype))
        a = self.baja1(self.entrada(x), info)                # (B, F, 28, 28)
        b = self.baja2(self.mitad1(a), info)                 # (B, 2F, 14, 14)
        h = self.fondo(self.mitad2(b), info)                 # (B, 2F, 7, 7)
        h = F.interpolate(h, scale_factor=2, mode="nearest")
        h = self.sube2(torch.cat([h, b], dim=1), info)       # (B, F, 14, 14)
        h = F.interpolate(h, scale_factor=2, mode="nearest")
        h = self.sube1(torch.cat([h, a], dim=1), info)       # (B, F, 28, 28)
        return self.salida(h)
