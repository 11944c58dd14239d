"""The names that learning platforms, browsers and file managers give to a file, and which of several versions is the last."""

import functools
import re

# "jane_LATE_101_202_DDPM-1.py" (Canvas), "HW5_jane_attempt_2026-11-20-14-22-11_DDPM.py" (Blackboard), "Jane
# Doe_101_assignsubmission_file_DDPM.py" (Moodle), "101-202 - Jane Doe - Nov 20, 2026 223 PM - DDPM.py" (Brightspace), "Copy of DDPM.py"
BEFORE = r"(?:(?:.*_)?\d[\d-]*_|.*_assignsubmission_file_|.* \d{1,4} [ap]m - |copy of |kopie von |copie de )?"
# "DDPM-1.py", "DDPM (1).py", "DDPM 2.py", "DDPM copy 2.py", "DDPM - Copy (2).py"
AFTER = r"(?:[ _-]{0,3}(?:copy|kopie|copie)|[ -]\d{1,3}| ?\(\d{1,3}\)){0,3}"
ENDING = r"(?:\.py|\.txt|\.json)?"  # added by a browser, or by a system that hides extensions
ATTEMPT = re.compile(r"attempt_\d[\d-]*")
NUMBER = re.compile(r"[ _-]?\(?\d+\)?")  # that tells "work-1" from "work-2"
COPY = re.compile("copy|kopie|copie", re.IGNORECASE)
ONE_AGE = 10  # seconds that count as no difference: copying or unpacking takes a while


def is_version(name, wanted):
    """Whether a file's name is the wanted one, or what a platform or system made of it."""
    return _pattern(wanted).fullmatch(name) is not None


@functools.cache
def _pattern(wanted):
    stem, _, ending = wanted.rpartition(".")
    return re.compile(rf"{BEFORE}{re.escape(stem)}{AFTER}\.{ending}{ENDING}", re.IGNORECASE | re.DOTALL)


def attempt(path):
    """Which attempt a file is of: its folder, and the attempt that its name gives, if any. Files of one were handed in together."""
    found = ATTEMPT.search(path.name)
    return path.parent / found[0] if found else path.parent


def last(times):
    """The latest of {path: modification time}; of one age, the highest number if they differ in nothing else, else the outermost."""
    newest = max(times.values())
    paths = [path for path in times if newest - times[path] <= ONE_AGE]
    if len({NUMBER.sub("", str(path)) for path in paths}) == 1:
        return max(paths, key=lambda path: [int(digits) for digits in re.findall(r"\d+", str(path))])
    return min(paths, key=lambda path: (len(path.parts), bool(COPY.search(path.name)), -times[path], path))
