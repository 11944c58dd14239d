"""course.grading.classroom: a class is graded whole, goes on where it was stopped, and its pages run nothing that a student wrote."""

import csv
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
from records import EVIL, SHIFTED, SWAPPED, a_record, grade
from test_writers import EVIL_PLAIN

from course.__main__ import main
from course.grading import classroom, depends
from course.grading.classroom import ClassError, grade_all
from course.grading.rubric import POINTS
from course.report import pages

ROOT = Path(__file__).parents[2]
EVERYONE = {"alice": "", "bob": "shifted", "carol": "shifted swapped", "=1+1": "", "<b>eve": "shifted"}


@pytest.fixture
def school(tmp_path, monkeypatch):
    """A folder with a class, as {name: what the stand-in of the grader sees}, and where the gradings are counted."""
    monkeypatch.setenv("GRADED", str(tmp_path / "graded"))
    forkserver._forkserver._stop()  # it keeps the environment that it was started in
    graded_with("config.py", monkeypatch)  # so that the tests can run while the grader is worked on

    def make(says):
        for name, text in says.items():
            (tmp_path / "in" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name / "says").write_text(text)
        return tmp_path / "in", tmp_path / "out"

    return make


def graded_with(path, monkeypatch):
    """Let all sections depend on this file alone."""
    monkeypatch.setattr(depends, "needs", lambda: dict.fromkeys(POINTS, frozenset([path])))


def graded(folder):
    path = folder.parent / "graded"
    names = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(names)


def scores(report):
    with open(report / "scores.csv", encoding="utf-8", newline="") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


def test_a_class(school):
    folder, report = school(EVERYONE)
    with zipfile.ZipFile(folder / "dave.zip", "w") as archive:
        archive.writestr("says", "")
    (folder / "metadata.yml").write_text("a platform's own")
    (folder / ".hidden").mkdir()
    (folder / "__MACOSX").mkdir()
    (folder / "link").symlink_to(folder / "alice")
    (folder / "Ada L_7_assignsubmission_file_").mkdir()
    (folder / "Ada L_7_assignsubmission_file_" / "says").write_text("")
    classroom._prepare(report)
    with classroom._alone(report):
        refused("another grading is writing to", folder, report)
    assert grade_all(folder, report, jobs=2, grade=grade) == []
    names = [*EVERYONE, "dave", "Ada L_7"]
    assert graded(folder) == sorted(names)
    rows = scores(report)
    assert set(rows) == {"'=1+1" if name == "=1+1" else name for name in names}, "no cell is a formula"
    carol = rows["carol"]
    assert (carol["scheduler"], carol["forward"], carol["guidance"], carol["automatic"]) == ("2", "3.5", "", "17.5")
    assert (carol["automatic_out_of"], carol["by_hand_out_of"], carol["misconceptions"]) == ("22", "18", f"{SHIFTED}; {SWAPPED}")
    index = (report / "index.html").read_text()
    assert "7 submissions" in index and "&lt;b&gt;eve" in index and index.count("data:image/png") == 4
    for what, count in ((SHIFTED, "3</td>.*43 %"), (SWAPPED, "1</td>.*14 %")):
        assert re.search(rf'{what}</th><td class="number">{count}', index)
    links = re.findall(r'href="([^"]+)"', index)
    assert len(links) == 7 and all((report / link).is_file() for link in links)


@pytest.mark.slow
def test_it_goes_on_and_grades_again_only_what_changed(school, monkeypatch):
    folder, report = school(EVERYONE)
    grade_all(folder, report, grade=grade)
    assert len(graded(folder)) == 5
    before = (report / "scores.csv").read_text()
    grade_all(folder, report, grade=grade)
    assert graded(folder) == [] and (report / "scores.csv").read_text() == before
    school({"bob": "", "new": ""})
    (report / "records" / "alice.json").write_text('{"of": "dam')
    grade_all(folder, report, grade=grade)
    assert graded(folder) == ["alice", "bob", "new"] and scores(report)["bob"]["automatic"] == "22"
    graded_with("pyproject.toml", monkeypatch)
    grade_all(folder, report, grade=grade)
    assert len(graded(folder)) == 6, "another grader gives other scores"


