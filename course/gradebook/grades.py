"""The points of a class: those of the records, and those that people have given by hand."""

import json
from dataclasses import dataclass

from course.grading.classroom import ClassError, records
from course.report.record import Record

MARKS = "marks.json"  # a file of the report: {"points": {submission: {section: points}}, …} of what people have marked


class ExportError(Exception):
    """An export that cannot be made as asked; the message says what to do."""


@dataclass(frozen=True)
class Grade:
    """The points of a submission. by_hand: {section: points} of the open sections, None where nobody has marked one."""

    record: Record
    by_hand: dict[str, float | None]

    @property
    def points(self):
        return self.record.points + sum(given or 0 for given in self.by_hand.values())

    @property
    def unmarked(self):
        return [section for section in self.record.sections if section.points is None and self.by_hand[section.key] is None]

    def of(self, section):
        """The points of a section, None where nobody has marked it."""
        return self.by_hand[section.key] if section.points is None else section.points


def read_grades(report):
    """{submission: Grade} of a report. Raises ExportError."""
    marks = _marks(report / MARKS)
    try:
        return {record.submission: _grade(record, marks.get(record.submission, {})) for record in records(report)}
    except ClassError as error:
        raise ExportError(str(error)) from error


def _grade(record, marks):
    return Grade(record, {section.key: marks.get(section.key) for section in record.sections if section.points is None})


def _marks(path):
    """{submission: {section: points}} of what people have marked; empty where there is no file yet."""
    if not path.exists():
        return {}
    try:
        marks = json.loads(path.read_text("utf-8"))["points"]
        if all(type(count) in (int, float) and 0 <= count < 1000 for row in marks.values() for count in row.values()):
            return marks
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(f"{path} cannot be read: {type(error).__name__}: {error}; save it again from the marking page") from error
    raise ExportError(f"{path} holds points that are no numbers from 0 on; save it again from the marking page")
