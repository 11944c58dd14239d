"""The catalogue: every wrong solution loses points in its own section, with its diagnosis, and every right one earns them all.

Each goes through the sandbox as a submission. The default run takes a few of them, the slow run takes all.
"""

import multiprocessing
import os
import random
import re
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from submissions import AUTOMATIC, points, said, submission
from wrong_solutions import METHODS, RIGHT, WRONG

from course.grading import grade

ROWS = [(*row, True) for row in WRONG] + [(*row, "", False) for row in RIGHT]
FEW = 2  # wrong ones of the default run


def verdict(number, both):
    """What is wrong with the grade of a row, "" for nothing, and the row of the table.

    both: hand in both modules. Else only the edited one, whose sections are then the ones that could suffer.
    """
    section, name, edits, words, wrong = ROWS[number]
    module = METHODS[section][0]
    others = {} if both else {f"{other}.py": None for other in ("ResUNet", "DDPM") if other != module}
    with tempfile.TemporaryDirectory() as folder:
        record = grade(submission(Path(folder) / "it", others, section, edits))
    found = points(record)
    looked_at = {key: full for key, full in AUTOMATIC.items() if both or METHODS[key][0] == module}
    lost = {key: full - found[key] for key, full in looked_at.items() if found[key] < full}
    says = said(next(each for each in record.sections if each.key == section))
    fault = ""
    if set(lost) != ({section} if wrong else set()):
        fault = f"{name}: points were lost in {lost}: {[said(each) for each in record.sections if each.key in lost]}"
    elif wrong and not re.search(words, says):
        fault = f"{name}: the diagnosis {words!r} is not in {says!r}"
    named = re.search(words, says).group() if wrong and re.search(words, says) else ""
    costs = f"-{lost[section]:g}" if section in lost else ""
    return fault, f"{'wrong' if wrong else 'right':5}  {section:9}  {costs:>4}  {name:48}  {named}"


def table(numbers, both):
    """The verdicts, as the rows of a table, several at a time; the faults."""
    processes = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=processes) as pool:
        found = list(pool.map(verdict, numbers, [both] * len(numbers)))
    print("\n", *(row for _, row in found), sep="\n")
    return [fault for fault, _ in found if fault]


def test_a_few_of_the_catalogue():
    numbers = random.Random(0).sample(range(len(WRONG)), FEW) + [random.Random(1).randrange(len(WRONG), len(ROWS))]
    faults = table(numbers, both=True)
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_all_of_the_catalogue():
    assert len(WRONG) >= 60 and len(RIGHT) >= 15
    faults = table(range(len(ROWS)), both=False)
    assert not faults, "\n".join(faults)
