"""Whatever is handed in: a friendly message and a whole record."""

import io
import os
import re
import stat
import struct
import zipfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from submissions import AUTOMATIC, graded, points, said, submission, without_flow
from wrong_solutions import NET, PROCESS

from course.grading.grading import grade
from course.intake import intake

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


@without_flow
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


@without_flow
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


CASES = intake.ROOT.parent / "shared" / "cases"
LAYOUTS = [  # the files, what of them the two modules are, and what is said
    (["DDPM.py", "ResUNet.py"], "ResUNet.py DDPM.py", []),
    (["DDPM-1.py", "ResUNet-1.py"], "ResUNet-1.py DDPM-1.py", ["DDPM-1.py is taken as DDPM.py"]),
    (["a_101_202_DDPM.py", "a_101_203_ResUNet.py"], "a_101_203_ResUNet.py a_101_202_DDPM.py", ["a_101_202_DDPM.py is taken as DDPM.py"]),
    (["A_1_assignsubmission_file_/DDPM.py", "A_1_assignsubmission_file_/ResUNet.py"],
     "A_1_assignsubmission_file_/ResUNet.py A_1_assignsubmission_file_/DDPM.py", []),
    (["submission_123/DDPM.py", "submission_123/ResUNet.py"], "submission_123/ResUNet.py submission_123/DDPM.py", []),
    (["model/ResUNet.py", "process/DDPM.py"], "model/ResUNet.py process/DDPM.py", ["lie in two folders", "model/ResUNet.py, process/DDPM.py"]),
    (["old/DDPM.py", "old/ResUNet.py", "z/DDPM.py"], "old/ResUNet.py old/DDPM.py", ["old/DDPM.py counts, not z/DDPM.py"]),
    (["try1/DDPM.py", "try1/ResUNet.py", "try2/DDPM.py", "try2/ResUNet.py"], "try2/ResUNet.py try2/DDPM.py",
     ["try2/DDPM.py counts, not try1/DDPM.py", "try2/ResUNet.py counts, not try1/ResUNet.py"]),
    (["DDPM.py", "DDPM-1.py", "ResUNet.py"], "ResUNet.py DDPM-1.py", ["DDPM-1.py counts, not DDPM.py"]),
    (["DDPM.py", "DDPM copy.py", "ResUNet.py"], "ResUNet.py DDPM.py", ["DDPM.py counts, not DDPM copy.py"]),
    (["H_a_attempt_2026-11-20-14-22-11_DDPM.py", "H_a_attempt_2026-11-20-14-22-11_ResUNet.py", "H_a_attempt_2026-11-21-14-22-11_DDPM.py"],
     "H_a_attempt_2026-11-20-14-22-11_ResUNet.py H_a_attempt_2026-11-20-14-22-11_DDPM.py", ["not H_a_attempt_2026-11-21-14-22-11_DDPM.py"]),
    (["DDPM_final.py", "ResUNet.py"], "ResUNet.py", ["DDPM.py is missing", "Not taken for it: DDPM_final.py"]),
    (["DDMP.py", "ResUNet.py", "pics/DDPM.png"], "ResUNet.py", ["DDPM.py is missing", "Not taken for it: DDMP.py."]),
    (["ConditionalDDPM.ipynb", "ResUNet.py"], "ResUNet.py", ["DDPM.py is missing; its sections cannot be graded. Hand it in under this very name.$"]),
    (["work.rar"], "", ["Only zips are opened, not work.rar"]),
    (["DDPM.py/x.txt", "ResUNet.py"], "ResUNet.py", ["DDPM.py is a folder", "DDPM.py is missing"]),
]  # fmt: skip


@without_flow
@pytest.mark.parametrize("kind", ["folder", "zip", "zip in a folder"])
@pytest.mark.parametrize("files, modules, words", LAYOUTS)
def test_which_files_count(tmp_path, kind, files, modules, words):
    contents = {name: f"# {name}" for name in files}
    if kind == "folder":
        where = submission(tmp_path / "it", {**dict.fromkeys(BOTH), **contents})
    else:
        (tmp_path / "it").mkdir()
        where = zipped(tmp_path / "it" / "work.zip", contents)
        where = where.parent if kind == "zip in a folder" else where
    found = taken(where, tmp_path)
    notes = "\n".join(found.notes).replace("work.zip/", "")
    texts = [(found.code / name).read_text() for name in intake.MODULES if (found.code / name).exists()]
    assert texts == [f"# {name}" for name in modules.split()]
    assert all(re.search(each, notes, re.MULTILINE) for each in words) and bool(notes) == bool(words), notes


def test_of_attempts_the_one_of_a_later_time_counts(tmp_path):
    folder = submission(tmp_path / "it", {**dict.fromkeys(BOTH), **{f"{where}/{name}": where for where in "abc" for name in BOTH}})
    for where, age in (("a", 2000), ("b", 1000), ("c", 3000)):
        for name in BOTH:
            os.utime(folder / where / name, (2e9 - age, 2e9 - age))
    found = taken(folder, tmp_path)
    assert (found.code / "DDPM.py").read_text() == "b" and "b/DDPM.py counts, not a/DDPM.py, c/DDPM.py" in " ".join(found.notes)


