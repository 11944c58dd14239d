"""A folder in which nbgrader hands out, collects and grades the course: its settings, and the assignment's source."""

import shutil
from pathlib import Path

import nbformat

from course.handout.handout import NOTEBOOK, ROOT, HandoutError, handout

ASSIGNMENT = Path(NOTEBOOK).stem
SECTIONS = ("network", "scheduler", "forward", "sample")  # nbgrader's ids of the checks, and what pytest calls them
# nbgrader takes this out of what students receive. Without it a check gives its points to any cell that runs.
CHECK = """
### BEGIN HIDDEN TESTS
import subprocess
import sys
said = subprocess.run([sys.executable, "-m", "pytest", "-q", "--color=no", "tests/test_{section}.py"], capture_output=True, text=True)
assert said.returncode == 0 and " passed" in said.stdout, said.stdout  # a module may end pytest itself
### END HIDDEN TESTS"""


def course(out):
    """Make the folder `out`: nbgrader_config.py, and source/ConditionalDDPM with all that a student gets and the solved notebook.

    The modules in it are the skeletons, as nbgrader hands out every file as it is; the notebook is solved, as nbgrader empties it.
    Raises HandoutError.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HandoutError(f"{out} is not empty; name a new folder")
    source = out / "source" / ASSIGNMENT
    handout(source)
    notebook = nbformat.read(ROOT / NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        section = cell.metadata.get("nbgrader", {}).get("grade_id")
        if section in SECTIONS:
            cell.source += CHECK.format(section=section)
    nbformat.write(notebook, source / NOTEBOOK)
    shutil.copy(ROOT / "course" / "platforms" / "nbgrader_config.py", out)
