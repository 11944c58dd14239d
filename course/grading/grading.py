"""Grade one submission: its code runs in the sandbox, the checks of tests/ run here, on stand-ins for its classes."""

import hashlib
import sys
import time
import traceback
from pathlib import Path

import torch
from checks.sections import SECTIONS
from checks.student import stops

from course.grading.rubric import BY_HAND, POINTS, TITLES, TRAINING
from course.grading.weights import judge
from course.intake import intake, notebook
from course.report.record import PRINTED, Property, Record, Section
from course.report.safe import plain
from course.sandbox import proxy
from course.sandbox.folder import working_folder
from course.sandbox.messages import Lost
from course.sandbox.sandbox import Sandbox

LOAD_SECONDS, CHILD_SECONDS = 6, 12  # for one import of a module; for one child
QUIET_SECONDS = 6  # the longest silence of a child, except in the network section
END_SECONDS, LEAST_SECONDS = 2, 10  # to end the sandbox and collect what a person marks; at least for the sandbox
MOST_SAID = 3  # messages shown for a property
MOST_SHOWN = 20_000  # characters of a module that a person has to look at


class Loaded:
    """The result of importing a module. stand_in: whether an empty module replaces the student's ResUNet.py.

    problem: why the import failed, or "". hung: whether its scheduler does not return.
    """

    def __init__(self, stand_in=False, problem=""):
        self.stand_in, self.problem, self.hung = stand_in, problem, False


def grade(submission, *, name=None, seconds=60, only=None):
    """Grade one submission: a folder or a zip, with the modules at its top or in a folder inside, in at most `seconds`.

    only: the keys of the sections to grade, by default all; the record has no others.

    Returns a complete record.Record, whatever the submission holds and does. Raises course.sandbox.sandbox.SandboxError where this
    machine cannot run any submission.
    """
    start = time.monotonic()
    with working_folder() as folder:
        taken = intake.take(submission, folder / "taken")
        left = max(start + seconds - END_SECONDS - time.monotonic(), LEAST_SECONDS)
        with Sandbox(taken.code, left) as box:
            sections, notes = _graded(box, taken, set(POINTS) if only is None else only)
            notes = (*taken.notes, *notes, *_printed(box))
            return Record(name or Path(submission).name, tuple(sections), notes, box.confinement, time.monotonic() - start)


def _graded(box, taken, wanted):
    """The wanted sections, and notes on the whole submission."""
    loaded, sections = {}, []
    asked = [section for section in SECTIONS.values() if wanted & _asked_with(section.key)]
    with torch.random.fork_rng(devices=[]):
        for section in SECTIONS.values() if asked else ():
            if section.module not in loaded:
                others = [how.problem for how in loaded.values()]
                loaded[section.module] = _load(box, taken, section, any(others))
        for left, section in zip(range(len(asked), 0, -1), asked, strict=True):
            share = (box.until - box.now()) / (left + taken.checkpoint)  # of the time that is left
            sections.append(_section(box, section, loaded[section.module], box.now() + share, taken.code))
        if "training" in wanted:
            sections.append(_training(box, taken))
    sections += [Section(key, TITLES[key], None, points, shown=_shown(taken, key)) for key, points in BY_HAND.items()]
    problems = [how.problem for how in loaded.values() if how.problem and "is missing" not in how.problem]
    return [section for section in sections if section.key in wanted], problems


def _asked_with(key):
    """The sections for which the checks of section `key` are run: of the schedule they find out whether the student's can be called."""
    return {"scheduler", "forward", "sample"} if key == "scheduler" else {key}


def _shown(taken, key):
    where = taken.flow_notebook if key.startswith("flow_") else taken.notebook
    return tuple(notebook.pieces(where, key)) if where else (("text", "No notebook was handed in."),)


def _load(box, taken, section, without):
    """Import a module of the student's. without: if that fails, again without their ResUNet.py, whose mistakes do not count here."""
    if not (taken.code / f"{section.module}.py").is_file():
        return Loaded(problem=f"{section.module}.py is missing")
    for stand_in in (False, True) if without else (False,):
        student = _student(box, section, stand_in, box.now() + LOAD_SECONDS)
        try:
            student.open()
            return Loaded(stand_in)
        except Exception as error:
            problem = f"{section.module}.py cannot be imported. {stops('The import', error)}"
            if isinstance(error, Lost) and "takes too long" in problem:
                problem += " Code outside of functions and classes runs at import: move it to the notebook."
        finally:
            student.close()
    return Loaded(problem=problem)


def _student(box, section, stand_in, until):
    def connect():
        if box.now() >= until:
            raise Lost("No time was left to check this: earlier checks took all of it.")
        left = until - box.now()
        if section.key == "network":  # all networks in one child
            return box.link(left)
        return box.link(min(CHILD_SECONDS, left), QUIET_SECONDS)

    return proxy.Student(connect, module=section.module, name=section.cls, stand_in=stand_in)


def _section(box, section, loaded, until, code):
    if loaded.problem:
        where = "It is missing" if "is missing" in loaded.problem else "It cannot be imported, see above"
        says = (f"{section.module}.py could not be looked at. {where}.",)
        lost = tuple(Property(words, 0, points, says) for points, words in section.properties.values())
        return Section(section.key, section.title, 0, section.points, lost)
    student = _student(box, section, loaded.stand_in, until)
    student.hung = loaded.hung
    try:
        verdict = section.examine(student)
    except Exception:  # an error of the checks themselves is no fault of the student
        print(plain(traceback.format_exc()), file=sys.stderr)  # for the person who runs the grader; the record is for the student
        notes = ("The checks themselves failed here; a person marks this section.",)
        own = plain((code / f"{section.module}.py").read_text("utf-8", "replace"))[:MOST_SHOWN]
        return Section(section.key, section.title, None, section.points, notes=notes, shown=(("code", own),))
    finally:
        student.close()
    loaded.hung = student.hung
    said = set()
    properties = tuple(_property(verdict, key, said) for key in section.properties)
    return Section(section.key, section.title, sum(each.points for each in properties), section.points, properties, tuple(verdict.notes))


def _property(verdict, key, said):
    """A Property with its messages; messages in `said` are not repeated."""
    points, words = verdict.properties[key]
    says = list(verdict.says(key))
    new = [message for message in says if message not in said][:MOST_SAID] or says[:1] and ["The same as above."]
    said.update(says)
    mistakes = dict.fromkeys(fault.mistake for fault in verdict.faults.get(key, ()) if fault.mistake)
    return Property(words, verdict.points(key), points, tuple(new), tuple(mistakes))


def _training(box, taken):
    key, title = "training", TITLES["training"]
    if not taken.checkpoint:
        return Section(key, title, None, TRAINING, notes=(f"No {intake.CHECKPOINT} was handed in.",), shown=_shown(taken, key))
    properties, notes = judge(box, taken.code / intake.CHECKPOINT)
    points = sum(each.points for each in properties) if properties else None
    sha256 = hashlib.sha256((taken.code / intake.CHECKPOINT).read_bytes()).hexdigest()[:16]  # marks are for these weights
    shown = () if properties else (*_shown(taken, key), ("text", f"{intake.CHECKPOINT} with the SHA-256 {sha256}…"))
    return Section(key, title, points, TRAINING, tuple(properties), tuple(notes), shown)


def _printed(box):
    printed = box.printed.strip()
    return (f"{PRINTED}{printed[:300]}",) if printed else ()
