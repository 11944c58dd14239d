"""Solutions by other hands through the checks: right ones keep every point, a slip costs its own property and is called by its name.

`python tests/course/catalogue.py` prints the whole table, in about ten minutes on two cores; `pytest -m nightly` asserts it.
"""

import re

import catalogue
import pytest
from submissions import AUTOMATIC, graded, said

ROWS = catalogue.rows()
RIGHT, SLIPS = [row for row in ROWS if not row.section], [row for row in ROWS if row.section]
FEW = ["b/r08", "b/r13", "a/null_row_of_zeros"]
THROUGH_THE_WALLS = ["a/r02", "b/r12", "e/r03"]  # image by image; .cuda() written out; numpy, with a module beside it, which is slow


def named(names):
    found = [row for row in ROWS if row.name in names]
    assert len(found) == len(names)
    return found


def test_a_few_are_judged_as_they_should_be(capsys):
    assert not catalogue.table(named(FEW))


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=pytest.mark.slow if row.name == "e/r03" else pytest.mark.nightly) for row in named(THROUGH_THE_WALLS)],
    ids=lambda row: row.name.replace("/", " "),
)
def test_right_ones_keep_their_points_in_the_sandbox(row, tmp_path):
    catalogue.lay_out(row, tmp_path / "it")
    assert graded(tmp_path / "it")[0] == AUTOMATIC


@pytest.mark.slow
def test_a_slip_costs_as_much_in_the_sandbox(tmp_path):
    (row,) = named(["a/null_row_of_zeros"])
    catalogue.lay_out(row, tmp_path / "it")
    found, record = graded(tmp_path / "it")
    assert found == {**AUTOMATIC, "sample": 5}
    assert re.search(row.mistake, said(record.sections[3]))


@pytest.mark.nightly
def test_all_are_judged_as_they_should_be(capsys):
    assert len(RIGHT) >= 60 and len(SLIPS) >= 150
    bad = [row for row, *_ in catalogue.table(ROWS)]
    assert not [row.name for row in bad if not row.section]
    assert len(bad) <= 0.05 * len(SLIPS), [row.name for row in bad]
