"""Section 3, flow matching: switched on by one line, it is handed out, checked and graded."""

import json
import shutil
import subprocess
import sys

import nbformat
import pytest
from submissions import submission, without_flow

from course.handout.handout import ROOT, handout

RUN = """
import json, sys
from course.grading import grading
from course.grading.rubric import POINTS, TITLES
from course.handout.handout import handout
if sys.argv[1] == "handout":
    handout(sys.argv[2])
else:
    record = grading.grade(sys.argv[2])
    said = {each.key: " ".join(words for one in each.properties for words in one.says) for each in record.sections}
    print(json.dumps({"points": {each.key: each.points for each in record.sections}, "said": said, "notes": record.notes,
                      "out_of": record.out_of, "shown": {each.key: each.shown for each in record.sections}, "titles": TITLES}))
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the course in which one line differs."""
    copy = tmp_path_factory.mktemp("course") / "course"
    left = shutil.ignore_patterns(".git", "save", "data", "__pycache__", "solutions", ".venv")
    shutil.copytree(ROOT, copy, ignore=left)
    switch = copy / "tests" / "checks" / "__init__.py"
    text = switch.read_text("utf-8")
    assert text.count("FLOW = False") == 1
    switch.write_text(text.replace("FLOW = False", "FLOW = True"), "utf-8")
    return copy


def run(course, *arguments):
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, arguments)], cwd=course, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_is_handed_out_as_a_skeleton_and_an_empty_notebook(course, tmp_path):
    run(course, "handout", tmp_path / "out")
    written = (tmp_path / "out" / "explorations" / "FM.py").read_text("utf-8")
    assert written.count("YOUR CODE HERE") == 2 and "images - noise)" not in written and "v / T" not in written
    assert sorted(path.name for path in (tmp_path / "out" / "explorations").iterdir()) == ["FM.py", "flow_matching.ipynb", "flows.py"]
    notebook = nbformat.read(tmp_path / "out" / "explorations" / "flow_matching.ipynb", as_version=4)
    answers = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    assert len(answers) == 4 and all("YOUR" in cell.source for cell in answers) and not any(cell.get("outputs") for cell in notebook.cells)
    assert "pytest -k flow" in (tmp_path / "out" / "README.md").read_text("utf-8")
    done = subprocess.run([sys.executable, "-m", "pytest", "-k", "flow"], cwd=tmp_path / "out", capture_output=True, text=True)
    assert "3. Flow matching: not written yet (ConditionalFM.forward in FM.py)" in done.stdout
    shutil.copy(ROOT / "explorations" / "FM.py", tmp_path / "out" / "explorations")
    for name in ("ResUNet.py", "DDPM.py"):
        shutil.copy(ROOT / name, tmp_path / "out")
    done = subprocess.run([sys.executable, "-m", "pytest", "-k", "flow"], cwd=tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0 and "3. Flow matching: all right" in done.stdout, done.stdout


@pytest.mark.slow
def test_it_is_graded(course, tmp_path):
    right = (ROOT / "explorations" / "FM.py").read_text("utf-8")
    reversed_ = right.replace("(1 - t) * noise + t * images", "t * noise + (1 - t) * images")
    notebook = (ROOT / "explorations" / "flow_matching.ipynb").read_text("utf-8")
    found = json.loads(run(course, "grade", submission(tmp_path / "it", {"FM.py": reversed_, "flow_matching.ipynb": notebook})))
    assert found["points"]["flow"] == 4 and "time runs backwards" in found["said"]["flow"]
    assert found["points"]["sample"] == 6 and found["out_of"] == 50
    assert found["points"]["flow_guidance"] is found["points"]["flow_comparison"] is None
    assert all("has no part" not in str(found["shown"][key]) and found["shown"][key] for key in ("flow_guidance", "flow_comparison"))
    without = json.loads(run(course, "grade", submission(tmp_path / "without")))
    assert without["points"]["flow"] == 0 and any("FM.py is missing" in note for note in without["notes"])


@without_flow
def test_off_nothing_of_it_is_handed_out(tmp_path):
    handout(tmp_path / "out")
    assert not (tmp_path / "out" / "explorations").exists() and "flow" not in (tmp_path / "out" / "README.md").read_text("utf-8")
