# numpy for everything that is not the network
import numpy as np
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

        # all tables in double precision, index 0 is t = 1
        self.beta = np.linspace(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T)
        self.alpha = 1 - self.beta
        self.abar = np.multiply.accumulate(self.alpha)
        print(f"[ddpm] T={dmconfig.T}, {np.sqrt(self.abar[-1]):.1%} of the picture is left at the end")

    def _rng(self, generator):
        # numpy's own stream, but started from torch's so that manual_seed() is respected
        device = generator.device if generator is not None else "cpu"
        seed = torch.randint(0, 2**62, (1,), generator=generator, device=device).item()
        return np.random.default_rng(seed)

    def scheduler(self, t_s):
        t_s = torch.as_tensor(t_s)
        i = t_s.detach().cpu().numpy().reshape(-1).astype(np.int64) - 1
        b, a, ab = self.beta[i], self.alpha[i], self.abar[i]
        values = {
            "beta_t": b,
            "sqrt_beta_t": np.sqrt(b),
            "alpha_t": a,
            "oneover_sqrt_alpha": 1 / np.sqrt(a),
            "alpha_t_bar": ab,
            "sqrt_alpha_bar": np.sqrt(ab),
            "sqrt_oneminus_alpha_bar": np.sqrt(1 - ab),
        }
        return {k: torch.from_numpy(v.astype(np.float32)).reshape(-1, 1, 1, 1).to(t_s.device) for k, v in values.items()}

    def _onehot(self, conditions):
        conditions = conditions.detach().cpu().numpy()
        if conditions.ndim == 2:
            return conditions.astype(np.float32)
        return np.eye(self.dmconfig.num_classes, dtype=np.float32)[conditions]

    def forward(self, images, conditions, generator=None):
        cfg, rng, n = self.dmconfig, self._rng(generator), len(images)
        c = self._onehot(conditions)
        hidden = rng.binomial(1, cfg.mask_p, size=n).astype(bool)
        c = np.where(hidden[:, None], np.float32(cfg.condition_mask_value), c)

        t = rng.integers(1, cfg.T, size=n, endpoint=True)
        noise = rng.standard_normal(images.shape, dtype=np.float32)
        ab = self.abar[t - 1].reshape(n, 1, 1, 1)
        x0 = images.detach().cpu().numpy()
        x_t = np.sqrt(ab) * x0 + np.sqrt(1 - ab) * noise

        def up(a):
            return torch.as_tensor(np.asarray(a, dtype=np.float32), device=images.device)

        eps = self.network(up(x_t), up(t / cfg.T), up(c))
        return self.loss_fn(eps, up(noise))

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        cfg, rng = self.dmconfig, self._rng(generator)
        mode = self.network.training
        self.network.eval()
        device = next(self.network.parameters()).device
        c = torch.as_tensor(self._onehot(conditions), device=device)
        null = torch.as_tensor(np.full(c.shape, cfg.condition_mask_value, dtype=np.float32), device=device)
        shape = (len(c), cfg.num_channels, *cfg.input_dim)

        x = rng.standard_normal(shape)
        for t in np.arange(cfg.T, 0, -1):
            xt = torch.as_tensor(x.astype(np.float32), device=device)
            time = float(t) / cfg.T
            e_c = self.network(xt, time, c).cpu().numpy()
            e_u = self.network(xt, time, null).cpu().numpy()
            e = (1 + omega) * e_c - omega * e_u
            b, a, ab = self.beta[t - 1], self.alpha[t - 1], self.abar[t - 1]
            x = (x - b / np.sqrt(1 - ab) * e) / np.sqrt(a)
            if t != 1:
                x = x + np.sqrt(b) * rng.standard_normal(shape)
        self.network.train(mode)
        x = np.clip(x * STD + MEAN, 0, 1)
        return torch.as_tensor(x.astype(np.float32), device=device)
