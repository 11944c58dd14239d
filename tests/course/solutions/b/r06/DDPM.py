"""Conditional DDPM, in the manner of the minimal scripts on GitHub: schedules as buffers, guidance by doubling the batch."""
import torch
import torch.nn as nn

from config import MEAN, STD
from ResUNet import ConditionalUnet

SCHEDULE_NAMES = ("beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha", "alpha_t_bar", "sqrt_alpha_bar", "sqrt_oneminus_alpha_bar")


def ddpm_schedules(beta1, beta2, T):
    """Pre-computed schedules for the training and sampling process; entry 0 is t = 0, the clean image."""
    assert 0.0 < beta1 <= beta2 < 1.0, "beta1 and beta2 must be in (0, 1)"
    step = (beta2 - beta1) / (T - 1) if T > 1 else 0.0
    beta_t = beta1 + step * (torch.arange(0, T + 1, dtype=torch.float64) - 1)
    beta_t[0] = 0.0
    sqrt_beta_t = torch.sqrt(beta_t)
    alpha_t = 1 - beta_t
    log_alpha_t = torch.log(alpha_t)
    alphabar_t = torch.cumsum(log_alpha_t, dim=0).exp()
    return {
        "beta_t": beta_t,
        "sqrt_beta_t": sqrt_beta_t,
        "alpha_t": alpha_t,
        "oneover_sqrt_alpha": 1 / torch.sqrt(alpha_t),
        "alpha_t_bar": alphabar_t,
        "sqrt_alpha_bar": torch.sqrt(alphabar_t),
        "sqrt_oneminus_alpha_bar": torch.sqrt(1 - alphabar_t),
    }


class ConditionalDDPM(nn.Module):
    def __init__(self, dmconfig):
        super(ConditionalDDPM, self).__init__()
        self.dmconfig = dmconfig
        self.network = ConditionalUnet(dmconfig.num_channels, dmconfig.num_feat, dmconfig.num_classes)
        for k, v in ddpm_schedules(dmconfig.beta_1, dmconfig.beta_T, dmconfig.T).items():
            self.register_buffer("tab_" + k, v.float(), persistent=False)
        self.n_T = dmconfig.T
        self.drop_prob = dmconfig.mask_p
        self.loss_fn = nn.MSELoss()

    def scheduler(self, t_s):
        t_s = torch.as_tensor(t_s, device=self.tab_beta_t.device).view(-1)
        return {k: getattr(self, "tab_" + k)[t_s, None, None, None] for k in SCHEDULE_NAMES}

    def to_context(self, conditions):
        if conditions.dim() == 1:
            conditions = nn.functional.one_hot(conditions, num_classes=self.dmconfig.num_classes)
        return conditions.type(torch.float)

    def forward(self, x, c, generator=None):
        """Training step: sample t and noise, return the MSE between true and predicted noise."""
        c = self.to_context(c).to(x.device)
        rd = generator.device if generator is not None else x.device
        _ts = torch.randint(1, self.n_T + 1, (x.shape[0],), generator=generator, device=rd).to(x.device)  # t ~ U{1..n_T}
        noise = torch.randn(x.shape, generator=generator, device=rd).to(x.device)  # eps ~ N(0, 1)

        x_t = self.tab_sqrt_alpha_bar[_ts, None, None, None] * x + self.tab_sqrt_oneminus_alpha_bar[_ts, None, None, None] * noise

        # dropout context with some probability
        context_mask = torch.bernoulli(torch.zeros(c.shape[0], device=rd) + self.drop_prob, generator=generator).to(x.device)
        context_mask = context_mask[:, None].repeat(1, c.shape[1])
        c = c * (1 - context_mask) + self.dmconfig.condition_mask_value * context_mask

        return self.loss_fn(noise, self.network(x_t, _ts / self.n_T, c))

    def sample(self, conditions, omega=0.0, generator=None):
        device = next(self.network.parameters()).device
        c_i = self.to_context(conditions).to(device)
        n_sample = c_i.shape[0]
        rd = generator.device if generator is not None else device
        was_training = self.network.training
        self.network.eval()

        # double the batch: second half is context free
        c_i = c_i.repeat(2, 1)
        c_i[n_sample:] = self.dmconfig.condition_mask_value

        with torch.no_grad():
            x_i = torch.randn(n_sample, self.network.in_channels, *self.dmconfig.input_dim, generator=generator, device=rd).to(device)
            for i in range(self.n_T, 0, -1):
                t_is = torch.tensor([i / self.n_T], device=device).repeat(2 * n_sample, 1, 1, 1)
                z = torch.randn(x_i.shape, generator=generator, device=rd).to(device) if i > 1 else 0

                eps = self.network(x_i.repeat(2, 1, 1, 1), t_is, c_i)
                eps1 = eps[:n_sample]
                eps2 = eps[n_sample:]
                eps = (1 + omega) * eps1 - omega * eps2
                x_i = (
                    self.tab_oneover_sqrt_alpha[i] * (x_i - eps * self.tab_beta_t[i] / self.tab_sqrt_oneminus_alpha_bar[i])
                    + self.tab_sqrt_beta_t[i] * z
                )
        self.network.train(was_training)
        return (x_i * STD + MEAN).clamp(0, 1)
