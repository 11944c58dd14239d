"""What a student's Python code contains, such as its imports, from its syntax tree: nothing is imported or run."""

import ast
import warnings

MOST = 200_000  # characters that are parsed in all: at most a second or two
LONGEST = 60  # characters of a name


def imported(paths):
    """The names of the modules that Python files import, as "torch.nn"; `from a import b` gives a and a.b, which may be a module too.

    Left out: imports relative to a package, names as __main__, and what comes after MOST characters or does not parse.
    """
    names, left = set(), MOST
    for path in paths:
        text = path.read_text("utf-8", "replace")
        left -= len(text)
        if left < 0:
            break
        names |= {name for name in _names(text) if len(name) <= LONGEST and not any(part.startswith("__") for part in name.split("."))}
    return names


def nodes(text):
    """The nodes of a Python text's syntax tree; none where it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as for "\d" in a string
            return list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _names(text):
    for node in nodes(text):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")
