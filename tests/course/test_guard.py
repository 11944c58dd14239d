"""course.grading.guard and course.sandbox.folder: whatever becomes of a grading, it has a record, and nothing is left of it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from records import a_record, grade

from course.grading import guard
from course.grading.rubric import POINTS, TOTAL
from course.sandbox import folder


@pytest.fixture
def found(tmp_path, monkeypatch):
    """found({name: what the stand-in of the grader sees}, **options): {name: (record, why)}."""
    monkeypatch.setenv("GRADED", str(tmp_path / "graded"))

    def found(says, **options):
        for name, text in says.items():
            (tmp_path / name).mkdir()
            (tmp_path / name / "says").write_text(text)
        todo = {name: tmp_path / name for name in says}
        return {name: (record, why) for name, record, why in guard.graded(todo, grade=grade, **options)}

    return found


@pytest.mark.slow
def test_a_grading_that_ends_or_hangs_has_a_record_and_the_others_have_theirs(found):
    says = {"a": "", "ends": "dies", "b": "shifted", "hangs": "hangs", "c": "", "full": "fills memory", "broken": "broken"}
    start = time.monotonic()
    got = found(says, jobs=3, seconds=20)
    assert time.monotonic() - start < 60 and got.keys() == says.keys()
    assert [got[name] for name in ("a", "c")] == [(a_record("a", shifted=False), None), (a_record("c", shifted=False), None)]
    assert got["b"][0].points == a_record("b").points
    for name, words in (("ends", r"ended by itself (3), perhaps for lack of memory"), ("hangs", "took more than 20 s")):
        record, why = got[name]
        assert (
            why is None
            and record.submission == name
            and words in record.notes[0]
            and "What is open here, a person marks" in record.notes[0]
        )
        assert {each.key: (each.points, each.out_of) for each in record.sections} == {key: (None, out_of) for key, out_of in POINTS.items()}
        assert record.open == record.out_of == TOTAL
    assert got["broken"] == (None, "RuntimeError: the grader stumbled")
    assert got["full"] == (None, "MemoryError: "), "the grading's own memory has a limit"


def test_a_folder_is_gone_afterwards_however_deep_and_whatever_its_permissions():
    with pytest.raises(KeyError), folder.working_folder() as where:
        here = os.getcwd()
        try:
            os.chdir(where)
            for _ in range(1100):
                os.mkdir("d" * 20)
                os.chdir("d" * 20)
        finally:
            os.chdir(here)
        (where / "shut").mkdir()
        (where / "shut" / "file").touch()
        (where / "shut").chmod(0)
        raise KeyError
    assert not where.exists()


KILLED = """
import os, subprocess, sys, time
from course.sandbox import folder
with folder.working_folder() as where:
    (where / "scratch").mkdir()
    environment = {**os.environ, "HOME": str(where / "scratch")}
    left = subprocess.Popen(["sleep", "1000"], env=environment, start_new_session=True)
    os.kill(left.pid, 19)  # stopped
    print(where, left.pid, flush=True)
    time.sleep(1000)
"""


def test_what_a_killed_grading_leaves_is_cleared_by_the_next_and_what_lives_is_not():
    environment = {**os.environ, "PYTHONPATH": str(Path(guard.__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", KILLED], env=environment, stdout=subprocess.PIPE, text=True)
    where, pid = process.stdout.readline().split()
    with folder.working_folder() as other:
        assert Path(where).is_dir() and psutil.pid_exists(int(pid)), "its grading is alive"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert Path(where).is_dir() and not other.exists()
    with folder.working_folder() as mine:
        assert not Path(where).exists() and mine.is_dir()
        psutil.wait_procs([psutil.Process(int(pid))] if psutil.pid_exists(int(pid)) else [], timeout=5)
        assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    assert not list(Path(tempfile.gettempdir()).glob(f"{folder.PREFIX}{folder.LOCK}-*"))
