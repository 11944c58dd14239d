"""Submissions that do harm: each keeps what its honest part earned, its record is whole, and nothing outlives it.

The default run takes a quick one, `pytest -m slow` one of each kind and looks at two sections, `pytest -m nightly` all of them, all
sections, behind all walls.
"""

import hashlib
import os
import random
import re
import secrets
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
from hostile import IN_SCHEDULER, SLEEPS, WHOLE, WITHOUT, at_import, in_scheduler, slow
from submissions import AUTOMATIC, graded, only, said, submission, weights
from wrong_solutions import NET, PROCESS

from course.grading import grading, guard
from course.grading.classroom import default_jobs
from course.handout.handout import ROOT
from course.report.record import from_json, to_json
from course.sandbox.folder import USERS
from course.sandbox.isolation import WALLS, best_wall
from course.sandbox.messages import Lost
from course.sandbox.sandbox import Sandbox

SLOWLY, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
FORWARD = {"scheduler": 0, "forward": AUTOMATIC["forward"]}  # where harm is done in one of two_sections
LIMIT = 125  # seconds: twice the grader's limit, which a busy machine may take, and what ends it


def harm(tmp_path, files):
    """({section: points}, the record) of a submission with these files, or with this DDPM.py."""
    files = files if isinstance(files, dict) else {"DDPM.py": files}
    record = grading.grade(submission(tmp_path / "it", files))
    assert from_json(to_json(record)) == record and record.seconds < LIMIT and sum(map(len, record.notes)) < 2000
    return {each.key: each.points for each in record.sections if each.key in grading.SECTIONS}, record


def words_of(record):
    """What a record says of the scheduler, of the training, and of the whole."""
    scheduler, training = (next(each for each in record.sections if each.key == key) for key in ("scheduler", "training"))
    return " ".join([said(scheduler), *training.notes, *record.notes])


@pytest.fixture
def two_sections(monkeypatch):
    """Of the checked sections only one in which harm is done, and one that is right."""
    only(monkeypatch, "scheduler", "forward")


ONE_OF_A_KIND = ["forks", "fills memory", "fills inodes", "fills anonymous files", "stops its worker", "is large when expanded",
                 "sends one array often", "asks without end"]  # fmt: skip


@pytest.mark.parametrize("name", ["leaves", *(pytest.param(name, marks=SLOWLY) for name in ONE_OF_A_KIND)])
def test_harm_in_one_method_costs_that_section_only(tmp_path, two_sections, name):
    code, words = IN_SCHEDULER[name]
    found, record = harm(tmp_path, in_scheduler(code))
    assert found == FORWARD and re.search(words, words_of(record)), record


@NIGHTLY
@pytest.mark.parametrize("name", IN_SCHEDULER)
def test_all_other_sections_keep_their_points(tmp_path, name):
    found, record = harm(tmp_path, in_scheduler(IN_SCHEDULER[name][0]))
    assert found == WITHOUT and re.search(IN_SCHEDULER[name][1], words_of(record)), record


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOWLY if "bomb" in name or "sampler" in name else NIGHTLY) for name in WHOLE])
def test_what_is_right_keeps_its_points_whatever_lies_beside_it(tmp_path, name):
    files, points, words = WHOLE[name]
    found, record = harm(tmp_path, files)
    assert found == points and re.search(words, words_of(record)), record


@NIGHTLY
def test_a_checkpoint_whose_network_sleeps(tmp_path):
    folder = submission(tmp_path / "it", {"DDPM.py": SLEEPS})
    weights(folder / "best_checkpoint.pth")
    found, record = graded(folder)
    assert found == AUTOMATIC and record.sections[4].points is None and record.seconds < LIMIT
    assert "best_checkpoint.pth cannot be sampled: Your code takes too long" in words_of(record)


@pytest.mark.parametrize("pause", [pytest.param(0.02, marks=NIGHTLY), pytest.param(0.5, marks=NIGHTLY)])
def test_what_is_only_slow_has_a_record_in_time(tmp_path, pause):
    found, record = harm(tmp_path, slow(pause))
    assert found["network"] == AUTOMATIC["network"] and record.seconds < LIMIT
    assert all(points in (0, AUTOMATIC[key]) for key, points in found.items()), "nothing is taken for wrong that was not looked at"


