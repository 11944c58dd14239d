"""Grade one submission: its code runs in the sandbox, the checks of tests/ run here, on stand-ins for its classes."""

import random
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from course import intake, notebook, remote
from course.record import Property, Record, Section
from course.rubric import BY_HAND, TITLES, TRAINING, parts
from course.sandbox import Sandbox
from course.weights import judge
from course.wire import Lost

SEED = 20_241_107
LOAD_SECONDS, CHECK_SECONDS = 6, 12  # for one import of a module, for one check
END_SECONDS = 2                      # to end the sandbox and lay out what a person marks
MOST_LOST, MOST_SAID = 2, 3          # checks of a section that may hang or end their process; messages of a property
MISCONCEPTION = re.compile(r"This is what you get (?:when )?(.+?)\.(?=\s|$)")


class Loaded:
    """How a module is imported: whether something empty stands in for the student's ResUNet.py, or why it cannot be.

    broken: what is known of its scheduler, see course.remote.Channel.
    """

    def __init__(self, stand_in=False, problem=""):
        self.stand_in, self.problem, self.broken = stand_in, problem, []


def grade(submission, *, name=None, seconds=60):
    """Grade one submission: a folder or a zip, with the modules at its top or in a folder inside, in at most so many seconds.

    Returns a record.Record, whole whatever the submission holds and does. Raises course.sandbox.SandboxError where this
    machine cannot run any submission.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="grading-") as folder:
        taken = intake.take(submission, folder)
        left = start + seconds - END_SECONDS - time.monotonic()
        with Sandbox(taken.code, left) as box:
            sections, notes = _graded(box, taken)
            notes = (*taken.notes, *notes, *_printed(box))
            return Record(name or Path(submission).name, tuple(sections), notes, box.confinement, time.monotonic() - start)


def _graded(box, taken):
    """All sections, and what is to be said about the whole."""
    loaded, sections, automatic = {}, [], list(parts())
    with torch.random.fork_rng(devices=[]):
        for part in automatic:
            if part.module not in loaded:
                loaded[part.module] = _load(box, taken, part)
        for left, part in zip(range(len(automatic), 0, -1), automatic, strict=True):
            share = (box.until - box.now()) / (left + taken.checkpoint)  # of the time that is left
            sections.append(_section(box, part, loaded[part.module], box.now() + share))
        sections.append(_training(box, taken))
    sections += [Section(key, TITLES[key], None, points, shown=_shown(taken, key)) for key, points in BY_HAND.items()]
    return sections, [how.problem for how in loaded.values() if how.problem and "is missing" not in how.problem]


def _shown(taken, key):
    return tuple(notebook.pieces(taken.notebook, key)) if taken.notebook else (("text", "No notebook was handed in."),)


def _load(box, taken, part):
    """Try to import a module of the student's, and DDPM.py without their ResUNet.py too: a mistake there is not one here."""
    if not (taken.code / f"{part.module}.py").is_file():
        return Loaded(problem=f"{part.module}.py is missing")
    for stand_in in (False, True) if part.module == "DDPM" else (False,):
        channel = _channel(box, part, Loaded(stand_in), LOAD_SECONDS)
        try:
            channel.open()
            return Loaded(stand_in)
        except Exception as error:
            problem = f"{part.module}.py cannot be imported. {_words(error, part)}"
            if isinstance(error, Lost) and "takes too long" in problem:
                problem += " Code outside of functions and classes runs at import: move it to the notebook."
        finally:
            channel.close()
    return Loaded(problem=problem)


def _channel(box, part, loaded, seconds):
    load = dict(module=part.module, name=part.cls, stand_in=loaded.stand_in, seed=SEED)
    return remote.Channel(lambda: box.link(seconds), loaded.broken, **load)


def _section(box, part, loaded, until):
    properties, said, lost = [], set(), []
    for points, name, checks in part.properties:
        messages = [loaded.problem] if loaded.problem else _messages(box, part, loaded, checks, until, lost)
        properties.append(_property(name, points, messages, said))
    notes = () if said else tuple(_notes(box, part, loaded, until))
    points, out_of = sum(each.points for each in properties), sum(each.out_of for each in properties)
    return Section(part.key, part.title, points, out_of, tuple(properties), notes)


def _messages(box, part, loaded, checks, until, lost):
    """What the checks of a property say. lost: what was said of checks that hung or ended their process; after some, no more are run."""
    messages = []
    for check in checks:
        if len(lost) >= MOST_LOST:
            return [*messages, lost[-1]]
        if box.now() >= until:
            return [*messages, "No time was left to look at this: the checks before it took all of it."]
        error = _run(box, part, loaded, check, min(CHECK_SECONDS, until - box.now()))
        if error is not None:
            messages.append(_words(error, part))
            lost += [messages[-1]] if _lost(error) else []
    return messages


def _run(box, part, loaded, check, seconds):
    """What a check raises on the student's class, or None. The same random numbers are drawn each time."""
    random.seed(SEED), np.random.seed(SEED), torch.manual_seed(SEED + 1)
    channel = _channel(box, part, loaded, seconds)
    try:
        check((remote.unet if part.key == "network" else remote.ddpm)(channel))
    except (Exception, pytest.skip.Exception) as error:
        return None if isinstance(error, pytest.skip.Exception) else error
    finally:
        channel.close()


def _notes(box, part, loaded, until):
    for note in part.notes:
        found = []
        _run(box, part, loaded, lambda cls, note=note, found=found: found.append(note(cls)), min(CHECK_SECONDS, until - box.now()))
        yield from (words for words in found if words)


def _property(name, points, messages, said):
    """A property and what is said about it: each message once, each misconception once, and what was said before not again."""
    says, found = [], []
    for message in messages:
        named = MISCONCEPTION.findall(message)
        if message not in says and not (named and set(named) <= set(found)):
            says.append(message)
        found += [words for words in named if words not in found]
    new = [message for message in says if message not in said][:MOST_SAID]
    said.update(new)
    shown = new or (["The same as above."] if says else [])
    return Property(name, 0 if messages else points, points, tuple(shown), tuple(found))


def _words(error, part):
    """What to tell the student of an error."""
    lost = _lost(error)
    if lost:
        return str(lost)
    if isinstance(error, AssertionError):
        return str(error)
    where = getattr(error, "where", "")
    if isinstance(error, NotImplementedError):
        return f"This is not written yet{f' ({where})' if where else ''}. {part.see}"
    return f"Your code stops with {type(error).__name__}: {str(error)[:1000]}{f' ({where})' if where else ''}. {part.see}"


def _lost(error):
    """The Lost that an error is or came from, or None."""
    return next((each for each in (error, error.__cause__, error.__context__) if isinstance(each, Lost)), None)


def _training(box, taken):
    key, title = "training", TITLES["training"]
    if not taken.checkpoint:
        return Section(key, title, None, TRAINING, notes=(f"No {intake.CHECKPOINT} was handed in.",), shown=_shown(taken, key))
    properties, notes = judge(box)
    points = sum(each.points for each in properties) if properties else None
    return Section(key, title, points, TRAINING, tuple(properties), tuple(notes), () if properties else _shown(taken, key))


def _printed(box):
    printed = box.printed.strip()
    return (f"It printed, among other things: {printed[:300]}",) if printed else ()
