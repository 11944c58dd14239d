"""Modelo de difusión condicional. Entrega 2."""
import copy

import torch
from torch import nn

from config import MEAN, STD
from ResUNet import ConditionalUnet


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)
        # copia promediada de los pesos (media móvil exponencial), por si la quiero comparar al final
        self.ema_network = copy.deepcopy(self.network)
        for p in self.ema_network.parameters():
            p.requires_grad = False
        self.ema_decay = 0.995

        # tablas, con un cero de relleno delante para que tabla[t] sea la del paso t
        betas = torch.linspace(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T)
        betas = torch.cat([torch.zeros(1), betas])
        alphas = 1. - betas
        alphas_bar = torch.cumprod(alphas, 0)
        self.register_buffer("betas", betas, persistent=False)
        self.register_buffer("alphas", alphas, persistent=False)
        self.register_buffer("alphas_bar", alphas_bar, persistent=False)

    @torch.no_grad()
    def actualizar_ema(self):
        """theta_ema <- d * theta_ema + (1 - d) * theta"""
        for lento, rapido in zip(self.ema_network.parameters(), self.network.parameters()):
            lento.data.mul_(self.ema_decay).add_(rapido.data, alpha=1 - self.ema_decay)

    def scheduler(self, t_s):
        idx = torch.as_tensor(t_s).to(self.betas.device).long().flatten()
        dims = (-1, 1, 1, 1)
        b = self.betas[idx].view(dims)
        a = self.alphas[idx].view(dims)
        ab = self.alphas_bar[idx].view(dims)
        return dict(
            beta_t=b,
            sqrt_beta_t=torch.sqrt(b),
            alpha_t=a,
            oneover_sqrt_alpha=1 / torch.sqrt(a),
            alpha_t_bar=ab,
            sqrt_alpha_bar=torch.sqrt(ab),
            sqrt_oneminus_alpha_bar=torch.sqrt(1 - ab),
        )

    def _a_onehot(self, cond):
        if cond.ndim == 2:
            return cond.float()
        eye = torch.eye(self.dmconfig.num_classes, device=cond.device)
        return eye[cond.long()]

    def forward(self, images, conditions, generator=None):
        if self.training:
            self.actualizar_ema()
        T = self.dmconfig.T
        n = len(images)
        disp = images.device
        gen = {"generator": generator, "device": generator.device if generator else disp}

        c = self._a_onehot(conditions).to(disp).clone()
        # ocultar la condición de algunas imágenes
        oculta = (torch.rand(n, **gen) < self.dmconfig.mask_p).to(disp)
        c[oculta] = float(self.dmconfig.condition_mask_value)

        # un instante por imagen, uniforme en 1..T
        t = (torch.rand(n, 1, **gen) * T).floor().long().clamp(max=T - 1).to(disp) + 1
        ruido = torch.empty(images.shape, device=gen["device"]).normal_(generator=generator).to(disp)
        sch = self.scheduler(t)
        xt = images * sch["sqrt_alpha_bar"] + ruido * sch["sqrt_oneminus_alpha_bar"]
        pred = self.network(xt, t / T, c)  # el tiempo va como (B, 1)
        return self.loss_fn(pred, ruido)

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        modo = self.network.training
        self.network.eval()
        disp = next(self.network.parameters()).device
        T = self.dmconfig.T
        c = self._a_onehot(conditions).to(disp)
        nula = torch.zeros_like(c) + self.dmconfig.condition_mask_value
        n = c.size(0)
        gen = {"generator": generator, "device": generator.device if generator else disp}
        tam = (n, self.dmconfig.num_channels, *self.dmconfig.input_dim)
        x = torch.randn(tam, **gen).to(disp)
        for paso in reversed(range(1, T + 1)):
            t = torch.full((n, 1), paso, device=disp)
            sch = self.scheduler(t)
            # las dos preguntas en un solo lote: con clase y sin clase
            doble = self.network(torch.cat([x, x]), torch.cat([t, t]) / T, torch.cat([c, nula]))
            con, sin = doble.split(n)
            eps = con + omega * (con - sin)
            media = (x - sch["beta_t"] * eps / sch["sqrt_oneminus_alpha_bar"]) * sch["oneover_sqrt_alpha"]
            if paso == 1:
                x = media
            else:
                z = torch.randn(tam, **gen).to(disp)
                x = media + sch["sqrt_beta_t"] * z
        self.network.train(modo)
        return (x * STD + MEAN).clamp(0., 1.)
