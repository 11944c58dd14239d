"""lab.editing.pixel_models: what the loops are told of the course's digits and of diffusers' pipelines, and one step beside diffusers' own."""

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, EDMEulerScheduler, UNet2DModel
from torch import nn

from config import DMConfig
from lab import editing
from lab.diffusion.process import ConditionalProcess, levels
from lab.editing.pixel_models import Pixels
from lab.samplers import BLACK, WHITE


class Counting(nn.BatchNorm2d):
    """It counts the images that it is run on."""

    images = 0

    def forward(self, x):
        self.images += len(x)
        return super().forward(x)


class Network(nn.Module):
    """Batch norm, and a noise that depends on x, time and class."""

    def __init__(self):
        super().__init__()
        self.first = Counting(1)
        self.first.running_mean.fill_(0.2)

    def forward(self, x, t, c):
        return self.first(x) * t.view(-1, 1, 1, 1) + c.sum(1).view(-1, 1, 1, 1) + c[:, 7].view(-1, 1, 1, 1)


class Course:
    """What lab asks of the course's model."""

    def __init__(self):
        self.dmconfig, self.network = DMConfig(T=20, input_dim=(8, 8), precision="float32"), Network()

    def scheduler(self, t):
        return {"beta_t": torch.linspace(1e-3, 0.3, 20)[t - 1].view(-1, 1, 1, 1)}


def test_digits_speak_the_protocol():
    course = Course()
    model = ConditionalProcess(course)
    assert (model.T, model.shape, model.range) == (20, (1, 8, 8), (BLACK, WHITE))
    assert (model.alpha, model.sigma) == levels(torch.linspace(1e-3, 0.3, 20))
    assert model.embed(7).equal(torch.eye(10)[[7]]) and model.embed([1, 7]).equal(torch.eye(10)[[1, 7]])
    assert model.null_condition.tolist() == [-1.0] * 10
    x, modes = torch.randn(2, 1, 8, 8), course.network.train()
    eps, log_variance = model.ask(x, 5, model.embed([1, 7]))
    normed = (x - 0.2) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(eps, normed * 0.25 + torch.tensor([1.0, 2.0]).view(-1, 1, 1, 1))
    assert log_variance is None and not eps.requires_grad and modes.first.training


def test_guidance_computes_once_what_both_halves_share():
    course = Course()
    editing.final(editing.sample(ConditionalProcess(course), [1, 7], omega=2.0, steps=2))
    assert course.network.first.images == 2 * 2 + 2  # the first step twice, to compare


@pytest.mark.parametrize("condition", [10, -1, [1, 10], 1.0, True, [], [[1]], "a dog", [1, None], [1, [2, 3]]])
def test_classes_that_digits_lack(condition):
    with pytest.raises(ValueError, match="allowed are whole numbers from 0 to 9"):
        editing.sample(ConditionalProcess(Course()), condition, steps=2)


def pipeline(channels=3, out_channels=None, **scheduler):
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=out_channels or channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        layers_per_block=1,
    )
    return DDPMPipeline(unet, DDPMScheduler(num_train_timesteps=100, beta_start=1e-3, beta_end=0.1, **scheduler))


def test_a_pipeline_steps_as_diffusers_does(tmp_path):
    """From noise to the image, over a stride, with the noise of the pipeline's own call; loaded from a folder as a reader does."""
    pipeline().save_pretrained(tmp_path)
    ours = DDPMPipeline.from_pretrained(tmp_path)
    theirs = ours.scheduler
    theirs.set_timesteps(timesteps=[99, 74, 49, 24])
    draws = torch.Generator().manual_seed(3)
    x = torch.randn(2, 3, 8, 8, generator=draws)
    steps = list(editing.sample(Pixels(ours), count=2, steps=4, generator=torch.Generator().manual_seed(3)))
    assert steps[0].x.equal(x)
    for t, step in zip(theirs.timesteps[:-1], steps[1:]):  # the last adds noise in diffusers, where it ends above time 0
        with torch.no_grad():
            x = theirs.step(ours.unet(x, t).sample, t, x, generator=draws).prev_sample
        torch.testing.assert_close(step.x, x, rtol=1e-4, atol=1e-5)


def test_a_pipeline_without_conditions_refuses_one():
    model = Pixels(pipeline())
    assert model.shape == (3, 8, 8) and model.range == (-1, 1) and model.T == 100
    with pytest.raises(ValueError, match="this model has none"):
        editing.sample(model, "a dog")


@pytest.mark.parametrize("settings, out_channels", [({"prediction_type": "v_prediction"}, 3), ({"variance_type": "fixed_small"}, 6)])
def test_a_pipeline_of_another_kind_is_refused(settings, out_channels):
    with pytest.raises(ValueError, match="allowed is"):
        Pixels(pipeline(out_channels=out_channels, **settings))


def test_any_pipeline_with_betas_will_do():
    """DDIM's scheduler has no variance_type; one of EDM has no betas."""
    ours = pipeline()
    assert Pixels(DDIMPipeline(ours.unet, DDIMScheduler(num_train_timesteps=100))).T == 100
    ours.scheduler = EDMEulerScheduler()
    with pytest.raises(ValueError, match="by a scheduler with betas"):
        Pixels(ours)


def test_dynamic_thresholding_is_diffusers():
    model = Pixels(ours := pipeline(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=1.5))
    x_0 = torch.randn(4, 3, 8, 8) * torch.tensor([0.2, 0.8, 1.0, 3.0]).view(-1, 1, 1, 1)  # never, a little, more, up to the limit
    torch.testing.assert_close(model.limit(x_0), ours.scheduler._threshold_sample(x_0))
    assert not model.limit(x_0).equal(x_0.clamp(-1, 1)) and Pixels(pipeline()).limit(x_0).equal(x_0.clamp(-1, 1))


def test_the_learned_variance_lies_between_the_posteriors_and_beta():
    """As diffusers' learned_range has it, over strides; our time t is its t - 1."""
    ours = pipeline(out_channels=6, variance_type="learned_range")
    model, x = Pixels(ours), torch.randn(2, 3, 8, 8)
    ours.scheduler.set_timesteps(timesteps=[99, 49, 48, 0])
    for t, s in ((100, 50), (50, 49), (49, 1)):
        with torch.no_grad():
            output = ours.unet(x, t - 1).sample
        eps, log_variance = model.ask(x, t, None, s)
        torch.testing.assert_close(eps, output[:, :3])
        torch.testing.assert_close(log_variance, ours.scheduler._get_variance(t - 1, output[:, 3:]), rtol=1e-4, atol=1e-4)
    assert torch.isfinite(model.ask(x, 40, None, 0)[1]).all()
