"""Grade a whole class: every submission of a folder, in parallel, going on where it was stopped."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout
from tqdm import tqdm

from course.grading import again, guard
from course.grading.claims import LOST, Claims, clear
from course.grading.submissions import ClassError, digest, left_out, submissions
from course.marking import marks as marks_file
from course.report import changes, pages, requests
from course.report.record import from_json, to_json
from course.report.safe import cell, file_name, plain
from course.report.writers import points
from lab.training.checkpoint import write_rows, write_text

RECORDS = "records"  # a folder of the report; where it exists, the folder is the report of a class
PENDING = "pending"  # a folder of the report: that of a dry run
CLASS = "class.json"  # a file of the report: its title, the submissions in their order, and what could not be graded
PAUSE, WRITING = 1, 600  # seconds between two looks at what other workers have done; for another to write the report
ARCHIVES = re.compile(r"(.+?)(\.tar)?\.(7z|rar|tar|gz|tgz|bz2|xz)", re.I)
PACKED = "it is no zip: unpack it into a folder of its name, and grade again"
AGAIN = "give the command grade --all again, which makes anew what is missing"


def grade_all(folder, report, jobs=None, grade=None, *, dry=False, worker=False, lost=LOST, tell=lambda line: None):
    """Grade each sub-folder and zip of `folder`; write the records, scores.csv, a page a submission and index.html to `report`.

    Graded again is what a change of the submission or of the course can have changed, and no other section. jobs: how many are graded
    at once, by default default_jobs(). grade: see course.grading.guard.graded. dry: the report stays as it is; the new records wait in
    its folder PENDING, and the next grading takes them from there. worker: share the work with others that run on the same folders;
    lost: see course.grading.claims. tell: called with a line a submission whose points moved. Returns the names of what could not be
    graded. Raises ClassError, before any work where it can.
    """
    folder, report = Path(folder).absolute(), Path(report).absolute()
    if jobs is not None and jobs < 1:
        raise ClassError(f"--jobs {jobs}; allowed is a whole number of at least 1")
    if dry and worker:
        raise ClassError("--dry-run and --worker do not go together: a dry run grades on one machine")
    names = submissions(folder, report)
    if others := left_out(folder, names):
        tell(plain(f"not graded, as each submission is a sub-folder or a zip: {again.listed(others)}"))
    _prepare(report)
    requests.read(report), marks_file.read(report)  # a damaged file is an error before any work
    with contextlib.nullcontext() if worker else _alone(report):
        if dry:
            _prepare(report / PENDING)
        work = _Work(report, names, dry, Claims(report / RECORDS, lost) if worker else None)
        with tqdm(total=len(names), unit="submission", desc=folder.name, disable=None) as bar:
            work.run(jobs or default_jobs(), grade, bar)
        with _alone(report, WRITING) if worker else contextlib.nullcontext():
            failed = {name: why for name, why in work.failed.items() if not worker or work.task(name)}  # another may have done it
            failed |= {name: PACKED for name in map(plain, others) if _packed(name) not in (None, *names)}
            if dry:
                write_text(work.out / changes.NAME, changes.page(folder.name, work.moved, dry=True))
            else:
                _finish(report, folder.name, names, failed)
    for line in changes.lines(work.moved):
        tell(line)
    return list(failed)


def _packed(name):
    """What an archive that is no zip is called without its ending; None for another file."""
    found = ARCHIVES.fullmatch(name)
    return found and found[1]


def failed(report):
    """{submission: why} of those that could not be graded."""
    return _about(Path(report))["failed"]


class _Work:
    """The grading of a class by this process. claims: where other workers take part in it."""

    def __init__(self, report, names, dry, claims):
        self.report, self.names, self.dry, self.claims = report, names, dry, claims
        self.out = report / PENDING if dry else report
        self.course, self.when = again.Course(), datetime.now().isoformat(" ", "seconds")
        self.digests, self.tasks, self.only, self.failed = {}, {}, {}, {}
        self.moved = []  # (submission, what course.grading.again.moved says)
        self.open = dict(names)  # what is not yet graded, by this worker or another

    def run(self, jobs, grade, bar):
        if not self.claims:
            clear(self.report / RECORDS)
        while self.open:
            before = len(self.open)
            try:
                with contextlib.closing(guard.graded(self._todo(bar), jobs, grade, only=self.only)) as graded:
                    for name, record, why in graded:
                        self._done(name, record, why)
                        bar.update()
            finally:
                for name in self.tasks.keys() & self.open.keys() if self.claims else ():
                    self.claims.drop(name)  # it was stopped: another may go on
            if len(self.open) == before:
                time.sleep(PAUSE)  # others work on what is left, or have died over it

    def _todo(self, bar):
        """Yield (name, path) of what this process is to grade next."""
        for name in list(self.open):
            task = self.task(name)
            if task and self.claims:
                if not self.claims.take(name):
                    self._give_up(name)
                    continue
                task = self.task(name)  # once more, as another worker may just have finished it
            waiting = task and self._waiting(name, task)
            if task and not waiting:
                self.tasks[name], self.only[name] = task, task.sections
                yield name, self.names[name]
                continue
            if waiting and self.dry:
                self.moved += [(name, moved) for moved in waiting["moved"]]
            elif waiting:
                self._keep(name, dataclasses.replace(task, sections=None), from_json(json.dumps(waiting["record"])))
            if self.claims:
                self.claims.drop(name)
            del self.open[name]
            bar.update()

    def task(self, name):
        """The Task for a submission, or None where its record is a present one."""
        if name not in self.digests:
            self.digests[name] = digest(self.names[name])
        return again.task(self.course, self.digests[name], _kept(self.report, name))

    def _waiting(self, name, task):
        """What the record file of an earlier dry run holds, if it is what this task asks for."""
        kept = _kept(self.report / PENDING, name)
        return kept if kept and kept["of"] == task.of else None

    def _give_up(self, name):
        if self.claims.given_up(name):
            del self.open[name]
            self.failed[name] = self.claims.why(name)

    def _done(self, name, record, why):
        if self.claims and not self.claims.holds(name):
            return  # it took too long; another worker is at it
        del self.open[name]
        if record:
            self._keep(name, self.tasks[name], plain(record))
        else:
            self.failed[name] = why
        if self.claims and record:
            self.claims.drop(name)
        elif self.claims:
            self.claims.fail(name, why)

    def _keep(self, name, task, record):
        kept, history = _kept(self.report, name), []
        if kept:
            old = from_json(json.dumps(kept["record"]))
            record = again.merged(old, record, task.sections)
            moved = again.moved(old, record, self.when, task.why)
            self.moved += [(name, moved)] if moved else []
            history = [*([] if self.dry else kept.get("moved", [])), *([moved] if moved else [])]
        _keep(self.out, name, task.of, record, history)


def _finish(report, title, names, failed):
    """Make the report from the records that are there."""
    shutil.rmtree(report / PENDING, ignore_errors=True)  # all of it is in the records now, or outdated
    graded = [name for name in names if name not in failed and _kept(report, name)]
    write_text(report / CLASS, json.dumps({"title": title, "submissions": graded, "failed": failed}, indent=1))
    remake(report)


def remake(report):
    """Make the report from the records and marks that are there: all pages, scores.csv, and the points of marks.json."""
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
    told, asked = histories(report), requests.read(report)
    write_text(report / changes.NAME, changes.page(about["title"], told, requests.answered(asked, records)))
    _write(report, about["title"], records, about["failed"], given, changes.summary(told, asked))


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


def records(report):
    """The records of a class, whole, as a list. Raises ClassError where there are none, or a damaged one."""
    report = Path(report)
    _check_report(report)
    return list(recorded(report))


@contextlib.contextmanager
def opened(report):
    """Lock the report of a class, to change it. Raises ClassError where there is none, or where another command works on it."""
    _check_report(report)
    with _alone(report):
        yield


def _check_report(report):
    if not (report / RECORDS).is_dir():
        raise ClassError(f"{report} is no report of a class; make one first: python -m course grade --all FOLDER --out REPORT")
    if not _about(report)["submissions"]:
        raise ClassError(f"{report} holds no records; grade the class first: python -m course grade --all FOLDER --out REPORT")


def histories(report):
    """[(submission, what moved once)] of all records of a report, as course.grading.again.moved says; the last first."""
    found = []
    for path in (report / RECORDS).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # a damaged record is made anew
            kept = json.loads(path.read_text("utf-8"))
            found += [(kept["record"]["submission"], moved) for moved in kept.get("moved", ())]
    found.sort(key=lambda each: each[0].casefold())
    return sorted(found, key=lambda each: each[1]["when"], reverse=True)


def _prepare(report):
    """Make the folder of a report, or take that of an earlier grading."""
    try:
        if report.exists() and (not report.is_dir() or any(report.iterdir()) and not (report / RECORDS).is_dir()):
            raise ClassError(f"{report} holds something else than the report of a class; name a new folder")
        for name in (RECORDS, pages.FOLDER):
            (report / name).mkdir(parents=True, exist_ok=True)
        if not (report / RECORDS / "README").exists():
            with contextlib.suppress(FileNotFoundError):  # another worker has just written it
                write_text(report / RECORDS / "README", "The records of graded submissions. A grading started again goes on from them.\n")
    except OSError as error:
        raise ClassError(f"{report} cannot be written: {error}; name another folder") from error


@contextlib.contextmanager
def _alone(report, seconds=0):
    """An exclusive lock on the report, waited for that long; that of a process that died is free."""
    try:
        lock = FileLock(report / RECORDS / ".lock", timeout=seconds).acquire()
    except Timeout:
        raise ClassError(f"another grading is writing to {report}; wait for it, or name another folder") from None
    with lock:
        yield


def _keep(report, name, of, record, moved=()):
    """Write the page, then the record, so that a record always has a page. of, moved: see course.grading.again."""
    write_text(report / pages.FOLDER / f"{file_name(name)}.html", pages.student_page(record))
    kept = {"of": of, "record": json.loads(to_json(record)), "moved": list(moved)}
    write_text(report / RECORDS / f"{file_name(name)}.json", json.dumps(kept, indent=1))


def _kept(report, name):
    """What the file of a record holds; None where there is none, or a damaged one."""
    try:
        kept = _read(report, name)
        from_json(json.dumps(kept["record"]))
        return kept if isinstance(kept["of"], str) or kept["of"].keys() == {"submission", "files"} else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _read(report, name):
    return json.loads((report / RECORDS / f"{file_name(name)}.json").read_text("utf-8"))


def _light(record):
    """A record without the pieces of the notebook, to save memory in a large class."""
    return dataclasses.replace(record, sections=tuple(dataclasses.replace(section, shown=()) for section in record.sections))


def default_jobs():
    """One more than there are cores: a grading waits for code that sleeps or hangs, and for its own child."""
    return (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) + 1


def _write(report, title, records, failed, given, told):
    rows = [_row(record, given[record.submission]) for record in records]
    empty = dict.fromkeys(rows[0] if rows else ())
    rows += [{**empty, "submission": cell(name), "notes": cell(f"not graded: {why}")} for name, why in failed.items()]
    write_rows(report / "scores.csv", rows)
    write_text(report / "index.html", pages.class_page(title, records, failed.items(), given, again=told))


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
