"""How alike the submissions of a class are: what two of them share, weighed by how few others have it."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

THRESHOLD = 0.5  # likeness from which a pair is to be looked at: independent solutions have less, disguised copies more; see measured.py
PRIOR = 10  # submissions that are imagined beside the class without the passage, so that three are not thought of as a whole class
LEAST = 60.0  # weight of a submission that says as much as one of ordinary size; a smaller one has little that could be told apart
MISTAKE = 8.0  # a shared mistake counts as so many passages of its rarity


@dataclass(frozen=True)
class Work:
    """A submission. passages: {passage: nodes}, without those of the handout. mistakes: the misconceptions in its record.

    earlier: whether it is of another year, and is compared with this year's only.
    """

    name: str
    passages: dict = field(repr=False)
    mistakes: frozenset = frozenset()
    earlier: bool = False


@dataclass(frozen=True)
class Pair:
    """Two submissions. likeness: 0 to 1. shared: [(passage, its weight, how many others have it)], mistakes alike; rarest first."""

    one: str
    other: str
    likeness: float
    shared: tuple
    mistakes: tuple


class Class:
    """Works to be compared. known: in how many a passage or mistake is."""

    def __init__(self, works):
        self.works = list(works)
        self.having = Counter(each for work in self.works for each in (*work.passages, *work.mistakes))
        self.alone = {work.name: sum(self.weight(each, 1) for each in work.passages) for work in self.works}

    def weight(self, passage, own):
        """In bits, how rare a passage is. own: how many submissions it is looked at in, which do not count themselves."""
        return math.log2((len(self.works) - own + PRIOR) / (self.having[passage] - own + 1))

    def likeness(self, one, other):
        """0 to 1: the weight of what two works share, of the weight of the one that has less."""
        smaller, larger = sorted((one.passages, other.passages), key=len)
        both = [each for each in smaller if each in larger]
        shared = sum(self.weight(each, 2) for each in both)
        once = sum(self.weight(each, 1) for each in both)
        least = min(self.alone[one.name], self.alone[other.name]) - once + shared
        mistaken = MISTAKE * sum(self.weight(each, 2) for each in one.mistakes & other.mistakes)
        return (shared + mistaken) / (max(least, LEAST) + mistaken)

    def pair(self, one, other):
        weighed = lambda several: sorted(((each, self.weight(each, 2), self.having[each] - 2) for each in several), key=lambda row: -row[1])
        shared = weighed([each for each in one.passages if each in other.passages])
        return Pair(one.name, other.name, self.likeness(one, other), tuple(shared), tuple(weighed(sorted(one.mistakes & other.mistakes))))

    def pairs(self, least=THRESHOLD, most=None):
        """The pairs of this year's with each other and with earlier ones of at least this likeness, the most alike first."""
        both = ((a, b) for a, b in itertools.combinations(self.works, 2) if not (a.earlier and b.earlier))
        found = sorted(((self.likeness(a, b), i, a, b) for i, (a, b) in enumerate(both)), key=lambda row: (-row[0], row[1]))
        return [self.pair(a, b) for likeness, _, a, b in found[:most] if likeness >= least]


def clusters(pairs):
    """The names that pairs connect, directly or through others, [[name]]; the largest first."""
    group = {}
    for pair in pairs:
        joined = group.get(pair.one, [pair.one]) + [
            n for n in group.get(pair.other, [pair.other]) if n not in group.get(pair.one, [pair.one])
        ]
        group |= dict.fromkeys(joined, joined)
    return sorted({id(each): sorted(each) for each in group.values()}.values(), key=lambda each: (-len(each), each))
