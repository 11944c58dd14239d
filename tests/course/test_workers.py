"""course.grading.claims, and grade_all with worker: a class that several machines share, of which one is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from records import a_record, grade
from test_classroom import ROOT, graded, graded_with, school, scores, within  # noqa: F401

from course.grading import classroom, guard
from course.grading.claims import MOST, Claims, clear
from course.grading.classroom import ClassError, grade_all


def aged(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_claim_is_one_workers_until_it_is_done_or_lost(tmp_path):
    one, two = Claims(tmp_path, lost=100), Claims(tmp_path, lost=100)
    assert one.take("a") and not two.take("a") and one.holds("a") and not two.holds("a")
    one.drop("a")
    assert two.take("a") and not one.holds("a")
    aged(tmp_path / "a.claim-0", 90)
    assert not one.take("a"), "it may still be at it"
    aged(tmp_path / "a.claim-0", 110)
    assert one.take("a") and one.holds("a") and not two.holds("a"), "two was lost"
    two.drop("a")
    two.drop("b")
    assert one.holds("a"), "who comes late takes nothing away"
    one.drop("a")
    assert not list(tmp_path.iterdir()) and one.why("a") == "no worker took it"


def test_of_two_who_see_a_lost_claim_only_one_gets_it(tmp_path, monkeypatch):
    one, two, three = (Claims(tmp_path, lost=100) for _ in range(3))
    assert one.take("a")
    aged(tmp_path / "a.claim-0", 110)
    over = two._over

    def meanwhile(path):
        said = over(path)
        assert three.take("a")
        return said

    monkeypatch.setattr(two, "_over", meanwhile)
    assert not two.take("a") and three.holds("a")


def test_a_failed_one_is_another_workers_at_once_and_is_given_up_in_the_end(tmp_path):
    workers = [Claims(tmp_path, lost=100) for _ in range(MOST)]
    for number, worker in enumerate(workers):
        assert not worker.given_up("a") and worker.take("a")
        worker.fail("a", f"no sandbox on {number}")
    assert workers[0].given_up("a") and workers[0].why("a") == "no sandbox on 2" and not Claims(tmp_path).take("a")
    clear(tmp_path)
    assert not list(tmp_path.iterdir())
    for number in range(MOST):
        assert Claims(tmp_path, lost=100).take("b")
        aged(tmp_path / f"b.claim-{number}", 110)
    assert workers[0].given_up("b") and "not finished; the last worker: " in workers[0].why("b")


def test_a_result_that_comes_too_late_is_not_taken(tmp_path, monkeypatch):
    """Its claim was lost, another worker has it, and that one's record counts."""
    (tmp_path / "in" / "alice").mkdir(parents=True)
    graded_with("config.py", monkeypatch)
    other, calls = Claims(tmp_path / "out" / "records", lost=100), []

    def slow(todo, jobs, grade=None, only=None):
        for name, _ in todo:
            calls.append(name)
            if len(calls) == 1:
                aged(tmp_path / "out" / "records" / "alice.claim-0", 110)
                assert other.take("alice")
            elif len(calls) == 2:
                raise AssertionError("it is the other's")
            yield name, a_record(name, shifted=True), None

    def finish(seconds):
        work.clear()
        kept = classroom._kept(tmp_path / "out", "alice")
        assert kept is None, "the late record was written"
        course = classroom.again.Course()
        of = {"submission": classroom.digest(tmp_path / "in" / "alice"), "files": course.files}
        classroom._keep(tmp_path / "out", "alice", of, a_record("alice", shifted=False))
        other.drop("alice")

    work = [1]
    monkeypatch.setattr(guard, "graded", slow)
    monkeypatch.setattr(classroom.time, "sleep", finish)
    assert grade_all(tmp_path / "in", tmp_path / "out", worker=True, lost=100) == [] and work == []
    assert scores(tmp_path / "out")["alice"]["automatic"] == "22"


RUN = """
import sys
from records import grade
from course.grading import classroom, depends
from course.grading.rubric import POINTS
depends.needs = lambda: dict.fromkeys(POINTS, frozenset(["config.py"]))
print(classroom.grade_all(sys.argv[1], sys.argv[2], 2, grade, worker=True, lost=float(sys.argv[3])))
"""


def worker(folder, report, lost):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    command = [sys.executable, "-c", RUN, folder, report, str(lost)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_two_workers_of_which_one_is_killed(school):  # noqa: F811
    """The first holds two that do not end when it is killed; the second grades these too, each once, and makes the report."""
    names = [f"student_{i:02}" for i in range(12)]
    folder, report = school({name: "held" if i in (2, 5) else "shifted" * (i % 2) for i, name in enumerate(names)})
    hold = folder.parent / "graded.hold"
    hold.touch()
    first = worker(folder, report, 600)
    claims, log = report / "records", folder.parent / "graded"
    within(300, lambda: log.exists() and {"student_02", "student_05"} <= set(log.read_text().split()))
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=60)
    time.sleep(1.5)
    hold.unlink()
    assert graded(folder) == names[:6] and {path.stem for path in claims.glob("*.json")} == {names[i] for i in (0, 1, 3, 4)}
    assert {path.name for path in claims.glob("*.claim-*")} == {"student_02.claim-0", "student_05.claim-0"}
    second = worker(folder, report, 1)
    assert second.communicate(timeout=300)[0].strip() == "[]"
    assert graded(folder) == [names[2], *names[5:]]
    assert {name: row["automatic"] for name, row in scores(report).items()} == {
        name: "20" if i % 2 and i != 5 else "22" for i, name in enumerate(names)
    }
    assert not list(claims.glob("*.claim-*")) and not list(claims.glob(".clock*"))
    assert "12 submissions" in (report / "index.html").read_text()


@pytest.mark.nightly
def test_two_workers_share_a_class_and_grade_each_once(school):  # noqa: F811
    names = [f"student_{i:02}" for i in range(16)]
    folder, report = school({name: "broken" if i == 3 else "" for i, name in enumerate(names)})
    workers = [worker(folder, report, 600) for _ in range(2)]
    said = [each.communicate(timeout=300)[0].strip() for each in workers]
    assert said == ["['student_03']"] * 2, "what both could not grade is named by both"
    log = graded(folder)
    assert set(log) == set(names) and all(log.count(name) == 1 for name in names if name != "student_03") and log.count("student_03") == 2
    assert len(scores(report)) == 16 and scores(report)["student_03"]["notes"] == "not graded: RuntimeError: the grader stumbled"
    school({"student_03": ""})
    assert grade_all(folder, report, grade=grade) == [] and graded(folder) == ["student_03"]
    assert not list((report / "records").glob("*.claim-*"))


def test_workers_that_start_together_do_not_stop_each_other(tmp_path, monkeypatch):
    """They write one file by one temporary name: for the slower one it is gone."""

    def gone(path, text):
        raise FileNotFoundError(path)

    monkeypatch.setattr(classroom, "write_text", gone)
    classroom._prepare(tmp_path / "out")
    assert (tmp_path / "out" / "records").is_dir()


def test_a_worker_waits_for_no_lock_but_a_grading_does(tmp_path):
    (tmp_path / "in" / "alice").mkdir(parents=True)
    classroom._prepare(tmp_path / "out")
    with classroom._alone(tmp_path / "out"), pytest.raises(ClassError, match="another grading is writing"):
        grade_all(tmp_path / "in", tmp_path / "out", grade=grade)
