"""lab.writing and `python -m lab write`, with models that draw each digit d as a square of brightness d / 10."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from config import MEAN, STD, DMConfig
from lab import writing
from lab.__main__ import main
from lab.training import pictures

T = 20


class Squares:
    """A model that knows its images: the noise it sees is whatever is not the image of the class."""

    def __init__(self, digits):
        self.dmconfig = DMConfig(T=T, num_classes=10**digits, input_dim=(28, 28 * digits), precision="float32")
        self.network = nn.Module()
        self.network.weight, self.network.forward = nn.Parameter(torch.zeros(1)), self.noise
        self.digits = digits

    def scheduler(self, t):
        beta = torch.linspace(1e-3, 0.2, T)
        return {"beta_t": beta[t - 1].view(-1, 1, 1, 1), "alpha_t_bar": (1 - beta).cumprod(0)[t.reshape(-1) - 1].view(-1, 1, 1, 1)}

    def noise(self, x, t, c):
        alpha_bar = self.scheduler((t * T).round().long().reshape(-1))["alpha_t_bar"]
        numbers = c.argmax(1)
        row = torch.stack([numbers // 10**place % 10 for place in reversed(range(self.digits))], dim=1) / 10  # (B, digits)
        image = (row.repeat_interleave(28, dim=1).view(len(x), 1, 1, -1).expand_as(x) - MEAN) / STD
        return (x - alpha_bar.sqrt() * image) / (1 - alpha_bar).sqrt()


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("text", ["00297375", "7", "314", "0123456789" * 21 + "5"], ids=len)
def test_writes_every_digit_in_its_place(digits, text):
    images = writing.write(Squares(digits), text, 0.0, method="ddim", steps=2)
    assert images.shape == (len(text), 1, 28, 28)
    wanted = torch.tensor([int(digit) / 10 for digit in text]).view(-1, 1, 1, 1).expand_as(images)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-5)


def test_the_picture_has_the_digits_in_rows_of_twenty(tmp_path, monkeypatch):
    monkeypatch.setattr("lab.__main__.load_model", lambda path: Squares(2))
    text = "31415926535897932384626"
    main(["write", text, "--model", "pair", "--steps", "2", "--omega", "0", "--out", str(tmp_path / "id.png")])
    picture = np.asarray(Image.open(tmp_path / "id.png"))[56::112, 56::112, 0] / 255  # the middle of each digit
    assert picture.shape == (2, 20)
    assert (picture.flatten() * 10).round().astype(int).tolist() == [int(digit) for digit in text] + [0] * 17


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"num_classes": 11}, "11 classes at 28 x 28"),
        ({"input_dim": (28, 56)}, "10 classes at 28 x 56"),
        ({"input_dim": (32, 32)}, "32 x 32"),
        ({"classes": pictures.CLASSES["fashion"]}, "the model draws T-shirt/top, Trouser, .* allowed are digits"),
    ],
)
def test_a_model_of_something_else_is_refused(changes, word):
    model = Squares(1)
    model.dmconfig = DMConfig(**changes)
    with pytest.raises(ValueError, match=word):
        writing.write(model, "12", 0.0)


def test_classes_that_are_named_as_numbers_are_digits():
    model = Squares(1)
    model.dmconfig = DMConfig(classes=list("0123456789"))
    assert writing.width(model) == 1


@pytest.mark.parametrize(
    "arguments, word",
    [(["12a"], "'12a'"), ([""], "''"), (["1٣"], "digits 0 to 9"), (["1", "--out", "nowhere/x.png"], "nowhere"), (["1", "--steps", "0"], "steps"),
     (["1", "--model", "pair", "--checkpoint", "x.pth"], "--model pair"), (["1", "--seed", "-1"], "--seed -1")],
)  # fmt: skip
def test_bad_input_is_a_line_that_says_so(tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["write", *arguments])
    assert word in str(stop.value) and not list(tmp_path.iterdir())
