"""What the sections of the notebook are called, and what is worth how much beside the sections that are checked."""

from checks.sections import SECTIONS

TITLES = {
    **{key: section.title for key, section in SECTIONS.items()},
    "training": "2.4 Full training",
    "guidance": "2.5 Guidance weight",
    "customise": "2.6 Customise",
}
BY_HAND = {"guidance": 4, "customise": 6}  # 3 for the figures and 1 for the answer; 5 and 1
TRAINING = 8
POINTS = {**{key: section.points for key, section in SECTIONS.items()}, "training": TRAINING, **BY_HAND}  # of each section
