"""Grade a whole class: every submission of a folder, in parallel, going on where it was stopped."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import stat
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from course.grading import guard
from course.handout.handout import ROOT
from course.marking import marks as marks_file
from course.report import pages
from course.report.record import from_json, to_json
from course.report.safe import cell, file_name, plain
from course.report.writers import points
from lab.training.checkpoint import write_rows, write_text

GRADER = ("config.py", "utils.py", "course", "lab", "tests")  # what a score depends on, besides the submission
RECORDS = "records"  # a folder of the report; where it exists, the folder is the report of a class
CLASS = "class.json"  # a file of the report: its title, the submissions in their order, and what could not be graded
AGAIN = "give the command grade --all again, which makes anew what is missing"
MOODLE = re.compile(r"_assignsubmission_.*$")  # the end of the folder names in Moodle's download
LARGE = 256 << 20  # bytes; of a larger file only the size and modification time are hashed


class ClassError(Exception):
    """A class that cannot be graded as asked; the message says what to do."""


def grade_all(folder, report, jobs=None, grade=None):
    """Grade each sub-folder and zip of `folder`; write the records, scores.csv, a page a submission and index.html to `report`.

    A record is used again where neither the submission nor the grader has changed. jobs: how many are graded at once, by default
    default_jobs(). grade: see course.grading.guard.graded. Returns the names of what could not be graded. Raises ClassError, before
    any work where it can.
    """
    folder, report = Path(folder).absolute(), Path(report).absolute()
    if jobs is not None and jobs < 1:
        raise ClassError(f"--jobs {jobs}; allowed is a whole number of at least 1")
    names = _submissions(folder, report)
    _prepare(report)
    with _alone(report):
        marks_file.read(report)  # a damaged one is an error before any work
        grader = _digest(*(ROOT / name for name in GRADER))
        digests = {name: f"{_digest(path)} by {grader}" for name, path in names.items()}
        records = {name: record for name in names if (record := _kept(report, name, digests[name]))}
        todo = {name: path for name, path in names.items() if name not in records}
        failed = {}
        bar = tqdm(total=len(names), initial=len(records), unit="submission", desc=folder.name, disable=None)
        with bar, contextlib.closing(guard.graded(todo, jobs or default_jobs(), grade)) as graded:
            for name, record, why in graded:
                if record:
                    records[name] = _keep(report, name, digests[name], plain(record))
                else:
                    failed[name] = why
                bar.update()
        about = {"title": folder.name, "submissions": [name for name in names if name in records], "failed": failed}
        write_text(report / CLASS, json.dumps(about, indent=1))
        remake(report)
    return list(failed)


def remake(report):
    """Write the students' pages, scores.csv and index.html, and the points of marks.json, from the records and marks that are there."""
    about, marks = _about(report), marks_file.read(report)
    records, given = [], {}
    for record in recorded(report):
        given[record.submission] = marks_file.given(record, marks)
        page, said = report / pages.FOLDER / f"{file_name(record.submission)}.html", pages.student_page(record, given[record.submission])
        if not page.exists() or page.read_text("utf-8") != said:
            write_text(page, said)
        records.append(_light(record))
    counted = marks_file.points(given)
    if counted != marks["points"]:  # an answer has changed since it was marked, or its section needs no person any more
        write_text(report / marks_file.NAME, marks_file.text({**marks, "points": counted}))
    _write(report, about["title"], records, about["failed"], given)


