"""What students ask to be looked at again: a line each in REPORT/requests.csv, which staff or a form write."""

from dataclasses import asdict, dataclass

from course.gradebook import sheet
from course.grading.rubric import TITLES
from course.report.writers import points

NAME = "requests.csv"
COLUMNS = ("submission", "section", "request", "answer")


@dataclass(frozen=True)
class Request:
    """section: its key, or what stands in the file if there is no such section. answer: "" as long as there is none."""

    submission: str
    section: str
    request: str
    answer: str


def read(report):
    """The requests of a report, in the order of the file. Raises course.gradebook.sheet.SheetError for a file without the columns."""
    path = report / NAME
    if not path.exists():
        return []
    table = sheet.read(path)
    places = [table.column(name) for name in COLUMNS]
    if None in places[:3]:
        raise sheet.SheetError(f"{path} has the columns {', '.join(table.header)}; needed are {', '.join(COLUMNS[:3])}")
    cells = [["" if place is None else row[place].strip() for place in places] for row in table.rows]
    return [Request(sheet.bare(name), _key(section), request, answer) for name, section, request, answer in cells]


def _key(section):
    """The key of a section that is named by its key, its title, or the number of its title."""
    said = section.casefold()
    return next((key for key, title in TITLES.items() if said in (key, title.casefold(), title.split()[0].rstrip(".").casefold())), section)


def answered(requests, records):
    """Dicts for the page: submission, section (its title), request, answer, now (its points, None without), known (the submission)."""
    known = {record.submission: {section.key: section for section in record.sections} for record in records}
    for each in requests:
        section = known.get(each.submission, {}).get(each.section)
        now = section and f"{'…' if section.points is None else points(section.points)} / {points(section.out_of)}"
        title = TITLES.get(each.section, each.section)
        yield {**asdict(each), "section": title, "now": now, "known": each.submission in known}
