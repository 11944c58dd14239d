"""Models as lab.editing wants them: the course's digits, and any pixel-space UNet2DModel of diffusers."""

import torch
import torch.nn.functional as F

from lab.halves import shared
from lab.precision import autocast
from lab.reverse import Model
from lab.samplers import BLACK, WHITE, evaluating


class Digits(Model):
    """The course's digits: a model with network, scheduler and dmconfig. A condition is a class or several: 7, [1, 7] or a tensor (B,)."""

    def __init__(self, model):
        self.model, config = model, model.dmconfig
        self.T, self.shape, self.range = config.T, (config.num_channels, *config.input_dim), (BLACK, WHITE)
        self.device = next(model.network.parameters()).device
        beta = model.scheduler(torch.arange(1, self.T + 1, device=self.device))["beta_t"].reshape(-1)
        self.alphas_cumprod = (1 - beta.cpu().double()).cumprod(0)  # in float64, as 1 - alpha_bar cancels digits near t = 1
        self.null_condition = torch.full((config.num_classes,), float(config.condition_mask_value), device=self.device)

    def embed(self, condition):
        """One-hot rows (B, num_classes)."""
        K = len(self.null_condition)
        try:
            labels = torch.as_tensor(condition)
        except (TypeError, ValueError, RuntimeError):  # a text, a list with None in it
            labels = torch.tensor(torch.nan)
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if not whole or labels.ndim > 1 or labels.numel() == 0 or labels.min() < 0 or labels.max() >= K:
            raise ValueError(f"condition = {condition!r}; allowed are whole numbers from 0 to {K - 1}, one or several")
        return F.one_hot(labels.reshape(-1).long(), K).to(self.device, torch.float32)

    @torch.no_grad()
    def predict(self, x_t, t, condition, s=None):
        """The noise in x_t (B, C, H, W); the variance is not learned: None."""
        network, config = self.model.network, self.model.dmconfig
        time = torch.full((len(x_t), 1, 1, 1), t / self.T, device=x_t.device)
        with evaluating(network), shared(network), autocast(self.device, getattr(config, "precision", "auto")):
            return network(x_t, time, condition).float(), None


class Pixels(Model):
    """A diffusers pipeline of `unet` and `scheduler` that works on pixels in [-1, 1], as DDPMPipeline; without conditions.

    Where the unet gives twice its channels, the second half is a learned variance. beside: the channels that it is shown beside x_t.
    """

    def __init__(self, pipeline, beside=0):
        self.unet, of_unet, config = pipeline.unet.eval(), pipeline.unet.config, pipeline.scheduler.config
        prediction, variance = config.get("prediction_type"), config.get("variance_type")
        if prediction != "epsilon" or not hasattr(pipeline.scheduler, "betas"):
            raise ValueError(f"the scheduler's prediction_type is {prediction!r}; allowed is 'epsilon', by a scheduler with betas")
        channels, size = of_unet.in_channels - beside, of_unet.sample_size
        if of_unet.out_channels != channels * (2 if variance == "learned_range" else 1):
            got = f"the unet takes {of_unet.in_channels} channels, {beside} of them beside x_t, and gives {of_unet.out_channels}"
            allowed = f"allowed is {channels}, or {2 * channels} with 'learned_range'"
            raise ValueError(f"{got} with variance_type {variance!r}; {allowed}")
        self.T, self.range, self.device = config.num_train_timesteps, (-1.0, 1.0), self.unet.device
        self.shape = (channels, *(size if isinstance(size, (tuple, list)) else (size, size)))
        self.alphas_cumprod = (1 - pipeline.scheduler.betas.cpu().double()).cumprod(0)
        self.null_condition = torch.empty(0, device=self.device)
        self.threshold = (config.dynamic_thresholding_ratio, config.sample_max_value) if config.get("thresholding") else None

    def limit(self, x_0):
        """Within the range, by the scheduler's way: dynamic thresholding, Saharia et al. 2022, arXiv:2205.11487, or clamped."""
        if self.threshold is None:
            return super().limit(x_0)
        part, most = self.threshold
        largest = x_0.abs().flatten(1).quantile(part, dim=1).clamp(1, most).view(-1, 1, 1, 1)
        return x_0.clamp(-largest, largest) / largest

    def embed(self, condition):
        raise ValueError(f"condition = {condition!r}; this model has none: allowed is None")

    @torch.no_grad()
    def predict(self, x_t, t, condition, s=None):
        """The noise in x_t (B, C, H, W) and the log-variance of the step from t to s, or None."""
        output = self.unet(x_t.to(self.unet.dtype), t - 1).sample.float()  # diffusers' time begins at 0
        return self._parted(output, t, t - 1 if s is None else s)

    def _parted(self, output, t, s):
        """Noise and log-variance; eq. (15), Nichol & Dhariwal 2021, arXiv:2102.09672, with the beta of the whole stride from t to s."""
        channels = self.shape[0]
        if output.shape[1] == channels:
            return output, None
        eps, between = output.split(channels, dim=1)  # between -1, the posterior's variance, and 1, beta
        at_t, at_s = self.alphas_cumprod[t - 1], self.alphas_cumprod[s - 1] if s else torch.tensor(1.0)
        beta = 1 - at_t / at_s
        posterior = (beta * (1 - at_s) / (1 - at_t)).clamp(min=1e-20)  # 0 at the last step, which adds no noise
        part = (between + 1) / 2
        return eps, part * beta.log().item() + (1 - part) * posterior.log().item()
