"""The student's modules: which files count as them, and their copies under the names by which they are imported."""

from collections import defaultdict
from pathlib import PurePosixPath

from checks import FLOW

from course.intake.encoding import as_utf8
from course.intake.imports import imported
from course.intake.names import attempt, is_version, last
from course.intake.unpack import Refused, listed, shown

MODULES = ("ResUNet.py", "DDPM.py", *(["FM.py"] if FLOW else []))
OURS = ("config", "utils", "lab", "course", "tests")  # names of the course's own modules, which win over the student's
MODULE_BYTES = 2**20
MOST_MODULES, MOST_ROUNDS = 200, 3  # MOST_ROUNDS: levels of imports of imports


def chosen(unpacked):
    """{module: File} of the attempt with the most modules, the last of several; a module missing there is taken from another."""
    versions = {wanted: [file for file in unpacked.files.values() if is_version(file.name.name, wanted)] for wanted in MODULES}
    attempts = defaultdict(lambda: defaultdict(list))
    for wanted in MODULES:
        for file in versions[wanted]:
            attempts[attempt(file.name)][wanted].append(file)
    most = max(map(len, attempts.values()), default=0)
    times = {each: max(file.time for own in there.values() for file in own) for each, there in attempts.items() if len(there) == most}
    chosen = attempts[last(times)] if times else {}
    modules = {wanted: last_of(chosen.get(wanted) or versions[wanted]) for wanted in MODULES if versions[wanted]}
    for wanted, file in modules.items():
        say_which(unpacked, wanted, file, versions[wanted])
    if len({file.name.parent for file in modules.values()}) > 1:
        unpacked.notes.append(f"The modules lie in two folders and are graded together: {listed(modules.values())}.")
    return modules


def last_of(files):
    """The last of several versions of a file."""
    by_name = {file.name: file for file in files}
    return by_name[last({name: file.time for name, file in by_name.items()})]


def say_which(unpacked, wanted, file, several):
    """Say which of several files is taken as the wanted one, and which are not."""
    others = [each for each in several if each is not file]
    if file.name.name != wanted:
        unpacked.notes.append(f"{shown(file.name)} is taken as {wanted}.")
    if others:
        unpacked.notes.append(f"Of several versions of {wanted} {shown(file.name)} counts, not {listed(others)}.")


# ---- their copies


def take_modules(unpacked, modules, code):
    """Copy the two modules under their own names, the Python files beside and below them, and what they import from elsewhere."""
    plan = {PurePosixPath(wanted): file for wanted, file in modules.items()}
    for folder in dict.fromkeys(file.name.parent for file in modules.values()):
        below = [file for file in unpacked.files.values() if file.name.is_relative_to(folder) and file.name.suffix == ".py"]
        for file in sorted(below, key=lambda file: (len(file.name.parts), file.name)):
            path = file.name.relative_to(folder)
            taken = file in modules.values() and file.name.parent == folder
            if not taken and _is_importable(path) and plan.setdefault(path, file) is not file:
                unpacked.note(file.name, f"is left out: {shown(plan[path].name)} has its name.")
    if len(plan) > MOST_MODULES:
        unpacked.notes.append(f"It holds more than {MOST_MODULES} modules: those in the innermost folders are left out.")
    for path, file in list(plan.items())[:MOST_MODULES]:
        _take_module(unpacked, file, code / path)
    _take_imported(unpacked, code)


def _take_module(unpacked, file, target):
    """Copy a module, in UTF-8."""
    try:
        unpacked.copy(file, target, MODULE_BYTES)
        content, encoding = as_utf8(target.read_bytes())
        if encoding:
            target.write_bytes(content)
            unpacked.note(file.name, f"is written in {encoding}, which Python does not import. It was read all the same; save it as UTF-8.")
    except Refused as why:
        unpacked.note(file.name, f"{why} and is left out.")
    except ValueError as error:
        unpacked.note(file.name, f"is no whole text in its encoding ({error}). Save it as UTF-8.")


def _take_imported(unpacked, code):
    """Copy imported modules that are still missing: files that a platform renamed, and packages that lie elsewhere in the submission."""
    for _ in range(MOST_ROUNDS):
        names = sorted(imported(sorted(code.rglob("*.py"))))[:MOST_MODULES]
        for path in (PurePosixPath(*name.split(".")) for name in names):
            if (code / path).exists() or (code / f"{path}.py").exists():
                continue
            fits = [file for file in unpacked.files.values() if _is_module(file.name, PurePosixPath(f"{path}.py"))]
            if fits:
                say_which(unpacked, f"{path}.py", last_of(fits), fits)
                _take_module(unpacked, last_of(fits), code / f"{path}.py")


def _is_importable(path):
    """Whether an import can find the module at `path`, and does not find one of the course's instead."""
    parts = path.with_suffix("").parts
    return parts[0] not in OURS and all(part.isidentifier() for part in parts)


def _is_module(name, path):
    """Whether a file is the module that an import finds at `path`."""
    alike = path.stem in name.name and is_version(name.name, path.name)
    return alike and _is_importable(path) and (name.parent / path.name).match(str(path))
