"""The modules of power_of_diffusion: a drawing of any kind as a digit of MNIST, and the tables' numbers on models that are known."""

import functools
import http.server
import threading
import time

import pytest
import torch
from PIL import Image, ImageDraw

import drawings
import editing_on_digits as on
import on_deepfloyd
from lab import editing
from lab.diffusion.process import Process, levels
from lab.editing import deepfloyd
from lab.editing.views import IDENTITY, ROTATION
from lab.quality import judge

SIZE = (400, 300)


def drawn(mode="L", ground=255, ink=0, pen=24, size=SIZE, draws=((0.3, 0.2), (0.5, 0.2), (0.4, 0.8))):
    """A 7, as a picture of `mode`."""
    image = Image.new(mode, size, ground)
    ImageDraw.Draw(image).line([(x * size[0], y * size[1]) for x, y in draws], fill=ink, width=pen, joint="curve")
    return image


KINDS = {
    "black on white": drawn(),
    "white on black": drawn(ground=0, ink=255),
    "one bit": drawn("1", 1, 0),
    "sixteen bits": drawn("I;16", 60000, 2000),
    "colour": drawn("RGB", (255, 255, 255), (0, 0, 0)),
    "print": drawn("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)),
    "palette": drawn("RGB", (255, 255, 255), (0, 0, 0)).quantize(4),
    "black on nothing": drawn("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)),
    "white on nothing": drawn("LA", (0, 0), (255, 255)),
    "grey on grey": drawn("L", 180, 60),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_of_any_mode_is_the_same_digit(kind):
    torch.testing.assert_close(drawings.digit(KINDS[kind]), drawings.digit(KINDS["black on white"]), rtol=0, atol=2e-2)


def test_a_drawing_is_made_as_MNIST_was():
    """White on black, the longer side 20 pixels, the centre of mass in the middle of 28x28, wherever it stood on the page."""
    for image in (drawn(), drawn(size=(90, 700)), drawn(size=(60, 40), pen=4), drawn(draws=((0.02, 0.02), (0.2, 0.02), (0.1, 0.3)))):
        digit = drawings.digit(image)
        assert digit.shape == (1, 1, 28, 28) and digit.min() == 0 and digit.max() == 1
        rows, columns = (digit[0, 0] > 0).nonzero().T
        assert max(rows.max() - rows.min(), columns.max() - columns.min()) + 1 == 20
        at = torch.arange(28.0)
        mass = digit[0, 0] / digit.sum()
        for centre in ((mass.sum(1) * at).sum(), (mass.sum(0) * at).sum()):
            assert abs(centre - 13.5) <= 0.55  # whole pixels: half of one, and the rounding of one more place


def test_a_thin_pen_does_not_fade():
    thin, thick = drawings.digit(drawn(pen=1)), drawings.digit(drawn(pen=42))
    assert thin.mean() > 0.05 and 0.4 < thin.mean() / thick.mean() < 1
    rows = (thin[0, 0].max(1).values > 0).nonzero()
    assert thin[0, 0].max(1).values[rows].min() > 0.5  # no row of it is lost


def test_a_path_is_read_and_strokes_are_drawn(tmp_path):
    drawn().save(tmp_path / "seven.png")
    assert drawings.digit(tmp_path / "seven.png").equal(drawings.digit(drawn()))
    stroked = drawings.strokes([[(0, 0), (4, 0), (2, 9)]])
    assert judge.read(judge.load(), torch.cat([stroked, drawings.digit(drawn()), drawings.seven()]))[0].tolist() == [7, 7, 7]
    assert drawings.strokes([[(100, 50), (140, 50), (120, 140)]]).equal(stroked)  # any unit, any place
    assert drawings.strokes([[(3, 3)]]).max() == 1  # a dot


@pytest.mark.parametrize(
    "wrong", [[], [[]], [[(0, float("nan"))]], [[(0, 1, 2)]], [[(0, 0, 0.5), (1, 0, 0.5)]], [(0, 1), (1, 2)], "seven", 7]
)
def test_strokes_that_are_none(wrong):
    with pytest.raises(ValueError, match="allowed are"):
        drawings.strokes(wrong)


def test_a_photograph_is_turned_as_the_phone_held_it():
    upright, turned = drawn(), drawn().rotate(90, expand=True)
    turned.getexif()[0x0112] = 6  # to be seen turned by 90 degrees clockwise
    assert drawings.digit(turned).equal(drawings.digit(upright))


def test_an_empty_page_is_refused():
    with pytest.raises(ValueError, match="nothing is drawn"):
        drawings.digit(Image.new("L", SIZE, 255))


def test_a_picture_for_deepfloyd_is_its_middle_square(tmp_path):
    image = Image.new("RGB", (30, 10), (0, 0, 255))
    image.paste((255, 0, 0), (10, 0, 20, 10))
    image.save(tmp_path / "wide.png")
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    torch.testing.assert_close(drawings.picture(tmp_path / "wide.png", 64), red, rtol=0, atol=0.02)
    torch.testing.assert_close(drawings.picture(image, 64), red, rtol=0, atol=0.02)


@pytest.mark.parametrize("kind", ["white on black", "one bit", "sixteen bits", "colour", "palette", "black on nothing"])
def test_a_picture_of_any_mode_keeps_what_is_on_it(kind, tmp_path):
    KINDS[kind].save(tmp_path / "any.png")
    seen, ground = drawings.picture(tmp_path / "any.png", 64), 0.0 if kind == "white on black" else 1.0
    assert seen.shape == (1, 3, 64, 64)
    assert abs(seen[..., 0, 0] - ground).max() < 0.1 and abs(seen - (1 - ground)).flatten(1).min() < 0.1


def test_a_picture_from_a_url(tmp_path):
    """From a server of this machine; what is not a picture is said to be none."""
    drawn().save(tmp_path / "seven.png")
    (tmp_path / "none.png").write_text("not found")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        at = f"http://127.0.0.1:{server.server_port}"
        assert drawings.picture(f"{at}/seven.png", 64).equal(drawings.picture(tmp_path / "seven.png", 64))
        with pytest.raises(ValueError, match="none.png is no picture"):
            drawings.picture(f"{at}/none.png", 64)
    finally:
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *anything):
        pass


class Knows(Process):
    """A model that knows the clean image, and sees exactly the noise that leads there."""

    T, shape, range, device = 40, (1, 28, 28), (0.0, 1.0), torch.device("cpu")
    alpha, sigma = levels(torch.linspace(1e-3, 0.2, 40, dtype=torch.float64))
    null_condition = torch.zeros(1)

    def __init__(self, image):
        self.image, self.asked = image, []

    def embed(self, condition):
        return torch.as_tensor(condition).reshape(-1, 1).float()

    def ask(self, x, t, rows, s):
        self.asked.append(t)
        return (x - self.alpha[t] * self.image.repeat(len(x) // len(self.image), 1, 1, 1)) / self.sigma[t], None


def test_denoising_is_measured_against_the_clean_image():
    images = drawings.seven().repeat(2, 1, 1, 1)
    model = Knows(images)
    ways = on.denoised(model, images, 0.5)
    assert on.psnr(model, images / 2, images).tolist() == pytest.approx([-10 * (images[0] ** 2).mean().div(4).log10().item()] * 2, rel=1e-4)
    t = editing.timesteps(model, 40)[20]
    assert t == 20 and ways["noisy"].equal(editing.noised(model, images, 20, on.seeded()))
    for way in ("one step", "iterative"):
        assert on.psnr(model, ways[way], images).min() > 60
    assert model.asked == [20, *range(20, 0, -1)]  # one step, then all
    blurred = [editing.blur(ways["noisy"] / model.alpha[20], 15, sigma) for sigma in on.SIGMAS]
    best = max(on.psnr(model, x, images).mean() for x in blurred)
    assert on.psnr(model, ways["Gaussian blur"], images).mean() == best > on.psnr(model, ways["noisy"], images).mean()


def test_what_is_read_near_afar_and_both_ways():
    """A model that knows only one 7 gives a 7 wherever it is asked, and that is what the tables say."""
    seven = drawings.seven()
    model = Knows(seven)
    rows, results = on.become(model, seven, 7, (2, 28))
    assert [row["read as 7"] for row in rows] == ["100%"] * 2 and float(rows[0]["PSNR against the original"]) > 60 and len(results) == 2
    assert [row["read as 3"] for row in on.become(model, seven, 3, (2,))[0]] == ["0%"]
    right = on.completed(model, seven, steps=4)[1]
    assert right.tolist() == [digit == 7 for digit in range(10)]
    other = lambda images: judge.read(judge.load(), images)[0].item()
    turned, far = other(ROTATION.look(seven)), other(on.seen_from_afar(seven, 3.0))
    assert turned != 7 != far
    assert on.both_ways(model, seven, (7, turned)).all() and not on.both_ways(model, seven, (turned, 7)).any()
    _, row = on.hybrids(model, far, 7, 1, 3.0, steps=2)
    assert row == {"σ": 3.0, "near: 7": "100%", f"far: {far}": "100%", "both": "100%", f"a plain 7 from afar: {far}": "100%"}
    _, row = on.hybrids(model, turned, far, 1, 0.01, steps=2)  # nothing changes from afar: a 7 it is
    assert list(row.values())[1:] == ["0%"] * 4


@pytest.mark.parametrize("rounds", [1, 2])
def test_resampling_is_judged_by_what_comes_out(rounds, monkeypatch):
    asked = []
    monkeypatch.setattr(on.quality, "evaluate", lambda *judged: asked.append(judged) or {"frechet": 1.234})
    sevens, labels = drawings.seven().repeat(4, 1, 1, 1), torch.tensor([7, 7, 7, 1])
    row = on.resampling_row(Knows(sevens), sevens, labels, rounds, 4)
    assert list(row.values()) == [rounds, 4, 4, "75.0% ± 25.0%", "1.23"]
    torch.testing.assert_close(asked[0][0], sevens)
    assert asked[0][1].equal(labels)


def missing(*arguments, **more):
    raise deepfloyd.WeightsMissing("how to get them")


def test_without_weights_one_line_says_so(capsys, monkeypatch):
    monkeypatch.setattr(deepfloyd, "load", missing)
    floyd = on_deepfloyd.Floyd()
    assert floyd.show(lambda model: 1 / 0, "never") is None and floyd.two_stages(["a dog"]) is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("IF-I-XL" in line for line in lines) and str(floyd.missing) == "how to get them"
    floyd.model = "stage I alone"
    floyd.two_stages(["a dog"])
    assert "IF-II-L" in capsys.readouterr().out


def test_with_weights_each_stage_is_drawn_in_each_number_of_steps(monkeypatch):
    """The second stage enlarges what the first has drawn in as many steps."""
    seven, asked = drawings.seven(), []

    def floyd_of(pipeline, embeddings=None, images=None, generator=None):
        model = Knows(seven)
        model.images, model.embeddings = images, {"": 0}
        asked.append(model)
        return model

    monkeypatch.setattr(deepfloyd, "load", lambda *names, **how: None)
    monkeypatch.setattr(deepfloyd, "DeepFloyd", floyd_of)
    titles = []
    monkeypatch.setattr(on_deepfloyd.Floyd, "_figure", lambda self, model, images, title: titles.append(title))
    on_deepfloyd.Floyd().two_stages([7], steps=(2, 4))
    assert titles == ["stage I, 2 steps", "stage II, 2 steps", "stage I, 4 steps", "stage II, 4 steps"]
    first, *second = asked
    assert [len(model.asked) for model in second] == [2, 4] and len(first.asked) == 6
    assert all(torch.allclose(model.images, seven, atol=1e-3) for model in second)


@pytest.fixture(scope="module")
def digits():
    from lab.diffusion.process import ConditionalProcess
    from utils import load_model

    return ConditionalProcess(load_model())


@pytest.mark.nightly  # seconds depend on the processor, and on what runs beside it
def test_sixteen_digits_in_ten_seconds(digits, request):
    """Seconds of the processor in one thread, so that a busy machine does not count: two cores have them all the more."""
    request.addfinalizer(functools.partial(torch.set_num_threads, torch.get_num_threads()))
    torch.set_num_threads(1)
    images = editing.to_model(digits, drawings.seven()).repeat(16, 1, 1, 1)
    loops = {
        "sample": lambda: editing.sample(digits, 7, 16),
        "denoise": lambda: editing.denoise(digits, images, 0, 7),
        "edit": lambda: editing.edit(digits, images, 0, 7),
        "inpaint": lambda: editing.inpaint(digits, images, on.HALF, 7),
        "anagram": lambda: editing.anagram(digits, (6, 9), (IDENTITY, ROTATION), 16),
        "hybrid": lambda: editing.hybrid(digits, 0, 7, 16),
    }
    for name, loop in loops.items():
        started = time.process_time()
        assert editing.final(loop()).shape == (16, 1, 28, 28)
        assert time.process_time() - started < 10, name


@pytest.mark.parametrize("count", [pytest.param(40, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.nightly)])
def test_a_six_that_is_a_nine(digits, count):
    assert on.both_ways(digits, on.anagrams(digits, (6, 9), count, omega=6.0, steps=20), (6, 9)).float().mean() >= 0.95
