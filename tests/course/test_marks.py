"""course.marking.marks: what markers give, how their files become one without a loss, and what is refused."""

import copy
import functools
import itertools
import json

import pytest
from a_class import a_submission, version

from course.marking import marks as marks_file
from course.marking.marks import MarksError, differ, differences, given, heads, load, merged, new, points, shown_digest

RECORD = a_submission("Ada Kowalska", 1, answer="ω = 2")
GUIDANCE = next(section for section in RECORD.sections if section.key == "guidance")
SHOWN = shown_digest(GUIDANCE)


def answer(revision, *items, after=(), **more):
    return version(revision, after, **{"items": list(items), "shown": SHOWN, **more})


def marks(*versions, **items):
    """Marks of one answer to 2.5, with a rubric of items a, b, … and their points."""
    rubric = {item: [version("start", text=item, points=value)] for item, value in ({"a": 3, "b": 1.5, "c": -1} | items).items()}
    return {**new(), "rubric": {"guidance": rubric}, "answers": {"Ada Kowalska": {"guidance": list(versions)}}}


def points_of(made):
    return points({"Ada": given(RECORD, made)}).get("Ada", {}).get("guidance")


def test_points_are_the_sum_of_the_items_within_those_of_the_section():
    assert points_of(marks(answer("1", "a"))) == 3 and points_of(marks(answer("1", "b", "c"))) == 0.5
    assert points_of(marks(answer("1", "a", "b"))) == 4, "the section has four"
    assert points_of(marks(answer("1", "d", "e"), d=0.1, e=0.2)) == 0.3
    assert points_of(marks(answer("1", "c"))) == 0 and points_of(marks(answer("1"))) is None
    assert given(RECORD, marks(answer("1", "a", comment="good", by="CD")))["guidance"] == marks_file.Given(3, (("a", 3),), "good", "CD")


def test_an_item_that_changes_changes_all_that_have_it():
    made = marks(answer("1", "a"))
    made["rubric"]["guidance"]["a"] = [version("2", ["start"], text="a", points=2.5)]
    assert points_of(made) == 2.5


def test_an_answer_that_changed_since_it_was_marked_is_open():
    made = marks(answer("1", "a", shown="another"))
    assert points_of(made) is None and "has changed since it was marked" in given(RECORD, made)["guidance"].why


def test_marks_of_a_section_that_the_checks_judge_count_nothing():
    trained = next(record for number in range(9) if (record := a_submission("Ada Kowalska", number)).open == 10)
    made = marks(answer("1", "a"))
    made["answers"]["Ada Kowalska"] = {"training": [answer("1")], "network": [answer("1")]}
    assert given(trained, made) == {}


def test_a_version_replaces_those_that_it_knew():
    old, newer = answer("1", "a"), answer("2", "b", after=["1"])
    assert heads([newer, old]) == heads([old, newer]) == heads([old, newer, newer]) == [newer]
    other = answer("3", "c", after=["1"], by="CD")
    assert heads([old, newer, other]) == [newer, other], "neither knew of the other"
    decided = answer("4", "c", after=["1", "2", "3"])
    assert heads([newer, other, decided]) == [decided]


def test_two_that_say_the_same_are_one():
    one, other = answer("1", "a", "b"), answer("2", "b", "a", by="CD", at="2026-02-02T10:00:00")
    made = merged(marks(one), marks(other))
    assert points_of(made) == 4 and given(RECORD, made)["guidance"].by == "AB, CD" and not differences(made, {})
    assert not differ([version("s", text="a", points=4), version("t", text="a", points=4.0)])


def test_one_of_two_who_said_the_same_may_change_her_mind_in_any_order():
    """The other's mark stands beside it then, whoever's file came first."""
    one, other, changed = answer("1", "a"), answer("2", "a", by="CD"), answer("3", "b", after=["1"])
    outcomes = [functools.reduce(merged, map(marks, order), new()) for order in itertools.permutations([one, other, changed])]
    assert all(points_of(made) is None and len(differences(made, {})) == 1 for made in outcomes)
    assert len({json.dumps([made["rubric"], made["answers"]]) for made in outcomes}) == 1


