"""Plain tables of a class's points, with all people of the roster: a row a person, or a row a section."""

from course.gradebook.people import IDS, LOGINS, NAMES
from course.gradebook.sheet import Sheet
from course.report.writers import points

KEPT = {name.casefold() for name in (*IDS, *LOGINS, *(part for parts in NAMES for part in parts), "Section", "Group", "Groups")}
TOTALS = ("automatic", "by hand", "points", "out of", "sections not marked")
BY_SECTION = ("submission", "section", "points", "out of", "given by")


def made(sheet, listed, given, by_section=False):
    """The Sheet. sheet: the roster. listed: its Person. given: {row: Grade}; others have empty cells."""
    kept = [place for place, name in enumerate(sheet.header) if name.strip().casefold() in KEPT]
    separator = sheet.separator if sheet.separator in ",;" else ","  # where a comma is the decimal sign, spreadsheets want the other
    who = tuple(sheet.header[place] for place in kept)
    identities = {person.row: [sheet.rows[person.row][place] for place in kept] for person in listed}
    if by_section:
        rows = [[*identity, *row] for number, identity in identities.items() if number in given for row in _sections(given[number])]
        return Sheet((*who, *BY_SECTION), tuple(rows), separator=separator)
    titles = [section.title for section in next(iter(given.values())).record.sections] if given else []
    names = ("submission", *titles, *TOTALS)
    rows = [[*identity, *(_total(given[number]) if number in given else [""] * len(names))] for number, identity in identities.items()]
    return Sheet((*who, *names), tuple(rows), separator=separator)


def _total(grade):
    record = grade.record
    own = [_number(grade.of(section)) for section in record.sections]
    counts = (record.points, grade.points - record.points, grade.points, record.out_of, len(grade.unmarked))
    return [record.submission, *own, *map(points, counts)]


def _sections(grade):
    for section in grade.record.sections:
        by = "the checks" if section.points is not None else "nobody yet" if grade.of(section) is None else "a person"
        yield [grade.record.submission, section.title, _number(grade.of(section)), points(section.out_of), by]


def _number(count):
    return "" if count is None else points(count)
