"""course.grading.grading: the points, the notes, the weights, and what crosses to the sandbox."""

import re
import socket
import struct
import threading
from types import SimpleNamespace

import pytest
import torch
from checks.sections import SECTIONS
from checks.verdict import Verdict
from submissions import AUTOMATIC, graded, only, points, said, submission, weights, without_flow
from wrong_solutions import RIGHT, WRONG, unsolved

from course.grading import grading
from course.grading.grading import grade
from course.grading.rubric import BY_HAND, POINTS, TITLES, TOTAL, TRAINING
from course.grading.weights import SHARES
from course.handout.handout import ROOT
from course.sandbox import messages
from course.sandbox.sandbox import SandboxError


def row(section, name):
    return next(each for each in (*WRONG, *RIGHT) if each[:2] == (section, name))[2]


def test_the_points_of_the_rubric():
    assert sum(AUTOMATIC.values()) + TRAINING + sum(BY_HAND.values()) == TOTAL
    assert sum(points for points, _ in SHARES) == TRAINING
    for section in SECTIONS.values():
        assert len({words for _, words in section.properties.values()}) == len(section.properties)


@without_flow
def test_the_readme_gives_the_same_points():
    text = (ROOT / "course" / "README.md").read_text("utf-8")
    table = re.findall(r"^\| (\d\S* [^|]+?) \| ([\d +]+) \|", text, re.M)
    assert {title: sum(map(int, points.split("+"))) for title, points in table} == {
        TITLES[key]: points for key, points in POINTS.items() if not key.startswith("flow")
    }
    checked, by_hand = sum(AUTOMATIC.values()), (BY_HAND["guidance"], BY_HAND["customise"])
    for sentence in (
        f"{checked:g} of the {TOTAL:g} points are automatic, {checked + TRAINING:g} where `best_checkpoint.pth` is handed in",
        f"a programming assignment with {checked + TRAINING:g} autograder points",
        f"the guidance weight ({by_hand[0]} points) and customise ({by_hand[1]})",
        f"give the {TRAINING} points of the training",
    ):
        assert sentence in text


@without_flow
def test_the_reference_earns_all_and_the_same_again(tmp_path):
    folder = submission(tmp_path / "it")
    found, record = graded(folder)
    assert (
        found == AUTOMATIC and record.points == sum(AUTOMATIC.values()) and record.open == TOTAL - record.points and record.seconds < 120
    )  # 60 on a machine that is not busy
    assert not record.notes and not any(section.notes for section in record.sections if section.key in AUTOMATIC)


def test_the_sandbox_is_given_what_is_left_of_the_limit(tmp_path, monkeypatch):
    """A duration: an absolute time once let a submission that sleeps run for as long as the machine was up."""
    given = []

    def sandbox(code, seconds):
        given.append(seconds)
        raise SandboxError("seen")

    monkeypatch.setattr(grading, "Sandbox", sandbox)
    with pytest.raises(SandboxError):
        grade(submission(tmp_path / "it"), seconds=30)
    assert 20 < given[0] <= 30 - grading.END_SECONDS


@pytest.mark.slow
def test_a_wrong_solution_costs_the_same_again(tmp_path, monkeypatch):
    only(monkeypatch, "forward")
    folder = submission(tmp_path / "it", section="forward", edits=row("forward", "hidden by randn"))
    first, second = grade(folder), grade(folder)
    assert points(first) == points(second) and [each.properties for each in first.sections] == [each.properties for each in second.sections]


@pytest.mark.nightly
def test_an_old_mistake_that_looks_like_progress(tmp_path):
    """sqrt_alpha_bar = sqrt(1 - alpha_bar) passed the checks of earlier editions and shows a lower loss."""
    found, record = graded(submission(tmp_path / "it", section="scheduler", edits=row("scheduler", "roots swapped")))
    assert found == {**AUTOMATIC, "scheduler": 2.5}
    lost = [each for section in record.sections for each in section.properties if each.points < each.out_of]
    assert len(lost) == 1 and "sqrt_alpha_bar is sqrt(1 - alpha_bar): the two roots are swapped" in lost[0].misconceptions


