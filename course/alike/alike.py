"""A class looked through for submissions that are too much alike: read, compared, and laid out on a page for a person."""

import ast
import contextlib
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from course.alike import measured
from course.alike.compare import METHOD_THRESHOLD, THRESHOLD, Class, Work, clusters
from course.alike.passages import MOST_CHARACTERS, Unreadable, passages, words
from course.grading.classroom import records
from course.grading.submissions import left_out, submissions
from course.handout.handout import FLOW_NOTEBOOK, NOTEBOOK, ROOT
from course.intake import intake
from course.report.pages import TEMPLATES
from course.report.safe import plain

# The handout's files with code, with our solution, and the textbook's forms.
GIVEN = ("DDPM.py", "ResUNet.py", "config.py", "utils.py", "explorations/FM.py", "explorations/flows.py", "course/alike/textbook.txt")
NOTEBOOKS = (NOTEBOOK, f"explorations/{FLOW_NOTEBOOK}")  # which some hand in as a script, too
MOST_PAIRS, LEAST_PAIRS = 40, 5  # laid out side by side; so many even if none reaches a limit
MOST_NUMBERS = 15  # passages of a pair that get a number, by which they are found on both sides
MOST_LINES = 500  # of a submission beside another
FEW = 0.1  # of the class: what no more of the others have is rare


@dataclass
class Read:
    """A submission that was read. files: {file: its text}. where: {passage: [(file, first line, last line)]}."""

    work: Work
    files: dict = field(default_factory=dict)
    where: dict = field(default_factory=dict)


class Given:
    """What everybody has: the handout, our solution and the textbook's forms. folders: of handouts of other editions."""

    def __init__(self, *folders):
        texts = [(ROOT / name).read_text("utf-8") for name in GIVEN] + [script(ROOT / name) for name in NOTEBOOKS]
        for folder in folders:
            found = sorted(Path(folder).glob("*.py"))
            if not found:
                raise ValueError(f"--handout {folder} holds no Python files; name the folder that students received")
            texts += [path.read_text("utf-8") for path in found] + [script(path) for path in sorted(Path(folder).glob("*.ipynb"))]
        self.words = frozenset().union(*map(words, texts))
        self.passages = {each for text in texts for each in passages(text, self.words).size}


def script(path):
    """The code of a notebook file, as Jupyter's export makes a script of it, without cells that are no Python."""
    cells = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code" or cell.source.startswith("%%"):
            continue
        source = re.sub(r"(?m)^([ \t]*)!.*$", r"\1get_ipython().system('')", cell.source)
        source = re.sub(r"(?m)^([ \t]*)%.*$", r"\1get_ipython().run_line_magic('', '')", source)
        with contextlib.suppress(SyntaxError, ValueError):
            ast.parse(source)
            cells.append(source)
    return "\n".join(cells)


def compare(folder, out, earlier=(), report=None, handout=()):
    """Write the page `out` on the submissions of a folder, each a sub-folder or a zip. No code of theirs is run.

    earlier: folders of other years, with which this year's are compared. report: of grade --all, for the mistakes. handout: folders
    with what students of those years received. Returns (the pairs that are to be looked at, notes on what could not be compared). Raises
    ValueError before any work, and course.grading.classroom.ClassError.
    """
    given, out = Given(*handout), Path(out).absolute()
    if len({Path(each).resolve() for each in (folder, *earlier)}) <= len(earlier):
        raise ValueError("--earlier names a folder twice, or FOLDER itself; give each year once")
    mistakes = _mistakes(report) if report else {}
    years = [(Path(each).absolute(), each != folder) for each in (folder, *earlier)]
    classes = [(year, old, submissions(year, out)) for year, old in years]
    there = [(path, name, f"{year.name}/{name}" if old else name, old) for year, old, names in classes for name, path in names.items()]
    read, notes = {}, [f"{plain(name)}: is no submission of its own." for year, _, names in classes for name in left_out(year, names)]
    for path, name, called, old in there:
        called = called if called not in read else f"{path.parent.parent.name}/{called}"
        one, said = read_one(path, called, given, frozenset() if old else mistakes.get(name, frozenset()), old)
        notes += [f"{called}: {words}" for words in said]
        if one.work.passages:
            read[called] = one
        elif one.files:
            notes.append(f"{called}: holds nothing but the handout and the textbook's forms; there is nothing to compare.")
    if report:
        notes += [
            f"{name}: has no record in the report; its mistakes are not known."
            for _, name, _, old in there
            if not old and name not in mistakes
        ]
    found = Class(one.work for one in read.values())
    pairs = found.pairs(0, MOST_PAIRS)
    alike = found.pairs()
    from lab.training.checkpoint import write_text  # here, as torch takes seconds

    write_text(out, page(Path(folder).absolute().name, read, pairs, alike, notes))
    return alike, notes


