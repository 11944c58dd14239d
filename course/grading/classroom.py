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
from course.report import pages
from course.report.record import from_json, to_json
from course.report.safe import cell, file_name, plain
from course.report.writers import points
from lab.training.checkpoint import write_rows, write_text

GRADER = ("config.py", "utils.py", "course", "lab", "tests")  # what a score depends on, besides the submission
RECORDS = "records"  # a folder of the report; where it exists, the folder is the report of a class
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
        _write(report, folder.name, [records[name] for name in names if name in records], failed)
    return list(failed)


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
    """Write the page, then the record, so that a record always has a page; return what the class's page needs of it."""
    write_text(report / pages.FOLDER / f"{file_name(name)}.html", pages.student_page(record))
    kept = {"of": digest, "record": json.loads(to_json(record))}
    write_text(report / RECORDS / f"{file_name(name)}.json", json.dumps(kept, indent=1))
    return _light(record)


def _kept(report, name, digest):
    """The cached record, if submission and grader are unchanged, else None."""
    try:
        kept = json.loads((report / RECORDS / f"{file_name(name)}.json").read_text("utf-8"))
        return _light(from_json(json.dumps(kept["record"]))) if kept["of"] == digest else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _light(record):
    """A record without the pieces of the notebook, to save memory in a large class."""
    return dataclasses.replace(record, sections=tuple(dataclasses.replace(section, shown=()) for section in record.sections))


def default_jobs():
    """One more than there are cores: a grading waits for code that sleeps or hangs, and for its own child."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def _write(report, title, records, failed):
    rows = [_row(record) for record in records]
    empty = dict.fromkeys(rows[0] if rows else ())
    rows += [{**empty, "submission": cell(name), "notes": cell(f"not graded: {why}")} for name, why in failed.items()]
    write_rows(report / "scores.csv", rows)
    write_text(report / "index.html", pages.class_page(title, records, failed.items()))


def _row(record):
    """A line of scores.csv; the points that a person gives are left empty."""
    own = {section.key: "" if section.points is None else points(section.points) for section in record.sections}
    counts = {"automatic": record.points, "automatic_out_of": record.out_of - record.open, "by_hand_out_of": record.open}
    total = {name: points(count) for name, count in counts.items()}
    misconceptions = "; ".join(what for what, _ in pages.misconceptions([record]))
    texts = {"misconceptions": cell(misconceptions), "notes": cell(" ".join(record.notes))}
    return {"submission": cell(record.submission), **own, **total, **texts}
