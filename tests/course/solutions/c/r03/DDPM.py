"""Difusión condicional, orientada a objetos: un calendario de varianzas, una guía y el modelo que los une."""

from dataclasses import dataclass

import torch
from torch import nn

from config import MEAN, STD, DMConfig, is_finite
from ResUNet import ConditionalUnet


@dataclass(frozen=True)
class Calendario:
    """Las varianzas de los T pasos. Las tablas tienen T entradas; el paso t está en la entrada t - 1."""

    beta: torch.Tensor
    alfa: torch.Tensor
    alfa_acumulada: torch.Tensor

    @classmethod
    def lineal(cls, inicio: float, fin: float, pasos: int) -> "Calendario":
        beta = torch.linspace(inicio, fin, pasos, dtype=torch.float64)
        alfa = 1 - beta
        return cls(beta, alfa, torch.cumprod(alfa, dim=0))

    def __len__(self):
        return len(self.beta)

    def en(self, t: torch.Tensor) -> dict:
        """Las siete cantidades en los pasos t (B,)."""
        posicion = t.cpu() - 1
        b, a, ac = (tabla[posicion] for tabla in (self.beta, self.alfa, self.alfa_acumulada))
        siete = {
            "beta_t": b,
            "sqrt_beta_t": torch.sqrt(b),
            "alpha_t": a,
            "oneover_sqrt_alpha": torch.rsqrt(a),
            "alpha_t_bar": ac,
            "sqrt_alpha_bar": torch.sqrt(ac),
            "sqrt_oneminus_alpha_bar": torch.sqrt(1 - ac),
        }
        return {nombre: v.float().to(t.device).reshape(-1, 1, 1, 1) for nombre, v in siete.items()}


class Azar:
    """Todo lo aleatorio sale de aquí, para que un generador baste para repetirlo."""

    def __init__(self, generador, dispositivo):
        self.generador, self.destino = generador, dispositivo
        self.origen = generador.device if generador is not None else dispositivo

    def normal(self, forma):
        return torch.randn(forma, generator=self.generador, device=self.origen).to(self.destino)

    def pasos(self, n, T):
        return torch.randint(1, T + 1, (n,), generator=self.generador, device=self.origen).to(self.destino)

    def moneda(self, n, p):
        return (torch.rand(n, generator=self.generador, device=self.origen) < p).to(self.destino)


@dataclass
class Condiciones:
    """Filas one-hot y la forma de ocultarlas."""

    filas: torch.Tensor
    valor_nulo: float

    def ocultas(self, cuales: torch.Tensor) -> torch.Tensor:
        return self.filas.masked_fill(cuales[:, None], self.valor_nulo)

    @property
    def nulas(self) -> torch.Tensor:
        return torch.full_like(self.filas, self.valor_nulo)


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig: DMConfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.calendario = Calendario.lineal(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T)
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)

    # -- varianzas ---------------------------------------------------------------------------------------------
    def scheduler(self, t_s):
        t_s = torch.as_tensor(t_s)
        if t_s.is_floating_point() or t_s.is_complex() or t_s.dtype == torch.bool:
            raise ValueError(f"los pasos son {t_s.dtype}, deben ser enteros")
        if t_s.dim() > 2 or (t_s.dim() == 2 and t_s.size(1) != 1) or not t_s.numel():
            raise ValueError(f"forma {tuple(t_s.shape)} no admitida")
        t_s = t_s.flatten().long()
        if not ((t_s >= 1) & (t_s <= len(self.calendario))).all():
            raise ValueError(f"los pasos van de 1 a {len(self.calendario)}")
        return self.calendario.en(t_s)

    # -- entrenamiento -----------------------------------------------------------------------------------------
    def forward(self, images, conditions, generator=None):
        if images.ndim != 4 or not images.is_floating_point() or tuple(images.shape[1:]) != self._forma:
            raise ValueError(f"imágenes de forma {tuple(images.shape)}")
        azar = Azar(generator, images.device)
        condiciones = Condiciones(self._one_hot(conditions, images.device), self.dmconfig.condition_mask_value)
        n = len(condiciones.filas)
        if n != len(images):
            raise ValueError(f"{n} condiciones para {len(images)} imágenes")
        ocultar = azar.moneda(n, self.dmconfig.mask_p)
        t = azar.pasos(n, self.dmconfig.T)
        ruido = azar.normal(images.shape)
        x_t = self._ensuciar(images, t, ruido)
        return self.loss_fn(self._predecir(x_t, t, condiciones.ocultas(ocultar)), ruido)

    def _ensuciar(self, x_0, t, ruido):
        v = self.scheduler(t)
        return v["sqrt_alpha_bar"] * x_0 + v["sqrt_oneminus_alpha_bar"] * ruido

    def _predecir(self, x, t, filas):
        """La red recibe t / T, nunca t."""
        return self.network(x, (t.float() / self.dmconfig.T).reshape(-1, 1, 1, 1), filas)

    # -- muestreo ----------------------------------------------------------------------------------------------
    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r} debe ser un número finito")
        dispositivo = next(self.network.parameters()).device
        condiciones = Condiciones(self._one_hot(conditions, dispositivo), self.dmconfig.condition_mask_value)
        n = len(condiciones.filas)
        azar = Azar(generator, dispositivo)
        entrenaba = self.network.training
        self.network.eval()
        try:
            x = azar.normal((n, *self._forma))
            for paso in range(self.dmconfig.T, 0, -1):
                t = torch.full((n,), paso, device=dispositivo)
                media, sigma = self._reverso(x, t, condiciones, float(omega))
                x = media if paso == 1 else media + sigma * azar.normal(x.shape)
        finally:
            self.network.train(entrenaba)
        return torch.clamp(x * STD + MEAN, 0.0, 1.0)

    def _reverso(self, x, t, condiciones, omega):
        """Media y desviación de p(x_{t-1} | x_t)."""
        v = self.scheduler(t)
        con = self._predecir(x, t, condiciones.filas)
        sin = self._predecir(x, t, condiciones.nulas)
        eps = (1 + omega) * con - omega * sin
        media = v["oneover_sqrt_alpha"] * (x - v["beta_t"] / v["sqrt_oneminus_alpha_bar"] * eps)
        return media, v["sqrt_beta_t"]

    # -- auxiliares --------------------------------------------------------------------------------------------
    @property
    def _forma(self):
        return (self.dmconfig.num_channels, *self.dmconfig.input_dim)

    def _one_hot(self, condiciones, dispositivo):
        """Etiquetas (B,) o filas (B, K) -> filas (B, K) de reales."""
        K = self.dmconfig.num_classes
        if not torch.is_tensor(condiciones) or condiciones.numel() == 0:
            raise ValueError("las condiciones son un tensor con al menos una etiqueta")
        if condiciones.ndim == 1 and not condiciones.is_floating_point() and condiciones.dtype != torch.bool:
            if condiciones.min() < 0 or condiciones.max() >= K:
                raise ValueError(f"etiquetas de 0 a {K - 1}")
            etiquetas = condiciones.long().to(dispositivo)
            return torch.zeros(len(etiquetas), K, device=dispositivo).scatter_(1, etiquetas.unsqueeze(1), 1.0)
        if condiciones.ndim == 2 and condiciones.size(1) == K:
            filas = condiciones.to(dispositivo, torch.float32)
            if ((filas == 0) | (filas == 1)).all() and (filas.sum(1) == 1).all():
                return filas
        raise ValueError(f"condiciones de forma {tuple(condiciones.shape)}: ni etiquetas ni filas one-hot")
