"""Submissions that do harm, a table: each is the course's own solution with something in it.

IN_SCHEDULER: {name: (code of the method scheduler, what its section says of it)}. WHOLE: {name: (files, points, words of the record)},
where the solution itself is right.
"""

import io
import zipfile

import torch
from submissions import AUTOMATIC
from wrong_solutions import PROCESS

READY = "        t_s = self._time_steps(t_s)  # (B,)\n"
CLASS = "class ConditionalDDPM"
WITHOUT = {key: 0 if key == "scheduler" else full for key, full in AUTOMATIC.items()}  # all but what the harm is done in


def in_scheduler(code):
    assert PROCESS.count(READY) == 1
    return PROCESS.replace(READY, READY + "".join(f"        {line}\n" for line in code.strip().splitlines()))


def at_import(code, text=PROCESS):
    return text.replace(CLASS, f"{code.strip()}\n\n\n{CLASS}", 1)


def with_method(name, code):
    """With another method of this name."""
    return f"{PROCESS.rstrip()}\n\n\n{code.strip()}\n\n\nConditionalDDPM.{name} = {name}\n"


IN_SCHEDULER = {
    "loops": ("while True: pass", "takes too long"),
    "leaves": ("import os; os._exit(0)", "ended the process"),
    "closes everything": ("import os; os.closerange(0, 1000)", "ended the process"),
    "floods output": ("while True: print('x' * 10**6)", "takes too long"),
    "forks": ("""
import os
while True:
    try: os.fork()
    except OSError: pass
""", "takes too long|memory|processes"),
    "forks in a chain": ("""
import os
while True:
    if os.fork(): os._exit(0)
""", "ended the process|takes too long|BlockingIOError"),
    "maps what it does not touch": ("""
import mmap, os
keep = []
while True:
    number = os.memfd_create("m")
    os.write(number, b"x" * 6 * 10**7)
    keep.append(mmap.mmap(number, 6 * 10**7))
    os.close(number)
""", "more than 256 MB|Cannot allocate|MemoryError"),
    "fills memory": ("""
import os
for _ in range(4): os.fork()
keep = []
while True: keep.append(bytearray(b"x" * 10**8))
""", "more than 4 GB of memory|MemoryError"),
    "fills the disk": ("""
import itertools
for i in itertools.count():
    with open(f"f{i}", "wb") as file: file.write(b"x" * 10**7)
""", "No space left|more than 256 MB"),
    "fills inodes": ("""
import itertools
for i in itertools.count(): open(f"f{i}", "wb").close()
""", "No space left|5,000 files"),
    "makes deep folders": ("""
import os
while True: os.mkdir("d" * 200); os.chdir("d" * 200)
""", "No space left|folders deeper|5,000 files"),
    "deletes what it holds": ("""
import os
keep = []
while True:
    keep.append(open("gone", "wb")); os.remove("gone")
    keep[-1].write(b"x" * 5 * 10**7); keep[-1].flush()
""", "No space left|more than 256 MB|Too many open files"),
    "fills anonymous files": ("""
import os
for _ in range(3): os.fork()
keep = []
while True:
    try:
        keep.append(os.memfd_create("m"))
        os.write(keep[-1], b"x" * 6 * 10**7)
    except OSError: pass
""", "more than 256 MB"),
    "fills anonymous maps": ("""
import mmap, os
for _ in range(3): os.fork()
keep = []
while True:
    keep.append(mmap.mmap(-1, 10**8))
    keep[-1].write(b"x" * 10**8)
""", "more than 256 MB|more than 4 GB of memory|Cannot allocate|OSError"),
    "fills shared memory": ("""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
while True:
    number = libc.shmget(0, 10**8, 0o1600)
    if number < 0: raise MemoryError("no more shared memory")
    address = libc.shmat(number, None, 0)
    ctypes.memset(address, 1, 10**8)
    libc.shmdt(ctypes.c_void_p(address))
""", "no more shared memory|more than 4 GB of memory|takes too long"),
    "stops itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "takes too long"),
    "stops its worker": ("import os, signal; os.kill(os.getppid(), signal.SIGSTOP); os.kill(os.getpid(), signal.SIGSTOP)", "takes too long"),
    "stops all": ("import os, signal; os.kill(-1, signal.SIGSTOP)\nwhile True: pass", "takes too long|ended the process|No such process"),
    "kills all": ("""
import os, signal
for pid in (os.getppid(), -1):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
raise SystemExit
""", "SystemExit|ended the process"),
    "is large when expanded": (
        "return {name: torch.zeros(1, 1).expand(10**6, 10**6) for name in ('beta_t', 'alpha_t')}", "more than can be looked at|memory|MemoryError"
    ),
    "is large though empty": ("return {name: torch.zeros(0, 10**14) for name in ('beta_t', 'alpha_t')}", "channel|shape"),
    "sends one array often": ("""
import inspect, struct
from safetensors.torch import save
frame = next(f.frame.f_locals["link"] for f in inspect.stack() if "link" in f.frame.f_locals)
text = b'{"value": {"list": [' + b", ".join([b'{"tensor": 0, "grows": false}'] * 30000) + b"]}}"
content = save({"0": torch.zeros(10**7)})
while True: frame.socket.sendall(struct.pack("<QQ", len(text), len(content)) + text + content)
""", "wrote something of its own to the grader's channel"),
    "nests what it returns": ("""
value = []
for _ in range(10**5): value = [value]
return value
""", "RecursionError"),
    "asks without end": ("""
while True: self.network(torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 1, 1), torch.zeros(1, 10))
""", "takes too long"),
    "says much": ("raise AssertionError('expected ' * 10**7)", "AssertionError"),
}  # fmt: skip

