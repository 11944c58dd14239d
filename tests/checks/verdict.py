"""What a check finds out about a section: for each of its properties the faults, in words, and notes that cost nothing."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """Something that is wrong. says: what was seen. mistake: what explains it, if the evidence singles that out."""

    says: str
    mistake: str = ""


@dataclass
class Verdict:
    """properties: {key: (points, what a right solution does)}. see: where the notebook explains the section.

    unwritten: whether there is nothing to judge yet. unreadable: whether it can be called in no form.
    """

    properties: dict
    see: str
    faults: dict = field(default_factory=dict)  # {key: [Fault]}
    notes: list = field(default_factory=list)
    unwritten: bool = False
    unreadable: bool = False

    def fault(self, key, says, mistake=""):
        """Note a fault, unless one with the same mistake or words is there."""
        known = self.faults.setdefault(key, [])
        if not any(mistake and mistake == each.mistake or says == each.says for each in known):
            known.append(Fault(says, mistake))

    def fault_rest(self, says):
        """Give this fault to every property without one, as they cannot be judged."""
        for key in self.properties:
            if key not in self.faults:
                self.fault(key, says)

    def note(self, words):
        if words and words not in self.notes:
            self.notes.append(words)

    def points(self, key):
        return 0 if self.faults.get(key) else self.properties[key][0]

    def says(self, key):
        """One message for each fault."""
        for fault in self.faults.get(key, []):
            why = f" This is what you get when {fault.mistake}." if fault.mistake else ""
            yield f"{fault.says}{why} {self.see}"


def first(candidates, fits):
    """The words of the first candidate of [(words, what it gives)] that fits; "" if none does."""
    found = [words for words, gives in candidates if fits(gives)]
    return found[0] if found else ""
