"""条件扩散模型, 拆成三个小部件: 噪声表 NoiseTable, 无分类器引导 guide, 反向一步 reverse_step。"""

import torch
from torch import nn
from torch.nn.functional import mse_loss, one_hot

from config import MEAN, STD, is_finite
from lab.precision import autocast
from ResUNet import ConditionalUnet


class NoiseTable(nn.Module):
    """噪声表: 七行 T 列, 行是课程里的七个量, 列 t - 1 对应第 t 步。"""

    NAMES = ("beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha", "alpha_t_bar", "sqrt_alpha_bar", "sqrt_oneminus_alpha_bar")

    def __init__(self, beta_1, beta_T, T):
        super().__init__()
        b = torch.linspace(beta_1, beta_T, T).double()
        a = 1 - b
        ab = a.cumprod(0)
        rows = [b, b.sqrt(), a, 1 / a.sqrt(), ab, ab.sqrt(), (1 - ab).sqrt()]
        self.register_buffer("table", torch.stack(rows).float(), persistent=False)  # (7, T)

    def forward(self, t):
        columns = self.table.index_select(1, t - 1)  # 第 t 步在第 t - 1 列
        return dict(zip(self.NAMES, columns.unflatten(1, (-1, 1, 1, 1))))


def guide(eps_c, eps_u, omega):
    """引导: 沿着"有类别"减"无类别"的方向多走 omega 倍"""
    return eps_c + omega * (eps_c - eps_u)


def reverse_step(x, eps, v, z):
    """从 x_t 到 x_{t-1}; z 是标准正态噪声, 最后一步为 0"""
    mean = v["oneover_sqrt_alpha"] * (x - (1 - v["alpha_t"]) / v["sqrt_oneminus_alpha_bar"] * eps)
    return mean + v["sqrt_beta_t"] * z


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.noise_table = NoiseTable(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T)
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)

    def scheduler(self, t_s):
        t_s = torch.as_tensor(t_s)
        if t_s.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
            raise ValueError(f"t 的类型是 {t_s.dtype}, 应为整数")
        if t_s.numel() == 0 or t_s.ndim > 2 or t_s.shape[1:] not in ((), (1,)):
            raise ValueError(f"t 的形状是 {tuple(t_s.shape)}")
        flat = t_s.reshape(-1).long()
        if (flat < 1).any() or (flat > self.dmconfig.T).any():
            raise ValueError(f"t 应在 1 到 {self.dmconfig.T} 之间")
        values = self.noise_table(flat.to(self.noise_table.table.device))
        return {name: value.to(t_s.device) for name, value in values.items()}

    def forward(self, images, conditions, generator=None):
        """训练: 返回噪声的均方误差"""
        cfg = self.dmconfig
        if images.ndim != 4 or images.shape[1:] != (cfg.num_channels, *cfg.input_dim) or not images.is_floating_point():
            raise ValueError(f"图像的形状是 {tuple(images.shape)}")
        device, B = images.device, images.shape[0]
        c = self._rows(conditions, device)
        if c.shape[0] != B:
            raise ValueError(f"{c.shape[0]} 个条件, {B} 张图像")
        draw = dict(generator=generator, device=generator.device if generator is not None else device)

        # 1. 每张图像一个时间步, 均匀分布在 1..T
        t = torch.randint(1, cfg.T + 1, (B,), **draw).to(device)
        # 2. 每个像素独立的标准正态噪声
        noise = torch.randn(B, *images.shape[1:], **draw).to(device)
        # 3. 以概率 mask_p 把整行条件换成空条件
        hidden = (torch.rand(B, **draw) < cfg.mask_p).to(device)
        c[hidden] = float(cfg.condition_mask_value)
        # 4. 加噪, 预测, 比较
        v = self.scheduler(t)
        noisy = v["sqrt_alpha_bar"] * images + v["sqrt_oneminus_alpha_bar"] * noise
        return mse_loss(self.network(noisy, self._time(t), c), noise)

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        """采样: 从纯噪声出发, 反向走 T 步"""
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}")
        cfg, device = self.dmconfig, self.noise_table.table.device
        c = self._rows(conditions, device)
        B = c.shape[0]
        null = c.new_full(c.shape, cfg.condition_mask_value)
        shape = (B, cfg.num_channels, *cfg.input_dim)
        draw = dict(generator=generator, device=generator.device if generator is not None else device)

        mode = self.network.training
        self.network.train(False)
        try:
            x = torch.randn(shape, **draw).to(device)
            for t in range(cfg.T, 0, -1):
                ts = torch.full((B,), t, device=device)
                v = self.scheduler(ts)
                with autocast(device, cfg.precision):
                    # 一次算两半: 前一半有类别, 后一半没有
                    answer = self.network(x.repeat(2, 1, 1, 1), self._time(ts).repeat(2, 1, 1, 1), torch.cat((c, null)))
                eps = guide(answer[:B].float(), answer[B:].float(), omega)
                z = torch.randn(shape, **draw).to(device) * (t > 1)  # 最后一步乘以 0
                x = reverse_step(x, eps, v, z)
        finally:
            self.network.train(mode)
        return x.mul(STD).add(MEAN).clamp(min=0, max=1)

    def _time(self, t):
        return (t / self.dmconfig.T).reshape(-1, 1, 1, 1)

    def _rows(self, conditions, device):
        """标签 (B,) 或 one-hot (B, K) -> 新的浮点张量 (B, K)"""
        K = self.dmconfig.num_classes
        if conditions.numel() == 0:
            raise ValueError("没有条件")
        if conditions.ndim == 1 and not conditions.is_floating_point() and conditions.dtype != torch.bool:
            if conditions.min() < 0 or conditions.max() >= K:
                raise ValueError(f"标签应在 0 到 {K - 1} 之间")
            return one_hot(conditions.long(), K).float().to(device)
        rows = conditions.float()
        if rows.ndim != 2 or rows.shape[1] != K or not torch.equal(rows, one_hot(rows.argmax(1), K).float()):
            raise ValueError("既不是标签, 也不是 one-hot")
        return rows.clone().to(device)
