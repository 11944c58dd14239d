"""The records in the report of a class, read again for what is made of a whole class."""

import json
from pathlib import Path

from course.report.record import from_json

FOLDER = "records"  # as course.grading.classroom.RECORDS


def records(report):
    """The Records of a report of `grade --all`, by name. Raises ValueError where it holds none, or one is damaged."""
    folder = Path(report) / FOLDER
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise ValueError(f"{report} holds no records; name the REPORT that `python -m course grade --all FOLDER --out REPORT` wrote")
    found = []
    for file in files:
        try:
            kept = json.loads(file.read_text("utf-8"))
            found.append(from_json(json.dumps(kept["record"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file} is no record of a grading ({error}); remove it and grade the class again") from error
    return sorted(found, key=lambda record: record.submission)
