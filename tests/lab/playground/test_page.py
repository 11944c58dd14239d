"""The exported page in headless Chromium: what one does there, and what comes out, as the judge reads it."""

import io
import threading

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from lab.playground import export
from lab.quality import judge

pytestmark = pytest.mark.slow
DONE = 120_000  # milliseconds to wait for a picture, on a machine that has other work


@pytest.fixture
def opened(page, chromium):
    """The page, opened in a browser that lets no request leave for another host; its errors, and other hosts asked for, fail the test."""
    server = export.server(page, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_address[1]}/"
    tab, wrong = chromium.new_context(accept_downloads=True).new_page(), []
    tab.set_default_timeout(DONE)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: None if request.url.startswith((here, "data:", "blob:")) else wrong.append(request.url))
    tab.goto(here)
    yield tab
    tab.context.close()
    server.shutdown()
    server.server_close()
    assert not wrong


def drawn(tab, words):
    """The digits on the page once its status says `words` and that it is done, (N, 1, 28, 28) in [0, 1], by its button that saves them."""
    tab.locator("#status", has_text="seconds").filter(has_text=words).wait_for()
    with tab.expect_download() as download:
        tab.click("#save")
    with open(download.value.path(), "rb") as file:
        picture = to_tensor(Image.open(io.BytesIO(file.read())).convert("L"))[:, 5::10, 5::10]  # the middle of each pixel
    return torch.stack(picture.split(28, dim=2)), download.value.suggested_filename


def read(images):
    return judge.read(judge.load(), images)[0].tolist()


def test_draws_the_digit_asked_for_and_goes_back_in_time(opened):
    opened.check("[name=class][value='7']")
    images, name = drawn(opened, "A 7: 9 steps")
    assert read(images) == [7] and name == "digit-7.png"
    assert opened.input_value("#moment") == "9" and opened.inner_text("#moment-value") == "t = 0"
    opened.locator("#moment").press("Home")
    assert opened.inner_text("#moment-value") == "t = 400"
    assert images[..., :2, :].max() < 0.1 and drawn(opened, "A 7")[0][..., :2, :].std() > 0.1  # noise, up to the border


def test_draws_in_one_call_by_the_network_that_has_learned_to(opened):
    opened.check("[name=class][value=any]")
    opened.select_option("#method", "few")  # which draws classes alone, and has nothing to choose of its guidance
    images, _ = drawn(opened, "A 3: 1 step")
    assert read(images) == [3] and opened.is_disabled("#omega") and opened.is_hidden("[name=class][value=any]")
    opened.locator("#steps").press("End")
    assert read(drawn(opened, "A 3: 4 steps")[0]) == [3]
    opened.click("#tab-write")
    assert read(drawn(opened, "2026: 4 steps")[0]) == [2, 0, 2, 6]
    opened.click("#tab-compare")  # two weights of guidance: not by this network
    opened.locator("#status", has_text="A 3 twice: 9 steps").wait_for()
    assert opened.input_value("#method") == "sde" and opened.is_enabled("#omega")


def test_completes_half_a_digit_and_keeps_what_was_drawn(opened):
    """The top of a 0 by mouse; the network draws its bottom, as a 0."""
    opened.click("#tab-complete")
    opened.check("[name=class][value='0']")
    pad = opened.locator("#pad").bounding_box()
    point = lambda x, y: (pad["x"] + pad["width"] * x / 28, pad["y"] + pad["height"] * y / 28)
    opened.mouse.move(*point(8.5, 15))
    opened.mouse.down()
    for x, y in ((9, 10), (11, 7), (14, 5.5), (17, 7), (19, 10), (19.5, 15)):
        opened.mouse.move(*point(x, y), steps=4)
    opened.mouse.up()
    images, _ = drawn(opened, "The other half of a 0: 30 steps")
    assert read(images) == [0]
    assert images[0, 0, :4].max() < 0.02 and images[0, 0, 5, 13:15].min() > 0.98  # as drawn: black above, white on the stroke
    assert images[0, 0, 16:].max() > 0.5


def test_turns_a_3_into_an_8(opened):
    opened.click("#tab-turn")
    images, _ = drawn(opened, "An 8: 24 steps")
    assert read(images) == [8]


def test_writes_a_number(opened):
    opened.click("#tab-write")
    opened.fill("#text", "407")
    images, name = drawn(opened, "407")
    assert read(images) == [4, 0, 7] and name == "407.png"


def test_compares_two_weights_under_one_noise(opened):
    opened.click("#tab-compare")
    first = opened.locator("#views h2")
    first.first.wait_for()
    assert first.all_inner_texts() == ["ω = 0", "ω = 2"]
    images, _ = drawn(opened, "A 3 twice")
    assert read(images)[1] == 3 and (images[0] - images[1]).abs().max() > 0.05
    opened.locator("#moment").press("Home")
    start, _ = drawn(opened, "A 3 twice")
    assert (start[0] == start[1]).all()


def test_a_new_choice_cancels_what_is_computed(opened):
    """All 400 steps take a minute or more: a digit asked for meanwhile is there before that."""
    opened.locator("#steps").press("End")
    opened.locator("#status", has_text="Drawing a 3").wait_for()
    opened.locator("#steps").press("Home")
    opened.check("[name=class][value='1']")
    opened.locator("#status", has_text="A 1: 1 step,").wait_for()
    assert opened.input_value("#moment") == "1"


def test_the_keyboard_does_it_all(opened):
    """Tabs by arrows, a digit by arrows, and a stroke on the pad by arrows and space."""
    opened.locator("#tab-draw").press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    assert opened.get_attribute("#tab-complete", "aria-selected") == "true"
    opened.click("#clear")
    opened.locator("#status", has_text="Draw one half").wait_for()
    opened.locator("#pad").press("Space")
    for _ in range(8):
        opened.keyboard.press("ArrowUp")
    opened.keyboard.press("Space")
    opened.locator("[name=class][value='1']").press("Space")
    images, _ = drawn(opened, "The other half of a 1")
    assert read(images) == [1] and images[0, 0, 7:13, 13:15].min() > 0.5
