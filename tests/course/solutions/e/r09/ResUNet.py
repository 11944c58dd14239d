"""Red para MNIST. 28x28, 1 canal, 10 clases. Sin clases auxiliares: dos listas y un bucle."""

import torch
from torch import nn

LADO = 28
CANALES = 1
CLASES = 10


class ConditionalUnet(nn.Module):
    """in_channels y n_classes estan por la firma: aqui siempre son 1 y 10."""

    def __init__(self, in_channels, n_feat=128, n_classes=10):
        super().__init__()
        F = n_feat
        # entrada: imagen (1) + tiempo (1) + clase (10) = 12 canales
        self.bajar = nn.ModuleList([
            nn.Sequential(nn.Conv2d(12, F, 3, 1, 1), nn.BatchNorm2d(F), nn.ReLU(), nn.Conv2d(F, F, 3, 1, 1), nn.BatchNorm2d(F), nn.ReLU()),
            nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(F + 11, F, 3, 1, 1), nn.BatchNorm2d(F), nn.ReLU()),
            nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(F + 11, 2 * F, 3, 1, 1), nn.BatchNorm2d(2 * F), nn.ReLU()),
        ])
        self.fondo = nn.Sequential(nn.Flatten(), nn.Linear(2 * F * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 2 * F * 7 * 7), nn.ReLU(), nn.Unflatten(1, (2 * F, 7, 7)))
        self.subir = nn.ModuleList([
            nn.Sequential(nn.ConvTranspose2d(4 * F, F, 2, 2), nn.BatchNorm2d(F), nn.ReLU()),
            nn.Sequential(nn.ConvTranspose2d(2 * F, F, 2, 2), nn.BatchNorm2d(F), nn.ReLU()),
        ])
        self.salida = nn.Sequential(nn.Conv2d(2 * F, F, 3, 1, 1), nn.Dropout2d(0.05), nn.ReLU(), nn.Conv2d(F, 1, 1))

    def forward(self, x, t, c):
        t = t.reshape(-1, 1, 1, 1).to(x.dtype)
        c = c.reshape(-1, 10, 1, 1).to(x.dtype)
        tc = torch.cat([t, c], 1)  # (B, 11, 1, 1)
        h28 = self.bajar[0](torch.cat([x, tc.expand(-1, 11, 28, 28)], 1))
        h14 = self.bajar[1](torch.cat([h28, tc.expand(-1, 11, 28, 28)], 1))
        h7 = self.bajar[2](torch.cat([h14, tc.expand(-1, 11, 14, 14)], 1))
        y = self.subir[0](torch.cat([self.fondo(h7), h7], 1))
        y = self.subir[1](torch.cat([y, h14], 1))
        return self.salida(torch.cat([y, h28], 1))
