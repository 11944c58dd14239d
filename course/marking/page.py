"""The page on which people mark: one file, opened from the disk, that runs no script but its own and loads nothing."""

import base64
import hashlib
import io
import re
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from course.marking.marks import MarksError, shown_digest
from course.report import pages
from course.report.safe import plain

NAME = "mark.html"  # in the folder of a report
SCRIPT = Path(pages.__file__).parent / "templates" / "marking.js"
MAX_PICTURE = 40_000  # bytes; larger ones are made smaller, as the page holds those of all submissions
MAX_SIDE = 900  # pixels of those
QUALITY = 85
HIDDEN = "(name)"


def pseudonym(name):
    """A short text that stands for a submission, the same in every report. It hides the name from the eye, not from a search."""
    letters = base64.b32encode(hashlib.sha256(f"pseudonym of {name}".encode("utf-8", "surrogatepass")).digest()).decode()
    return f"{letters[:4]}-{letters[4:8]}"


def pseudonyms(names):
    """{name: pseudonym}, all different."""
    found = {name: pseudonym(name) for name in names}
    if len(set(found.values())) < len(found):
        raise MarksError("two submissions would get the same pseudonym; rename the folder or zip of one of them a little")
    return found


def page(title, records, marks):
    """The marking page. records: an iterable of whole records. marks: with pseudonyms in the place of names, see course.marking.marks."""
    sections = {}
    for record in records:
        for section in (section for section in record.sections if section.points is None):
            row = sections.setdefault(section.key, {"key": section.key, "title": section.title, "out_of": section.out_of, "answers": []})
            row["answers"].append(_answer(record.submission, section))
    for row in sections.values():  # another order for each question, so that nobody is always the first
        row["answers"].sort(key=lambda answer: hashlib.sha256(f"{row['key']} {answer['id']}".encode()).digest())
    ordered = [sections[key] for key in sorted(sections, key=lambda key: sections[key]["title"])]
    state = [{**row, "answers": [{"id": each["id"], "shown": each["digest"]} for each in row["answers"]]} for row in ordered]
    script = SCRIPT.read_text("utf-8")
    return pages.TEMPLATES.get_template("mark.html").render(
        title=plain(title),
        sections=ordered,
        state={"title": plain(title), "sections": state, "marks": marks},
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _answer(name, section):
    hide = _hider(name)
    shown = [(kind, content) if kind in pages.PICTURES else (kind, hide(plain(content))) for kind, content in section.shown]
    shown = [small(*piece) if piece[0] in pages.PICTURES else piece for piece in shown]
    return {"id": pseudonym(name), "digest": shown_digest(section), "shown": shown, "notes": [hide(plain(note)) for note in section.notes]}


def _hider(name):
    """A function that takes the student's name out of a text: the words of the submission's name, in both orders."""
    words = re.findall(r"[^\W_]+", plain(name))
    orders = [r"[\W_]{0,3}".join(map(re.escape, order)) for order in (words, words[::-1])] if sum(map(len, words)) > 3 else []
    alone = [rf"(?-i:{re.escape(word)})" for word in words if len(words) > 1 and len(word) > 3 and word[0].isupper()]
    if not orders:
        return lambda text: text
    pattern = re.compile(rf"(?<![^\W_])(?:{'|'.join(orders + alone)})(?![^\W_])", re.IGNORECASE)
    return lambda text: pattern.sub(HIDDEN, text)


def small(kind, content):
    """A picture ("png" | "jpeg", base64) of at most MAX_SIDE pixels a side, if it was large; as it is where it cannot be read."""
    raw = base64.b64decode(content)
    if len(raw) <= MAX_PICTURE:
        return kind, content
    try:
        with Image.open(io.BytesIO(raw), formats=["PNG", "JPEG"]) as image:
            image.thumbnail((MAX_SIDE, MAX_SIDE))
            paper = Image.new("RGB", image.size, "white")
            seen = image.convert("RGBA")
            paper.paste(seen, mask=seen.getchannel("A"))
        made = io.BytesIO()
        paper.save(made, "JPEG", quality=QUALITY)
    except (OSError, SyntaxError, ValueError):
        return kind, content
    return ("jpeg", base64.b64encode(made.getvalue()).decode()) if made.tell() < len(raw) else (kind, content)
