"""How alike the submissions of a class are: what two of them share, weighed by how few others have it."""

import dataclasses
import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

THRESHOLD = 0.5  # likeness from which a pair is to be looked at: independent solutions have less, disguised copies more; see measured.py
METHOD_THRESHOLD = 0.75  # the same of one method alone
PRIOR = 10  # submissions that are imagined beside the class without the passage, so that three are not thought of as a whole class
LEAST, LEAST_METHOD = (
    60.0,
    40.0,
)  # weight of a submission, and of a method, that is enough to tell it apart; of less it takes more in common
MISTAKE = 8.0  # a shared mistake counts as so many passages of its rarity


@dataclass(frozen=True)
class Work:
    """A submission. passages: {passage: nodes}, without those of the handout. mistakes: the misconceptions in its record.

    earlier: whether it is of another year, and is compared with this year's only. methods: {method: its passages}.
    """

    name: str
    passages: dict = field(repr=False)
    mistakes: frozenset = frozenset()
    earlier: bool = False
    methods: dict = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Pair:
    """Two submissions. likeness: 0 to 1, of the whole. method: (the method that is most alike, its likeness).

    shared: [(passage, its weight, how many others have it)], mistakes likewise; rarest first.
    """

    one: str
    other: str
    likeness: float
    method: tuple
    shared: tuple = ()
    mistakes: tuple = ()

    @property
    def standing(self):
        """From 1 on the pair is to be looked at."""
        return max(self.likeness / THRESHOLD, self.method[1] / METHOD_THRESHOLD)


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
        both, shared, once = self._shared(one.passages, other.passages)
        least = min(self.alone[one.name], self.alone[other.name]) - once + shared
        mistaken = MISTAKE * sum(self.weight(each, 2) for each in one.mistakes & other.mistakes)
        return (shared + mistaken) / (max(least, LEAST) + mistaken)

    def method(self, one, other):
        """(the method in which two works are most alike, its likeness), ("", 0.0) where they have none in common."""
        return max(((name, self._in_method(one.methods[name], other.methods[name])) for name in one.methods.keys() & other.methods.keys()),
                   key=lambda row: (row[1], row[0]), default=("", 0.0))  # fmt: skip

    def _in_method(self, one, other):
        both, shared, _ = self._shared(one, other)
        least = min(sum(self.weight(each, 2 if each in both else 1) for each in own) for own in (one, other)) if both else 0.0
        return shared / max(least, LEAST_METHOD)

    def _shared(self, one, other):
        """The passages in both, their weight, and what they would weigh if only one had them."""
        smaller, larger = sorted((one, other), key=len)
        both = {each for each in smaller if each in larger}
        return both, sum(self.weight(each, 2) for each in both), sum(self.weight(each, 1) for each in both)

    def pair(self, one, other):
        """The two works as a Pair, without what they share."""
        return Pair(one.name, other.name, self.likeness(one, other), self.method(one, other))

    def told(self, pair):
        """The Pair with what both share."""
        one, other = (next(work for work in self.works if work.name == name) for name in (pair.one, pair.other))
        weighed = lambda several: tuple(
            sorted(((each, self.weight(each, 2), self.having[each] - 2) for each in several), key=lambda row: -row[1])
        )
        shared = weighed([each for each in one.passages if each in other.passages])
        return dataclasses.replace(pair, shared=shared, mistakes=weighed(sorted(one.mistakes & other.mistakes)))

    def pairs(self, least=1.0, most=None):
        """The pairs of this year's with each other and with earlier ones of at least this standing, the highest first."""
        found = [self.pair(a, b) for a, b in itertools.combinations(self.works, 2) if not (a.earlier and b.earlier)]
        found = sorted((pair for pair in found if pair.standing >= least), key=lambda pair: -pair.standing)
        return [self.told(pair) for pair in found[:most]]


def clusters(pairs):
    """The names that pairs connect, directly or through others, [[name]]; the largest first."""
    group = {}
    for pair in pairs:
        joined = group.get(pair.one, [pair.one]) + [
            n for n in group.get(pair.other, [pair.other]) if n not in group.get(pair.one, [pair.one])
        ]
        group |= dict.fromkeys(joined, joined)
    return sorted({id(each): sorted(each) for each in group.values()}.values(), key=lambda each: (-len(each), each))
