"""The files of a submission, in whatever folders and zips they lie, within limits."""

import dataclasses
import errno
import io
import os
import stat
import struct
import types
import warnings
import zipfile
from pathlib import PurePosixPath

import pytest

from course.intake import unpack
from course.intake.unpack import Refused, Unpacked


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip of {name: content}, or of [(name, content)]."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in dict(files).items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return out.getvalue()


def nested(depth):
    content = zipped({"DDPM.py": "x"})
    for number in range(depth - 1):
        content = zipped({f"{number}.zip": content})
    return content


def unpacked(tmp_path, content):
    """What is found in a zip, or in a folder {name: content}; files are read to the end."""
    where = tmp_path / "it"
    if isinstance(content, bytes):
        where.write_bytes(content)
    else:
        for name, each in content.items():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).write_bytes(each)
    with Unpacked(where, tmp_path / "scratch") as found:
        texts = {}
        for name, file in found.files.items():
            try:
                texts[str(name)] = found.read(file, 2**20)
            except Refused as why:
                found.note(name, str(why))
        return texts, " ".join(found.notes), found


INNER = zipped({"DDPM.py": "x", "more/ResUNet.py": "y"})


@pytest.mark.parametrize(
    "content, names",
    [
        (zipped({"work.zip": INNER}), {"work.zip/DDPM.py", "work.zip/more/ResUNet.py"}),
        ({"a/Work.ZIP": INNER}, {"a/Work.ZIP/DDPM.py", "a/Work.ZIP/more/ResUNet.py"}),
        (zipped({"a.zip": zipped({"b.zip": INNER})}), {"a.zip/b.zip/DDPM.py", "a.zip/b.zip/more/ResUNet.py"}),
        ({"a\\b.py": b"x"}, {"a\\b.py"}),
        (zipped({"a\\b.py": b"x"}), {"a/b.py"}),
        (zipped({"HW 11:20/DDPM.py": "x"}), {"HW 11:20/DDPM.py"}),  # macOS's "HW 11/20"
        (zipped({"__MACOSX/._DDPM.py": "x", ".git/DDPM.py": "x", "a/.b/DDPM.py": "x", "DDPM.py": "x"}), {"DDPM.py"}),
        ({"site-packages/DDPM.py": b"x", ".ipynb_checkpoints/a.ipynb": b"x"}, set()),
    ],
)
def test_files_in_folders_and_zips(tmp_path, content, names):
    texts, notes, _ = unpacked(tmp_path, content)
    assert {name for name in texts if not name.lower().endswith(".zip")} == names and notes == ""


LINK = zipfile.ZipInfo("link.py")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    "content, words",
    [
        (nested(12), "is one of more than 10 zips and is not opened"),
        ({f"{i}.zip": INNER for i in range(12)}, "is one of more than 10 zips and is not opened"),
        (zipped({"a.zip": b"PK\x03\x04 no zip"}), "a.zip is damaged or no zip file"),
        (zipped({"a.py": bytes(2**21)}), "a.py is larger than 1 MB"),
        (zipped({"a.py": "x" * 99}, zipfile.ZIP_BZIP2), "a.py is compressed by another method than Deflate"),
        (zipped({"a.py": "x" * 99}, zipfile.ZIP_LZMA), "a.py is compressed by another method than Deflate"),
        (zipped({f"{'d/' * 50}a.py": "x"}), "in more than 40 folders"),
        (zipped({f"{'d' * 600}.py": "x"}), "longer than 500 bytes"),
        (zipped([(f"{i}.txt", "") for i in range(6000)]), "more than 5000 files"),
        (zipped([("a.py", "first"), ("a.py", "second")]), "a.py is in its zip file more than once: the last one counts"),
        (zipped([("../a.py", "x")]), "leads out of the zip file"),
        (zipped([("c:/a.py", "x")]), "leads out of the zip file"),
        (zipped([(LINK, "/etc/passwd")]), "link.py is a link"),
    ],
)
def test_what_is_left_out_is_said(tmp_path, content, words):
    _, notes, _ = unpacked(tmp_path, content)
    assert words in notes and len(notes) < 5000


def test_of_two_files_with_one_name_the_last_counts(tmp_path):
    assert unpacked(tmp_path, zipped([("a.py", "first"), ("a.py", "second")]))[0] == {"a.py": b"second"}


