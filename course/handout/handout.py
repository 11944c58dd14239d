"""The handout: all that a student receives, made from the solved course."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import nbformat
from checks import FLOW

from course.handout.banners import FLOW_README, TASKS
from course.handout.skeleton import SkeletonError, regions, skeleton, solutions

ROOT = Path(__file__).parents[2]
NOTEBOOK, FLOW_NOTEBOOK = "ConditionalDDPM.ipynb", "flow_matching.ipynb"
NOTEBOOKS = (NOTEBOOK, f"explorations/{FLOW_NOTEBOOK}") if FLOW else (NOTEBOOK,)
GIVEN = ("config.py", "utils.py", "requirements.txt", "pyproject.toml", "lab", "pics", "tests") + (
    ("explorations/flows.py",) if FLOW else ()
)
# Files that would show a solution, test what students do not write, or are of no use to them. Without schedules.py schedule="cosine" is
# an error there, as a student's scheduler is the linear one.
KEPT_BACK = (
    "lab/speed/baseline.py", "lab/speed/bench.py", "lab/diffusion/schedules.py", "lab/distillation", "lab/README.md",
    "lab/editing/deepfloyd.py", "lab/editing/pixel_models.py",
    *(f"lab/playground/{name}.py" for name in ("export", "network", "runtime")),
    *(f"lab/playground/page/{name}" for name in ("engine", "main.js", "disk.js", "worker.js", "LICENSE-onnxruntime.txt")),
    "lab/weights/digits.safetensors", "lab/weights/pairs.safetensors", "lab/weights/few.safetensors",
    "tests/lab", "tests/course", "tests/explorations", "tests/wrong_solutions.py", "tests/browser.py",
    "tests/test_notebook.py", "tests/test_config.py", "tests/test_fuzz.py", "tests/test_utils.py", "tests/test_floors.py", "pics/draw.py",
    *(f"pics/report_{name}.png" for name in ("class", "student", "marking", "again", "alike", "lecture")), "pics/playground.png",
)  # fmt: skip
ANSWER = "**Answer.** YOUR ANSWER HERE"


class HandoutError(Exception):
    """A handout that cannot be made; the message says why."""


def handout(out, root=ROOT):
    """Make the handout of the course in `root` in the folder `out`, whole or not at all. Raises HandoutError, SkeletonError."""
    out, root = Path(out).absolute(), Path(root)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HandoutError(f"{out} is not empty; name a new folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".handout-") as temporary:
            made = Path(temporary) / "handout"
            _make(made, root)
            found = leaks(made, root)
            if found:
                raise HandoutError("the handout would show a solution: " + "; ".join(found[:5]))
            os.replace(made, out)  # over an empty folder too
    except OSError as error:
        raise HandoutError(f"{out} cannot be written: {error}") from error


def _make(made, root):
    made.mkdir()
    for name in GIVEN:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, made / name, ignore=_kept_back(root))
        else:
            (made / name).parent.mkdir(exist_ok=True)
            shutil.copy(source, made / name)
    text = (root / "course" / "handout" / "README.student.md").read_text("utf-8")
    (made / "README.md").write_text(text + FLOW_README if FLOW else text, "utf-8")
    for name, tasks in TASKS.items():
        (made / name).write_text(skeleton((root / name).read_text("utf-8"), name, tasks), "utf-8")
    for name in NOTEBOOKS:
        nbformat.write(empty(nbformat.read(root / name, as_version=4)), made / name)


def _kept_back(root):
    def ignore(folder, names):
        inside = Path(folder).relative_to(root)
        return [name for name in names if name.startswith(("__pycache__", ".")) or (inside / name).as_posix() in KEPT_BACK]

    return ignore


def empty(notebook):
    """A notebook without outputs and answers: what nbgrader's metadata calls a solution is left for the student to write."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = ANSWER if cell.cell_type == "markdown" else _code_to_write(cell.source, f"{NOTEBOOK}, cell {number}")
    return notebook


def _code_to_write(source, name):
    """A code cell with its solutions replaced; outside any function, so without a banner of its own."""
    lines = source.splitlines()
    found = regions(source, name)
    if not found:
        raise SkeletonError(f"{name}: it is to be written by students and marks no solution")
    for first, last in reversed(found):
        lines[first : last + 1] = ["# YOUR CODE HERE", "raise NotImplementedError"]
    return "\n".join(lines)


def leaks(folder, root=ROOT):
    """Where a line of a solution stands in a folder, ["file: line of the solution"], in text files and in anything else."""
    secrets = {line for name in TASKS for line in solutions((root / name).read_text("utf-8"), name) if len(line) > 20}
    cells = [cell for name in NOTEBOOKS for cell in nbformat.read(root / name, as_version=4).cells]
    answers = (cell for cell in cells if cell.cell_type == "markdown" and cell.metadata.get("nbgrader", {}).get("solution"))
    secrets |= {cell.source for cell in answers}
    found = []
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        content = path.read_bytes().decode("utf-8", "replace")
        shown = (secret for secret in secrets if secret in content or json.dumps(secret)[1:-1] in content)  # as it is, or in a notebook
        found += [f"{path.relative_to(folder)}: {secret}" for secret in shown]
    return found
