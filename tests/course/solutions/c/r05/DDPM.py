"""DDPM with classifier-free guidance.

The network is asked once per step: the conditional and the unconditional half go through it as one batch of 2B.
"""

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from config import MEAN, STD, is_finite
from ResUNet import ConditionalUnet


class ConditionalDDPM(nn.Module):

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)
        # betas[0] is never used, so that betas[t] is the beta of time t
        betas = torch.zeros(dmconfig.T + 1, dtype=torch.float64)
        betas[1:] = torch.linspace(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T, dtype=torch.float64)
        self._betas = betas
        self._alphas = 1 - betas                          # alphas[0] = 1
        self._alpha_bars = torch.cumprod(self._alphas, 0)  # alpha_bars[0] = 1: the clean image

    def scheduler(self, t_s: Tensor) -> dict[str, Tensor]:
        t_s = torch.as_tensor(t_s)
        self._require(not (t_s.is_floating_point() or t_s.is_complex() or t_s.dtype == torch.bool), f"t of type {t_s.dtype}")
        self._require(t_s.numel() > 0 and (t_s.ndim < 2 or t_s.shape[1:] == (1,)), f"t of shape {tuple(t_s.shape)}")
        t_s = t_s.reshape(-1).long()
        self._require(bool((t_s >= 1).all() and (t_s <= self.dmconfig.T).all()), f"t outside 1 ... {self.dmconfig.T}")

        t = t_s.cpu()
        beta, alpha, alpha_bar = self._betas[t], self._alphas[t], self._alpha_bars[t]
        out = {
            "beta_t": beta,
            "sqrt_beta_t": beta.sqrt(),
            "alpha_t": alpha,
            "oneover_sqrt_alpha": alpha.sqrt().reciprocal(),
            "alpha_t_bar": alpha_bar,
            "sqrt_alpha_bar": alpha_bar.sqrt(),
            "sqrt_oneminus_alpha_bar": (1 - alpha_bar).sqrt(),
        }
        return {k: v.to(dtype=torch.float32, device=t_s.device)[:, None, None, None] for k, v in out.items()}

    def forward(self, images: Tensor, conditions: Tensor, generator=None) -> Tensor:
        cfg = self.dmconfig
        self._require(images.ndim == 4 and images.shape[1:] == (cfg.num_channels, *cfg.input_dim), f"images of shape {tuple(images.shape)}")
        self._require(images.is_floating_point(), f"images of type {images.dtype}")
        c = self._rows(conditions, images.device)
        self._require(len(c) == len(images), f"{len(c)} conditions for {len(images)} images")
        where = generator.device if generator is not None else images.device

        drop = torch.rand(len(c), 1, generator=generator, device=where).to(c.device) < cfg.mask_p
        c = c.masked_fill(drop, cfg.condition_mask_value)
        t = torch.randint(1, cfg.T + 1, (len(c),), generator=generator, device=where).to(c.device)
        noise = torch.randn(images.shape, generator=generator, device=where).to(c.device)

        v = self.scheduler(t)
        noisy = v["sqrt_alpha_bar"] * images + v["sqrt_oneminus_alpha_bar"] * noise
        predicted = self.network(noisy, t.view(-1, 1, 1, 1) / cfg.T, c)
        return F.mse_loss(predicted, noise)

    @torch.no_grad()
    def sample(self, conditions: Tensor, omega: float, generator=None) -> Tensor:
        self._require(is_finite(omega), f"omega = {omega!r}")
        cfg = self.dmconfig
        device = next(self.network.parameters()).device
        where = generator.device if generator is not None else device
        c = self._rows(conditions, device)
        B = len(c)
        both = torch.cat([c, torch.full_like(c, cfg.condition_mask_value)])

        def randn():
            return torch.randn(B, cfg.num_channels, *cfg.input_dim, generator=generator, device=where).to(device)

        with self._eval_mode():
            x = randn()
            for t in torch.arange(cfg.T, 0, -1, device=device):
                v = self.scheduler(t)
                time = (t / cfg.T).expand(2 * B, 1, 1, 1)
                eps_c, eps_u = self.network(torch.cat([x, x]), time, both).float().chunk(2)
                eps = eps_u + (1 + omega) * (eps_c - eps_u)
                x = v["oneover_sqrt_alpha"] * (x - v["beta_t"] / v["sqrt_oneminus_alpha_bar"] * eps)
                if t > 1:
                    x += v["sqrt_beta_t"] * randn()
        return x.mul(STD).add(MEAN).clamp(0, 1)

    @contextmanager
    def _eval_mode(self):
        before = self.network.training
        self.network.eval()
        try:
            yield
        finally:
            self.network.train(before)

    def _rows(self, conditions: Tensor, device) -> Tensor:
        K = self.dmconfig.num_classes
        self._require(torch.is_tensor(conditions) and conditions.numel() > 0, "conditions are no tensor, or an empty one")
        if conditions.ndim == 1:
            self._require(conditions.dtype in (torch.long, torch.int, torch.short, torch.uint8, torch.int8), f"labels of type {conditions.dtype}")
            self._require(0 <= conditions.min() and conditions.max() < K, f"labels outside 0 ... {K - 1}")
            conditions = F.one_hot(conditions.long(), K)
        self._require(conditions.ndim == 2 and conditions.shape[1] == K, f"conditions of shape {tuple(conditions.shape)}")
        rows = conditions.to(device, torch.float32)
        self._require(bool((rows.sum(1) == 1).all() and (rows.max(1).values == 1).all() and (rows.min() >= 0)), "rows are not one-hot")
        return rows

    @staticmethod
    def _require(fine: bool, problem: str):
        if not fine:
            raise ValueError(problem)
