"""course.handout.handout: nothing of a solution goes out, all that a student needs does, and what was taken out can be put back."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from submissions import without_flow

from course.handout.banners import TASKS
from course.handout.handout import KEPT_BACK, NOTEBOOK, ROOT, HandoutError, empty, handout, leaks
from course.handout.skeleton import SkeletonError, regions, skeleton, solutions


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("handout") / "out"
    handout(out)
    return out


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pytest_in(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"}).stdout


@without_flow
def test_a_student_gets_what_is_needed_and_no_more(made):
    there = files(made)
    for name in ("README.md", NOTEBOOK, "ResUNet.py", "DDPM.py", "config.py", "utils.py", "requirements.txt", "pyproject.toml",
                 "lab/training/trainer.py", "lab/weights/judge.safetensors", "pics/network.png", "tests/test_scheduler.py",
                 "tests/checks/sample.py"):  # fmt: skip
        assert name in there
    unwanted = (*KEPT_BACK, ".", "course", "explorations", "data", "save")
    assert not [name for name in there if name.startswith(unwanted) or name.endswith(".pyc")]
    tests = {name for name in there if name.startswith("tests/") and name.count("/") == 1}
    assert tests == {"tests/conftest.py", *(f"tests/test_{name}.py" for name in ("network", "scheduler", "forward", "sample", "flow"))}


def test_no_solution_is_in_it(made):
    assert leaks(made) == []
    for name in TASKS:
        secrets = solutions((ROOT / name).read_text(), name)
        assert len(secrets) >= 5
        text = (made / name).read_text()
        assert not [line for line in secrets if line in text.splitlines() or len(line) > 20 and line in text]
        assert "SOLUTION" not in text


def test_a_cosine_schedule_is_an_error_and_no_linear_one(made, tmp_path):
    """A student's scheduler is the linear one, so the settings must not seem to give another."""
    copy = shutil.copytree(made, tmp_path / "copy")
    for name in TASKS:
        shutil.copy(ROOT / name, copy / name)  # as good as a student's
    said = {}
    for schedule in ("linear", "cosine"):
        asked = f"import torch, config, DDPM; DDPM.ConditionalDDPM(config.DMConfig(num_feat=8, schedule={schedule!r})).scheduler(torch.tensor(1))"
        said[schedule] = subprocess.run([sys.executable, "-c", asked], cwd=copy, capture_output=True, text=True)
    assert said["linear"].returncode == 0, said["linear"].stderr
    assert said["cosine"].returncode == 1 and said["cosine"].stderr.splitlines()[-1].startswith("ImportError: ")


