"""What a class did not understand: the diagnoses by section, how sure they are, and the same of another year beside it."""

import json
import math
from collections import Counter
from dataclasses import dataclass

from course.handout.handout import ROOT
from course.report.pages import TEMPLATES
from course.report.safe import plain

SLIPS = ROOT / "tests" / "course" / "solutions"
Z = 1.96  # of an interval that holds the true share in 95 of 100 classes


@dataclass(frozen=True)
class Share:
    """count of `of` submissions, as in a class of the same course: low and high bound the share, 0 to 1, by Wilson's interval of 95 %."""

    count: int
    of: int

    @property
    def share(self):
        return self.count / self.of if self.of else 0.0

    @property
    def interval(self):
        if not self.of:
            return 0.0, 1.0
        n, p = self.of, self.share
        middle, half = p + Z**2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        return max(0.0, (middle - half) / (1 + Z**2 / n)), min(1.0, (middle + half) / (1 + Z**2 / n))


def difference(now, before):
    """(low, high): the change of a share, as a difference, with an interval of 95 % (Newcombe 1998, method 10)."""
    (low, high), (low_before, high_before), change = now.interval, before.interval, now.share - before.share
    down = math.hypot(now.share - low, high_before - before.share)
    up = math.hypot(high - now.share, before.share - low_before)
    return change - down, change + up


@dataclass(frozen=True)
class Diagnosis:
    """what: the misconception. share, before: Share of this year's and the other year's submissions, before None without one.

    alone: in how many submissions nothing else was wrong in the section. slips: of how many slips in the catalogue, made by
    other authors, the checks were to say this, and did. excerpt: (name of the function, lines) or None.
    """

    what: str
    property: str
    share: Share
    alone: int
    slips: int
    before: Share | None = None
    excerpt: tuple | None = None

    @property
    def change(self):
        """ "more", "fewer", or "" where the two years may differ by chance."""
        if self.before is None:
            return ""
        low, high = difference(self.share, self.before)
        return "more" if low > 0 else "fewer" if high < 0 else ""


@dataclass(frozen=True)
class Part:
    """A section of the course. unexplained: Share that lost points in it of which the checks could only say what they saw.

    unseen: how many submissions have nothing in it that could be judged, and are not counted.
    """

    key: str
    title: str
    diagnoses: tuple
    unexplained: Share
    unseen: int
    before_unexplained: Share | None = None


def parts(records, before=None, excerpt=lambda key, names: None):
    """The Parts of this year's records. before: another year's records. excerpt(key, names of submissions): (function, lines) or None."""
    records, before = [plain(record) for record in records], [plain(record) for record in before] if before is not None else None
    titles = {section.key: section.title for record in (*records, *(before or ())) for section in record.sections if section.properties}
    return [_part(key, title, records, before, excerpt) for key, title in titles.items()]


def _part(key, title, records, before, excerpt):
    now, earlier = _judged(key, records), _judged(key, before) if before is not None else None
    where, held = _counted(now)
    where_before, held_before = _counted(earlier or {})
    found = []
    for what in sorted(where | where_before, key=lambda what: (-len(held.get(what, ())), -len(held_before.get(what, ())), what)):
        names = held.get(what, [])
        faults = {name: _faults(now[name]) for name in names}
        then = Share(len(held_before.get(what, ())), len(earlier)) if earlier is not None else None
        best = sorted(names, key=lambda name: (faults[name], name))
        alone = [name for name in best if faults[name] == 1]
        example = plain(excerpt(key, alone or best)) if names else None
        found.append(Diagnosis(what, (where_before | where)[what], Share(len(names), len(now)), len(alone), slips(what), then, example))
    then = _unexplained(earlier) if earlier is not None else None
    return Part(key, title, tuple(found), _unexplained(now), len(records) - len(now), then)


def _judged(key, records):
    """{submission: its section} of those in which there is something to judge."""
    sections = {
        record.submission: section for record in records for section in record.sections if section.key == key and section.properties
    }
    seen = lambda section: any(each.points or each.misconceptions for each in section.properties)
    return {name: section for name, section in sections.items() if seen(section)}


def _counted(sections):
    """{misconception: the property that it costs first}, {misconception: the submissions that have it}."""
    where, held = {}, {}
    for name, section in sections.items():
        for each in section.properties:
            for what in each.misconceptions:
                where.setdefault(what, each.name)
                held.setdefault(what, []).extend([] if name in held.get(what, ()) else [name])
    return where, held


def _faults(section):
    """How many different things are wrong in a section."""
    lost = [each for each in section.properties if each.points < each.out_of]
    return len({what for each in lost for what in each.misconceptions}) + sum(not each.misconceptions for each in lost)


def _unexplained(sections):
    unsaid = lambda section: any(each.points < each.out_of and not each.misconceptions for each in section.properties)
    return Share(sum(map(unsaid, sections.values())), len(sections))


def slips(what):
    """How many slips of the catalogue are to be, and are, explained by these words; tests/course/catalogue.py tries them all."""
    return sum(count for mistake, count in _catalogue().items() if mistake in what)


def _catalogue(kept={}):  # noqa: B006  read once
    if not kept:
        files = [json.loads(path.read_text("utf-8")) for path in sorted(SLIPS.glob("*/slips.json"))]
        kept.update(Counter(slip["mistake"] for file in files for slip in file if slip["mistake"]))
    return kept


def page(title, parts, count, before=None):
    """The page for the lecturer. count: submissions of this year. before: (title, submissions) of the other year."""
    before = (plain(before[0]), before[1]) if before else None
    return TEMPLATES.get_template("lecture.html").render(title=plain(title), parts=parts, count=count, before=before)


def text(parts):
    """The same in a few lines for the terminal, without excerpts."""
    lines = []
    for part in parts:
        lines += ["", part.title]
        for each in part.diagnoses:
            low, high = each.share.interval
            then = (
                ""
                if each.before is None
                else f", before {each.before.count} of {each.before.of}{f': {each.change}' if each.change else ''}"
            )
            lines.append(f"  {each.share.count:3} of {each.share.of} ({100 * low:.0f} to {100 * high:.0f} %{then})  {each.what}")
        if part.unexplained.count:
            lines.append(f"  {part.unexplained.count:3} of {part.unexplained.of} lost points without a diagnosis")
        lines += [] if part.diagnoses or part.unexplained.count else ["  nothing"]
    return "\n".join(lines).strip("\n") + "\n"
