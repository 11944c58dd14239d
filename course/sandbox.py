"""Where a submission runs: processes of their own, with as little of the machine as the system allows to take away.

Three kinds of walls, the first that the system allows:
  "namespaces"  a file system of the interpreter and the submission alone, no network, no sight of other processes
  "user"        (where the grader is root) a user of its own, who may write to one scratch folder
  "limits"      limits on time, memory, processes and files, and no more
The walls are made by util-linux: unshare, mount, pivot_root and setpriv.
"""

import contextlib
import functools
import os
import re
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
import torch

from course.handout import ROOT
from course.wire import ENDED, Link, Lost, pair

MEMORY, PROCESSES, DISK, OUTPUT = 4 * 2**30, 48, 2**28, 4000  # bytes, processes and threads, bytes, characters kept
START_SECONDS = 60  # for a fresh interpreter to import torch on a busy machine
WALLS = ("namespaces", "user", "limits")
SAID = {
    "namespaces": (
        "The submission saw a file system of its own: the interpreter, read-only, and one scratch folder of limited size.",
        "It had no network, no privileges, and saw no other processes; all that it started was ended with it.",
    ),
    "user": (
        "The submission ran as a user of its own, without privileges; all that it started was ended with it.",
        "The system allows no namespaces here: the submission could reach the network and read what every user may read.",
    ),
    "limits": (
        "The system allows neither namespaces nor another user here: the submission could reach the network, and read, write "
        "and end whatever the grader may. Grade submissions that you do not trust on a machine that allows one of them.",
    ),
}
LIMITED = f"Limits: {MEMORY // 2**30} GB of memory, {PROCESSES} processes, {DISK // 2**20} MB of files, and time."

