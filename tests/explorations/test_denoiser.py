"""explorations/unet, psnr and denoising: what the network is told and where, and the measures it is judged by."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import denoising
import psnr
from config import DMConfig
from lab import display, samplers
from lab.training import checkpoint
from ResUNet import ConditionalUnet
from unet import Denoiser, DenoisingDDPM, DenoisingUnet, noisy

SMALL = {"num_feat": 8, "batch_size": 20, "epochs": 2, "T": 20, "lr_cycle": 0, "precision": "float32"}


def seed(number=0):
    return torch.Generator().manual_seed(number)


class Known(nn.Module):
    """A network whose output is known."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.anchor = answer, nn.Parameter(torch.zeros(()))

    def forward(self, x, t=None, c=None):
        return self.answer(x)


def denoiser(answer, sigma=0.5):
    model = Denoiser(DMConfig(**SMALL), sigma)
    model.network = Known(answer)
    return model


# The network


def test_untold_it_is_the_courses_network_without_its_fusion():
    class Through(nn.Module):
        def forward(self, x, t, c):
            return x

    plain, course = DenoisingUnet(1, 8).eval(), ConditionalUnet(1, 8).eval()
    for k in range(1, 5):
        setattr(course, f"fusion{k}", Through())
    assert not course.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    x = torch.randn(3, 1, 28, 28)
    assert torch.equal(plain(x), course(x, torch.rand(3), torch.eye(10)[:3]))


@pytest.mark.parametrize(("timed", "n_classes"), [(True, 0), (True, 10), (False, 10)])
def test_the_class_scales_and_the_time_shifts_the_bottleneck_and_the_first_up_block(timed, n_classes):
    plain, told = DenoisingUnet(1, 8).eval(), DenoisingUnet(1, 8, timed, n_classes).eval()
    told.load_state_dict(plain.state_dict(), strict=False)
    x, t, c = torch.randn(3, 1, 28, 28), torch.tensor([0.1, 0.5, 1.0]).view(-1, 1, 1, 1), torch.eye(10)[[2, 0, 7]]

    def by_hand(place):
        def changed(module, inputs, output):
            scale = told.scales[place](c)[:, :, None, None] if n_classes else 1
            shift = told.shifts[place](t)[:, :, None, None] if timed else 0
            return scale * output + shift

        return changed

    untold = plain(x)
    plain.upblock0.register_forward_hook(by_hand(0))
    plain.upblock1.register_forward_hook(by_hand(1))
    assert torch.equal(told(x, t, c), plain(x))
    assert not torch.allclose(told(x, t, c), untold, atol=1e-3)


def test_what_the_network_is_not_told_changes_nothing():
    x, t, c = torch.randn(2, 1, 28, 28), torch.tensor([0.3, 0.9]), torch.eye(10)[:2]
    untold, timed = DenoisingUnet(1, 8).eval(), DenoisingUnet(1, 8, timed=True).eval()
    assert torch.equal(untold(x, t, c), untold(x))
    assert torch.equal(timed(x, t, c), timed(x, t))
    assert not torch.equal(timed(x, t), timed(x, t / 2))


def test_other_sizes_and_channels():
    assert DenoisingUnet(3, 8, True, 4, (32, 16))(torch.randn(2, 3, 32, 16), torch.rand(2), torch.eye(4)[:2]).shape == (2, 3, 32, 16)


def test_the_network_refuses():
    for settings in ((1, 12), (1, 0), (0, 8), (1, 8, True, -1), (1, 8, True, 10, (28, 30))):
        with pytest.raises(ValueError, match="allowed"):
            DenoisingUnet(*settings)
    x, t, c = torch.randn(2, 1, 28, 28), torch.rand(2), torch.eye(10)[:2]
    with pytest.raises(ValueError, match="time t"):
        DenoisingUnet(1, 8, timed=True)(x, c=c)
    with pytest.raises(ValueError, match="condition c"):
        DenoisingUnet(1, 8, timed=True, n_classes=10)(x, t)


# One noise level


def test_noisy_adds_sigma_times_the_noise():
    images, noise = torch.rand(2, 1, 28, 28), torch.randn(2, 1, 28, 28, generator=seed(3))
    assert torch.equal(noisy(images, 0.0, seed(3)), images)
    torch.testing.assert_close(noisy(images, 0.4, seed(3)), images + 0.4 * noise, rtol=0, atol=0)


