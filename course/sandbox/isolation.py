"""The walls that isolate a submission, made by util-linux (unshare, mount, pivot_root, setpriv), and the files behind them.

The first that the system allows is used:
  "namespaces"  a file system with only the interpreter and the submission, no network, other processes hidden
  "user"        (where the grader is root) a user of its own, who may write to one scratch folder
  "limits"      limits on time, memory, processes and files, and no more
"""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from course.handout.handout import ROOT
from course.sandbox.folder import USERS, working_folder

DISK, FILES = 2**28, 5000  # bytes, and files and folders, that a submission may write
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

BOUND = "--no-new-privs --inh-caps=-all --bounding-set=-all --pdeathsig KILL"  # it ends with the grader, however that ends

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
mount -t tmpfs -o mode=777,size={DISK},nr_inodes={FILES} tmpfs "$root$base/scratch"
if mount -t proc proc "$root/proc"; then
    for limit in shmall shmmni; do echo 0 > "$root/proc/sys/kernel/$limit" || true; done  # System V memory outlives its process
    mount -o remount,ro "$root/proc"
fi
for device in null zero random urandom; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
cd "$root"; pivot_root . old; umount -l old; rmdir old
mount -o remount,bind,ro /
cd "$base/scratch"
exec setpriv ${{user:+--reuid "$user" --regid "$user" --clear-groups}} {BOUND} "$@"
"""
PACKAGES = str(Path(torch.__file__).parents[1])
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ssl", "/sys/devices/system/cpu")


class SandboxError(Exception):
    """This system cannot run any submission; the message says why."""


def walls(wall, base, user):
    """The command to put before the worker's, so that it runs behind these walls."""
    if wall == "user":
        return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *BOUND.split()]
    if wall == "limits":
        return []
    unshare = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--kill-child"]
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
            break  # never run a stranger's code as root without walls
        with working_folder() as base:
            furnish(base, None, USERS[0] if os.getuid() == 0 else None)
            tried = subprocess.run(
                [*walls(wall, base, USERS[0] if os.getuid() == 0 else None), sys.executable, "-I", "-c", "import json"],
                capture_output=True, text=True, cwd=base / "scratch")  # fmt: skip
        if tried.returncode == 0:
            return wall
        said[wall] = tried.stderr.strip()[-300:]
    raise SandboxError(f"this system allows no walls around a submission, and root must not run one without: {said}")


def furnish(base, code, user):
    """Copy into `base` what the sandbox sees: office, the course's own modules; code, the student's; scratch, all that is writable.

    user: who may enter besides the grader; None for nobody.
    """
    for name in ("office/course/sandbox", "office/checks", "root", "scratch"):
        (base / name).mkdir(parents=True)
    (base / "scratch").chmod(0o777)
    if user is not None:
        os.chown(base, -1, user)
        base.chmod(0o750)
    for name in ("worker", "child", "messages", "earlier"):
        shutil.copy(ROOT / "course" / "sandbox" / f"{name}.py", base / "office" / "course" / "sandbox")
    for name in ("__init__", "lend"):  # the code that can be read there holds no solution
        shutil.copy(ROOT / "tests" / "checks" / f"{name}.py", base / "office" / "checks")
    for name in ("config.py", "utils.py"):
        shutil.copy(ROOT / name, base / "office")
    left_out = shutil.ignore_patterns("__pycache__", "weights", "baseline.py", "schedules.py")
    shutil.copytree(ROOT / "lab", base / "office" / "lab", ignore=left_out)
    if code:
        shutil.copytree(code, base / "code")
    else:
        (base / "code").mkdir()
    for path in (*(base / "office").rglob("*"), *(base / "code").rglob("*"), base / "office", base / "code"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _below(path, folders):
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
