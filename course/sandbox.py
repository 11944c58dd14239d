"""Where a submission runs: processes of their own behind walls, watched, and ended with all that they started."""

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from course import imports
from course.clock import Clock
from course.walls import DISK, PACKAGES, SAID, SandboxError, best_wall, furnish, walls
from course.wire import ENDED, Link, Lost, pair

MEMORY, PROCESSES, OUTPUT = 4 * 2**30, 48, 4000  # bytes, processes and threads, characters kept
PATIENCE, OWN = 1, 5  # times its seconds may a submission wait for a processor, with no more processes than these
START_SECONDS = 60  # for a fresh interpreter to import torch on a busy machine
MOST_IMPORTS = 100
LIMITED = f"Limits: {MEMORY // 2**30} GB of memory, {PROCESSES} processes, {DISK // 2**20} MB of files, and time."


class Sandbox:
    """Runs the modules in the folder `code` for at most so many seconds by its clock, `now`; used with `with`."""

    def __init__(self, code, seconds, wall=None):
        self.wall, self.clock, self.process = wall or best_wall(), Clock(PATIENCE * seconds), None
        self.until = self.now() + seconds
        self.base = Path(tempfile.mkdtemp(prefix="grading-")).resolve()
        self.user = _free_user() if os.getuid() == 0 else None
        self.printed, self.ended_by = "", ""
        self.modules = _imported(Path(code))
        furnish(self.base, Path(code), self.user)
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self):
        started = False
        try:
            started = self._start()
        except OSError as error:
            self.printed = str(error)
        if not started:
            self.__exit__()
            raise SandboxError(f"the sandbox does not start: {self.printed.strip()[-500:] or 'no word came from it'}")
        return self

    def __exit__(self, *error):
        self.until = 0  # ends the watch
        self._stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def now(self):
        """The time by which limits are set: it stands while grader or submission wait for a processor."""
        return self.clock.now()

    @property
    def confinement(self):
        return (*SAID[self.wall], LIMITED)

    def link(self, seconds):
        """A Link to a fresh child, for so long. What the child before it has left behind is ended. Raises Lost."""
        self.ended_by = ""
        for again in (False, True):
            if again or self.process is None or self.process.poll() is not None:
                self._stop()
                self._start()
            until = min(self.until, self.now() + seconds)
            mine, theirs = pair()
            with theirs, contextlib.suppress(OSError):
                socket.send_fds(self.control, [b"c"], [theirs.fileno()])
            if self._says(b"f", until):
                return Link(mine, until, lambda: self.ended_by, self.now)
            mine.close()
        raise Lost(self.ended_by or ENDED)

    def _start(self):
        """Whether a worker is there now, in an empty scratch folder."""
        for path in (self.base / "scratch").iterdir():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        mine, theirs = pair()
        alone = "no" if self.wall == "limits" else "yes"
        office, code = self.base / "office", self.base / "code"
        command = [sys.executable, "-I", "-u", office / "course" / "worker.py", PACKAGES, office, code, theirs.fileno(), alone,
                   _allowed(self.wall), *self.modules]  # fmt: skip
        self.control = mine
        scratch = str(self.base / "scratch")
        with theirs:
            self.process = subprocess.Popen(
                [*walls(self.wall, self.base, self.user), *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()], cwd=scratch,
                start_new_session=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": scratch, "TMPDIR": scratch, "MPLBACKEND": "agg", "LANG": "C.UTF-8",
                     "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            )  # fmt: skip
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        if self._says(b"r", min(self.now() + START_SECONDS, self.until)):
            return True
        self._stop()
        return False

    def _says(self, word, until):
        """Whether this is the worker's next word."""
        while (left := until - self.now()) > 0:
            try:
                self.control.settimeout(left)
                return self.control.recv(1) == word
            except TimeoutError:
                continue
            except OSError:  # also where the watch has closed it
                return False
        return False

    def _read(self, process):
        """Keep the beginning of what is printed, and let the rest go."""
        with process.stdout:
            while part := os.read(process.stdout.fileno(), 65536):
                self.printed += part.decode("utf-8", "replace")[: max(0, OUTPUT - len(self.printed))]

    def _watch(self):
        """End everything where it takes more memory, processes or disk than it may."""
        while self.now() < self.until:
            time.sleep(0.1)
            process = self.process
            inside = _family(process.pid) if process else []
            if len(inside) <= OWN:  # what starts many of its own waits for itself
                self.clock.look(p.pid for p in inside)
            with contextlib.suppress(psutil.Error):
                memory = sum(_own_memory(p) for p in inside)
                over = [
                    (memory > MEMORY, f"uses more than {MEMORY // 2**30} GB of memory"),
                    (len(inside) > PROCESSES + 4, f"starts more than {PROCESSES} processes"),
                    (_size(self.base / "scratch") > DISK, f"writes more than {DISK // 2**20} MB of files"),
                ]
                for words in (words for true, words in over if true):
                    self.ended_by = f"Your code {words}: it was stopped."
                    self._stop()

    def _stop(self):
        """Kill everything inside, whatever it has become."""
        process, self.process = self.process, None
        if process is None:
            return
        inside = _family(process.pid)
        _kill(inside)
        process.kill()
        process.wait()
        psutil.wait_procs(inside, timeout=5)
        if self.wall == "user":  # what has left the family is still of this user
            kill = ["setpriv", "--reuid", str(self.user), "--regid", str(self.user), "--clear-groups", "kill", "-KILL", "-1"]
            subprocess.run(kill, capture_output=True)
        elif self.wall == "limits":
            _kill(p for p in psutil.process_iter() if _environment(p).get("HOME") == str(self.base / "scratch"))
        self.control.close()


def _free_user():
    """A user id that nobody has, so that all its processes are the submission's."""
    taken = {process.info["uids"].real for process in psutil.process_iter(["uids"]) if process.info["uids"]}
    while True:
        user = 20_000 + secrets.randbelow(40_000)
        with contextlib.suppress(KeyError):
            pwd.getpwuid(user)
            continue
        if user not in taken:
            return user


def _imported(code):
    """The modules that the student's files import and that are not theirs: worth importing once, before the children are made."""
    theirs = {path.stem for path in code.iterdir()}
    names = sorted(imports.imported(sorted(code.rglob("*.py"))))
    return [name for name in names if name.split(".")[0] not in theirs][:MOST_IMPORTS]


def _allowed(wall):
    """How many processes and threads the submission's user may have; without walls the grader's own count too."""
    if wall != "limits":
        return PROCESSES
    return PROCESSES + sum(p.info["num_threads"] or 0 for p in psutil.process_iter(["uids", "num_threads"]) if _mine(p))


def _mine(process):
    return process.info["uids"] is not None and process.info["uids"].real == os.getuid()


def _family(pid):
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _own_memory(process):
    try:
        memory = process.memory_info()
        return memory.rss - memory.shared
    except psutil.Error:
        return 0


def _environment(process):
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def _size(folder):
    size = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(where, name)).st_blocks * 512
    return size
