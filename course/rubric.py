"""What is worth how much: the sections of the notebook, their points and their checks."""

import importlib
import sys
from dataclasses import dataclass

from course.handout import ROOT


@dataclass(frozen=True)
class Part:
    """An automatic section. properties: [(points, what a right solution does, its checks)]; notes: functions that return words or None."""

    key: str
    title: str
    module: str
    cls: str
    see: str
    properties: tuple
    notes: tuple


TITLES = {
    "network": "1. Denoising network",
    "scheduler": "2.1 Variance schedule",
    "forward": "2.2 Training",
    "sample": "2.3 Sampling",
    "training": "2.4 Full training",
    "guidance": "2.5 Guidance weight",
    "customise": "2.6 Customise",
}
BY_HAND = {"guidance": 4, "customise": 6}  # 3 for the figures and 1 for the answer; 5 and 1
TRAINING = 8
CLASSES = {"network": ("ResUNet", "ConditionalUnet"), "scheduler": ("DDPM", "ConditionalDDPM"),
           "forward": ("DDPM", "ConditionalDDPM"), "sample": ("DDPM", "ConditionalDDPM")}  # fmt: skip


def parts():
    """The automatic sections, with the checks that students have in tests/."""
    for folder in (ROOT, ROOT / "tests"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    for key, (module, cls) in CLASSES.items():
        tests = importlib.import_module(f"test_{key}")
        yield Part(key, TITLES[key], module, cls, tests.SEE, tuple(tests.PROPERTIES), tuple(getattr(tests, "NOTES", ())))
