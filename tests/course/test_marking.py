"""course.marking: the page is anonymous and inert, its files are taken, and the report is made anew with the points."""

import base64
import csv
import dataclasses
import hashlib
import io
import json
import re

import pytest
from a_class import NAMES, a_submission, answer_of, version, write
from PIL import Image
from records import EVIL, png

from course.__main__ import main
from course.grading import classroom, rubric
from course.marking import marking, page
from course.marking import marks as marks_file
from course.report import pages
from course.report.safe import file_name
from lab.training.checkpoint import write_text

ADA, BILAL = "Ada Kowalska", "Bilal Moreau"


@pytest.fixture
def report(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "_drawn", lambda draw, data: ("", ""))  # figures take most of the time, and are not what is looked at
    write(tmp_path / "report", [a_submission(ADA, 0, "Quality rises."), a_submission(BILAL, 1)], failed={"eve": "RuntimeError: no"})
    marking.mark(tmp_path / "report")
    return tmp_path / "report"


def marks_of(report):
    return json.loads((report / "marks.json").read_text("utf-8"))


def saved(report, name="marks-AB.json", by="AB", after=(), **items):
    """A file as the page saves it, in which `by` has given items to Ada: {section: [items]}."""
    made = marks_of(report)
    for key, given in items.items():
        shown = answer_of(report, ADA, key)
        said = version(f"{by}-{key}-{'-'.join(given)}", after, by=by, items=given, shown=shown, comment=f"from {by}: {EVIL}")
        made["answers"].setdefault(page.pseudonym(ADA), {})[key] = [said]
    made["answers"] = {key: row for key, row in made["answers"].items() if "-" in key}  # as the page: no names
    made["points"] = {}
    (report.parent / name).write_text(json.dumps(made))
    return report.parent / name


def scores(report):
    with open(report / "scores.csv", encoding="utf-8", newline="") as file:
        return {row["submission"]: row for row in csv.DictReader(file)}


def student(report, name=ADA):
    return (report / "students" / f"{file_name(name)}.html").read_text("utf-8")


def test_the_marks_of_a_file_come_into_every_page(report):
    assert scores(report)[ADA]["total"] == "" and scores(report)[ADA]["by_hand"] == "0"
    open_keys = [section.key for section in a_submission(ADA, 0).open_sections]
    assert marking.mark(report, [saved(report, **{key: ["start-1"] for key in open_keys})]) == ([], [])
    row, record = scores(report)[ADA], a_submission(ADA, 0)
    expected = {"training": 4, "guidance": 3, "customise": 5}
    assert {key: float(row[key]) for key in open_keys} == {key: expected[key] for key in open_keys}
    assert float(row["total"]) == record.points + sum(expected[key] for key in open_keys) and float(row["automatic"]) == record.points
    assert marks_of(report)["points"] == {ADA: {key: expected[key] for key in open_keys}}
    assert scores(report)[BILAL]["total"] == "" and scores(report)["eve"]["notes"] == "not graded: RuntimeError: no"
    own = student(report)
    assert "Samples under the seven weights are shown" in own and "from AB: &lt;script&gt;" in own and "Marked by a person" in own
    assert "more that a person gives" not in own and "more that a person gives" in student(report, BILAL)
    index = (report / "index.html").read_text("utf-8")
    assert f"<strong>{float(row['total']):g}</strong></td>" in index and "RuntimeError: no" in index and "Diffusion, autumn" in index


def test_the_page_of_a_class_that_is_marked_gives_the_mean_of_all_points(report):
    write(report, [a_submission(ADA, 0, "Quality rises.")])
    assert "given by hand" not in (report / "index.html").read_text("utf-8")
    record = a_submission(ADA, 0)
    marking.mark(report, [saved(report, **{section.key: ["start-3"] for section in record.open_sections})])
    assert f"and <strong>{record.points:g}</strong> of 40 with those given by hand" in (report / "index.html").read_text("utf-8")


def test_a_class_that_is_graded_again_keeps_its_marks(report):
    marking.mark(report, [saved(report, guidance=["start-1"])])
    before = student(report)
    classroom._keep(report, ADA, "another", a_submission(ADA, 0, "Quality rises."))
    assert student(report) != before, "made without marks"
    classroom.remake(report)
    assert student(report) == before
    classroom._keep(report, ADA, "another", a_submission(ADA, 0, "Something else."))
    classroom.remake(report)
    assert scores(report)[ADA]["guidance"] == "" and "the answer has changed since it was marked" in student(report)
    assert marks_of(report)["points"] == {} and ADA in marks_of(report)["answers"], "a grade book gets no points of another answer"


