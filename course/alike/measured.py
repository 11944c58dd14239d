"""How often alike is wrong: what `python tests/course/alike.py` printed, to be said on the page and in the README."""

SOLUTIONS, HANDS = 65, 5
BETWEEN, WITHIN = (1, 1690), (0, 390)  # (false alarms, pairs) of independent right solutions by different hands, and by one hand
CLASSES, CLASS_ALARMS = 40, 0  # classes of thirty drawn from them; false alarms in all of them
COPIES = {}  # {disguise: (found, copies)}
PARTS = (0, 0)  # copies of one method alone, in another's solution
SLIPS = (0, 0)  # pairs of independent solutions with the same slip, taken for copies
