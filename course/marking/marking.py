"""Mark a class: write the page for it, take the files that it saves, and make the report anew with them."""

import json
from pathlib import Path

from course.grading import classroom, rubric
from course.marking import marks as marks_file
from course.marking import page
from course.marking.marks import MarksError
from lab.training.checkpoint import write_text


def mark(report, files=()):
    """Take the files of markers into REPORT/marks.json; write the marking page and all pages of the report anew.

    Returns (points given, points that people give in all, lines on what markers differ on, names with marks that the class lacks).
    Raises classroom.ClassError, MarksError before anything is written.
    """
    report = Path(report).absolute()
    with classroom.opened(report):
        marks = marks_file.read(report)
        open_sections, titles, names = {}, {}, []
        for record in classroom.recorded(report):
            names.append(record.submission)
            titles |= {section.key: section.title for section in record.sections}
            open_sections |= {section.key: section for section in record.sections if section.points is None}
        known = page.pseudonyms(names)
        _agree(report / marks_file.NAME, marks, report)
        for path in files:
            taken = _named(path, marks_file.load(path), known, titles)
            _agree(path, taken, report)
            marks = marks_file.merged(marks, taken)
        for section in open_sections.values():
            marks["rubric"].setdefault(section.key, _start(section))
        marks["points"] = marks_file.points(classroom.recorded(report), marks)
        made = page.page(classroom.title(report), classroom.recorded(report), _hidden(marks, known))
        write_text(report / marks_file.NAME, json.dumps(marks, indent=1, ensure_ascii=False) + "\n")
        write_text(report / page.NAME, made)
        classroom.remake(report)
    return marks_file.differences(marks, titles), sorted(set(marks["answers"]) - set(known))


def _start(section):
    """The rubric that a section starts with."""
    items = (*rubric.items(section.key, section.out_of), (marks_file.NOTHING, 0))
    known = {"removed": False, "by": "", "at": "", "revision": "start", "after": []}
    return {f"start-{number}": [{"text": text, "points": points, **known}] for number, (text, points) in enumerate(items, 1)}


def _hidden(marks, known):
    """The marks with pseudonyms for names; those of submissions that the class lacks stay in marks.json."""
    tables = {table: {known[name]: row for name, row in marks[table].items() if name in known} for table in ("points", "answers")}
    return {**marks, **tables}


def _named(path, taken, known, titles):
    """Marks with names for pseudonyms. Raises MarksError for what this report lacks."""
    names = {hidden: name for name, hidden in known.items()} | {name: name for name in known}
    strange = sorted({*taken["answers"], *taken["points"]} - set(names))
    if strange:
        raise MarksError(
            f"{path} marks {len(strange)} submissions that this report lacks, the first {strange[0]!r}; "
            "is it of another class, or were their records removed? Nothing of it is taken"
        )
    sections = sorted({key for key in taken["rubric"]} | {key for row in taken["answers"].values() for key in row})
    unknown = [key for key in sections if key not in titles]
    if unknown:
        raise MarksError(f"{path} marks the section {unknown[0]!r}; this report has {', '.join(titles)}. Nothing of it is taken")
    tables = {table: {names[name]: row for name, row in taken[table].items()} for table in ("points", "answers")}
    return {**taken, **tables}


def _agree(path, marks, report):
    """Raise MarksError where points in a file are not those that its items give: somebody has edited it by hand."""
    for record in classroom.recorded(report):
        given = marks_file.given(record, marks)
        for key, points in marks["points"].get(record.submission, {}).items():
            own = given.get(key)
            by_hand = any(section.key == key and section.points is None for section in record.sections)
            if by_hand and (own is None or own.points not in (None, points)):
                gives = "no items are there" if own is None else f"its items give {own.points:g}"
                raise MarksError(
                    f"{path} says {points:g} points for {record.submission!r} in {key!r}, but {gives}; "
                    "points follow from the items: change those, in the marking page. Nothing of it is taken"
                )