def test_markers_who_differ_are_both_kept_and_named_and_the_points_are_open():
    made = merged(marks(answer("1", "a")), marks(answer("2", "b", by="CD", comment="short")))
    assert [each["by"] for each in made["answers"]["Ada Kowalska"]["guidance"]] == ["AB", "CD"] and points_of(made) is None
    assert differences(made, {"guidance": "2.5"}) == ["Ada Kowalska, 2.5: AB: 3 for 'a' / CD: 1.5 for 'b' + a comment"]
    made = marks(answer("1", "a"))
    made["rubric"]["guidance"]["a"] = [version("2", ["start"], text="a", points=2), version("3", ["start"], by="CD", text="a", points=1)]
    assert points_of(made) is None and differences(made, {}) == ["guidance, rubric: AB: 2 for 'a' / CD: 1 for 'a'"]


def test_files_are_merged_in_any_order_and_any_number_of_times_without_a_loss():
    first = marks(answer("1", "a"))
    second = marks(answer("2", "b", after=["1"]), d=2)
    third = marks(answer("3", "c", by="CD"), e=0.5)
    third["answers"]["Bilal Moreau"] = {"guidance": [answer("9", "e")]}
    outcomes = []
    for order in itertools.permutations([first, second, third, first]):
        made = new()
        for each in order:
            before = copy.deepcopy(made)
            made = merged(made, each)
            assert set(before["answers"]) <= set(made["answers"])
        outcomes.append(json.dumps({table: made[table] for table in ("rubric", "answers")}, sort_keys=True))
    assert len(set(outcomes)) == 1
    assert [each["revision"] for each in made["answers"]["Ada Kowalska"]["guidance"]] == ["2", "3"]
    assert set(made["rubric"]["guidance"]) == set("abcde") and "Bilal Moreau" in made["answers"]


def damaged(change):
    made = marks(answer("1", "a"))
    change(made, made["rubric"]["guidance"], made["answers"]["Ada Kowalska"]["guidance"])
    return made


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda made, rubric, answers: made.pop("rubric"), "it holds answers, points, report; marks hold"),
        (lambda made, rubric, answers: made.update(points={"a": {"b": True}}), "'b' is bool"),
        (lambda made, rubric, answers: made.update(points={"a": {"b": 1e9}}), "allowed are -100 to 100"),
        (lambda made, rubric, answers: made.update(answers=[]), "answers is list"),
        (lambda made, rubric, answers: answers.clear(), "is empty"),
        (lambda made, rubric, answers: answers[0].update(items=["z"]), "has z in 'guidance', which the rubric there lacks"),
        (lambda made, rubric, answers: answers[0].update(items=[3]), "an entry of a list .* is int"),
        (lambda made, rubric, answers: answers[0].update(points=3), "holds after, at, by, comment, items, points"),
        (lambda made, rubric, answers: answers[0].update(comment="x" * 5001), "has 5,001 characters; allowed are 5,000"),
        (lambda made, rubric, answers: rubric["a"][0].update(points="3"), "points in rubric of 'guidance', 'a' is str"),
        (lambda made, rubric, answers: rubric["a"][0].pop("removed"), "allowed are after, at, by, points, removed, revision, text"),
        (lambda made, rubric, answers: rubric["a"][0].update(points=float("nan")), "NaN is no number"),
    ],
)
def test_what_is_not_built_as_marks_is_refused(tmp_path, change, words):
    path = tmp_path / "marks-AB.json"
    path.write_text(json.dumps(damaged(change)))
    with pytest.raises(MarksError, match=f"marks-AB.json cannot be taken: .*{words}.*; name a file"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"report": Infinity}'])
def test_a_file_that_holds_no_marks_is_refused(tmp_path, content):
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(MarksError, match="m.json cannot be taken"):
        load(tmp_path / "m.json")


def test_a_file_is_read_as_it_was_written_without_what_steers_a_terminal(tmp_path):
    made = marks(answer("1", "a", comment="fine\x1b[31m ω\n<b>"))
    (tmp_path / "m.json").write_text(json.dumps(made))
    read = load(tmp_path / "m.json")
    assert read["answers"]["Ada Kowalska"]["guidance"][0]["comment"] == "fine ω\n<b>" and read["rubric"] == made["rubric"]
    with pytest.raises(MarksError, match="missing.json cannot be taken"):
        load(tmp_path / "missing.json")
