"""The parts of a submitted notebook that a person marks, and the names of its runs. Its file is only read, as JSON: nothing in it runs."""

import ast
import base64
import binascii
import functools
import io
import json
import re
from pathlib import Path

from PIL import Image

from course.handout.handout import ANSWER, NOTEBOOK, ROOT
from course.intake.imports import nodes
from course.report.safe import plain

# Where a part begins: the first cell with one of nbgrader's ids, or with this heading. It ends where a later part begins.
PARTS = {
    "training": ({"solver"}, "full training"),
    "guidance": ({"guidance", "guidance-answer"}, "guidance weight"),
    "customise": ({"customise", "customise-answer"}, "customise"),
    "end": (set(), "hand in"),
    "flow_guidance": ({"flow_guidance", "flow_guidance-answer"}, "guidance of a flow"),
    "flow_comparison": ({"flow_comparison", "flow_comparison-answer"}, "beside the ddpm"),
}
MAX_BYTES = 20_000_000  # of the file
MAX_PIECES = 60  # of a part
MAX_OUTPUTS = 500  # of a cell
MAX_CELLS = 20  # that are searched for the names of runs
MAX_CHARACTERS = {"text": 20_000, "code": 10_000, "output": 4_000}
MAX_PICTURE = 2_000_000  # bytes of a picture …
MAX_SIDE = 4_000  # … and its pixels a side
PICTURES = {"image/png": "png", "image/jpeg": "jpeg"}
RUNS = ({"digits", "digits_small"}, set())  # names of the course's own runs, as `runs` returns them


def pieces(path, key):
    """A part of a notebook, a key of PARTS, in its order.

    Each is ("text" | "code" | "output", text) or ("png" | "jpeg", base64). HTML, SVG and JavaScript are left out, and so is what the
    course itself says in the notebook. Raises nothing: a notebook that cannot be read gives one text that says why.
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
    found = []
    while own and len(found) <= MAX_PIECES:
        found += _pieces_of(own.pop(0))
    if len(found) > MAX_PIECES:
        found[MAX_PIECES:] = [("text", f"… and {len(found) - MAX_PIECES + len(own)} more, which are in the notebook only.")]
    return tuple(found)


def runs(path):
    """(run names of the full training, of the customised one): the values of exp_name in a notebook's code, and as solver's argument.

    The course's own names if the notebook cannot be read.
    """
    try:
        cells = _cells(Path(path))
    except ValueError:
        return RUNS
    customise = _begin(cells, *PARTS["customise"])
    code = [cell["source"] if cell["cell_type"] == "code" else "" for cell in cells]
    trained, customised = code[:customise], [] if customise is None else code[customise:]
    return _named(trained, "exp_name") or RUNS[0], _named(customised, "exp_name") | _named(code, "custom_name")


def _named(sources, variable):
    """The texts that code assigns to a variable, or gives to solver as its exp_name."""
    sources = [source for source in sources if len(source) <= MAX_CHARACTERS["code"] and re.search(f"{variable}|solver", source)]
    names = set()
    for source in sources[:MAX_CELLS]:
        python = "\n".join("" if line.startswith(("%", "!")) else line for line in source.split("\n"))
        named = (each for node in nodes(python) for each in _given(node, variable))
        names |= {each.value for each in named if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return names


def _given(node, variable):
    """The expressions that a node of a syntax tree gives to a variable or to solver."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "solver" and variable == "exp_name":
        yield from node.args[1:2]
        yield from (keyword.value for keyword in node.keywords if keyword.arg == variable)
    if isinstance(node, ast.Assign):
        for target in node.targets:
            several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = zip(target.elts, node.value.elts) if several else [(target, node.value)]
            yield from (value for name, value in pairs if getattr(name, "id", "") == variable)


def _cells(path):
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is not there, or is not a file")
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
    try:
        notebook = json.loads(content)
        cells = notebook["cells"] if notebook["nbformat"] >= 4 else _upgraded(notebook)
        return [{**cell, "cell_type": cell["cell_type"], "source": _joined(cell["source"])} for cell in cells]
    except Exception as error:
        raise ValueError(f"it is no Jupyter notebook ({type(error).__name__})") from error


