"""Class-conditional DDPM with a scheduler object, as one knows it from Hugging Face's diffusers: set_timesteps, add_noise, step."""

from dataclasses import dataclass
from typing import Optional, Union

import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.halves import shared
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


@dataclass
class DDPMSchedulerOutput:
    """prev_sample: x_{t-1}. pred_original_sample: the x_0 that the model output implies."""

    prev_sample: torch.Tensor
    pred_original_sample: Optional[torch.Tensor] = None


def randn_tensor(shape, generator=None, device=None, dtype=torch.float32):
    """Noise, drawn where the generator lives, handed over on `device`."""
    rand_device = generator.device if generator is not None else device
    return torch.randn(shape, generator=generator, device=rand_device, dtype=dtype).to(device)


class NoiseScheduler:
    """The linear schedule. Timesteps count from 1 (x_0 is clean), so self.betas[timestep - 1] is beta_t."""

    def __init__(self, num_train_timesteps: int, beta_start: float, beta_end: float):
        self.num_train_timesteps = num_train_timesteps
        self.betas = torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float32)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas.double(), dim=0).float()
        self.one = torch.tensor(1.0)
        self.init_noise_sigma = 1.0
        self.timesteps = torch.arange(num_train_timesteps, 0, -1)

    def set_timesteps(self, num_inference_steps: int, device: Union[str, torch.device] = None):
        if num_inference_steps != self.num_train_timesteps:
            raise ValueError("ancestral sampling takes every step here")
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.arange(num_inference_steps, 0, -1).to(device)

    def scale_model_input(self, sample: torch.Tensor, timestep: Optional[int] = None) -> torch.Tensor:
        return sample

    def _get_variance(self, t):
        # variance_type "fixed_large"
        return self.betas[t - 1]

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        self.alphas_cumprod = self.alphas_cumprod.to(device=original_samples.device)
        alphas_cumprod = self.alphas_cumprod.to(dtype=original_samples.dtype)
        index = timesteps.to(original_samples.device) - 1

        sqrt_alpha_prod = alphas_cumprod[index] ** 0.5
        sqrt_alpha_prod = sqrt_alpha_prod.flatten()
        while len(sqrt_alpha_prod.shape) < len(original_samples.shape):
            sqrt_alpha_prod = sqrt_alpha_prod.unsqueeze(-1)

        sqrt_one_minus_alpha_prod = (1 - alphas_cumprod[index]) ** 0.5
        sqrt_one_minus_alpha_prod = sqrt_one_minus_alpha_prod.flatten()
        while len(sqrt_one_minus_alpha_prod.shape) < len(original_samples.shape):
            sqrt_one_minus_alpha_prod = sqrt_one_minus_alpha_prod.unsqueeze(-1)

        return sqrt_alpha_prod * original_samples + sqrt_one_minus_alpha_prod * noise

    def step(self, model_output, timestep: int, sample, generator=None, return_dict: bool = True):
        t = int(timestep)
        prev_t = t - 1

        # 1. compute alphas, betas
        alpha_prod_t = self.alphas_cumprod[t - 1]
        alpha_prod_t_prev = self.alphas_cumprod[prev_t - 1] if prev_t > 0 else self.one.to(alpha_prod_t.device)
        beta_prod_t = 1 - alpha_prod_t
        current_alpha_t = alpha_prod_t / alpha_prod_t_prev
        current_beta_t = 1 - current_alpha_t

        # 2. predicted original sample, "epsilon"; it is not clipped
        pred_original_sample = (sample - beta_prod_t ** 0.5 * model_output) / alpha_prod_t ** 0.5

        # 3. x_{t-1}: formula (11) of https://arxiv.org/abs/2006.11239
        pred_prev_sample = (sample - current_beta_t / beta_prod_t ** 0.5 * model_output) / current_alpha_t ** 0.5

        # 4. add noise
        variance = 0
        if t > 1:
            variance_noise = randn_tensor(model_output.shape, generator=generator, device=model_output.device)
            variance = (self._get_variance(t) ** 0.5) * variance_noise
        pred_prev_sample = pred_prev_sample + variance

        if not return_dict:
            return (pred_prev_sample,)
        return DDPMSchedulerOutput(prev_sample=pred_prev_sample, pred_original_sample=pred_original_sample)

    def __len__(self):
        return self.num_train_timesteps


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)
        self.noise_scheduler = NoiseScheduler(dmconfig.T, dmconfig.beta_1, dmconfig.beta_T)

    def scheduler(self, t_s):
        t_s = self._time_steps(t_s)
        where = (t_s - 1).cpu()
        beta = self.noise_scheduler.betas.cpu()[where]
        alpha = self.noise_scheduler.alphas.cpu()[where]
        alpha_prod = self.noise_scheduler.alphas_cumprod.cpu()[where]
        variance_dict = {
            "beta_t": beta,
            "sqrt_beta_t": beta ** 0.5,
            "alpha_t": alpha,
            "oneover_sqrt_alpha": 1 / alpha ** 0.5,
            "alpha_t_bar": alpha_prod,
            "sqrt_alpha_bar": alpha_prod ** 0.5,
            "sqrt_oneminus_alpha_bar": (1 - alpha_prod) ** 0.5,
        }
        return {name: value.to(t_s.device, torch.float32).view(-1, 1, 1, 1) for name, value in variance_dict.items()}

    def forward(self, images, conditions, generator=None):
        self._check_images(images)
        clean_images = images
        bs = clean_images.shape[0]
        class_labels = self._one_hot(conditions, bs, clean_images.device)
        rand_device = generator.device if generator is not None else clean_images.device

        # Sample noise to add to the images
        noise = randn_tensor(clean_images.shape, generator=generator, device=clean_images.device)

        # Sample a random timestep for each image
        timesteps = torch.randint(
            1, len(self.noise_scheduler) + 1, (bs,), generator=generator, device=rand_device, dtype=torch.int64
        ).to(clean_images.device)

        # Conditioning dropout to support classifier-free guidance during inference
        random_p = torch.rand(bs, generator=generator, device=rand_device).to(clean_images.device)
        prompt_mask = (random_p < self.dmconfig.mask_p).reshape(bs, 1)
        null_conditioning = torch.ones_like(class_labels) * self.dmconfig.condition_mask_value
        class_labels = torch.where(prompt_mask, null_conditioning, class_labels)

        # Add noise to the clean images according to the noise magnitude at each timestep
        noisy_images = self.noise_scheduler.add_noise(clean_images, noise, timesteps)

        # Predict the noise residual
        noise_pred = self.network(noisy_images, (timesteps / len(self.noise_scheduler)).reshape(bs, 1, 1, 1), class_labels)
        return F.mse_loss(noise_pred.float(), noise.float())

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        guidance_scale = 1.0 + float(omega)  # theirs
        device = next(self.network.parameters()).device
        class_labels = self._one_hot(conditions, None, device)
        batch_size = class_labels.shape[0]
        negative = torch.full_like(class_labels, self.dmconfig.condition_mask_value)
        # For classifier free guidance, two forward passes are one: [negative, positive]
        class_labels = torch.cat([negative, class_labels])

        scheduler = NoiseScheduler(self.dmconfig.T, self.dmconfig.beta_1, self.dmconfig.beta_T)
        scheduler.set_timesteps(self.dmconfig.T)
        image = randn_tensor(
            (batch_size, self.dmconfig.num_channels, *self.dmconfig.input_dim), generator=generator, device=device
        )
        image = image * scheduler.init_noise_sigma
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            for i, t in enumerate(scheduler.timesteps):
                # expand the latents if we are doing classifier free guidance
                latent_model_input = torch.cat([image] * 2)
                latent_model_input = scheduler.scale_model_input(latent_model_input, t)

                # predict the noise residual
                time = (t / self.dmconfig.T).to(device).expand(2 * batch_size).reshape(-1, 1, 1, 1)
                noise_pred = self.network(latent_model_input, time, class_labels).float()

                # perform guidance
                noise_pred_uncond, noise_pred_cond = noise_pred.chunk(2)
                noise_pred = noise_pred_uncond + guidance_scale * (noise_pred_cond - noise_pred_uncond)

                # compute the previous noisy sample x_t -> x_t-1
                image = scheduler.step(noise_pred, t, image, generator=generator).prev_sample

        return (image * STD + MEAN).clamp(0, 1)

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