def test_all_files_together_are_limited_inner_zips_included(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MOST_BYTES", 3 * 2**20)
    texts, notes, _ = unpacked(tmp_path, zipped({f"{i}.py": bytes(2**20) for i in range(5)}))
    assert len(texts) == 3 and "all files together than 3 MB" in notes
    stored = zipped({"x": bytes(2**22)}, zipfile.ZIP_STORED)
    texts, notes, _ = unpacked(tmp_path / "b", {"a.zip": zipped({"b.zip": stored})})
    assert "b.zip is larger than 3 MB" in notes and "is not opened" in notes


def test_a_full_disk_is_no_fault_of_the_submission(tmp_path, monkeypatch):
    """A file of its own that cannot be read is: everything else would be marked as missing."""

    def full(*anything):
        raise OSError(errno.ENOSPC, "No space left on device")

    _, _, found = unpacked(tmp_path, {"a.py": b"x"})
    (file,) = found.files.values()
    with pytest.raises(OSError, match="No space left"):
        found._write(file, types.SimpleNamespace(tell=lambda: 0, write=full), 2**20)
    with pytest.raises(Refused, match="cannot be read .*No such file"):
        found.read(dataclasses.replace(file, open=lambda: open(tmp_path / "nowhere")), 2**20)
    monkeypatch.setattr(unpack, "open", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        found.copy(file, tmp_path / "copy.py", 2**20)


def test_a_bomb_that_lies_about_its_size(tmp_path):
    lied = bytearray(zipped({"a.py": bytes(3 * 2**20)}))
    for at, field in ((lied.find(b"PK\x03\x04"), 22), (lied.find(b"PK\x01\x02"), 24)):
        lied[at + field : at + field + 4] = struct.pack("<I", 10)
    texts, notes, _ = unpacked(tmp_path, bytes(lied))
    assert not texts and "a.py cannot be read" in notes


def test_a_list_of_files_that_would_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "LONGEST_LIST", 1000)
    with pytest.raises(Refused, match="too long a list"):
        unpacked(tmp_path, zipped([(f"{i}.txt", "") for i in range(100)]))


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 half a zip"])
def test_what_is_no_zip(tmp_path, content):
    with pytest.raises(Refused, match="is damaged or no zip file"):
        unpacked(tmp_path, content)
    with pytest.raises(Refused, match="no folder and no zip"):
        Unpacked(tmp_path / "nowhere", tmp_path)


def test_a_folder_1100_deep(tmp_path):
    """os.walk and shutil.rmtree call themselves for each folder, which Python stops at a thousand."""
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "DDPM.py").write_text("x")
    here = os.open(tmp_path / "it", os.O_RDONLY)
    opened = [here]
    try:
        for _ in range(1100):
            os.mkdir("d", dir_fd=opened[-1])
            opened.append(os.open("d", os.O_RDONLY, dir_fd=opened[-1]))
            if len(opened) > 2:
                os.close(opened.pop(-2))
        with Unpacked(tmp_path / "it", tmp_path / "scratch") as found:
            assert set(found.files) == {PurePosixPath("DDPM.py")} and "in more than 40 folders" in found.notes[0]
    finally:
        while os.stat(f"/proc/self/fd/{opened[-1]}").st_ino != os.fstat(here).st_ino:  # from the innermost to the outermost
            opened.append(os.open("..", os.O_RDONLY, dir_fd=opened[-1]))
            os.close(opened.pop(-2))
            os.rmdir("d", dir_fd=opened[-1])


def test_links_in_a_folder_are_not_followed(tmp_path):
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "linked.py").symlink_to("/etc/passwd")
    (tmp_path / "it" / "around").symlink_to(tmp_path / "it")
    texts, notes, _ = unpacked(tmp_path, {"DDPM.py": b"x"})
    assert set(texts) == {"DDPM.py"} and "linked.py is a link" in notes and "around is a link" in notes


def test_nothing_stays_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    unpacked(tmp_path, zipped({"a.zip": INNER, "b.zip": b"no zip"}))
    with pytest.raises(Refused):
        unpacked(tmp_path, b"no zip")
    assert len(os.listdir("/proc/self/fd")) == before
