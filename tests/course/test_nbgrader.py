"""nbgrader makes and grades the assignment: nothing of a solution goes out, and the student's files are what is graded."""

import contextlib
import os
import shutil
import subprocess
import sys

import nbformat
import pytest

from course.handout.banners import TASKS
from course.handout.handout import ANSWER, NOTEBOOK, ROOT, HandoutError, leaks
from course.platforms.nbgrader import ASSIGNMENT, CHECK, SECTIONS, course

# The small settings smaller still, as a student may write them: nbgrader runs all of the notebook.
TINY = {
    "DMConfig(T=100, beta_1=4e-4, beta_T=8e-2, num_feat=16, batch_size=32, epochs=4)": "DMConfig(T=40, num_feat=8, batch_size=64)",
    '20_000, "digits_small"': '128, "tiny"',
    "epochs=passes * (10 if full else 4)": "epochs=2",
    "epochs = passes * (10 if full else 1)": "epochs = 1",
    "DMConfig(T=50, mask_p=0.2, num_feat=32": "DMConfig(T=40, mask_p=0.2, num_feat=8",
}


def nbgrader(*arguments, cwd):
    kernels = os.path.join(sys.prefix, "share", "jupyter")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "COURSE_PRESET": "", "JUPYTER_PATH": kernels}
    done = subprocess.run([sys.executable, "-m", "nbgrader", *arguments], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


def submit(folder, student, edits):
    """A student's folder: what was handed out, with the solutions, tiny settings, and edits (file, old, new)."""
    handed_out = folder / "release" / ASSIGNMENT
    mine = shutil.copytree(handed_out, folder / "submitted" / student / ASSIGNMENT)
    for name in TASKS:
        shutil.copy(ROOT / name, mine)
    notebook, solved = (nbformat.read(path, as_version=4) for path in (mine / NOTEBOOK, ROOT / NOTEBOOK))
    source = "\n".join(cell.source for cell in solved.cells)
    assert all(old in source for old in TINY)
    for cell, right in zip(notebook.cells, solved.cells):
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = right.source
        for old, new in TINY.items():
            cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, mine / NOTEBOOK)
    for name, old, new in edits:
        text = (mine / name).read_text("utf-8")
        assert old in text
        (mine / name).write_text(text.replace(old, new), "utf-8")


@pytest.mark.nightly
def test_nbgrader_makes_and_grades_the_assignment(tmp_path):
    pytest.importorskip("nbgrader")
    folder = tmp_path / "course"
    course(folder)
    nbgrader("generate_assignment", ASSIGNMENT, cwd=folder)

    release = folder / "release" / ASSIGNMENT
    assert leaks(release) == []
    given, solved = (nbformat.read(path, as_version=4) for path in (release / NOTEBOOK, ROOT / NOTEBOOK))
    assert len(given.cells) == len(solved.cells)
    text = "\n".join(cell.source for cell in given.cells)
    assert text.count(ANSWER) == 2 and text.count("# YOUR CODE HERE\nraise NotImplementedError") == 1
    assert "### BEGIN" not in text and "HIDDEN" not in text and not any(cell.get("outputs") for cell in given.cells)

    late = ("DDPM.py", "at = t_s.to(home) - 1", "at = t_s.to(home).clamp(max=T - 1)")
    passing = ("tests/test_scheduler.py", "import pytest", "import pytest, os; os._exit(0)")
    submit(folder, "ada", [late, passing, ("utils.py", '"""', '"""Mine. ')])
    nbgrader("autograde", ASSIGNMENT, cwd=folder)

    by_hand = dict.fromkeys(["guidance", "guidance-answer", "customise", "customise-answer"])
    assert grades(folder, "ada") == {"network": 6, "scheduler": 0, "forward": 6, "sample": 6, "solver": 8, **by_hand}
    graded = folder / "autograded" / "ada" / ASSIGNMENT
    assert "clamp(max=T - 1)" in (graded / "DDPM.py").read_text() and (graded / "utils.py").read_text() == (ROOT / "utils.py").read_text()
    (error,) = errors_of(graded / NOTEBOOK)
    assert "the table is read one step late" in error


def errors_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output.evalue for cell in cells for output in cell.get("outputs", []) if output.output_type == "error"]


def grades(folder, student):
    """What nbgrader wrote into its database: {id of the cell: points, or None where a person gives them}."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder}/gradebook.db") as gradebook:
        (notebook,) = gradebook.find_submission(ASSIGNMENT, student).notebooks
        return {grade.name: grade.auto_score for grade in notebook.grades}


def test_a_module_that_ends_pytest_has_not_passed(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_scheduler.py").write_text("import sys; sys.path.insert(0, '.')\nimport DDPM\ndef test(): pass\n")
    monkeypatch.chdir(tmp_path)
    for code, passes in (("", True), ("import os; os._exit(0)", False), ("1 / 0", False)):
        (tmp_path / "DDPM.py").write_text(code)
        with contextlib.nullcontext() if passes else pytest.raises(AssertionError):
            exec(CHECK.format(section="scheduler"), {})


def test_the_source_for_nbgrader(tmp_path):
    """What nbgrader hands out as it is holds no solution; the notebook, which it empties, is solved and checks what it gives points for."""
    course(tmp_path / "course")
    source = tmp_path / "course" / "source" / ASSIGNMENT
    notebook = nbformat.read(source / NOTEBOOK, as_version=4)
    checked = [cell.metadata.nbgrader.grade_id for cell in notebook.cells if "### BEGIN HIDDEN TESTS" in cell.source]
    assert checked == list(SECTIONS) and sum("### BEGIN SOLUTION" in cell.source for cell in notebook.cells) == 1
    assert all((source / "tests" / f"test_{section}.py").is_file() for section in SECTIONS)
    (source / NOTEBOOK).unlink()
    assert leaks(source) == []
    with pytest.raises(HandoutError, match="is not empty"):
        course(tmp_path / "course")
