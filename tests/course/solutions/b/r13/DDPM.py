"""DDPM with guidance. While training, a moving average of the network is kept beside it; sample() draws with it once there is one."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from copy import deepcopy

from config import MEAN, STD
from ResUNet import ConditionalUnet


class EMA:
    """Exponential moving average of a module; batch norm's statistics are copied as they are."""

    def __init__(self, module, decay=0.99):
        self.decay, self.updates = decay, 0
        self.module = deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module):
        self.updates += 1
        for mine, theirs in zip(self.module.parameters(), module.parameters()):
            mine.lerp_(theirs.to(mine.device), 1 - self.decay)
        for mine, theirs in zip(self.module.buffers(), module.buffers()):
            mine.copy_(theirs)


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, n_classes=dmconfig.num_classes)
        self.ema = EMA(self.network)  # no module, so that it is not in the state dict
        if torch.cuda.is_available():
            self.network = self.network.cuda()
            self.ema.module = self.ema.module.cuda()

    @property
    def dev(self):
        return next(self.network.parameters()).device

    def scheduler(self, t_s):
        cfg = self.dmconfig
        betas = torch.linspace(cfg.beta_1, cfg.beta_T, cfg.T, dtype=torch.double)
        bars = (1 - betas).cumprod(0)
        hot = F.one_hot(torch.as_tensor(t_s).cpu().reshape(-1) - 1, cfg.T).double()  # (B, T): picks by a matrix product
        beta, bar = hot @ betas, hot @ bars
        names = "beta_t sqrt_beta_t alpha_t oneover_sqrt_alpha alpha_t_bar sqrt_alpha_bar sqrt_oneminus_alpha_bar".split()
        values = beta, beta.sqrt(), 1 - beta, (1 - beta).rsqrt(), bar, bar.sqrt(), (1 - bar).sqrt()
        to = torch.as_tensor(t_s).device
        return {name: value.float()[:, None, None, None].to(to) for name, value in zip(names, values)}

    def label_rows(self, labels, p=0.0, generator=None):
        """One-hot rows, each of them replaced by the null row with probability p."""
        if labels.dim() == 1:
            labels = F.one_hot(labels.long(), self.dmconfig.num_classes)
        rows = labels.to(self.dev).float()
        lottery = torch.rand(len(rows), 1, generator=generator, device=generator.device if generator else "cpu")
        return rows.where(lottery.to(self.dev) >= p, torch.full_like(rows, self.dmconfig.condition_mask_value))

    def forward(self, images, conditions, generator=None):
        if self.training:
            self.ema.update(self.network)
        on = generator.device if generator else "cpu"
        images = images.to(self.dev)
        rows = self.label_rows(conditions, self.dmconfig.mask_p, generator)
        t = torch.randint(1, self.dmconfig.T + 1, images.shape[:1], generator=generator, device=on).to(self.dev)
        eps = torch.randn(images.shape, generator=generator, device=on).to(self.dev)
        s = self.scheduler(t)
        noisy = s["sqrt_alpha_bar"] * images + s["sqrt_oneminus_alpha_bar"] * eps
        return self.loss_fn(input=self.network(x=noisy, t=t / self.dmconfig.T, c=rows), target=eps)

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        net = self.ema.module if self.ema.updates else self.network
        net = net.to(self.dev)
        state = net.training
        net.eval()
        on = generator.device if generator else "cpu"
        with_label, without = self.label_rows(conditions, p=0.0), self.label_rows(conditions, p=1.0)
        size = [len(with_label), net.in_channels, *self.dmconfig.input_dim]
        x = torch.randn(size, generator=generator, device=on).to(self.dev)
        T = self.dmconfig.T
        for i in range(T):
            t = T - i
            s = self.scheduler(torch.tensor(t, device=self.dev))
            eps = (1 + omega) * net(x, t / T, with_label) - omega * net(x, t / T, without)
            x = x * s["oneover_sqrt_alpha"] - eps * (s["beta_t"] * s["oneover_sqrt_alpha"] / s["sqrt_oneminus_alpha_bar"])
            x = x + (t > 1) * s["sqrt_beta_t"] * torch.randn(size, generator=generator, device=on).to(self.dev)
        net.train(state)
        return x.mul(STD).add(MEAN).clamp(0, 1)