@pytest.mark.parametrize(
    "files, there, words",
    [
        (
            {"a_1_2_DDPM.py": "import mine", "a_1_3_mine.py": "import more", "a_1_4_more-1.py": ""},
            "mine.py more.py a_1_3_mine.py",
            "a_1_3_mine.py is taken as mine.py",
        ),
        ({"p/DDPM.py": "from model.ResUNet import x", "model/ResUNet.py": ""}, "model/ResUNet.py", "two folders"),
        ({"p/DDPM.py": "from model import ResUNet", "model/ResUNet.py": ""}, "model/ResUNet.py", "two folders"),
        ({"p/DDPM.py": "import mine", "helpers/mine.py": ""}, "mine.py", ""),
        ({"p/DDPM.py": "import config, lab.x", "q/config.py": "", "q/lab/x.py": ""}, "", ""),
        ({"DDPM.py": "import mine", "mine.py/x.txt": "", "not a name.py": "", "best_checkpoint.pth/x.py": ""}, "", ""),
    ],
)
def test_what_the_modules_import_is_taken_along(tmp_path, files, there, words):
    found = taken(submission(tmp_path / "it", {**dict.fromkeys(BOTH), **files}), tmp_path)
    copied = {path.relative_to(found.code).as_posix() for path in found.code.rglob("*.py")} - set(BOTH)
    assert copied == set(there.split()) and words in " ".join(found.notes)


def notebook_with(path, trained, customised="custom_name = f'{exp_name}_custom'"):
    cells = [new_code_cell(f"%matplotlib inline\n{trained}"), new_markdown_cell("### 2.6 Customise (5 points)"), new_code_cell(customised)]
    nbformat.write(new_notebook(cells=cells), path)


DIGITS, MINE, CUSTOM = (f"save/{name}/best_checkpoint.pth" for name in ("digits", "mine", "digits_custom"))
CHECKPOINTS = [  # the files, the code of the notebook, which counts, and what is said
    ([DIGITS], None, DIGITS, "^$"),
    ([MINE], None, MINE, "^$"),
    (["best_checkpoint.pth", CUSTOM], None, "best_checkpoint.pth", f"not {CUSTOM}"),
    ([DIGITS, CUSTOM, MINE], None, DIGITS, f"{DIGITS} counts, not {CUSTOM}, {MINE}"),
    ([DIGITS, CUSTOM, MINE], ["exp_name = 'mine'"], MINE, f"{MINE} counts, not {DIGITS}, {CUSTOM}"),
    ([DIGITS, MINE], ["if full:\n    dmconfig, limit, exp_name = DMConfig(), None, 'mine'"], MINE, "counts"),
    ([DIGITS, MINE], ["solver(dmconfig, 'mine', a, b)"], MINE, "counts"),
    ([DIGITS, MINE], ["solver(dmconfig, exp_name='mine', train_loader=a)"], MINE, "counts"),
    ([MINE, "save/z/best_checkpoint.pth"], ["exp_name = 'other'", "custom_name = 'mine'"], "save/z/best_checkpoint.pth", "counts"),
    ([MINE, "save/a/best_checkpoint.pth"], ["exp_name = 'other'", "solver(custom, 'a', x, y)"], MINE, "counts"),
    ([DIGITS, MINE], ["exp_name = ("], DIGITS, "counts"),
    ([CUSTOM], None, "", "customised run .2.6. do not count: save/digits_custom"),
    (["custom/best_checkpoint.pth", "custom/DDPM.py"], None, "custom/best_checkpoint.pth", ""),
    (["a_1_2_best_checkpoint.pth", "a_1_3_best_checkpoint-1.pth"], None, "a_1_2_best_checkpoint.pth", "not a_1_3_best_checkpoint-1.pth"),
    (["best_checkpoint (1).pth"], None, "best_checkpoint (1).pth", "is taken as best_checkpoint.pth"),
    (
        ["save/digits/best_checkpoint.pt"],
        None,
        "",
        "No best_checkpoint.pth is there. Not taken for it: save/digits/best_checkpoint.pt. Hand",
    ),
    (["w.ckpt", "save/digits/last_checkpoint.pth"], None, "", "Not taken for it: w.ckpt, save/digits/last_checkpoint.pth"),
    (["best_checkpoint/data.pkl", "best_checkpoint/data/0"], None, "", "piece of a checkpoint that was unpacked"),
    (["best_checkpoint.pth/x.txt"], None, "", "best_checkpoint.pth is a folder"),
    (["a.txt"], None, "", "^$"),
]