def test_nothing_that_lies_there_is_left_out_without_a_word(school):
    folder, report = school(
        {"Ada L_7_assignsubmission_file_": "", "Ada L_7_assignsubmission_onlinetext_": "", "Ben_8_assignsubmission_onlinetext_": ""}
    )
    odd = os.fsdecode(b"J\xfcrgen\x1b]0;owned\x07.txt")
    for name in ("turing_3_4_work.tar.gz", "gauss_7_8_DDPM.py", odd):
        (folder / name).write_text("x")
    said = []
    assert grade_all(folder, report, jobs=1, grade=grade, tell=said.append) == ["turing_3_4_work.tar.gz"]
    assert graded(folder) == ["Ada L_7", "Ben_8"], "of one who has handed in a text alone it is the submission"
    (line,) = said
    assert "each submission is a sub-folder or a zip" in line and all(name in line for name in ("turing", "gauss", "onlinetext"))
    assert line.isprintable() and line.encode()
    assert "turing_3_4_work.tar.gz</strong>: it is no zip: unpack it into a folder" in (report / "index.html").read_text()
    school({"turing_3_4_work": ""})
    assert grade_all(folder, report, jobs=1, grade=grade) == [], "as it says"


@pytest.mark.slow
def test_one_that_cannot_be_graded_is_named_and_tried_again(school):
    folder, report = school({"alice": "", "bob": "broken"})
    assert grade_all(folder, report, grade=grade) == ["bob"]
    assert scores(report)["bob"]["notes"] == "not graded: RuntimeError: the grader stumbled" and scores(report)["bob"]["automatic"] == ""
    assert "<strong>bob</strong>: RuntimeError: the grader stumbled" in (report / "index.html").read_text()
    graded(folder)
    school({"bob": "shifted"})
    assert grade_all(folder, report, grade=grade) == [] and graded(folder) == ["bob"]
    assert "Not graded" not in (report / "index.html").read_text()


@pytest.mark.slow
def test_nobody_can_be_graded(school):
    folder, report = school({"bob": "broken"})
    assert grade_all(folder, report, grade=grade) == ["bob"]
    assert list(scores(report)) == ["bob"] and "0 submissions" in (report / "index.html").read_text()


RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
from records import grade
from course.grading import classroom, depends
from course.grading.rubric import POINTS
depends.needs = lambda: dict.fromkeys(POINTS, frozenset(["config.py"]))
classroom.grade_all(sys.argv[1], sys.argv[2], 2, grade)
"""


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process):
    """Its command line; none, once it has ended, which it may between being listed and being asked."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def within(seconds, true):
    """Wait until true() holds."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("how", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGKILL])
@pytest.mark.parametrize("when", ["while the workers start", "while they grade"])
def test_stopped_at_any_moment_it_goes_on(school, how, when):
    """Three are graded and two held, each in a process of its own, when the grading is stopped; or none is graded yet."""
    names = [f"student_{i:02}" for i in range(12)]
    folder, report = school({name: "held" if i in (3, 4) else "" for i, name in enumerate(names)})
    log, hold = folder.parent / "graded", folder.parent / "graded.hold"
    hold.touch()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    process = subprocess.Popen([sys.executable, "-c", RUN, folder, report], env=environment, stderr=subprocess.DEVNULL)

    def inside():
        return psutil.Process(process.pid).children(recursive=True)

    def records():
        return {path.stem for path in (report / "records").glob("*.json")}

    if when == "while they grade":
        within(600, lambda: log.exists() and log.read_text().count("\n") == 5 and len(records()) == 3)
        assert len(set((folder.parent / "graded.by").read_text().split())) == 5
    else:
        within(600, lambda: sum("forkserver" in command_line(each) for each in inside()) >= 2)
    workers = inside()
    process.send_signal(how)
    process.wait(timeout=120)
    hold.unlink()
    started = graded(folder)
    time.sleep(1)
    assert not log.exists(), "nothing goes on when it is stopped"
    within(120, lambda: not any(map(alive, workers)))  # no process is left behind
    kept = records()
    assert kept <= set(started) & set(names[:3]) and (len(kept) == 3 or when != "while they grade")
    assert grade_all(folder, report, jobs=2, grade=grade) == []
    assert set(graded(folder)) == set(names) - kept and len(scores(report)) == 12


def refused(words, folder, report, **options):
    with pytest.raises(ClassError, match=words):
        grade_all(folder, report, grade=grade, **options)


def test_what_cannot_work_is_refused_before_any_work(school, tmp_path):
    folder, report = school({"alice": ""})
    refused("missing is no folder; name the one", tmp_path / "missing", report)
    refused("would lie among the submissions", folder, folder / "report")
    refused("would lie among the submissions", folder, folder)
    refused("--jobs 0; allowed", folder, report, jobs=0)
    (tmp_path / "empty").mkdir()
    refused("empty holds nothing; each submission is a sub-folder or a zip", tmp_path / "empty", report)
    refused("holds only says; each submission is", folder / "alice", report)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "scores.csv").write_text("mine")
    refused("mine holds something else than the report of a class", folder, tmp_path / "mine")
    refused("holds something else", folder, tmp_path / "mine" / "scores.csv")
    refused("cannot be written", folder, tmp_path / "mine" / "scores.csv" / "out")
    (folder / "Alice.zip").write_bytes(b"")
    refused("alice and Alice.zip would both be called|Alice.zip and alice would both be called", folder, report)
    assert graded(folder) == [] and not report.exists() and (tmp_path / "mine" / "scores.csv").read_text() == "mine"


def test_nothing_that_a_student_wrote_runs_in_a_page():
    record = a_record(name=f"eve{EVIL}", says=(EVIL,), notes=(EVIL,))
    evil = tuple((kind, EVIL) for kind in ("text", "code", "output"))
    by_hand = (dataclasses.replace(section, title=EVIL, shown=evil) for section in record.sections if section.points is None)
    sections = (*(section for section in record.sections if section.points is not None), *by_hand)
    record = dataclasses.replace(record, sections=sections, confinement=(EVIL,))
    for page in (pages.student_page(record), pages.class_page(f"class {EVIL}", [record], [(EVIL, EVIL)])):
        assert "<script" not in page and 'alert("x")' not in page and "&lt;script&gt;" in page and "\x1b" not in page
        assert "default-src 'none'" in page
        page.encode("utf-8")
    assert pages.student_page(record).count("&lt;script&gt;") >= 13


def test_misconceptions_are_counted_once_a_submission():
    records = [a_record("a"), a_record("b", swapped=True), a_record("c", shifted=False)]
    assert pages.misconceptions(records) == [(SHIFTED, 2), (SWAPPED, 1)]


def test_the_page_of_a_submission_shows_what_a_person_marks():
    page = pages.student_page(a_record(says=(EVIL,)))
    assert page.count("data:image/png") == 2 and "diversity falls" in page and EVIL_PLAIN not in page
    assert "up to <strong>18</strong> more that a person gives" in page


def command(*arguments):
    with pytest.raises(SystemExit) as error:
        main(list(map(str, arguments)))
    return str(error.value)


def test_the_command_says_what_to_do(tmp_path):
    assert "no submission; name a folder or a zip" in command("grade")
    assert "--all FOLDER needs --out REPORT" in command("grade", "--all", tmp_path)
    assert "no SUBMISSION and no --format" in command("grade", tmp_path, "--all", tmp_path, "--out", tmp_path / "r")
    assert "no SUBMISSION and no --format" in command("grade", "--all", tmp_path, "--format", "text", "--out", tmp_path / "r")
    assert "--jobs is for a class" in command("grade", tmp_path, "--jobs", 2)
    assert "cannot be written; name a file in a folder that exists" in command("grade", tmp_path, "--out", tmp_path / "no" / "file")
    assert "holds nothing" in command("grade", "--all", tmp_path, "--out", tmp_path.parent / "r")
