"""A class of thirty with invented names, as `grade --all` leaves it, for the tests and the pictures of its pages."""

import dataclasses
import functools
import random

from records import SHIFTED, SWAPPED, a_record, png

from course.grading import classroom
from course.handout.handout import NOTEBOOK, ROOT
from course.intake.notebook import pieces
from course.marking.marks import plain_all, shown_digest

FIRST = "Ada Bilal Chiara Dmitri Elif Farah Goran Hana Ismael Jolanda".split()
LAST = "Kowalska Lindqvist Moreau Nakagawa Obuya Petrescu".split()
NAMES = [f"{first} {LAST[(number + part) % len(LAST)]}" for number, first in enumerate(FIRST) for part in (0, 2, 5)]
ANSWERS = (
    "Larger ω gives clearer digits that look more and more alike. I would take ω = 2.",
    "With ω = -1 the class is ignored. From ω = 0.5 on every row can be read; at 10 the strokes get blots. Diversity falls all the way, "
    "so I choose ω = 1, where the classifier reads nearly all and the spread is still half that of real digits.",
    "ω is better when it is higher.",
    "",
)
CHANGED = (
    "Fewer steps and more noise a step. The losses cannot be compared, because more of the time steps are nearly pure noise.",
    "The loss went down, so the settings are better.",
    "Twice the width costs four times the work. Loss 0.033 against 0.047, which says little: the schedules differ.",
)
MISTAKES = (SHIFTED, SWAPPED, "the null condition is zero and not the mask value", "the last step adds noise")


@functools.cache
def shown(key):
    """The pieces of the course's own notebook, without its answers."""
    return tuple(piece for piece in pieces(ROOT / NOTEBOOK, key) if piece[0] != "text")


def a_submission(name, number, answer=None, pictures=False):
    """A record with points, misconceptions and answers that are drawn from `number`. pictures: with what the course's notebook shows."""
    drawn = random.Random(number)
    record = a_record(name, shifted=drawn.random() < 0.3, swapped=drawn.random() < 0.25, trained=drawn.choice([8, 8, 6, None]))
    by_hand = {"guidance": ANSWERS, "customise": CHANGED, "training": ("",)}
    sections = []
    for section in record.sections:
        if section.points is None:
            text = answer or drawn.choice(by_hand[section.key])
            pieces = shown(section.key) if pictures else (("code", f"# {section.key}"), ("png", png()))
            section = dataclasses.replace(section, shown=(*pieces, *([("text", text)] if text else [])))
        elif section.key in ("network", "sample") and drawn.random() < 0.3:
            what = MISTAKES[2 if section.key == "network" else 3]
            (*others, last) = section.properties
            lost = dataclasses.replace(last, points=0.0, says=(f"{what.capitalize()}.",), misconceptions=(what,))
            section = dataclasses.replace(section, points=section.points - last.points, properties=(*others, lost))
        sections.append(section)
    return dataclasses.replace(record, sections=tuple(sections))


def write(report, records, title="Diffusion, autumn", failed=None):
    """The report of a class with these records."""
    classroom._prepare(report)
    for record in records:
        classroom._keep(report, record.submission, "as graded", record)
    about = {"title": title, "submissions": [record.submission for record in records], "failed": failed or {}}
    classroom.write_text(report / classroom.CLASS, classroom.json.dumps(about))
    classroom.remake(report)


def thirty():
    return [a_submission(name, number, pictures=True) for number, name in enumerate(NAMES)]


def version(revision, after=(), by="AB", at="2026-01-01T10:00:00", **said):
    """A version of an item (text, points) or of an answer (items, shown, comment)."""
    rest = {"removed": False} if "text" in said else {"comment": ""}
    return plain_all({**rest, **said, "by": by, "at": at, "revision": revision, "after": list(after)})


def answer_of(report, name, key):
    """The digest of the answer that a report shows, as the marking page puts it into what it saves."""
    (record,) = (record for record in classroom.recorded(report) if record.submission == name)
    return shown_digest(next(section for section in record.sections if section.key == key))
