"""What graders and platforms read, made from one Record: a text, Gradescope's results.json, PrairieLearn's results.json."""

import json
import textwrap
from collections import Counter

from course.report.record import PRINTED
from course.report.safe import plain

WIDTH = 80
INDENT = 4
BY_HAND = "a person marks this part"


def text(record):
    """The record for a terminal of 80 columns."""
    record = plain(record)
    lines = [_line(record.submission, f"{points(record.points)} of {points(record.out_of - record.open)} points"), "=" * WIDTH]
    if record.open:
        lines += _wrap(f"{points(record.open)} more points are given by a person; {points(record.out_of)} in all.")
    lines += [line for note in record.notes for line in _wrap(note, bullet="! ")]
    for section in record.sections:
        lines += ["", *_section(section)]
    lines += ["", "-" * WIDTH, *_wrap(f"Graded in {record.seconds:.0f} s.")]
    lines += [line for words in record.confinement for line in _wrap(words)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _section(section):
    given = "…" if section.points is None else points(section.points)
    lines = [_line(section.title, f"{given} / {points(section.out_of)}"), "-" * WIDTH]
    for each in section.properties:
        mark = "+" if each.points >= each.out_of else "-"
        lines += _line(f"  {mark} {each.name}", f"{points(each.points)} / {points(each.out_of)}").splitlines()
        lines += [line for say in each.says for line in _wrap(say, INDENT)]
    lines += [line for note in section.notes for line in _wrap(note, bullet="  note: ")]
    if section.points is None:
        lines += _wrap(f"{BY_HAND[0].upper()}{BY_HAND[1:]}. In the notebook: {_contents(section.shown)}.", 2)
        answers = [content for kind, content in section.shown if kind == "text"]
        lines += [f"  | {line}" for answer in answers for line in ("", *_wrap(answer, width=WIDTH - 4))]
    return lines


def _contents(shown):
    names = {"text": "text", "code": "code cell", "output": "output", "png": "picture", "jpeg": "picture"}
    counts = Counter(names[kind] for kind, _ in sorted(shown, key=lambda piece: list(names).index(piece[0])))
    return ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count) or "nothing"


def _line(left, right):
    """`left`, wrapped where it must be, and `right` at the end of its last line."""
    lines = textwrap.wrap(left, WIDTH - len(right) - 2, subsequent_indent=" " * INDENT, drop_whitespace=True) or [""]
    return "\n".join([*lines[:-1], f"{lines[-1]:<{WIDTH - len(right)}}{right}"])


def _wrap(words, indent=0, bullet="", width=WIDTH):
    """The lines of a text, each paragraph wrapped; what is indented, as a table, stays as it is."""
    first, other = " " * indent + bullet, " " * (indent + len(bullet))
    lines = []
    for line in words.splitlines():
        start = other if lines else first
        if line.startswith((" ", "\t", "|")) and len(line) + len(start) <= width:
            lines.append(start + line)
        else:
            lines += textwrap.wrap(line, width, initial_indent=start, subsequent_indent=other) or [""]
    return lines


def gradescope(record):
    """Gradescope's results.json (gradescope-autograders.readthedocs.io/en/latest/specs).

    Parts that a person marks come without a score: Gradescope adds what is given there to the score of this file.
    """
    record = plain(record)
    tests = []
    for number, section in enumerate(record.sections, 1):
        for place, (name, points, out_of, output) in enumerate(_tests(section), 1):
            test = {"name": name, "number": f"{number}.{place}", "output": output, "output_format": "text", "visibility": "visible"}
            if points is not None:
                test |= {"score": points, "max_score": out_of, "status": "passed" if points >= out_of else "failed"}
            tests.append({**test, "tags": [section.key]})
    return _json({
        "score": record.points,
        "execution_time": round(record.seconds),
        "output": _head(record),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",  # what the grader prints is for staff
        "tests": tests,
        "extra_data": {
            "out_of": record.out_of - record.open,
            "by_hand": {section.key: section.out_of for section in record.sections if section.points is None},
            "misconceptions": sorted({each for section in record.sections for own in section.properties for each in own.misconceptions}),
            "confinement": record.confinement,
        },
    })  # fmt: skip


def prairielearn(record):
    """PrairieLearn's results.json (docs.prairielearn.com/externalGrading); score is the share of the automatic points, 0 to 1.

    Parts that a person marks are 0 of 0 points, which PrairieLearn shows without a verdict. A submission that earned nothing
    and has a note on all of it, such as a missing file, is not gradable, and no attempt is lost.
    """
    record = plain(record)
    automatic = record.out_of - record.open
    tests = [
        {"name": name, "points": points or 0, "max_points": 0 if points is None else out_of, "output": output}
        for section in record.sections
        for name, points, out_of, output in _tests(section)
    ]
    if not record.points and any(not note.startswith(PRINTED) for note in record.notes):
        return _json({"gradable": False, "format_errors": list(record.notes), "message": _head(record), "tests": tests})
    score = min(1.0, record.points / automatic) if automatic else 0.0
    return _json({"gradable": True, "score": score, "message": _head(record), "tests": tests})


def _tests(section):
    """The section as (name, points or None, out of, output) a property, and what else there is to say about it."""
    for each in section.properties:
        yield f"{section.title}: {each.name}", each.points, each.out_of, "\n\n".join(each.says)
    if section.points is None:
        yield f"{section.title}: {BY_HAND}", None, 0, "\n\n".join([f"Up to {points(section.out_of)} points.", *section.notes])
    elif not section.properties:
        yield section.title, section.points, section.out_of, "\n\n".join(section.notes)
    elif section.notes:
        yield f"{section.title}: notes", 0, 0, "\n\n".join(section.notes)


def _head(record):
    lines = [f"{points(record.points)} of {points(record.out_of - record.open)} automatic points."]
    if record.open:
        lines.append(f"{points(record.open)} more points are given by a person, and are not in this score.")
    return "\n\n".join([" ".join(lines), *record.notes])


def points(value):
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _json(results):
    return json.dumps(results, indent=1) + "\n"


WRITERS = {"text": text, "gradescope": gradescope, "prairielearn": prairielearn}