@pytest.mark.parametrize(
    "code, words",
    [
        pytest.param("while True: pass", "takes too long", marks=SLOWLY),
        pytest.param("import os; os._exit(0)", "ended the process", marks=NIGHTLY),
        pytest.param("raise SystemExit", "SystemExit", marks=NIGHTLY),
    ],
)
def test_harm_at_import_costs_what_cannot_be_imported(tmp_path, code, words):
    found, record = harm(tmp_path, at_import(code))
    assert found == {**dict.fromkeys(AUTOMATIC, 0), "network": AUTOMATIC["network"]} and words in " ".join(record.notes)


@NIGHTLY
@pytest.mark.parametrize("code", ["while True: pass", "raise SystemExit"])
def test_a_network_that_cannot_be_imported_costs_its_own_section_only(tmp_path, code):
    found, _ = harm(tmp_path, {"ResUNet.py": f"{code}\n{NET}"})
    assert found == {**AUTOMATIC, "network": 0}


FAKE = """
import json, sys
fake = {"score": 40, "tests": [{"name": "scheduler", "score": 4, "max_score": 4}]}
print(json.dumps(fake)); print(json.dumps(fake), file=sys.stderr)
for name in ("results.json", "/autograder/results/results.json", "../results.json", "../../results.json"):
    try: open(name, "w").write(json.dumps(fake))
    except OSError: pass
"""


@SLOWLY
def test_a_fake_result_is_no_result(tmp_path, two_sections):
    found, record = harm(tmp_path, at_import(FAKE).replace('"beta_t": beta_t,', '"beta_t": alpha_t,'))
    assert found["scheduler"] < AUTOMATIC["scheduler"] and found["forward"] == AUTOMATIC["forward"]
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


@SLOWLY
def test_patching_torch_numpy_and_time_gains_nothing(tmp_path, two_sections):
    wrong = ("* images + at[", "* images - at[")
    honest, _ = harm(tmp_path / "honest", PROCESS.replace(*wrong))
    found, _ = harm(tmp_path, at_import(PATCHES).replace(*wrong))
    assert all(found[key] <= honest[key] for key in found) and found["forward"] < AUTOMATIC["forward"]


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
        pytest.param("(12).to_bytes(8, 'little') + bytes(8) + b'{\"value\": 1}'", marks=SLOWLY),
    ],
)
def test_garbage_on_the_channel_costs_what_was_asked(tmp_path, two_sections, frame):
    found, _ = harm(tmp_path, in_scheduler(GARBAGE.format(frame)))
    assert found == FORWARD


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


@SLOWLY
def test_tests_and_rubric_are_neither_read_nor_written(tmp_path, two_sections):
    state = {path: hashlib.sha256(path.read_bytes()).digest() for folder in ("tests", "course") for path in (ROOT / folder).rglob("*.py")}
    found, record = harm(tmp_path, at_import(READS))
    assert found == {**FORWARD, "scheduler": AUTOMATIC["scheduler"]}
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


@SLOWLY
def test_nothing_is_left_behind(tmp_path, two_sections):
    mark = str(10**6 + secrets.randbelow(10**6))
    harm(tmp_path, at_import(BEHIND.format(mark)))
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", mark]]


@SLOWLY
def test_nothing_gets_out(tmp_path, two_sections):
    if best_wall() != "namespaces":
        pytest.skip("this system allows no walls that keep the network out; the report says so")
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls = []
        threading.Thread(target=lambda: calls.append(server.accept()), daemon=True).start()
        code = f"import socket\nprint('TRIED')\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 1)"
        found, record = harm(tmp_path, at_import(code))
        assert found["scheduler"] == 0 and "TRIED" in " ".join(record.notes) and not calls


def test_a_sandbox_ends_with_all_that_is_in_it(tmp_path):
    folder = submission(tmp_path / "it")
    with Sandbox(folder, 60) as box:
        link, inside = box.link(20), psutil.Process(box.process.pid).children(recursive=True)
        assert inside and box.wall in WALLS and len(box.confinement) >= 2
    assert not [p for p in inside if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] and not box.base.exists()
    with pytest.raises(Lost, match="ended the process"):
        link.receive()


NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]
BEHIND_WALLS = """
import json, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests", {root!r} + "/tests/course"]
from course.grading import grading
from course.sandbox import sandbox
from course.report.record import to_json
sandbox.best_wall = lambda: {wall!r}
if {two}: grading.SECTIONS = {{key: grading.SECTIONS[key] for key in ("scheduler", "forward")}}
print("RECORD" + to_json(grading.grade({folder!r})))
"""


