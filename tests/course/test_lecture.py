"""course.report.lecture and excerpt: what a class did not understand, counted honestly, with examples that name nobody."""

import pytest
from checks.sections import SECTIONS
from records import EVIL
from submissions import submission
from thirty import lay_out_class, record, write_report

from course.__main__ import main
from course.report import excerpt, lecture
from course.report.lecture import Share, difference, parts
from course.report.record import Property, Record, Section


def a_record(name, *mistakes, unexplained=False, unseen=False, extra=()):
    """A record of one section with these mistakes in its first property."""
    lost = unseen or bool(mistakes)
    first = Property("beta is linear", 0 if lost else 2, 2, mistakes, mistakes)
    second = Property("alpha_bar is the product", 0 if unexplained or unseen or extra else 2, 2, (), extra)
    return Record(name, (Section("scheduler", "2.1 Variance schedule", first.points + second.points, 4, (first, second)),))


def test_intervals_as_in_the_literature():
    assert Share(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, Stat. Med. 17:857, method 3
    assert Share(0, 20).interval == pytest.approx((0, 0.1611), abs=1e-4)
    assert difference(Share(56, 70), Share(48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)  # Newcombe 1998, 17:873, method 10
    assert difference(Share(0, 10), Share(0, 20)) == pytest.approx((-0.1611, 0.2775), abs=1e-4)
    assert Share(0, 0).interval == (0, 1) and Share(0, 0).share == 0


def test_a_class_is_counted():
    class_ = [*(a_record(f"s{i}", "a") for i in range(4)), a_record("both", "a", "b"), a_record("right"), a_record("x", unexplained=True),
              a_record("empty", unseen=True), a_record("far", "b", extra=("b",)), a_record("mixed", "c", unexplained=True)]  # fmt: skip
    asked = []
    (part,) = parts(class_, excerpt=lambda key, names: asked.append((key, list(names))))
    assert [(each.what, each.share, each.alone, each.property) for each in part.diagnoses] == [
        ("a", Share(5, 9), 4, "beta is linear"), ("b", Share(2, 9), 1, "beta is linear"), ("c", Share(1, 9), 0, "beta is linear")]  # fmt: skip
    assert (part.unexplained, part.unseen, part.before_unexplained) == (Share(2, 9), 1, None)
    assert asked == [("scheduler", ["s0", "s1", "s2", "s3"]), ("scheduler", ["far"]), ("scheduler", ["mixed"])], "the clearest first"
    assert all(each.before is None and each.change == "" for each in part.diagnoses)


def test_two_years_differ_or_do_not():
    year = lambda **counts: [a_record(f"{what}{i}", *([] if what == "right" else [what])) for what, n in counts.items() for i in range(n)]
    (part,) = parts(year(a=12, b=3, right=15), year(b=5, c=9, right=16))
    found = {each.what: (each.share.count, each.before.count, each.change) for each in part.diagnoses}
    assert found == {"a": (12, 0, "more"), "b": (3, 5, ""), "c": (0, 9, "fewer")}
    assert [each.what for each in part.diagnoses] == ["a", "b", "c"] and part.before_unexplained == Share(0, 30)
    said = lecture.text([part])
    assert "   12 of 30 (25 to 58 %, before 0 of 30: more)  a" in said.splitlines()
    assert "    3 of 30 (3 to 26 %, before 5 of 30)  b" in said.splitlines()


def test_how_sure_is_what_the_catalogue_tried():
    assert lecture.slips("alpha_bar_t leaves out alpha_t itself: the product goes up to and including t") >= 1
    assert lecture.slips("a mistake that nobody tried") == 0


def test_the_page_escapes_and_says_all():
    page = lecture.page(EVIL, parts([a_record("s", EVIL), a_record("x", unexplained=True), a_record("u", unseen=True)], [a_record("right")],
                                    lambda key, names: ("f", (EVIL,))), 3, (EVIL, 1))  # fmt: skip
    assert "<script" not in page and page.count("&lt;script&gt;") >= 5 and "\x1b" not in page
    words = " ".join(page.split())
    assert "slips tried none; alone in the section in 1 of 1" in words and "could say only what they saw: 1 of 2" in words
    assert "nothing in the section could be judged: 1" in words


# ---- excerpts

PERSONAL = '''
# Ada Lovelace, 1234567
class ConditionalDDPM:
    def scheduler(self, t_s):
        """Written by Ada Lovelace."""
        beta_1, beta_T, T = self.dmconfig.beta_1, self.dmconfig.beta_T, self.dmconfig.T
        ada_beta = linspace(beta_1, beta_T, T)  # Ada's own
        note = """by Ada
        in Berlin"""
        return {"beta_t": ada_beta, "from": f"Lovelace {T}"}
'''


def test_an_excerpt_names_nobody(tmp_path):
    folder = tmp_path / "class"
    submission(folder / "Lovelace Ada_17_assignsubmission_file_", {"DDPM.py": PERSONAL})
    submission(folder / "Feeds", {"DDPM.py": PERSONAL.replace("class Cond", "\f\n\f\nclass Cond")})  # which no line of Python ends at
    submission(folder / "Long", {"DDPM.py": PERSONAL.replace("        return", "        x = 1\n        y = 2\n        return")})
    submission(folder / "Broken", {"DDPM.py": "class ConditionalDDPM:\n  def scheduler(:\n"})
    submission(folder / "Without", {"DDPM.py": "x = 1\n"})
    show = excerpt.Excerpts(folder, tmp_path / "page.html")
    name, lines = show("scheduler", ["Long", "Broken", "Without", "Lovelace Ada_17"])
    assert name == "ConditionalDDPM.scheduler"
    assert lines == (
        "def scheduler(self, t_s):",
        "    …_beta = linspace(beta_1, beta_T, T)",
        '    note = "…"',
        '    return {"beta_t": …_beta, "…": "…"}',
    ), "without the handout's line on beta_1"
    assert show("scheduler", ["Feeds"])[1] == lines
    assert show("scheduler", ["Broken", "Without"]) is None and show("guidance", ["Long"]) is None and show("network", []) is None


def test_a_long_excerpt_is_cut(tmp_path):
    body = "\n".join(f"        y{i} = {'x' * 500}" for i in range(100))
    submission(tmp_path / "class" / "a", {"DDPM.py": f"class ConditionalDDPM:\n    def scheduler(self, t):\n{body}\n"})
    _, lines = excerpt.Excerpts(tmp_path / "class", tmp_path / "p.html")("scheduler", ["a"])
    assert len(lines) == 41 and lines[-1] == "…" and max(map(len, lines)) <= 160


# ---- the command


def test_thirty_submissions_beside_those_of_another_year(tmp_path, capsys):
    made = lay_out_class(tmp_path / "class", wrong=20)
    write_report(tmp_path / "2026", [record(name, row) for name, row in made.items()])
    wrong = next(row for row in made.values() if row.section == "sample")
    more = [(wrong.section, wrong.property, wrong.mistake)]
    write_report(
        tmp_path / "2025", [record(f"old {i}", wrong if i % 2 else next(r for r in made.values() if not r.section)) for i in range(40)]
    )
    main(
        [
            "lecture",
            str(tmp_path / "2026"),
            "--before",
            str(tmp_path / "2025"),
            "--submissions",
            str(tmp_path / "class"),
            "--out",
            str(tmp_path / "p.html"),
        ]
    )
    said, page = capsys.readouterr().out, (tmp_path / "p.html").read_text("utf-8")
    assert f"before 20 of 40: fewer)  {more[0][2]}" in said and "30 submissions, beside 40 of 2025" in page
    slips = {row.mistake for row in made.values() if row.section}
    assert all(mistake in said for mistake in slips) and page.count('<pre class="code"') >= len(slips) - 2
    assert not [name for name in made if name.split()[0] in page.split("<main>")[1]], "no name of the class"
    assert "<script" not in page and "Muster" not in page
    assert [section.title in page for section in SECTIONS.values()] == [True] * len(SECTIONS)


def test_a_report_that_is_none(tmp_path):
    with pytest.raises(SystemExit, match="is no report of a class; make one first"):
        main(["lecture", str(tmp_path), "--out", str(tmp_path / "p.html")])
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "a.json").write_text('{"of": "", "record": {"submission": 3}}')
    with pytest.raises(SystemExit, match="cannot be read .*grade --all again"):
        main(["lecture", str(tmp_path), "--out", str(tmp_path / "p.html")])
    assert not (tmp_path / "p.html").exists()
