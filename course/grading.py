"""Grade one submission: its code runs in the sandbox, the checks of tests/ run here, on stand-ins for its classes."""

import random
import re
import tempfile
import time
from collections import namedtuple
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
LOAD_SECONDS, CHECK_SECONDS = 6, 8  # for one import of a module, for one check
MOST_LOST, MOST_SAID = 2, 3         # checks of a section that may hang or end their process; messages of a property
MISCONCEPTION = re.compile(r"This is what you get (?:when )?(.+?)\.(?=\s|$)")

Loaded = namedtuple("Loaded", "stand_in problem", defaults=(False, None))
Loaded.__doc__ = "How a module can be imported: whether in place of the student's ResUNet.py something empty stands, or why it cannot."


def grade(submission, *, name=None, seconds=60):
    """Grade one submission: a folder or a zip, with the modules at its top or in a folder inside, in at most so many seconds.

    Returns a record.Record, whole whatever the submission holds and does. Raises course.sandbox.SandboxError where this
    machine cannot run any submission.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="grading-") as folder:
        taken = intake.take(submission, folder)
        with Sandbox(taken.code, start + seconds) as box:
            sections, notes = _graded(box, taken)
            notes = (*taken.notes, *notes, *_printed(box))
            return Record(name or Path(submission).name, tuple(sections), notes, box.confinement, time.monotonic() - start)


def _graded(box, taken):
    with torch.random.fork_rng(devices=[]):
        loaded, automatic = {}, list(parts())
        for part in automatic:
            if part.module not in loaded:
                loaded[part.module] = _load(box, taken, part)
        sections = []
        for number, part in enumerate(automatic):
            until = time.monotonic() + (box.until - time.monotonic()) / (len(automatic) - number + taken.checkpoint)
            sections.append(_section(box, part, loaded[part.module], until))
        notes = [f"{module}.py: {how.problem}" for module, how in loaded.items() if how.problem and f"{module}.py is missing" not in how.problem]
        sections.append(_training(box, taken))
    for key, points in BY_HAND.items():
        sections.append(Section(key, TITLES[key], None, points, shown=_shown(taken, key)))
    return sections, notes


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
            problem = f"It cannot be imported. {_words(error, box, part)}"
            if isinstance(error, Lost) and "takes too long" in problem:
                problem += " Code outside of functions and classes runs at import: move it to the notebook."
        finally:
            channel.close()
    return Loaded(problem=problem)


def _channel(box, part, loaded, seconds):
    return remote.Channel(lambda: box.link(seconds), module=part.module, name=part.cls, stand_in=loaded.stand_in, seed=SEED)


def _section(box, part, loaded, until):
    lost, properties, said = 0, [], set()
    for points, name, checks in part.properties:
        messages = []
        for check in checks:
            if loaded.problem:
                messages.append(loaded.problem)
                break
            if lost >= MOST_LOST or time.monotonic() >= until:
                messages.append(lost_words if lost else "No time was left to look at this: the checks before it took all of it.")
                break
            error = _run(box, part, loaded, check, min(CHECK_SECONDS, until - time.monotonic()))
            if error is not None:
                messages.append(_words(error, box, part))
                if _is_lost(error):
                    lost, lost_words = lost + 1, messages[-1]
        properties.append(_property(name, points, messages, said))
    notes = () if any(each.says for each in properties) else tuple(_notes(box, part, loaded, until))
    return Section(part.key, part.title, sum(each.points for each in properties), sum(each.out_of for each in properties), tuple(properties), notes)


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
        _run(box, part, loaded, lambda cls, note=note, found=found: found.append(note(cls)), min(CHECK_SECONDS, until - time.monotonic()))
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


def _words(error, box, part):
    """What to tell the student of an error."""
    if _is_lost(error):
        return box.why(error if isinstance(error, Lost) else error.__cause__ or error.__context__)
    if isinstance(error, AssertionError):
        return str(error)
    where = getattr(error, "where", "")
    if isinstance(error, NotImplementedError):
        return f"This is not written yet{f' ({where})' if where else ''}. {part.see}"
    name = "" if type(error).__name__ == "StudentError" else f"{type(error).__name__}: "
    return f"Your code stops with {name}{str(error)[:1000]}{f' ({where})' if where else ''}. {part.see}"


def _is_lost(error):
    return any(isinstance(each, Lost) for each in (error, error.__cause__, error.__context__))


def _training(box, taken):
    key, title = "training", TITLES["training"]
    if not taken.checkpoint:
        return Section(key, title, None, TRAINING, notes=(f"No {intake.CHECKPOINT} was handed in.",), shown=_shown(taken, key))
    properties, notes = judge(box)
    points = sum(each.points for each in properties) if properties else None
    return Section(key, title, points, TRAINING, tuple(properties), tuple(notes), () if properties else _shown(taken, key))


def _printed(box):
    printed = box.printed.strip()
    return (f"It printed, among other things: {printed[:500]}",) if printed else ()
