"""The plain way, as a yardstick: what earlier editions of the course did, with the same network, betas and batch.

float32, torchvision's DataLoader, embeddings concatenated over the plane, the schedule computed anew for each step, and
two calls of the network for a guided step. Only `python -m lab bench` uses it.
"""

import copy
import types

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from config import MEAN, STD


def network(model):
    """A copy of model.network that takes the embeddings as whole planes."""

    def forward(block, x, t, c):
        planes = [embedding.expand(-1, -1, *x.shape[2:]) for embedding in (t, c)]
        return block.layers(torch.cat([x, *planes], dim=1))

    plain = copy.deepcopy(model.network).float().to(memory_format=torch.contiguous_format)
    for block in (plain.fusion1, plain.fusion2, plain.fusion3, plain.fusion4):
        block.forward = types.MethodType(forward, block)
    return plain


def schedule(config, t):
    """beta and alpha_bar at the time steps t (B,), (B, 1, 1, 1) each."""
    beta = torch.linspace(config.beta_1, config.beta_T, config.T, device=t.device)
    alpha_bar = torch.cumprod(1 - beta, dim=0)
    return beta[t - 1].view(-1, 1, 1, 1), alpha_bar[t - 1].view(-1, 1, 1, 1)


def loader(dataset, batch_size):
    return DataLoader(dataset, batch_size, shuffle=True)


def step(net, config, optimizer, images, labels):
    """One step of training: algorithm 1, Ho & Salimans 2022. Returns the loss."""
    c = F.one_hot(labels, config.num_classes).float()
    c[torch.rand(len(c), device=c.device) < config.mask_p] = config.condition_mask_value
    t = torch.randint(1, config.T + 1, (len(images),), device=images.device)
    noise = torch.randn_like(images)
    _, alpha_bar = schedule(config, t)
    x_t = alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise
    loss = F.mse_loss(net(x_t, t.view(-1, 1, 1, 1) / config.T, c), noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def sample(net, config, labels, omega, steps=None):
    """Algorithm 2, Ho & Salimans 2022: images (B, C, H, W) in [0, 1]. steps: stop after this many of the T, to time them."""
    net.eval()
    c = F.one_hot(labels, config.num_classes).float()
    null = torch.full_like(c, config.condition_mask_value)
    x = torch.randn(len(c), config.num_channels, *config.input_dim, device=c.device)
    for t in range(config.T, config.T - (steps or config.T), -1):
        beta, alpha_bar = schedule(config, torch.tensor([t], device=c.device))
        time = torch.full((len(c), 1, 1, 1), t / config.T, device=c.device)
        eps = (1 + omega) * net(x, time, c) - omega * net(x, time, null)
        x = (x - beta / (1 - alpha_bar).sqrt() * eps) / (1 - beta).sqrt()
        if t > 1:
            x = x + beta.sqrt() * torch.randn_like(x)
    return (x * STD + MEAN).clamp(0, 1)
