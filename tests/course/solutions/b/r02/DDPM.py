# Uebung Diffusionsmodelle - Aufgabe 2
import torch
import torch.nn as nn
import torch.nn.functional as F

from config import MEAN, STD
from ResUNet import ConditionalUnet

GERAET = "cuda" if torch.cuda.is_available() else "cpu"


class ConditionalDDPM(nn.Module):

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)

    # ---------------------------------------------------------------- 2.1
    def scheduler(self, t_s):
        anfang, ende, T = self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T
        t = torch.as_tensor(t_s).reshape(-1)
        # beta direkt aus der Geradengleichung, ohne Tabelle
        steigung = (ende - anfang) / max(T - 1, 1)
        beta_t = anfang + (t.double() - 1) * steigung
        # das Produkt: fuer jedes t die ersten t Faktoren, der Rest ist 1
        alle = torch.arange(1, T + 1, device=t.device)
        faktoren = 1 - (anfang + (alle.double() - 1) * steigung)
        maske = alle[None, :] <= t[:, None]
        alpha_t_bar = torch.where(maske, faktoren[None, :], torch.ones_like(faktoren)[None, :]).prod(dim=1)
        alpha_t = 1 - beta_t

        def form(v):
            return v.float().reshape(-1, 1, 1, 1)

        return {
            'beta_t': form(beta_t),
            'sqrt_beta_t': form(beta_t ** 0.5),
            'alpha_t': form(alpha_t),
            'oneover_sqrt_alpha': form(alpha_t ** -0.5),
            'alpha_t_bar': form(alpha_t_bar),
            'sqrt_alpha_bar': form(alpha_t_bar ** 0.5),
            'sqrt_oneminus_alpha_bar': form((1 - alpha_t_bar) ** 0.5),
        }

    def _zeilen(self, conditions, geraet):
        """Nummern der Klassen -> Zeilen mit einer Eins."""
        if conditions.dim() == 1:
            conditions = F.one_hot(conditions.long(), self.dmconfig.num_classes)
        return conditions.float().to(geraet)

    # ---------------------------------------------------------------- 2.2
    def forward(self, images, conditions, generator=None):
        T = self.dmconfig.T
        B = images.shape[0]
        geraet = images.device
        g = dict(generator=generator, device=generator.device if generator is not None else geraet)

        zeilen = self._zeilen(conditions, geraet)
        wuerfel = torch.full((B, 1), self.dmconfig.mask_p, device=g["device"])
        weg = torch.bernoulli(wuerfel, generator=generator).to(geraet)      # 1 = Klasse verstecken
        zeilen = zeilen * (1 - weg) + self.dmconfig.condition_mask_value * weg

        t = torch.randint(low=1, high=T + 1, size=(B,), **g).to(geraet)
        rauschen = torch.randn(images.size(), **g).to(geraet)
        s = self.scheduler(t)
        verrauscht = s['sqrt_alpha_bar'] * images + s['sqrt_oneminus_alpha_bar'] * rauschen

        antwort = self.network.forward(verrauscht, t.float()[:, None, None, None] / T, zeilen)
        return self.loss_fn(antwort, rauschen)

    # ---------------------------------------------------------------- 2.3
    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        war_training = self.network.training
        self.network.eval()
        geraet = next(self.network.parameters()).device
        T = self.dmconfig.T
        zeilen = self._zeilen(conditions, geraet)
        leer = torch.ones_like(zeilen) * self.dmconfig.condition_mask_value
        B = zeilen.shape[0]
        form = (B, self.network.in_channels) + tuple(self.dmconfig.input_dim)
        g = dict(generator=generator, device=generator.device if generator is not None else geraet)

        x = torch.randn(form, **g).to(geraet)
        t = T
        while t >= 1:
            s = self.scheduler(torch.tensor([t], device=geraet))
            zeit = torch.ones(B, 1, 1, 1, device=geraet) * (t / T)
            e_mit = self.network.forward(x, zeit, zeilen)
            e_ohne = self.network.forward(x, zeit, leer)
            e = (1 + omega) * e_mit - omega * e_ohne
            mittel = s['oneover_sqrt_alpha'] * (x - (1 - s['alpha_t']) / s['sqrt_oneminus_alpha_bar'] * e)
            z = torch.randn(form, **g).to(geraet) if t > 1 else 0.0
            x = mittel + s['sqrt_beta_t'] * z
            t -= 1

        self.network.train(war_training)
        return torch.clamp(x * STD + MEAN, 0, 1)