def _mistakes(report):
    """{submission: its misconceptions}."""
    return {
        record.submission: frozenset(each for section in record.sections for own in section.properties for each in own.misconceptions)
        for record in records(report)
    }


def read_one(path, name, given, mistakes=frozenset(), earlier=False):
    """(a submission as Read, notes on its files that cannot be compared). path: a folder or a zip."""
    one, notes, left = Read(Work(name, {}, mistakes, earlier)), [], MOST_CHARACTERS
    with tempfile.TemporaryDirectory() as folder:
        taken = intake.take(path, Path(folder) / "taken")
        notes += [plain(note) for note in taken.notes if "is missing" in note or "left out" in note]
        for file in sorted(taken.code.rglob("*.py")):
            inside, text = plain(file.relative_to(taken.code).as_posix()), file.read_text("utf-8", "replace")
            try:
                if len(text) > left:
                    raise Unreadable(f"is left out: of a submission {MOST_CHARACTERS:,} characters are compared")
                left -= len(text)
                found = passages(text, given.words)
            except Unreadable as why:
                notes.append(f"{inside} {plain(str(why))}.")
                continue
            one.files[inside] = text
            one.work.methods.update({name: own - given.passages for name, own in found.methods.items()})
            for each, places in found.where.items():
                if each not in given.passages:
                    one.work.passages[each] = found.size[each]
                    one.where.setdefault(each, []).extend((inside, *lines) for lines in places)
    return one, notes


# ---- the page


def page(title, read, pairs, alike, notes):
    """The page: groups, a table of the pairs, and the most alike side by side. It holds no scripts and escapes what students wrote."""
    shown = pairs[: max(LEAST_PAIRS, min(len(alike), MOST_PAIRS))]
    return TEMPLATES.get_template("alike.html").render(
        title=plain(title),
        count=sum(not one.work.earlier for one in read.values()),
        earlier=sum(one.work.earlier for one in read.values()),
        alike=len(alike),
        threshold=THRESHOLD,
        method_threshold=METHOD_THRESHOLD,
        groups=[group for group in clusters(alike) if len(group) > 2],
        pairs=[_side_by_side(pair, read) for pair in shown],
        notes=plain(tuple(notes)),
        measured=measured,
    )


def _side_by_side(pair, read):
    one, other = read[pair.one], read[pair.other]
    few = max(1, FEW * len(read))
    numbers = _numbered(pair, one, other)
    having = {each: others for each, _, others in pair.shared}
    alone = sum(others == 0 for others in having.values())
    return {
        "names": (plain(pair.one), plain(pair.other)),
        "likeness": pair.likeness,
        "method": pair.method,
        "below": pair.standing < 1,
        "shared": len(having),
        "alone": alone,
        "rare": sum(0 < others <= few for others in having.values()),
        "mistakes": [(plain(what), others) for what, _, others in pair.mistakes],
        "earlier": one.work.earlier or other.work.earlier,
        "sides": [(plain(side.work.name), _lines(side, having, numbers, few)) for side in (one, other)],
    }


def _numbered(pair, one, other):
    """{passage: number} of the rarest and longest that two share, none inside another."""
    numbers, taken = {}, []
    for each, _, _ in sorted(pair.shared, key=lambda row: (row[2], -one.work.passages[row[0]])):
        here, there = one.where[each][0], other.where[each][0]
        if len(numbers) < MOST_NUMBERS and not any(_within(here, a) or _within(there, b) for a, b in taken):
            numbers[each] = len(numbers) + 1
            taken.append((here, there))
    return numbers


def _within(place, another):
    return place[0] == another[0] and another[1] <= place[1] and place[2] <= another[2]


def _lines(side, having, numbers, few):
    """[(file, [(line number or "", "alone" | "rare" | "shared" | "", numbers, text)])]: a student's own lines, a gap as "…"."""
    marks, labels = {}, {}
    for each, others in having.items():
        for file, first, last in side.where[each]:
            level = 3 if others == 0 else 2 if others <= few else 1
            for line in range(first, last + 1):
                marks[file, line] = max(level, marks.get((file, line), 0))
        if each in numbers:
            labels.setdefault(side.where[each][0][:2], []).append(numbers[each])
    files, left = [], MOST_LINES
    for file, text in side.files.items():
        rows, own = [], {line for named, line in marks if named == file}
        around = {line + k for line in own for k in (-1, 0, 1)}
        for number, line in enumerate(text.split("\n"), 1):
            if number in around and left > 0:
                rows.append(
                    (
                        number,
                        ("", "shared", "rare", "alone")[marks.get((file, number), 0)],
                        labels.get((file, number), []),
                        plain(line)[:300],
                    )
                )
                left -= 1
            elif rows and rows[-1][0]:
                rows.append(("", "", [], "…"))
        files += [(file, rows)] if rows else []
    return files
