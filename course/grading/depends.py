"""What the points of a section depend on besides the submission: the files of the course, read off its imports.

Two files that differ only in comments and layout count as the same. In doubt a section depends on a file: all of `lab/` is open to a
student's code, and what decides whether a schedule is lent (the check of 2.1) is there for all checked sections.
"""

import ast
import hashlib
import warnings
from pathlib import Path

from checks.sections import SECTIONS

from course.grading.rubric import BY_HAND, POINTS, TRAINING
from course.handout.handout import NOTEBOOK, ROOT
from course.intake.imports import nodes

GRADING = ("course/grading/grading.py", "course/grading/guard.py", "course/sandbox/*.py", "course/intake/*.py")
OPEN = ("lab/**/*.py", "config.py", "utils.py")  # what a student's code may import
JUDGE = "course/grading/weights.py"
OURS = {"config": "", "utils": "", "course": "", "lab": "", "checks": "tests/"}  # where a package that the grader imports lies


def needs(root=ROOT):
    """{section: the files that its points depend on}, with the paths relative to `root`."""
    checks = {key: f"tests/checks/{Path(section.checks.__file__).name}" for key, section in SECTIONS.items()}
    parts = {*checks.values(), "tests/checks/flow.py", JUDGE}  # what the grader imports for one section alone
    every = _reached([path for pattern in (*GRADING, *OPEN) for path in _found(root, pattern)], root, parts)
    lent = _reached([checks["scheduler"]], root, parts - {checks["scheduler"]})
    shown = frozenset(_found(root, NOTEBOOK))
    judge = _reached([JUDGE], root, parts - {JUDGE}) | frozenset(_found(root, "lab/weights/*"))
    own = {key: _reached([path], root) | lent for key, path in checks.items()} | {"training": judge | shown} | dict.fromkeys(BY_HAND, shown)
    assert own.keys() == POINTS.keys() and TRAINING == POINTS["training"]
    return {key: every | own[key] for key in POINTS}


def _found(root, pattern):
    return [path.relative_to(root).as_posix() for path in sorted(root.glob(pattern)) if path.is_file() and "__pycache__" not in path.parts]


def _reached(starts, root, but=frozenset()):
    """`starts` and all that they import, and so on, but for the files of `but`."""
    found, waiting = set(), list(starts)
    while waiting:
        path = waiting.pop()
        if path not in found and path not in but:
            found.add(path)
            waiting += _imports(root, path)
    return frozenset(found)


def _imports(root, path):
    """The course's files that a Python file imports, with the `__init__.py` of each package on the way."""
    for node in nodes((root / path).read_text("utf-8")):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):  # never relative, which tests/test_floors.py sees to
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        for parts in (name.split(".") for name in names):
            for end in range(1, len(parts) + 1) if parts[0] in OURS else ():
                stem = OURS[parts[0]] + "/".join(parts[:end])
                yield from (each for each in (f"{stem}.py", f"{stem}/__init__.py") if (root / each).is_file())


def versions(paths, root=ROOT):
    """{path: digest} of files: of a Python file's syntax tree, of another's bytes."""
    return {path: hashlib.sha256(_content(root / path)).hexdigest()[:16] for path in sorted(paths)}


def _content(path):
    content = path.read_bytes()
    if path.suffix == ".py":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.dump(ast.parse(content)).encode()
    return content
