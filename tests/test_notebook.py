"""The notebook: complete, committed as it ran, and running with its small preset."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from checks import sections
from nbclient import NotebookClient

from course.grading import rubric
from course.grading.rubric import TITLES, TRAINING

ROOT = Path(__file__).parents[1]
# Section 3, where the course has it, stands in a notebook of its own.
SECTIONS, POINTS, PARTS = (
    {key: value for key, value in table.items() if not key.startswith("flow")} for table in (sections.SECTIONS, rubric.POINTS, rubric.PARTS)
)
TOTAL = sum(POINTS.values())


def headings():
    """Those of the notebook, with the points that the rubric gives."""
    said = lambda title, points: f"{title} ({points:g} point{'s' if points > 1 else ''})"
    sections = {key: said(TITLES[key], PARTS.get(key, [points])[0]) for key, points in POINTS.items()}
    answers = {key: said("Question", answer) for key, (_, answer) in PARTS.items()}
    yield from ("Setup", "What a diffusion model is", "Training and sampling", "Classifier-free guidance", "Settings", "Data")
    for key, heading in sections.items():
        yield from [heading, *([answers[key]] if key in answers else []), *(["2. Conditional DDPM"] if key == "network" else [])]
    yield "Hand in"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(ROOT / "ConditionalDDPM.ipynb", as_version=4)


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def losses(notebook):
    """The test loss after each epoch, as the solver printed it."""
    return [float(value) for value in re.findall(r"test_noise_loss = ([\d.]+)", texts(notebook))]


def texts(notebook):
    return "".join(output.get("text", "") for output in outputs(notebook))


def test_sections_stand_in_order_with_the_points_of_the_rubric(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert re.findall(r"^##+ (.*)$", text, re.M) == list(headings())
    assert sum(map(int, re.findall(r"\((\d+) points?\)", text))) == TOTAL


def test_the_table_at_the_top_gives_the_same_points(notebook):
    worth = {TITLES[key]: " + ".join(map(str, PARTS.get(key, [f"{points:g}"]))) for key, points in POINTS.items()}
    rows = re.findall(r"^\| (\d\S* [^|]+?) \|.*\| ([\d +]+) \|$", notebook.cells[0].source, re.M)
    assert dict(rows) == worth


def test_nbgrader_counts_the_same_points(notebook):
    marked = {cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader for cell in notebook.cells if "nbgrader" in cell.metadata}
    points = {name: cell.points for name, cell in marked.items()}
    parts = {name: points for key, pair in PARTS.items() for name, points in zip((key, f"{key}-answer"), pair)}
    assert points == {**{key: section.points for key, section in SECTIONS.items()}, "solver": TRAINING, **parts}
    assert [name for name, cell in marked.items() if cell.solution] == ["guidance-answer", "customise", "customise-answer"]


def test_every_section_is_checked(notebook):
    source = "\n".join(cell.source for cell in notebook.cells)
    for section in SECTIONS:
        assert f'check("{section}")' in source


def test_committed_as_it_ran(notebook):
    """Every cell executed in order, without error, widget, warning or a path of one machine, and small enough to open."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs(notebook))
    assert "widgets" not in notebook.metadata and "widget-view" not in str(outputs(notebook))
    path = ROOT / "ConditionalDDPM.ipynb"
    assert path.stat().st_size < 4_000_000
    assert not re.search(r"(?<![\w.])/(?:root|home/\w+|work)/\w", path.read_text())


def test_committed_with_real_digits_and_a_right_schedule(notebook):
    said = texts(notebook)
    assert "full settings. Good to go!" in said and "60,000 images to train, 10,000 to test" in said
    assert said.count("  ok\n") == 7 and "WRONG" not in said
    full = losses(notebook)[:10]
    assert "epoch 10/10" in said and 0 < min(full) < 0.056, "earlier editions ended at 0.056 to 0.063"


SMALLER = {
    "limit, exp_name = 20_000,": "limit, exp_name = 1_600,",
    "passes = 1 if len(train_loader.dataset) > 10_000 else 10": "passes = 1",
    "DMConfig(T=50, mask_p=0.2, num_feat=32": "DMConfig(T=50, mask_p=0.2, num_feat=16",
}


@pytest.mark.parametrize(
    "edits", [pytest.param(SMALLER, marks=pytest.mark.slow, id="a twelfth"), pytest.param({}, marks=pytest.mark.nightly, id="all")]
)
def test_runs_with_its_small_preset(tmp_path, edits):
    """As a newcomer's `jupyter execute`, in a copy without any earlier run; also on a twelfth of its images."""
    for name in ("config.py", "ResUNet.py", "DDPM.py", "utils.py", "lab", "pics"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "tests" / "checks", tmp_path / "tests" / "checks")
    notebook = nbformat.read(ROOT / "ConditionalDDPM.ipynb", as_version=4)
    for old, new in edits.items():
        (cell,) = [cell for cell in notebook.cells if old in cell.source]
        cell.source = cell.source.replace(old, new)
    NotebookClient(notebook, timeout=1500, store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}}).execute()
    figures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert len(figures) == 14, "five drawings, eight plots and ten digits"
    said = texts(notebook)
    assert said.count("  ok\n") == 7 and "widgets" not in notebook.metadata
    assert min(losses(notebook)) < (0.2 if edits else 0.1)  # predicting no noise costs 1
