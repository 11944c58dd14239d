"""The pages in headless Chromium: people mark by keyboard, a second marker goes on, nothing hostile runs, and axe-core finds nothing."""

import csv
import dataclasses
import json
import random
import re

import pytest
from a_class import a_submission, thirty, version, write
from browser import axe_source, chromium, violations
from records import EVIL
from test_readable import MOVED, REQUEST
from thirty import lay_out_class, record, write_report

from course.__main__ import main
from course.marking import marking, page
from course.marking import marks as marks_file
from course.report import changes, pages
from course.report.safe import file_name

pytestmark = pytest.mark.slow
VIEWS = {  # width, height, pixels a CSS pixel: a window, the same at 200 %, a telephone
    "window": (1280, 900, 1),
    "200 %": (640, 450, 2),
    "telephone": (320, 640, 2),
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def class_of_thirty(tmp_path_factory):
    report = tmp_path_factory.mktemp("thirty") / "report"
    write(report, thirty(), failed={"eve": "RuntimeError: no"})
    marking.mark(report)
    return report


@pytest.fixture
def opened(browser):
    """opened(file, **settings): a page in a new profile. Errors of its script fail the test, and so does whatever it tries to load."""
    contexts, wrong = [], []

    def open_page(path, context=None, **settings):
        context = context or browser.new_context(accept_downloads=True, **settings)
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (wrong.append(dialog.message) if dialog.type != "beforeunload" else None, dialog.accept()))
        tab.on(
            "request", lambda request: wrong.append(request.url[:200]) if not request.url.startswith(("file:", "data:", "blob:")) else None
        )
        tab.goto(path.as_uri())
        return tab

    yield open_page
    for context in set(contexts):
        context.close()
    assert wrong == []


def press(tab, *keys):
    for key in keys:
        tab.keyboard.press(key)


def saved(tab, folder):
    """The file that the key s downloads."""
    with tab.expect_download() as download:
        press(tab, "s")
    download.value.save_as(folder / download.value.suggested_filename)
    return folder / download.value.suggested_filename


def said(tab, words):
    """Wait until the page says these words. (wait_for_function would evaluate a text, which the page's policy forbids.)"""
    tab.locator("#status", has_text=words).wait_for()


def total(tab):
    return tab.evaluate("document.querySelector('article.current legend').textContent")


