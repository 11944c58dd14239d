"""Hilfsfunktionen. Ich rechne lieber in numpy, da sehe ich, was passiert."""

import numpy as np
import torch


def nach_numpy(tensor):
    """Tensor -> eigenes float64-Array auf der CPU."""
    return np.array(tensor.detach().float().cpu().numpy(), dtype=np.float64)


def nach_torch(array, geraet):
    """Array -> float32-Tensor auf dem Geraet."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).to(geraet)


def tabellen(beta_1, beta_T, T):
    """Alle sieben Groessen fuer t = 1 ... T, jede (T,). Zeile 0 ist t = 1."""
    beta = np.linspace(beta_1, beta_T, T)
    alpha = 1 - beta
    alpha_quer = np.cumprod(alpha)
    return {
        "beta_t": beta,
        "sqrt_beta_t": np.sqrt(beta),
        "alpha_t": alpha,
        "oneover_sqrt_alpha": 1 / np.sqrt(alpha),
        "alpha_t_bar": alpha_quer,
        "sqrt_alpha_bar": np.sqrt(alpha_quer),
        "sqrt_oneminus_alpha_bar": np.sqrt(1 - alpha_quer),
    }


def verrauschen(x0, rauschen, wurzel_alpha_quer, wurzel_rest):
    """q(x_t | x_0), alles numpy."""
    return wurzel_alpha_quer * x0 + wurzel_rest * rauschen


def mittelwert(x, eps, tab, i):
    """Mittelwert des Rueckwaertsschritts, i = t - 1."""
    faktor = (1 - tab["alpha_t"][i]) / tab["sqrt_oneminus_alpha_bar"][i]
    return tab["oneover_sqrt_alpha"][i] * (x - faktor * eps)
