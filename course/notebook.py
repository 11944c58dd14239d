"""The parts of a submitted notebook that a person marks. Its file is only read, as JSON: nothing in it runs."""

import base64
import binascii
import functools
import io
import json
import re
from pathlib import Path

import nbformat
from PIL import Image

from course.handout import ANSWER, NOTEBOOK, ROOT
from course.plain import plain

# Where a part begins: the first cell with one of nbgrader's ids, or with this heading. It ends where a later part begins.
PARTS = {
    "training": ({"solver"}, "full training"),
    "guidance": ({"guidance", "guidance-answer"}, "guidance weight"),
    "customise": ({"customise", "customise-answer"}, "customise"),
    "end": (set(), "hand in"),
}
MAX_BYTES = 20_000_000  # of the file
MAX_PIECES = 60         # of a part
MAX_CHARACTERS = {"text": 20_000, "code": 10_000, "output": 4_000}
MAX_PNG = 2_000_000     # bytes of a picture …
MAX_SIDE = 4_000        # … and its pixels a side


def pieces(path, key):
    """A part of a notebook, key "training", "guidance" or "customise", in its order: ("text" | "code" | "output", text) or ("png", base64).

    Pictures are PNG files that decode; HTML, SVG and JavaScript are left out, and so is what the course itself says in the notebook.
    Raises nothing: a notebook that cannot be read gives one text that says why.
    """
    name = Path(path).name
    try:
        cells = _cells(Path(path))
    except Exception as error:  # a file made by anyone can go wrong in any way
        return (("text", f"{name} cannot be shown: {plain(str(error))[:200] or type(error).__name__}"),)
    begins = {part: _begin(cells, *marks) for part, marks in PARTS.items()}
    if begins[key] is None:
        return (("text", f"{name} has no part {PARTS[key][1]!r}: neither its cells nor its heading are there."),)
    later = [place for place in begins.values() if place is not None and place > begins[key]]
    own = [cell for cell in cells[begins[key] : min(later, default=None)] if cell["source"].strip() not in _said_by_the_course()]
    found = [piece for cell in own for piece in _pieces_of(cell)]
    if len(found) > MAX_PIECES:
        found[MAX_PIECES:] = [("text", f"… and {len(found) - MAX_PIECES} more, which are in the notebook only.")]
    return tuple(found)


def _cells(path):
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is not there, or is not a file")
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        notebook = json.loads(content)
        if notebook["nbformat"] < 4:
            notebook = nbformat.reads(content.decode("utf-8"), as_version=4)
        return [{**cell, "cell_type": cell["cell_type"], "source": _joined(cell["source"])} for cell in notebook["cells"]]
    except Exception as error:
        raise ValueError(f"it is no Jupyter notebook ({type(error).__name__})") from error


@functools.cache
def _said_by_the_course():
    """The texts of the course's notebook, without the answers; none where it is not there, as on a platform."""
    try:
        cells = _cells(ROOT / NOTEBOOK)
    except ValueError:
        return frozenset()
    answers = [bool(cell["metadata"].get("nbgrader", {}).get("solution")) for cell in cells]
    given = [cell["source"].strip() for cell, answer in zip(cells, answers) if cell["cell_type"] == "markdown" and not answer]
    return frozenset([*given, ANSWER])


def _begin(cells, ids, title):
    """The first cell that carries one of the ids or the title as its heading, or None."""
    heading = re.compile(rf"^#{{1,6}}\s*[\d.]*\s*{title}\b", re.IGNORECASE | re.MULTILINE)
    for place, cell in enumerate(cells):
        metadata = cell.get("metadata")
        marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        if isinstance(marks, dict) and str(marks.get("grade_id")) in ids:
            return place
        if cell["cell_type"] == "markdown" and heading.search(cell["source"]):
            return place
    return None


def _pieces_of(cell):
    """Its source, then what it shows; texts that follow each other become one."""
    found = [("code" if cell["cell_type"] == "code" else "text", cell["source"])]
    try:
        pictures = [picture["image/png"] for picture in cell.get("attachments", {}).values()]  # pasted into an answer
        shown = [_picture(_joined(picture)) for picture in pictures] + [_shown(output) for output in cell.get("outputs", [])]
    except (AttributeError, KeyError, TypeError):
        shown = [("output", "(what this cell shows is not as Jupyter writes it)")]
    for kind, content in shown:
        if kind == found[-1][0] == "output":
            found[-1] = (kind, found[-1][1] + content)
        else:
            found.append((kind, content))
    return [piece if piece[0] == "png" else _bounded(*piece) for piece in found if piece[1].strip()]


def _shown(output):
    """What of an output can be shown: its picture, or else its text."""
    if output["output_type"] == "stream":
        said = _joined(output["text"])
    elif output["output_type"] == "error":
        said = f"{output['ename']}: {output['evalue']}\n"
    elif "image/png" in output["data"]:
        return _picture(_joined(output["data"]["image/png"]))
    else:
        said = _joined(output["data"].get("text/plain", ""))
    return "output", "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in said.split("\n"))  # a progress bar's last state


def _picture(text):
    """The picture as ("png", base64), or a word on why there is none."""
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
        if len(content) > MAX_PNG:
            return "output", f"(a picture of more than {MAX_PNG // 1_000_000} MB)"
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if max(image.size) > MAX_SIDE:
                return "output", f"(a picture of {image.width} x {image.height} pixels)"
            image.verify()
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "output", "(a picture that is damaged)"
    return "png", base64.b64encode(content).decode()


def _bounded(kind, text):
    text, limit = plain(text), MAX_CHARACTERS[kind]
    return kind, text if len(text) <= limit else text[:limit] + f"\n… ({len(text) - limit:,} characters more)"


def _joined(text):
    """Jupyter writes a text as one or as a list of lines."""
    return "".join(text) if isinstance(text, list) else str(text)
