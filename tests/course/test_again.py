"""course.grading.again and depends: what can have changed is graded again, nothing else, and it is told whose points moved and why."""

import ast
import csv
import dataclasses
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from checks import FLOW
from records import a_record

from course.__main__ import main
from course.grading import again, depends, guard
from course.grading.classroom import ClassError, grade_all
from course.grading.grading import grade
from course.grading.rubric import POINTS
from course.marking import marks
from course.report.safe import file_name

ROOT = Path(__file__).parents[2]
KEYS = list(POINTS)


@pytest.fixture
def school(tmp_path, monkeypatch):
    """A class of thirty that is graded in this process, by checks that `checks` describes: {path: version}, and what they are strict about."""
    folder = tmp_path / "in"
    for number in range(30):
        (folder / f"student {number:02}").mkdir(parents=True)
        (folder / f"student {number:02}" / "DDPM.py").write_text(str(number))
    school = School(folder, tmp_path / "out")
    monkeypatch.setattr(depends, "needs", lambda: {key: frozenset(["common.py", f"{key}.py"]) for key in KEYS})
    monkeypatch.setattr(depends, "versions", lambda paths: {path: school.versions.get(path, "1") for path in paths})
    monkeypatch.setattr(guard, "graded", school.graded)
    return school


class School:
    def __init__(self, folder, report):
        self.folder, self.report = folder, report
        self.versions, self.strict, self.asked, self.fails = {}, set(), {}, set()

    def graded(self, todo, jobs, grade=None, only=None):
        for name, path in todo:
            self.asked[name] = only[name]
            if name in self.fails:
                yield name, None, "no sandbox"
                continue
            number = int((path / "DDPM.py").read_text())
            record = a_record(
                name, shifted="scheduler" in self.strict and number % 3 == 0, swapped="forward" in self.strict and number % 5 == 0
            )
            record = dataclasses.replace(record, notes=(f"graded {len(self.asked)}",))
            wanted = tuple(section for section in record.sections if only[name] is None or section.key in only[name])
            yield name, dataclasses.replace(record, sections=wanted), None

    def run(self, **how):
        """(the failed, {name: sections} that were graded, the lines that were told)."""
        self.asked, lines = {}, []
        return grade_all(self.folder, self.report, tell=lines.append, **how), self.asked, lines

    def record(self, name, folder=""):
        return json.loads((self.report / folder / "records" / f"{file_name(name)}.json").read_text())

    def scores(self):
        with open(self.report / "scores.csv", encoding="utf-8", newline="") as file:
            return {row["submission"]: row["automatic"] for row in csv.DictReader(file)}

    def everything(self):
        return {path: path.read_bytes() for path in sorted(self.report.rglob("*")) if path.is_file() and "pending" not in path.parts}


def test_only_the_sections_that_a_change_can_reach_are_graded_again(school):
    failed, asked, lines = school.run()
    assert failed == [] and len(asked) == 30 and set(asked.values()) == {None} and lines == []
    assert school.run()[1:] == ({}, []), "nothing has changed"
    school.versions, school.strict = {"forward.py": "2"}, {"forward"}
    failed, asked, lines = school.run()
    assert len(asked) == 30 and set(asked.values()) == {frozenset(["forward"])}
    moved = [f"student {n:02}" for n in range(0, 30, 5)]
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == moved
    assert lines[0] == "student 00: 22 -> 19.5 points; changed in the course: forward.py"
    assert lines[1] == "    2.2 Training: x_t mixes image and noise by the two roots: 6 -> 3.5: The two roots are swapped."
    assert school.scores() == {f"student {n:02}": "19.5" if n % 5 == 0 else "22" for n in range(30)}
    kept = school.record("student 05")["record"]
    assert [section["key"] for section in kept["sections"]] == KEYS and kept["notes"] == ["graded 6", "graded 6"][:1]
    school.versions = {"forward.py": "2", "common.py": "2"}
    assert set(school.run()[1].values()) == {None}, "what all depend on"