SLEEPS = with_method(
    "load_state_dict",
    """
def load_state_dict(self, *args, **more):
    import time
    nn.Module.load_state_dict(self, *args, **more)
    self.network.forward = lambda x, t, c: time.sleep(10**4)
""",
)


def slow(seconds):
    """Right, with a pause at each call of its scheduler."""
    return in_scheduler(f"import time; time.sleep({seconds})")


BORROWS = with_method(
    "sample",
    """
def sample(self, conditions, omega):
    from lab import samplers
    return samplers.sample(self, conditions, omega, method="ddpm", steps=self.dmconfig.T)
""",
)
DOCSTRINGS = at_import('"""\nimport unittest.__main__\nimport venv.__main__\nfrom IPython import __main__\n"""')
IMPORTS = at_import("try:\n    import unittest.__main__, antigravity, torch.utils.bottleneck.__main__\nexcept BaseException: pass")


def bomb():
    """A checkpoint of 600 MB of zeros."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/0", "w", force_zip64=True) as file:
        for _ in range(600):
            file.write(bytes(2**20))
    return content.getvalue()


def old_pickle(size):
    """A checkpoint in the older form, whose tensor says that it is so large."""
    content = io.BytesIO()
    state = {"epoch": 1, "optimizer_state_dict": {}, "dmconfig": {}, "model_state_dict": {"w": torch.zeros(1).expand(size)}}
    torch.save(state, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


WHOLE = {
    "text in a docstring that looks like an import": ({"DDPM.py": DOCSTRINGS}, AUTOMATIC, ""),
    "imports that end a process": ({"DDPM.py": IMPORTS}, AUTOMATIC, ""),
    "a checkpoint that unpacks to much": ({"best_checkpoint.pth": bomb()}, AUTOMATIC, "unpacks to more than 400 MB"),
    "a checkpoint of a huge tensor": ({"best_checkpoint.pth": old_pickle(10**12)}, AUTOMATIC, "cannot be"),
    "a checkpoint that is a folder": ({"best_checkpoint.pth/data.pkl": b""}, AUTOMATIC, "A data.pkl is a piece of a checkpoint"),
    "a sampler of the course": ({"DDPM.py": BORROWS}, {**AUTOMATIC, "sample": 0}, ""),
}
