import torch
from torch import nn

from config import *
from ResUNet import ConditionalUnet


class ConditionalDDPM(nn.Module):

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss(reduction="mean")
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)

    def scheduler(self, t_s):
        device = t_s.device
        T = self.dmconfig.T
        t_s = t_s.flatten()
        # plain loop, one running product
        beta, alpha, bar = [], [], []
        running = 1.0
        for k in range(T):
            frac = k / (T - 1) if T > 1 else 0.0
            b = (1 - frac) * self.dmconfig.beta_1 + frac * self.dmconfig.beta_T
            running = running * (1 - b)
            beta.append(b)
            alpha.append(1 - b)
            bar.append(running)
        pick = [int(t) - 1 for t in t_s]

        def column(values):
            return torch.tensor([values[p] for p in pick], dtype=torch.float64, device=device).reshape(-1, 1, 1, 1)

        beta_t, alpha_t, alpha_t_bar = column(beta), column(alpha), column(bar)
        variance_dict = {
            "beta_t": beta_t,
            "sqrt_beta_t": beta_t.sqrt(),
            "alpha_t": alpha_t,
            "oneover_sqrt_alpha": 1 / alpha_t.sqrt(),
            "alpha_t_bar": alpha_t_bar,
            "sqrt_alpha_bar": alpha_t_bar.sqrt(),
            "sqrt_oneminus_alpha_bar": (1 - alpha_t_bar).sqrt(),
        }
        return {k: v.to(torch.float32) for k, v in variance_dict.items()}

    def rows(self, conditions):
        if conditions.ndim == 1:
            rows = torch.zeros(conditions.shape[0], self.dmconfig.num_classes, device=conditions.device)
            return rows.scatter_(1, conditions.long().unsqueeze(1), 1.0)
        return conditions.float()

    def forward(self, images, conditions, generator=None):
        if self.training:
            self.network.train()
        else:
            self.network.eval()
        device = images.device
        where = generator.device if generator is not None else device
        batch_size = images.shape[0]

        c = self.rows(conditions.to(device))
        dice = torch.rand(batch_size, generator=generator, device=where).to(device)
        c = c.masked_fill((dice < self.dmconfig.mask_p)[:, None], self.dmconfig.condition_mask_value)

        t = torch.randint(self.dmconfig.T, (batch_size,), generator=generator, device=where).to(device) + 1
        noise = torch.normal(0.0, 1.0, images.shape, generator=generator, device=where).to(device)
        sched = self.scheduler(t)
        x_t = torch.addcmul(sched["sqrt_alpha_bar"] * images, sched["sqrt_oneminus_alpha_bar"], noise)

        noise_pred = self.network(x_t, t.reshape(batch_size, 1, 1, 1) / self.dmconfig.T, c)
        return self.loss_fn(noise_pred, noise)

    @torch.inference_mode()
    def sample(self, conditions, omega, generator=None):
        training = self.network.training
        self.network.eval()
        device = next(self.network.parameters()).device
        where = generator.device if generator is not None else device
        T = self.dmconfig.T
        c = self.rows(conditions.to(device))
        empty = torch.empty_like(c).fill_(self.dmconfig.condition_mask_value)
        H, W = self.dmconfig.input_dim
        X = torch.randn(len(c), self.dmconfig.num_channels, H, W, generator=generator, device=where).to(device)

        for t in range(T, 1, -1):
            X = self.denoise(X, t, c, empty, omega, device)
            sigma = self.scheduler(torch.tensor(t, device=device))["sqrt_beta_t"]
            X = X + sigma * torch.randn(X.shape, generator=generator, device=where).to(device)
        X = self.denoise(X, 1, c, empty, omega, device)  # the last one, without noise

        if training:
            self.network.train()
        return torch.clip(X * STD + MEAN, 0.0, 1.0)

    def denoise(self, X, t, c, empty, omega, device):
        """mean of x_{t-1} given x_t"""
        s = self.scheduler(torch.tensor(t, device=device))
        time = torch.tensor(t / self.dmconfig.T, device=device)  # 0-dim, the same for all
        cond = self.network(X, time, c)
        uncond = self.network(X, time, empty)
        eps = cond + omega * cond - omega * uncond
        return s["oneover_sqrt_alpha"] * (X - s["beta_t"] / s["sqrt_oneminus_alpha_bar"] * eps)