@pytest.mark.slow
@pytest.mark.parametrize(
    "section, edits, words",
    [
        ("forward", row("forward", "double inside, mask by masked_fill, literal -1"), {"forward": "a literal -1"}),
        pytest.param(
            "sample", [("torch.full_like(c, mask_value)", "torch.full_like(c, -1)")], {"sample": "a literal -1"}, marks=pytest.mark.nightly
        ),
        pytest.param(
            "sample",
            row("sample", "time as (t - 1) / (T - 1) in both"),
            {"forward": "as (t - 1) / (T - 1)", "sample": "as (t - 1) / (T - 1), as forward does"},
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_what_is_right_but_odd_is_noted_and_costs_nothing(tmp_path, monkeypatch, section, edits, words):
    only(monkeypatch, *words)
    found, record = graded(submission(tmp_path / "it", section=section, edits=edits))
    notes = {each.key: " ".join(each.notes) for each in record.sections if each.key in AUTOMATIC and each.notes}
    assert found == {key: AUTOMATIC[key] for key in words}
    assert notes.keys() == words.keys() and all(words[key] in notes[key] for key in words)


@pytest.mark.slow
def test_what_is_not_written_is_said_in_words(tmp_path):
    found, record = graded(submission(tmp_path / "it", section="sample", edits=unsolved("scheduler", "sample")))
    assert found == {**AUTOMATIC, "scheduler": 0, "sample": 0}
    for section, method in (record.sections[1], "scheduler"), (record.sections[3], "sample"):
        assert section.properties[0].says[0].startswith(f"ConditionalDDPM.{method} in DDPM.py is not written yet.")
        assert all(each.says == ("The same as above.",) for each in section.properties[1:])


@pytest.mark.slow
@pytest.mark.parametrize("trained", [True, False])
def test_weights_are_drawn_from_and_read(tmp_path, monkeypatch, trained):
    only(monkeypatch)
    folder = submission(tmp_path / "it")
    noise = torch.Generator().manual_seed(0)

    def spoil(name, value):
        return torch.randn(value.shape, generator=noise) * value.std(correction=0) if "outblock" in name else value

    weights(folder / "best_checkpoint.pth", *([] if trained else [spoil]))
    section = grade(folder).sections[0]
    assert section.points == (8 if trained else 0), section
    assert "read as what was asked for" in section.notes[0] and (trained or "expected at least 50%" in said(section))


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"no weights", pytest.param(None, marks=pytest.mark.nightly)])
def test_weights_that_cannot_be_judged_are_left_to_a_person(tmp_path, monkeypatch, content):
    only(monkeypatch)
    folder = submission(tmp_path / "it")
    if content is None:
        torch.save({"model_state_dict": {}, "dmconfig": SimpleNamespace(T=4)}, folder / "best_checkpoint.pth")
    else:
        (folder / "best_checkpoint.pth").write_bytes(content)
    record = grade(folder)
    assert points(record) == {} and record.sections[0].points is None
    assert "best_checkpoint.pth cannot be used" in record.sections[0].notes[0]


def test_messages_are_said_once():
    verdict, said = Verdict({"one": (2, "one"), "two": (1, "two"), "three": (1, "three")}, "See 2.1."), set()
    verdict.fault("one", "x is 1, expected 2.", "a root is missing")
    verdict.fault("one", "x is 3, expected 4.", "a root is missing")
    verdict.fault("one", "y is bad.")
    verdict.fault("two", "y is bad.")
    first, second, third = (grading._property(verdict, key, said) for key in verdict.properties)
    assert first.says == ("x is 1, expected 2. This is what you get when a root is missing. See 2.1.", "y is bad. See 2.1.")
    assert first.misconceptions == ("a root is missing",) and first.points == 0
    assert second.says == ("The same as above.",) and third.says == () and third.points == 1


@pytest.mark.slow
def test_an_error_of_the_checks_costs_nobody_anything(tmp_path, monkeypatch):
    def broken(student, verdict):
        raise KeyError("of ours")

    monkeypatch.setattr(SECTIONS["scheduler"].checks, "examine", broken)
    only(monkeypatch, "scheduler", "forward")
    record = grade(submission(tmp_path / "it"))
    section = record.sections[0]
    assert (
        section.points is None
        and record.points == AUTOMATIC["forward"]
        and record.open == record.out_of - record.points
        and "a person marks this section" in section.notes[0]
    )


def through(**fields):
    mine, theirs = messages.pair()
    thread = threading.Thread(target=messages.Link(mine).send, kwargs=fields)
    thread.start()
    found = messages.Link(theirs).receive()
    thread.join()
    return found


def test_plain_values_cross_as_they_are():
    tensors = [torch.randn(3, 4).t(), torch.tensor(7), torch.zeros(0), torch.ones(2, dtype=torch.bool), torch.randn(2).bfloat16()]
    found = through(tensors=tensors, text="é", number=1.5, none=None, more={"a": (1, [2, True])}, grows=torch.ones(1, requires_grad=True))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(tensors, found["tensors"], strict=True))
    assert found["text"] == "é" and found["number"] == 1.5 and found["none"] is None and found["more"] == {"a": (1, [2, True])}
    assert found["grows"].requires_grad and not found["tensors"][0].requires_grad


def test_of_anything_else_only_the_name_of_its_type_crosses():
    found = through(value=SimpleNamespace(secret=1), function=len)
    assert type(found["value"]).__name__ == "SimpleNamespace" and not hasattr(found["value"], "secret")
    assert type(found["function"]).__name__ == "builtin_function_or_method"


@pytest.mark.parametrize(
    "content",
    [
        b"x" * 16,
        struct.pack("<QQ", 2**40, 0),
        struct.pack("<QQ", 2, 2**40),
        struct.pack("<QQ", 4, 0) + b"null",
        struct.pack("<QQ", 3, 8) + b"{}" + b"\x00" * 9,
        struct.pack("<QQ", 26, 0) + b'{"value": {"tensor": "x"}}',
        struct.pack("<QQ", 60_000, 0) + b"[" * 60_000,
        b"short",
    ],
)
def test_what_is_no_frame_is_refused(content):
    mine, theirs = messages.pair()
    mine.sendall(content)
    mine.shutdown(socket.SHUT_WR)
    with pytest.raises(messages.Lost):
        messages.Link(theirs).receive()


@pytest.mark.parametrize("error", [NotImplementedError("x"), IndexError("i"), ValueError("v"), type("Own", (Exception,), {})("own")])
def test_errors_keep_their_type_where_checks_look_at_it(error):
    found = messages.raised(messages.error_fields(error, "DDPM.py, line 3: x"))
    assert type(found).__name__ == type(error).__name__ and str(found) == str(error) and found.where == "DDPM.py, line 3: x"
    assert type(found) is type(error) or isinstance(found, messages.StudentError)
