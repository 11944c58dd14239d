"""The names that platforms, browsers and file managers make of a file's name, and which of several is the last."""

import time
from pathlib import PurePosixPath

import pytest

from course.intake.names import attempt, is_version, last

DDPM = [
    "DDPM.py", "ddpm.py", "DDPM.PY", "DDPM.py.txt", "DDPM-1.py", "DDPM (2).py", "DDPM(1).py", "DDPM 2.py", "DDPM copy.py", "DDPM copy 3.py",
    "DDPM - Copy.py", "DDPM - Copy (2).py", "DDPM - Kopie.py", "Copy of DDPM.py", "DDPM-2 (1).py", "someone_101_202_DDPM.py",
    "doejane_12345_678910_DDPM.py", "doejane_LATE_12345_678910_DDPM-2.py", "HW5_jdoe_attempt_2026-11-20-14-22-11_DDPM.py",
    "Jane Doe_123456_assignsubmission_file_DDPM.py", "101-202 - Jane Doe - Nov 20, 2026 223 PM - DDPM.py",
]  # fmt: skip
NOT_DDPM = [
    "DDPM", "DDPM.pyc", "DDPM.txt", "test_DDPM.py", "old_DDPM.py", "jane_DDPM.py", "DDPM_final.py", "myDDPM.py", "DDPM2.py", "DDPM-1234.py",
    "ConditionalDDPM.py", "ConditionalDDPM.ipynb", "101DDPM.py", "DDPM.py.zip", "DDPMxpy", "",
]  # fmt: skip


@pytest.mark.parametrize("name", DDPM)
def test_a_name_as_platforms_change_it(name):
    assert is_version(name, "DDPM.py")
    assert not is_version(name, "ResUNet.py")


@pytest.mark.parametrize("name", NOT_DDPM)
def test_a_name_that_only_looks_alike(name):
    assert not is_version(name, "DDPM.py")


@pytest.mark.parametrize(
    "name", ["_1" * 120, "1" * 240, "_" * 240, "copy " * 48, "DDPM" + "-1" * 118, "(1)" * 80, "1-" * 120, " 1 pm - " * 30]
)
def test_no_name_takes_long(name):
    start = time.process_time()
    for _ in range(1000):
        is_version(name, "DDPM.py")
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    "times, expected",
    [
        ({"DDPM.py": 0, "DDPM-1.py": 0}, "DDPM-1.py"),
        ({"DDPM-2.py": 0, "DDPM-10.py": 0}, "DDPM-10.py"),
        ({"a/attempt 9/x": 0, "a/attempt 10/x": 0}, "a/attempt 10/x"),
        ({"submission_12345678": 5, "submission_12345679": 0}, "submission_12345679"),
        ({"attempt_2026-11-20-14-22-11": 0, "attempt_2026-11-19-23-59-59": 3}, "attempt_2026-11-20-14-22-11"),
        ({"DDPM.py": 1000, "DDPM-1.py": 0}, "DDPM.py"),
        ({"second": 0, "first": 60}, "first"),
        ({"first": 0, "second": 60}, "second"),
        ({".": 0, "backup": 3}, "."),
        ({".": 0, "backup": 3000}, "backup"),
        ({"DDPM copy.py": 3, "DDPM.py": 0}, "DDPM.py"),
        ({"first": 0, "second": 3}, "second"),
    ],
)
def test_the_last(times, expected):
    assert last({PurePosixPath(path): age for path, age in times.items()}) == PurePosixPath(expected)


def test_files_of_one_attempt():
    blackboard = [attempt(PurePosixPath(f"x/HW_jd_attempt_2026-11-{day}-14-22-11_{name}")) for day in (19, 20) for name in ("a.py", "b.py")]
    assert blackboard[0] == blackboard[1] != blackboard[2] == blackboard[3]
    assert attempt(PurePosixPath("x/jd_1_2_a.py")) == attempt(PurePosixPath("x/jd_1_3_b.py")) == PurePosixPath("x")
