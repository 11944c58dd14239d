"""What people give by hand: the rubric, each answer's items and comment, and how the files of several markers become one.

marks.json holds {"report", "points", "rubric", "answers"}:

    report   a text that tells this report from others, for the copy that a browser keeps
    points   {submission: {section: points}}, made from the other two; what is open is not in it
    rubric   {section: {item: [version]}}, a version holds text, points and removed
    answers  {submission: {section: [version]}}, a version holds items, comment and shown, a digest of the answer that was marked

Every version also holds by, at, revision and after: the revisions that it replaces. Two versions in one place are those of two markers
who did not know of each other's. Where they differ a person decides, and until then the points are open. Nothing is overwritten, so
files can be merged in any order. marking.js keeps the same rules in the browser.
"""

import hashlib
import json
import math
import secrets
from dataclasses import dataclass
from pathlib import Path

from course.report.safe import plain

NAME = "marks.json"  # in the folder of a report
MAX_BYTES = 50_000_000
MAX_TEXT = 5_000  # characters of a comment or an item
MAX_POINTS = 100
BOOKKEEPING = {"by": str, "at": str, "revision": str, "after": list}
ITEM = {"text": str, "points": (int, float), "removed": bool, **BOOKKEEPING}
ANSWER = {"items": list, "comment": str, "shown": str, **BOOKKEEPING}
NOTHING = "Nothing that can be marked"


class MarksError(ValueError):
    """A file of marks that cannot be taken; the message names it, what is wrong and what to do."""


@dataclass(frozen=True)
class Given:
    """What a person gave for one answer. points: None while it is open; why says why then, if marks are there.

    items: (text, points) of the rubric.
    """

    points: float | None
    items: tuple[tuple[str, float], ...] = ()
    comment: str = ""
    by: str = ""
    why: str = ""


def new():
    return {"report": secrets.token_hex(8), "points": {}, "rubric": {}, "answers": {}}


def read(report):
    """The marks of a report; new ones where there are none yet. Raises MarksError for a file that cannot be read."""
    path = Path(report) / NAME
    return load(path) if path.exists() else new()


