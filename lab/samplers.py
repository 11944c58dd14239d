"""Fast sampling: images in tens of steps instead of hundreds, from any model with a network and a scheduler."""

import torch

from lab.precision import autocast

MEAN, STD = 0.1307, 0.3081  # a process image is (x - MEAN) / STD


@torch.no_grad()
def ddim(model, labels, omega, steps, generator=None):
    """Deterministic sampling over `steps` of the model's T time steps: eq. (12) with sigma = 0, Song et al. 2021, arXiv:2010.02502.

    labels: (B,). Returns (B, C, H, W) in [0, 1]; the network is used as it is, so put it into eval mode.
    """
    config = model.dmconfig
    device = next(model.network.parameters()).device
    c = torch.nn.functional.one_hot(labels.to(device), config.num_classes).float()  # (B, num_classes)
    both = torch.cat([c, torch.full_like(c, config.condition_mask_value)])
    times = torch.linspace(config.T, 1, steps, device=device).round().long()  # (steps,)
    alpha_bar = model.scheduler(times)["alpha_t_bar"].view(-1)  # (steps,)
    after = torch.cat([alpha_bar[1:], alpha_bar.new_ones(1)])   # the last step lands on x_0
    shape = (len(c), config.num_channels, *config.input_dim)
    x = torch.randn(shape, generator=generator, device=generator.device if generator else device).to(device)
    with autocast(device, getattr(config, "precision", "auto")):
        for i, t in enumerate(times):
            t = (t / config.T).expand(2 * len(c), 1, 1, 1)
            eps_c, eps_u = model.network(torch.cat([x, x]), t, both).float().chunk(2)
            eps = (1 + omega) * eps_c - omega * eps_u
            x_0 = (x - (1 - alpha_bar[i]).sqrt() * eps) / alpha_bar[i].sqrt()
            x = after[i].sqrt() * x_0 + (1 - after[i]).sqrt() * eps
    return (x * STD + MEAN).clamp(0, 1)
