"""The exported page in headless Chromium: what one does there, and what comes out, as the judge reads it."""

import io
import threading

import pytest
import torch
from browser import axe_source, violations
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


def test_somebody_who_is_quicker_than_the_first_digit_is_heard(opened):
    """The tab "turn" draws a digit to start from. Meanwhile: another class, a stroke, and another tab."""
    opened.click("#tab-turn")
    opened.check("[name=class][value='5']")
    assert read(drawn(opened, "A 5: 24 steps")[0]) == [5]
    opened.click("#fresh")
    opened.locator("#pad").press("Space")
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("Space")
    drawn(opened, "A 5: 24 steps")
    on_pad = "document.querySelector('#pad').getContext('2d').getImageData(0, 0, 28, 28).data.filter((value, i) => i % 4 === 0 && value > 200).length"
    assert 0 < opened.evaluate(on_pad) < 12, "the stroke, and no digit"
    opened.click("#fresh")
    opened.locator("#status", has_text="Drawing").wait_for()
    opened.click("#tab-complete")
    drawn(opened, "The other half of")
    opened.wait_for_timeout(1500)
    drawn(opened, "The other half of")
    assert opened.locator("#pad").is_visible() and opened.get_attribute("#tab-complete", "aria-selected") == "true"


@pytest.fixture
def elsewhere(opened):
    """The page once more, in a tab whose errors are expected; goes there after `change` of what it loads."""
    tab = opened.context.new_page()
    tab.set_default_timeout(DONE)

    def go(path, answer):
        tab.route(f"**/{path}", answer)
        tab.goto(opened.url)
        return tab

    return go


def test_a_network_that_cannot_be_loaded_is_said_as_long_as_it_is_true(elsewhere):
    tab = elsewhere("network.onnx.gz", lambda route: route.abort())
    tab.locator("#problem", has_text="The network could not be loaded").wait_for()
    tab.click("#tab-write")
    tab.wait_for_timeout(500)
    assert tab.is_visible("#problem")


def test_settings_that_cannot_be_loaded_are_said(elsewhere):
    tab = elsewhere("settings.json", lambda route: route.fulfill(status=404))
    tab.locator("#status", has_text="The page could not be loaded: settings.json could not be loaded (404)").wait_for()


def test_a_model_with_another_number_of_times_has_its_own_steps(elsewhere):
    def fewer(route):
        answer = route.fetch()
        route.fulfill(response=answer, json=answer.json() | {"T": 20})

    tab = elsewhere("settings.json", fewer)
    tab.select_option("#method", "ddpm")
    assert "with all 20 steps it is the algorithm" in tab.inner_text("#method-hint")
    tab.locator("#steps").press("End")
    assert tab.inner_text("#steps-value") == "20"
    tab.click("#tab-complete")
    assert tab.inner_text("#steps-value") == "20", "30 are too many"


def test_opened_from_the_disk_it_says_what_to_do(page, chromium):
    tab = chromium.new_page()
    tab.goto((page / "index.html").as_uri())
    tab.locator("#status", has_text="does not run this page from the disk. Serve its folder").wait_for()
    tab.close()


def test_a_button_pressed_before_the_next_picture_is_there_does_nothing(opened):
    drawn(opened, "A 3: 9 steps")
    opened.evaluate("document.querySelector('[name=class][value=\"5\"]').click()")
    opened.wait_for_timeout(125)
    opened.evaluate("document.querySelector('#save').click(); document.querySelector('#film').click()")
    assert read(drawn(opened, "A 5: 9 steps")[0]) == [5]


@pytest.mark.parametrize("tab", ["draw", "compare", "complete", "turn", "write"])
def test_axe_finds_nothing(opened, tab):
    source = axe_source()
    opened.click(f"#tab-{tab}")
    opened.locator("#status", has_text="seconds").wait_for()
    assert violations(opened, source) == []
