"""What a student's module imports, found without importing it."""

import time

import pytest

from course.intake.imports import MOST, imported


def names(tmp_path, *texts):
    paths = [tmp_path / f"{number}.py" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return imported(paths)


@pytest.mark.parametrize(
    "text, found",
    [
        ("import torch.nn as nn, math", {"torch.nn", "math"}),
        ("from torch import nn", {"torch", "torch.nn"}),
        ("from utils import *", {"utils"}),
        ("def f():\n    try:\n        import scipy\n    except ImportError: pass", {"scipy"}),
        ("from . import blocks\nfrom .blocks import Block", set()),
        ("import __main__\nfrom lab import __main__\nfrom __future__ import annotations", {"lab"}),
        ('"""\nimport antigravity\nfrom this import that\n"""\n# import os', set()),
        ("import torch\nnot Python (", set()),
        (b"import a\0", set()),
        (f"import {'x' * 100}", set()),
        ("import a  # gr\\xf6\\xdfer", {"a"}),
    ],
)
def test_what_ast_finds(tmp_path, text, found):
    assert names(tmp_path, text) == found


def test_more_files_than_one_up_to_so_many_characters(tmp_path):
    assert names(tmp_path, "import a", "not Python (", "import b") == {"a", "b"}
    assert names(tmp_path, "import a", "#" * MOST, "import b") == {"a"}


@pytest.mark.parametrize("text", ["a=" * 90_000 + "1", "-" * 190_000 + "1", "x" + ".a" * 90_000])
def test_no_text_takes_long(tmp_path, text):
    start = time.process_time()
    names(tmp_path, *[text] * 10)
    assert time.process_time() - start < 8
