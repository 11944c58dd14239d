"""Submissions for the grader's tests: the course's own solution, with edits of the catalogue or other files in place of its own."""

import pytest
from checks import FLOW
from checks.sections import SECTIONS
from wrong_solutions import METHODS, NET, PROCESS, edited_source

from course.grading import grading
from course.grading.rubric import BY_HAND, TRAINING
from lab.training import checkpoint, pretrained

without_flow = pytest.mark.skipif(FLOW, reason="describes the course without section 3")
AUTOMATIC = {key: section.points for key, section in SECTIONS.items()}


def submission(folder, files=(), section=None, edits=()):
    """A folder with both modules, one of them edited, and other files {name: text or bytes; None: leave it out}."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"ResUNet.py": NET, "DDPM.py": PROCESS}
    if section:
        texts[f"{METHODS[section][0]}.py"] = edited_source(section, edits)
    for name, text in {**texts, **dict(files)}.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def only(monkeypatch, *keys):
    """From here on the grader looks at these sections alone, which takes a part of the time."""
    monkeypatch.setattr(grading, "SECTIONS", {key: SECTIONS[key] for key in keys})


def points(record):
    """{section: points} of the automatic sections, and that the record is whole."""
    assert [each.key for each in record.sections] == [*grading.SECTIONS, "training", *BY_HAND]
    assert record.out_of == TRAINING + sum(BY_HAND.values()) + sum(AUTOMATIC[key] for key in grading.SECTIONS) and record.confinement
    found = {each.key: each.points for each in record.sections if each.key in AUTOMATIC}
    assert all(isinstance(value, int | float) for value in found.values())
    return found


def said(section):
    """All that a section says about lost points."""
    return " ".join(words for each in section.properties for words in each.says)


def graded(folder, **how):
    record = grading.grade(folder, **how)
    return points(record), record


def weights(path, change=lambda name, value: value * 1.02 if name.startswith("network.outblock") else value):
    """A checkpoint of the weights that ship with the course, changed: as they are nobody has trained them."""
    state = pretrained.load(pretrained.DIGITS)
    state["model_state_dict"] = {name: change(name, value) for name, value in state["model_state_dict"].items()}
    checkpoint.save(path, {"epoch": 10, "optimizer_state_dict": {}, **{key: state[key] for key in ("model_state_dict", "dmconfig")}})
