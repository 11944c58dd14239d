"""The files of a submission, in whatever folders and zips they lie. What a zip states, such as a file's size, is not trusted."""

import contextlib
import errno
import io
import itertools
import os
import stat
import time
import zipfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from course.report.safe import plain

SKIPPED = ("__MACOSX", "__pycache__", "site-packages", "node_modules")
MOST_FILES, MOST_ZIPS = 5000, 10  # that are looked at; the submission itself counts
MOST_BYTES = 500 * 2**20  # that are read in all, inner zips included
DEEPEST, LONGEST = 40, 500  # folders above a file; bytes of its path
LONGEST_LIST = 8 * 2**20  # bytes of a zip's list of files
MOST_NOTES = 20
OURS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS, errno.ESTALE}  # of the machine


class Refused(Exception):
    """A file that is not taken; the message says what is wrong with it, as "is larger than 1 MB"."""


class _Full(Exception):
    """More files than are looked at."""


@dataclass(frozen=True, eq=False)
class File:
    """name: its path in the submission, where a zip counts as a folder. kind: as stat.S_IFREG. time: of its last change, in seconds."""

    name: PurePosixPath
    kind: int
    time: float
    open: Callable
    path: str | None = None  # where it lies, if not in a zip


class Unpacked:
    """The files of a submission, a folder or a zip; used with `with`, which keeps its zips open.

    files: {name: File}. folders: the names of its folders. notes: what was left out, and why. scratch: a folder for inner zips.
    Links are not followed, and hidden files not looked at. Raises Refused where the submission cannot be opened at all.
    """

    def __init__(self, submission, scratch):
        self.scratch, self.zips, self.opened, self.seen, self.left = Path(scratch), contextlib.ExitStack(), 0, 0, MOST_BYTES
        self.files, self.folders, self.notes, self.waiting = {}, set(), [], deque()
        with contextlib.ExitStack() as on_error:
            on_error.push(self.zips)
            try:
                self._look(Path(submission))
            except _Full:
                self.notes.append(f"It holds more than {MOST_FILES} files: only so many were looked at.")
            on_error.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.zips.close()

    def note(self, name, words):
        """Add a note on a file; after MOST_NOTES notes it is dropped."""
        self.notes += [f"{shown(name)} {words}"] if len(self.notes) < MOST_NOTES else []

    def copy(self, file, target, most):
        """Write a file of at most `most` bytes to the path `target`. Raises Refused, leaving nothing there, and OSError for one of OURS."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as out:
                self._write(file, out, most)
        except Refused:
            target.unlink()
            raise
        except (OSError, ValueError) as error:
            _raise_ours(error)
            raise Refused(f"cannot be written ({_words(error)})") from error

    def read(self, file, most):
        """The bytes of a file, at most `most`. Raises Refused."""
        out = io.BytesIO()
        self._write(file, out, most)
        return out.getvalue()

    def _write(self, file, out, most):
        try:
            with file.open() as source:
                while part := source.read(2**20):
                    self.left -= len(part)
                    if out.tell() + len(part) > most or self.left < 0:
                        raise Refused(f"is larger than {most // 2**20} MB, or all files together than {MOST_BYTES // 2**20} MB")
                    out.write(part)
        except Refused:
            raise
        except Exception as error:  # a file made by anyone can go wrong in any way
            _raise_ours(error)
            raise Refused(f"cannot be read ({_words(error)})") from error

    def _look(self, submission):
        if submission.is_dir():
            self._folder(submission)
        elif submission.is_file():
            self._zip(submission, PurePosixPath())
        else:
            raise Refused("is no folder and no zip file")
        while self.waiting:
            file = self.waiting.popleft()
            try:
                self._inner_zip(file)
            except Refused as why:
                self.note(file.name, f"{why} and is not opened.")

    def _folder(self, top):
        """Look through a folder, the top level first."""
        waiting = deque([(top, PurePosixPath())])
        while waiting:
            where, name = waiting.popleft()
            try:
                inside = _inside_folder(where, name)
            except OSError as error:
                _raise_ours(error)
                self.note(name, f"cannot be opened ({_words(error)}) and is left out.")
                continue
            for file in inside:
                if self._wanted(file) and file.kind == stat.S_IFDIR:
                    waiting.append((file.path, file.name))

    def _zip(self, path, name):
        """Look through a zip file, whose files get names below `name`. Of two with one name the last counts, as when unpacking."""
        self.opened += 1
        archive = self.zips.enter_context(opened_zip(path))
        for info in sorted(archive.infolist(), key=lambda info: info.filename.count("/")):
            inside = PurePosixPath(info.filename.replace("\\", "/"))
            if not inside.parts or inside.is_absolute() or ".." in inside.parts or PureWindowsPath(inside).drive:
                self.note(inside, "leads out of the zip file and is left out.")
                continue
            kind = stat.S_IFDIR if info.is_dir() else stat.S_IFMT(info.external_attr >> 16) or stat.S_IFREG  # Windows gives none
            file = File(name / inside, kind, _time(info), partial(_entry, archive, info))
            if file.name in self.files:
                self.note(file.name, "is in its zip file more than once: the last one counts.")
            self._wanted(file)

    def _inner_zip(self, file):
        """Open a zip that lies in a folder or in another zip."""
        if self.opened >= MOST_ZIPS:
            raise Refused(f"is one of more than {MOST_ZIPS} zips")
        path = file.path or self.scratch / f"{self.opened}.zip"
        if not file.path:
            self.copy(file, path, MOST_BYTES)
        self._zip(path, file.name)

    def _wanted(self, file):
        """Put a file or folder on its list; returns whether to look at it."""
        if any(part in SKIPPED or part.startswith(".") for part in file.name.parts):
            return False
        self.seen += 1
        if self.seen > MOST_FILES:
            raise _Full
        if len(file.name.parts) > DEEPEST + 1 or len(str(file.name).encode("utf-8", "replace")) > LONGEST:
            self.note(file.name, f"lies in more than {DEEPEST} folders, or its path is longer than {LONGEST} bytes: it is left out.")
            return False
        if file.kind not in (stat.S_IFREG, stat.S_IFDIR):
            self.note(file.name, "is a link or no plain file and is left out.")
            return False
        self.folders.update(file.name.parents if file.kind == stat.S_IFREG else [file.name])
        if file.kind == stat.S_IFREG:
            self.files[file.name] = file
            self.waiting += [file] if file.name.suffix.lower() == ".zip" else []
        return True


def _inside_folder(path, name):
    """The files and folders in a folder, sorted."""
    with os.scandir(path) as entries:
        found = [(entry, entry.stat(follow_symlinks=False)) for entry in itertools.islice(entries, MOST_FILES + 1)]
    files = [File(name / e.name, stat.S_IFMT(s.st_mode), s.st_mtime, partial(open, e.path, "rb"), e.path) for e, s in found]
    return sorted(files, key=lambda file: file.name)


@contextlib.contextmanager
def opened_zip(path):
    """A zip file to read. Raises Refused where it is none, or its list of files would fill the memory."""
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(_Careful(path))))
        except Refused:
            raise
        except Exception as error:  # a file made by anyone can go wrong in any way
            _raise_ours(error)
            raise Refused(f"is damaged or no zip file ({_words(error)})") from error
        yield archive


class _Careful(io.FileIO):
    """A file that limits the list of files in a zip, which zipfile reads at once, however long it is."""

    def read(self, size=-1):
        if size > LONGEST_LIST:
            raise Refused("has too long a list of files")
        return super().read(size)


def _raise_ours(error):
    """Raise an error that is no fault of the submission, such as a full disk: it is graded later."""
    if getattr(error, "errno", None) in OURS:
        raise error


def _entry(archive, info):
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others at once, whatever the size
        raise Refused("is compressed by another method than Deflate")
    return archive.open(info)


def _time(info):
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (OverflowError, ValueError):
        return 0.0


def _words(error):
    return plain(f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}")[:200]


def shown(name):
    """A path for a message, on one line; only the end of a long one."""
    name = " ".join(plain(str(name)).split())
    return name if len(name) <= 100 else f"…{name[-100:]}"


def listed(files):
    """The names of files for a message."""
    names = [shown(file.name) for file in files]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
