"""Whatever is handed in: a friendly message and a whole record."""

import io
import re
import stat
import struct
import zipfile

import pytest
from submissions import AUTOMATIC, graded, points, said, submission
from wrong_solutions import NET, PROCESS

from course import intake
from course.grading import grade

BOTH = {"ResUNet.py": NET, "DDPM.py": PROCESS}


def zipped(path, files, links=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        for name, target in links:
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return path


def taken(submission, tmp_path):
    return intake.take(submission, tmp_path / "taken")


@pytest.mark.parametrize("inside", ["", "anna/", "anna/work/"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_folder_or_a_zip_with_the_modules_anywhere(tmp_path, kind, inside):
    files = {f"{inside}{name}": text for name, text in BOTH.items()} | {f"{inside}mine/blocks.py": "x = 1", "__MACOSX/DDPM.py": "no"}
    if kind == "zip":
        where = zipped(tmp_path / "it.zip", files)
    else:
        where = submission(tmp_path / "it", {**files, **({} if not inside else dict.fromkeys(BOTH))})
    found = taken(where, tmp_path)
    assert {p.relative_to(found.code).as_posix() for p in found.code.rglob("*.py")} == {*BOTH, "mine/blocks.py"}
    assert found.notes == [] and not found.checkpoint and found.notebook is None


def test_notebook_and_weights_are_found_wherever_they_lie(tmp_path):
    files = {**BOTH, "work/ConditionalDDPM.ipynb": "{}", "save/digits/best_checkpoint.pth": b"x"}
    found = taken(submission(tmp_path / "it", files), tmp_path)
    assert found.checkpoint and (found.code / "best_checkpoint.pth").read_bytes() == b"x" and found.notebook.read_text() == "{}"


def test_our_own_modules_win_and_a_changed_one_is_mentioned(tmp_path):
    files = {"config.py": "MEAN = 0", "utils.py": (intake.ROOT / "utils.py").read_text(), "lab/samplers.py": "raise SystemExit"}
    found = taken(submission(tmp_path / "it", files), tmp_path)
    assert {path.name for path in found.code.iterdir()} == set(BOTH)
    assert len(found.notes) == 1 and "config.py differs from the course's" in found.notes[0]


@pytest.mark.parametrize(
    "files, links, words",
    [
        ({"../../evil.py": "x"}, (), "leads out of the zip"),
        ({"/etc/evil.py": "x"}, (), "leads out of the zip"),
        ({"C:\\evil.py": "x"}, (), "leads out of the zip"),
        ({"a/../../evil.py": "x"}, (), "leads out of the zip"),
        ({}, [("link.py", "/etc/passwd")], "is a link"),
        ({"big.py": bytes(2**21)}, (), "big.py is larger than 1 MB"),
        ({f"d{i}/x.txt": "" for i in range(6000)}, (), "more than 5000 files"),
        ({f"m{i}.py": "" for i in range(300)}, (), "more than 200 modules"),
    ],
)
def test_a_zip_that_means_harm(tmp_path, files, links, words):
    found = taken(zipped(tmp_path / "it.zip", {**BOTH, **files}, links), tmp_path)
    assert any(words in note for note in found.notes), found.notes
    assert not [p for p in tmp_path.rglob("*") if "evil" in p.name or p.is_symlink()]
    assert "more than 5000" in words or (found.code / "DDPM.py").is_file(), "the rest is taken all the same"


def test_a_size_that_is_not_true(tmp_path):
    """A bomb: 3 GB of zeros in 3 MB, whose headers speak of ten bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("DDPM.py", bytes(3 * 2**20))
    lied = bytearray(content.getvalue())
    for at, field in ((lied.find(b"PK\x03\x04"), 22), (lied.find(b"PK\x01\x02"), 24)):
        lied[at + field : at + field + 4] = struct.pack("<I", 10)
    (tmp_path / "it.zip").write_bytes(lied)
    found = taken(tmp_path / "it.zip", tmp_path)
    assert any("DDPM.py" in note and "left out" in note for note in found.notes)
    assert sum(p.stat().st_size for p in (tmp_path / "taken").rglob("*") if p.is_file()) < 2**21


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_zip(tmp_path, content):
    (tmp_path / "it.zip").write_bytes(content)
    found = taken(tmp_path / "it.zip", tmp_path)
    assert "damaged or no zip file" in found.notes[0] and "DDPM.py" in found.notes[0]


def test_a_zip_with_a_password(tmp_path):
    path = zipped(tmp_path / "it.zip", BOTH)
    content = bytearray(path.read_bytes())
    for start, field in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(start, at + 1)) >= 0:
            content[at + field] |= 1
    path.write_bytes(content)
    assert any("DDPM.py cannot be read" in note and "encrypted" in note for note in taken(path, tmp_path).notes)


def test_links_in_a_folder_are_not_followed(tmp_path):
    folder = submission(tmp_path / "it")
    (folder / "linked.py").symlink_to("/etc/passwd")
    (folder / "around").symlink_to(folder)
    found = taken(folder, tmp_path)
    assert {path.name for path in found.code.iterdir()} == set(BOTH) and "is a link" in found.notes[0]


@pytest.mark.parametrize("what", ["nowhere", "zip"])
def test_nothing_was_handed_in(tmp_path, what):
    where = tmp_path / "it"
    if what == "folder":
        where.mkdir()
    if what == "zip":
        zipped(where, {})
    record = grade(where)
    assert sum(points(record).values()) == 0 and any("DDPM.py is missing" in note for note in record.notes)
    assert record.submission == "it" and grade(where, name="anna").submission == "anna"


PROCESS_SECTIONS = {"scheduler", "forward", "sample"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "files, lost, words",
    [
        ({"ResUNet.py": None}, {"network"}, "ResUNet.py is missing"),
        ({"DDPM.py": None}, PROCESS_SECTIONS, "DDPM.py is missing"),
        ({"ResUNet.py": NET.replace("class ConditionalUnet(", "class Unet(")}, {"network"}, "has no class ConditionalUnet; it has .*Unet"),
        ({"DDPM.py": PROCESS.replace("class ConditionalDDPM(", "class DDPM(")}, PROCESS_SECTIONS, "no class ConditionalDDPM"),
        ({"ResUNet.py": NET + "\n)"}, {"network"}, "SyntaxError: unmatched '\\)'.* \\(ResUNet.py, line"),
        ({"DDPM.py": PROCESS + "\n)"}, PROCESS_SECTIONS, "SyntaxError: unmatched '\\)'.* \\(DDPM.py, line"),
        ({"DDPM.py": "1 / 0\n" + PROCESS}, PROCESS_SECTIONS, "ZeroDivisionError: division by zero \\(DDPM.py, line 1: 1 / 0"),
        ({"DDPM.py": b"\xff\xfe\x00" + PROCESS.encode()}, PROCESS_SECTIONS, "DDPM.py cannot be imported"),
        ({"DDPM.py": PROCESS.replace("def sample(", "def samples(")}, {"sample"}, "AttributeError.*'sample'"),
        ({"DDPM.py": "from mine import twice as double\n" + PROCESS, "mine.py": "def twice(x):\n    return 2 * x\n"}, set(), ""),
        ({"DDPM.py": "from utils import *\n" + PROCESS}, set(), ""),
        ({"ConditionalDDPM.ipynb": "no JSON"}, set(), ""),
    ],
)
def test_files_that_are_not_as_they_should_be(tmp_path, files, lost, words):
    found, record = graded(submission(tmp_path / "it", files))
    assert {key for key in found if found[key] < AUTOMATIC[key]} == lost
    assert all(found[key] == 0 for key in lost)
    says = " ".join([*record.notes, *map(said, record.sections)])
    assert re.search(words, says), says


def test_a_notebook_that_is_none_is_said_where_it_would_be_shown(tmp_path):
    folder = submission(tmp_path / "it", {"ConditionalDDPM.ipynb": "no JSON", "DDPM.py": None, "ResUNet.py": None})
    record = grade(folder)
    guidance = next(each for each in record.sections if each.key == "guidance")
    assert guidance.points is None and "ConditionalDDPM.ipynb cannot be shown" in guidance.shown[0][1]
