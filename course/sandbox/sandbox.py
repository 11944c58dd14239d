"""Runs a submission in processes behind walls, watches them, and ends them with all that they started."""

import contextlib
import errno
import itertools
import os
import pwd
import secrets
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from course.intake import imports
from course.sandbox.clock import Clock
from course.sandbox.folder import USERS, end, remove, working_folder
from course.sandbox.isolation import DISK, FILES, PACKAGES, SAID, SandboxError, best_wall, furnish, walls
from course.sandbox.messages import ENDED, Link, Lost, pair

MEMORY, PROCESSES, OUTPUT = 4 * 2**30, 24, 4000  # bytes, processes and threads, characters kept
PATIENCE, OWN = 1, 5  # CPU waits forgiven, as a multiple of the limit; none for process trees larger than OWN, which cause their own
START_SECONDS, FORK_SECONDS = 60, 5  # to import torch in a fresh interpreter on a busy machine; to fork a child
AHEAD = ("matplotlib", "numpy", "torch", "torchvision", "tqdm", "einops", "scipy", "PIL", "IPython")  # packages that take time to import
SHARED = ("/dev/shm", "/tmp", "/var/tmp")  # where every user may write
SYSTEM_V = {"shm": ("-m", 7), "msg": ("-q", 7), "sem": ("-s", 4)}  # ipcrm's option; the column of the user in /proc/sysvipc
LIMITED = f"Limits: {MEMORY // 2**30} GB of memory, {PROCESSES} processes, {DISK // 2**20} MB in {FILES:,} files, and time."


class Sandbox:
    """Runs the modules in the folder `code` for at most `seconds` by its clock, `now`; used with `with`."""

    def __init__(self, code, seconds, wall=None):
        self.wall, self.clock, self.process = wall or best_wall(), Clock(PATIENCE * seconds), None
        self.until = self.now() + seconds
        self.user, self.lock = _free_user() if os.getuid() == 0 else None, threading.RLock()  # the watch may call _stop during _start
        self.printed, self.ended_by = "", ""
        self.modules = _imported(Path(code))
        self.opened = contextlib.ExitStack()
        self.base = self.opened.enter_context(working_folder())
        furnish(self.base, Path(code), self.user)

    def __enter__(self):
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.__exit__)
            threading.Thread(target=self._watch, daemon=True).start()
            started = self._start((self.until - self.now()) / 2)
            if not started:  # a module that cannot be imported ahead is no failure of the sandbox
                self.modules = []
                started = self._start(self.until - self.now())
            if started:
                on_error.pop_all()
                return self
            raise SandboxError(f"the sandbox does not start: {self.printed.strip()[-500:] or 'no word came from it'}")

    def __exit__(self, *error):
        self.until = 0  # ends the watch
        try:
            self._stop()
        finally:
            self.opened.close()

    def now(self):
        """The time by which limits are set: it stands while grader or submission wait for a processor."""
        return self.clock.now()

    @property
    def confinement(self):
        return (*SAID[self.wall], LIMITED)

    def link(self, seconds, quiet=None):
        """A Link to a fresh child, for `seconds`; quiet: see Link. What the child before it left running is killed. Raises Lost."""
        self.ended_by = ""
        for _ in range(2):
            if self.process is None or self.process.poll() is not None:
                self._stop()
                self._start(seconds)
            until = min(self.until, self.now() + seconds)
            mine, theirs = pair()
            with theirs, contextlib.suppress(OSError):
                socket.send_fds(self.control, [b"c"], [theirs.fileno()])
            if self._says(b"f", min(until, self.now() + FORK_SECONDS)):
                return Link(mine, until, lambda: self.ended_by, self.now, quiet)
            mine.close()
            self._stop()
        raise Lost(self.ended_by or ENDED)

    def _start(self, seconds):
        """Start a worker in an empty scratch folder; returns whether it is ready within `seconds`."""
        for path in (self.base / "scratch").iterdir():
            remove(path)
        with self.lock:
            mine, theirs = pair()
            alone = "no" if self.wall == "limits" else "yes"
            office, code = self.base / "office", self.base / "code"
            worker = office / "course" / "sandbox" / "worker.py"
            words = PACKAGES, office, code, theirs.fileno(), alone, _allowed(self.wall), *self.modules
            command = [sys.executable, "-I", "-u", worker, *words]
            self.control = mine
            scratch = str(self.base / "scratch")
            with theirs:
                self.process = subprocess.Popen(
                    [*walls(self.wall, self.base, self.user), *map(str, command)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()], cwd=scratch,
                    start_new_session=True,
                    env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": scratch, "TMPDIR": scratch, "MPLBACKEND": "agg",
                         "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
                )  # fmt: skip
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        if self._says(b"r", min(self.now() + min(START_SECONDS, seconds), self.until)):
            return True
        self._stop()
        return False

    def _says(self, word, until):
        """Wait for the worker's next byte; returns whether it is `word`."""
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
            if len(inside) <= OWN:  # many processes make each other wait: not forgiven
                self.clock.look(p.pid for p in inside)
            words = self._over(inside)
            if words:
                self.ended_by = f"Your code {words}: it was stopped."
                self._stop()

    def _over(self, inside):
        """Which limit these processes exceed, in words; "" for none."""
        if len(inside) > PROCESSES + 4:
            return f"starts more than {PROCESSES} processes"
        shared = sum(size for _, size in _of_system_v("shm", self.user)) if self.wall == "user" else 0
        if sum(_memory(p.pid) for p in inside) + shared > MEMORY:
            return f"uses more than {MEMORY // 2**30} GB of memory"
        size, files, deep = _below(self.base / "scratch")
        size += _nameless(inside)
        for place in SHARED if self.wall == "user" else ():  # in "namespaces" these folders do not exist
            size += sum(_below(entry.path)[0] + about.st_blocks * 512 for entry, about in _of(self.user, place))
        if deep or size > DISK or files > FILES:
            return f"writes more than {DISK // 2**20} MB, more than {FILES:,} files, or folders deeper than a path may be"
        return ""

    def _stop(self):
        """Kill the whole process tree, and what was re-parented out of it."""
        with self.lock:
            self._end_all()

    def _end_all(self):
        process, self.process = self.process, None
        if process is None:
            return
        inside = _family(process.pid)
        _kill(inside)
        process.kill()
        process.wait()
        _until_dead(inside, 5)
        if self.wall != "namespaces":
            end(self.base)  # re-parented out of the tree
        if self.wall == "user":
            for entry in (entry for place in SHARED for entry, _ in _of(self.user, place)):
                remove(entry.path)
            for kind, (option, _) in SYSTEM_V.items():
                for number, _ in _of_system_v(kind, self.user):
                    subprocess.run(["ipcrm", option, number], capture_output=True)
        self.control.close()


