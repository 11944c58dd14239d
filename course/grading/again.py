"""What has to be graded again, and whose points that moves.

A record file holds {"of": {"submission": digest, "files": {path: digest}}, "record": …, "moved": […]}: what was graded, with which
files of the course, and each time that points moved, so that the report can be made from the record files alone.
"""

import dataclasses
from dataclasses import dataclass

from course.grading import depends
from course.grading.rubric import POINTS, TITLES
from course.report.record import STOPPED


class Course:
    """The course's files as they are now."""

    def __init__(self):
        self.needs = depends.needs()
        self.known = frozenset().union(*self.needs.values())
        self.files = depends.versions(self.known)

    def outdated(self, files):
        """(the sections that were graded with other files than the present ones, what is different). files: as in a record file."""
        changed = {path for path in {*files, *self.files} if files.get(path) != self.files.get(path)}
        if changed - self.known:  # a file that is gone: nobody knows what it was for
            return set(POINTS), changed
        return {key for key, needs in self.needs.items() if needs & changed}, changed


@dataclass(frozen=True)
class Task:
    """A submission that is to be graded. of: as in a record file. sections: keys, None for all. why: a reason, None for a new one."""

    of: dict
    sections: frozenset | None = None
    why: str | None = None


def task(course, digest, kept):
    """The Task that makes the record file `kept` (None where there is none) a present one; None if it is one. digest: of the submission."""
    of = {"submission": digest, "files": course.files}
    if kept is None:
        return Task(of)
    if not isinstance(kept["of"], dict):
        return Task(of, why="an earlier edition of the course graded it")
    if kept["of"]["submission"] != digest:
        return Task(of, why="the submission has changed")
    sections, changed = course.outdated(kept["of"]["files"])
    if not sections:
        return None
    every = sections == set(POINTS) or {section["key"] for section in kept["record"]["sections"]} != set(POINTS)
    return Task(of, None if every else frozenset(sections), f"changed in the course: {listed(changed)}")


def listed(names, most=5):
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def merged(old, new, sections):
    """The record `old` with these `sections` of `new`, which has all where its grading was stopped; `new` itself for None."""
    if sections is None:
        return new
    fresh = {section.key: section for section in new.sections if section.key in sections}
    kept = [note for note in old.notes if not note.startswith(STOPPED)]
    both = tuple(fresh.get(section.key, section) for section in old.sections)
    return dataclasses.replace(new, sections=both, notes=tuple(dict.fromkeys((*kept, *new.notes))))


def moved(old, new, when, why):
    """What of the points is different in the record `new`: a dict for the record file, or None.

    {"when", "why", "from", "to", "rows"}; from and to: the automatic points. A row: {"section", "what", "from", "to", "says"}; there
    None stands for points that a person gives, or for a property that was not there.
    """
    before = {section.key: section for section in old.sections}
    after = {section.key: section for section in new.sections}
    rows = [row for key in {**before, **after} for row in _rows(before.get(key), after.get(key))]
    return {"when": when, "why": why, "from": old.points, "to": new.points, "rows": rows} if rows else None


def _rows(old, new):
    """The rows of a section: its properties, or where they do not tell it the section as a whole."""
    title = TITLES.get((new or old).key, (new or old).title)
    before, after = ({each.name: each for each in (section.properties if section else ())} for section in (old, new))
    rows = []
    for name in {**before, **after}:
        points = [each.points if each else None for each in (before.get(name), after.get(name))]
        if points[0] != points[1]:
            says = after[name].says[0] if name in after and after[name].says else ""
            rows.append({"section": title, "what": name, "from": points[0], "to": points[1], "says": says})
    whole = [section.points if section else None for section in (old, new)]
    if whole[0] != whole[1] and not rows:
        says = " ".join(new.notes) if new else ""
        rows = [{"section": title, "what": "the whole section", "from": whole[0], "to": whole[1], "says": says}]
    return rows
