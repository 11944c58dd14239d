"""course.alike: copies are found however they are disguised, independent solutions are not, and a person is told how often this is wrong."""

import ast
import re
import shutil
import zipfile

import measure_alike
import nbformat
import pytest
from catalogue import SOLUTIONS, Row, attempt, outcome
from disguise import DISGUISES, disguised
from records import EVIL
from thirty import lay_out_class, record, write_report

from course.__main__ import main
from course.alike import alike, compare, measured
from course.alike.compare import THRESHOLD, Class, Work, clusters
from course.alike.passages import Unreadable, passages

KNOWN = frozenset(["beta_t", "alpha_t", "network", "x"])


def seen(text):
    return set(passages(text, KNOWN).size)


SAME = [
    ("noise = a * b + c", "rauschen = c + q * p  # Rauschen"),
    ("y = (a + b) + f(c)", "y = a + (f(d) + b)"),
    ("y = a * b - c", "y = -c + a * b"),
    ("if a[0] < b[1]: pass", "if q[1] > r[0]: pass"),
    ("x += f(y, z)", "x = x + f(u, v)"),
    ("y = torch.sqrt(x + 1)", "y = (z + 1).sqrt()"),
    ("import torch as th\ny = th.cumprod(1 - b, 0)", "y = torch.cumprod(1 - b, 0)"),
    ("y = full(a, size=s, device=d)", "y = full(b, device=e, size=t)"),
    ("y = self.mine(x) * 2", "y = self.other(x) * 2.0"),
    ("def f(q):\n  'Doc.'\n  return q[0] * 3 + q[1]", "def g(r):\n  while r:\n    return r[1] + r[0] * 3"),
    ("raise ValueError('no', x[0], y)", "raise ValueError('nein', x[0], y)"),
]
OTHER = [
    ("y = a * 2 - b[0]", "y = b[0] - a * 2"),
    ("y = at['beta_t'] / z", "y = at['alpha_t'] / z"),
    ("if a[0] < b[0] + 1: pass", "if a[0] > b[0] + 1: pass"),
    ("y = a[0] / b", "y = b / a[0]"),
    ("y = x.sqrt() + f(x)", "y = x.exp() + f(x)"),
    ("y = randint(1, T + 1)", "y = randint(0, T + 1)"),
    ("y = self.network(x, t)", "y = self.other(x, t)"),
    ("y = sum(x, dim=1)", "y = sum(x, keepdim=1)"),
]


@pytest.mark.parametrize("one, other", SAME)
def test_what_is_said_in_other_words_is_the_same(one, other):
    assert seen(one) == seen(other) != set()


@pytest.mark.parametrize("one, other", OTHER)
def test_what_computes_something_else_is_not(one, other):
    assert seen(one) != seen(other)


@pytest.mark.parametrize("text, why", [
    ("x = " + "(" * 300 + ")" * 300, "is no Python"), ("x = " + "-" * 2000 + "1", "nested|parsed"), ("x = f" + ".b" * 50_000, "nested|parsed"),
    ("x = " + "f(" * 150 + ")" * 150 + "+1" * 30_000, "nested|parsed"), ("x = [" + "1," * 200_000 + "]", "400,006 characters"),
    ("def f(:\n", "is no Python: invalid syntax in line 1"), ("x = 1\x00", "is no Python|parsed"), ("x = " + "9" * 5000, "is no Python|parsed"),
])  # fmt: skip
def test_hostile_texts_are_named_and_not_compared(text, why):
    with pytest.raises(Unreadable, match=why):
        passages(text)


# ---- likeness


def works(*shared, count=12):
    """Works of forty passages of their own each, with what they share."""
    made = [{1000 * i + k: 5 for k in range(40)} for i in range(count)]
    for passage, those in enumerate(shared):
        for i in those:
            made[i][-1 - passage] = 5
    return [Work(str(i), each) for i, each in enumerate(made)]


def test_a_rare_passage_counts_more_than_a_frequent_one():
    found = Class(works((0, 1), range(2, 12)))
    zero, one, two, three = found.works[:4]
    assert found.likeness(zero, one) > 2 * found.likeness(two, three) > 0 == found.likeness(zero, two)
    (first, *rest) = found.pairs(0.001)
    assert (first.one, first.other, first.shared[0][2]) == ("0", "1", 0) and {pair.shared[0][2] for pair in rest} == {8}


def test_what_earlier_years_have_is_less_rare():
    alone = Class(works((0, 1)))
    before = Class([*works((0, 1)), *(Work(f"old {i}", {-1: 5, 9_000 + i: 5}, earlier=True) for i in range(20))])
    assert before.likeness(*before.works[:2]) < alone.likeness(*alone.works[:2])
    assert all("old" not in pair.one for pair in before.pairs(0)) and any("old" in pair.other for pair in before.pairs(0))