def test_thirty_are_marked_by_keyboard_and_a_second_marker_goes_on(opened, class_of_thirty, tmp_path):
    """The first marks 2.5 and half of 2.6 and changes an item later; the second loads the file and does the rest."""
    tab = opened(class_of_thirty / "mark.html")
    assert "Kowalska" not in tab.content() and tab.locator("section:visible article").count() < 30, "2.4 comes first"
    tab.get_by_label("Your initials").fill("AB")
    press(tab, "Enter", "]")
    for number in range(30):
        press(tab, "u", "1", *(["2"] if number % 3 == 0 else []))
        if number == 4:
            press(tab, "c")
            tab.keyboard.type("Say why: j, k and s are letters here. <b>")
            press(tab, "Escape")
    press(tab, "u")
    assert "All answers to this question are marked" in tab.locator("#status").inner_text()
    assert tab.locator("[data-question=guidance]").inner_text() == "2.5 Guidance weight 30 of 30"
    press(tab, "j", "k", "k")
    before = total(tab)
    press(tab, "r")  # the first item of the rubric: its points
    tab.keyboard.press("Control+a")
    tab.keyboard.type("2.5")
    press(tab, "Escape")
    assert before in ("Marks: 3 / 4 by AB", "Marks: 4 / 4 by AB") and total(tab) == before.replace("3", "2.5").replace("4 / ", "3.5 / ")
    press(tab, "]")
    for _ in range(15):
        press(tab, "u", "2")
    first = saved(tab, tmp_path)
    assert first.name == "marks-AB.json" and "Saved as marks-AB.json" in tab.locator("#status").inner_text()

    other = opened(class_of_thirty / "mark.html")  # another person's browser
    other.get_by_label("Your initials").fill("CD")
    other.locator("#load").set_input_files(first)
    said(other, "is taken")
    press(other, "Escape", "[")
    assert other.locator("[data-question=customise]").inner_text() == "2.6 Customise 15 of 30"
    for _ in range(15):
        press(other, "u", "1", "2")
    press(other, "]")
    while other.locator("[data-question=training]").inner_text().split(" ")[-3] != "5":
        press(other, "u", "1")
    second = saved(other, tmp_path)

    main(["mark", str(class_of_thirty), "--take", str(second)])
    with open(class_of_thirty / "scores.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["automatic"]]
    assert sorted(row["guidance"] for row in rows) == ["2.5"] * 20 + ["3.5"] * 10, "the change of the item reaches all that have it"
    assert sorted(row["customise"] for row in rows) == ["1"] * 15 + ["6"] * 15
    assert all(float(row["total"]) == float(row["automatic"]) + float(row["by_hand"]) for row in rows)
    points = json.loads((class_of_thirty / "marks.json").read_text())["points"]
    hidden = json.loads(second.read_text())["points"]
    assert hidden == {page.pseudonym(name): row for name, row in points.items()}, "the page and the report agree on every point"
    (name,) = [row["submission"] for row in rows if "letters here" in student(class_of_thirty, row["submission"])]
    assert "are letters here. &lt;b&gt;" in student(class_of_thirty, name)


def student(report, name):
    return (report / "students" / f"{file_name(name)}.html").read_text("utf-8")


def small_report(folder, *records):
    write(folder, records or [a_submission("Ada Kowalska", 1, "one"), a_submission("Bilal Moreau", 2, "two")])
    marking.mark(folder)
    return folder / "mark.html"


def test_a_closed_tab_loses_nothing(opened, tmp_path):
    path = small_report(tmp_path / "report")
    tab = opened(path)
    press(tab, "j", "1", "c")
    tab.keyboard.type("half a sent")
    tab.close()  # while it is written
    again = opened(path, context=tab.context)
    press(again, "j")
    assert again.locator("article.current textarea").input_value() == "half a sent"
    assert again.locator("article.current input:checked").count() == 1
    assert "from an earlier visit" in again.locator("#status").inner_text() or "keeps a copy" in again.locator("#status").inner_text()
    beside = opened(path, context=tab.context)  # and what is done in two tabs comes together
    press(again, "k", "2")
    beside.locator("article input[value=start-2]:checked").first.wait_for(state="attached")


def test_a_kept_copy_outlives_a_change_of_the_class_and_its_own_damage(opened, tmp_path):
    path = small_report(tmp_path / "report")
    tab = opened(path)
    gone, stays = tab.evaluate("questions.guidance.answers.map((each) => each.id)")
    tab.evaluate(f"for (const id of ['{gone}', '{stays}']) setAnswer('guidance', id, {{items: ['start-1']}})")
    name = {page.pseudonym(name): name for name in ("Ada Kowalska", "Bilal Moreau")}[stays]
    write(
        tmp_path / "report",
        [
            record
            for record in (a_submission("Ada Kowalska", 1, "one"), a_submission("Bilal Moreau", 2, "two"))
            if record.submission == name
        ],
    )
    marking.mark(tmp_path / "report")
    again = opened(path, context=tab.context)
    assert again.locator("[data-question=guidance]").inner_text() == "2.5 Guidance weight 1 of 1"
    assert set(json.loads(saved(again, tmp_path).read_text())["answers"]) == {stays}, "what this class has"
    again.evaluate("localStorage.setItem(STORE, '{damaged')")
    last = opened(path, context=tab.context)
    assert "is put aside" in last.locator("#status").inner_text()
    assert last.evaluate("localStorage.getItem(`${STORE}, damaged`)") == "{damaged"


def test_markers_who_differ_are_asked(opened, tmp_path):
    path = small_report(tmp_path / "report")
    files = []
    for initials, key in (("AB", "1"), ("CD", "3")):
        tab = opened(path)
        tab.get_by_label("Your initials").fill(initials)
        press(tab, "Escape", "j", key)
        files.append(saved(tab, tmp_path))
    tab.locator("#load").set_input_files(files[0])
    said(tab, "markers differ on answers (1): see there")
    differ = tab.locator("article .differ").first
    assert "AB: 3 for" in differ.inner_text() and "CD: 0 for" in differ.inner_text()
    tab.get_by_role("button", name="Take that of AB").click()
    decided = saved(tab, tmp_path)
    assert marking.mark(tmp_path / "report", [*files[:1], decided]) == ([], [])
    assert 3 in [value for row in marks_file.read(tmp_path / "report")["points"].values() for value in row.values()]
    (tmp_path / "names.json").write_text((tmp_path / "report" / "marks.json").read_text())
    for name, words in (("names.json", "has names and is not for it"), ("bad.json", "is not taken")):
        (tmp_path / "bad.json").write_text('{"rubric": {}, "answers": {"__proto__": 3}}')
        tab.locator("#load").set_input_files(tmp_path / name)
        said(tab, words)


HARM = (
    '<img src=x onerror="window.harm=1"><svg onload="window.harm=1"></svg><script>window.harm=1</script><a href="javascript:harm=1">x</a>'
)


def test_nothing_that_others_wrote_runs(opened, tmp_path):
    """In answers, in names, and in the items and comments of a file that is loaded."""
    shown = tuple((kind, f"</pre></script>{HARM}{EVIL}") for kind in ("text", "code", "output"))
    record = a_submission(f"eve{HARM}", 1)
    sections = tuple(dataclasses.replace(each, shown=shown, notes=(HARM,)) if each.points is None else each for each in record.sections)
    path = small_report(tmp_path / "report", dataclasses.replace(record, sections=sections, notes=(HARM,)))
    tab = opened(path)
    marks = tab.evaluate("marks")
    (key,) = {each["key"] for each in tab.evaluate("page.sections")} & {"guidance"}
    identity = tab.evaluate(f"questions.{key}.answers[0]")
    marks["rubric"][key]["item-1"] = [version("h1", text=HARM, points=1, by=HARM), version("h2", text=f"{HARM}2", points=2, by=HARM)]
    marks["answers"][identity["id"]] = {
        key: [version(f"h{n}", items=["item-1"], shown=identity["shown"], comment=f"{HARM}</textarea>{n}", by=HARM) for n in (1, 2)]
    }
    (tmp_path / "evil.json").write_text(json.dumps(marks))
    tab.locator("#load").set_input_files(tmp_path / "evil.json")
    said(tab, "is taken")
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.harm") is None and tab.locator("img[src=x], svg, a").count() == 0
    assert tab.evaluate("document.scripts.length") == 2
    tab.evaluate("document.body.append(Object.assign(document.createElement('div'), {innerHTML: '<img src=x onerror=\"window.harm=1\">'}))")
    tab.wait_for_timeout(200)
    assert tab.evaluate("window.harm") is None, "even markup that got in would be dead: the policy"
    for other in (path.parent / "index.html", *(path.parent / "students").iterdir()):
        assert opened(other).evaluate("window.harm") is None


def random_tables(drawn):
    """The rubric and answers of two files with common and own versions, for both implementations of the merge."""
    pool = [
        version(f"r{n}", sorted({f"r{drawn.randrange(n)}" for _ in range(drawn.randrange(3)) if n}), by=drawn.choice("AB"),
                at=f"2026-01-0{drawn.randrange(1, 4)}", items=drawn.sample(["a-1", "b-2"], drawn.randrange(3)), shown="s")
        for n in range(8)
    ]  # fmt: skip
    items = [version(f"i{n}", [f"i{n - 1}"] * (n > 1), text=drawn.choice("xy"), points=drawn.choice([1, 2.5])) for n in range(4)]
    one = lambda: {
        "rubric": {"guidance": {"a-1": drawn.sample(items, 2), "b-2": items[:1]}},
        "answers": {"X": {"guidance": drawn.sample(pool, drawn.randrange(1, 5))}},
    }
    return one(), one()


def test_the_browser_merges_as_the_command_does(opened, tmp_path):
    tab = opened(small_report(tmp_path / "report"))
    drawn = random.Random(0)
    for _ in range(300):
        one, other = random_tables(drawn)
        theirs = tab.evaluate("([one, other]) => ['rubric', 'answers'].map((each) => mergedTable(one[each], other[each]))", [one, other])
        ours = marks_file.merged(marks_file.new() | one, marks_file.new() | other)
        assert theirs == [ours["rubric"], ours["answers"]]


def test_another_tab_takes_neither_the_focus_nor_what_is_typed_and_is_not_overwritten(opened, tmp_path):
    """The other tab's news come as an event of the browser's storage."""
    tab = opened(small_report(tmp_path / "report"))
    tab.evaluate("ask('guidance')")
    press(tab, "j", "c")
    tab.keyboard.type("old")
    press(tab, "Escape", "c")
    tab.evaluate(
        """() => {
          const [id] = Object.keys(marks.answers), other = structuredClone(marks);
          const [before] = other.answers[id].guidance;
          other.answers[id].guidance = [{ ...before, comment: "newer", revision: "ff", after: [...before.after, before.revision] }];
          dispatchEvent(new StorageEvent("storage", { key: STORE, newValue: JSON.stringify({ ...other, unsaved: true }) }));
          writeComment(document.activeElement); // as when the tab is left
        }"""
    )
    comment = "Object.values(marks.answers)[0].guidance.map((each) => each.comment)"
    assert tab.evaluate(comment) == ["newer"], "nothing had been typed since"
    tab.keyboard.type("er")
    assert tab.evaluate("document.activeElement.value") == "older"
    press(tab, "Escape")
    assert tab.evaluate(comment) == ["older"] and tab.evaluate("document.activeElement.tagName") != "BODY"


def test_the_browser_counts_as_the_command_does(opened, tmp_path):
    tab = opened(small_report(tmp_path / "report"))
    for _ in range(2):  # the second time the answer has the focus already
        tab.evaluate("ask('guidance')")
        press(tab, "j")
    for points, expected in ((9, 4), (-2, 0), (0.1, 1.1)):
        tab.evaluate(f"setItem('guidance', 'start-1', {{points: {points}}}); draw()")
        press(tab, *("1" if not tab.locator("article.current input[value=start-1]").is_checked() else ""))
        press(tab, *("2" if points == 0.1 else ""))
        marking.mark(tmp_path / "report", [saved(tab, tmp_path)])
        (row,) = marks_file.read(tmp_path / "report")["points"].values()
        assert row["guidance"] == pytest.approx(expected) and f"Marks: {expected} / 4" in total(tab)


# Readable by all.


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(browser, opened, tmp_path, view, scheme):
    source = axe_source()
    small_report(
        tmp_path / "report", *(a_submission(name, number, pictures=True) for number, name in enumerate(("Ada Kowalska", "Bilal Moreau")))
    )
    width, height, scale = VIEWS[view]
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=scheme)
    students = sorted((tmp_path / "report" / "students").iterdir())
    (tmp_path / "report" / "again.html").write_text(changes.page("autumn", [("Ada Kowalska", MOVED)], [REQUEST]))
    for path in (*sorted((tmp_path / "report").glob("*.html")), students[0]):
        tab = opened(path, context=context)
        if path.name == "mark.html":
            press(tab, "j", "1", "r", "Escape")  # with an answer marked and the rubric open
            tab.evaluate("document.querySelector('header details').open = true")
        assert violations(tab, source) == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, f"{path.name} is cut off, or has to be scrolled sideways"


