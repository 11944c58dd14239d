"""Skeletons: what a student receives is the solved file with each solution taken out."""

import ast

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"  # nbgrader's markers
RULE = "# " + "=" * 60 + " #"


class SkeletonError(Exception):
    """Markers that do not make regions; the message names file and line."""


def regions(source, name):
    """The solutions of a source, [(first, last)]: line numbers from 0 of their markers. Raises SkeletonError."""
    found, begin = [], None
    for number, line in enumerate(source.splitlines()):
        marker = line.strip()
        if marker == BEGIN:
            if begin is not None:
                raise SkeletonError(f"{name}:{number + 1}: a solution begins inside the one that began at line {begin + 1}")
            begin = number
        elif marker == END:
            if begin is None:
                raise SkeletonError(f"{name}:{number + 1}: a solution ends that did not begin")
            if not any(_says_something(line) for line in source.splitlines()[begin + 1 : number]):
                raise SkeletonError(f"{name}:{begin + 1}: a solution with nothing in it")
            found.append((begin, number))
            begin = None
        elif BEGIN in line or END in line or "SOLUTION" in line and line.lstrip().startswith("###"):
            raise SkeletonError(f"{name}:{number + 1}: {marker!r} is no marker; allowed are {BEGIN!r} and {END!r}, alone on their line")
    if begin is not None:
        raise SkeletonError(f"{name}:{begin + 1}: a solution begins and does not end")
    return found


def skeleton(source, name, tasks):
    """The source with each solution replaced by the banner of its function and `raise NotImplementedError`.

    tasks: {function: the lines that say what to write}. Raises SkeletonError also for a solution in a function that has no task.
    """
    lines = source.splitlines()
    for first, last in reversed(regions(source, name)):
        function = _function(source, first + 1)
        if function not in tasks:
            raise SkeletonError(f"{name}:{first + 1}: no task is written for {function or 'a solution outside any function'}")
        indent = lines[first][: len(lines[first]) - len(lines[first].lstrip())]
        banner = [RULE, "# YOUR CODE HERE:", *(f"#   {line}".rstrip() for line in tasks[function].strip().splitlines()), RULE]
        lines[first : last + 1] = [indent + line for line in (*banner, "raise NotImplementedError", RULE)]
    return "\n".join(lines) + "\n"


def solutions(source, name):
    """The lines of all solutions, without those that say nothing (blank, or a bracket alone)."""
    lines = source.splitlines()
    return [line.strip() for first, last in regions(source, name) for line in lines[first + 1 : last] if _says_something(line)]


def _says_something(line):
    return bool(line.strip(" ()[]{},:")) and not line.lstrip().startswith("#")


def _function(source, line):
    """The name of the innermost function around a line, numbered from 1; None outside of any."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    around = [node for node in functions if node.lineno <= line <= node.end_lineno]
    return max(around, key=lambda node: node.lineno).name if around else None
