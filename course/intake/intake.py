"""What a student handed in, a folder or a zip, as files that can be graded; nothing in it is run or trusted."""

import difflib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from checks import FLOW

from course.handout.handout import FLOW_NOTEBOOK, NOTEBOOK, ROOT
from course.intake import notebook
from course.intake.modules import MODULE_BYTES, MODULES, OURS, chosen, last_of, say_which, take_modules
from course.intake.names import attempt, is_version
from course.intake.unpack import Refused, Unpacked, listed, opened_zip

CHECKPOINT = "best_checkpoint.pth"
NOTEBOOK_BYTES, WEIGHTS_BYTES = 50 * 2**20, 400 * 2**20
TEXTS = ("", ".py", ".txt", ".pyc", ".ipynb", ".doc", ".docx", ".odt", ".rtf", ".pdf")  # what a module may have been saved as
WEIGHTS = (".pth", ".pt", ".ckpt", ".pkl")
OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".tgz", ".gz", ".bz2", ".xz")


@dataclass
class Intake:
    """What was found. code: the folder with the student's modules. notes: what the student should know about it."""

    code: Path
    notebook: Path | None = None
    flow_notebook: Path | None = None
    checkpoint: bool = False
    notes: list[str] = field(default_factory=list)


def take(submission, into):
    """Copy what can be graded of a submission into the empty folder `into`. Never raises for its content; the notes name problems."""
    into = Path(into)
    intake = Intake(into / "code")
    intake.code.mkdir(parents=True)
    try:
        with Unpacked(submission, into / "zips") as unpacked:
            intake.notes = unpacked.notes
            modules = chosen(unpacked)
            take_modules(unpacked, modules, intake.code)
            beside = {file.name.parent for file in modules.values()}
            intake.flow_notebook = _take_notebook(unpacked, beside, into / FLOW_NOTEBOOK, None) if FLOW else None
            intake.notebook = _take_notebook(unpacked, beside, into / NOTEBOOK, FLOW_NOTEBOOK if FLOW else None)
            intake.checkpoint = _take_checkpoint(unpacked, beside, intake)
            _say_what_is_ours(unpacked, beside)
            _say_what_is_missing(unpacked, modules, intake)
    except Refused as why:
        intake.notes.append(f"The submission {why}. Hand in a folder, or a zip of it, with {' and '.join(MODULES)}.")
        intake.notes += [f"{name} is missing; its sections cannot be graded." for name in MODULES]
    return intake


def _one_of(files, beside):
    """Which of several files counts: the last beside or below the modules, or else the last of all; None if there is none."""
    near = [file for file in files if any(file.name.is_relative_to(folder) for folder in beside)]
    return last_of(near or files) if files else None


def _take_notebook(unpacked, beside, target, another):
    """Copy the notebook of target's name, or for the course's any that is not called `another`; returns its path, or None."""
    files = [file for file in unpacked.files.values() if is_version(file.name.name, target.name)]
    if target.name == NOTEBOOK and not files:
        files = [file for file in unpacked.files.values() if file.name.suffix.lower() == ".ipynb"]
        files = [file for file in files if not another or not is_version(file.name.name, another)]
    file = _one_of(files, beside)
    if file is None:
        return None
    say_which(unpacked, target.name, file, files)
    try:
        unpacked.copy(file, target, NOTEBOOK_BYTES)
    except Refused as why:
        unpacked.note(file.name, f"{why} and is left out.")
        return None
    return target


def _take_checkpoint(unpacked, beside, intake):
    """Copy the weights of the full training; returns whether there are any."""
    trained, customised = notebook.runs(intake.notebook) if intake.notebook else notebook.RUNS
    files = [file for file in unpacked.files.values() if is_version(file.name.name, CHECKPOINT)]
    run = {file: "" if file.name.parent in beside else file.name.parent.name for file in files}
    others = [file for file in files if run[file] not in trained and (run[file] in customised or "custom" in run[file].casefold())]
    own = [file for file in files if file not in others]
    file = _one_of([file for file in own if run[file] in trained] or own, beside)
    if file is None:
        _say_what_is_no_checkpoint(unpacked, others)
        return False
    together = [each for each in own if attempt(each.name) == attempt(file.name)]
    file = min(together, key=lambda each: (len(each.name.name), each.name))  # the first: the customised run comes later, and gets a number
    say_which(unpacked, CHECKPOINT, file, files)
    target = intake.code / CHECKPOINT
    try:
        unpacked.copy(file, target, WEIGHTS_BYTES)
        _check_size(target)
    except Refused as why:
        unpacked.note(file.name, f"{why} and is left out.")
        target.unlink(missing_ok=True)
    return target.is_file()


def _check_size(checkpoint):
    """Raise Refused for a checkpoint that would unpack to too many bytes; nothing is unpacked here."""
    if zipfile.is_zipfile(checkpoint):  # not one of an older torch
        with opened_zip(checkpoint) as archive:
            if sum(info.file_size for info in archive.infolist()) > WEIGHTS_BYTES:
                raise Refused(f"unpacks to more than {WEIGHTS_BYTES // 2**20} MB")


def _say_what_is_no_checkpoint(unpacked, customised):
    """Say why none of the weights files counts."""
    if customised:
        unpacked.notes.append(f"For the full training (2.4) weights of the customised run (2.6) do not count: {listed(customised)}.")
    near = [file for file in unpacked.files.values() if file.name.suffix.lower() in WEIGHTS and file not in customised]
    if near:
        unpacked.notes.append(f"No {CHECKPOINT} is there. Not taken for it: {listed(near)}. Hand it in under this very name.")
    if any(file.name.name == "data.pkl" for file in near):
        unpacked.notes.append("A data.pkl is a piece of a checkpoint that was unpacked, as browsers do: hand in the one file.")


def _say_what_is_ours(unpacked, beside):
    """Say which of the course's own modules were changed: the changes are not used."""
    for file in unpacked.files.values():
        ours = ROOT / file.name.name
        if file.name.parent in beside and file.name.stem in OURS and ours.is_file():
            try:
                changed = unpacked.read(file, MODULE_BYTES).replace(b"\r\n", b"\n") != ours.read_bytes()
            except Refused:
                changed = True
            words = "differs from the course's, which is used in its place: grading does not see your changes."
            unpacked.notes += [f"Your {ours.name} {words}"] if changed else []


def _say_what_is_missing(unpacked, modules, intake):
    """Say which modules are not there, what looks like them, and which folders have the name of a file."""
    others = [file for file in unpacked.files.values() if file not in modules.values() and not is_version(file.name.name, NOTEBOOK)]
    for folder in sorted(folder for folder in unpacked.folders if folder.name in (*MODULES, NOTEBOOK, CHECKPOINT)):
        unpacked.note(folder, "is a folder; a file of this name is asked for.")
    for wanted in MODULES:
        if not (intake.code / wanted).is_file():
            near = [file for file in others if _looks_like(file.name, wanted)]
            near = f" Not taken for it: {listed(near)}." if near else ""
            intake.notes.append(f"{wanted} is missing; its sections cannot be graded. Hand it in under this very name.{near}")
    archives = [file for file in others if file.name.suffix.lower() in OTHER_ARCHIVES]
    if archives and len(modules) < len(MODULES):
        intake.notes.append(f"Only zips are opened, not {listed(archives)}.")


def _looks_like(name, wanted):
    stem, other = PurePosixPath(wanted).stem.casefold(), name.stem.casefold()[:50]
    alike = stem in other or difflib.SequenceMatcher(None, stem, other).ratio() > 0.7
    return alike and name.suffix.lower() in TEXTS