def recorded(report):
    """The records of a class, whole, one after the other."""
    for name in _about(report)["submissions"]:
        try:
            yield from_json(json.dumps(_read(report, name)["record"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ClassError(f"the record of {name!r} in {report} cannot be read ({error}); {AGAIN}") from error


def title(report):
    return _about(report)["title"]


def _about(report):
    """What CLASS holds; for the report of an earlier edition, which has none, what its records say."""
    try:
        if (report / CLASS).exists():
            return json.loads((report / CLASS).read_text("utf-8"))
        names = [json.loads(path.read_text("utf-8"))["record"]["submission"] for path in sorted((report / RECORDS).glob("*.json"))]
        return {"title": report.name, "submissions": names, "failed": {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClassError(f"what {report} holds cannot be read ({error}); {AGAIN}") from error


@contextlib.contextmanager
def opened(report):
    """Lock the report of a class, to change it. Raises ClassError where there is none, or where another command works on it."""
    if not (report / RECORDS).is_dir():
        raise ClassError(f"{report} is no report of a class; make one first: python -m course grade --all FOLDER --out REPORT")
    with _alone(report):
        if not _about(report)["submissions"]:
            raise ClassError(f"{report} holds no records; grade the class first: python -m course grade --all FOLDER --out REPORT")
        yield


def _submissions(folder, report):
    """{name: path} of the submissions in a folder, by name."""
    if not folder.is_dir():
        raise ClassError(f"{folder} is no folder; name the one that holds a sub-folder or a zip for each submission")
    if report == folder or folder in report.parents:
        raise ClassError(f"the report {report} would lie among the submissions; name a folder outside of {folder}")
    there = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))
    found = [path for path in there if not path.is_symlink() and (path.is_dir() or path.suffix.lower() == ".zip" and path.is_file())]
    if not found:
        what = f"only {', '.join(path.name for path in there[:3])}" if there else "nothing"
        raise ClassError(f"{folder} holds {what}; each submission is a sub-folder or a zip in it")
    names = {}
    for path in found:
        name = plain(MOODLE.sub("", path.name if path.is_dir() else path.stem)) or path.name
        other = next((other for other in names if other.casefold() == name.casefold()), None)
        if other is not None:
            raise ClassError(f"{names[other].name} and {path.name} would both be called {name!r}; rename or remove one of them")
        names[name] = path
    return names


def _prepare(report):
    """Make the folder of a report, or take that of an earlier grading."""
    try:
        if report.exists() and (not report.is_dir() or any(report.iterdir()) and not (report / RECORDS).is_dir()):
            raise ClassError(f"{report} holds something else than the report of a class; name a new folder")
        for name in (RECORDS, pages.FOLDER):
            (report / name).mkdir(parents=True, exist_ok=True)
        write_text(report / RECORDS / "README", "The records of graded submissions. A grading that is started again goes on from them.\n")
    except OSError as error:
        raise ClassError(f"{report} cannot be written: {error}; name another folder") from error


@contextlib.contextmanager
def _alone(report):
    """An exclusive lock on the report; that of a process that died is free."""
    try:
        lock = FileLock(report / RECORDS / ".lock", timeout=0).acquire()
    except Timeout:
        raise ClassError(f"another grading is writing to {report}; wait for it, or name another folder") from None
    with lock:
        yield


def _digest(*paths):
    """SHA-256 of files and folders: names and contents. Links are not followed."""
    digest = hashlib.sha256()
    for top in paths:
        for path in sorted(_files(top)):
            about = os.lstat(path)
            digest.update(os.fsencode(os.path.relpath(path, top.parent)) + b"\0%d\0%d\0" % (stat.S_IFMT(about.st_mode), about.st_size))
            with contextlib.suppress(OSError):  # what cannot be read is not graded either
                if stat.S_ISLNK(about.st_mode):
                    digest.update(os.fsencode(os.readlink(path)))
                elif about.st_size > LARGE:
                    digest.update(b"%d" % about.st_mtime_ns)
                elif stat.S_ISREG(about.st_mode):
                    digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _files(top):
    """The paths of all files in a folder, or of `top` itself if it is a file; files nested too deep for a path are left out."""
    waiting = [os.fspath(top)] if top.is_dir() else []
    if not waiting:
        yield os.fspath(top)
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield entry.path
                elif entry.name != "__pycache__":
                    waiting.append(entry.path)


def _keep(report, name, digest, record):
    """Write the page, then the record, so that a record always has a page; return what is needed of it until all are graded."""
    write_text(report / pages.FOLDER / f"{file_name(name)}.html", pages.student_page(record))
    kept = {"of": digest, "record": json.loads(to_json(record))}
    write_text(report / RECORDS / f"{file_name(name)}.json", json.dumps(kept, indent=1))
    return _light(record)


def _kept(report, name, digest):
    """The cached record, if submission and grader are unchanged, else None."""
    try:
        kept = _read(report, name)
        return _light(from_json(json.dumps(kept["record"]))) if kept["of"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(report, name):
    return json.loads((report / RECORDS / f"{file_name(name)}.json").read_text("utf-8"))


def _light(record):
    """A record without the pieces of the notebook, to save memory in a large class."""
    return dataclasses.replace(record, sections=tuple(dataclasses.replace(section, shown=()) for section in record.sections))


def default_jobs():
    """One more than there are cores: a grading waits for code that sleeps or hangs, and for its own child."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def _write(report, title, records, failed, given):
    rows = [_row(record, given[record.submission]) for record in records]
    empty = dict.fromkeys(rows[0] if rows else ())
    rows += [{**empty, "submission": cell(name), "notes": cell(f"not graded: {why}")} for name, why in failed.items()]
    write_rows(report / "scores.csv", rows)
    write_text(report / "index.html", pages.class_page(title, records, failed.items(), given))


def _row(record, given):
    """A line of scores.csv; the points that a person still has to give are left empty, and so is the total until then."""
    by_hand = {section.key: given[section.key].points if section.key in given else None for section in record.open_sections}
    own = {section.key: by_hand.get(section.key, section.points) for section in record.sections}
    marked = sum(points for points in by_hand.values() if points is not None)
    counts = {"automatic": record.points, "automatic_out_of": record.out_of - record.open, "by_hand": marked, "by_hand_out_of": record.open,
              "total": None if None in by_hand.values() else record.points + marked}  # fmt: skip
    total = {name: "" if count is None else points(count) for name, count in (own | counts).items()}
    misconceptions = "; ".join(what for what, _ in pages.misconceptions([record]))
    texts = {"misconceptions": cell(misconceptions), "notes": cell(" ".join(record.notes))}
    return {"submission": cell(record.submission), **total, **texts}
