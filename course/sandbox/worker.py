"""Runs inside the sandbox: imports torch once, then forks a child for each check, which runs the student's code.

Started by course.sandbox.sandbox as: python -I worker.py PACKAGES OFFICE CODE FD ALONE PROCESSES [MODULE ...]. PACKAGES holds torch,
OFFICE the course's own modules, CODE the student's. FD is a socket on which sockets arrive, one for each child. ALONE is "yes"
where every process that this one may signal is the submission's. PROCESSES: how many its user may have. Imports come before any
code of the student.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import signal
import socket
import sys

PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 36, 38
EXTRA_MEMORY = 3 * 2**30  # bytes of address space beyond what the imports take
FILE_SIZE, FILES, CPU_SECONDS = 2**26, 256, 90


def main(packages, office, code, fd, alone, processes, *modules):
    sys.path[:0] = [office]
    sys.path += [packages] if packages not in sys.path else []  # isolated mode leaves out a user's own site-packages
    first_in_line_where_memory_runs_out()
    import torch

    torch.set_num_threads(1)
    for module in ("course.sandbox.child", "lab.samplers", *modules):
        with contextlib.suppress(BaseException):  # it fails again where the student's code imports it, and is reported there
            importlib.import_module(module)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans become our children, so that they can be killed
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if alone == "yes":
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the children cannot look into this process; nor can the grader without privileges
    gc.freeze()
    control = socket.socket(fileno=int(fd))
    control.send(b"r")
    with contextlib.suppress(OSError):  # ends when the grader hangs up, or no more can be forked
        while True:
            said, fds, *_ = socket.recv_fds(control, 1, 1)
            if not said:
                return
            end_children(alone == "yes")
            if os.fork() == 0:
                control.close()
                child(code, fds[0], int(processes))
            os.close(fds[0])
            control.send(b"f")


def first_in_line_where_memory_runs_out():
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def end_children(alone):
    """Kill everything that the last child left running."""
    if alone:
        try:
            os.kill(-1, signal.SIGKILL)  # all but this process itself
        except ProcessLookupError:
            pass
    elif sys.platform == "linux":
        import psutil

        while left := [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]:
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=0.1)
    while True:
        try:
            os.waitpid(-1, 0 if alone else os.WNOHANG)
        except ChildProcessError:
            return


def child(code, fd, processes):
    """Answer on this socket until it closes; then end, whatever the student's code has started."""
    from course.sandbox.child import serve
    from course.sandbox.messages import Link

    try:
        os.setsid()
        limit(processes)
        sys.path.insert(1, code)
        sys.dont_write_bytecode = True
        serve(Link(socket.socket(fileno=fd)), code)
    finally:
        os._exit(0)


def limit(processes):
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    for what, value in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + EXTRA_MEMORY),
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_NPROC, processes),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    main(*sys.argv[1:])