def _upgraded(notebook):
    """The cells of a notebook of nbformat 3, as nbformat 4 has them; nbformat's own function takes seconds a megabyte."""
    for cell in (cell for sheet in notebook["worksheets"] for cell in sheet["cells"]):
        kind, source = cell["cell_type"], cell.get("input", cell.get("source", ""))
        if kind == "heading":
            kind, source = "markdown", f"{'#' * min(int(cell['level']), 6)} {_joined(source)}"
        yield {**cell, "cell_type": kind, "source": source, "outputs": [_upgraded_output(output) for output in cell.get("outputs", [])]}


def _upgraded_output(output):
    kind = {"pyout": "execute_result", "pyerr": "error"}.get(output["output_type"], output["output_type"])
    names = {"png": "image/png", "jpeg": "image/jpeg", "text": "text/plain"}
    return {**output, "output_type": kind, "data": {name: output[old] for old, name in names.items() if old in output}}


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
    heading = re.compile(rf"^#{{1,6}}[ \t]{{0,9}}[\d.]{{0,9}}[ \t]{{0,9}}{title}\b", re.IGNORECASE | re.MULTILINE)  # in linear time
    for place, cell in enumerate(cells):
        metadata = cell.get("metadata")
        marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        if isinstance(marks, dict) and str(marks.get("grade_id")) in ids:
            return place
        if cell["cell_type"] == "markdown" and heading.search(cell["source"]):
            return place
    return None


def _pieces_of(cell):
    """A cell's source, then its outputs; consecutive text outputs are joined."""
    found = [("code" if cell["cell_type"] == "code" else "text", cell["source"])]
    try:
        outputs = cell.get("outputs", [])
        pasted = [_picture(data) for data in list(cell.get("attachments", {}).values())[:MAX_OUTPUTS]]  # pictures pasted into an answer
        shown = [picture for picture in pasted if picture] + [_shown(output) for output in outputs[:MAX_OUTPUTS]]
        shown += [("output", f"(and {len(outputs) - MAX_OUTPUTS} more outputs)")] if len(outputs) > MAX_OUTPUTS else []
    except (AttributeError, KeyError, TypeError):
        shown = [("output", "(what this cell shows is not as Jupyter writes it)")]
    for kind, content in shown:
        if kind == found[-1][0] == "output":
            found[-1] = (kind, found[-1][1] + content)
        else:
            found.append((kind, content))
    return [piece if piece[0] in PICTURES.values() else _bounded(*piece) for piece in found if piece[1].strip()]


def _shown(output):
    """The part of an output that can be shown: its picture, or else its text."""
    if output["output_type"] == "stream":
        said = _joined(output["text"])
    elif output["output_type"] == "error":
        said = f"{output['ename']}: {output['evalue']}\n"
    elif picture := _picture(output["data"]):
        return picture
    else:
        said = _joined(output["data"].get("text/plain", ""))
    return "output", "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in said.split("\n"))  # a progress bar's last state


def _picture(data):
    """The picture in {MIME type: base64} as ("png" | "jpeg", base64), a word on why it cannot be shown, or None where there is none."""
    text = next((_joined(data[kind]) for kind in PICTURES if kind in data), None)
    if text is None:
        return None
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
        if len(content) > MAX_PICTURE:
            return "output", f"(a picture of more than {MAX_PICTURE // 1_000_000} MB)"
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if max(image.size) > MAX_SIDE:
                return "output", f"(a picture of {image.width} x {image.height} pixels)"
            image.verify()
            return image.format.lower(), base64.b64encode(content).decode()
    except (binascii.Error, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "output", "(a picture that is damaged)"


def _bounded(kind, text):
    text, limit = plain(text), MAX_CHARACTERS[kind]
    return kind, text if len(text) <= limit else text[:limit] + f"\n… ({len(text) - limit:,} characters more)"


def _joined(text):
    """A text as one string: Jupyter writes one, or a list of lines."""
    return "".join(text) if isinstance(text, list) else str(text)
