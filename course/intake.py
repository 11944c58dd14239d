"""What a student handed in, a folder or a zip, as files that can be graded; nothing in it is run or trusted."""

import os
import shutil
import stat
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from course.handout import NOTEBOOK, ROOT

MODULES, CHECKPOINT = ("ResUNet.py", "DDPM.py"), "best_checkpoint.pth"
OURS = ("config", "utils", "lab", "course", "tests")  # names of the course's own modules, which win over the student's
SKIPPED = ("__MACOSX", "__pycache__", "site-packages", "node_modules")
LIMITS = {".py": 2**20, ".ipynb": 50 * 2**20, ".pth": 400 * 2**20}  # bytes a file; other kinds are left out
MOST_FILES, MOST_BYTES, MOST_SEEN = 200, 500 * 2**20, 5000


@dataclass
class Intake:
    """What was found. code: the folder with the student's modules. notes: what the student should know about it."""

    code: Path
    notebook: Path | None = None
    checkpoint: bool = False
    notes: list[str] = field(default_factory=list)


class _Refused(Exception):
    """A file that is not taken; the message says why."""


def take(submission, into):
    """Copy what can be graded of a submission into the empty folder `into`. Never raises for what it holds; says it in the notes."""
    submission, into, notes = Path(submission), Path(into), []
    found = into / "found"
    found.mkdir(parents=True)
    try:
        if submission.is_dir():
            _copy(_in_folder(submission, notes), found, notes)
        elif submission.is_file():
            with zipfile.ZipFile(submission) as archive:
                _copy(_in_zip(archive, notes), found, notes)
        else:
            notes.append("There is no such submission: a folder or a zip file is asked for.")
    except (zipfile.BadZipFile, _Refused, OSError, ValueError, EOFError, NotImplementedError, zlib.error) as error:
        why = f"the file is damaged or no zip file ({error})" if not isinstance(error, _Refused) else str(error)
        notes.append(f"The submission cannot be opened: {why}. Hand in a folder, or a zip of it, with {' and '.join(MODULES)}.")
    return _sort(found, into / "code", notes)


def _in_folder(folder, notes):
    """(name, open) of each file that may be wanted; links are not followed."""
    seen = 0
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _skipped(name))
        for name in sorted(names):
            path = Path(where, name)
            seen += 1
            if seen > MOST_SEEN:
                raise _Refused(f"it holds more than {MOST_SEEN} files")
            if path.suffix not in LIMITS:
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                notes.append(f"{path.relative_to(folder)} is a link or no plain file and is left out.")
                continue
            yield path.relative_to(folder).as_posix(), lambda path=path: open(path, "rb")


def _in_zip(archive, notes):
    if len(archive.infolist()) > MOST_SEEN:
        raise _Refused(f"it holds more than {MOST_SEEN} files")
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            notes.append(f"{name[:100]!r} leads out of the zip file and is left out.")
        elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            notes.append(f"{name[:100]!r} is a link or no plain file and is left out.")
        elif not info.is_dir() and path.suffix in LIMITS and not any(map(_skipped, path.parts)):
            yield path.as_posix(), lambda info=info: archive.open(info)


def _skipped(name):
    return name in SKIPPED or name.startswith(".")


def _copy(files, into, notes):
    """Copy (name, open) as far as the limits allow. What a file says of its own size is not believed."""
    left, count = MOST_BYTES, 0
    for name, opened in files:
        count += 1
        if count > MOST_FILES:
            raise _Refused(f"it holds more than {MOST_FILES} modules, notebooks and weights")
        target = into / name
        limit = min(left, LIMITS[target.suffix])
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened() as source, open(target, "xb") as file:
                while part := source.read(2**20):
                    limit -= len(part)
                    if limit < 0:
                        most = f"{LIMITS[target.suffix] // 2**20} MB, or all files together than {MOST_BYTES // 2**20} MB"
                        raise _Refused(f"is larger than {most}")
                    file.write(part)
                left -= file.tell()
        except (_Refused, OSError, RuntimeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            target.unlink(missing_ok=True) if not isinstance(error, FileExistsError) else None
            why = error if isinstance(error, _Refused) else f"cannot be read ({type(error).__name__}: {error})"
            notes.append(f"{name[:100]} {why} and is left out.")


def _sort(found, code, notes):
    """The student's modules from wherever they lie, and the notebook and the weights, each the one that lies highest."""
    files = sorted((p for p in found.rglob("*") if p.is_file()), key=lambda p: (len(p.parts), p.as_posix()))

    def first(names):
        return next((p for p in files if p.name in names), None)

    intake = Intake(code, first((NOTEBOOK,)) or next((p for p in files if p.suffix == ".ipynb"), None), notes=notes)
    top = first(MODULES)
    if top:
        top.parent.rename(code)
        files = [code / p.relative_to(top.parent) if p.is_relative_to(top.parent) else p for p in files]
        if intake.notebook and intake.notebook.is_relative_to(top.parent):
            intake.notebook = code / intake.notebook.relative_to(top.parent)
    else:
        code.mkdir()
    for name in MODULES:
        if not (code / name).is_file():
            notes.append(f"{name} is missing; its sections cannot be graded. Hand it in under this very name.")
    _without_ours(code, notes)
    weights = next((p for p in files if p.name == CHECKPOINT and p.is_file()), None)
    if weights:
        intake.checkpoint = True
        weights.rename(code / CHECKPOINT)
    return intake


def _without_ours(code, notes):
    """Take out what would stand in for the course's own modules; say so where it is not the same."""
    for path in sorted(code.iterdir()):
        if path.stem in OURS and path.name not in MODULES:
            ours = ROOT / path.name
            if path.is_file() and ours.is_file() and ours.read_bytes() != path.read_bytes():
                notes.append(f"Your {path.name} differs from the course's, which is used in its place: grading does not see your changes.")
            shutil.rmtree(path) if path.is_dir() else path.unlink()
