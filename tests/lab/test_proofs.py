"""Every check is proven: a wrong solution that it catches, by name, and right solutions of other designs that it lets pass.

For maintainers. The words of the sections stay out of test names and ids here, so that `pytest -k <section>` runs the
section alone. What other hands wrote goes through the checks in tests/course/test_catalogue.py.
"""

import re

import pytest
import torch
from checks.sections import SECTIONS
from checks.student import Student
from torch import nn
from wrong_solutions import METHODS, RIGHT, WRONG, edited, unsolved

NUMBER = {"network": "1", "scheduler": "2.1", "forward": "2.2", "sample": "2.3"}
FEW = [("network", "skips swapped"), ("scheduler", "roots swapped"), ("forward", "roots swapped"), ("sample", "guidance without 1 +")]


def label(row):
    words = "|".join(SECTIONS)
    return f"{NUMBER[row[0]]} {re.sub(words, '…', row[1])}"


def verdict(section, edits):
    torch.set_num_threads(1)
    return SECTIONS[section].examine(Student(edited(section, edits)))


def is_caught(row):
    """Whether a wrong solution costs one property and is called by its name."""
    section, name, edits, words = row
    found = verdict(section, edits)
    assert len(found.faults) == 1, f"{name} costs {list(found.faults)}: {found.faults}"
    said = " ".join(says for key in found.faults for says in found.says(key))
    assert re.search(words, said), f"{name} is not named: {said}"


@pytest.mark.parametrize("row", [row for row in WRONG if row[:2] in FEW], ids=label)
def test_a_few_wrong_ones_are_caught_and_named(row):
    is_caught(row)


@pytest.mark.nightly
@pytest.mark.parametrize("row", WRONG, ids=label)
def test_wrong_is_caught_and_named(row):
    is_caught(row)


@pytest.mark.nightly
@pytest.mark.parametrize("row", RIGHT, ids=label)
def test_right_passes_whatever_its_design(row):
    section, name, edits = row
    assert not verdict(section, edits).faults, name


@pytest.mark.parametrize("section", [section for section in SECTIONS if section != "network"], ids=NUMBER.get)
def test_sections_need_no_other(section):
    """With the others of its module unsolved a section passes; unsolved itself, it is called so."""
    others = [other for other, (module, _) in METHODS.items() if module == "DDPM" and other != section]
    assert not verdict(section, unsolved(*others)).faults
    assert verdict(section, unsolved(section)).unwritten


def test_code_for_a_gpu_is_checked_on_the_cpu_where_there_is_one(monkeypatch):
    """The network of the checks answers there. Here a machine that says it has one; what went to it would fail."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    there = (
        'device = "cuda" if torch.cuda.is_available() else "cpu"\n        images = images.to(device); c = c.to(device)\n        hidden = '
    )
    assert not verdict("forward", [("hidden = ", there)]).faults


def test_an_error_of_torch_is_not_taken_for_a_method_that_nobody_has_written():
    found = verdict("forward", [("noise = torch.randn(images.shape, **draw)", "noise = torch.rand_like(t)")])
    assert not found.unwritten and "NotImplementedError" in str(found.faults) and "not written" not in str(found.faults)


def test_an_error_of_torch_in_what_nobody_asked_for_costs_nothing():
    raises = 'if t.ndim < 4:\n            raise NotImplementedError("not for these")\n        '
    found = verdict("network", [("temb1 = self.timeembed1(t)", raises + "temb1 = self.timeembed1(t)")])
    assert not found.faults and any("(B, 1, 1, 1) only" in note for note in found.notes)


def test_one_time_for_all_pictures_is_a_note():
    """A network of one's own may take it; the course's blocks do not."""
    found = verdict("sample", [("(steps[i] / T).expand(len(x), 1, 1, 1)", "(steps[i] / T).view(1, 1, 1, 1)")])
    assert not found.faults and any("one time for all pictures" in note for note in found.notes)


def test_each_property_is_told_apart():
    for key, section in SECTIONS.items():
        assert 2 <= len(section.properties) <= 7 and section.points == round(section.points), key


def test_names_select_one_section(request):
    """-k <section> selects that section's file, and nothing of these here."""
    for item in request.session.items:
        file = item.path.stem
        if file in ("test_reference", "test_proofs", "test_config") or file.removeprefix("test_") in SECTIONS:
            found = [word for word in [*SECTIONS, "config", "utils"] if word in item.nodeid.removeprefix("tests/").lower()]
            assert set(found) == {w for w in [file.removeprefix("test_")] if w in [*SECTIONS, "config"]}, item.nodeid


def test_a_design_of_ones_own_has_to_see_shapes():
    """What depends on x, t and c, pixel by pixel, is no denoiser of pictures."""

    class ConditionalUnet(nn.Module):
        def __init__(self, in_channels, n_feat=128, n_classes=10, input_dim=(28, 28)):
            super().__init__()
            self.x, self.told = nn.Conv2d(in_channels, in_channels, 1), nn.Linear(1 + n_classes, in_channels)

        def forward(self, x, t, c):
            return self.x(x) + self.told(torch.cat([t.view(len(x), 1), c], 1))[:, :, None, None]

    found = SECTIONS["network"].examine(Student(ConditionalUnet))
    assert "that pixel of x alone" in found.faults["skips"][0].says