@pytest.mark.slow
def test_a_changed_submission_is_graded_whole_and_an_unknown_file_means_all(school):
    school.run()
    (school.folder / "student 03" / "DDPM.py").write_text("0")
    school.strict = {"scheduler"}
    _, asked, lines = school.run()
    assert asked == {"student 03": None}
    assert lines[0] == "student 03: 22 -> 20 points; the submission has changed"
    kept = school.record("student 04")
    kept["of"]["files"]["gone.py"] = "1"
    (school.report / "records" / f"{file_name('student 04')}.json").write_text(json.dumps(kept))
    kept = school.record("student 05")
    (school.report / "records" / f"{file_name('student 05')}.json").write_text(json.dumps({**kept, "of": "digest by digest"}))
    (school.report / "records" / f"{file_name('student 06')}.json").write_text('{"of": "dam')
    _, asked, lines = school.run()
    assert asked == {"student 04": None, "student 05": None, "student 06": None}
    assert lines == [], "a record that was damaged has no points that moved"


def test_a_dry_run_leaves_the_report_and_the_next_grading_takes_it_over(school):
    school.run()
    before = school.everything()
    school.versions, school.strict = {"scheduler.py": "2"}, {"scheduler"}
    failed, asked, lines = school.run(dry=True)
    assert len(asked) == 30 and len(lines) == 20 and lines[0].startswith("student 00: 22 -> 20 points")
    assert {path: text for path, text in school.everything().items() if path.name != ".lock"} == {
        path: text for path, text in before.items() if path.name != ".lock"
    }
    page = (school.report / "pending" / "again.html").read_text()
    assert "A dry run" in page and page.count("<strong>student") == 10 and "changed in the course: scheduler.py" in page
    assert "This is what you get when the schedule starts at t = 0" in page, "why the point is lost"
    assert school.run(dry=True)[1:] == ({}, lines), "nothing is graded twice, and it says the same"
    (school.folder / "student 06" / "DDPM.py").write_text("1")
    failed, asked, told = school.run()
    assert asked == {"student 06": None} and told == [line for at, line in enumerate(lines) if at not in (4, 5)]
    assert not (school.report / "pending").exists() and school.scores()["student 00"] == "20"
    page = (school.report / "again.html").read_text()
    assert "A dry run" not in page and page.count("<strong>student") == 9
    assert "points of 9 submissions have moved." in (school.report / "index.html").read_text()


@pytest.mark.slow
def test_the_report_keeps_what_moved_before(school):
    school.run()
    school.versions, school.strict = {"forward.py": "2"}, {"forward"}
    school.run()
    school.versions, school.strict = {"forward.py": "3"}, set()
    lines = school.run()[2]
    assert lines[0] == "student 00: 19.5 -> 22 points; changed in the course: forward.py"
    history = school.record("student 00")["moved"]
    assert [(each["from"], each["to"]) for each in history] == [(22, 19.5), (19.5, 22)]
    assert (school.report / "again.html").read_text().count("<strong>student 00") == 2


@pytest.mark.slow
def test_one_that_cannot_be_graded_again_is_named_and_keeps_its_record(school):
    school.run()
    before = school.record("student 01")
    school.versions, school.fails = {"forward.py": "2"}, {"student 01"}
    failed, _, _ = school.run()
    assert failed == ["student 01"] and school.record("student 01") == before
    assert "no sandbox" in (school.report / "index.html").read_text()
    assert json.loads((school.report / "class.json").read_text())["failed"] == {"student 01": "no sandbox"}


