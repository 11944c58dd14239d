"""Any pixel-space UNet2DModel of diffusers as a Process."""

import math

import torch

from lab.diffusion.process import Process, levels


class Pixels(Process):
    """A diffusers pipeline of `unet` and `scheduler` that works on pixels in [-1, 1], as DDPMPipeline; without conditions.

    If the unet outputs twice its channels, the second half is a learned variance. beside: the number of input channels besides x_t.
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
        self.alpha, self.sigma = levels(pipeline.scheduler.betas)
        self.null_condition = torch.empty(0, device=self.device)
        self.threshold = (config.dynamic_thresholding_ratio, config.sample_max_value) if config.get("thresholding") else None

    def limit(self, x_0):
        """x_0 limited as the scheduler does it: dynamic thresholding, Saharia et al. 2022, arXiv:2205.11487, or clamping."""
        if self.threshold is None:
            return super().limit(x_0)
        part, most = self.threshold
        largest = x_0.abs().flatten(1).quantile(part, dim=1).clamp(1, most).view(-1, 1, 1, 1)
        return x_0.clamp(-largest, largest) / largest

    def embed(self, condition):
        raise ValueError(f"condition = {condition!r}; this model has none: allowed is None")

    @torch.no_grad()
    def ask(self, x, t, rows, s):
        """The noise in x_t (B, C, H, W) and the log-variance of the step from t to s, or None."""
        return self._parted(self.unet(x.to(self.unet.dtype), t - 1).sample.float(), t, s)  # diffusers' time begins at 0

    def _parted(self, output, t, s):
        """Noise and log-variance; eq. (15), Nichol & Dhariwal 2021, arXiv:2102.09672, with the beta of the whole stride from t to s."""
        channels = self.shape[0]
        if output.shape[1] == channels:
            return output, None
        eps, between = output.split(channels, dim=1)  # from -1 (the posterior's variance) to 1 (beta)
        _, deviation = self.between(t, s)
        posterior = max((deviation * self.sigma[s] / self.sigma[t]) ** 2, 1e-20)  # 0 at the last step, which adds no noise
        part = (between + 1) / 2
        return eps, part * 2 * math.log(deviation) + (1 - part) * math.log(posterior)
