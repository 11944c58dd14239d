"""course.gradebook: the points of a class of thirty go into the grade book's own file, to the right people and nobody else."""

import csv
import json
import re
import zipfile

import pytest
import rosters
from rosters import PEOPLE, person, submissions

from course.__main__ import main
from course.gradebook import sheet as sheets
from course.gradebook.export import export
from course.gradebook.feedback import _folder_name
from course.gradebook.grades import ExportError, read_grades
from course.gradebook.people import Roster, people, words
from course.gradebook.platforms import canvas
from course.gradebook.sheet import Sheet, SheetError, bare, defused
from course.report.safe import file_name
from course.report.writers import points


def table(path, encoding="utf-8-sig", delimiter=","):
    with open(path, encoding=encoding, newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def of(record, marks=()):
    return points(record.points + sum(dict(marks).values()))


@pytest.mark.parametrize("form", ["canvas", "login", "id"])
def test_canvas(tmp_path, form):
    """Only what Canvas needs and what is new goes back: who people are, the points possible, one assignment under its exact name."""
    names = submissions(form)
    records = rosters.report(tmp_path / "report", names[:-2])  # two have handed in nothing
    roster = rosters.canvas(tmp_path / "grades.csv", cells={4: "N/A", 5: "EX", 6: "11.00"})
    lines, left_out = export(tmp_path / "report", roster, "canvas", column="Conditional DDPM")
    written = (tmp_path / "report" / "export" / "canvas.csv").read_bytes()
    assert written.startswith(b"\xef\xbb\xbf") and written.count(b"\r\n") == written.count(b"\n"), "as Canvas writes it"
    header, possible, *rows = table(tmp_path / "report" / "export" / "canvas.csv")
    assert header == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Conditional DDPM (90210)"]
    assert possible[0].strip() == "Points Possible" and possible[5] == "40.00"
    wanted = {person(n)[2]: of(records[names[n]]) for n in range(28) if n not in (4, 5)}
    assert {row[1]: row[5] for row in rows} == wanted and len(rows) == len(wanted)
    assert [row[0] for row in rows][:2] == ["Vexhall, Ada", "Müller-Öst, Zoë"]
    said = "\n".join(lines)
    assert (
        left_out == 2 and "left out: Wiśnicka, Łucja (81028) is not given this assignment" in said and "Ek, Bo (81035) is excused" in said
    )
    assert "has the points of 26 of 31 people" in said and "3 people have handed in nothing" in said  # the test student, too


def test_canvas_knows_each_assignment_by_name_or_id_and_never_takes_a_sum(tmp_path):
    sheet = sheets.read(rosters.canvas(tmp_path / "grades.csv"))
    for wanted in ("90210", "Conditional DDPM", "Conditional DDPM (90210)"):
        assert sheet.header[canvas(sheet, wanted).item] == "Conditional DDPM (90210)"
    assert sheet.header[canvas(sheet, "Essay (5 pages)").item] == "Essay (5 pages) (90311)"
    with pytest.raises(SheetError, match=r"has 3 assignments, Warm-up \(90117\) \| Conditional DDPM \(90210\) .*name that of this course"):
        canvas(sheet)
    for wanted in ("Current Score", "DDPM", "9021", "Old"):
        with pytest.raises(SheetError, match="is none of the assignments"):
            canvas(sheet, wanted)


def test_moodle_and_its_feedback(tmp_path):
    names = submissions("moodle")
    records = rosters.report(tmp_path / "report", names)
    marks = {names[0]: {"guidance": 3.5, "customise": 6, "training": 1}}
    rosters.mark(tmp_path / "report", records, marks)
    before = table(rosters.moodle(tmp_path / "worksheet.csv", locked=[9]))
    lines, left_out = export(tmp_path / "report", tmp_path / "worksheet.csv", "moodle")
    after = table(tmp_path / "report" / "export" / "moodle.csv", "utf-8")
    number_of = {person(n)[2]: n for n in range(30)}
    assert after[0] == before[0] and len(after) == 30, "all but the locked one"
    for row in after[1:]:
        n = number_of[row[0].removeprefix("Participant ")]
        by_hand = {
            key: given
            for key, given in marks.get(names[n], {}).items()
            if records[names[n]].sections[4].points is None or key != "training"
        }
        (old,) = [each for each in before if each[0] == row[0]]
        assert [defused(cell) for cell in old[:4]] + [of(records[names[n]], by_hand)] + old[5:] == row
    assert left_out == 1 and "left out: Søren Ærøbo (Participant 81063) has a grade that is locked" in "\n".join(lines)
    assert f"{28} of these people have" in "\n".join(lines), "one is marked whole"
    with zipfile.ZipFile(tmp_path / "report" / "export" / "moodle_feedback.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert len(texts) == 29
    for name, text in texts.items():  # read as Moodle does: the number stands second between underscores
        parts = name.split("/")[0].split("_", 4)
        assert parts[2:4] == ["assignsubmission", "file"] and parts[1] in number_of and name.endswith("/feedback.txt")
        assert text.startswith(f"{[row[4] for row in after if row[0].endswith(parts[1])][0]} of 40 points")
    assert "2.5 Guidance weight: 3.5 of 4, by a person" in texts["Ada Vexhall_81000_assignsubmission_file_/feedback.txt"]
    assert "2.5 Guidance weight: not marked yet" in texts["Zoë Müller-Öst_81007_assignsubmission_file_/feedback.txt"]
    assert "Rosa =1+1_81203_assignsubmission_file_/feedback.txt" in texts
    assert _folder_name("Jo_7_ /Doe. ") == "Jo 7   Doe", "an underscore would part it elsewhere"


@pytest.mark.parametrize("how", [{}, {"encoding": "utf-8", "delimiter": ","}], ids=["xls", "csv"])
def test_blackboard(tmp_path, how):
    names = submissions("blackboard")
    records = rosters.report(tmp_path / "report", names)
    lines, left_out = export(tmp_path / "report", rosters.blackboard(tmp_path / "gc.xls", **how), "blackboard")
    content = (tmp_path / "report" / "export" / "blackboard.xls").read_bytes()
    assert content.startswith(b"\xff\xfe") == (not how), "in the encoding that it came in"
    rows = table(tmp_path / "report" / "export" / "blackboard.xls", how.get("encoding", "utf-16"), how.get("delimiter", "\t"))
    assert rows[0] == ["Last Name", "First Name", "Username", "Student ID", "Conditional DDPM [Total Pts: 40 Score] |448812"]
    assert {row[2]: row[4] for row in rows[1:]} == {person(n)[4]: of(records[names[n]]) for n in range(30)} and left_out == 0
    assert rows[30][0] == "'=1+1", "no cell is a formula"
    assert '"Last Name"' in content.decode(how.get("encoding", "utf-16")), "quoted, as before"


def test_a_table_of_ones_own_and_a_row_a_section(tmp_path):
    names = submissions("id")
    records = rosters.report(tmp_path / "report", [*names[:29], "who is this"])
    marks = {names[1]: {"guidance": 0, "customise": 5.5}}
    rosters.mark(tmp_path / "report", records, marks)
    rows = [["Name", "Student ID", "Group", "Points of last year"], *([" ".join(person(n)[:2]), person(n)[3], n % 3, 9] for n in range(30))]
    roster = rosters.write(tmp_path / "roster.csv", rows, delimiter=";", encoding="utf-8", ending="\n")
    lines, left_out = export(tmp_path / "report", roster, "csv")
    header, *rows = table(tmp_path / "report" / "export" / "grades.csv", delimiter=";")
    assert header[:4] == ["Name", "Student ID", "Group", "submission"] and len(rows) == 30
    assert header[-5:] == ["automatic", "by hand", "points", "out of", "sections not marked"]
    assert [row[-3] for row in rows] == [of(records[name], marks.get(name, {})) for name in names[:29]] + [""]
    assert rows[1][header.index("2.5 Guidance weight")] == "0" and rows[0][header.index("2.5 Guidance weight")] == "", (
        "0 is a mark, nothing is none"
    )
    assert rows[1][-1] == str(int(records[names[1]].sections[4].points is None)) and rows[1][-4] == "5.5"
    assert left_out == 1 and "1 people have handed in nothing: Rosa =1+1" in "\n".join(lines)
    export(tmp_path / "report", roster, "csv", by_section=True)
    header, *rows = table(tmp_path / "report" / "export" / "grades.csv", delimiter=";")
    assert header == ["Name", "Student ID", "Group", "submission", "section", "points", "out of", "given by"] and len(rows) == 29 * 7
    assert [row[5:] for row in rows if row[1] == person(1)[3]][-2:] == [["0", "4", "a person"], ["5.5", "6", "a person"]]
    assert [row[5:] for row in rows if row[1] == person(0)[3]][-1] == ["", "6", "nobody yet"]


def roster(*rows, header=("Student", "ID", "SIS Login ID")):
    sheet = Sheet(header, tuple(map(list, rows)))
    return Roster(people(sheet)), sheet


ONE = [("Vexhall, Ada", "12", "avex"), ("Braxley, Tim", "34", "tbrax"), ("Smithers, Anna", "56", "asm1"), ("Smithers, Anna", "78", "asm2")]


@pytest.mark.parametrize(
    "name, who",
    [
        ("12", 0), ("avex", 0), ("AVEX", 0), ("Ada Vexhall", 0), ("Vexhall Ada", 0), ("ádà VEXHALL", 0), ("Ada Vexhall_12", 0), ("Anna Smithers_78", 3),
        ("vexhallada_LATE_12_34_work", 0), ("smithersanna_78_12_work-2", 3), ("HW_tbrax_attempt_2026-11-20-14-22-11_a.zip", 1),
        ("101-202 - Tim Braxley - Nov 20, 2026 223 PM - work", 1), ("Group A-Ada Vexhall_12", 0), ("asm2", 3),
        # none of these is guessed
        ("Anna Smithers", "2 people fit by their name"), ("Ada", "nobody has"), ("Ada Vexhal", "nobody has"), ("submission_12", "somebody with another name"),
        ("Ada Vexhall_34", "its id is one person's, the rest of its name another's"), ("Bob Else_12", "somebody with another name"),
        ("braxleytim_12_34_work", "another's"), ("elsebob_12_34_work", "another name"), ("1", "nobody has"), ("012", "nobody has"),
        ("vexhall", "nobody has"), ("work_avex", "nobody has"), ("avex@example.edu", "nobody has"),
    ],
)  # fmt: skip
def test_a_submission_is_matched_by_id_then_login_then_name_and_never_by_a_guess(name, who):
    found, strange = roster(*ONE)[0].match([name])
    if isinstance(who, int):
        assert {name: person.row for name, person in found.items()} == {name: who} and not strange
    else:
        assert not found and who in strange[0].why


def test_two_submissions_of_one_person_and_two_people_with_one_id_are_for_a_person_to_decide():
    found, strange = roster(*ONE)[0].match(["avex", "Ada Vexhall_12", "34"])
    assert list(found) == ["34"] and {each.submission for each in strange} == {"avex", "Ada Vexhall_12"}
    assert all("2 submissions are of this person" in each.why for each in strange)
    found, strange = roster(*ONE, ("Else, Bob", "12", "belse"))[0].match(["12", "avex"])
    assert list(found) == ["avex"] and [person.row for person in strange[0].people] == [0, 4]
    found, strange = roster(("Else, Bob", "12", "34"), ("Roe, Jo", "34", "jroe"))[0].match(["34"])
    assert not found and "one person's" in strange[0].why, "the id of one is the login of another"


def test_of_two_submissions_of_one_person_the_one_that_is_looked_up_counts():
    sheet = roster(*ONE)[1]
    found, strange = Roster(people(sheet), {"Ada Vexhall_12": "12"}).match(["avex", "Ada Vexhall_12", "34"])
    assert {name: person.row for name, person in found.items()} == {"Ada Vexhall_12": 0, "34": 1} and not strange
    found, strange = Roster(people(sheet), {"avex": "12", "Ada Vexhall_12": "12"}).match(["avex", "Ada Vexhall_12"])
    assert not found and len(strange) == 2


def test_who_could_not_be_graded_has_handed_in_something(tmp_path):
    rosters.report(tmp_path / "report", ["avex", "mystery"])
    about = {"title": "c", "submissions": ["avex", "mystery"], "failed": {"tbrax_work.7z": "it is no zip"}}
    (tmp_path / "report" / "class.json").write_text(json.dumps(about))
    roster, matches = rosters.write(tmp_path / "p.csv", [("Name", "ID", "Login"), *ONE]), tmp_path / "matches.csv"
    rosters.write(matches, [("submission", "person"), ("mystery", "avex"), ("tbrax_work.7z", "tbrax")])
    said = "\n".join(export(tmp_path / "report", roster, "csv", matches=matches)[0])
    assert "1 submissions could not be graded: tbrax_work.7z" in said and "Braxley" not in said
    assert "1 submissions do not count, as another one of that person was looked up: avex" in said


def test_points_are_for_the_answer_that_was_marked(tmp_path):
    """Where a grading was stopped before its report was made, marks.json still has the points of the answer before."""
    records = rosters.report(tmp_path, ["ada"])
    rosters.mark(tmp_path, records, {"ada": {"guidance": 3}})
    assert read_grades(tmp_path)["ada"].by_hand["guidance"] == 3
    path = tmp_path / "records" / f"{file_name('ada')}.json"
    kept = json.loads(path.read_text())
    (section,) = [each for each in kept["record"]["sections"] if each["key"] == "guidance"]
    section["shown"] = [*section["shown"], *section["shown"][:1]]
    path.write_text(json.dumps(kept))
    assert read_grades(tmp_path)["ada"].by_hand["guidance"] is None


@pytest.mark.parametrize("form", ["moodle", "canvas"])
def test_all_thirty_names_are_their_own(tmp_path, form):
    """By name alone too, in whatever order, case and accents, but for the two of one name."""
    sheet = sheets.read(rosters.canvas(tmp_path / "grades.csv"))
    everyone = Roster(people(sheet, canvas(sheet, "90210").rows))
    found, strange = everyone.match(submissions(form))
    assert [person.ids[0] for person in found.values()] == [person(n)[2] for n in range(30)] and not strange
    by_name, strange = everyone.match([f"{given} {family}".upper() for given, family in PEOPLE])
    assert {name: person.ids[0] for name, person in by_name.items()} == {
        f"{given} {family}".upper(): person(n)[2] for n, (given, family) in enumerate(PEOPLE) if family != "Smithers"
    }
    assert [each.why for each in strange] == ["2 people fit by their name"]


def test_words():
    assert words("O'Dunleavy-Müller, Zoë") == ("odunleavy", "muller", "zoe") and words("STRASSE Łódź") == words("straße lodz")
    assert words("Ærøbo Søren") == ("aerobo", "soren") and words("田中 花子") == ("田中", "花子") and words("İPEK") == words("ipek")


def test_what_matches_nobody_is_listed_and_can_be_looked_up(tmp_path):
    rosters.report(tmp_path / "report", ["avex", "who?", "=cmd|' /C calc'!A0", "Anna Smithers"])
    path = rosters.write(tmp_path / "people.csv", [("Name", "ID", "Login"), *ONE])
    lines, left_out = export(tmp_path / "report", path, "csv")
    strange = tmp_path / "report" / "export" / "not_matched.csv"
    header, *rows = table(strange)
    assert left_out == 3 and "3 submissions are in no row" in "\n".join(lines) and header == ["submission", "why", "people", "person"]
    assert {row[0] for row in rows} == {"who?", "'=cmd|' /C calc'!A0", "Anna Smithers"}
    (anna,) = [row for row in rows if row[0] == "Anna Smithers"]
    assert anna[2] == "Smithers, Anna (56); Smithers, Anna (78)"
    answers = {"who?": "TBRAX", "'=cmd|' /C calc'!A0": "78", "Anna Smithers": "nobody"}
    filled = rosters.write(tmp_path / "filled.csv", [header, *([*row[:3], answers[row[0]]] for row in rows)], delimiter=";")
    lines, left_out = export(tmp_path / "report", path, "csv", matches=filled)
    assert left_out == 1 and "'nobody', as looked up, is the id or login of no people" in table(strange)[1][1]
    got = {row[1]: row[3] for row in table(tmp_path / "report" / "export" / "grades.csv")[1:]}
    assert got == {"12": "avex", "34": "who?", "56": "", "78": "'=cmd|' /C calc'!A0"}
    answers["Anna Smithers"] = "56"
    filled = rosters.write(tmp_path / "filled.csv", [header, *([*row[:3], answers[row[0]]] for row in rows)])
    assert export(tmp_path / "report", path, "csv", matches=filled)[1] == 0 and not strange.exists(), "an old list is no list"


def test_no_cell_is_a_formula(tmp_path):
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "＝1", " =1", "\t=1", "\r=1", "\x1b[1m=1"):
        assert defused(text).startswith("'") and bare(defused(text)) == " ".join(re.sub(r"\x1b\[1m", "", text).split())
    for text in ("Ada", "a  b", "1.5", "", "two\nlines", "'quoted", "-", " - "):
        assert defused(text) == text == bare(text)
    sheets.write(tmp_path / "a.csv", Sheet(("=a", "b"), (["+1", "two\nlines"],)))
    assert table(tmp_path / "a.csv") == [["'=a", "b"], ["'+1", "two\nlines"]]
    rosters.report(tmp_path / "report", ["=x"])
    path = rosters.write(tmp_path / "gc.csv", [["Last Name", "Username", "A [Total Pts: 40 Score] |1"], ["Doe", "=x", ""]])
    lines, left_out = export(tmp_path / "report", path, "blackboard")
    assert left_out == 1 and "left out: ? (=x) has an identifier there that a spreadsheet would run" in "\n".join(lines)


def test_what_cannot_work_is_refused_before_any_file(tmp_path):
    report, out = tmp_path / "report", tmp_path / "report" / "export"
    names = submissions("canvas")

    def refused(what, to, roster, error=SheetError, **how):
        with pytest.raises(error, match=what):
            export(report, roster, to, **how)
        assert not out.exists()

    book = rosters.canvas(tmp_path / "grades.csv")
    refused("is no report of a class; make one first", "canvas", book, ExportError)
    rosters.report(report, names)
    refused("has 3 assignments", "canvas", book)
    refused("not a grading worksheet of Moodle.*needed are Identifier, Grade.*Download grading worksheet", "moodle", book)
    refused("not a grade centre of Blackboard.*Work Offline", "blackboard", book)
    refused("not a grade book of Canvas", "canvas", rosters.moodle(tmp_path / "m.csv"))
    refused(
        "worth 100 points there, and the course 40; points are not scaled", "moodle", rosters.moodle(tmp_path / "m.csv", maximum="100.00")
    )
    refused("worth 30 points", "canvas", rosters.canvas(tmp_path / "g.csv", possible="30,00", delimiter=";"), column="90210")
    refused("--by-section goes with --to csv", "canvas", book, ExportError, by_section=True)
    refused("needed is an ID, a login or a name", "csv", rosters.write(tmp_path / "p.csv", [["Group"], ["A"]]), ExportError)
    refused("cannot be read: No such file", "csv", tmp_path / "none.csv")
    (tmp_path / "book.xlsx").write_bytes(b"PK\x03\x04")
    refused("is a workbook of a spreadsheet program; save it as CSV", "csv", tmp_path / "book.xlsx")
    (tmp_path / "latin.csv").write_bytes("Name\nZoë\n".encode("latin-1"))
    refused("is not written in UTF-8", "csv", tmp_path / "latin.csv")
    (tmp_path / "wide.csv").write_text("Name,ID\nDoe, Jane,5\n")
    refused("has 2 columns, and a line of 3 cells", "csv", tmp_path / "wide.csv")
    (tmp_path / "empty.csv").write_text("")
    refused("has no first line", "csv", tmp_path / "empty.csv")
    for text in (
        "{",
        "[]",
        '{"points": {"a": {"b": "c"}}}',
        '{"points": {"a": {"b": -1}}}',
        '{"points": {"a": {"b": true}}}',
        '{"rubric": 1}',
    ):
        (report / "marks.json").write_text(text)
        refused("marks.json cannot be taken: .*name a file that the marking page has saved", "canvas", book, ExportError, column="90210")
    (report / "marks.json").unlink()
    (report / "records" / "x.json").write_text("dam")
    refused("holds cannot be read .*grade --all again", "canvas", book, ExportError, column="90210")


def test_who_left_the_class_is_not_exported(tmp_path):
    rosters.report(tmp_path / "report", ["avex", "tbrax"])
    (tmp_path / "report" / "class.json").write_text(json.dumps({"title": "c", "submissions": ["tbrax"], "failed": {}}))
    lines, left_out = export(tmp_path / "report", rosters.write(tmp_path / "p.csv", [("Name", "ID", "Login"), *ONE]), "csv")
    assert "the points of 1 of 4 people" in lines[0] and left_out == 0


def test_the_command(tmp_path, capsys):
    rosters.report(tmp_path / "report", submissions("canvas"))
    book = rosters.canvas(tmp_path / "grades.csv")
    main(["export", str(tmp_path / "report"), "--roster", str(book), "--to", "canvas", "--column", "90210", "--out", str(tmp_path / "o")])
    assert f"{tmp_path / 'o' / 'canvas.csv'} has the points of 30 of 31 people" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="has 3 assignments"):
        main(["export", str(tmp_path / "report"), "--roster", str(book), "--to", "canvas"])
    with pytest.raises(SystemExit, match="3 submissions are not in the file, see above"):
        rosters.report(tmp_path / "report", ["a", "b", "c"])
        main(["export", str(tmp_path / "report"), "--roster", str(book), "--to", "canvas", "--column", "90210"])
