"""The tables that learning platforms export, and take back with points in them: which column is whose, and what they would refuse.

Canvas (instructure/canvas-lms, lib/gradebook_exporter.rb and gradebook_importer.rb): Student, ID, SIS User ID, SIS Login ID, Section,
then a column an assignment, "Title (id)", which is found again by this id; a row "Points Possible", where sums have "(read only)"; N/A
for those who have not been given the assignment, EX for those excused. Rows and columns that are left out stay as they are.

Moodle (moodle/moodle, mod/assign/feedback/offline): the assignment's grading worksheet with Identifier, Full name, Grade, Maximum Grade,
Grade can be changed, Last modified (grade). The upload needs Identifier, Grade and the last, and passes over points above the maximum
without a word. Feedback files (mod/assign/feedback/file/importziplib.php): a zip with a folder a person, named "Full
name_1234567_assignsubmission_file_", whose parts between underscores are read.

Blackboard (help.blackboard.com, Work Offline with Grade Data): Last Name, First Name, Username, and a column an item, "Title [Total Pts: 40
Score] |id", in a tab-separated file named .xls, mostly UTF-16, or a CSV. It is matched by Username and by that id; without the id
a new column is made.
"""

import re
from dataclasses import dataclass, field

from course.gradebook.sheet import SheetError

CANVAS_ITEM = re.compile(r".+ \((\d+)\)", re.DOTALL)
BLACKBOARD_ITEM = re.compile(r".+\[Total Pts: (?P<points>[\d.,]+)[^\]]*\] ?\|(\d+)", re.DOTALL)  # "up to 100" is that of a sum


@dataclass(frozen=True)
class Plan:
    """What is done with a platform's sheet. item: the column of the points. key: the column by which the platform knows a person.

    columns: those of the upload. rows: those of people. head: others that the upload needs. maximum: the item's points, None if it has
    none. refused: {row: why the platform would not take points for it}.
    """

    item: int
    key: int
    columns: tuple[int, ...]
    rows: tuple[int, ...]
    head: tuple[int, ...] = ()
    maximum: float | None = None
    refused: dict[int, str] = field(default_factory=dict)


def canvas(sheet, wanted=None):
    """The Plan for a grade book of Canvas. wanted: the name or id of the assignment, where there are several. Raises SheetError."""
    key, section = sheet.column("ID"), sheet.column("Section")
    if key is None or section is None or sheet.column("Student", "LastName") is None:
        raise _foreign(sheet, "a grade book of Canvas", "Student, ID and Section", "In Canvas: Grades, Export, Export Entire Gradebook.")
    head = tuple(number for number, row in enumerate(sheet.rows) if "Points Possible" in row[0])
    possible = sheet.rows[head[0]] if head else [""] * len(sheet.header)
    items = {place: name for place, name in enumerate(sheet.header) if place > section and CANVAS_ITEM.fullmatch(name.strip())}
    items = {place: name for place, name in items.items() if "read only" not in possible[place]}
    item = _chosen(items, wanted, "assignment")
    rows = tuple(number for number, row in enumerate(sheet.rows) if number not in head and row[key].strip())
    why = {"N/A": "is not given this assignment", "EX": "is excused from it"}
    refused = {number: why[said] for number in rows if (said := sheet.rows[number][item].strip().upper()) in why}
    return Plan(item, key, (*range(section + 1), item), rows, head, number_in(possible[item]), refused)


def moodle(sheet, wanted=None):
    """The Plan for a grading worksheet of Moodle. wanted: the column of the points, if it is not Grade. Raises SheetError."""
    key, item = sheet.column("Identifier"), sheet.column(wanted or "Grade")
    if key is None or item is None or sheet.column("Last modified (grade)") is None:
        how = "In the assignment: Submissions, Actions, Download grading worksheet, with the site's language set to English."
        raise _foreign(sheet, "a grading worksheet of Moodle", f"Identifier, {wanted or 'Grade'} and Last modified (grade)", how)
    most, free = sheet.column("Maximum Grade"), sheet.column("Grade can be changed")
    rows = tuple(number for number, row in enumerate(sheet.rows) if row[key].strip())
    refused = {number: "has a grade that is locked" for number in rows if free is not None and sheet.rows[number][free].strip() == "No"}
    maxima = {number_in(sheet.rows[number][most]) for number in rows} if most is not None else set()
    return Plan(item, key, tuple(range(len(sheet.header))), rows, (), min(maxima - {None}, default=None), refused)


def blackboard(sheet, wanted=None):
    """The Plan for a grade centre of Blackboard. wanted: the name or id of the item, where there are several. Raises SheetError."""
    key = sheet.column("Username")
    if key is None or sheet.column("Last Name") is None:
        how = "In Blackboard: Grade Center, Work Offline, Download, Full Grade Center."
        raise _foreign(sheet, "a grade centre of Blackboard", "Last Name, First Name and Username", how)
    items = {place: name for place, name in enumerate(sheet.header) if BLACKBOARD_ITEM.fullmatch(name.strip())}
    item = _chosen(items, wanted, "item")
    columns = [sheet.column(name) for name in ("Last Name", "First Name", "Username", "Student ID")]
    rows = tuple(number for number, row in enumerate(sheet.rows) if row[key].strip())
    maximum = number_in(BLACKBOARD_ITEM.fullmatch(sheet.header[item].strip())["points"])
    return Plan(item, key, (*(place for place in columns if place is not None), item), rows, (), maximum)


PLATFORMS = {"canvas": canvas, "moodle": moodle, "blackboard": blackboard}


def _foreign(sheet, what, needed, how):
    return SheetError(f"this is not {what}: it has the columns {', '.join(sheet.header)[:200]}; needed are {needed}. {how}")


def _chosen(items, wanted, what):
    """The place of the one item: that of the wanted name or id, or the only one."""
    said = " | ".join(name.strip() for name in items.values()) or "none"
    if wanted is None and len(items) != 1:
        raise SheetError(f"the file has {len(items)} {what}s, {said}; name that of this course: --column NAME")
    found = [place for place, name in items.items() if wanted is None or _is_item(name.strip(), wanted.strip())]
    if len(found) != 1:
        raise SheetError(f"--column {wanted} is {len(found) or 'none'} of the {what}s {said}; name one of them, or its id")
    return found[0]


def _is_item(name, wanted):
    """Whether `wanted` is an item's full name, its name without what the platform adds, or its id."""
    bare, known = re.fullmatch(r"(.+?)(?: \((?=\d+\)$)| ?\[Total Pts: [^\]]*\] ?\|)(\d+)\)?", name, re.DOTALL).groups()
    return wanted in (name, bare, known)


def number_in(text):
    """The number that a cell shows, with a point or a comma; None if it shows none."""
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        return None