def test_shared_rare_mistakes_count_most():
    plain = works((0, 1))

    def with_mistake(*those):
        return Class([Work(w.name, w.passages, frozenset(["no root"] if int(w.name) in those else [])) for w in plain])

    none, rare, frequent = (with_mistake(*those) for those in ((), (0, 1), range(12)))
    by = [each.likeness(*each.works[:2]) for each in (none, frequent, rare)]
    assert by[0] < by[1] < by[2] and by[2] - by[0] > 3 * (by[1] - by[0]) and by[2] < 1
    assert rare.pairs(0, 1)[0].mistakes[0][0] == "no root" and rare.pairs(0, 1)[0].mistakes[0][2] == 0
    assert none.pairs(0, 1)[0].mistakes == ()


def test_a_copy_is_a_copy_in_a_class_of_copies_and_a_small_work_is_not_like_all():
    ring = Class(Work(str(i), {k: 5 for k in range(100)}) for i in range(10))
    assert len(ring.pairs()) == 45 and ring.pairs()[0].likeness == pytest.approx(1)
    small = Class([Work("a", {1: 5}), Work("b", {1: 5, **{k: 5 for k in range(9, 99)}})])
    assert small.likeness(*small.works) < 0.1


def test_groups():
    pair = lambda a, b: compare.Pair(a, b, 1, ("", 0))
    assert clusters([pair("a", "b"), pair("c", "d"), pair("e", "d"), pair("b", "f"), pair("f", "e")]) == [["a", "b", "c", "d", "e", "f"]]
    assert clusters([pair("x", "y"), pair("b", "a"), pair("a", "c")]) == [["a", "b", "c"], ["x", "y"]]


# ---- a class of thirty


def copy(source, target, *how):
    target.mkdir(parents=True)
    for path in source.rglob("*.py"):
        (target / path.name).write_text(disguised(path.read_text("utf-8"), *how), "utf-8")


@pytest.fixture(scope="module")
def thirty(tmp_path_factory):
    top = tmp_path_factory.mktemp("thirty")
    made = lay_out_class(top / "class", count=26)
    names = list(made)
    copy(top / "class" / names[0], top / "class" / "Copy One")
    copy(top / "class" / names[0], top / "class" / "Copy Two", "renamed", "turned")
    with zipfile.ZipFile(top / "class" / "Zipped <b>.zip", "w") as archive:
        for name in ("DDPM.py", "ResUNet.py"):
            text = disguised((SOLUTIONS / "e" / "r12" / name).read_text("utf-8"), "renamed")
            archive.writestr(
                name,
                f"import pathlib  # {EVIL[:30]}\npathlib.Path({str(top / 'ran')!r}).write_text('x')\n{text.rstrip()}  # </pre><script>\n",
            )
    copy(SOLUTIONS / "e" / "r12", top / "2025" / "Old Hand", "commuted")
    broken = top / "class" / "Broken"
    broken.mkdir()
    (broken / "DDPM.py").write_text("def f(:\n")
    (broken / "ResUNet.py").write_text("x = " + "-" * 3000 + "1\n")
    handout = top / "handout"
    handout.mkdir()
    for file in measure_alike.FILES:
        (handout / file).write_text(measure_alike._without_answers((SOLUTIONS / "a" / "r01" / file).read_text("utf-8")), "utf-8")
    report = write_report(top / "report", [record(name, row) for name, row in made.items()])
    return top, names, report


def test_a_class_with_copies(thirty, capsys):
    top, names, report = thirty
    main(
        [
            "alike",
            str(top / "class"),
            "--earlier",
            str(top / "2025"),
            "--handout",
            str(top / "handout"),
            "--report",
            str(report),
            "--out",
            str(top / "page.html"),
        ]
    )
    said, page = capsys.readouterr().out, (top / "page.html").read_text("utf-8")
    assert not (top / "ran").exists(), "no code is run"
    expected = {
        frozenset(pair)
        for pair in [(names[0], "Copy One"), (names[0], "Copy Two"), ("Copy One", "Copy Two"), ("Zipped &lt;b&gt;", "2025/Old Hand")]
    }
    table = re.findall(r'<a href="#pair\d+">(.*?) and (.*?)</a>(.*)</th>', page)
    above = {frozenset(pair[:2]) for pair in table if "below" not in pair[2]}
    also = above - expected
    assert expected <= above and all("Old Hand" in str(pair) or "Zipped" in str(pair) for pair in also), "e/r12 may be in the class itself"
    assert f"{len(above)} pairs to look at" in said
    assert "Broken: DDPM.py is no Python" in said and re.search("Broken: ResUNet.py (is nested|cannot be parsed)", said)
    assert "Copy One: has no record in the report" in said
    assert "<script" not in page and "&lt;/pre&gt;&lt;script&gt;" in page and "default-src 'none'" in page
    assert f"<li>{', '.join(sorted(['Copy One', 'Copy Two', names[0]]))}</li>" in page
    words = " ".join(page.split())
    assert "This is a hint for a person, not a finding." in words
    assert f"of {measured.BETWEEN[1]:,} pairs by different authors {measured.BETWEEN[0]} " in words
    assert all(f"{how} {found}" in words for how, (found, copies) in measured.COPIES.items())


