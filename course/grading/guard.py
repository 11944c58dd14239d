"""Gradings in processes of their own, several at once: whatever a submission does, it gets a record, and the others go on."""

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from multiprocessing import connection
from pathlib import Path

from course.grading.submissions import digest
from course.report.record import STOPPED, Record, Section, from_json, to_json
from course.sandbox import folder

SECONDS = 150  # by the wall clock: course.grading.grading's own limit is 60, 120 where the machine is busy
MEMORY = 6 * 2**30  # bytes of heap that a grading itself may take (RLIMIT_DATA); a right submission's takes 1 GB
END_SECONDS = 15  # for a grading that is told to end
LOOK = "Look at the file itself: the grading was stopped before it was laid out here."


def graded(todo, jobs, grade=None, seconds=SECONDS, only=None):
    """Grade the submissions {name: path}, `jobs` at once. grade: a function in place of course.grading.grading.grade.

    todo: also an iterator of (name, path), asked for the next when there is room for it. only: {name: sections} of those of which only
    some sections are graded. Yields (name, record, None) as each is done, or (name, None, why) if this machine cannot grade it.
    """
    context = multiprocessing.get_context("forkserver")  # which imports torch only once
    context.set_forkserver_preload(["course.grading.grading"])
    waiting, running = iter(todo.items() if isinstance(todo, dict) else todo), {}
    try:
        while True:
            while len(running) < jobs and (following := next(waiting, None)):
                one = _Grading(context, grade, *following, seconds, (only or {}).get(following[0]))
                running[one.answer] = one
            if not running:
                return
            next_end = min(one.until for one in running.values()) - time.monotonic()
            ready = connection.wait(running, max(0, next_end))
            for one in [one for one in running.values() if one.answer in ready or one.until <= time.monotonic()]:
                del running[one.answer]
                yield one.name, *one.result()
    finally:
        for one in running.values():  # all are signalled before the first is waited for
            one.process.terminate()
        for one in running.values():
            one.stop()


class _Grading:
    """A running grading, which is ended at `until`. Its process sends (the record as JSON, None) or (None, why) to `answer`."""

    def __init__(self, context, grade, name, path, seconds, only):
        self.name, self.path, self.began = name, Path(path), time.monotonic()
        self.until = self.began + seconds
        self.answer, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_grade, args=(theirs, grade, path, name, only))
        self.process.start()
        theirs.close()

    def result(self):
        """(record, None) or (None, why)."""
        try:
            if not self.answer.poll():
                return self._stopped(f"took more than {self.until - self.began:.0f} s")
            text, why = self.answer.recv()
            return text and from_json(text), why
        except Exception:  # mostly EOFError; whatever it is, the submission gets a record
            self.process.join(END_SECONDS)
            return self._stopped(f"ended by itself ({self.process.exitcode}), perhaps for lack of memory")
        finally:
            self.stop()

    def _stopped(self, why):
        from course.grading.rubric import POINTS, TITLES  # here, as torch takes seconds

        note = f"{STOPPED}{why}. What is open here, a person marks."
        look = LOOK
        with contextlib.suppress(OSError):  # of a file that is gone; a record is made whatever happens
            look += f" Its digest is {digest(self.path)[:16]}."  # marks are for what was handed in then
        sections = tuple(Section(key, TITLES[key], None, points, shown=(("text", look),)) for key, points in POINTS.items())
        return Record(self.name, sections, (note,), ("It was stopped.",), time.monotonic() - self.began), None

    def stop(self):
        """End the process if it still runs, and clear up what it has left behind."""
        self.process.join(1)
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(END_SECONDS)
            self.process.kill()
            self.process.join()
        folder.clear()
        self.answer.close()


def _grade(answer, grade, path, name, only):
    """The entry point of a grading's own process."""
    _begin()
    try:
        if grade is None:
            from course.grading.grading import grade  # here, as its parent has no need of it
        said = to_json(grade(path, name=name, **({} if only is None else {"only": only}))), None
    except Exception as error:  # of this machine; the other submissions are graded all the same
        said = None, f"{type(error).__name__}: {error}"
    answer.send(said)


def _begin():
    """Set limits; end at SIGTERM or when the parent has died, but let the grading clear up first."""
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the parent passes it on

    def end(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would come in the midst of clearing up
        sys.exit(1)

    def follow():
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        os._exit(1)

    signal.signal(signal.SIGTERM, end)
    threading.Thread(target=follow, daemon=True).start()
