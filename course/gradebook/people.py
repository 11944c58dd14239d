"""Who handed in what: submissions matched to the people of a roster by id, then login, then name; never by a guess.

A submission is known by its name alone, that of its folder or zip. Platforms put into it (forms of course.intake.names, too):

    Moodle        Ada Lovelace_1234567                  the name, perhaps after that of a group, and the participant's number
    Canvas        lovelaceada_LATE_1234_5678_work       the sortable name in one word, the user's id, that of the submission
    Blackboard    HW5_alovelace_attempt_2026-11-20-…    the username
    Brightspace   101-202 - Ada Lovelace - Nov 20, …    the name
"""

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass

IDS = ("ID", "SIS User ID", "Integration ID", "Student ID", "ID number", "Identifier", "Student number", "SID", "Matriculation number")
LOGINS = ("SIS Login ID", "Login", "Login ID", "Username", "User name", "Email", "Email address", "E-mail")
NAMES = (("Student",), ("Full name",), ("Name",), ("LastName", "FirstName"), ("Last Name", "First Name"), ("Surname", "First name"))
PARTICIPANT = re.compile(r"\D+ (\d+)")  # Moodle's identifier, "Participant 1234567"
MOODLE = re.compile(r"(?P<name>.+)_(?P<id>\d+)")
CANVAS = re.compile(r"(?P<joined>[^\W_]+)_(?:LATE_)?(?P<id>\d+)_\d+_.+", re.DOTALL)
BLACKBOARD = re.compile(r"(?P<before>.+)_attempt_\d{4}(?:-\d\d){5}.*", re.DOTALL)
BRIGHTSPACE = re.compile(r"\d+-\d+ - (?P<name>.+?) - .*", re.DOTALL)
WHOLE = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"}  # letters that do not fall apart
APOSTROPHES = dict.fromkeys(map(ord, "'’`´ʼ"))


@dataclass(frozen=True)
class Person:
    """A row of a roster. names: the words of each form of the name, in their order."""

    row: int
    ids: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()
    names: tuple[tuple[str, ...], ...] = ()
    shown: str = ""

    def fits(self, words):
        """Whether a longer text, as "Group A-Ada Lovelace", has all the words of the name; a person without a name fits all."""
        return not self.names or any(set(name) <= set(words) for name in self.names)


@dataclass(frozen=True)
class Strange:
    """A submission that belongs to nobody, or perhaps to several people."""

    submission: str
    why: str
    people: tuple[Person, ...] = ()


def words(name):
    """The words of a name without case, accents and punctuation: "O'Brien-Müller, Zoë" gives obrien, muller, zoe."""
    text = "".join(WHOLE.get(letter, letter) for letter in name.casefold().translate(APOSTROPHES))
    text = "".join(letter for letter in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(letter))
    return tuple("".join(letter if letter.isalnum() else " " for letter in text).split())


def people(sheet, rows=None):
    """The Person of each row of a course.gradebook.sheet.Sheet (or of the rows with these numbers), from the columns IDS, LOGINS, NAMES."""
    ids, logins = ([sheet.column(name) for name in names if sheet.column(name) is not None] for names in (IDS, LOGINS))
    names = [[sheet.column(part) for part in parts] for parts in NAMES]
    names = [places for places in names if None not in places]
    return [_person(number, sheet.rows[number], ids, logins, names) for number in (range(len(sheet.rows)) if rows is None else rows)]


def _person(number, row, ids, logins, names):
    identifiers = [_folded(row[place]) for place in ids]
    identifiers += [found[1] for each in identifiers if (found := PARTICIPANT.fullmatch(each))]
    spelled = [" ".join(row[place].strip() for place in places) for places in names]
    named = tuple(dict.fromkeys(parts for parts in map(words, spelled) if parts))
    known = [row[place].strip() for place in (*ids, *logins)]
    shown = f"{next(filter(None, spelled), '?')} ({next(filter(None, known), 'no id')})"
    return Person(number, _told(identifiers), _told(_folded(row[place]) for place in logins), named, shown)


def _folded(text):
    return text.strip().casefold()