# $1: an empty folder that becomes the root; $2: the folder of the submission; $3: user id or ""; then folders to show, "--", the command.
NEW_ROOT = f"""
set -e
root=$1 base=$2 user=$3; shift 3
mount -t tmpfs -o mode=755,size=16m tmpfs "$root"
show() {{ mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; mount -o remount,bind,ro "$root$1"; }}
while [ "$1" != -- ]; do
    if [ -L "$1" ]; then cp -P "$1" "$root$1"; elif [ -d "$1" ]; then show "$1"; fi; shift
done; shift
show "$base/office"; show "$base/code"
mkdir -p "$root$base/scratch" "$root/proc" "$root/dev" "$root/old"
mount -t tmpfs -o mode=777,size={DISK} tmpfs "$root$base/scratch"
mount -t proc -o ro proc "$root/proc" || true
for device in null zero random urandom; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
cd "$root"; pivot_root . old; umount -l old; rmdir old
mount -o remount,bind,ro /
cd "$base/scratch"
exec setpriv ${{user:+--reuid "$user" --regid "$user" --clear-groups}} --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""
PACKAGES = str(Path(torch.__file__).parents[1])
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ssl", "/sys/devices/system/cpu")


class SandboxError(Exception):
    """The system does not allow to run submissions at all; the message says why."""


class Sandbox:
    """Runs the modules in the folder `code`; used with `with`. until: the time.monotonic() at which everything ends."""

    def __init__(self, code, until, wall=None):
        self.wall, self.until = wall or best_wall(), until
        self.base = Path(tempfile.mkdtemp(prefix="grading-")).resolve()
        self.user = 20_000 + secrets.randbelow(40_000) if os.getuid() == 0 and self.wall != "limits" else None
        self.process, self.printed, self.ended_by = None, "", ""
        self.modules = sorted(_imported(Path(code)))
        _furnish(self.base, Path(code))
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self):
        if not self._start():
            self.__exit__()
            raise SandboxError(f"the sandbox does not start: {self.printed.strip()[-500:] or 'no word came from it'}")
        return self

    def __exit__(self, *error):
        self.until = 0  # ends the watch
        self._stop()
        shutil.rmtree(self.base, ignore_errors=True)

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
            until = min(self.until, time.monotonic() + seconds)
            mine, theirs = pair()
            try:
                self.control.settimeout(max(0.1, until - time.monotonic()))
                with theirs:
                    socket.send_fds(self.control, [b"c"], [theirs.fileno()])
                if self.control.recv(1) == b"f":
                    return Link(mine, until, lambda: self.ended_by)
            except OSError:
                pass
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
        mine.settimeout(max(0.1, min(START_SECONDS, self.until - time.monotonic())))
        with contextlib.suppress(OSError):
            if mine.recv(1) == b"r":
                return True
        self._stop()
        return False

    def _read(self, process):
        """Keep the beginning of what is printed, and let the rest go."""
        with process.stdout:
            while part := os.read(process.stdout.fileno(), 65536):
                self.printed += part.decode("utf-8", "replace")[: max(0, OUTPUT - len(self.printed))]

    def _watch(self):
        """End everything where it takes more memory, processes or disk than it may."""
        while time.monotonic() < self.until:
            time.sleep(0.1)
            if self.process is None:
                continue
            inside = _family(self.process.pid)
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


def walls(wall, base, user):
    """The command in front of the worker's that puts it behind these walls."""
    as_user = ["--reuid", str(user), "--regid", str(user), "--clear-groups"]
    if wall == "user":
        return ["setpriv", *as_user, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
    if wall == "limits":
        return []
    unshare = ["unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--kill-child"]
    mapped = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    shown = {os.path.abspath(path) for path in (sys.prefix, sys.base_prefix, PACKAGES)}
    shown = [path for path in sorted(shown) if not _below(path, (*SYSTEM, *(shown - {path})))]
    return [*unshare, *mapped, "sh", "-c", NEW_ROOT, "sh", base / "root", base, "" if user is None else str(user), *SYSTEM, *shown, "--"]


@functools.cache
def best_wall():
    """The first of WALLS that this system allows, tried with an interpreter that does nothing. Raises SandboxError."""
    said = {}
    for wall in WALLS if os.getuid() == 0 else ("namespaces", "limits"):
        if wall == "limits" and os.getuid() == 0:
            break  # root without walls is no place for a stranger's code
        with tempfile.TemporaryDirectory(prefix="grading-") as folder:
            base = Path(folder).resolve()
            _furnish(base, None)
            tried = subprocess.run(
                [*walls(wall, base, 20_000 if os.getuid() == 0 else None), sys.executable, "-I", "-c", "import json"],
                capture_output=True, text=True, cwd=base / "scratch")  # fmt: skip
        if tried.returncode == 0:
            return wall
        said[wall] = tried.stderr.strip()[-300:]
    raise SandboxError(f"this system allows no walls around a submission, and root must not run one without: {said}")


def _furnish(base, code):
    """Lay out what is seen inside: office, the course's own modules; code, the student's; scratch, all that is writable."""
    for name in ("office/course", "root", "scratch"):
        (base / name).mkdir(parents=True)
    base.chmod(0o755), (base / "scratch").chmod(0o777)
    for name in ("worker", "inside", "wire"):
        shutil.copy(ROOT / "course" / f"{name}.py", base / "office" / "course")
    shutil.copy(ROOT / "tests" / "helpers.py", base / "office" / "course")
    for name in ("config.py", "utils.py"):
        shutil.copy(ROOT / name, base / "office")
    shutil.copytree(ROOT / "lab", base / "office" / "lab", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    if code:
        shutil.copytree(code, base / "code")
    else:
        (base / "code").mkdir()
    for path in (*(base / "office").rglob("*"), *(base / "code").rglob("*"), base / "office", base / "code"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _imported(code):
    """The modules that the student's files import and that are not theirs: worth importing once, before the children are made."""
    names = set()
    for path in code.rglob("*.py"):
        names |= set(re.findall(r"^\s*(?:from|import)\s+([A-Za-z_][\w.]*)", path.read_text("utf-8", "replace"), re.MULTILINE))
    theirs = {path.stem for path in code.iterdir()}
    return {name for name in names if name.split(".")[0] not in theirs and len(name) < 60}


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


def _below(path, folders):
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)

