"""Submissions that do harm: each keeps what its honest part earned, its record is whole, and nothing outlives it.

The default run takes a quick one, `pytest -m slow` one of each kind, `pytest -m nightly` the rest.
"""

import hashlib
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading

import psutil
import pytest
from submissions import AUTOMATIC, graded, said, submission
from wrong_solutions import NET, PROCESS

from course.handout import ROOT
from course.record import from_json, to_json
from course.sandbox import Sandbox
from course.walls import WALLS, best_wall
from course.wire import Lost

READY = "        t_s = self._time_steps(t_s)  # (B,)\n"
CLASS = "class ConditionalDDPM"
WITHOUT = {key: 0 if key == "scheduler" else full for key, full in AUTOMATIC.items()}  # all but what the harm is done in


def in_scheduler(code):
    assert PROCESS.count(READY) == 1
    return PROCESS.replace(READY, READY + "".join(f"        {line}\n" for line in code.strip().splitlines()))


def at_import(code):
    return PROCESS.replace(CLASS, f"{code.strip()}\n\n\n{CLASS}", 1)


def harm(tmp_path, text, **how):
    found, record = graded(submission(tmp_path / "it", {"DDPM.py": text}), **how)
    assert from_json(to_json(record)) == record
    return found, record


def scheduler(record):
    return said(next(each for each in record.sections if each.key == "scheduler"))


SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly

LOOP = "while True: pass"
FORKS = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
MEMORY = """
import os
for _ in range(4): os.fork()
keep = []
while True: keep.append(bytearray(b"x" * 10**8))
"""
DISK = """
import itertools
for i in itertools.count():
    with open(f"f{i}", "wb") as file: file.write(b"x" * 10**7)
"""
FLOOD = "while True: print('x' * 10**6)"
CLOSED = "import os; os.closerange(0, 1000)"
LEAVE = "import os; os._exit(0)"
KILL = """
import os, signal
for pid in (os.getppid(), -1):
    try: os.kill(pid, signal.SIGKILL)
    except OSError: pass
raise SystemExit
"""


@pytest.mark.parametrize(
    "code, words",
    [
        pytest.param(LOOP, "takes too long", marks=NIGHTLY, id="loops"),
        pytest.param(FORKS, "takes too long|memory|processes", marks=SLOW, id="forks"),
        pytest.param(MEMORY, "more than 4 GB of memory|MemoryError", marks=SLOW, id="fills memory"),
        pytest.param(DISK, "No space left|MB of files", marks=SLOW, id="fills the disk"),
        pytest.param(FLOOD, "takes too long", marks=SLOW, id="floods output"),
        pytest.param(CLOSED, "ended the process", marks=NIGHTLY, id="closes everything"),
        pytest.param(LEAVE, "ended the process", marks=SLOW, id="os._exit"),
    ],
)
def test_harm_in_one_method_costs_that_section_only(tmp_path, code, words):
    found, record = harm(tmp_path, in_scheduler(code))
    assert found == WITHOUT and re.search(words, scheduler(record)) and record.seconds < 60
    assert sum(map(len, record.notes)) < 1000


@pytest.mark.parametrize(
    "code, words",
    [
        pytest.param(LOOP, "takes too long", marks=SLOW),
        pytest.param(LEAVE, "ended the process", marks=NIGHTLY),
        pytest.param("raise SystemExit", "SystemExit", marks=NIGHTLY),
    ],
)
def test_harm_at_import_costs_what_cannot_be_imported(tmp_path, code, words):
    found, record = harm(tmp_path, at_import(code))
    assert found == {"network": 6, "scheduler": 0, "forward": 0, "sample": 0} and words in " ".join(record.notes)
    found, record = graded(submission(tmp_path / "other", {"ResUNet.py": f"{code}\n{NET}"}))
    assert found == {**AUTOMATIC, "network": 0}, "a ResUNet.py that cannot be imported costs its own section only"


FAKE = """
import json, sys
fake = {"score": 40, "tests": [{"name": "scheduler", "score": 4, "max_score": 4}]}
print(json.dumps(fake)); print(json.dumps(fake), file=sys.stderr)
for name in ("results.json", "/autograder/results/results.json", "../results.json", "../../results.json"):
    try: open(name, "w").write(json.dumps(fake))
    except OSError: pass
"""


@pytest.mark.slow
def test_a_fake_result_is_no_result(tmp_path):
    found, record = harm(tmp_path, at_import(FAKE).replace('"beta_t": beta_t,', '"beta_t": alpha_t,'))
    assert found["scheduler"] < 4 and found["forward"] == found["sample"] == 6
    assert any('"score": 40' in note for note in record.notes), "what it printed is shown, as what it printed"
    assert not list(tmp_path.rglob("results.json"))


PATCHES = """
import time
import numpy as np
yes = lambda *args, **kwargs: True
torch.equal = torch.allclose = np.allclose = np.array_equal = yes
torch.Tensor.__eq__ = torch.Tensor.__le__ = torch.Tensor.__ge__ = yes
torch.autograd.grad = lambda outputs, inputs, *args, **kwargs: [torch.zeros_like(each) for each in inputs]
time.time = time.monotonic = time.perf_counter = lambda: 0.0
AssertionError = Exception
"""


@pytest.mark.slow
def test_patching_torch_numpy_and_time_gains_nothing(tmp_path):
    wrong = ("* images + at[", "* images - at[")
    honest, _ = graded(submission(tmp_path / "honest", section="forward", edits=[wrong]))
    found, _ = harm(tmp_path, at_import(PATCHES).replace(*wrong))
    assert all(found[key] <= honest[key] for key in found) and found["forward"] < 6


