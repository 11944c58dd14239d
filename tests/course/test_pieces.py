"""What is read of a submitted notebook: pictures of both kinds, old formats, encodings; and in linear time."""

import base64
import io
import json
import time

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from PIL import Image
from records import a_record, png

from course.intake.notebook import RUNS, pieces, runs
from course.report import pages


def jpeg(size=(8, 8)):
    content = io.BytesIO()
    Image.new("RGB", size).save(content, "JPEG")
    return base64.b64encode(content.getvalue()).decode()


def write(tmp_path, *cells, encoding="utf-8"):
    (tmp_path / "n.ipynb").write_bytes(
        json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}, ensure_ascii=False).encode(encoding)
    )
    return tmp_path / "n.ipynb"


def shown(tmp_path, **data):
    output = new_output("display_data", {f"image/{kind}": content for kind, content in data.items()})
    return pieces(write(tmp_path, new_markdown_cell("## 2.6 Customise\nmine"), new_code_cell("x", outputs=[output])), "customise")[2:]


def test_pictures_are_png_and_jpeg(tmp_path):
    assert shown(tmp_path, jpeg=jpeg()) == (("jpeg", jpeg()),)
    assert shown(tmp_path, png=png(), jpeg=jpeg()) == (("png", png()),)
    assert shown(tmp_path, png=jpeg()) == (("jpeg", jpeg()),), "what it is, not what it is called"
    assert "damaged" in shown(tmp_path, jpeg="AAAA")[0][1] and "5000 x 2 pixels" in shown(tmp_path, jpeg=jpeg((5000, 2)))[0][1]
    answer = new_markdown_cell(
        "## 2.6 Customise\nmine", attachments={"a.jpg": {"image/jpeg": jpeg()}, "a.svg": {"image/svg+xml": "<svg/>"}}
    )
    assert pieces(write(tmp_path, answer), "customise")[1:] == (("jpeg", jpeg()),)


def test_a_jpeg_is_on_the_page():
    record = a_record()
    shown = record.sections[-1].__class__("customise", "2.6", None, 6, shown=(("jpeg", jpeg()),))
    page = pages.student_page(record.__class__("bob", (shown,)))
    assert f'src="data:image/jpeg;base64,{jpeg()}"' in page


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_notebook_in_another_encoding(tmp_path, encoding):
    assert pieces(write(tmp_path, new_markdown_cell("## 2.6 Customise\ngröße"), encoding=encoding), "customise")[0][1].endswith("größe")


def test_a_notebook_of_nbformat_3(tmp_path):
    outputs = [{"output_type": "pyout", "text": ["1\n", "2"]}, {"output_type": "display_data", "png": png(), "text": "no"},
               {"output_type": "pyerr", "ename": "E", "evalue": "e"}, {"output_type": "stream", "text": "s"}]  # fmt: skip
    cells = [
        {"cell_type": "heading", "level": 10**9, "source": ["2.6 Customise"]},
        {"cell_type": "code", "input": ["x"], "outputs": outputs},
    ]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}))
    assert pieces(path, "customise") == (
        ("text", "###### 2.6 Customise"),
        ("code", "x"),
        ("output", "1\n2"),
        ("png", png()),
        ("output", "E: e\ns"),
    )
    path.write_text(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells[:1] + cells[1:] * 10_000}]}))
    start = time.process_time()
    assert len(pieces(path, "customise")) == 61 and time.process_time() - start < 2


def test_only_what_is_shown_is_looked_at(tmp_path):
    output = new_output("display_data", {"image/jpeg": jpeg((1, 1))})
    path = write(tmp_path, new_markdown_cell("## 2.6 Customise\nmine"), {**new_code_cell("x"), "outputs": [output] * 10_000})
    start = time.process_time()
    assert "443 more" in pieces(path, "customise")[-1][1] and time.process_time() - start < 2


@pytest.mark.parametrize(
    "text", ["# " + " " * 10**6, "#" * 10**6, "# " + "1" * 10**6, ("#" + "\t" * 99) * 10**4, "# 1 " * 10**5, "\n" * 10**6, "#\n" * 10**5]
)
def test_no_heading_takes_long(tmp_path, text):
    start = time.process_time()
    assert "has no part" in pieces(write(tmp_path, new_markdown_cell(text)), "customise")[0][1]
    assert time.process_time() - start < 5


@pytest.mark.parametrize("heading", ["## 2.6 Customise", "###   2.6\tCUSTOMISE (5 points)", "# customise", "text\n## 2.6 Customise"])
def test_a_heading_as_a_student_may_write_it(tmp_path, heading):
    assert pieces(write(tmp_path, new_markdown_cell(heading), new_code_cell("x")), "customise")[-1] == ("code", "x")


def test_the_names_of_runs(tmp_path):
    assert runs(tmp_path / "nowhere") == RUNS
    cells = [
        new_code_cell(source)
        for source in ("!pip install x\nexp_name = 'a'", "solver(c, exp_name, l, t)\nother = 'no'", "exp_name = (", "exp_name = 3")
    ]
    assert runs(write(tmp_path, *cells)) == ({"a"}, set())
    custom = [new_markdown_cell("## 2.6 Customise"), new_code_cell("custom_name = 'b'\nsolver(c, 'c', l, t)\nexp_name = 'd'")]
    assert runs(write(tmp_path, *cells, *custom)) == ({"a"}, {"b", "c", "d"})
    many = [new_code_cell(f"exp_name = '{number}'") for number in range(1000)]
    assert len(runs(write(tmp_path, *many))[0]) == 20, "each takes time to parse"
