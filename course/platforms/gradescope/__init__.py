"""The upload for Gradescope: a zip with setup.sh, run_autograder, and the parts of the course that the grader needs."""

import io
import zipfile
from pathlib import Path

from course.handout.banners import TASKS
from course.handout.handout import ROOT
from course.handout.skeleton import skeleton

HERE = Path(__file__).parent
SCRIPTS = ("setup.sh", "run_autograder", "requirements.txt")
NEEDED = ("config.py", "utils.py", "course", "lab", "tests")
LEFT_OUT = ("lab/weights/digits.safetensors", "lab/weights/pairs.safetensors", "lab/weights/few.safetensors",
            "lab/weights/second.safetensors", "lab/README.md", "lab/editing", "course/README.md",
            "lab/speed/bench.py", "lab/speed/baseline.py", "lab/diffusion/schedules.py",
            "course/platforms/gradescope", "course/alike", "lab/distillation", "lab/playground",
            "tests/course", "tests/lab", "tests/explorations", "tests/wrong_solutions.py")  # fmt: skip


def upload(out, root=ROOT):
    """Write the zip to `out`. The students' modules go along as skeletons: the checks import them, and nothing solved is needed."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in SCRIPTS:
            _add(archive, name, (HERE / name).read_bytes(), 0o644 if name.endswith(".txt") else 0o755)
        for path in _files(root):
            _add(archive, path.relative_to(root).as_posix(), path.read_bytes())
        for name, tasks in TASKS.items():
            _add(archive, name, skeleton((root / name).read_text("utf-8"), name, tasks).encode())
    Path(out).write_bytes(content.getvalue())


def _files(root):
    for name in NEEDED:
        paths = sorted((root / name).rglob("*")) if (root / name).is_dir() else [root / name]
        for path in paths:
            inside = path.relative_to(root)
            kept = path.is_file() and path.suffix != ".pyc" and not any(part.startswith(".") for part in inside.parts)
            if kept and not any(inside.is_relative_to(left) for left in LEFT_OUT):
                yield path


def _add(archive, name, content, mode=0o644):
    """Add a file so that the same content gives the same zip: with a fixed time, and permissions, which Windows loses."""
    info = zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0))
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (0o100000 | mode) << 16
    archive.writestr(info, content)
