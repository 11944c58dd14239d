"""Classes of thirty submissions with invented names, laid out from the catalogue of solutions, with the records that a grading would give."""

import json
import random

from catalogue import lay_out, rows
from checks.sections import SECTIONS

from course.report.record import Property, Record, Section, to_json
from course.report.safe import file_name

NAMES = """Ada Ben Cleo Dora Emil Finn Gita Hugo Ines Jan Kira Lars Mona Nils Olga Paul Rosa Sven Tara Udo Vera Wim Xena Yuri Zoe Anke Bert
Carl Dina Elif""".split()


def lay_out_class(folder, count=30, wrong=16, seed=3):
    """{name: Row} of `count` submissions laid out in a folder, `wrong` of them with a slip; no two are of the same solution."""
    chance, chosen = random.Random(seed), {}
    everything = rows()
    slips = [row for row in everything if row.section and row.mistake]
    chance.shuffle(slips)
    for row in slips:
        if len(chosen) < wrong and row.folder not in chosen:
            chosen[row.folder] = row
    rights = [row for row in everything if not row.section and row.folder not in chosen]
    picked = [*chosen.values(), *chance.sample(rights, count - len(chosen))]
    chance.shuffle(picked)
    made = {f"{name} Muster": row for name, row in zip(NAMES, picked)}
    for name, row in made.items():
        lay_out(row, folder / name)
    return made


def record(name, row, mistakes=()):
    """The record of a submission with the slip of a row, or with these (section, property, mistake) more."""
    lost = [*([(row.section, row.property, row.mistake)] if row.section else []), *mistakes]
    sections = []
    for key, section in SECTIONS.items():
        own = []
        for each, (points, words) in section.properties.items():
            held = tuple(mistake for where, what, mistake in lost if (where, what) == (key, each))
            own.append(Property(words, 0 if held else points, points, held, tuple(mistake for mistake in held if mistake)))
        sections.append(Section(key, section.title, sum(each.points for each in own), section.points, tuple(own)))
    return Record(name, tuple(sections))


def write_report(folder, records):
    """A folder as `grade --all` leaves it, as far as what is read of it goes."""
    (folder / "records").mkdir(parents=True)
    for each in records:
        (folder / "records" / f"{file_name(each.submission)}.json").write_text(
            json.dumps({"of": "", "record": json.loads(to_json(each))}), "utf-8"
        )
    return folder
