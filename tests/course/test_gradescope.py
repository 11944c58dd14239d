"""The upload for Gradescope: what is in it, and that it grades in the layout of that platform."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from course.handout.handout import ROOT, leaks
from course.platforms.gradescope import HERE, upload

SECONDS, CORES, BYTES = 600, {min(os.sched_getaffinity(0))} if hasattr(os, "sched_getaffinity") else None, 1.5e9
SYSTEM_BYTES = 0.3e9  # Ubuntu's image with Python
NOT_THERE = ("diffusers", "sklearn", "torchmetrics", "IPython", "nbconvert", "nbclient", "jupyter")
CUDA = re.compile(r"nvidia|triton|cuda|cudnn|nccl|cupti|nvshmem")  # what torch's wheels for CPUs leave out


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    """/autograder, as the platform makes it: source from the zip, run_autograder beside it, an empty results."""
    root = tmp_path_factory.mktemp("autograder")
    upload(root / "upload.zip")
    for name in ("source", "submission", "results"):
        (root / name).mkdir()
    with zipfile.ZipFile(root / "upload.zip") as archive:
        for info in archive.infolist():
            Path(archive.extract(info, root / "source")).chmod(info.external_attr >> 16 & 0o777)
    shutil.copy(root / "source" / "run_autograder", root)
    return root


def test_what_is_in_it(autograder):
    source = autograder / "source"
    for name in ("setup.sh", "run_autograder"):
        assert os.access(source / name, os.X_OK) and (source / name).read_bytes().startswith(b"#!/usr/bin/env bash\n")
        assert subprocess.run(["bash", "-n", source / name]).returncode == 0
    there = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert {
        "course/grading/grading.py",
        "lab/weights/judge.safetensors",
        "tests/test_sample.py",
        "tests/checks/sample.py",
        "config.py",
    } <= there
    assert not [
        name
        for name in there
        if name.endswith((".pyc", ".ipynb", "digits.safetensors", "few.safetensors", "second.safetensors", "wrong_solutions.py"))
        or "/." in name
    ]
    assert all("raise NotImplementedError" in (source / name).read_text() for name in ("ResUNet.py", "DDPM.py"))
    assert not leaks(source)
    shutil.copy(ROOT / "DDPM.py", source)
    assert leaks(source)


def test_the_same_course_gives_the_same_zip(tmp_path):
    for name in ("a.zip", "b.zip"):
        upload(tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_it_fits_into_the_image(autograder):
    """The zip, and what setup.sh installs: the sizes of these packages here, without torch's part for GPUs."""
    needed = ["torch", "torchvision", "pip", "setuptools", *map(required, (HERE / "requirements.txt").read_text().splitlines())]
    sizes = {}
    while needed:
        name = needed.pop()
        if name and name not in sizes and not CUDA.match(name):
            try:
                found = distribution(name)
            except PackageNotFoundError:
                assert name in ("pip", "setuptools") or sizes, f"{name} is not installed"
                continue
            files = [Path(file.locate()) for file in found.files or () if not CUDA.search(file.name)]
            sizes[name] = sum(file.stat().st_size for file in files if file.is_file())
            needed += [required(line) for line in found.requires or () if "extra ==" not in line]
    total = (autograder / "upload.zip").stat().st_size + sum(sizes.values())
    print(f"\nupload.zip {(autograder / 'upload.zip').stat().st_size / 1e6:.1f} MB, with {len(sizes)} packages {total / 1e9:.2f} GB")
    assert sizes["torch"] > 1e8 and total + SYSTEM_BYTES < BYTES, sorted(sizes.items(), key=lambda pair: -pair[1])[:5]


def required(line):
    """The name of a package in a line of requirements, "" for a comment."""
    return re.match(r"[\w.-]*", line)[0].lower().replace("_", "-")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Gradescope runs Linux")
def test_it_grades_on_one_core(autograder, tmp_path):
    """A schedule that is one step late costs points of its own section only; no package is used that setup.sh does not install."""
    for name in ("ResUNet.py", "DDPM.py"):
        shutil.copy(ROOT / name, autograder / "submission")
    module = autograder / "submission" / "DDPM.py"
    right = module.read_text()
    module.write_text(right.replace("at = t_s.to(home) - 1", "at = t_s.to(home).clamp(max=T - 1)"))
    assert module.read_text() != right
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({NOT_THERE}))\n")
    environment = {**os.environ, "AUTOGRADER": str(autograder), "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    start = time.monotonic()
    done = subprocess.run(
        [autograder / "run_autograder"], cwd=autograder, env=environment, capture_output=True, text=True,
        preexec_fn=lambda: CORES and os.sched_setaffinity(0, CORES), timeout=SECONDS)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"\n{time.monotonic() - start:.0f} s on one core")
    results = json.loads((autograder / "results" / "results.json").read_text())
    scored = [test for test in results["tests"] if test.get("max_score")]
    failed = {test["tags"][0] for test in scored if test["status"] == "failed"}
    assert failed == {"scheduler"} and results["score"] == sum(test["score"] for test in scored) < 22 == results["extra_data"]["out_of"]
    assert set(results["extra_data"]["by_hand"]) == {"training", "guidance", "customise"} and results["stdout_visibility"] == "hidden"
    assert (autograder / "source").stat().st_mode & 0o077 == 0, "the submission's user reads no checks"