def _free_user():
    """A user id that nobody has, so that all its processes are the submission's."""
    taken = {process.info["uids"].real for process in psutil.process_iter(["uids"]) if process.info["uids"]}
    while True:
        user = secrets.choice(USERS)
        with contextlib.suppress(KeyError):
            pwd.getpwuid(user)
            continue
        if user not in taken:
            return user


def _imported(code):
    """The modules of large packages that the student's files import: worth importing once, before the children are made."""
    theirs = {path.stem for path in code.iterdir()}
    names = sorted(imports.imported(sorted(code.rglob("*.py"))))
    return [name for name in names if name.split(".")[0] in AHEAD and name.split(".")[0] not in theirs]


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


def _until_dead(processes, seconds):
    """Wait until these have ended, at most `seconds`; a zombie counts as ended, as its new parent may reap it late."""
    until = time.monotonic() + seconds
    while any(map(_runs, processes)) and time.monotonic() < until:
        time.sleep(0.01)


def _runs(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _memory(pid):
    """Bytes that a process has allocated: its own, and shared ones, which several processes may count."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(("RssAnon:", "RssShmem:")))
    except (OSError, ValueError):
        return 0


def _nameless(processes):
    """Bytes of the files without a name that processes hold open or mapped: memfd_create's, and those that were deleted."""
    sizes = {}
    for process in processes:
        with contextlib.suppress(OSError, ValueError), open(f"/proc/{process.pid}/maps") as file:
            for line in (line for line in file if line.endswith("(deleted)\n")):
                span, _, _, _, inode, *_ = line.split()
                first, last = (int(end, 16) for end in span.split("-"))
                sizes[int(inode)] = max(sizes.get(int(inode), 0), last - first)
        folder = f"/proc/{process.pid}/fd"
        with contextlib.suppress(OSError):
            for number in os.listdir(folder):
                with contextlib.suppress(OSError):
                    about = os.stat(f"{folder}/{number}")
                    if stat.S_ISREG(about.st_mode) and about.st_nlink == 0:
                        sizes[about.st_ino] = max(sizes.get(about.st_ino, 0), about.st_blocks * 512)
    return sum(sizes.values())


def _of_system_v(kind, user):
    """(id, bytes if it is memory) of a user's objects of one kind of SYSTEM_V."""
    with contextlib.suppress(OSError), open(f"/proc/sysvipc/{kind}") as file:
        next(file)
        for fields in map(str.split, file):
            if int(fields[SYSTEM_V[kind][1]]) == user:
                yield fields[1], int(fields[3])


def _of(user, place):
    """(entry, os.stat_result) of the entries of a folder that a user owns."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                if about.st_uid == user:
                    yield entry, about


def _below(folder):
    """(bytes in a folder, how many files and folders, whether one lies too deep for a path); it stops counting beyond FILES."""
    size, files, deep, waiting = 0, 0, False, [folder]
    while waiting and files <= FILES:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in itertools.islice(entries, FILES + 1):
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                    waiting += [entry.path] if entry.is_dir(follow_symlinks=False) else []
        except OSError as error:
            deep |= error.errno == errno.ENAMETOOLONG
    return size, files, deep
