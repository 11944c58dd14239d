"""The diffusion process: the variance schedule, the training loss and the sampler, with classifier-free guidance.

Ho et al. 2020, "Denoising Diffusion Probabilistic Models", arXiv:2006.11239, and
Ho & Salimans 2022, "Classifier-Free Diffusion Guidance", arXiv:2207.12598.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from config import MEAN, STD, is_finite
from lab.capture import captured
from lab.halves import shared, twice
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


class ConditionalDDPM(nn.Module):
    """A denoising diffusion model of images given a class.

    dmconfig: a config.DMConfig. `network(x, t / T, c)` predicts the noise in x_t; a student completes the three methods
    that follow.
    """

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.loss_fn = nn.MSELoss()
        # 28 x 28 goes unsaid, so that a network of earlier editions, which knows no other size, fits here.
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)

    def scheduler(self, t_s):
        """What the equations need at the time steps t_s in {1, …, T}: a 0-dim tensor, (B,) or (B, 1), of whole numbers.

        Returns a dict of seven float32 tensors (B, 1, 1, 1): beta_t, sqrt_beta_t, alpha_t, oneover_sqrt_alpha,
        alpha_t_bar, sqrt_alpha_bar, sqrt_oneminus_alpha_bar. beta is linear from beta_1 at t = 1 to beta_T at t = T,
        alpha = 1 - beta, and alpha_bar the product of alpha up to and including t: sec. 2 and 4, Ho et al. 2020.
        With dmconfig.schedule = "cosine", beyond the course, beta is that of lab.schedules.
        Raises ValueError for another shape or type and for a t outside 1 … T.
        """
        beta_1, beta_T, T = self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T
        t_s = self._time_steps(t_s)  # (B,)
        cosine = self._cosine_betas()  # beyond the course; None where the schedule is linear, as here
        # ============================================================ #
        # YOUR CODE HERE:
        #   The seven quantities at the time steps t_s.
        #   Inputs:  t_s (B,), whole numbers in 1 ... T; beta_1, beta_T, T
        #   Output:  variance_dict, a dict of seven tensors (B,) with the names of the docstring
        #   Note:    a table of T values begins at index 0, time at t = 1
        # ============================================================ #
        betas = np.linspace(beta_1, beta_T, T, dtype=np.float64) if cosine is None else np.asarray(cosine, dtype=np.float64)
        alphas = 1.0 - betas
        alpha_bars = np.cumprod(alphas)
        tables = {
            "beta_t": betas,
            "sqrt_beta_t": np.sqrt(betas),
            "alpha_t": alphas,
            "oneover_sqrt_alpha": 1.0 / np.sqrt(alphas),
            "alpha_t_bar": alpha_bars,
            "sqrt_alpha_bar": np.sqrt(alpha_bars),
            "sqrt_oneminus_alpha_bar": np.sqrt(1.0 - alpha_bars),
        }
        row = t_s.cpu().numpy() - 1  # time starts at 1, arrays at 0
        variance_dict = {name: torch.from_numpy(table[row]) for name, table in tables.items()}
        # ============================================================ #
        return {name: value.to(t_s.device, torch.float32).view(-1, 1, 1, 1) for name, value in variance_dict.items()}

    def forward(self, images, conditions, generator=None):
        """The noise loss of a batch: algorithm 1, Ho & Salimans 2022 (3 in the notebook); eq. (14), Ho et al. 2020.

        images: (B, C, H, W), scaled by (x - 0.1307) / 0.3081. conditions: labels (B,) or one-hot rows (B, num_classes).
        generator: a torch.Generator for everything drawn here. Returns a 0-dim tensor, the mean squared error over all
        pixels. Raises ValueError for other shapes, types and labels.
        """
        T, mask_p, mask_value = self.dmconfig.T, self.dmconfig.mask_p, self.dmconfig.condition_mask_value
        self._check_images(images)
        c = self._one_hot(conditions, len(images), images.device)  # (B, num_classes)
        draw = {"generator": generator, "device": generator.device if generator else images.device}
        # ============================================================ #
        # YOUR CODE HERE:
        #   The noise loss of a batch: the algorithm of training with guidance, section 2.2.
        #   Inputs:  images (B, C, H, W), c (B, num_classes) one-hot, T, mask_p, mask_value
        #            self.network(x_t, t / T as (B, 1, 1, 1), c), self.scheduler, self.loss_fn
        #            **draw for what draws random numbers: torch.rand(..., **draw)
        #   Output:  noise_loss, a 0-dim tensor
        #   Steps:   hide whole rows of c with probability mask_p, one t an image, noise, x_t, the network's answer, its error
        # ============================================================ #
        batch = len(images)

        # 1. classifier-free guidance: drop the whole label of some images
        hide = torch.rand(batch, 1, **draw).to(c.device) < mask_p
        c = torch.where(hide, torch.full_like(c, mask_value), c)

        # 2. a time step per image
        t = torch.randint(1, T + 1, (batch,), **draw).to(images.device)

        # 3. diffuse
        eps = torch.randn(images.shape, **draw).to(images)
        at = self.scheduler(t)
        x_t = at["sqrt_alpha_bar"] * images + at["sqrt_oneminus_alpha_bar"] * eps

        # 4. how wrong is the network?
        noise_loss = self.loss_fn(self.network(x_t, (t / T).view(-1, 1, 1, 1), c), eps)
        # ============================================================ #
        return noise_loss

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        """New images of the classes asked for: algorithm 2, Ho & Salimans 2022 (4 in the notebook), with sigma_t = sqrt(beta_t).

        conditions: labels (B,) or one-hot rows (B, num_classes). generator: a torch.Generator for all noise.
        omega: the guidance weight of eps = (1 + omega) * eps_cond - omega * eps_uncond (eq. (6) there). omega = 0 is
        conditional, -1 unconditional. Others write eps_uncond + s * (eps_cond - eps_uncond): s = 1 + omega.
        Returns (B, C, H, W) in [0, 1]. Raises ValueError for other shapes, types, labels and an omega that is not finite.
        """
        T, mask_value = self.dmconfig.T, self.dmconfig.condition_mask_value
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        omega = float(omega)
        device = next(self.network.parameters()).device
        c = self._one_hot(conditions, None, device)  # (B, num_classes)
        shape = (len(c), self.dmconfig.num_channels, *self.dmconfig.input_dim)
        draw = {"generator": generator, "device": generator.device if generator else device}
        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            # ============================================================ #
            # YOUR CODE HERE:
            #   Images from noise: the algorithm of sampling with guidance, section 2.3.
            #   Inputs:  c (B, num_classes) one-hot, omega, shape = (B, C, H, W), T, mask_value, device
            #            self.network and self.scheduler as above; **draw for what draws random numbers
            #   Output:  x, the image at the end of the last step, (B, C, H, W), still normalised: the line below makes pixels of it
            #   Note:    the step from t = 1 adds no noise
            # ============================================================ #
            # Both halves of the guidance go through the network in one call.
            both = torch.cat([c, torch.full_like(c, mask_value)])
            x = torch.randn(shape, **draw).to(device)
            for t in range(T, 0, -1):
                at = self.scheduler(torch.tensor(t, device=device))
                times = torch.full((len(both), 1, 1, 1), t / T, device=device)
                eps_c, eps_u = self.network(torch.cat([x, x]), times, both).float().chunk(2)
                eps = (1 + omega) * eps_c - omega * eps_u
                x = at["oneover_sqrt_alpha"] * (x - at["beta_t"] / at["sqrt_oneminus_alpha_bar"] * eps)
                if t > 1:
                    x = x + at["sqrt_beta_t"] * torch.randn(shape, **draw).to(device)
            # ============================================================ #
        return (x * STD + MEAN).clamp(0, 1)

    def _cosine_betas(self):
        """The cosine schedule's betas (T,) where the settings ask for it, else None. A handout lacks it: ImportError."""
        if getattr(self.dmconfig, "schedule", "linear") == "cosine":  # a config of an earlier edition has no such field
            from lab import schedules

            return schedules.cosine(self.dmconfig.T)

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
