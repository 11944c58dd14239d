# 条件扩散模型: 结构仿照常见的开源实现 (q_sample / p_losses / p_sample), 按课程的公式重写
import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from ResUNet import ConditionalUnet


def exists(v):
    return v is not None


def extract(table, t, ndim=4):
    """从长度为 T 的表中取出每个样本的值; t 从 1 开始, 表从 0 开始"""
    out = table.gather(-1, t - 1)
    return out.reshape(t.shape[0], *((1,) * (ndim - 1)))


def linear_beta_schedule(beta_1, beta_T, T):
    return torch.linspace(beta_1, beta_T, T, dtype=torch.float64)


def randn(shape, generator, device):
    src = generator.device if exists(generator) else device
    return torch.randn(shape, generator=generator, device=src).to(device)


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.num_timesteps = dmconfig.T
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)

        betas = linear_beta_schedule(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T)
        alphas = 1. - betas
        alphas_cumprod = torch.cumprod(alphas, dim=0)

        # 先用 float64 计算, 再存成 float32
        def register(name, val):
            self.register_buffer(name, val.to(torch.float32), persistent=False)

        register('betas', betas)
        register('sqrt_betas', torch.sqrt(betas))
        register('alphas', alphas)
        register('sqrt_recip_alphas', torch.sqrt(1. / alphas))
        register('alphas_cumprod', alphas_cumprod)
        register('sqrt_alphas_cumprod', torch.sqrt(alphas_cumprod))
        register('sqrt_one_minus_alphas_cumprod', torch.sqrt(1. - alphas_cumprod))

    @property
    def device(self):
        return next(self.network.parameters()).device

    def scheduler(self, t_s):
        t_s = torch.as_tensor(t_s)
        if t_s.is_floating_point() or t_s.is_complex() or t_s.dtype == torch.bool:
            raise ValueError('t must be integers')
        if t_s.ndim > 2 or (t_s.ndim == 2 and t_s.shape[-1] != 1) or t_s.numel() == 0:
            raise ValueError(f'bad shape of t: {tuple(t_s.shape)}')
        if t_s.min() < 1 or t_s.max() > self.num_timesteps:
            raise ValueError(f't must be in 1..{self.num_timesteps}')
        where = t_s.device
        t = t_s.reshape(-1).long().to(self.betas.device)
        names = {
            'beta_t': self.betas,
            'sqrt_beta_t': self.sqrt_betas,
            'alpha_t': self.alphas,
            'oneover_sqrt_alpha': self.sqrt_recip_alphas,
            'alpha_t_bar': self.alphas_cumprod,
            'sqrt_alpha_bar': self.sqrt_alphas_cumprod,
            'sqrt_oneminus_alpha_bar': self.sqrt_one_minus_alphas_cumprod,
        }
        return {k: extract(v, t).to(where) for k, v in names.items()}

    # ------------------------------------------------------------------ 前向过程与损失
    def q_sample(self, x_start, t, noise):
        """一步从 x_0 到 x_t"""
        return (
            extract(self.sqrt_alphas_cumprod, t) * x_start +
            extract(self.sqrt_one_minus_alphas_cumprod, t) * noise
        )

    def model_predictions(self, x, t, classes):
        # 网络需要的是 t / T
        time = t.float().div(self.num_timesteps)[:, None, None, None]
        return self.network(x, time, classes)

    def p_losses(self, x_start, t, classes, noise):
        x = self.q_sample(x_start, t, noise)
        return F.mse_loss(self.model_predictions(x, t, classes), noise)

    def forward(self, images, conditions, generator=None):
        b, *chw = images.shape
        if chw != [self.dmconfig.num_channels, *self.dmconfig.input_dim] or not images.is_floating_point():
            raise ValueError(f'bad images: {tuple(images.shape)} {images.dtype}')
        device = images.device
        classes = self.to_onehot(conditions, device)
        if classes.shape[0] != b:
            raise ValueError(f'{classes.shape[0]} conditions for {b} images')

        src = generator.device if exists(generator) else device
        # 以概率 mask_p 丢弃整行条件
        keep_mask = torch.zeros(b, device=src).uniform_(0, 1, generator=generator).to(device) >= self.dmconfig.mask_p
        null_classes = torch.full_like(classes, self.dmconfig.condition_mask_value)
        classes = torch.where(keep_mask.unsqueeze(-1), classes, null_classes)

        t = torch.randint(0, self.num_timesteps, (b,), generator=generator, device=src).to(device).long() + 1
        noise = randn(images.shape, generator, device)
        return self.p_losses(images, t, classes, noise)

    # ------------------------------------------------------------------ 采样
    def forward_with_cond_scale(self, x, t, classes, omega):
        logits = self.model_predictions(x, t, classes).float()
        if omega == 0:
            return logits
        null_logits = self.model_predictions(x, t, torch.full_like(classes, self.dmconfig.condition_mask_value)).float()
        return logits + omega * (logits - null_logits)

    def p_mean_variance(self, x, t, classes, omega):
        eps = self.forward_with_cond_scale(x, t, classes, omega)
        model_mean = extract(self.sqrt_recip_alphas, t) * (
            x - extract(self.betas, t) * eps / extract(self.sqrt_one_minus_alphas_cumprod, t)
        )
        return model_mean, extract(self.sqrt_betas, t)

    def p_sample(self, x, t, classes, omega, generator):
        mean, sigma = self.p_mean_variance(x, t, classes, omega)
        noise = randn(x.shape, generator, x.device)
        # t == 1 时不加噪声
        nonzero_mask = (t != 1).float().reshape(-1, 1, 1, 1)
        return torch.where(nonzero_mask.bool(), mean + sigma * noise, mean)

    def p_sample_loop(self, classes, shape, omega, generator):
        img = randn(shape, generator, self.device)
        for i in reversed(range(1, self.num_timesteps + 1)):
            t = torch.full((shape[0],), i, device=self.device, dtype=torch.long)
            img = self.p_sample(img, t, classes, omega, generator)
        return img

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f'omega = {omega!r}')
        classes = self.to_onehot(conditions, self.device)
        shape = (classes.shape[0], self.dmconfig.num_channels, *self.dmconfig.input_dim)
        was_training = self.network.training
        self.network.eval()
        img = self.p_sample_loop(classes, shape, omega, generator)
        self.network.train(was_training)
        return self.unnormalize(img)

    # ------------------------------------------------------------------ 工具
    @staticmethod
    def unnormalize(img):
        """还原到 [0, 1]"""
        return torch.clamp(img * STD + MEAN, min=0., max=1.)

    def to_onehot(self, y, device):
        n = self.dmconfig.num_classes
        if y.ndim == 1 and not y.is_floating_point() and y.numel() > 0 and y.dtype != torch.bool:
            if y.min() < 0 or y.max() > n - 1:
                raise ValueError(f'labels must be in 0..{n - 1}')
            return torch.eye(n, device=device)[y.long().to(device)]
        if y.ndim == 2 and y.shape[-1] == n and y.numel() > 0:
            y = y.to(device).float()
            if bool(((y == 1).sum(-1) == 1).all()) and bool(((y == 0).sum(-1) == n - 1).all()):
                return y
        raise ValueError(f'conditions {tuple(y.shape)} {y.dtype}: neither labels nor one-hot rows')