def test_regrade_requests_are_lines_in_a_file_and_stand_in_the_report(school):
    school.run()
    path = school.report / "requests.csv"
    path.write_text(
        "submission;section;request;answer\n"
        'student 02;2.2;"My mask is right; <b>look</b>.";\n'
        "student 03;scheduler;The table starts at 1.;You are right.\n"
        "student 99;forward;Hello;\nstudent 04;2.9;Hello;\n"
    )
    school.run()
    page = (school.report / "again.html").read_text()
    assert "My mask is right; &lt;b&gt;look&lt;/b&gt;." in page and '<td>2.2 Training</td>\n<td class="number">6 / 6</td>' in page
    assert "You are right." in page and page.count("<strong>open</strong>") == 3
    assert "no such submission" in page and "no such section" in page
    assert "4 regrade requests, 3 without an answer." in (school.report / "index.html").read_text()
    path.write_text("who,what\na,b\n")
    with pytest.raises(ValueError, match="requests.csv has the columns who, what; needed are submission, section, request"):
        school.run()


def test_a_stopped_grading_replaces_the_record_and_says_so(school):
    old, new = a_record("a", shifted=False), guard._Grading._stopped
    path = school.report.parent / "a.zip"
    stops = lambda: new(types.SimpleNamespace(name="a", began=0, path=path), "took more than 150 s")[0]
    path.write_bytes(b"1")
    stopped = stops()
    assert again.merged(old, stopped, None) == stopped
    (kept,) = {section.points for section in again.merged(old, stopped, frozenset(["forward"])).sections if section.key == "scheduler"}
    assert kept == 4 and again.merged(old, stopped, frozenset(["forward"])).points == 16, "what was not graded again stays"
    afterwards = again.merged(again.merged(old, stopped, frozenset(["forward"])), old, frozenset(["forward"]))
    assert afterwards.points == 22 and not any("was stopped" in note or "took more" in note for note in afterwards.notes)
    path.write_bytes(b"2")
    changed = [marks.shown_digest(one) != marks.shown_digest(other) for one, other in zip(stopped.sections, stops().sections)]
    assert all(changed), "a mark is for the file that was there"
    path.unlink()
    assert not stops().points, "a record there is in any case"
    moved = again.moved(old, stopped, "now", "why")
    assert (moved["from"], moved["to"]) == (22, 0) and all(row["to"] is None for row in moved["rows"])
    assert again.moved(old, dataclasses.replace(old, notes=("x",), seconds=1), "now", "why") is None


def test_dry_run_and_worker_do_not_go_together(school, tmp_path):
    with pytest.raises(ClassError, match="--dry-run and --worker"):
        school.run(dry=True, worker=True)
    with pytest.raises(SystemExit, match="--dry-run is for a class"):
        main(["grade", str(tmp_path), "--dry-run"])
    assert not school.report.exists()


def test_what_the_sections_depend_on():
    needs = depends.needs()
    common = frozenset.intersection(*needs.values())
    own = {key: {Path(path).name for path in needs[key] - common} for key in needs}
    assert own["network"] == {"network.py", "scheduler.py"} and own["scheduler"] == {"scheduler.py"}
    assert own["forward"] == {"forward.py", "scheduler.py"} and own["sample"] == {"sample.py", "forward.py", "scheduler.py"}
    assert {"weights.py", "judge.safetensors"} <= own["training"] and own["guidance"] == own["customise"] == {"ConditionalDDPM.ipynb"}
    for path in ("course/sandbox/worker.py", "course/intake/notebook.py", "course/grading/rubric.py", "tests/checks/student.py",
                 "tests/checks/truth.py", "lab/speed/fast.py", "config.py", "course/report/record.py", "course/grading/guard.py"):  # fmt: skip
        assert path in common
    for path in (
        "course/README.md",
        "course/report/pages.py",
        "course/gradebook/export.py",
        "course/grading/classroom.py",
        "tests/conftest.py",
    ):
        assert not any(path in files for files in needs.values()), f"{path} moves no points"


