"""The explorations: committed as they ran, on real digits, and running with their small presets."""

import os
import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "explorations").glob("*.ipynb"))
MINUTES = 5  # the longest that a small preset may take on two cores


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def figures(notebook):
    return [output for output in outputs(notebook) if {"image/png", "image/gif"} & set(output.get("data", {}))]


def test_committed_as_it_ran(path):
    """Every cell executed in order, without error, warning, widget or a path of one machine, and small enough to open."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs(notebook))
    assert "widgets" not in notebook.metadata and "widget-view" not in str(outputs(notebook))
    assert len(figures(notebook)) >= 2
    assert path.stat().st_size < 3_000_000
    assert not re.search(r"(?<![\w.])/(?:root|home/\w+|work|tmp)/\w", path.read_text("utf-8"))


def test_committed_at_more_than_the_small_size(path):
    said = str(outputs(nbformat.read(path, as_version=4)))
    assert re.search(r"preset (hour|full)", said), "execute it with COURSE_PRESET=hour, or on a GPU"


@pytest.mark.nightly
def test_runs_with_its_small_preset(path, tmp_path, monkeypatch):
    """As a newcomer's `jupyter execute`, in a copy without any earlier run."""
    if not os.environ.get("MNIST_DIR"):
        pytest.skip("needs the real MNIST: set MNIST_DIR")
    for name in ("config.py", "ResUNet.py", "DDPM.py", "utils.py", "lab", "explorations"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    monkeypatch.setenv("COURSE_PRESET", "small")
    notebook = nbformat.read(path, as_version=4)
    shown, started = len(figures(notebook)), time.monotonic()
    NotebookClient(notebook, timeout=60 * MINUTES, resources={"metadata": {"path": str(tmp_path / "explorations")}}).execute()
    assert time.monotonic() - started < 60 * MINUTES
    assert len(figures(notebook)) >= shown  # more where DeepFloyd's weights are at hand
    assert "preset small" in str(outputs(notebook))