def test_two_markers_who_differ(report, capsys):
    one, other = saved(report, guidance=["start-1"]), saved(report, "marks-CD.json", by="CD", guidance=["start-3"])
    with pytest.raises(SystemExit) as error:
        main(["mark", str(report), "--take", str(one), str(other)])
    assert "markers differ; both are kept" in str(error.value)
    assert f"{ADA}, 2.5 Guidance weight: AB: 3 for" in str(error.value) and "CD: 0 for 'Nothing that can be marked'" in str(error.value)
    assert scores(report)[ADA]["guidance"] == "" and "two markers differ" in student(report)
    decided = saved(report, "marks-EF.json", by="EF", after=["AB-guidance-start-1", "CD-guidance-start-3"], guidance=["start-1", "start-2"])
    main(["mark", str(report), "--take", str(decided)])
    assert scores(report)[ADA]["guidance"] == "4" and "open " in capsys.readouterr().out
    main(["mark", str(report), "--take", str(one), str(other), str(decided)])
    assert scores(report)[ADA]["guidance"] == "4", "what is taken twice counts once"


def refused(report, path, words):
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as error:
        main(["mark", str(report), "--take", str(path)])
    assert re.search(words, str(error.value)), error.value
    assert before == {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}, "nothing is written"


def test_what_cannot_be_taken_is_refused_before_anything_is_written(report, tmp_path):
    path = saved(report, guidance=["start-1"])
    good = json.loads(path.read_text())

    def change(**fields):
        path.write_text(json.dumps(good | fields))
        return path

    own = good["answers"][page.pseudonym(ADA)]
    refused(report, change(answers={"AAAA-2222": own}), "marks no submission of this report, but 'AAAA-2222'")
    refused(report, change(rubric=good["rubric"] | {"essay": {}}), "marks the section 'essay'; this report has network, ")
    refused(report, change(points={ADA: {"guidance": 1}}), "says 1 points for 'Ada Kowalska' in 'guidance', but its items give 3")
    refused(report, change(points={BILAL: {"guidance": 1}}), "but no items are there")
    refused(report, change(answers=3), "marks-AB.json cannot be taken: answers is int")
    refused(report, tmp_path / "nowhere.json", "nowhere.json cannot be taken")
    with pytest.raises(SystemExit, match="is no report of a class; make one first"):
        main(["mark", str(tmp_path)])
    marking.mark(report, [change()])
    refused(report, change(report="another"), "was saved from the page of another report")
    (report / "marks.json").write_text("{")
    refused(report, saved_before(path, good), "report/marks.json cannot be taken")
    (tmp_path / "in" / "alice").mkdir(parents=True)
    with pytest.raises(SystemExit, match="report/marks.json cannot be taken"):
        main(["grade", "--all", str(tmp_path / "in"), "--out", str(report)])


def saved_before(path, good):
    path.write_text(json.dumps(good))
    return path


def test_a_report_that_is_damaged_is_named(report):
    record = report / "records" / f"{file_name(ADA)}.json"
    whole = record.read_text("utf-8")
    for content in ("{", "[]", "{}", '{"record": 3}'):
        record.write_text(content)
        refused(
            report,
            saved_before(report.parent / "m.json", marks_of(report)),
            "the record of 'Ada Kowalska' in .* cannot be read .*grade --all again",
        )
    record.write_text(whole)
    (report / "class.json").write_text("{")
    refused(report, report.parent / "m.json", "cannot be read .*grade --all again")
    (report / "class.json").unlink()  # as reports of earlier editions
    assert marking.mark(report) == ([], []) and set(scores(report)) == {ADA, BILAL}


def test_marks_json_that_is_lost_comes_back_from_the_markers_files(report):
    path = saved(report, guidance=["start-1"])
    (report / "marks.json").unlink()
    marking.mark(report)
    marking.mark(report, [path])
    assert marks_of(report)["points"] == {ADA: {"guidance": 3}} and marks_of(report)["report"] == json.loads(path.read_text())["report"]


def test_a_full_disk_loses_nothing(report, monkeypatch):
    path, before = saved(report, guidance=["start-1"]), (report / "marks.json").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(marking, "write_text", full)
    refused(report, path, "No space left on device")
    monkeypatch.setattr(marking, "write_text", write_text)
    marking.mark(report, [path])
    assert (report / "marks.json").read_bytes() != before and marks_of(report)["points"] == {ADA: {"guidance": 3}}


def test_marks_of_a_submission_that_is_gone_are_kept_and_named(report, capsys):
    marking.mark(report, [saved(report, guidance=["start-1"])])
    write(report, [a_submission(BILAL, 1)])
    main(["mark", str(report)])
    assert f"{ADA} has marks and is not in this class any more" in capsys.readouterr().out
    assert ADA in marks_of(report)["answers"] and page.pseudonym(ADA) not in (report / "mark.html").read_text("utf-8")
    main(["mark", str(report), "--take", str(late(report))])
    write(report, [a_submission(ADA, 0, "Quality rises."), a_submission(BILAL, 1)])
    main(["mark", str(report)])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()][-1] == "AAAA-2222" and scores(report)[ADA]["guidance"] == "3"
    assert scores(report)[BILAL]["customise"] == "5"
    marks = marks_of(report)  # as if Bilal had left the class before the file came, too
    marks["answers"][page.pseudonym(BILAL)] = marks["answers"].pop(BILAL)
    (report / "marks.json").write_text(json.dumps(marks | {"points": {}}))
    main(["mark", str(report)])
    assert scores(report)[BILAL]["customise"] == "5" and BILAL in marks_of(report)["answers"]


