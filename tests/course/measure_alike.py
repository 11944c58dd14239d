"""How often `python -m course alike` is wrong, on the catalogue's solutions: python tests/course/measure_alike.py

Prints what stands in course/alike/measured.py. Nothing of the solutions is run.
"""

import ast
import itertools
import random
import re
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "course")]

from catalogue import SOLUTIONS, lay_out, rows
from disguise import DISGUISES, disguised

from course.alike.alike import Given
from course.alike.compare import Class, Work
from course.alike.passages import passages

FILES = ("DDPM.py", "ResUNet.py")
METHODS = ("scheduler", "forward", "sample")
CLASSES, SIZE = 200, 30
HOW = {**{name: (name,) for name in DISGUISES}, "all at once": ()}


@cache
def given():
    """The handout of the edition that the catalogue's authors had, got back from a solution in which its banners stand."""
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:
            (Path(folder) / file).write_text(_without_answers((SOLUTIONS / "a" / "r01" / file).read_text("utf-8")), "utf-8")
        return Given(folder)


def _without_answers(text):
    lines, banner, answer = [], False, False
    for line in text.splitlines():
        rule = re.match(r"\s*# =+ #$", line)
        if rule and banner:
            lines.append(line[: len(line) - len(line.lstrip())] + "pass")
        banner, answer = "YOUR CODE HERE" in line or banner and not rule, bool(rule and banner) or answer and not rule
        lines += [] if answer else [line]
    return "\n".join(lines)


def work(name, texts, mistakes=()):
    size, methods = {}, {}
    for text in texts:
        found = passages(text, given().words)
        size |= found.size
        methods |= {method: own - given().passages for method, own in found.methods.items()}
    own = {each: nodes for each, nodes in size.items() if each not in given().passages}
    return Work(name, own, frozenset(mistakes), methods=methods)


def texts(folder):
    return [path.read_text("utf-8") for path in sorted(Path(folder).rglob("*.py"))]


@cache
def right():
    """{name: Work} of the right solutions; the first letter of a name is its author."""
    return {row.name: work(row.name, texts(row.folder)) for row in rows() if not row.section}


def independent():
    """{whether one hand wrote both: (false alarms, pairs)}, and {…: the highest likeness of the whole}."""
    found, made = Class(right().values()), {False: [], True: []}
    for one, other in itertools.combinations(found.works, 2):
        made[one.name[0] == other.name[0]].append(found.pair(one, other))
    alarms = {same: (sum(pair.standing >= 1 for pair in pairs), len(pairs)) for same, pairs in made.items()}
    return alarms, {same: max(pair.likeness for pair in pairs) for same, pairs in made.items()}


def classes(count=CLASSES, size=SIZE):
    """False alarms in classes drawn at random, one author's solutions included."""
    chance = random.Random(7)
    return sum(len(Class(chance.sample(list(right().values()), size)).pairs()) for _ in range(count))


def copied(*how, names=None):
    """(found, copies, the least standing, 1 is the limit) of copies in these disguises, each in the class of all others; the copied one is in it."""
    found = []
    for name in names or right():
        copy = work("copy", [disguised(text, *how) for text in texts(SOLUTIONS / name)])
        found.append(Class([*right().values(), copy]).pair(right()[name], copy).standing)
    return sum(standing >= 1 for standing in found), len(found), min(found)


def parts():
    """(found, copies) where one method, renamed and with its operands swapped, stands in a solution by another hand."""
    names, found = list(right()), []
    for i, name in enumerate(names):
        others = [other for other in names if other[0] != name[0]]
        other, method = others[i % len(others)], METHODS[i % len(METHODS)]
        source = disguised((SOLUTIONS / name / "DDPM.py").read_text("utf-8"), "commuted", "renamed")
        tree = ast.parse((SOLUTIONS / other / "DDPM.py").read_text("utf-8"))
        new = _method(ast.parse(source), method)
        if new and (old := _method(tree, method)):
            old.body = new.body
            mixed = work("mixed", [ast.unparse(tree), *[text for path, text in _others(other)]])
            rest = [each for key, each in right().items() if key != other]
            found.append(Class([*rest, mixed]).pair(right()[name], mixed).standing)
    return sum(standing >= 1 for standing in found), len(found)


def _method(tree, name):
    return next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _others(name):
    return [(path, path.read_text("utf-8")) for path in sorted((SOLUTIONS / name).rglob("*.py")) if path.name != "DDPM.py"]


def slips():
    """(false alarms, pairs) of solutions by different hands with the same slip, where both records name it."""
    made = []
    for row in rows():
        if row.section and row.mistake:
            with tempfile.TemporaryDirectory() as folder:
                lay_out(row, folder)
                made.append((row, work(f"{row.name} slip", texts(folder), [row.mistake])))
    found = []
    for (a, one), (b, other) in itertools.combinations(made, 2):
        if a.mistake == b.mistake and a.name[0] != b.name[0]:
            bases = {f"{row.folder.parent.name}/{row.folder.name}" for row in (a, b)}
            found.append(Class([*(w for name, w in right().items() if name not in bases), one, other]).pair(one, other).standing)
    return sum(standing >= 1 for standing in found), len(found)


def main():
    alarms, most = independent()
    print(f"SOLUTIONS, HANDS = {len(right())}, {len({name[0] for name in right()})}")
    print(f"BETWEEN, WITHIN = {alarms[False]}, {alarms[True]}  # the most alike: {most}")
    print(f"CLASSES, CLASS_ALARMS = {CLASSES}, {classes()}")
    for name, how in HOW.items():
        found, copies, least = copied(*how)
        print(f'COPIES "{name}": ({found}, {copies})  # the least standing {least:.2f}', flush=True)
    print(f"PARTS = {parts()}")
    print(f"SLIPS = {slips()}")


if __name__ == "__main__":
    main()
