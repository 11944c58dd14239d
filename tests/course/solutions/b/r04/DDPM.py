# -*- coding: utf-8 -*-
"""条件扩散模型 (DDPM + classifier-free guidance)"""
import torch
import torch.nn as nn
from torch.nn.functional import mse_loss, one_hot
from tqdm.auto import tqdm

from config import MEAN, STD
from ResUNet import ConditionalUnet


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = mse_loss
        net = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)
        # 编译网络，GPU 上快一些；inductor 在我的电脑上没有编译器，所以用 eager
        self.network = torch.compile(net, backend="inductor" if torch.cuda.is_available() else "eager")

    def scheduler(self, t_s):
        cfg = self.dmconfig
        t_s = torch.as_tensor(t_s)
        dev = t_s.device
        index = t_s.reshape(-1).long() - 1                      # 时间从 1 开始，下标从 0 开始
        beta = torch.linspace(cfg.beta_1, cfg.beta_T, cfg.T, device=dev)
        log_alpha = torch.log1p(-beta)                          # 用对数求和代替连乘，更稳定
        log_bar = log_alpha.cumsum(0)
        beta_t = torch.index_select(beta, 0, index)[:, None, None, None]
        la = torch.index_select(log_alpha, 0, index)[:, None, None, None]
        lb = torch.index_select(log_bar, 0, index)[:, None, None, None]
        out = {}
        out["beta_t"] = beta_t
        out["sqrt_beta_t"] = beta_t.sqrt()
        out["alpha_t"] = la.exp()
        out["oneover_sqrt_alpha"] = (-0.5 * la).exp()
        out["alpha_t_bar"] = lb.exp()
        out["sqrt_alpha_bar"] = (0.5 * lb).exp()
        out["sqrt_oneminus_alpha_bar"] = (-torch.expm1(lb)).sqrt()
        return out

    def 准备条件(self, conditions, device):
        if conditions.dim() < 2:
            conditions = one_hot(conditions.long(), self.dmconfig.num_classes)
        return conditions.to(device=device, dtype=torch.float32)

    def forward(self, images, conditions, generator=None):
        cfg, dev = self.dmconfig, images.device
        rdev = dev if generator is None else generator.device
        B = images.size(0)
        c = self.准备条件(conditions, dev)

        # 第一步：以概率 mask_p 遮住整行
        keep = (torch.rand((B, 1), device=rdev, generator=generator) >= cfg.mask_p).to(dev)
        c = torch.where(keep, c, torch.tensor(float(cfg.condition_mask_value), device=dev))
        # 第二步：每张图一个时间
        t = torch.randint(1, cfg.T + 1, (B,), device=rdev, generator=generator).to(dev)
        # 第三步：噪声
        epsilon = torch.randn(images.shape, device=rdev, generator=generator).to(dev)
        # 第四步：加噪
        v = self.scheduler(t)
        x_t = v["sqrt_alpha_bar"] * images + v["sqrt_oneminus_alpha_bar"] * epsilon
        # 第五步：预测与损失
        return self.loss_fn(self.network(x_t, t.float() / cfg.T, c), epsilon)

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        was = self.training
        self.eval()
        cfg = self.dmconfig
        dev = next(self.parameters()).device
        rdev = dev if generator is None else generator.device
        c = self.准备条件(conditions, dev)
        null = torch.full(c.shape, float(cfg.condition_mask_value), device=dev)
        B = c.shape[0]
        size = (B, cfg.num_channels, cfg.input_dim[0], cfg.input_dim[1])

        x = torch.randn(size, device=rdev, generator=generator).to(dev)
        for t in tqdm(range(cfg.T, 0, -1), desc="采样", leave=False):
            ts = torch.full((B,), t, dtype=torch.long, device=dev)
            v = self.scheduler(ts)
            pred_c = self.network(x, ts / cfg.T, c)
            pred_u = self.network(x, ts / cfg.T, null)
            pred = torch.lerp(pred_u, pred_c, 1.0 + float(omega))   # u + (1 + w)(c - u)
            if t > 1:
                z = torch.randn(size, device=rdev, generator=generator).to(dev)
            else:
                z = torch.zeros(size, device=dev)
            k = v["beta_t"] / v["sqrt_oneminus_alpha_bar"]
            x = v["oneover_sqrt_alpha"] * (x - k * pred) + v["sqrt_beta_t"] * z
        self.train(was)
        return (x * STD + MEAN).clamp(min=0, max=1)
