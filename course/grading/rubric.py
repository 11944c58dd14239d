"""The points of each section. Those of a checked section are its properties', in tests/checks; the others are here.

The notebook's headings and metadata repeat them; a test fails where they disagree.
"""

from checks import FLOW
from checks.sections import SECTIONS

TRAINING = 8  # by weights.py (SHARES) where a checkpoint was handed in, else by a person
PARTS = {"guidance": (3, 1), "customise": (5, 1)}  # by a person: for what is done, and for the answer
PARTS |= {"flow_guidance": (2, 1), "flow_comparison": (1, 1)} if FLOW else {}  # the same, in explorations/flow_matching.ipynb
BY_HAND = {key: sum(parts) for key, parts in PARTS.items()}
POINTS = {**{key: section.points for key, section in SECTIONS.items()}, "training": TRAINING, **BY_HAND}
TOTAL = sum(POINTS.values())
TITLES = {
    **{key: section.title for key, section in SECTIONS.items()},
    "training": "2.4 Full training",
    "guidance": "2.5 Guidance weight",
    "customise": "2.6 Customise",
    "flow_guidance": "3.1 Guidance of a flow",
    "flow_comparison": "3.2 Beside the DDPM",
}
# What the rubric of the marking page starts with, in the order of the points above; those who mark change and add to it.
ITEMS = {
    "training": ("The test loss falls", "The digits of the best picture can be read"),
    "guidance": ("Samples under the seven weights are shown", "The answer says how quality and diversity change, and why this weight"),
    "customise": ("Trained with other settings, and compared", "The answer says what they changed, and why the losses cannot be compared"),
    "flow_guidance": ("Samples under several weights are shown", "The answer says what the weight changes"),
    "flow_comparison": ("Flow and DDPM stand side by side", "The answer compares them"),
}


def items(key, out_of):
    """((text, points), ...) that a section's rubric starts with."""
    words = ITEMS.get(key, ("All of it is right",))
    return tuple(zip(words, PARTS.get(key, [out_of / len(words)] * len(words)), strict=True))