@without_flow
@pytest.mark.parametrize("files, code, counts, words", CHECKPOINTS)
def test_which_weights_count(tmp_path, files, code, counts, words):
    modules = dict.fromkeys(BOTH) if any(name.endswith("DDPM.py") for name in files) else {}
    folder = submission(tmp_path / "it", {**modules, **{name: name for name in files}})
    if code:
        notebook_with(folder / "ConditionalDDPM.ipynb", *code)
    found = taken(folder, tmp_path)
    weights = found.code / "best_checkpoint.pth"
    assert found.checkpoint == bool(counts) == weights.is_file() and (not counts or weights.read_text() == counts)
    assert re.search(words, " ".join(found.notes)), found.notes


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("best_checkpoint.pth", bytes(3 * 2**20), "best_checkpoint.pth is larger than 2 MB"),
        ("best_checkpoint.pth", {"archive/data/0": bytes(3 * 2**20)}, "best_checkpoint.pth unpacks to more than 2 MB"),
        ("ConditionalDDPM.ipynb", bytes(3 * 2**20), "ConditionalDDPM.ipynb is larger than 2 MB"),
        ("DDPM.py", bytes(3 * 2**20), "DDPM.py is larger than 1 MB"),
    ],
)
def test_what_is_too_large_is_left_out(tmp_path, monkeypatch, name, content, words):
    """A checkpoint of a few bytes that unpacks to gigabytes too; nothing unpacks it here."""
    monkeypatch.setattr(intake, "WEIGHTS_BYTES", 2**21), monkeypatch.setattr(intake, "NOTEBOOK_BYTES", 2**21)
    content = content if isinstance(content, bytes) else zipped(tmp_path / "w", content).read_bytes()
    found = taken(submission(tmp_path / "it", {name: content}), tmp_path)
    assert words in found.notes[0] and not found.checkpoint and found.notebook is None
    assert {path.name for path in found.code.iterdir()} == set(BOTH) - {name}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_module_in_another_encoding_is_read(tmp_path, encoding):
    text = "# größer\nx = 1\n"
    found = taken(submission(tmp_path / "it", {"DDPM.py": text.encode(encoding)}), tmp_path)
    assert (found.code / "DDPM.py").read_text("utf-8") == text
    assert f"DDPM.py is written in {encoding.upper()}" in found.notes[0] and "save it as UTF-8" in found.notes[0]


@without_flow
@pytest.mark.parametrize("content", ["# größer".encode(), b"\xef\xbb\xbfx = 1", b"# coding: latin-1\n# gr\xf6\xdfer", b"", b"x"])
def test_what_python_reads_stays_as_it_is(tmp_path, content):
    found = taken(submission(tmp_path / "it", {"DDPM.py": content}), tmp_path)
    assert (found.code / "DDPM.py").read_bytes() == content and found.notes == []


def test_half_a_text_in_utf_16_is_named(tmp_path):
    found = taken(submission(tmp_path / "it", {"DDPM.py": "x = 1".encode("utf-16")[:-1]}), tmp_path)
    assert "DDPM.py is no whole text" in found.notes[0] and (found.code / "DDPM.py").is_file()


@pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not here")
@pytest.mark.parametrize(
    "case", ["intake/i01_two_checkpoints", "intake/i02_lms_suffix", "intake/i03_lms_prefix", "intake/i04_two_folders", "grading/g20_utf16"]
)
def test_the_cases(tmp_path, case):
    found = taken(CASES / case, tmp_path)
    weights = {"best_checkpoint.pth"} if found.checkpoint else set()
    assert {path.name for path in found.code.iterdir()} == {*BOTH, *weights} and found.notes
    assert all("\0" not in (found.code / name).read_text("utf-8") for name in BOTH)
    assert not weights or (found.code / "best_checkpoint.pth").read_text() == "digits"


@without_flow
@pytest.mark.parametrize("what", ["nowhere", pytest.param("zip", marks=pytest.mark.slow)])
def test_nothing_was_handed_in(tmp_path, what):
    where = tmp_path / "it"
    if what == "zip":
        zipped(where, {})
    record = grade(where, name="anna")
    assert sum(points(record).values()) == 0 and any("DDPM.py is missing" in note for note in record.notes)
    assert record.submission == "anna"


PROCESS_SECTIONS = {"scheduler", "forward", "sample"}


def at_night_but(slow, *rows):
    """Rows of a table of gradings, of which those of these numbers are slow and the others for the night."""
    return [pytest.param(*row, marks=pytest.mark.slow if i in slow else pytest.mark.nightly) for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    "files, lost, words",
    at_night_but(
        (0, 5, 9),
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
    ),
)
def test_files_that_are_not_as_they_should_be(tmp_path, files, lost, words):
    found, record = graded(submission(tmp_path / "it", files))
    assert {key for key in found if found[key] < AUTOMATIC[key]} == lost
    assert all(found[key] == 0 for key in lost)
    says = " ".join([*record.notes, *map(said, record.sections)])
    assert re.search(words, says), says


@pytest.mark.slow
def test_a_notebook_that_is_none_is_said_where_it_would_be_shown(tmp_path):
    folder = submission(tmp_path / "it", {"ConditionalDDPM.ipynb": "no JSON", "DDPM.py": None, "ResUNet.py": None})
    record = grade(folder)
    guidance = next(each for each in record.sections if each.key == "guidance")
    assert guidance.points is None and "ConditionalDDPM.ipynb cannot be shown" in guidance.shown[0][1]