@pytest.mark.parametrize("sigma", [-0.2, math.inf, math.nan])
def test_noisy_refuses(sigma):
    with pytest.raises(ValueError, match="allowed is a finite number of at least 0"):
        noisy(torch.rand(2, 1, 28, 28), sigma)


def test_the_loss_is_the_mean_squared_error_to_the_clean_image():
    images = torch.rand(6, 1, 28, 28)
    black = denoiser(torch.zeros_like)
    torch.testing.assert_close(black(images, None), images.square().mean())
    same = denoiser(lambda x: x, sigma=0.5)
    torch.manual_seed(4)
    loss = same(images, None)
    torch.manual_seed(4)
    torch.testing.assert_close(loss, 0.25 * torch.randn(images.shape).square().mean())


@pytest.mark.parametrize("sigma", [0, -0.5, math.inf, math.nan])
def test_a_denoiser_refuses_a_level_that_is_none(sigma):
    with pytest.raises(ValueError, match="allowed is a finite number above 0"):
        Denoiser(DMConfig(**SMALL), sigma)


# A diffusion model


def test_a_model_that_is_told_no_class_draws_the_same_whatever_is_asked():
    one, other = torch.tensor([0, 1]), torch.tensor([5, 9])
    drawn = {}
    for classes in (False, True):
        model = DenoisingDDPM(DMConfig(**SMALL, condition_mask_value=0), classes).eval()
        drawn[classes] = [samplers.sample(model, labels, 0.0, method="ddim", steps=3, generator=seed()) for labels in (one, other)]
    assert torch.equal(*drawn[False])
    assert not torch.equal(*drawn[True])


def test_a_class_is_dropped_to_zero():
    with pytest.raises(ValueError, match="condition_mask_value = -1; allowed is 0"):
        DenoisingDDPM(DMConfig(**SMALL))
    model = DenoisingDDPM(DMConfig(**SMALL, condition_mask_value=0, mask_p=1.0))
    seen = []
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    model(torch.randn(20, 1, 28, 28), torch.arange(20) % 10)
    assert torch.equal(seen[0], torch.zeros(20, 10))


class Unused(DataLoader):
    """A loader of a run that must not come to train."""

    def __iter__(self):
        raise AssertionError("it trains")


def test_a_finished_training_is_picked_up_with_its_averaged_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset, dmconfig, drawn = TensorDataset(torch.rand(40, 1, 28, 28), torch.zeros(40).long()), DMConfig(**SMALL), []

    def picture(model):
        drawn.append({name: weights.clone() for name, weights in model.state_dict().items()})
        return denoising.denoised_figure(model, dataset.tensors[0][:2], [0.5], "")

    arguments = lambda k: DenoisingDDPM(k, classes=False) if k.condition_mask_value == 0 else Denoiser(k, 0.5), dmconfig, "some"
    model, history = denoising.train(*arguments, DataLoader(dataset, 20), DataLoader(dataset, 20), picture)
    state = checkpoint.load(Path("save/some/last_checkpoint.pth"))
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, drawn[-1][name]) and torch.equal(weights, state["model_state_dict"][name])
    assert any(not torch.equal(weights, state["raw_model_state_dict"][name]) for name, weights in model.state_dict().items())
    again, same = denoising.train(*arguments, Unused(dataset, 20), Unused(dataset, 20), picture)
    assert same == history and not again.training
    assert all(torch.equal(weights, state["model_state_dict"][name]) for name, weights in again.state_dict().items())


# What is measured


def test_psnr_is_the_mean_over_the_images_of_what_is_seen():
    clean = torch.full((2, 1, 28, 28), 0.5)
    images = torch.stack([clean[0] + 0.1, clean[1] - 0.2])  # 20 dB and 13.98 dB; all pixels at once would be 16.02
    assert psnr.psnr(images, clean) == pytest.approx((20 + 10 * math.log10(1 / 0.04)) / 2, abs=1e-4)
    assert psnr.psnr(torch.tensor([[[[-3.0, 1.0, 0.5, 1.5]]]]), torch.tensor([[[[0.1, 1.0, 0.5, 0.8]]]])) == pytest.approx(
        10 * math.log10(4 / (0.01 + 0.04)), abs=1e-4
    )
    assert psnr.psnr(clean, clean) == math.inf
    with pytest.raises(ValueError, match="allowed is the same"):
        psnr.psnr(clean, clean[:1])