def behind(wall, user, folder, two=True):
    """The record that a user's grader, root's or nobody's, makes of a submission behind this wall."""
    for path in (*folder.parents, folder):
        path.chmod(path.stat().st_mode | 0o555) if path.stat().st_uid == 0 and str(path).startswith("/tmp") else None
    command = [*(NOBODY if user == "nobody" else []), sys.executable, "-c"]
    if subprocess.run([*command, "import subprocess, sys, torch; subprocess.run([sys.executable, '-c', ''], check=True)"],
                      capture_output=True, cwd="/").returncode:  # fmt: skip
        pytest.skip("this interpreter cannot be run by another user")
    code = BEHIND_WALLS.format(root=str(ROOT), wall=wall, two=two, folder=str(folder))
    environment = {**os.environ, "HOME": "/nonexistent", "TMPDIR": "/tmp"}
    done = subprocess.run([*command, code], capture_output=True, text=True, cwd="/", env=environment, timeout=200)
    assert "RECORD" in done.stdout, done.stdout + done.stderr
    return from_json(done.stdout.partition("RECORD")[2])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    "name", [pytest.param("leaves", marks=SLOWLY), *(pytest.param(n, marks=NIGHTLY) for n in IN_SCHEDULER if n != "leaves")]
)
@pytest.mark.parametrize("user, wall", [("root", "user"), ("nobody", "namespaces"), ("nobody", "limits")])
def test_behind_the_other_walls(tmp_path, user, wall, name):
    """As root without namespaces, and as a user whom the system lets do little; the interpreter has to be readable for that user."""
    if wall == "limits" and name in ("kills all", "stops all"):
        pytest.skip("without walls a submission can end the grader; the report says so")
    code, words = IN_SCHEDULER[name]
    record = behind(wall, user, submission(tmp_path / "it", {"DDPM.py": in_scheduler(code)}))
    found = {each.key: each.points for each in record.sections if each.key in ("scheduler", "forward")}
    assert found == FORWARD and re.search(words, words_of(record)) and record.seconds < LIMIT, record
    if user == "root":
        theirs = [each for each in psutil.process_iter(["uids", "status"]) if each.info["uids"] and each.info["uids"].real in USERS]
        left = [each for each in theirs if each.info["status"] != psutil.STATUS_ZOMBIE]  # which runs nothing, and waits for its new parent
        assert not left and not any(line.split()[7].isdigit() and int(line.split()[7]) in USERS for line in open("/proc/sysvipc/shm"))


@NIGHTLY
def test_a_class_of_good_and_hostile_ones(tmp_path):
    """The good ones keep their points, every time, in at most twice the time that they take alone; nothing is left of any of them."""
    good = {f"good {i}": submission(tmp_path / f"good {i}") for i in range(10)}
    kinds = {
        **{name: {"DDPM.py": in_scheduler(code)} for name, (code, _) in IN_SCHEDULER.items()},
        **{name: it[0] for name, it in WHOLE.items()},
    }
    kinds |= {
        "sleeps": {"DDPM.py": SLEEPS},
        "slow": {"DDPM.py": slow(0.5)},
        "does nothing at import": {"DDPM.py": at_import("while True: pass")},
    }
    names = random.sample(sorted(kinds), 10)
    hostile = {name: submission(tmp_path / name, kinds[name]) for name in names}
    weights(hostile["sleeps"] / "best_checkpoint.pth") if "sleeps" in hostile else None
    start = time.monotonic()
    alone = {name: record.points for name, record, _ in guard.graded(good, default_jobs())}
    middle = time.monotonic()
    every = list({**good, **hostile}.items())
    random.shuffle(every)
    together = {name: record.points for name, record, _ in guard.graded(dict(every), default_jobs())}
    took, both = middle - start, time.monotonic() - middle
    print(f"{took:.0f} s alone, {both:.0f} s together with {', '.join(names)}")
    assert set(alone.values()) == {sum(AUTOMATIC.values())} and alone.items() <= together.items() and together.keys() == {*good, *hostile}
    assert both <= 2 * took, f"{both:.0f} s beside {', '.join(names)}; {took:.0f} s alone"
