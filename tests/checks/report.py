"""What a student reads: a section in a few lines, the likely mistake first."""

import textwrap

WIDTH = 110


def report(section, verdict, most=2):
    """The lines of a section's result, with at most `most` faults of each property that is wrong."""
    right = [key for key in verdict.properties if not verdict.faults.get(key)]
    if verdict.unwritten:
        yield f"{section.title}: not written yet ({section.cls}.{section.method} in {section.module}.py)"
        return
    if not verdict.faults:
        yield f"{section.title}: all right"
    elif len({fault.says for faults in verdict.faults.values() for fault in faults}) == 1 and not right:
        yield f"{section.title}: nothing can be looked at yet"
        yield from _wrapped(next(iter(verdict.faults.values()))[0].says)
    else:
        yield f"{section.title}: {len(right)} of {len(verdict.properties)} properties are right"
        for key in right:
            yield f"  right  {verdict.properties[key][1]}"
        for key in (key for key in verdict.properties if verdict.faults.get(key)):
            yield f"  WRONG  {verdict.properties[key][1]}"
            for fault in sorted(verdict.faults[key], key=lambda fault: not fault.mistake)[:most]:
                if fault.mistake:
                    yield from _wrapped(f"This is what you get when {fault.mistake}.")
                yield from _wrapped(fault.says)
        yield from _wrapped(verdict.see)
    for note in verdict.notes:
        yield from _wrapped(f"Note: {note}")


def _wrapped(text):
    return textwrap.wrap(text, WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9)