@pytest.mark.parametrize("width", [0.4, 1.0, 2.3])
def test_blur_is_a_gaussian_of_so_many_pixels(width):
    image = torch.rand(1, 1, 28, 28, dtype=torch.float64)
    wanted = scipy.ndimage.gaussian_filter(image[0, 0].numpy(), width, mode="mirror", radius=math.ceil(3 * width))
    np.testing.assert_allclose(psnr.blur(image, width)[0, 0].numpy(), wanted, atol=1e-6)
    assert psnr.blur(image, 0) is image


def test_the_best_blur_is_wider_where_there_is_more_noise():
    images = torch.zeros(8, 1, 28, 28)
    images[..., 8:20, 12:16] = 1.0  # a stroke
    assert psnr.best_blur(images, 0.0) == 0
    some, more = (psnr.best_blur(images, sigma, seed()) for sigma in (0.2, 0.8))
    assert 0 < some < more
    seen = noisy(images, 0.8, seed())
    loss = lambda width: (
        (scipy.ndimage.gaussian_filter(seen.double().numpy(), (0, 0, width, width), mode="mirror").clip(0, 1) - images.numpy()) ** 2
    ).mean()
    assert abs(min(psnr.BLURS, key=loss) - more) <= 0.2  # scipy's is cut off later, and the mean is over all pixels


def test_denoise_is_the_network_in_eval_mode():
    model = Denoiser(DMConfig(**SMALL), 0.5).train()
    images = torch.rand(130, 1, 28, 28)  # more than are asked for at once
    seen = psnr.denoise(model, images)
    assert model.network.training
    torch.testing.assert_close(seen, model.eval().network(images))


# What is shown


def picture_of(figure):
    return torch.as_tensor(figure.axes[0].images[0].get_array()).float()[..., 0]


def test_the_denoised_stand_below_the_noisy():
    images = torch.rand(3, 1, 28, 28)
    figure = denoising.denoised_figure(denoiser(lambda x: 1 - x), images, [0.0, 0.2], "")
    rows = picture_of(figure).view(4, 28, 3, 28)
    seen = noisy(images, 0.2, seed()).clamp(0, 1)[:, 0]
    for row, wanted in zip(rows, (images[:, 0], 1 - images[:, 0], seen, None), strict=True):
        assert wanted is None or torch.allclose(row.transpose(0, 1), wanted, atol=1e-6)
    assert torch.allclose(rows[3].transpose(0, 1), (1 - noisy(images, 0.2, seed())).clamp(0, 1)[:, 0], atol=1e-6)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["σ = 0", "denoised", "σ = 0.2", "denoised"]


def test_each_row_of_samples_has_its_own_guidance():
    model = DenoisingDDPM(DMConfig(**SMALL, condition_mask_value=0)).eval()
    figure = denoising.samples_figure(model, [-1, 4, -1])
    rows = picture_of(figure).view(3, 28, 10, 28)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["γ = 0", "γ = 5", "γ = 0"]
    how = {"method": denoising.METHOD, "steps": denoising.STEPS}
    wanted = samplers.sample(model, torch.arange(10), 4, generator=seed(), **how)[:, 0]
    assert torch.allclose(rows[1].transpose(0, 1), wanted, atol=1e-6)
    assert not torch.allclose(rows[0], rows[2], atol=1e-2), "two rows without a class are to differ"


def test_epochs_are_shown_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("save/some/images").mkdir(parents=True)
    for epoch in (1, 2, 10):
        Image.new("RGB", (8, 4), (20 * epoch, 0, 0)).save(f"save/some/images/generate_epoch_{epoch}.png")
    figure = denoising.epochs_figure("some", (1, 10), "")
    shown = [(axis.get_title(), round(float(axis.images[0].get_array()[0, 0, 0]) * 255)) for axis in figure.axes]
    assert shown == [("after epoch 1", 20), ("after epoch 10", 200)]


def test_losses_are_drawn_under_their_names():
    row = lambda epoch, train, test: {"epoch": epoch, "train_noise_loss": train, "test_noise_loss": test}
    figure = denoising.loss_figure({"one": [row(1, 4.0, 3.0), row(2, 2.0, 1.0)], "other": [row(1, 8.0, 7.0)]}, "", "")
    drawn = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines}
    assert drawn == {
        "one, test": ([1, 2], [3.0, 1.0]), "one, train": ([1, 2], [4.0, 2.0]), "other, test": ([1], [7.0]), "other, train": ([1], [8.0])
    }  # fmt: skip


