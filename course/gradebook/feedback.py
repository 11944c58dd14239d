"""What a student reads about the points, and the zip in which Moodle takes it."""

import io
import re
import zipfile

from course.gradebook.sheet import SheetError
from course.report import writers
from course.report.writers import points


def feedback_zip(sheet, plan, given):
    """Moodle's upload of feedback files as bytes: a folder a person, as in its download of submissions. given: {row: Grade}."""
    content, name_at = io.BytesIO(), sheet.column("Full name")
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for row, grade in given.items():
            cells = sheet.rows[row]
            number = re.search(r"\d+$", cells[plan.key].strip())
            if number is None:
                raise SheetError(f"the identifier {cells[plan.key]!r} does not end with a participant's number; export the worksheet again")
            name = _folder_name(cells[name_at] if name_at is not None else "")
            archive.writestr(f"{name}_{number[0]}_assignsubmission_file_/feedback.txt", feedback(grade))
    return content.getvalue()


def _folder_name(name):
    """A name for a folder, without underscores: Moodle takes what stands between the first two for the participant's number."""
    return re.sub(r"[\\/:*?\"<>|_\x00-\x1f]", " ", name).strip(" .") or "Participant"


def feedback(grade):
    """A text: the points, those given by a person too, and the record."""
    record = grade.record
    lines = [f"{points(grade.points)} of {points(record.out_of)} points: {points(record.points)} by the checks"]
    for section in record.sections:
        if section.points is None:
            given = grade.of(section)
            said = "not marked yet" if given is None else f"{points(given)} of {points(section.out_of)}, by a person"
            lines.append(f"  {section.title}: {said}")
    return "\r\n".join([*lines, "", *writers.text(record).splitlines(), ""])
