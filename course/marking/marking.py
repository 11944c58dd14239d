"""Mark a class: write the page for it, take the files that it saves, and make the report anew with them."""

from pathlib import Path

from course.grading import classroom, rubric
from course.marking import marks as marks_file
from course.marking import page
from course.marking.marks import MarksError
from lab.training.checkpoint import write_text


def mark(report, files=()):
    """Take the files of markers into REPORT/marks.json; write the marking page and all pages of the report anew.

    Returns (lines on what markers differ on, the names of submissions that have marks and are not in the class any more). Raises
    classroom.ClassError, MarksError before anything is written.
    """
    report = Path(report).absolute()
    with classroom.opened(report):
        known, sections = _class(report)
        marks = _named(marks_file.read(report), known)  # with the names of submissions that have come back
        _agree(report / marks_file.NAME, marks, report)
        for path in files:
            marks = _with(marks, path, report, known, sections)
        for section in sections.values():
            if section.points is None:
                marks["rubric"].setdefault(section.key, _start(section))
        marks["points"] = marks_file.points({record.submission: marks_file.given(record, marks) for record in classroom.recorded(report)})
        made = page.page(classroom.title(report), classroom.recorded(report), _hidden(marks, known))
        write_text(report / marks_file.NAME, marks_file.text(marks))
        write_text(report / page.NAME, made)
        classroom.remake(report)
    titles = {key: section.title for key, section in sections.items()}
    return marks_file.differences(marks, titles), sorted(set(marks["answers"]) - set(known))


def _class(report):
    """({name: pseudonym}, {key: Section}) of a class; a section is one that a person marks, where there is one."""
    names, sections = [], {}
    for record in classroom.recorded(report):
        names.append(record.submission)
        for section in record.sections:
            if section.points is None or section.key not in sections:
                sections[section.key] = section
    return page.pseudonyms(names), sections


def _with(marks, path, report, known, sections):
    """`marks` with those of a file. Raises MarksError for a file that cannot be taken."""
    taken = _named(marks_file.load(path), known)
    _of_this_class(path, taken, known, sections)
    _agree(path, taken, report)
    if taken["report"] != marks["report"] and marks["answers"]:
        raise MarksError(f"{path} was saved from the page of another report than {report}; name that one. Nothing of it is taken")
    return {**marks_file.merged(marks, taken), "report": taken["report"]}  # that of the file, if marks.json was lost


def _start(section):
    """The rubric that a section starts with."""
    items = (*rubric.items(section.key, section.out_of), (marks_file.NOTHING, 0))
    known = {"removed": False, "by": "", "at": "", "revision": "start", "after": []}
    return {f"start-{number}": [{"text": text, "points": points, **known}] for number, (text, points) in enumerate(items, 1)}


def _hidden(marks, known):
    """The marks with pseudonyms for names; those of submissions that the class lacks stay in marks.json."""
    tables = {table: {known[name]: row for name, row in marks[table].items() if name in known} for table in ("points", "answers")}
    return {**marks, **tables}


def _of_this_class(path, taken, known, sections):
    """Raise MarksError for marks of another class."""
    if taken["answers"] and not set(taken["answers"]) & set(known):
        raise MarksError(
            f"{path} marks no submission of this report, but {min(taken['answers'])!r}; is it of another class? Nothing of it is taken"
        )
    unknown = sorted(({*taken["rubric"]} | {key for row in taken["answers"].values() for key in row}) - set(sections))
    if unknown:
        raise MarksError(f"{path} marks the section {unknown[0]!r}; this report has {', '.join(sections)}. Nothing of it is taken")


def _named(marks, known):
    """The marks with names for pseudonyms; those of submissions that are not in the class stay as they are."""
    names = {hidden: name for name, hidden in known.items()}
    hidden = {names[each]: row for each, row in marks["answers"].items() if each in names}
    named = {each: row for each, row in marks["answers"].items() if each not in names}
    points = {names.get(each, each): row for each, row in marks["points"].items()}
    return {**marks, "points": points, "answers": marks_file.merged_table(named, hidden)}


def _agree(path, marks, report):
    """Raise MarksError where points in a file are not those that its items give: somebody has edited it by hand."""
    for record in classroom.recorded(report):
        given = marks_file.given(record, marks)
        for key, points in marks["points"].get(record.submission, {}).items():
            own = given.get(key)
            by_hand = any(section.key == key and section.points is None for section in record.sections)
            if by_hand and (own is None or own.points is not None and abs(own.points - points) > 1e-6):
                gives = "no items are there" if own is None else f"its items give {own.points:g}"
                raise MarksError(
                    f"{path} says {points:g} points for {record.submission!r} in {key!r}, but {gives}; "
                    "points follow from the items: change those, in the marking page. Nothing of it is taken"
                )
