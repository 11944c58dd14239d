"""What a student wrote, made harmless for those who read it: for a terminal, a database, a spreadsheet, a file system."""

import dataclasses
import hashlib
import os
import re

ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)")  # colours, cursor, window title
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # the last two ranges change the reading direction
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")


def plain(value):
    """A text without control characters and lone surrogates; a record with all its texts so cleaned.

    Escape sequences steer a terminal, and databases refuse NUL; line breaks and tabs stay.
    """
    if isinstance(value, str):
        text = ANSI.sub("", value).replace("\r\n", "\n")
        return CONTROL.sub("", text).encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return dataclasses.replace(value, **{field.name: plain(getattr(value, field.name)) for field in fields})
    return value


def cell(value):
    """What goes into a cell of a spreadsheet; a text that would be read as a formula gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    text = " ".join(plain(value).split())
    return f"'{text}" if text.startswith(FORMULA) else text


def file_name(name):
    """A file name for a submission: short, of ordinary characters, different for every name."""
    safe = re.sub(r"[^A-Za-z0-9._@-]", "_", name).lstrip(".-")[:60]
    return safe if safe == name else f"{safe or '_'}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
