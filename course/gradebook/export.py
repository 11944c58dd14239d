"""The points of a class as a file for the grade book of a platform, or as a plain table."""

import contextlib
from pathlib import Path

from course.gradebook import sheet as sheets
from course.gradebook import tables
from course.gradebook.feedback import feedback_zip
from course.gradebook.grades import ExportError, read_grades
from course.gradebook.people import Roster, people
from course.gradebook.platforms import PLATFORMS
from course.gradebook.sheet import Sheet, SheetError
from course.grading import classroom
from course.report.safe import plain
from course.report.writers import points
from lab.training.checkpoint import write_bytes

FOLDER = "export"  # a folder of the report
STRANGE = "not_matched.csv"
FILES = {"canvas": "canvas.csv", "moodle": "moodle.csv", "blackboard": "blackboard.xls", "csv": "grades.csv"}
FEEDBACK = "moodle_feedback.zip"
FORMULA = "has an identifier there that a spreadsheet would run as a formula"


def export(report, roster, to, column=None, matches=None, by_section=False, out=None):
    """Write the file for a platform, "canvas", "moodle", "blackboard" or "csv", and the list of what matches nobody.

    roster: the platform's own export, for csv any table with ids, logins or names. column: see course.gradebook.platforms. matches: that
    list with its column `person` filled in. by_section: a row a section, for csv. out: the folder, by default REPORT/export.
    Returns (lines that say what was done, how many submissions are in no row). Raises ExportError, or ValueError for a file, before
    any work.
    """
    report, roster = Path(report), Path(roster)
    if by_section and to != "csv":
        raise ExportError(f"--by-section goes with --to csv; {to} has a row a person")
    if column and to == "csv":
        raise ExportError("--column names a column of a platform's export; --to csv writes a table of its own")
    grades = read_grades(report)
    sheet = sheets.read(roster)
    plan = PLATFORMS[to](sheet, column) if to in PLATFORMS else None
    if plan:
        _refuse_maximum(plan, sheet, next(iter(grades.values())).record)
    listed = people(sheet, plan and plan.rows)
    if not any(person.ids or person.logins or person.names for person in listed):
        raise ExportError(f"{roster} has the columns {', '.join(sheet.header)[:200]}; needed is an ID, a login or a name for each person")
    everyone, missed = Roster(listed, _looked_up(matches)), classroom.failed(report)
    found, strange = everyone.match(grades)
    tried, unclear = everyone.match(missed)
    passed = sorted(grades.keys() - found.keys() - {each.submission for each in strange})
    given = {person.row: grades[name] for name, person in found.items()}
    refused = _refused(plan, sheet, given) if plan else {}
    given = {row: grade for row, grade in given.items() if row not in refused}
    out = report / FOLDER if out is None else Path(out)
    feedback = feedback_zip(sheet, plan, given) if to == "moodle" else None
    out.mkdir(parents=True, exist_ok=True)
    sheets.write(out / FILES[to], _filled(sheet, plan, given) if plan else tables.made(sheet, listed, given, by_section))
    _write_strange(out / STRANGE, strange)
    lines = [f"{out / FILES[to]} has the points of {len(given)} of {len(listed)} people"]
    if feedback:
        write_bytes(out / FEEDBACK, feedback)
        lines.append(f"{out / FEEDBACK} has a text for each of them")
    shown = {person.row: person.shown for person in listed}
    others = {*found.values(), *tried.values(), *(who for each in (*strange, *unclear) for who in each.people)}
    lines += _said(listed, others, given, strange, out)
    if passed:
        lines.append(plain(f"{len(passed)} submissions do not count, as another one of that person was looked up: {_few(passed)}"))
    if missed:
        lines.append(plain(f"{len(missed)} submissions could not be graded: {_few(sorted(missed))}; index.html says why"))
    lines += [plain(f"left out: {shown[row]} {why}") for row, why in refused.items()]
    return lines, len(strange) + len(refused)


def _refuse_maximum(plan, sheet, record):
    """Raise SheetError where the item has other points than the course: more are passed over, and fewer look like a bad grade."""
    if plan.maximum is not None and plan.maximum != record.out_of:
        name, most = sheet.header[plan.item].strip(), points(plan.maximum)
        raise SheetError(
            f"{name!r} is worth {most} points there, and the course {points(record.out_of)}; points are not scaled: set the item to "
            f"{points(record.out_of)} points there, and export its file again"
        )


def _looked_up(matches):
    """{submission: id or login} of a list with its column `person` filled in."""
    if matches is None:
        return {}
    table = sheets.read(matches)
    submission, person = table.column("submission"), table.column("person")
    if submission is None or person is None:
        raise SheetError(f"{matches} has the columns {', '.join(table.header)}; needed are submission and person, as in {STRANGE}")
    return {sheets.bare(row[submission]): row[person].strip() for row in table.rows if row[person].strip()}


def _refused(plan, sheet, given):
    """{row: why} of people with points that the platform would not take."""
    keys = [sheet.rows[row][plan.key] for row in given]
    formulas = {row: FORMULA for row, key in zip(given, keys, strict=True) if sheets.defused(key) != key}
    return {row: why for row, why in {**plan.refused, **formulas}.items() if row in given}


def _filled(sheet, plan, given):
    """The sheet with the points in it; rows without new points are left out, and so stay as they are on the platform."""
    rows = []
    for number, row in enumerate(sheet.rows):
        if number in given:
            row = [*row[: plan.item], points(given[number].points), *row[plan.item + 1 :]]
        if number in given or number in plan.head:
            rows.append(row)
    return sheet.only(plan.columns, rows)


def _write_strange(path, strange):
    """The list of what matches nobody or several; with its last column filled in it can be handed back as --matches."""
    if not strange:
        with contextlib.suppress(FileNotFoundError):  # that of an earlier export
            path.unlink()
        return
    rows = [[each.submission, each.why, "; ".join(person.shown for person in each.people), ""] for each in strange]
    sheets.write(path, Sheet(("submission", "why", "people", "person"), tuple(rows)))


def _said(listed, handed, given, strange, out):
    """Lines on what is not in the file, or only in part. handed: the people of whom there is a submission."""
    without = [person.shown for person in listed if person not in handed]
    lines = [plain(f"{len(without)} people have handed in nothing: {_few(without)}")] if without else []
    open_now = [grade for grade in given.values() if grade.unmarked]
    if open_now:
        count = sum(len(grade.unmarked) for grade in open_now)
        lines.append(f"{len(open_now)} of these people have {count} sections that nobody has marked; their points are without them")
    if strange:
        names = _few(sorted({each.submission for each in strange}))
        lines.append(plain(f"{len(strange)} submissions are in no row: {names}; {out / STRANGE} says why. Write into its last column "
                           "whose they are, the id or login, and give the command again with --matches and this file"))  # fmt: skip
    return lines


def _few(names, most=5):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