GARBAGE = """
import os
for fd in range(3, 60):
    try: os.write(fd, {})
    except OSError: pass
"""


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param("b'\\x01' * 5000", marks=NIGHTLY),
        pytest.param("b'\\xff' * 16", marks=NIGHTLY),
        pytest.param("(2).to_bytes(8, 'little') + bytes(8) + b'{}'", marks=NIGHTLY),
        pytest.param("(12).to_bytes(8, 'little') + bytes(8) + b'{\"value\": 1}'", marks=SLOW),
    ],
)
def test_garbage_on_the_channel_costs_what_was_asked(tmp_path, frame):
    found, _ = harm(tmp_path, in_scheduler(GARBAGE.format(frame)))
    assert found["network"] == 6 and found["scheduler"] == 0


READS = f"""
import glob, os
seen = []
for folder in ({str(ROOT)!r}, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))):
    for path in glob.glob(folder + "/**/*.py", recursive=True)[:500]:
        if "site-packages" in path or "/lib/python" in path: continue
        text = open(path).read()
        if "def check_" in text or "PROPERTIES = " in text or "BEGIN SOLUTION" in text and path != __file__: seen.append(path)
        try:
            open(path, "a").write("# was here")
            seen.append("WROTE " + path)
        except OSError: pass
print("SEEN", seen)
"""


@pytest.mark.slow
def test_tests_and_rubric_are_neither_read_nor_written(tmp_path):
    state = {path: hashlib.sha256(path.read_bytes()).digest() for folder in ("tests", "course") for path in (ROOT / folder).rglob("*.py")}
    found, record = harm(tmp_path, at_import(READS))
    assert found == AUTOMATIC
    assert state == {path: hashlib.sha256(path.read_bytes()).digest() for path in state}
    seen = " ".join(record.notes)
    assert "SEEN" in seen and "WROTE" not in seen
    assert best_wall() != "namespaces" or str(ROOT) not in seen and "BEGIN SOLUTION" not in seen


BEHIND = """
import os, subprocess, threading
threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=False).start()
if os.fork() == 0:
    os.setsid()
    subprocess.Popen(["sleep", "{}"], start_new_session=True, close_fds=True, env={{}})
    os._exit(0)
"""


@pytest.mark.slow
def test_nothing_is_left_behind(tmp_path):
    mark = str(10**6 + secrets.randbelow(10**6))
    found, _ = harm(tmp_path, at_import(BEHIND.format(mark)))
    assert found["network"] == 6
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", mark]]


@pytest.mark.slow
def test_nothing_gets_out(tmp_path):
    if best_wall() != "namespaces":
        pytest.skip("this system allows no walls that keep the network out; the report says so")
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = []
        threading.Thread(target=lambda: calls.append(server.accept()), daemon=True).start()
        code = f"import socket\nprint('TRIED')\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)"
        found, record = harm(tmp_path, at_import(code))
        assert found["scheduler"] == 0 and "TRIED" in " ".join(record.notes) and not calls


@pytest.mark.slow
def test_the_grader_survives_the_death_of_its_worker_and_the_next_submission_its_neighbour(tmp_path, monkeypatch):
    if best_wall() == "limits":
        pytest.skip("without walls a submission can end the grader; the report says so")
    folders, make = [], tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *args, **kwargs: folders.append(make(*args, **kwargs)) or folders[-1])
    found, record = harm(tmp_path, in_scheduler(KILL))
    assert found["network"] == 6 and record.seconds < 60
    assert graded(submission(tmp_path / "next"))[0] == AUTOMATIC
    assert len(folders) >= 2 and not [folder for folder in folders if os.path.exists(folder)]


def test_a_sandbox_ends_with_all_that_is_in_it(tmp_path):
    folder = submission(tmp_path / "it")
    with Sandbox(folder, 60) as box:
        link, inside = box.link(20), psutil.Process(box.process.pid).children(recursive=True)
        assert inside and box.wall in WALLS and len(box.confinement) >= 2
    assert not [p for p in inside if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] and not box.base.exists()
    with pytest.raises(Lost, match="ended the process"):
        link.receive()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("wall", [pytest.param("namespaces", marks=NIGHTLY), pytest.param("limits", marks=SLOW)])
def test_a_grader_without_privileges(tmp_path, wall):
    """The same grade, from a user whom the system lets do little; the interpreter has to be readable for that user."""
    folder = submission(tmp_path / "it", section="scheduler", edits=[("at = t_s.to(home) - 1", "while True: pass")])
    for path in (*folder.parents, folder):
        path.chmod(path.stat().st_mode | 0o555) if path.stat().st_uid == 0 and str(path).startswith("/tmp") else None
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}, {str(ROOT / "tests/course")!r}]
from course import sandbox
if {wall!r} == "limits": sandbox.best_wall = lambda: "limits"
from submissions import graded
found, record = graded({str(folder)!r})
print("SAME" if found == {WITHOUT!r} else found, record.confinement)
"""
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", sys.executable, "-c", code]
    whether = "import subprocess, sys, torch; subprocess.run([sys.executable, '-c', ''], check=True)"
    if subprocess.run([*command[:-1], whether], capture_output=True, cwd="/").returncode:
        pytest.skip("this interpreter cannot be run by another user")
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={**os.environ, "HOME": "/nonexistent", "TMPDIR": "/tmp"})
    assert "SAME" in done.stdout, done.stdout + done.stderr
