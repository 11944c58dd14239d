"""A class of thirty with invented names, and what learning platforms export of it."""

import codecs
import csv
import io
import zlib

from records import a_record

from course.marking import marks as marks_file
from course.report.pages import FOLDER
from course.report.record import to_json
from course.report.safe import file_name

# given name, family name; among them accents, particles, two of one name, and one that a spreadsheet would run
PEOPLE = [
    ("Ada", "Vexhall"), ("Zoë", "Müller-Öst"), ("Siobhán", "O'Dunleavy"), ("Jean Luc", "de la Crüx"), ("Łucja", "Wiśnicka"), ("Bo", "Ek"),
    ("Anna", "Smithers"), ("Anna", "Smithers"), ("Đorđe", "Petrović"), ("Søren", "Ærøbo"), ("Nguyễn", "Thị Hoà"), ("İpek", "Işık"),
    ("Mei", "Zhangwu"), ("田中", "花子"), ("Olu", "Adébáyò"), ("Ravi", "Iyerwal"), ("Chiara", "D’Ambrolli"), ("Tom", "Braxley"),
    ("Tim", "Braxley"), ("Eva", "Nováková"), ("Hugo", "Straßner"), ("Ines", "Peçanha"), ("Kofi", "Mensahor"), ("Lena", "Hjelmås"),
    ("Marek", "Zielonko"), ("Nadia", "Benhaddou"), ("Otto", "Graufels"), ("Pilar", "Ibarruña"), ("Quinn", "Ashdown"), ("Rosa", "=1+1"),
]  # fmt: skip


def person(number):
    """(given name, family name, id on the platform, id of the university, login) of one of PEOPLE."""
    given, family = PEOPLE[number]
    return given, family, str(81000 + 7 * number), f"s{2300 + number:06}", f"{'abcdefghijklmnopqrstuvwxyzäöüß'[number]}user{number}"


def write(path, rows, encoding="utf-8-sig", delimiter=",", quoting=csv.QUOTE_MINIMAL, ending="\r\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=ending).writerows(rows)
    mark = {"utf-16-le": codecs.BOM_UTF16_LE}.get(encoding, b"")
    path.write_bytes(mark + text.getvalue().encode(encoding))
    return path


def canvas(path, item="Conditional DDPM (90210)", cells=None, possible="40.00", **how):
    """A whole grade book, with two other assignments, one that is closed, sums, the row on posting and the test student. cells: {number: the present cell}."""
    info = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    header = [*info, "Warm-up (90117)", item, "Essay (5 pages) (90311)", "Old (1)", "Current Score"]
    rows = [header, ["", "", "", "", "", "", "Manual Posting", "", "", ""]]
    rows.append(["    Points Possible", "", "", "", "", "10.00", possible, "5.00", "(read only)", "(read only)"])
    for number in range(30):
        given, family, own, university, login = person(number)
        rows.append([f"{family}, {given}", own, university, login, "Diffusion 101", "7.50", (cells or {}).get(number, ""), "", "", "75.00"])
    rows.append(["Student, Test", "99999", "", "3f2a9c", "Diffusion 101", "", "", "", "", ""])
    return write(path, rows, **how)


def moodle(path, locked=(), maximum="40.00"):
    """A grading worksheet, in the worksheet's own order, which is by family name."""
    header = ["Identifier", "Full name", "Email address", "Status", "Grade", "Maximum Grade", "Grade can be changed",
              "Last modified (submission)", "Last modified (grade)", "Feedback comments"]  # fmt: skip
    rows = []
    for number in sorted(range(30), key=lambda number: PEOPLE[number][1]):
        given, family, own, _, login = person(number)
        free = "No" if number in locked else "Yes"
        rows.append([f"Participant {own}", f"{given} {family}", f"{login}@example.edu", "Submitted for grading", "", maximum, free,
                     "Friday, 27 November 2026, 6:12 PM", "-", ""])  # fmt: skip
    return write(path, [header, *rows], encoding="utf-8", ending="\n")


def blackboard(path, item="Conditional DDPM [Total Pts: 40 Score] |448812", **how):
    header = ["Last Name", "First Name", "Username", "Student ID", "Last Access", "Availability", "Weighted Total [Total Pts: up to 100 Score] |1",
              "Total [Total Pts: up to 50 Score] |2", item]  # fmt: skip
    rows = [header]
    for number in range(30):
        given, family, _, university, login = person(number)
        rows.append([family, given, login, university, "2026-11-20 10:11:12", "Yes", "", "", "Needs Grading"])
    return write(path, rows, **{"encoding": "utf-16-le", "delimiter": "\t", "quoting": csv.QUOTE_ALL, **how})


def submissions(form):
    """The names of the thirty submissions as a platform's download gives them to course.grading.classroom."""
    names = []
    for number in range(30):
        given, family, own, university, login = person(number)
        one_word = "".join(letter for letter in f"{family}{given}".lower() if letter.isalnum())
        names.append({
            "canvas": f"{one_word}_{'LATE_' * (number % 4 == 0)}{own}_{555000 + number}_work",
            "moodle": f"{given} {family}_{own}",
            "blackboard": f"HW5_{login}_attempt_2026-11-20-14-22-{number:02}_work",
            "login": login.upper(),
            "id": university,
        }[form])  # fmt: skip
    return names


def graded(name):
    """A record whose points depend on the submission's name."""
    drawn = zlib.crc32(name.encode())
    return a_record(name, shifted=bool(drawn & 1), swapped=bool(drawn & 2), trained=8 if drawn & 4 else None)


def report(folder, names):
    """A report with a record for each name; returns {name: its record}."""
    from course.grading import classroom

    classroom._prepare(folder)
    records = {name: graded(name) for name in names}
    for name, record in records.items():
        kept = f'{{"of": {{"submission": "1", "files": {{}}}}, "record": {to_json(record)}, "moved": []}}'
        (folder / "records" / f"{file_name(name)}.json").write_text(kept)
    assert (folder / FOLDER).is_dir()
    return records


def mark(folder, records, points):
    """Write marks.json, in which a person gives these points, {submission: {section: points}}, each for one item of the rubric."""
    at = {"by": "me", "at": "2026-11-20 10:00:00", "after": []}
    marks = marks_file.new()
    for number, (name, row) in enumerate(points.items()):
        for section in records[name].sections:
            if section.key in row:
                item = {"text": f"item {number}", "points": row[section.key], "removed": False, "revision": f"i{number}", **at}
                answer = {"items": [f"i{number}"], "comment": "", "shown": marks_file.shown_digest(section), "revision": f"a{number}", **at}
                marks["rubric"].setdefault(section.key, {})[f"i{number}"] = [item]
                marks["answers"].setdefault(name, {})[section.key] = [answer]
    (folder / marks_file.NAME).write_text(marks_file.text(marks))
