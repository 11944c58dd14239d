"""Tables that spreadsheets and platforms write: read as they are, and written back in the same encoding, separator and quotes."""

import codecs
import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

from course.report.safe import cell, plain
from lab.training.checkpoint import write_bytes

MAX_BYTES = 50 * 2**20
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # byte-order marks


class SheetError(ValueError):
    """A file that is no table as it is needed here; the message says what to do."""


@dataclass(frozen=True)
class Sheet:
    """header: a tuple of texts. rows: lists of texts, as long as the header. The rest says how the file is written."""

    header: tuple[str, ...]
    rows: tuple[list[str], ...]
    encoding: str = "utf-8-sig"
    separator: str = ","
    quoted: bool = False
    ending: str = "\r\n"

    def column(self, *names):
        """The place of the first column that has one of the names, whatever their case; None if there is none."""
        folded = [name.strip().casefold() for name in self.header]
        return next((folded.index(name.casefold()) for name in names if name.casefold() in folded), None)

    def only(self, columns, rows):
        """This sheet with other rows, and these columns alone."""
        taken = tuple([row[place] for place in columns] for row in rows)
        return replace(self, header=tuple(self.header[place] for place in columns), rows=taken)


def read(path):
    """The Sheet in a file. Raises SheetError."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SheetError(f"{path} cannot be read: {error.strerror}; name the file that was exported") from error
    if len(content) > MAX_BYTES:
        raise SheetError(f"{path} is larger than {MAX_BYTES >> 20} MB; a class's table is much smaller")
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise SheetError(f"{path} is a workbook of a spreadsheet program; save it as CSV (UTF-8), or export it as CSV")
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise SheetError(f"{path} is not written in UTF-8 or UTF-16 with a byte-order mark; save it as CSV (UTF-8)") from error
    return _parsed(path, text, encoding)


def _parsed(path, text, encoding):
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=lambda each: first.count(each))
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise SheetError(f"{path} is no table: {error}; export it again") from error
    if not rows or not any(name.strip() for name in rows[0]):
        raise SheetError(f"{path} has no first line with the names of the columns; export it again")
    header = tuple(rows[0])
    body = tuple([*row, *[""] * (len(header) - len(row))] for row in rows[1:] if any(value.strip() for value in row))
    for row in body:
        if len(row) > len(header):
            raise SheetError(f"{path} has {len(header)} columns, and a line of {len(row)} cells: {' | '.join(row)[:80]!r}; export it again")
    return Sheet(header, body, encoding, separator, first.startswith('"'), "\r\n" if first.endswith("\r") else "\n")


def write(path, sheet):
    """Write a Sheet, whole or not at all, with no cell that a spreadsheet would run."""
    text = io.StringIO(newline="")
    how = csv.QUOTE_ALL if sheet.quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=sheet.separator, quoting=how, lineterminator=sheet.ending)
    writer.writerows([list(map(defused, row)) for row in (sheet.header, *sheet.rows)])
    mark = next((mark for mark, name in MARKS.items() if name == sheet.encoding and name != "utf-8-sig"), b"")
    write_bytes(Path(path), mark + text.getvalue().encode(sheet.encoding))


def defused(text):
    """A text as it is, or, if a spreadsheet would read it as a formula, with an apostrophe before it (course.report.safe.cell).

    A sign alone, as platforms write for "nothing", is no formula.
    """
    safe, bare = cell(text), " ".join(plain(text).split())
    return text if safe == bare or len(bare) == 1 else safe


def bare(text):
    """A cell without the apostrophe that `defused` has put before it."""
    return text[1:] if text.startswith("'") and defused(text[1:]) == text else text
