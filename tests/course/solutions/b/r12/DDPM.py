# Colab, GPU runtime!! (Runtime -> Change runtime type -> T4)
import torch
import torch.nn as nn
import torch.nn.functional as F

from config import MEAN, STD
from ResUNet import ConditionalUnet

device = "cuda"


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes).cuda()

        self.T = dmconfig.T
        self.w_null = dmconfig.condition_mask_value
        self.beta = torch.linspace(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T, device=device)
        self.alpha = 1.0 - self.beta
        self.alpha_bar = torch.cumprod(self.alpha, dim=0)

    def get(self, table, t):
        """table[t], starting at t = 1, with three more axes"""
        return table[t.to(device).view(-1) - 1].view(-1, 1, 1, 1)

    def scheduler(self, t_s):
        beta_t = self.get(self.beta, t_s)
        alpha_t = self.get(self.alpha, t_s)
        alpha_t_bar = self.get(self.alpha_bar, t_s)
        return {
            "beta_t": beta_t,
            "sqrt_beta_t": torch.sqrt(beta_t),
            "alpha_t": alpha_t,
            "oneover_sqrt_alpha": torch.pow(alpha_t, -0.5),
            "alpha_t_bar": alpha_t_bar,
            "sqrt_alpha_bar": torch.sqrt(alpha_t_bar),
            "sqrt_oneminus_alpha_bar": torch.sqrt(1.0 - alpha_t_bar),
        }

    def forward(self, images, conditions):
        x_0 = images.cuda()
        labels = conditions.cuda()
        if labels.ndim == 1:
            labels = F.one_hot(labels, self.dmconfig.num_classes)
        labels = labels.float()
        B = len(x_0)

        # classifier-free guidance: drop the label for some
        drop = torch.rand(B, device=device) < self.dmconfig.mask_p
        labels = labels.masked_fill(drop.unsqueeze(1), self.w_null)

        t = torch.randint(1, self.T + 1, (B,), device=device)
        noise = torch.randn(x_0.shape, device="cuda")
        v = self.scheduler(t)
        x_t = v["sqrt_alpha_bar"] * x_0 + v["sqrt_oneminus_alpha_bar"] * noise

        noise_hat = self.network(x_t, (t / self.T).view(B, 1, 1, 1), labels)
        return self.loss_fn(noise_hat, noise)

    @torch.no_grad()
    def sample(self, conditions, omega):
        self.network.eval()
        labels = conditions.cuda()
        if labels.ndim == 1:
            labels = F.one_hot(labels, self.dmconfig.num_classes)
        labels = labels.float()
        B = len(labels)
        null = torch.full(labels.shape, float(self.w_null), device=device)

        x = torch.randn(B, self.dmconfig.num_channels, 28, 28, device=device)
        for step in range(self.T):
            t = self.T - step  # T, T-1, ..., 1
            v = self.scheduler(torch.full((B,), t).cuda())
            time = torch.full((B, 1, 1, 1), t / self.T).cuda()
            eps = (1 + omega) * self.network(x, time, labels) - omega * self.network(x, time, null)
            x = v["oneover_sqrt_alpha"] * (x - v["beta_t"] / v["sqrt_oneminus_alpha_bar"] * eps)
            if t != 1:
                x = x + v["sqrt_beta_t"] * torch.randn_like(x)
        return torch.clamp(x * STD + MEAN, 0, 1)
