'''
Conditional diffusion on MNIST, after the well-known single-script minDiffusion / TeaPearce style.
Two things differ there and had to be changed: time is 1..T with beta_1 AT t=1, and the null condition
is a row of condition_mask_value, not zeros.
'''
import torch
import torch.nn as nn
import torch.nn.functional as F

from config import MEAN, STD, is_finite
from lab.halves import shared
from lab.precision import autocast
from lab.samplers import evaluating
from ResUNet import ConditionalUnet


def ddpm_schedules(beta1, beta2, T):
    """
    Returns pre-computed schedules for DDPM sampling, training process.
    Entry 0 is there so that tables can be indexed with t itself (beta = 0, i.e. the clean image).
    """
    assert 0.0 < beta1 <= beta2 < 1.0, "beta1 and beta2 must be in (0, 1)"

    steps = torch.arange(0, T, dtype=torch.float64)
    beta_t = (beta2 - beta1) * steps / max(T - 1, 1) + beta1
    beta_t = torch.cat([beta_t.new_zeros(1), beta_t])
    sqrt_beta_t = torch.sqrt(beta_t)
    alpha_t = 1 - beta_t
    log_alpha_t = torch.log(alpha_t)
    alphabar_t = torch.cumsum(log_alpha_t, dim=0).exp()

    sqrtab = torch.sqrt(alphabar_t)
    oneover_sqrta = 1 / torch.sqrt(alpha_t)

    sqrtmab = torch.sqrt(1 - alphabar_t)
    mab_over_sqrtmab_inv = (1 - alpha_t) / sqrtmab.clamp(min=1e-20)

    tables = {
        "alpha_t": alpha_t,  # \alpha_t
        "beta_t": beta_t,
        "oneover_sqrta": oneover_sqrta,  # 1/\sqrt{\alpha_t}
        "sqrt_beta_t": sqrt_beta_t,  # \sqrt{\beta_t}
        "alphabar_t": alphabar_t,  # \bar{\alpha_t}
        "sqrtab": sqrtab,  # \sqrt{\bar{\alpha_t}}
        "sqrtmab": sqrtmab,  # \sqrt{1-\bar{\alpha_t}}
        "mab_over_sqrtmab": mab_over_sqrtmab_inv,  # (1-\alpha_t)/\sqrt{1-\bar{\alpha_t}}
    }
    return {k: v.float() for k, v in tables.items()}


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super(ConditionalDDPM, self).__init__()
        self.dmconfig = dmconfig
        size = {} if tuple(dmconfig.input_dim) == (28, 28) else {"input_dim": dmconfig.input_dim}
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes, **size)

        # register_buffer allows accessing dictionary produced by ddpm_schedules
        # e.g. can access self.sqrtab later. persistent=False: not in the checkpoints
        for k, v in ddpm_schedules(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T).items():
            self.register_buffer(k, v, persistent=False)

        self.n_T = dmconfig.T
        self.drop_prob = dmconfig.mask_p
        self.loss_mse = nn.MSELoss()

    def scheduler(self, t_s):
        t_s = self._time_steps(t_s)
        def pick(table):
            return table.to(t_s.device)[t_s, None, None, None]
        return {
            "beta_t": pick(self.beta_t),
            "sqrt_beta_t": pick(self.sqrt_beta_t),
            "alpha_t": pick(self.alpha_t),
            "oneover_sqrt_alpha": pick(self.oneover_sqrta),
            "alpha_t_bar": pick(self.alphabar_t),
            "sqrt_alpha_bar": pick(self.sqrtab),
            "sqrt_oneminus_alpha_bar": pick(self.sqrtmab),
        }

    def forward(self, images, conditions, generator=None):
        """
        this method is used in training, so samples t and noise randomly
        """
        x = images
        self._check_images(x)
        c = self._one_hot(conditions, len(x), x.device)
        dev = generator.device if generator is not None else x.device

        _ts = torch.randint(1, self.n_T+1, (x.shape[0],), generator=generator, device=dev).to(x.device)  # t ~ Uniform(1..n_T)
        noise = torch.randn(x.shape, generator=generator, device=dev).to(x.device)  # eps ~ N(0, 1)

        x_t = (
            self.sqrtab[_ts, None, None, None] * x
            + self.sqrtmab[_ts, None, None, None] * noise
        )  # This is the x_t, which is sqrt(alphabar) x_0 + sqrt(1-alphabar) * eps

        # dropout context with some probability: 1 = dropped
        context_mask = torch.bernoulli(torch.full((x.shape[0], 1), self.drop_prob, device=dev), generator=generator).to(x.device)
        c = (1 - context_mask) * c + context_mask * self.dmconfig.condition_mask_value

        # return MSE between added noise, and our predicted noise
        return self.loss_mse(noise, self.network(x_t, (_ts / self.n_T)[:, None, None, None], c))

    @torch.no_grad()
    def sample(self, conditions, omega, generator=None):
        # concat two copies of the batch: first the contexts as asked, second with the context masked;
        # then the mix of the two outputs with the guidance scale
        if not is_finite(omega):
            raise ValueError(f"omega = {omega!r}; allowed is a finite number, as 2.0")
        guide_w = float(omega)
        device = next(self.network.parameters()).device
        dev = generator.device if generator is not None else device
        c_i = self._one_hot(conditions, None, device)
        n_sample = c_i.shape[0]
        size = (self.dmconfig.num_channels, *self.dmconfig.input_dim)

        with evaluating(self.network), shared(self.network), autocast(device, getattr(self.dmconfig, "precision", "auto")):
            x_i = torch.randn(n_sample, *size, generator=generator, device=dev).to(device)  # x_T ~ N(0, 1), sample initial noise

            # double the batch
            c_i = c_i.repeat(2, 1)
            c_i[n_sample:] = self.dmconfig.condition_mask_value  # makes second half of batch context free

            for i in range(self.n_T, 0, -1):
                t_is = torch.tensor([i / self.n_T]).to(device)
                t_is = t_is.repeat(n_sample,1,1,1)

                # double batch
                x_2 = x_i.repeat(2,1,1,1)
                t_is = t_is.repeat(2,1,1,1)

                z = torch.randn(n_sample, *size, generator=generator, device=dev).to(device) if i > 1 else 0

                # split predictions and compute weighting
                eps = self.network(x_2, t_is, c_i).float()
                eps1 = eps[:n_sample]
                eps2 = eps[n_sample:]
                eps = (1+guide_w)*eps1 - guide_w*eps2
                x_i = (
                    self.oneover_sqrta[i] * (x_i - eps * self.mab_over_sqrtmab[i])
                    + self.sqrt_beta_t[i] * z
                )
        return (x_i * STD + MEAN).clamp(0, 1)

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