def _told(texts):
    return tuple(dict.fromkeys(filter(None, texts)))


class Roster:
    """People, found by what a submission's name tells. given: {submission: id or login} as somebody has looked it up."""

    def __init__(self, people, given=()):
        self.people, self.given = people, dict(given)
        self.by = {"id": defaultdict(set), "login": defaultdict(set), "name": defaultdict(set), "joined": defaultdict(set)}
        for person in people:
            for kind, told in (("id", person.ids), ("login", person.logins)):
                for each in told:
                    self.by[kind][each].add(person)
            for name in person.names:
                self.by["name"][tuple(sorted(name))].add(person)
                self.by["joined"]["".join(name)].add(person)

    def match(self, submissions):
        """({submission: Person}, [Strange]). A person with two submissions has none, unless one of them is `given`."""
        found = {name: self._who(name) for name in submissions}
        strange = [who for who in found.values() if isinstance(who, Strange)]
        handed = defaultdict(list)
        for name, who in found.items():
            if isinstance(who, Person):
                handed[who].append(name)
        for who, names in handed.items():
            names[:] = [name for name in names if name in self.given] or names  # whoever looked one up has decided
            if len(names) > 1:
                strange += [Strange(name, f"{len(names)} submissions are of this person: {', '.join(names)}", (who,)) for name in names]
        return {names[0]: who for who, names in handed.items() if len(names) == 1}, strange

    def _who(self, name):
        """The Person whose submission it is, or a Strange."""
        if name in self.given:
            return self._given(name, self.given[name])
        found, spelled = self._told(name)
        for place, (how, fitting) in enumerate(found):
            if len(fitting) > 1:
                return Strange(name, f"{len(fitting)} people fit by their {how}", _sorted(fitting))
            if fitting:
                (who,) = fitting
                others = set().union(*(later for _, later in found[place + 1 :] if later and who not in later))
                if others:
                    return Strange(name, f"its {how} is one person's, the rest of its name another's", _sorted({who, *others}))
                if how != "name" and spelled and not self._spelled(who, *spelled):
                    return Strange(name, f"its {how} is that of somebody with another name", (who,))
                return who
        return Strange(name, "nobody has its id, login or name")

    def _spelled(self, who, apart, joined):
        """Whether a name beside the id, as words or as one word, can be this person's."""
        return who.fits(apart) if joined is None else not who.names or who in self.by["joined"].get(joined, ())

    def _given(self, name, told):
        found = self.by["id"].get(_folded(told), set()) or self.by["login"].get(_folded(told), set())
        if len(found) == 1:
            return next(iter(found))
        return Strange(name, f"{told!r}, as looked up, is the id or login of {len(found) or 'no'} people", _sorted(found))

    def _told(self, name):
        """[(kind, the people whom the submission's name tells by it)], and the (words, one word) of a name beside an id, or None."""
        texts = {"id": [name], "login": [name], "name": [words(name)], "joined": []}
        spelled = None
        if found := CANVAS.fullmatch(name):
            texts["id"].append(found["id"])
            texts["joined"].append("".join(words(found["joined"])))
            spelled = ((), texts["joined"][0])
        elif found := MOODLE.fullmatch(name):
            texts["id"].append(found["id"])
            texts["name"].append(words(found["name"]))
            spelled = (texts["name"][-1], None)
        elif found := BLACKBOARD.fullmatch(name):
            parts = found["before"].split("_")
            texts["login"] += ["_".join(parts[start:]) for start in range(1, len(parts))]  # a username may hold underscores too
        elif found := BRIGHTSPACE.fullmatch(name):
            texts["name"].append(words(found["name"]))
        found = {kind: set() for kind in texts}
        for kind, each in ((kind, each) for kind, told in texts.items() for each in told):
            found[kind] |= self.by[kind].get(tuple(sorted(each)) if kind == "name" else _folded(each), set())
        return [("id", found["id"]), ("login", found["login"]), ("name", found["name"] | found["joined"])], spelled


def _sorted(people):
    return tuple(sorted(people, key=lambda person: person.row))
