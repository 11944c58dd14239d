"""The working folder of one grading: removed afterwards with all its content; the next grading removes that of a killed one."""

import contextlib
import fcntl
import os
import stat
import subprocess
import tempfile
from pathlib import Path

import psutil

PREFIX, LOCK = "grading-", "lock"
USERS = range(20_000, 60_000)  # user ids for a submission's processes; its folder belongs to the group of the same number


@contextlib.contextmanager
def working_folder():
    """A new, empty folder in the temporary directory, used with `with`."""
    clear()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
    try:
        with locked(folder):
            yield folder
    finally:
        remove(folder)


@contextlib.contextmanager
def locked(folder):
    """Hold a folder's lock, which the system releases when this process dies."""
    number, name = tempfile.mkstemp(prefix=f"{PREFIX}{LOCK}-")  # locked before the rename, so that clear() never finds it unlocked
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        os.replace(name, folder / LOCK)
        yield
    finally:
        os.close(number)


def clear():
    """Remove what gradings that were killed have left: their folders, and the processes that still run there."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        about = folder.lstat() if os.path.lexists(folder) else None
        if about is None or not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():  # another user's, or a link
            continue
        with contextlib.suppress(OSError), open(folder / LOCK, "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where its grading is alive
            end(folder)
            remove(folder)


def end(folder):
    """Kill the processes of the submission that was graded in this folder."""
    user = folder.stat().st_gid
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("HOME") == str(folder / "scratch"):
                process.kill()
    if os.getuid() == 0 and user in USERS:  # all of this user's at once: a chain of forks outruns killing one by one
        as_user = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
        subprocess.run([*as_user, "kill", "-KILL", "--", "-1"], capture_output=True)


def remove(folder):
    """Remove a folder, however deep, and even if its permissions were taken away."""
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        if os.path.lexists(folder):
            subprocess.run([*command, "--", folder], stderr=subprocess.DEVNULL)