def load(path):
    """The marks in a file, checked. Raises MarksError."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES // 1_000_000} MB")
        marks = json.loads(content, parse_constant=_no_number)
        _check(marks)
    except (OSError, ValueError, RecursionError) as error:
        raise MarksError(f"{path} cannot be taken: {error}; name a file that the marking page has saved") from error
    return plain_all(marks)


def _no_number(text):
    raise ValueError(f"{text} is no number")


def _check(marks):
    """Raise ValueError for what is not built as the head of this file says."""
    if not isinstance(marks, dict) or set(marks) != set(new()):
        raise ValueError(f"it holds {_words(marks)}; marks hold {_words(new())}")
    _expect(marks["report"], str, "report")
    for table in ("points", "rubric", "answers"):
        for first, row in _expect(marks[table], dict, table).items():
            for second, what in _expect(row, dict, f"{table} of {first!r}").items():
                where = f"{table} of {first!r}, {second!r}"
                if table == "points":
                    _number(what, where)
                else:
                    _check_versions(what, ITEM if table == "rubric" else ANSWER, where)
    for name, answer in marks["answers"].items():
        for key, versions in answer.items():
            missing = {item for each in versions for item in each["items"]} - set(marks["rubric"].get(key, ()))
            if missing:
                raise ValueError(f"{name!r} has {_words(missing)} in {key!r}, which the rubric there lacks")


def _check_versions(versions, fields, where):
    if not _expect(versions, list, where):
        raise ValueError(f"{where} is empty")
    for version in versions:
        if not isinstance(version, dict) or set(version) != set(fields):
            raise ValueError(f"{where} holds {_words(version)}; allowed are {_words(fields)}")
        for name, kind in fields.items():
            _expect(version[name], kind, f"{name} in {where}")
        for text in [*version["after"], *version.get("items", ())]:
            _expect(text, str, f"an entry of a list in {where}")
        if "points" in version:
            _number(version["points"], where)


def _expect(value, kind, where):
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        raise ValueError(f"{where} is {type(value).__name__}")
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueError(f"{where} has {len(value):,} characters; allowed are {MAX_TEXT:,}")
    return value


def _number(value, where):
    if not math.isfinite(_expect(value, (int, float), where)) or abs(value) > MAX_POINTS:
        raise ValueError(f"{where} gives {value} points; allowed are {-MAX_POINTS} to {MAX_POINTS}")


def _words(names):
    return ", ".join(sorted(map(str, names))[:8]) if isinstance(names, dict | set | list) else type(names).__name__


def plain_all(value):
    """Lists and dicts with all their texts made plain (course.report.safe); keys stay, as they name things."""
    if isinstance(value, dict):
        return {key: plain_all(each) for key, each in value.items()}
    return [plain_all(each) for each in value] if isinstance(value, list) else plain(value)


def merged(one, other):
    """The marks of two files as one, in which nothing of either is lost; `report` is that of the first."""
    tables = {table: merged_table(one[table], other[table]) for table in ("rubric", "answers")}
    return {"report": one["report"], "points": {**one["points"]}, **tables}


def merged_table(one, other):
    """The rubrics or the answers of two files as one."""
    rows = {first: (one.get(first, {}), other.get(first, {})) for first in [*one, *other]}
    return {first: {second: heads(a.get(second, []) + b.get(second, [])) for second in [*a, *b]} for first, (a, b) in rows.items()}


def heads(versions):
    """The versions that no other replaces, each once; those of two markers who say the same, too, as one of them may be replaced later."""
    replaced = {revision for version in versions for revision in version["after"]}
    left = {version["revision"]: version for version in versions if version["revision"] not in replaced}
    return sorted(left.values(), key=lambda version: (version["at"], version["revision"]))


def differ(versions):
    """Whether they do not all say the same."""
    return len(set(map(_said, versions))) > 1


def _said(version):
    """What a version says, without who said it and when."""
    said = {name: value for name, value in version.items() if name not in BOOKKEEPING}
    said |= {"points": float(said["points"])} if "points" in said else {"items": sorted(said["items"])}
    return json.dumps(said, sort_keys=True)


def shown_digest(section):
    """A text that changes when the answer does, or when what is shown of it changes."""
    return hashlib.sha256(json.dumps(section.shown).encode("utf-8", "replace")).hexdigest()[:12]


def given(record, marks):
    """{section: Given} for the sections of a record that a person marks and that have marks. The record has its pieces (shown)."""
    answers = marks["answers"].get(record.submission, {})
    sections = [section for section in record.sections if section.points is None and answers.get(section.key)]
    return {section.key: _given(section, answers[section.key], marks["rubric"].get(section.key, {})) for section in sections}


def _given(section, versions, rubric):
    version = versions[0]
    items = [rubric[item] for item in version["items"]]
    said = tuple((each[0]["text"], each[0]["points"]) for each in items)
    by = ", ".join(sorted({each["by"] for each in versions if each["by"]}))
    why, points = "", None
    if differ(versions):
        return Given(None, by=by, why="two markers differ")
    if any(map(differ, items)):
        why = "two markers differ on an item of the rubric"
    elif version["shown"] != shown_digest(section):
        why = "the answer has changed since it was marked"
    elif items:
        points = round(min(max(sum(points for _, points in said), 0), section.out_of), 6)  # 0.1 + 0.2 is 0.3, here and in the browser
    return Given(points, said, version["comment"], by, why)


def points(given):
    """{submission: {section: points}} of the answers that are marked. given: {submission: {section: Given}}."""
    found = {name: {key: each.points for key, each in row.items() if each.points is not None} for name, row in given.items()}
    return {name: row for name, row in found.items() if row}


def text(marks):
    return json.dumps(marks, indent=1) + "\n"


def differences(marks, titles):
    """A line for each answer and item on which two markers differ. titles: {section: title}."""
    found = []
    for key, items in marks["rubric"].items():
        for versions in (versions for versions in items.values() if differ(versions)):
            said = " / ".join(f"{each['by'] or '?'}: {each['points']:g} for {each['text']!r}" for each in versions)
            found.append(f"{titles.get(key, key)}, rubric: {said}")
    for name, answer in marks["answers"].items():
        for key, versions in ((key, versions) for key, versions in answer.items() if differ(versions)):
            said = " / ".join(f"{each['by'] or '?'}: {_item_words(each, marks['rubric'][key])}" for each in versions)
            found.append(f"{name}, {titles.get(key, key)}: {said}")
    return found


def _item_words(version, rubric):
    words = [f"{rubric[item][0]['points']:g} for {rubric[item][0]['text']!r}" for item in version["items"]]
    return " + ".join([*words, *(["a comment"] if version["comment"] else [])]) or "nothing"
