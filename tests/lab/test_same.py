"""Same seed, same images: every way to draw, beside values that were stored before all ways became one loop.

`python tests/lab/test_same.py` stores them anew, which is right only where a change of the images is meant.
"""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

STORED = Path(__file__).parent / "stored" / "images.safetensors"
LABELS = torch.tensor([7, 0, 3])


class Network(nn.Module):
    """A network of known weights that sees neighbouring pixels, the time and the class."""

    def __init__(self, channels=1):
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)  # of x alone, so that it is remembered
        self.near.weight.data = 0.4 * torch.linspace(-1, 1, 9).sin().view(1, 1, 3, 3).repeat(channels, 1, 1, 1)

    def forward(self, x, t, c):
        near = self.near(x)
        tone = (c * torch.linspace(0.2, 1, c.shape[1])).sum(1).view(-1, 1, 1, 1) / (1 + c.abs().sum(1).view(-1, 1, 1, 1))
        pattern = torch.linspace(-9, 9, x.shape[-1] * x.shape[-2]).sin().view(1, 1, *x.shape[-2:])
        return torch.tanh(0.7 * x + near + 0.5 * tone * pattern) * (0.3 + 0.7 * t)


def course(**settings):
    from stub import build

    from DDPM import ConditionalDDPM

    return build(ConditionalDDPM, Network(), T=40, beta_1=1e-3, beta_T=0.15, **settings).eval()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


X_T = torch.randn(3, 1, 28, 28, generator=seeded(1))
HOW = {
    "ddpm": dict(method="ddpm", steps=8), "ddpm all": dict(method="ddpm", steps=40), "ddim": dict(method="ddim", steps=8),
    "ddim eta": dict(method="ddim", steps=8, eta=0.5), "dpmpp": dict(method="dpmpp", steps=8), "sde": dict(method="sde", steps=8),
    "unipc": dict(method="unipc", steps=8), "clipped": dict(method="ddim", steps=8, clip=True),
    "own range": dict(method="ddpm", steps=8, clip=(-1.0, 2.0)), "interval": dict(method="ddim", steps=8, guidance_interval=(0.3, 3.0)),
    "from a start": dict(method="dpmpp", steps=8, x_T=X_T),
}  # fmt: skip


def drawn():
    """{name: images}, of every way to draw."""
    from lab import samplers

    model, images = course(), {}
    for omega in (2.0, 0.0, -1.0):
        images[f"algorithm 2, omega {omega:g}"] = model.sample(LABELS, omega, generator=seeded())
        for name, how in HOW.items():
            images[f"{name}, omega {omega:g}"] = samplers.sample(model, LABELS, omega, generator=seeded(), **how)
    *_, before, _ = samplers.trajectory(model, LABELS, 2.0, method="dpmpp", steps=8, generator=seeded())
    images |= {"on the way": before.x, "x_0 on the way": before.x_0, **edited(model), **inverted(model), **of_pixels()}
    return images


def edited(model):
    from lab import editing
    from lab.editing.views import IDENTITY, ROTATION

    some = editing.to_model(model, torch.linspace(0, 1, 3 * 784).view(3, 1, 28, 28))
    mask = torch.zeros(28, 28)
    mask[:14] = 1
    final = lambda steps: editing.final(steps)
    return {
        "noised": editing.noised(model, some, 17, seeded()),
        "clean": editing.clean(model, some + 0.5 * X_T, 17, [7, 0, 3], 2.0),
        "denoised": final(editing.denoise(model, some + 0.5 * X_T, 3, 7, steps=8, generator=seeded())),
        "sampled": final(editing.sample(model, [7, 0, 3], omega=2.0, steps=8, generator=seeded())),
        "sampled without a condition": final(editing.sample(model, None, 2, steps=8, clip=False, generator=seeded())),
        "edited": final(editing.edit(model, some, 2, 5, omega=2.0, steps=8, generator=seeded())),
        "inpainted": final(editing.inpaint(model, some, mask, [7, 0, 3], resample=2, steps=8, generator=seeded())),
        "anagram": final(editing.anagram(model, (6, 9), (IDENTITY, ROTATION), 3, omega=6.0, steps=8, generator=seeded())),
        "hybrid": final(editing.hybrid(model, 3, 8, 3, steps=8, generator=seeded())),
    }


def inverted(model):
    import inversion

    trips = inversion.round_trips(model, LABELS, 0.5, 2, steps=8, generator=seeded())
    return {"inverted": inversion.invert(model, X_T, LABELS, 0.5, steps=8), "round trips": trips.image.flatten(0, 1)}


class Unet(nn.Module):
    """What diffusers' UNet2DModel says of itself, with a learned variance."""

    def __init__(self):
        from types import SimpleNamespace

        super().__init__()
        self.net, self.config = Network(3), SimpleNamespace(in_channels=3, out_channels=6, sample_size=28)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def forward(self, x, t):
        from types import SimpleNamespace

        eps = self.net(x, torch.full((len(x), 1, 1, 1), (t + 1) / 40), torch.zeros(len(x), 10))
        return SimpleNamespace(sample=torch.cat([eps, eps.tanh()], dim=1))


def of_pixels():
    """diffusers' pixel models, with a learned variance and a threshold."""
    from types import SimpleNamespace

    from diffusers import DDPMScheduler

    from lab import editing
    from lab.editing.pixel_models import Pixels

    scheduler = DDPMScheduler(40, beta_start=1e-3, beta_end=0.15, variance_type="learned_range", thresholding=True, sample_max_value=1.5)
    model = Pixels(SimpleNamespace(unet=Unet(), scheduler=scheduler))
    return {"pixels": editing.final(editing.sample(model, None, 2, steps=8, generator=seeded()))}


@pytest.fixture(scope="module")
def now():
    return drawn()


def test_every_way_is_stored(now):
    assert now.keys() == load_file(STORED).keys()


@pytest.mark.parametrize("name", sorted(load_file(STORED)) if STORED.exists() else [])
def test_same_seed_same_images(now, name):
    stored = load_file(STORED)[name]
    torch.testing.assert_close(_thinned(now[name]), stored, atol=1e-4 * max(1, stored.abs().max().item()), rtol=0)


def _thinned(images):
    return images[..., 1::5, 2::5].contiguous()  # 36 pixels tell


if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[i]) for i in (0, 2)] + [
        str(Path(__file__).parents[2] / name) for name in ("tests", "explorations")
    ]
    save_file({name: _thinned(images) for name, images in drawn().items()}, STORED)