@pytest.fixture(scope="module")
def of_a_class(tmp_path_factory):
    """The pages on what is alike in a class of thirty, and on what it did not understand."""
    folder = tmp_path_factory.mktemp("class")
    made = lay_out_class(folder / "class")
    write_report(folder / "report", [record(name, row) for name, row in made.items()])
    main(["alike", str(folder / "class"), "--report", str(folder / "report"), "--out", str(folder / "alike.html")])
    main(["lecture", str(folder / "report"), "--submissions", str(folder / "class"), "--out", str(folder / "lecture.html")])
    return folder


@pytest.mark.parametrize("view, scheme", [("window", "light"), ("200 %", "dark"), ("telephone", "dark")])
@pytest.mark.parametrize("name", ["alike", "lecture"])
def test_axe_finds_nothing_on_the_pages_of_a_class(browser, opened, of_a_class, name, view, scheme):
    width, height, scale = VIEWS[view]
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme=scheme)
    tab = opened(of_a_class / f"{name}.html", context=context)
    assert violations(tab, axe_source()) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [600, 1000, 1400])
@pytest.mark.parametrize("held", [False, True])  # a key that is held comes again before the browser has drawn what is passed
def test_the_bar_covers_no_answer(opened, tmp_path, width, held):
    tab = opened(small_report(tmp_path / "report"), viewport={"width": width, "height": 700})
    if held:
        tab.evaluate("for (const key of ']jj') document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))")
    else:
        press(tab, "]", "j", "j")
    tab.wait_for_timeout(100)
    heading, bar = (tab.evaluate(f"document.querySelector('{name}').getBoundingClientRect()") for name in ("article.current h3", ".bar"))
    assert bar["bottom"] <= heading["top"] < 700 - 30


def test_axe_would_find_something(opened, tmp_path):
    page_of_class = pages.class_page("autumn", [a_submission("Ada Kowalska", 1)])
    harm = {' lang="en"': "", ' alt="Histogram[^"]*"': "", "--quiet: #565f6b": "--quiet: #b0b5bb", "<main>": "<div>"}
    for old, new in harm.items():
        page_of_class, count = re.subn(old, new, page_of_class)
        assert count
    (tmp_path / "bad.html").write_text(page_of_class)
    found = " ".join(violations(opened(tmp_path / "bad.html"), axe_source()))
    for rule in ("html-has-lang", "image-alt", "color-contrast", "landmark-one-main"):
        assert f"{rule}:" in found
