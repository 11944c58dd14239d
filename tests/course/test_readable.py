"""Readable by all, as far as it shows without a browser: structure and colours of the pages, texts for figures. test_browser asks axe-core."""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from a_class import a_submission

from course.marking import marks as marks_file
from course.marking import page
from course.report import changes, pages
from ResUNet import ConditionalUnet

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(pages.__file__).parent / "templates"
LEAST = {"text": 4.5, "line": 3}  # contrast, WCAG 2.2 (1.4.3, 1.4.11)
MOVED = {"when": "2026-01-01 10:00", "why": "a check has changed", "from": 20, "to": 22, "rows": [
    {"section": "2.1", "what": "beta_t rises", "from": 0, "to": 2, "says": "It was right."}]}  # fmt: skip
REQUEST = {"submission": "Ada Kowalska", "section": "2.1", "request": "please", "answer": "", "now": "2 / 4", "known": True}
LINES = {"line"}  # colours of borders of things to use; those of separators, "faint", carry no meaning


@pytest.fixture(scope="module")
def made():
    """{name: HTML} of the three kinds of pages, with all that they can hold."""
    records = [a_submission("Ada Kowalska", 0, "ω = 2"), a_submission("Bilal Moreau", 1)]
    given = {"guidance": marks_file.Given(3, (("right", 3),), "well done"), "customise": marks_file.Given(None, why="two markers differ")}
    return {
        "class": pages.class_page("autumn", records, [("eve", "why")], {"Ada Kowalska": given}),
        "student": pages.student_page(records[0], given),
        "mark": page.page("autumn", records, marks_file.new()),
        "again": changes.page("autumn", [("Ada Kowalska", MOVED)], [REQUEST]),
    }


class Tags(HTMLParser):
    """The tags of a page in their order, as (name, attributes, names of those around it)."""

    EMPTY = {"img", "meta", "input", "br", "source"}

    def __init__(self, text):
        super().__init__()
        self.around, self.found = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), tuple(self.around)))
        if tag not in self.EMPTY:
            self.around.append(tag)

    def handle_endtag(self, tag):
        assert self.around.pop() == tag, f"</{tag}> closes something else"

    def all(self, *names):
        return [each for each in self.found if each[0] in names]


def wrong_in(html):
    """What breaks a structural rule, in words."""
    tags = Tags(html)
    ids = [attributes["id"] for _, attributes, _ in tags.found if "id" in attributes]
    levels = [int(tag[1]) for tag, _, _ in tags.all("h1", "h2", "h3", "h4")]
    labelled = {attributes["for"] for _, attributes, _ in tags.all("label") if "for" in attributes}
    if tags.all("html")[0][1].get("lang") != "en" or len(tags.all("title")) != 1:
        yield "no language or title"
    if len(tags.all("main")) != 1 or levels[:1] != [1] or levels.count(1) != 1:
        yield "not one main part and one first heading"
    if any(after > before + 1 for before, after in itertools.pairwise(levels)):
        yield f"a heading's level is skipped: {levels}"
    if len(set(ids)) < len(ids):
        yield "an id stands twice"
    for _, attributes, _ in tags.all("img"):
        if len(attributes.get("alt") or "") < 20:
            yield f"a picture without a text that says what it is: {attributes.get('alt')!r}"
    for tag, attributes, around in tags.all("input", "textarea", "select"):
        if "label" not in around and attributes.get("id") not in labelled and not attributes.get("aria-label"):
            yield f"no label: {tag} {attributes}"
    for _, attributes, around in tags.all("th"):
        if "scope" not in attributes:
            yield "a heading of a table that does not say of what"
    for tag, attributes, _ in tags.found:
        if not set(attributes.get("aria-labelledby", "").split()) <= set(ids):
            yield f"{tag} is named by something that is not there"
        if tag == "pre" and (attributes.get("tabindex") != "0" or not attributes.get("aria-label")):
            yield "a box that scrolls and cannot be reached by keyboard"


@pytest.mark.parametrize("name", ["class", "student", "mark", "again"])
def test_the_structure_of_a_page(made, name):
    assert list(wrong_in(made[name])) == []


