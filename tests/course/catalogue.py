"""Solutions by other hands put through the checks, right ones and ones with a single slip: python tests/course/catalogue.py [WORD ...]

A WORD picks the rows that have it in their name. solutions/HAND/NAME is a right solution, written by somebody who knew nothing but
the handout; solutions/HAND/slips.json lists slips: {"name", "base": the solution it is made in, "edits": [{"file", "old", "new"}],
"section" and "property": what it may cost, "words": what a teacher would say, "mistake": a piece of the diagnosis that is right, "" where
none can be given}.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT, SOLUTIONS = HERE.parents[1], HERE / "solutions"


@dataclass(frozen=True)
class Row:
    """A solution and the slip in it, if there is one."""

    name: str
    folder: Path
    edits: tuple = ()
    section: str = ""
    property: str = ""
    words: str = ""
    mistake: str = ""


def rows(top=SOLUTIONS):
    """All rows, the right solutions first."""
    hands = sorted(path for path in Path(top).iterdir() if path.is_dir())
    right = [Row(f"{hand.name}/{path.name}", path) for hand in hands for path in sorted(hand.iterdir()) if path.is_dir()]
    slips = []
    for hand in hands:
        if (hand / "slips.json").is_file():
            for slip in json.loads((hand / "slips.json").read_text("utf-8")):
                slip["edits"] = tuple(slip["edits"])
                base = hand / slip.pop("base")
                slips.append(Row(**{**slip, "name": f"{hand.name}/{slip['name']}", "folder": base}))
    return right + slips


def lay_out(row, into):
    """The row's files in the folder `into`."""
    shutil.copytree(row.folder, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in row.edits:
        path = Path(into) / edit["file"]
        text = path.read_text("utf-8")
        assert text.count(edit["old"]) == 1, f"{row.name}: {edit['old']!r} stands {text.count(edit['old'])} times in {path.name}"
        path.write_text(text.replace(edit["old"], edit["new"]), "utf-8")


def examine(row):
    """{section: (points of each property, [(property, what was seen, mistake)], notes)}; for a process of its own."""
    import torch
    from checks.sections import SECTIONS
    from checks.student import Student

    from course.sandbox import earlier

    torch.set_num_threads(1)
    earlier.install()
    found, silent = {}, open(os.devnull, "w")
    with tempfile.TemporaryDirectory() as code, contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        lay_out(row, code)
        sys.path.insert(0, code)
        for path in Path(code).rglob("*.py"):  # the course's own, which pytest may have imported before
            sys.modules.pop(path.stem, None)
        for key, section in SECTIONS.items():
            if row.section and section.module != SECTIONS[row.section].module:
                continue
            verdict = section.examine(Student(getattr(importlib.import_module(section.module), section.cls)))
            faults = [(name, fault.says, fault.mistake) for name, several in verdict.faults.items() for fault in several]
            found[key] = ({name: verdict.points(name) for name in section.properties}, faults, verdict.notes)
    return found


def attempt(row):
    try:
        return examine(row)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def outcome(row, found):
    """(what is wrong with the marks or "", the diagnosis: "right", "none", "wrong" or "" for a right solution, the faults in words)."""
    if isinstance(found, str):
        return found, "none", ()
    faults = [(f"{key}/{name}", says, mistake) for key, (_, several, _) in found.items() for name, says, mistake in several]
    own = f"{row.section}/{row.property}" if row.section else ""
    cost = {name for name, *_ in faults}
    wrong = f"lost {', '.join(sorted(cost)) or 'nothing'}" if cost != ({own} if own else set()) else ""
    named = [mistake for _, _, mistake in faults if mistake]
    diagnosis = ""
    if own:
        fits = [bool(row.mistake) and row.mistake in mistake for mistake in named]
        diagnosis = "none" if not named else "right" if all(fits) else "wrong"
    return wrong, diagnosis, faults


def table(chosen, out=print):
    """Print a table of the rows and what was mistaken for what. Returns the rows that were not judged as they should be."""
    import checks.sections  # before the fork, so that torch is there once  # noqa: F401

    bad, diagnoses = [], Counter()
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for row, found in zip(chosen, pool.imap(attempt, chosen, chunksize=1)):
            wrong, diagnosis, faults = outcome(row, found)
            diagnoses[diagnosis] += 1
            good = not wrong and (diagnosis in ("", "right") or diagnosis == "none" and not row.mistake)
            bad += [] if good else [(row, wrong, diagnosis, faults)]
            kind = f"{row.section}/{row.property}" if row.section else "right"
            named = "; ".join(dict.fromkeys(mistake or f"[{says[:110]}]" for _, says, mistake in faults))
            out(f"{' ' if good else '!'} {kind:20} {row.name:40} {diagnosis:6} {wrong} {named}", flush=True)
    right = [row for row in chosen if not row.section]
    slips = [row for row in chosen if row.section]
    lost = Counter(bool(row.section) for row, wrong, *_ in bad if wrong)
    out(f"\n{len(right) - lost[False]} of {len(right)} right solutions keep every point.")
    out(f"{len(slips) - lost[True]} of {len(slips)} slips cost their own property and no other; the diagnosis is right for {diagnoses['right']}, "
        f"{diagnoses['none']} are told what was seen, {diagnoses['wrong']} are told something else.")  # fmt: skip
    for row, wrong, diagnosis, faults in bad:
        out(f"\n{row.name}: expected {row.section or 'full points'}/{row.property} {row.mistake!r}; {wrong} {diagnosis}")
        for name, says, mistake in faults:
            out(f"    {name}: {says} [{mistake}]")
    return bad


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    words = sys.argv[1:]
    sys.exit(bool(table([row for row in rows() if not words or any(word in row.name for word in words)])))
