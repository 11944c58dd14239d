"""The same start for every test, and how the checks of the four sections are told: a few lines each, after all others."""

import os

# Before torch: on a busy machine two threads that fight for two cores are many times slower than one, unless they wait in peace.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest  # noqa: E402
import torch  # noqa: E402
from checks.report import report  # noqa: E402
from checks.sections import SECTIONS  # noqa: E402

verdicts = {}  # of the sections that were looked at


def pytest_configure(config):
    """Short tracebacks, unless asked otherwise: what a student needs is the message, not the source of the check."""
    if config.option.tbstyle == "auto":
        config.option.tbstyle = "short"


@pytest.fixture(autouse=True)
def seeded():
    """What a test draws is the same in every order and selection, and leaves no trace in the next test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def judged(record_property):
    """judged(section, property) fails where the student's code lacks the property. Each section is looked at once."""

    def judge(key, name):
        record_property("section", key)
        if key not in verdicts:
            verdicts[key] = SECTIONS[key].look()
        if verdicts[key].faults.get(name):
            pytest.fail(" ".join(verdicts[key].says(name)), pytrace=False)

    return judge


def pytest_report_teststatus(report):
    """A failed property is told below, in its section, and not once more among the failures."""
    if report.when == "call" and report.failed and dict(report.user_properties).get("section"):
        return "wrong", "F", "WRONG"


def pytest_terminal_summary(terminalreporter):
    if verdicts:
        terminalreporter.section("your four pieces" if len(verdicts) > 1 else "your piece")
    for key in (key for key in SECTIONS if key in verdicts):
        for line in report(SECTIONS[key], verdicts[key], most=1 if len(verdicts) > 1 else 2):
            terminalreporter.write_line(line)