def late(report):
    """A file whose marker has marked one submission that has left the class, and one that has not."""
    made = json.loads(saved(report).read_text())
    shown, gone = answer_of(report, BILAL, "customise"), version("late", items=["start-1"], shown="gone")
    made["answers"] = {
        page.pseudonym(BILAL): {"customise": [version("b", items=["start-1"], shown=shown)]},
        "AAAA-2222": {"guidance": [gone]},
    }
    return saved_before(report.parent / "late.json", made)


def test_the_rubric_starts_with_the_points_of_the_section():
    for key, out_of in {"training": 8, **rubric.BY_HAND, "network": 6}.items():
        assert sum(points for _, points in rubric.items(key, out_of)) == out_of


# The page.


def test_no_name_stands_in_the_page_and_orders_differ():
    records = [a_submission(name, number, f"I, {name}, think so.") for number, name in enumerate(NAMES)]
    marks = marks_file.new()
    made = page.page("autumn", records, marks)
    for record in records:
        assert record.submission not in made and page.pseudonym(record.submission) in made
    assert made.count("I, (name), think so.") >= 60
    orders = {key: re.findall(rf'<article id="{key}-([A-Z2-7-]+)"', made) for key in ("guidance", "customise")}
    given = [page.pseudonym(record.submission) for record in records]
    assert sorted(orders["guidance"]) == sorted(orders["customise"]) == sorted(given)
    assert orders["guidance"] != orders["customise"] and given not in orders.values()
    assert page.page("autumn", records[::-1], marks) == made, "the same order whenever it is made"


@pytest.mark.parametrize(
    "name, text, hidden",
    [
        (
            "Ada Kowalska",
            "by Ada Kowalska, KOWALSKA, ADA; ada_kowalska; Kowalska et al.; Ada",
            "by (name), (name); (name); (name) et al.; Ada",
        ),
        ("alice", "/users/alice/x and Alice; malice", "/users/(name)/x and (name); malice"),
        ("Mark Best", "the best ω; Best", "the best ω; (name)"),
        ("b1", "b1 stays, as it is too short", "b1 stays, as it is too short"),
        ("(+*", "(+* is no pattern", "(+* is no pattern"),
    ],
)
def test_names_are_taken_out_of_texts(name, text, hidden):
    assert page._hider(name)(text) == hidden


def test_nothing_that_a_student_wrote_is_alive_in_the_page():
    shown = tuple((kind, f"</script>{EVIL}") for kind in ("text", "code", "output"))
    record = a_submission(f"eve{EVIL}", 0)
    sections = tuple(dataclasses.replace(each, shown=shown, notes=(EVIL,)) for each in record.open_sections)
    marks = marks_file.new()
    marks["rubric"]["guidance"] = {"start-1": [version("1", text=f"</script>{EVIL}", points=1)]}
    made = page.page(EVIL, [dataclasses.replace(record, sections=sections)], marks)
    assert made.count("<script") == 2 == made.count("</script>"), "the state and the page's own"
    assert 'alert("x")' not in made and "\x1b" not in made
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', made)
    assert re.fullmatch(
        r"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[^']+'",
        policy.replace("&#39;", "'"),
    )
    assert not re.search(r"\s(on\w+|href|srcdoc|action)\s*=", re.sub(r"<script.*?</script>", "", made, flags=re.S))
    assert set(re.findall(r'src="([^;"]*)', made)) <= {"data:image/png", "data:image/jpeg"}


def test_the_policy_allows_the_pages_own_script_and_no_other():
    made = page.page("autumn", [], marks_file.new())
    (script,) = re.findall(r"<script>(.*?)</script>", made, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in made


def test_a_large_picture_is_made_smaller_and_a_small_one_stays():
    noise = Image.effect_noise((1600, 900), 90).convert("RGBA")
    content = io.BytesIO()
    noise.save(content, "PNG")
    kind, made = page.small("png", base64.b64encode(content.getvalue()).decode())
    with Image.open(io.BytesIO(base64.b64decode(made))) as picture:
        assert kind == "jpeg" and picture.size == (900, 506) and len(made) < len(content.getvalue())
    assert page.small("png", png()) == ("png", png())
    broken = base64.b64encode(b"\x89PNG" + b"x" * 50_000).decode()
    assert page.small("png", broken) == ("png", broken)


def test_pseudonyms_that_meet_are_refused(monkeypatch):
    monkeypatch.setattr(page, "pseudonym", lambda name: "AAAA-AAAA")
    with pytest.raises(marks_file.MarksError, match="two submissions would get the same pseudonym"):
        page.pseudonyms(["a", "b"])