def test_a_film_goes_from_noise_to_the_digits(tmp_path):
    model = DenoisingDDPM(DMConfig(**SMALL, condition_mask_value=0)).eval()
    denoising.film(model, 1.0, tmp_path / "film.gif", steps=4)
    way = samplers.trajectory(model, torch.arange(5), 1.0, method="ddpm", steps=4, generator=seed())
    wanted = [samplers.pixels(step.x)[:, 0].permute(1, 0, 2).reshape(28, 140) for step in way]
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 5 and film.size == (5 * 28 * 4, 28 * 4)
        for frame in (2, 4):
            film.seek(frame)
            np.testing.assert_allclose(np.asarray(film.convert("L"))[::4, ::4] / 255, wanted[frame], atol=1 / 30 + 0.005)  # 16 greys


def test_costs_are_counted():
    model = DenoisingDDPM(DMConfig(**SMALL, condition_mask_value=0))
    model.network = nn.Module()
    model.network.layer = nn.Conv2d(1, 3, 3, padding=1)
    model.network.forward = lambda x, t, c: model.network.layer(x)
    assert denoising.cost(model) == (3 * 9 + 3, 2 * 28 * 28 * 3 * 9)


def test_tables_hold_the_median_and_the_range():
    row = {"omega": 4, "samples": 1000, "accuracy": 0.5, "frechet": 2.0, "frechet_floor": 0.5, "precision": 0.25, "recall": 1.0}
    runs = [row, {**row, "accuracy": 1.0, "frechet": 1.0}, {**row, "accuracy": 0.6, "frechet": 1.1}]
    one, other = denoising.quality_rows({"one": runs, "other": [{**row, "omega": -1}]})
    assert list(one.values()) == ["one", "5", "3 × 1,000", "60.0% (50.0% to 100.0%)", "1.10 (1.00 to 2.00)", "0.50", "0.25", "1.00"]
    assert list(other.values()) == ["other", "0", "1 × 1,000", "nothing asked", "2.00", "0.50", "0.25", "1.00"]
    history = [{"images_per_second": rate, "test_noise_loss": loss} for rate, loss in ((50, 0.3), (100, 0.2), (200, 0.1))]
    (row,) = denoising.cost_rows({"one": (DenoisingDDPM(DMConfig(**SMALL, condition_mask_value=0)), history)}, images=1000)
    assert [row["images/s"], row["seconds of training"], row["test noise loss"]] == ["100 (50 to 200)", "35", "0.1000"]


def test_psnr_of_noisy_blurred_and_denoised():
    images = torch.full((50, 1, 28, 28), 0.5)  # far from 0 and 1: little is clamped
    clean, weak = psnr.compare(denoiser(lambda x: x + 0.1), images, {0.0: 0, 0.1: 2.0}, seeds=2)
    assert clean == {"σ": 0.0, "blur": 0, "noisy": [math.inf] * 2, "blurred": [math.inf] * 2, "denoised": [pytest.approx(20, abs=1e-4)] * 2}
    # Noise of variance s under weights w has the variance s * sum(w ** 2), in two dimensions about s / (4 pi width ** 2)
    assert weak["noisy"] == [pytest.approx(20, abs=0.1)] * 2 and weak["noisy"][0] != weak["noisy"][1]
    assert weak["blurred"] == [pytest.approx(20 + 10 * math.log10(4 * math.pi * 4), abs=1)] * 2
    assert weak["denoised"] == [pytest.approx(10 * math.log10(1 / 0.02), abs=0.1)] * 2  # 0.1 too bright, and the noise
    (_, shown) = psnr.table([clean, {**weak, "noisy": [19.0, 20.0, 22.5]}])
    assert [shown["σ"], shown["best blur, pixels"], shown["noisy, dB"], shown["blurred, dB"]] == [
        0.1, 2.0, "20.00 (19.00 to 22.50)", display.cell(weak["blurred"], "{:.2f}")
    ]  # fmt: skip
    lines = {line.get_label(): line.get_ydata() for line in psnr.figure([weak], 0.5, "").axes[0].lines}
    assert lines["denoised"] == pytest.approx(np.median(weak["denoised"])) and lines["noisy"] == pytest.approx(np.median(weak["noisy"]))
