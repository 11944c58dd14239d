"""How often alike is wrong: what `python tests/course/measure_alike.py` printed, to be said on the page and in the README."""

SOLUTIONS, HANDS = 65, 5
BETWEEN, WITHIN = (1, 1690), (0, 390)  # (false alarms, pairs) of independent right solutions by different hands, and by one hand
CLASSES, CLASS_ALARMS = 200, 34  # classes of thirty drawn from them; false alarms in all of them, each time the one of BETWEEN
COPIES = {  # {disguise: (found, copies)}
    "translated": (65, 65),
    "commuted": (65, 65),
    "reordered": (65, 65),
    "turned": (65, 65),
    "inlined": (65, 65),
    "split": (65, 65),
    "rooted": (65, 65),
    "extracted": (65, 65),
    "padded": (65, 65),
    "renamed": (65, 65),
    "all at once": (65, 65),
}
PARTS = (51, 65)  # copies of one method alone, in another's solution
SLIPS = (2, 142)  # pairs of independent solutions with the same slip, taken for copies
