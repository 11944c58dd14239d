"""lab.display: a grid has each image in its place, and the figures say what they show."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

from lab import display


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count, columns", [(6, 3), (7, 3), (1, 1), (2, 5)])
def test_each_image_has_its_place(channels, count, columns):
    images = torch.rand(count, channels, 4, 6)
    rows = -(-count // columns)
    expected = np.zeros((rows * 4, columns * 6, 3), np.float32)
    for i, image in enumerate(images.numpy()):
        top, left = i // columns * 4, i % columns * 6
        for y in range(4):
            for x in range(6):
                expected[top + y, left + x] = image[:, y, x]  # one channel is spread over three
    picture = display.grid(images, columns)
    assert picture.dtype == np.float32 and np.array_equal(picture, expected)
    wrong = display.grid(images.flip(0), columns)
    assert count == 1 or not np.array_equal(wrong, expected)  # the order shows


def test_a_grid_takes_half_precision_and_weights_that_learn():
    images = torch.rand(2, 1, 4, 4).bfloat16().requires_grad_()
    assert np.array_equal(display.grid(images, 2)[:, :4, 0], images[0, 0].detach().float().numpy())


@pytest.mark.parametrize("rows", [1, 7])
def test_a_grid_s_figure_labels_the_middle_of_its_rows_and_columns(rows, capsys):
    images = torch.rand(rows * 3, 1, 8, 8)
    figure = display.grid_figure(images, 3, "title", [f"ω = {i}" for i in range(rows)], "abc", "guidance", "class")
    axes = figure.axes[0]
    assert np.array_equal(axes.images[0].get_array(), display.grid(images, 3))
    assert axes.get_yticks().tolist() == [8 * i + 3.5 for i in range(rows)] and axes.get_xticks().tolist() == [3.5, 11.5, 19.5]
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"ω = {i}" for i in range(rows)]
    assert [label.get_text() for label in axes.get_xticklabels()] == list("abc")
    assert (axes.get_title(), axes.get_ylabel(), axes.get_xlabel()) == ("title", "guidance", "class")
    figure.canvas.draw()  # the layout holds
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("steps", [1, 10, 400])
def test_a_curve_of_steps(steps, capsys):
    losses = np.linspace(1, 0.1, steps).tolist()
    figure = display.step_curve(losses)
    lines = figure.axes[0].lines
    assert lines[0].get_xydata().tolist() == [[i + 1, loss] for i, loss in enumerate(losses)]
    if steps == 400:  # the mean of the last 20 stands where they end
        assert lines[1].get_xydata()[-1] == pytest.approx([400, np.mean(losses[-20:])])
        assert lines[1].get_xydata()[0] == pytest.approx([20, np.mean(losses[:20])])
    assert figure.axes[0].get_xlabel() and "loss" in figure.axes[0].get_ylabel()
    figure.canvas.draw()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("epochs", [1, 5])
def test_a_curve_of_epochs_marks_the_best(epochs, capsys):
    tests = [0.5, 0.3, 0.1, 0.2, 0.4][:epochs]
    history = [{"epoch": i + 1, "train_noise_loss": 0.6 / (i + 1), "test_noise_loss": loss} for i, loss in enumerate(tests)]
    figure = display.epoch_curve(history, "title")
    curves = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    train, test, best = curves.values()
    assert train == [[row["epoch"], row["train_noise_loss"]] for row in history]
    assert test == [[row["epoch"], row["test_noise_loss"]] for row in history]
    assert best == [[tests.index(min(tests)) + 1, min(tests)]]
    assert all(word in " ".join(curves) for word in ("train", "test", "best"))
    figure.canvas.draw()
    assert capsys.readouterr() == ("", "")


def test_a_silent_reporter_leaves_no_empty_line_in_a_notebook(monkeypatch):
    monkeypatch.setattr(display, "_notebook_line", lambda: pytest.fail("a place was made for a bar"))
    with display.Reporter(silent=True).bar(10, " images", "train") as bar:
        bar.update(10)


def test_a_bar_says_nothing_where_nobody_watches(capsys):
    with display.Reporter().bar(10, " images", "train") as bar:
        bar.update(10)
        bar.set_postfix_str("loss 0.1")
    assert capsys.readouterr() == ("", "")
    display.Reporter().line("epoch 1/10")
    assert capsys.readouterr() == ("epoch 1/10\n", "")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_that_are_not_finite_are_no_black_picture(value):
    images = torch.zeros(4, 1, 8, 8)
    images[2, 0, 3, 3] = value
    with pytest.raises(ValueError, match="1 values of the images are not finite"):
        display.grid(images, 2)


def test_a_picture_as_the_bytes_of_a_png_is_the_one_that_is_saved(tmp_path):
    picture = np.linspace(0, 1, 4 * 6 * 3).reshape(4, 6, 3)
    display.save_picture(picture, tmp_path / "picture.png")
    (one, two) = (np.asarray(Image.open(source)) for source in (tmp_path / "picture.png", io.BytesIO(display.as_png(picture))))
    assert one.shape == (4 * display.SCALE, 6 * display.SCALE, 3) and (one == two).all()