def test_comments_do_not_count_and_code_does(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "a.md").write_text("x")
    first = depends.versions(["a.py", "a.md"], tmp_path)
    (tmp_path / "a.py").write_text("# a comment\nx  =  1\n")
    assert depends.versions(["a.py", "a.md"], tmp_path) == first
    (tmp_path / "a.py").write_text("x = 2\n")
    (tmp_path / "a.md").write_text("y")
    second = depends.versions(["a.py", "a.md"], tmp_path)
    assert second["a.py"] != first["a.py"] and second["a.md"] != first["a.md"]


def test_an_import_anywhere_in_a_file_is_followed(tmp_path):
    for name in (
        "course/__init__",
        "course/a/__init__",
        "course/a/b",
        "tests/checks/__init__",
        "tests/checks/c",
        "lab/d",
        "config",
        "other",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text("")
    (tmp_path / "course/a/b.py").write_text(
        "import os\ndef f():\n    from checks import c\n    from checks.c import nothing\nimport config, other\n"
    )
    (tmp_path / "tests/checks/c.py").write_text("try:\n    import lab.d as d\nexcept ImportError:\n    pass\n")
    (tmp_path / "course/start.py").write_text("from course.a.b import f\n")
    found = depends._reached(["course/start.py"], tmp_path)
    wanted = {"course/start.py", "course/__init__.py", "course/a/__init__.py", "course/a/b.py", "tests/checks/__init__.py", "tests/checks/c.py",
              "lab/d.py", "config.py"}  # fmt: skip
    assert found == wanted and depends._reached(["course/start.py"], tmp_path, {"tests/checks/c.py"}) == wanted - {
        "tests/checks/c.py",
        "lab/d.py",
    }


LOADED = """
import json, sys
from pathlib import Path
import course.grading.grading, course.grading.guard, course.sandbox.child, course.sandbox.worker
files = [Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
ours = [path.relative_to(Path.cwd()).as_posix() for path in files if path.is_relative_to(Path.cwd())]
print(json.dumps([name for name in ours if "site-packages" not in name]))  # an environment may lie in the project's folder
"""


@pytest.mark.slow
def test_all_that_the_grader_loads_is_known():
    loaded = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    known = frozenset.union(*depends.needs().values())
    off = set() if FLOW else {"tests/checks/flow.py"}  # loaded, but asked for nothing
    assert set(json.loads(loaded)) - off <= known and "course/sandbox/child.py" in loaded


def test_the_network_and_the_training_ask_nothing_that_another_section_finds_out():
    """grading.grade runs the checks of 2.1 before those of 2.2 and 2.3, as they tell whether the student's schedule can be called."""
    for path, allowed in (("tests/checks/network.py", {"network"}), ("course/grading/weights.py", {"open", "close"})):
        nodes = ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
        asked = {
            node.attr
            for node in nodes
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "student"
        }
        assert asked == allowed, path


@pytest.mark.slow
def test_some_sections_alone_are_graded_as_in_the_whole(tmp_path):
    """A submission whose scheduler raises is told so by 2.1 alone; 2.2 is lent one, whether 2.1 is wanted or not."""
    shutil.copytree(Path(__file__).parent / "solutions" / "a" / "r01", tmp_path / "one")
    text = (tmp_path / "one" / "DDPM.py").read_text()
    (tmp_path / "one" / "DDPM.py").write_text(
        text.replace("def scheduler(self, t_s):", "def scheduler(self, t_s):\n        raise KeyError(t_s)", 1)
    )
    assert "raise KeyError" in (tmp_path / "one" / "DDPM.py").read_text()
    whole = grade(tmp_path / "one")
    some = grade(tmp_path / "one", only={"forward", "guidance"})
    assert [section.key for section in some.sections] == ["forward", "guidance"]
    assert list(some.sections) == [section for section in whole.sections if section.key in ("forward", "guidance")]
    assert whole.sections[1].points == 0 and some.sections[0].points == 6
    nothing = grade(tmp_path / "one", only={"customise"})
    assert [section.key for section in nothing.sections] == ["customise"] and nothing.seconds < some.seconds
