"""lab.diffusion.guidance_methods: each method against its formula, on a network whose outputs are known."""

import pytest
import torch

from config import DMConfig
from DDPM import ConditionalDDPM
from lab import samplers
from lab.diffusion import guidance_methods as methods
from lab.diffusion.process import process

CONFIG = DMConfig(T=20, num_feat=8, precision="float32")
LABELS, T = torch.tensor([3, 1]), 12


def known(seed=0):
    """A model that sees one image under the condition and another without, whatever it is asked: (it, image c, image u)."""
    images = torch.randn(2, 2, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    model = ConditionalDDPM(CONFIG)
    way = process(model)
    at = lambda t: (way.alpha[round(t.flatten()[0].item() * CONFIG.T)], way.sigma[round(t.flatten()[0].item() * CONFIG.T)])

    def answer(x, t, c):
        (alpha, sigma), hidden = at(t), (c == -1).all(1)
        image = torch.where(hidden.view(-1, 1, 1, 1), images[1].repeat(len(x) // 2, 1, 1, 1), images[0].repeat(len(x) // 2, 1, 1, 1))
        return (x - alpha * image) / sigma

    model.network.forward = answer
    return model, *images


def seen(method, omega, t=T, model=None):
    model = model or known()[0]
    way = process(model)
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(9))
    return x, way, method(way, way.embed(LABELS), omega)(x, t, t - 1)


def close(one, other):
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("omega", [-1.0, -0.4, 0.0, 2.0])
@pytest.mark.parametrize(
    "method",
    [
        methods.plain,
        methods.interval(0, 1e9),
        methods.projected(eta=1.0, momentum=0.0),
        methods.rescaled(0.0),
    ],
    ids=["plain", "everywhere", "projected by nothing", "rescaled by nothing"],
)
def test_without_what_sets_it_apart_each_is_the_plain_one(method, omega):
    _, c, u = known()
    x, way, found = seen(method, omega)
    close(found.x_0, (1 + omega) * c - omega * u)
    close(way.alpha[T] * found.x_0 + way.sigma[T] * found.eps, x)


def test_interval_guides_inside_alone():
    _, c, u = known()
    ratio = lambda t: process(known()[0]).sigma[t] / process(known()[0]).alpha[t]
    method = methods.interval(ratio(5), ratio(12))
    for t, inside in ((5, False), (6, True), (12, True), (13, False)):
        close(seen(method, 2.0, t)[2].x_0, 3 * c - 2 * u if inside else c)


def test_autoguidance_takes_the_weaker_model_under_the_same_condition():
    _, c, _ = known()
    weak, poor, _ = known(seed=1)
    close(seen(methods.autoguidance(weak), 2.0)[2].x_0, 3 * c - 2 * poor)
    close(seen(methods.autoguidance(known()[0]), 2.0)[2].x_0, c)


def test_cfg_pp_keeps_the_noise_of_the_null_condition():
    _, c, u = known()
    x, way, found = seen(methods.cfg_pp, -0.4)
    close(found.x_0, 0.6 * c + 0.4 * u)
    close(found.eps, (x - way.alpha[T] * u) / way.sigma[T])
    model = known()[0]
    for how in (dict(method="dpmpp"), dict(method="ddim", clip=True)):
        with pytest.raises(ValueError, match="cfg_pp"):
            samplers.sample(model, LABELS, 0.5, guidance=methods.cfg_pp, steps=3, **how)


def test_projected_leaves_the_part_along_the_image_out_and_bounds_the_rest():
    _, c, u = known()
    flat = lambda images: images.flatten(1).double()
    found = flat(seen(methods.projected(momentum=0.0), 2.0)[2].x_0 - c)
    difference, unit = flat(c - u), flat(c) / flat(c).norm(dim=1, keepdim=True)
    close((found * unit).sum(1), torch.zeros(2, dtype=torch.double))
    close(found, 2 * (difference - (difference * unit).sum(1, keepdim=True) * unit))
    short = flat(seen(methods.projected(eta=1.0, radius=0.5, momentum=0.0), 2.0)[2].x_0 - c)
    close(short, 2 * 0.5 * difference / difference.norm(dim=1, keepdim=True))


def test_projected_remembers_the_differences_of_its_own_walk():
    model, c, u = known()
    way = process(model)
    predict = methods.projected(eta=1.0, momentum=-0.5)(way, way.embed(LABELS), 1.0)
    x = torch.randn(2, 1, 28, 28)
    close(predict(x, T, T - 1).x_0, c + (c - u))
    close(predict(x, T - 1, T - 2).x_0, c + (c - u) - 0.5 * (c - u))
    fresh = methods.projected(eta=1.0, momentum=-0.5)(way, way.embed(LABELS), 1.0)
    close(fresh(x, T, T - 1).x_0, c + (c - u))


def test_rescaled_has_the_contrast_of_the_conditional_image():
    _, c, u = known()
    found = seen(methods.rescaled(1.0), 3.0)[2].x_0
    close(found.std((1, 2, 3)), c.std((1, 2, 3)))
    half = seen(methods.rescaled(0.5), 3.0)[2].x_0
    close(half, (found + 4 * c - 3 * u) / 2)


@pytest.mark.parametrize(
    "guidance", [methods.interval(0.2, 2, methods.projected()), methods.interval(0, 1, methods.rescaled(0.7)), methods.cfg_pp]
)
def test_sample_takes_them(guidance):
    model = ConditionalDDPM(CONFIG).eval()
    draw = lambda **how: samplers.sample(model, LABELS, 1.5, method="ddim", steps=4, generator=torch.Generator().manual_seed(0), **how)
    images = draw(guidance=guidance)
    assert images.shape == (2, 1, 28, 28) and images.isfinite().all() and not torch.equal(images, draw())
    assert torch.equal(draw(guidance=methods.plain), draw()) and torch.equal(
        draw(guidance=methods.interval(0.2, 2)), draw(guidance_interval=(0.2, 2))
    )
    with pytest.raises(ValueError, match="guidance = 'apg'; allowed is a method of lab.diffusion.guidance_methods"):
        draw(guidance="apg")