@pytest.mark.parametrize(
    "name, old, new, words",
    [
        ("class", '<html lang="en">', "<html>", "no language"),
        ("class", "<main>", "<main></main><main>", "not one main"),
        ("student", "<h1>Ada Kowalska</h1>", "<h1>Ada Kowalska</h1><h3></h3>", "level is skipped"),
        ("student", ': picture 1 of 1, from the submitted notebook; nobody has described it"', '"', "a picture without a text"),
        ("mark", '<label for="load">', "<label>", "no label: input"),
        ("class", ' scope="row"', "", "a heading of a table"),
        ("mark", 'id="question-guidance"', 'id="question"', "named by something that is not there"),
        ("student", ' tabindex="0"', "", "cannot be reached by keyboard"),
        ("mark", 'id="save"', 'id="load"', "an id stands twice"),
    ],
)
def test_the_rules_find_what_is_wrong(made, name, old, new, words):
    assert old in made[name] and any(words in each for each in wrong_in(made[name].replace(old, new)))


# Colours.


def luminance(colour):
    """WCAG's relative luminance of #rrggbb."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def styles():
    return "\n".join((TEMPLATES / name).read_text("utf-8") for name in ("base.html", "mark.html"))


def test_every_text_can_be_read_on_every_background_by_day_and_by_night():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    text = styles()
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", rules)) for rules in re.findall(r":root \{(.*?)\}", text, re.S)]
    assert len(schemes) == 2 and set(schemes[0]) == set(schemes[1])
    inks = set(re.findall(r"[;{ ]color: var\(--(\w+)\)", text))
    papers = set(re.findall(r"background: var\(--(\w+)\)", text))
    assert inks >= {"ink", "quiet", "link", "right", "wrong"} and papers >= {"paper", "raised", "say", "note"}
    for colours, paper in itertools.product(schemes, papers):
        for ink in inks:
            assert contrast(colours[ink], colours[paper]) >= LEAST["text"], f"{ink} on {paper}: {colours[ink]} on {colours[paper]}"
        for line in LINES:
            assert contrast(colours[line], colours[paper]) >= LEAST["line"], f"{line} on {paper}"
    for bars, ink, paper in pages.COLORS:
        assert contrast(ink, paper) >= LEAST["text"] and contrast(bars, paper) >= LEAST["line"]
    assert [colors[2] for colors in pages.COLORS] == [colours["paper"] for colours in schemes]


def test_a_colour_stands_in_one_place():
    outside = re.sub(r":root \{.*?\}", "", styles(), flags=re.S)
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b(?=[;} ])|rgba?\(|color: (?!var)[a-z]+;", re.sub(r"color-scheme: [^;]*;", "", outside))


# Texts for figures.


def test_every_figure_of_the_notebook_has_a_text():
    cells = json.loads((ROOT / "ConditionalDDPM.ipynb").read_text("utf-8"))["cells"]
    shows = [place for place, cell in enumerate(cells) if any("image/png" in output.get("data", ()) for output in cell.get("outputs", ()))]
    texts = [cells[place]["metadata"].get("alt", "") for place in shows]
    assert len(texts) == 14 and all(len(text) > 60 for text in texts), "in the cell's metadata, which a new run leaves as it is"
    for place in (place for place in shows if "pics/" in "".join(cells[place]["source"])):
        above = next("".join(cell["source"]) for cell in cells[place::-1] if cell["cell_type"] == "markdown")
        assert re.search(r"<details><summary>The next (two )?figures? in words</summary>\n\n.{300,}\n\n</details>", above, re.S)


def test_the_network_in_words_names_every_block():
    (words,) = re.findall(r"The next figure in words.*?</details>", (ROOT / "ConditionalDDPM.ipynb").read_text("utf-8"), re.S)
    blocks = [name for name, _ in ConditionalUnet(1, 8).named_children()]
    assert len(blocks) > 12 and [name for name in blocks if name not in words] == []


@pytest.mark.parametrize("name", ["README.md", "lab/README.md", "course/README.md", "explorations/README.md", "ConditionalDDPM.ipynb"])
def test_every_picture_in_a_text_has_a_text(name):
    text = (ROOT / name).read_text("utf-8")
    found = re.findall(r'<img [^>]*?alt=\\?"([^"\\]*)', text) + re.findall(r"!\[([^\]]*)\]\(", text)
    assert len(found) == len(re.findall(r"<img ", text)) + len(re.findall(r"!\[", text)), "a picture without alt"
    assert [alt for alt in found if len(alt) < 20] == []
