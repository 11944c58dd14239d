"""Every check is proven: a wrong solution that it catches, by name, and right solutions of other designs that it lets pass.

For maintainers. The words of the sections stay out of test names and ids here, so that `pytest -k <section>` runs the
section alone.
"""

import re

import pytest
import test_forward
import test_network
import test_sample
import test_scheduler
from wrong_solutions import METHODS, RIGHT, WRONG, edited, unsolved

SECTIONS = {"network": test_network, "scheduler": test_scheduler, "forward": test_forward, "sample": test_sample}
NUMBER = {"network": "1", "scheduler": "2.1", "forward": "2.2", "sample": "2.3"}


def label(row):
    words = "|".join(SECTIONS)
    return f"{NUMBER[row[0]]} {re.sub(words, '…', row[1])}"


def failures(section, cls, until=None):
    """{index of the check: what it says} of the section's checks that fail on this class, up to one that says `until`."""
    said = {}
    for i, check in enumerate(SECTIONS[section].CHECKS):
        try:
            check(cls)
        except Exception as error:
            said[i] = error
            if until and re.search(until, str(error)):
                break
    return said


@pytest.mark.parametrize("index", range(len(WRONG)), ids=lambda i: label(WRONG[i]))
def test_wrong_is_caught_and_named(index):
    section, name, edits, words = WRONG[index]
    said = failures(section, edited(section, edits), words)
    assert said, f"no check of {section} catches: {name}"
    assert re.search(words, str(list(said.values())[-1])), f"{name} is not named: {[str(e)[:300] for e in said.values()]}"


@pytest.mark.slow
@pytest.mark.parametrize("section", list(SECTIONS), ids=NUMBER.get)
def test_every_check_catches_something_and_speaks_in_words(section):
    checks, idle = SECTIONS[section].CHECKS, set(range(len(SECTIONS[section].CHECKS)))
    for _, name, edits, _ in (row for row in WRONG if row[0] == section):
        said = failures(section, edited(section, edits))
        idle -= set(said)
        odd = [error for error in said.values() if not isinstance(error, AssertionError)]
        assert not odd, f"{name}: the student would see a bare {odd[0]!r}"
    assert not idle, f"no wrong solution of {section} fails {[checks[i] for i in idle]}"


@pytest.mark.parametrize("index", range(len(RIGHT)), ids=lambda i: label(RIGHT[i]))
def test_right_passes_whatever_its_design(index):
    section, name, edits = RIGHT[index]
    said = failures(section, edited(section, edits))
    assert not said, f"{name}: {said}"


@pytest.mark.parametrize("solved", range(5))
def test_sections_need_the_earlier_ones_only(solved):
    """With the later sections unsolved a section passes; unsolved itself, each of its checks says NotImplementedError."""
    order = list(SECTIONS)
    for i, section in enumerate(order):
        open_ones = [s for s in order[solved:] if METHODS[s][0] == METHODS[section][0]]
        said = failures(section, edited(section, unsolved(*open_ones)))
        if i < solved:
            assert not said, f"{section} fails although it is solved: {said}"
        else:
            assert len(said) == len(SECTIONS[section].CHECKS)
            assert all(isinstance(error, NotImplementedError) for error in said.values()), f"{section}: {said}"


@pytest.mark.parametrize("section", ["2.2", "2.3"])
def test_a_wrong_schedule_costs_its_own_section_only(section):
    section = {number: name for name, number in NUMBER.items()}[section]
    usual = (
        "read one step late",
        "looks beyond the table",
        "T + 1 points",
        "roots swapped",
        "all settings written down",
        "whole table",
        "sorted",
    )
    for edits in (unsolved("scheduler"), *(row[2] for row in WRONG if row[0] == "scheduler" and row[1] in usual)):
        said = failures(section, edited(section, edits))
        assert not said, f"{section} fails for {edits}: {said}"


def test_names_select_one_section(request):
    """-k <section> selects that section's file, and nothing of these here."""
    for item in request.session.items:
        file = item.path.stem
        if file in ("test_reference", "test_proofs", "test_config") or file.removeprefix("test_") in SECTIONS:
            found = [word for word in [*SECTIONS, "config", "utils"] if word in item.nodeid.removeprefix("tests/").lower()]
            assert found == [w for w in [file.removeprefix("test_")] if w in [*SECTIONS, "config"]], item.nodeid
