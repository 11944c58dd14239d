"""A student's own lines of a function, without what says who wrote them."""

import ast
import io
import re
import tempfile
import textwrap
import tokenize
from pathlib import Path

from checks.sections import SECTIONS

from course.alike.passages import Unreadable, parsed, words
from course.grading.submissions import submissions
from course.handout.handout import ROOT
from course.handout.skeleton import regions
from course.intake import intake
from course.report.safe import plain

MOST_LINES, LONGEST = 40, 160  # lines of an excerpt; characters of a line
SHORTEST_NAME = 3  # letters of a part of a submission's name that is taken out of the code


class Excerpts:
    """Excerpts from the submissions of a folder, each a sub-folder or a zip. Nothing of theirs is run.

    Called with the key of a section and names of submissions it gives the shortest of their functions for that section, as
    (name of the function, lines), or None where none can be read. people: more names to take out.
    """

    def __init__(self, folder, report, people=()):
        self.paths = submissions(Path(folder).absolute(), Path(report).absolute())
        parts = {part for name in (*self.paths, *people) for part in re.findall(r"[^\W\d_]+", name) if len(part) >= SHORTEST_NAME}
        self.files = {section.module: (ROOT / _source(section.module)).read_text("utf-8") for section in SECTIONS.values()}
        self.words = frozenset().union(*map(words, self.files.values()))
        self.given = {line for text in self.files.values() for line in _given(text)}
        ours = {each.casefold() for word in self.words for each in re.findall(r"[^\W\d_]+", word)}
        parts = sorted((part for part in parts if part.casefold() not in ours), key=len, reverse=True)
        self.people = re.compile("|".join(map(re.escape, parts)), re.IGNORECASE) if parts else None
        self.texts = {}

    def __call__(self, key, names):
        section, found = SECTIONS.get(key), []
        for name in names if section else ():
            lines = self._lines(name, section)
            found += [lines] if lines else []
        shortest = min(found, key=lambda lines: (len(lines), sum(map(len, lines))), default=None)
        return (f"{section.cls}.{section.method}", tuple(shortest)) if shortest else None

    def _lines(self, name, section):
        try:
            text = self._read(name).get(section.module, "")
            tree = parsed(text)
            own = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == section.cls]
            method = next(node for cls in own for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == section.method)
            lines = self._anonymous(text, method)
        except (Unreadable, StopIteration, KeyError, tokenize.TokenError, IndentationError):
            return []
        own = [line for i, line in enumerate(lines) if line.strip() and (i == 0 or line.strip() not in self.given)]
        shown = textwrap.dedent("\n".join(line[:LONGEST] for line in own)).splitlines()
        return [] if len(shown) < 2 else shown if len(shown) <= MOST_LINES else [*shown[:MOST_LINES], "…"]

    def _read(self, name):
        """{module: its text} of a submission."""
        if name not in self.texts:
            with tempfile.TemporaryDirectory() as folder:
                code = intake.take(self.paths[name], Path(folder) / "taken").code
                self.texts[name] = {path.stem: path.read_text("utf-8", "replace") for path in code.glob("*.py")}
        return self.texts[name]

    def _anonymous(self, text, method):
        """The method's lines without comments, its docstring, strings that are not the handout's, and names of people."""
        lines = list(io.StringIO(text))  # as tokenize and ast count them; splitlines parts at a form feed, too
        for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
            if token.type == tokenize.COMMENT or token.type == tokenize.STRING and not self._ours(token.string):
                (first, begin), (last, end) = token.start, token.end
                new = "" if token.type == tokenize.COMMENT else '"…"'
                lines[first - 1] = lines[first - 1][:begin] + new + lines[last - 1][end:]
                lines[first:last] = [""] * (last - first)
        own = lines[method.lineno - 1 : method.end_lineno]
        if ast.get_docstring(method, clean=False) is not None:
            at = method.body[0].lineno - method.lineno
            own[at] = ""
        return [plain(self.people.sub("…", line) if self.people else line).rstrip() for line in own]

    def _ours(self, string):
        try:
            return ast.literal_eval(string) in self.words
        except (ValueError, SyntaxError):
            return False


def _source(module):
    return f"explorations/{module}.py" if module == "FM" else f"{module}.py"


def _given(text):
    """The lines of our file that the handout has too."""
    answers = {line for first, last in regions(text, "") for line in range(first, last + 1)}
    return [line.split("  # ")[0].strip() for i, line in enumerate(text.splitlines()) if i not in answers and line.strip()]