@pytest.mark.parametrize("command", [["bench"], ["average", "last_checkpoint.pth"]])
def test_a_command_whose_module_is_kept_back_says_so_in_one_line(made, command):
    done = subprocess.run([sys.executable, "-m", "lab", *command], cwd=made, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("python -m lab: ") and "bench" in done.stderr


@pytest.mark.parametrize("where", ["lab/extra.py", "notes.bin", NOTEBOOK])
def test_a_solution_anywhere_is_found(made, tmp_path, where):
    copy = shutil.copytree(made, tmp_path / "copy")
    secret = next(line for line in solutions((ROOT / "DDPM.py").read_text(), "DDPM.py") if len(line) > 40)
    if where == NOTEBOOK:
        notebook = nbformat.read(copy / NOTEBOOK, as_version=4)
        notebook.cells.append(nbformat.v4.new_code_cell(f'print("x")\n    {secret}'))
        nbformat.write(notebook, copy / NOTEBOOK)
    else:
        (copy / where).write_bytes(b"\x00\xff" + secret.encode())
    assert len(leaks(copy)) == 1 and leaks(copy)[0].startswith(where)


def test_the_notebook_is_empty_but_whole(made):
    solved, given = nbformat.read(ROOT / NOTEBOOK, as_version=4), nbformat.read(made / NOTEBOOK, as_version=4)
    assert len(given.cells) == len(solved.cells)
    changed = [i for i, (a, b) in enumerate(zip(solved.cells, given.cells)) if a.source != b.source]
    assert changed == [i for i, cell in enumerate(solved.cells) if cell.metadata.get("nbgrader", {}).get("solution")] and len(changed) == 3
    for cell in given.cells:
        assert cell.cell_type != "code" or (cell.outputs == [] and cell.execution_count is None)
    assert sum("YOUR ANSWER HERE" in cell.source for cell in given.cells) == 2
    assert sum("# YOUR CODE HERE" in cell.source for cell in given.cells) == 1


@without_flow
def test_before_a_line_is_written_that_is_said_in_ten_lines(made):
    said = pytest_in(made).splitlines()
    assert len(said) <= 10 and sum("not written yet" in line for line in said) == 4, said


@pytest.mark.slow
def test_with_the_solutions_back_all_checks_pass(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "copy")
    for name in TASKS:
        shutil.copy(ROOT / name, copy / name)
    said = pytest_in(copy)
    assert said.count("all right") == 4 and "WRONG" not in said and "20 passed" in said, said


@pytest.mark.slow
def test_a_mistake_is_named_within_a_screen(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "copy")
    for name in TASKS:
        shutil.copy(ROOT / name, copy / name)
    text = (copy / "DDPM.py").read_text()
    (copy / "DDPM.py").write_text(text.replace("torch.full_like(c, mask_value)", "torch.zeros_like(c)"))
    said = pytest_in(copy, "-k", "sample").splitlines()
    assert len(said) <= 24 and any("the null condition is a row of zeros" in line for line in said), said


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(HandoutError, match="is not empty"):
        handout(tmp_path)
    assert files(tmp_path) == ["mine.txt"]


def test_a_handout_that_would_leak_is_not_made(tmp_path):
    root = shutil.copytree(ROOT, tmp_path / "course", ignore=shutil.ignore_patterns(".git", ".venv", "data", "save", "__pycache__"))
    with open(root / "utils.py", "a") as file:
        file.write("# for example: at = self.scheduler(t)\n")
    with pytest.raises(HandoutError, match="would show a solution: utils.py: at = self.scheduler"):
        handout(tmp_path / "out", root)
    assert files(tmp_path / "out") == [] and not list(tmp_path.glob(".handout*"))


SOLVED = """
def f(x):
    ### BEGIN SOLUTION
    y = 2 * x  # twice
    ### END SOLUTION
    return y
"""


def test_a_skeleton():
    text = skeleton(SOLVED, "f.py", {"f": "Twice x.\nInput: x"})
    assert "2 * x" not in text and "SOLUTION" not in text and "    #   Twice x.\n    #   Input: x\n" in text
    space = {}
    exec(compile(text, "f.py", "exec"), space)
    with pytest.raises(NotImplementedError):
        space["f"](1)
    assert solutions(SOLVED, "f.py") == ["y = 2 * x  # twice"] and regions(SOLVED, "f.py") == [(2, 4)]


@pytest.mark.parametrize(
    "source, words",
    [
        (SOLVED.replace("    ### END SOLUTION\n", ""), "f.py:3: a solution begins and does not end"),
        (SOLVED.replace("    ### BEGIN SOLUTION\n", ""), "f.py:4: a solution ends that did not begin"),
        (SOLVED.replace("    y =", "    ### BEGIN SOLUTION\n    y ="), "f.py:4: a solution begins inside the one that began at line 3"),
        (SOLVED.replace("    y = 2 * x  # twice\n", ""), "f.py:3: a solution with nothing in it"),
        (SOLVED.replace("y = 2 * x ", ""), "f.py:3: a solution with nothing in it"),
        (SOLVED.replace("### BEGIN", "### BEGIN MY"), "f.py:3: .* is no marker"),
        (SOLVED.replace("### END SOLUTION", "pass  ### END SOLUTION"), "f.py:5: .* is no marker"),
        ("### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n", "f.py:1: no task is written for a solution outside"),
        (SOLVED.replace("def f", "def g"), "f.py:3: no task is written for g"),
    ],
)
def test_markers_that_make_no_regions_are_refused_by_line(source, words):
    with pytest.raises(SkeletonError, match=words):
        skeleton(source, "f.py", {"f": "Twice x."})


def test_a_notebook_cell_that_marks_no_solution_is_refused():
    cell = nbformat.v4.new_code_cell("x = 1", metadata={"nbgrader": {"solution": True}})
    with pytest.raises(SkeletonError, match="cell 0: it is to be written by students and marks no solution"):
        empty(nbformat.v4.new_notebook(cells=[cell]))
