from collections import namedtuple

import torch
from torch import nn
import torch.nn.functional as F

from config import MEAN, STD, is_finite
from lab.capture import captured
from lab.halves import shared, twice
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet

# constants

ModelPrediction = namedtuple('ModelPrediction', ['pred_noise', 'pred_x_start'])

# helpers functions

def exists(x):
    return x is not None

def default(val, d):
    if exists(val):
        return val
    return d() if callable(d) else d

def extract(a, t, x_shape):
    b, *_ = t.shape
    out = a.gather(-1, t - 1)
    return out.reshape(b, *((1,) * (len(x_shape) - 1)))

def prob_mask_like(shape, prob, device, generator = None):
    if prob == 1:
        return torch.ones(shape, device = device, dtype = torch.bool)
    elif prob == 0:
        return torch.zeros(shape, device = device, dtype = torch.bool)
    else:
        return torch.zeros(shape, device = device).uniform_(0, 1, generator = generator) < prob

def linear_beta_schedule(timesteps, beta_start, beta_end):
    return torch.linspace(beta_start, beta_end, timesteps, dtype = torch.float64)

# diffusion

class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)

        betas = linear_beta_schedule(dmconfig.T, dmconfig.beta_1, dmconfig.beta_T)
        alphas = 1. - betas
        alphas_cumprod = torch.cumprod(alphas, dim = 0)
        alphas_cumprod_prev = F.pad(alphas_cumprod[:-1], (1, 0), value = 1.)

        timesteps, = betas.shape
        self.num_timesteps = int(timesteps)

        # helper function to register buffer from float64 to float32

        register_buffer = lambda name, val: self.register_buffer(name, val.to(torch.float32), persistent = False)

        register_buffer('betas', betas)
        register_buffer('alphas', alphas)
        register_buffer('alphas_cumprod', alphas_cumprod)

        # calculations for diffusion q(x_t | x_{t-1}) and others

        register_buffer('sqrt_betas', torch.sqrt(betas))
        register_buffer('sqrt_alphas_cumprod', torch.sqrt(alphas_cumprod))
        register_buffer('sqrt_one_minus_alphas_cumprod', torch.sqrt(1. - alphas_cumprod))
        register_buffer('sqrt_recip_alphas', torch.rsqrt(alphas))
        register_buffer('sqrt_recip_alphas_cumprod', torch.sqrt(1. / alphas_cumprod))
        register_buffer('sqrt_recipm1_alphas_cumprod', torch.sqrt(1. / alphas_cumprod - 1))

        # calculations for posterior q(x_{t-1} | x_t, x_0); the course takes beta itself as its variance

        posterior_variance = betas
        register_buffer('posterior_log_variance', torch.log(posterior_variance))
        register_buffer('posterior_mean_coef1', betas * torch.sqrt(alphas_cumprod_prev) / (1. - alphas_cumprod))
        register_buffer('posterior_mean_coef2', (1. - alphas_cumprod_prev) * torch.sqrt(alphas) / (1. - alphas_cumprod))

    @property
    def device(self):
        return next(self.network.parameters()).device

    def scheduler(self, t_s):
        t = self._time_steps(t_s)
        names = {
            "beta_t": self.betas,
            "sqrt_beta_t": self.sqrt_betas,
            "alpha_t": self.alphas,
            "oneover_sqrt_alpha": self.sqrt_recip_alphas,
            "alpha_t_bar": self.alphas_cumprod,
            "sqrt_alpha_bar": self.sqrt_alphas_cumprod,
            "sqrt_oneminus_alpha_bar": self.sqrt_one_minus_alphas_cumprod,
        }
        return {name: extract(a.to(t.device), t, (len(t), 1, 1, 1)) for name, a in names.items()}

    def predict_start_from_noise(self, x_t, t, noise):
        return (
            extract(self.sqrt_recip_alphas_cumprod, t, x_t.shape) * x_t -
            extract(self.sqrt_recipm1_alphas_cumprod, t, x_t.shape) * noise
        )

    def q_posterior(self, x_start, x_t, t):
        posterior_mean = (
            extract(self.posterior_mean_coef1, t, x_t.shape) * x_start +
            extract(self.posterior_mean_coef2, t, x_t.shape) * x_t
        )
        return posterior_mean, extract(self.posterior_log_variance, t, x_t.shape)

    def forward_with_cond_scale(self, x, t, classes, null_classes, omega):
        times = (t / self.num_timesteps).view(-1, 1, 1, 1)
        logits = self.network(x, times, classes).float()

        if omega == 0:
            return logits

        null_logits = self.network(x, times, null_classes).float()
        return null_logits + (logits - null_logits) * (1 + omega)

    def model_predictions(self, x, t, classes, null_classes, omega):
        pred_noise = self.forward_with_cond_scale(x, t, classes, null_classes, omega)
        x_start = self.predict_start_from_noise(x, t, pred_noise)
        return ModelPrediction(pred_noise, x_start)

    def p_mean_variance(self, x, t, **kwargs):
        preds = self.model_predictions(x, t, **kwargs)
        # no clip_denoised here: algorithm 2 has none
        return self.q_posterior(x_start = preds.pred_x_start, x_t = x, t = t)

    def p_sample(self, x, t: int, noise_fn, **kwargs):
        batched_times = torch.full((x.shape[0],), t, device = x.device, dtype = torch.long)
        model_mean, model_log_variance = self.p_mean_variance(x, batched_times, **kwargs)
        noise = noise_fn() if t > 1 else 0. # no noise if t == 1
        return model_mean + (0.5 * model_log_variance).exp() * noise

    @torch.no_grad()
    def sample(self, conditions, omega, generator = None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        device = self.device
        classes = self._one_hot(conditions, None, device)
        shape = (classes.shape[0], self.dmconfig.num_channels, *self.dmconfig.input_dim)
        noise_device = generator.device if exists(generator) else device
        noise_fn = lambda: torch.randn(shape, generator = generator, device = noise_device).to(device)
        null_classes = torch.full_like(classes, self.dmconfig.condition_mask_value)

        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            img = noise_fn()

            for t in reversed(range(1, self.num_timesteps + 1)):
                img = self.p_sample(img, t, noise_fn, classes = classes, null_classes = null_classes, omega = float(omega))

        return (img * STD + MEAN).clamp(0, 1)

    def q_sample(self, x_start, t, noise):
        return (
            extract(self.sqrt_alphas_cumprod, t, x_start.shape) * x_start +
            extract(self.sqrt_one_minus_alphas_cumprod, t, x_start.shape) * noise
        )

    def p_losses(self, x_start, t, *, classes, noise):
        x = self.q_sample(x_start = x_start, t = t, noise = noise)
        model_out = self.network(x, (t / self.num_timesteps).view(-1, 1, 1, 1), classes)
        loss = F.mse_loss(model_out, noise, reduction = 'none')
        return loss.flatten(1).mean(dim = 1).mean()

    def forward(self, images, conditions, generator = None):
        self._check_images(images)
        b, device = images.shape[0], images.device
        classes = self._one_hot(conditions, b, device)
        draw_device = default(generator, images).device

        t = torch.randint(1, self.num_timesteps + 1, (b,), generator = generator, device = draw_device).long().to(device)
        noise = torch.randn(images.shape, generator = generator, device = draw_device).to(device)

        drop_mask = prob_mask_like((b,), self.dmconfig.mask_p, draw_device, generator).to(device)
        classes = classes.masked_fill(drop_mask[:, None], self.dmconfig.condition_mask_value)
        return self.p_losses(images, t, classes = classes, noise = noise)

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
