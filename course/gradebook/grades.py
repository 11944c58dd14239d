"""The points of a class: those of the records, and those that people have given by hand."""

from dataclasses import dataclass

from course.grading.classroom import ClassError, records
from course.marking import marks as marks_file
from course.report.record import Record


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
    try:
        marks = marks_file.read(report)
        return {record.submission: _grade(record, marks_file.given(record, marks)) for record in records(report)}
    except (ClassError, marks_file.MarksError) as error:
        raise ExportError(str(error)) from error


def _grade(record, given):
    """A Grade. given: as course.marking.marks has it, which knows whether an answer has changed since it was marked."""
    points = {key: each.points for key, each in given.items()}
    return Grade(record, {section.key: points.get(section.key) for section in record.sections if section.points is None})
