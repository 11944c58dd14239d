"""条件扩散模型（MNIST）。时间从 1 数到 T；查表时下标要减一。"""

import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.halves import shared, twice
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)
        # 空条件：一行，值全是 condition_mask_value；作为属性存一份，训练和采样都用它
        self.null_c = torch.full((1, dmconfig.num_classes), float(dmconfig.condition_mask_value))

    # ---------------------------------------------------------------- 方差表
    def _tables(self):
        """beta, alpha, alpha_bar 三张表，长度都是 T（双精度）"""
        cfg = self.dmconfig
        beta = torch.linspace(cfg.beta_1, cfg.beta_T, steps=cfg.T, dtype=torch.double)
        alpha = 1 - beta
        return beta, alpha, alpha.cumprod(0)

    def scheduler(self, t_s):
        t_s = self._time_steps(t_s)
        idx = t_s.cpu().sub(1)
        beta_t, alpha_t, alpha_t_bar = (table.index_select(0, idx) for table in self._tables())
        variance_dict = {"beta_t": beta_t, "alpha_t": alpha_t, "alpha_t_bar": alpha_t_bar}
        # 以下都由上面三个得到
        variance_dict["sqrt_beta_t"] = beta_t.sqrt()
        variance_dict["oneover_sqrt_alpha"] = alpha_t.rsqrt()
        variance_dict["sqrt_alpha_bar"] = alpha_t_bar.sqrt()
        variance_dict["sqrt_oneminus_alpha_bar"] = alpha_t_bar.neg().add(1).sqrt()
        return {name: value.to(t_s.device, torch.float32).view(-1, 1, 1, 1) for name, value in variance_dict.items()}

    # ---------------------------------------------------------------- 训练
    def forward(self, images, conditions, generator=None):
        self._check_images(images)
        device, n = images.device, images.size(0)
        c = self._one_hot(conditions, n, device)
        src = generator.device if generator is not None else device

        # 以概率 mask_p 把整行换成空条件
        keep = torch.rand(n, generator=generator, device=src).ge(self.dmconfig.mask_p).to(device)
        rows = [row if k else self.null_c[0].to(device) for row, k in zip(c, keep)]
        c = torch.stack(rows)

        # 每张图一个时间
        t = torch.randint(1, self.dmconfig.T + 1, size=[n], generator=generator, device=src).to(device)
        eps = torch.empty(images.shape, device=src).normal_(generator=generator).to(device)
        s = self.scheduler(t)
        noisy = s["sqrt_alpha_bar"].mul(images).add(s["sqrt_oneminus_alpha_bar"].mul(eps))
        out = self.network(noisy, t.view(n, 1, 1, 1).float().div(self.dmconfig.T), c)
        return self.loss_fn(out, eps)

    # ---------------------------------------------------------------- 采样
    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        w = float(omega)
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)
        n, T = c.size(0), self.dmconfig.T
        shape = (n, self.dmconfig.num_channels, *self.dmconfig.input_dim)
        src = generator.device if generator is not None else device
        null_c = self.null_c.to(device).expand_as(c)

        # 循环之前先把所有时刻准备好：steps 是 T…1，times 是网络看到的 t / T，table 是每步的系数
        steps = torch.arange(T, 0, -1)
        times = (steps.float() / T).view(T, 1, 1, 1, 1).expand(T, 2 * n, 1, 1, 1).to(device)
        table = self.scheduler(steps.to(device))
        c_all = torch.cat([c, null_c])
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            x = torch.randn(shape, generator=generator, device=src).to(device)
            for k in range(T):
                eps_c, eps_u = self.network(twice(x), times[k], c_all).float().chunk(2)
                eps = eps_c.mul(1 + w).sub(eps_u.mul(w))
                coef = table["beta_t"][k] / table["sqrt_oneminus_alpha_bar"][k]
                x = table["oneover_sqrt_alpha"][k] * (x - coef * eps)
                if k < T - 1:  # 最后一步（t = 1）不加噪声
                    z = torch.randn(shape, generator=generator, device=src).to(device)
                    x = x + table["sqrt_beta_t"][k] * z
        return (x * STD + MEAN).clamp(0, 1)

    def _time_steps(self, t_s):
        """t_s as (B,) whole numbers in 1 … T, or ValueError."""
        t_s = torch.as_tensor(t_s)
        if not _is_whole(t_s):
            raise ValueError(f"time steps are {t_s.dtype}; allowed are whole numbers, as torch.long")
        if t_s.ndim > 2 or (t_s.ndim == 2 and t_s.shape[1] != 1) or t_s.numel() == 0:
            raise ValueError(f"time steps have shape {tuple(t_s.shape)}; allowed is a 0-dim tensor, (B,) or (B, 1)")
        if t_s.min() < 1 or t_s.max() > self.dmconfig.T:
            raise ValueError(f"time steps {int(t_s.min())} to {int(t_s.max())}; allowed is 1 to T = {self.dmconfig.T}")
        return t_s.reshape(-1).long()

    def _check_images(self, images):
        wanted = (self.dmconfig.num_channels, *self.dmconfig.input_dim)
        if not torch.is_tensor(images) or not images.is_floating_point():
            raise ValueError(f"images are {getattr(images, 'dtype', type(images))}; allowed is a tensor of floats")
        if images.ndim != 4 or images.shape[1:] != wanted or len(images) == 0:
            raise ValueError(f"images have shape {tuple(images.shape)}; allowed is (B, {', '.join(map(str, wanted))})")

    def _one_hot(self, conditions, batch, device):
        """conditions as float rows (B, num_classes), or ValueError; batch: the B that the images have, if any."""
        K = self.dmconfig.num_classes
        if not torch.is_tensor(conditions):
            raise ValueError(f"conditions are {type(conditions).__name__}; allowed is a tensor of labels (B,) or rows (B, {K})")
        if conditions.ndim == 1 and _is_whole(conditions):
            if conditions.numel() and (conditions.min() < 0 or conditions.max() >= K):
                raise ValueError(f"labels {int(conditions.min())} to {int(conditions.max())}; allowed is 0 to {K - 1}")
            rows = F.one_hot(conditions.long(), K)
        elif conditions.ndim == 2 and conditions.shape[1] == K:
            rows = conditions
            if not ((rows == 0) | (rows == 1)).all() or not (rows.sum(1) == 1).all():
                raise ValueError("one-hot rows hold one 1 each and 0 elsewhere; these do not")
        else:
            raise ValueError(
                f"conditions are {conditions.dtype} of shape {tuple(conditions.shape)}; "
                f"allowed are whole numbers (B,) from 0 to {K - 1}, or one-hot rows (B, {K})"
            )
        if len(rows) == 0 or batch not in (None, len(rows)):
            raise ValueError(f"{len(rows)} conditions; allowed is one for each of {batch or 'one or more'} images")
        return rows.to(device, torch.float32)


def _is_whole(tensor):
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)
