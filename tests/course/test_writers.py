"""What is made of one record: a text of 80 columns, the platforms' files, and the parts of a notebook that a person marks."""

import base64
import dataclasses
import json

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from records import EVIL, SHIFTED, a_record, png

from course.handout.handout import NOTEBOOK, ROOT
from course.intake import notebook
from course.intake.notebook import pieces
from course.report import writers
from course.report.record import PRINTED, Record, Section, from_json, to_json
from course.report.safe import cell, file_name, plain

EVIL_PLAIN = '<script>alert("x")</script> & "quoted" ?'


def test_a_record_goes_to_json_and_back():
    record = a_record(trained=7.5, notes=("a note",))
    assert from_json(to_json(record)) == record


def test_the_text_fits_a_terminal_and_says_all():
    text = writers.text(a_record(says=(f"received {EVIL}",), notes=("README.md is not asked for. " * 5,)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80 and lines[0].startswith("alice") and lines[0].endswith("20 of 22 points")
    assert "18 more points are given by a person; 40 in all." in text
    assert f"  - beta_t rises linearly from beta_1 at t = 1 to beta_T at t = T{'0 / 2':>15}" in lines
    said = " ".join(text.split())
    for words in (SHIFTED, "(notebook 2.1).", "2.4 Full training … / 8", "an exact number of rows", "1 code cell, 1 picture",
                  "diversity falls", EVIL_PLAIN, "no network, 60 s, 4 GB", "Graded in 12 s."):  # fmt: skip
        assert words in said, words
    assert "      received  0.931778  0.857236  0.760939" in lines, "a table stays a table"


def test_nothing_steers_the_terminal():
    assert plain("a\x1b[31mred\x1b]0;title\x07\r\n\tb\u202e\x00\x9b") == "ared\n\tb"
    assert "\x1b" not in writers.text(a_record(name=f"x{EVIL}", says=(EVIL,)))


def test_gradescope():
    record = a_record(says=(f"received {EVIL}",), notes=("README.md is not asked for.",))
    results = json.loads(writers.gradescope(record))
    assert results["score"] == 20 and results["execution_time"] == 12 and results["stdout_visibility"] == "hidden"
    assert "18 more points are given by a person" in results["output"] and "README.md" in results["output"]
    scored = [test for test in results["tests"] if "score" in test and test["max_score"]]
    assert sum(test["score"] for test in scored) == 20 and sum(test["max_score"] for test in scored) == 22
    assert {test["status"] for test in scored} == {"passed", "failed"}
    assert all(test["output_format"] == "text" and test["visibility"] == "visible" for test in results["tests"])
    (wrong,) = [test for test in scored if test["status"] == "failed"]
    assert wrong["name"].startswith("2.1 Variance schedule: beta_t rises") and SHIFTED in wrong["output"] and EVIL_PLAIN in wrong["output"]
    assert [test["name"] for test in results["tests"] if "score" not in test] == [
        f"{title}: a person marks this part" for title in ("2.4 Full training", "2.5 Guidance weight", "2.6 Customise")
    ]
    assert results["extra_data"]["by_hand"] == {"training": 8, "guidance": 4, "customise": 6}
    assert results["extra_data"]["misconceptions"] == [SHIFTED]
    numbers = [test["number"] for test in results["tests"]]
    assert len(set(numbers)) == len(numbers)


def test_prairielearn():
    results = json.loads(writers.prairielearn(a_record(swapped=True, trained=7.5, notes=("README.md is not asked for.",))))
    assert results["gradable"] is True and "format_errors" not in results
    assert results["score"] == pytest.approx(25 / 30)
    assert sum(test["points"] for test in results["tests"]) == 25 and sum(test["max_points"] for test in results["tests"]) == 30
    assert all(isinstance(test["points"], int | float) for test in results["tests"]), "one without points hides those of all"
    assert json.loads(writers.prairielearn(a_record(shifted=False, trained=8)))["score"] == 1


def test_what_a_submission_printed_makes_no_zero_an_attempt_that_is_not_counted():
    record = Record("a", (Section("network", "1", 0, 6),), (f"{PRINTED}hello",))
    assert json.loads(writers.prairielearn(record))["gradable"]


def test_what_cannot_be_checked_costs_no_attempt_on_prairielearn():
    sections = Section("network", "1. Denoising network", 0, 6), Section("guidance", "2.5", None, 4)
    empty = Record("bob", sections, ("ResUNet.py is missing.",))
    unwritten = dataclasses.replace(empty, notes=())
    assert json.loads(writers.prairielearn(unwritten))["gradable"] is True
    results = json.loads(writers.prairielearn(empty))
    assert results["gradable"] is False and results["format_errors"] == ["ResUNet.py is missing."] and "score" not in results
    assert json.loads(writers.gradescope(empty))["score"] == 0 and "ResUNet.py is missing." in writers.text(empty)


@pytest.mark.parametrize("write", writers.WRITERS.values())
def test_files_of_platforms_can_be_written_whatever_a_student_wrote(write):
    text = write(a_record(name=EVIL, says=(EVIL, "\ud83d alone"), notes=(EVIL,)))
    assert "\x00" not in text and "\\u0000" not in text and "\\ud8" not in text
    text.encode("utf-8")


def test_cells_are_no_formulas_and_file_names_are_ordinary():
    assert [cell(text) for text in ("=1+1", " +1", "-kim", "@x", "\t=1", "a=b", 3)] == ["'=1+1", "'+1", "'-kim", "'@x", "'=1", "a=b", 3]
    names = ["alice", "Alice B", "../../etc/passwd", "x" * 300, "名前", "名字", ".hidden", "a\udcff"]
    made = list(map(file_name, names))
    assert made[0] == "alice" and len(set(made)) == len(names)
    assert all(len(name) < 80 and name.isascii() and "/" not in name and not name.startswith(".") for name in made)


# The notebook.


def write(tmp_path, *cells, name="n.ipynb"):
    path = tmp_path / name
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def marked(cell, grade_id):
    cell.metadata["nbgrader"] = {"grade_id": grade_id, "points": 1, "grade": True, "locked": False, "solution": True, "schema_version": 3}
    return cell


@pytest.mark.parametrize("key, begin, end, pictures", [("training", "history =", "playground(", 3), ("guidance", "omegas =", "**Answer.**", 1),
                                                       ("customise", "custom_name =", "**Answer.**", 1)])  # fmt: skip
def test_the_parts_of_the_notebook(key, begin, end, pictures):
    found = pieces(ROOT / NOTEBOOK, key)
    texts = [content for kind, content in found if kind != "png"]
    assert texts[0].startswith(begin) and end in texts[-1] and [kind for kind, _ in found].count("png") == pictures
    assert not [text for text in texts if text.startswith("#")], "what the course says"


def test_a_part_is_found_by_its_heading_where_the_ids_are_lost():
    given = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    whole = {key: pieces(ROOT / NOTEBOOK, key) for key in ("training", "guidance", "customise")}
    for each in given.cells:
        each.metadata.pop("nbgrader", None)
    assert {key: notebook._begin(given.cells, *notebook.PARTS[key]) for key in whole} == {"training": 26, "guidance": 32, "customise": 37}


def test_a_part_is_found_by_its_id_where_the_heading_is_lost(tmp_path):
    path = write(tmp_path, new_markdown_cell("mine"), marked(new_markdown_cell("my answer"), "guidance-answer"), new_markdown_cell("more"),
                 new_markdown_cell("## Hand in\nfiles"))  # fmt: skip
    assert pieces(path, "guidance") == (("text", "my answer"), ("text", "more"))


def shows(tmp_path, *outputs, **more):
    path = write(tmp_path, marked(new_code_cell("x", outputs=list(outputs)), "customise"))
    if more:
        content = json.loads(path.read_text())
        content["cells"][0].update(more)
        path.write_text(json.dumps(content))
    return pieces(path, "customise")[1:]


def test_outputs_are_text_and_pictures_only(tmp_path):
    bar = new_output("stream", name="stderr", text="10%\r100%\n")
    red = new_output("error", ename="ValueError", evalue="\x1b[31mno\x1b[0m", traceback=["…"])
    html = new_output("display_data", {"text/html": "<script>1</script>", "text/plain": "<Table>"})
    picture = new_output("display_data", {"image/png": png(), "text/html": "<b>"})
    active = new_output("display_data", {"image/svg+xml": "<svg onload=1>", "application/javascript": "alert(1)"})
    assert shows(tmp_path, bar, red, html, picture, active) == (("output", "100%\nValueError: no\n<Table>"), ("png", png()))


@pytest.mark.parametrize(
    "content, why",
    [
        ("AAAA", "damaged"),
        ("!!", "damaged"),
        (base64.b64encode(b"GIF89a" + b"\x00" * 50).decode(), "damaged"),
        (png()[:80], "damaged"),
        (png(5000, 2), "5000 x 2 pixels"),
        (base64.b64encode(base64.b64decode(png()) + b"\x00" * 3_000_000).decode(), "more than 2 MB"),
    ],
)
def test_a_picture_that_is_none_is_said_to_be_so(tmp_path, content, why):
    ((kind, said),) = shows(tmp_path, new_output("display_data", {"image/png": content}))
    assert kind == "output" and why in said


def test_a_pasted_picture_is_shown_and_long_texts_are_cut(tmp_path):
    answer = marked(new_markdown_cell("x" * 30_000, attachments={"a.png": {"image/png": png()}}), "guidance-answer")
    (kind, text), picture = pieces(write(tmp_path, answer), "guidance")
    assert kind == "text" and len(text) < 20_100 and text.endswith("(10,000 characters more)") and picture == ("png", png())
    many = [new_code_cell(str(i)) for i in range(500)]
    found = pieces(write(tmp_path, marked(new_code_cell("x"), "solver"), *many), "training")
    assert len(found) == 61 and "441 more" in found[-1][1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"cells": 3, "nbformat": 4}', b"[" * 100_000, b"\xff\xfe", b'{"nbformat": 4}',
                                     b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [1]}', b" " * 20_000_001])  # fmt: skip
def test_a_file_that_is_no_notebook_gives_one_friendly_text(tmp_path, content):
    path = tmp_path / "n.ipynb"
    path.write_bytes(content)
    ((kind, text),) = pieces(path, "training")
    assert kind == "text" and text.startswith("n.ipynb cannot be shown: it is ") and len(text) < 150


def test_a_notebook_that_is_missing_a_link_or_lacks_the_part(tmp_path):
    assert "is not there" in pieces(tmp_path / "n.ipynb", "training")[0][1]
    (tmp_path / "secret.ipynb").symlink_to(ROOT / NOTEBOOK)
    assert "is not a file" in pieces(tmp_path / "secret.ipynb", "training")[0][1]
    assert "has no part 'full training'" in pieces(write(tmp_path, new_markdown_cell("hello")), "training")[0][1]


@pytest.mark.parametrize("more", [{"outputs": 3}, {"outputs": [3]}, {"outputs": [{"output_type": "display_data", "data": []}]},
                                  {"attachments": 3}, {"metadata": {"nbgrader": {"grade_id": "customise"}}, "outputs": [{}]}])  # fmt: skip
def test_an_odd_cell_costs_only_itself(tmp_path, more):
    assert shows(tmp_path, **more) == (("output", "(what this cell shows is not as Jupyter writes it)"),)


def test_a_record_without_anything_can_be_written():
    empty = dataclasses.replace(a_record(), sections=())
    assert [bool(write(empty)) for write in writers.WRITERS.values()] == [True] * 3
