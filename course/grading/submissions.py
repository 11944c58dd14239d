"""The submissions of a class: found in a folder, and told apart by what they contain."""

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path

from course.report.safe import plain

MOODLE = re.compile(r"_assignsubmission_.*$")  # the end of the folder names in Moodle's download
MOODLE_TEXT = "_assignsubmission_onlinetext_"  # the end of that of a folder with what was typed into a form
LARGE = 256 << 20  # bytes; of a larger file only the size and modification time are hashed


class ClassError(Exception):
    """A class that cannot be graded as asked; the message says what to do."""


def submissions(folder, report):
    """{name: path} of the submissions in a folder, by name."""
    if not folder.is_dir():
        raise ClassError(f"{folder} is no folder; name the one that holds a sub-folder or a zip for each submission")
    if report == folder or folder in report.parents:
        raise ClassError(f"the report {report} would lie among the submissions; name a folder outside of {folder}")
    there = _visible(folder)
    found = [path for path in there if not path.is_symlink() and (path.is_dir() or path.suffix.lower() == ".zip" and path.is_file())]
    filed = {MOODLE.sub("", path.name) for path in found if not path.name.endswith(MOODLE_TEXT)}
    found = [path for path in found if not (path.name.endswith(MOODLE_TEXT) and MOODLE.sub("", path.name) in filed)]
    if not found:
        what = f"only {', '.join(path.name for path in there[:3])}" if there else "nothing"
        raise ClassError(f"{folder} holds {what}; each submission is a sub-folder or a zip in it")
    names = {}
    for path in found:
        name = plain(MOODLE.sub("", path.name if path.is_dir() else path.stem)) or path.name
        other = next((other for other in names if other.casefold() == name.casefold()), None)
        if other is not None:
            raise ClassError(f"{names[other].name} and {path.name} would both be called {name!r}; rename or remove one of them")
        names[name] = path
    return names


def left_out(folder, names):
    """The names of what lies in the folder and is none of the submissions, {name: path}."""
    return [path.name for path in _visible(folder) if path not in names.values()]


def _visible(folder):
    return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX")))


def digest(*paths):
    """SHA-256 of files and folders: names and contents. Links are not followed."""
    found = hashlib.sha256()
    for top in paths:
        for path in sorted(_files(top)):
            about = os.lstat(path)
            found.update(os.fsencode(os.path.relpath(path, top.parent)) + b"\0%d\0%d\0" % (stat.S_IFMT(about.st_mode), about.st_size))
            with contextlib.suppress(OSError):  # what cannot be read is not graded either
                if stat.S_ISLNK(about.st_mode):
                    found.update(os.fsencode(os.readlink(path)))
                elif about.st_size > LARGE:
                    found.update(b"%d" % about.st_mtime_ns)
                elif stat.S_ISREG(about.st_mode):
                    found.update(Path(path).read_bytes())
    return found.hexdigest()


def _files(top):
    """The paths of all files in a folder, or of `top` itself if it is a file; files nested too deep for a path are left out."""
    waiting = [os.fspath(top)] if top.is_dir() else []
    if not waiting:
        yield os.fspath(top)
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield entry.path
                elif entry.name != "__pycache__":
                    waiting.append(entry.path)