def test_the_notebook_as_a_script_is_nobodys_own(tmp_path):
    """Two who hand it in beside modules of different hands are not more alike by it."""
    from nbconvert import PythonExporter

    for name, source in (("ada", SOLUTIONS / "a" / "r01"), ("bob", SOLUTIONS / "b" / "r02")):
        shutil.copytree(source, tmp_path / "class" / name)
        (tmp_path / "class" / name / "ConditionalDDPM.py").write_text(
            PythonExporter().from_filename(alike.ROOT / "ConditionalDDPM.ipynb")[0]
        )
    (tmp_path / "class" / "eve.7z").write_bytes(b"7z")
    handout = tmp_path / "handout"
    handout.mkdir()
    cells = [nbformat.v4.new_code_cell(source) for source in ("files = !ls", "%%bash\nls", "torch?", "x = 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), handout / "other.ipynb")
    (handout / "DDPM.py").write_text("x = 1")
    assert alike.script(handout / "other.ipynb") == "x = 1", "what is no Python is left out"
    pairs, notes = alike.compare(tmp_path / "class", tmp_path / "page.html", handout=[handout])
    assert not pairs and notes == ["eve.7z: is no submission of its own."]


def test_what_cannot_be_done_is_said_before_any_work(thirty, capsys):
    top, _, _ = thirty
    for wrong, why in [
        (["--earlier", str(top / "class")], "names a folder twice"),
        (["--report", str(top / "2025")], "is no report of a class"),
        (["--handout", str(top / "class")], "holds no Python files"),
        (["--earlier", str(top / "nowhere")], "is no folder"),
    ]:
        with pytest.raises(SystemExit, match=why):
            main(["alike", str(top / "class"), "--out", str(top / "not.html"), *wrong])
    with pytest.raises(SystemExit, match="cannot be written"):
        main(["alike", str(top / "class"), "--out", str(top / "no" / "page.html")])
    with pytest.raises(SystemExit, match="would lie among the submissions"):
        main(["alike", str(top / "class"), "--out", str(top / "class" / "page.html")])
    assert not (top / "not.html").exists()


def test_each_disguise_changes_a_text_and_a_copy_in_it_is_found():
    text = (SOLUTIONS / "e" / "r12" / "DDPM.py").read_text("utf-8")
    plain = ast.unparse(ast.parse(text))
    changed = {
        name
        for name in DISGUISES
        if any(
            disguised(t := (SOLUTIONS / each / "DDPM.py").read_text("utf-8"), name).strip() != ast.unparse(ast.parse(t))
            for each in ("e/r12", "a/r01", "b/r02")
        )
    }
    assert changed == set(DISGUISES) and plain != text
    assert measure_alike.copied(names=["e/r12", "a/r01", "b/r04"])[:2] == (3, 3)


def test_the_limit_lies_above_independent_solutions():
    (alarms, most) = measure_alike.independent()
    assert (alarms[False], alarms[True]) == (measured.BETWEEN, measured.WITHIN) and max(most.values()) < THRESHOLD


@pytest.mark.slow
def test_a_disguised_copy_computes_the_same(tmp_path):
    from multiprocessing import get_context

    for name in ("e/r12", "a/r01"):
        copy(SOLUTIONS / name, tmp_path / name)
        row = Row(name, tmp_path / name)
        with get_context("spawn").Pool(1) as pool:
            assert outcome(row, pool.apply(attempt, (row,))) == ("", "", []), name


@pytest.mark.nightly
def test_the_figures_are_those_that_the_command_prints():
    assert measure_alike.classes() == measured.CLASS_ALARMS and measure_alike.CLASSES == measured.CLASSES
    for how, figures in measured.COPIES.items():
        assert measure_alike.copied(*measure_alike.HOW[how])[:2] == figures, how
    assert (measure_alike.parts(), measure_alike.slips()) == (measured.PARTS, measured.SLIPS)


def test_the_page_says_nothing_of_a_class_without_pairs():
    page = alike.page("x", {}, [], [], ["a: <b>"])
    assert "0 submissions" in page and "a: &lt;b&gt;" in page and "The most alike" not in page
