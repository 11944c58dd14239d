"""The result of grading one submission, which course.report.writers turns into text and files."""

import dataclasses
import json
from dataclasses import dataclass

# How notes begin that tell what a submission printed, and that its grading was stopped.
PRINTED, STOPPED = "It printed, among other things: ", "The grading of this submission "


@dataclass(frozen=True)
class Property:
    """One named thing that is worth points, and what was found about it.

    name: what a right solution does, as "alpha_bar is the product up to and including t". says: a message each for what is
    wrong, with the misconception, what was expected and received, and where the notebook explains it; empty where all is right.
    misconceptions: the misconceptions alone, as "the two roots are swapped", to be counted over a class.
    """

    name: str
    points: float
    out_of: float
    says: tuple[str, ...] = ()
    misconceptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A section of the rubric. points is None where a person marks it; shown is then what that person looks at.

    shown: pieces of the notebook in their order, ("text" | "code" | "output", text) or ("png" | "jpeg", base64 text).
    """

    key: str
    title: str
    points: float | None
    out_of: float
    properties: tuple[Property, ...] = ()
    notes: tuple[str, ...] = ()
    shown: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Record:
    """One graded submission. notes: on all of it, such as a missing file. confinement: how it was isolated."""

    submission: str
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    confinement: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def points(self):
        """The points that need no person."""
        return sum(section.points or 0 for section in self.sections)

    @property
    def out_of(self):
        return sum(section.out_of for section in self.sections)

    @property
    def open(self):
        """The points that a person gives."""
        return sum(section.out_of for section in self.open_sections)

    @property
    def open_sections(self):
        """The sections that a person marks."""
        return tuple(section for section in self.sections if section.points is None)


def to_json(record):
    return json.dumps(dataclasses.asdict(record), indent=1, ensure_ascii=False)


def from_json(text):
    """The Record that to_json wrote. Raises ValueError for anything else."""
    try:
        fields = json.loads(text)
        fields["sections"] = tuple(_section(section) for section in fields["sections"])
        return Record(**_tuples(fields))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this is no record of a grading: {error}") from error


def _section(fields):
    fields["properties"] = tuple(Property(**_tuples(each)) for each in fields["properties"])
    fields["shown"] = tuple(tuple(piece) for piece in fields["shown"])
    return Section(**_tuples(fields))


def _tuples(fields):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
