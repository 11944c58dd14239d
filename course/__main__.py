"""The command line for staff: python -m course handout | grade | mark | export | alike | lecture | gradescope | nbgrader."""

import argparse
import os
import sys
from pathlib import Path

from course.handout.handout import HandoutError, handout
from course.handout.skeleton import SkeletonError

FORMATS = ("text", "gradescope", "prairielearn")


class CommandError(Exception):
    """A command that cannot be carried out as it was given."""


def grade(arguments):
    """Grade a submission, a folder or a zip; or with --all each sub-folder and zip of a folder."""
    if arguments.all:
        return _grade_all(arguments)
    if arguments.submission is None:
        raise CommandError("no submission; name a folder or a zip, or a whole class: --all FOLDER --out REPORT")
    for option in ("jobs", "dry_run", "worker"):
        if getattr(arguments, option):
            raise CommandError(f"--{option.replace('_', '-')} is for a class: --all FOLDER --out REPORT")
    out = _writable(arguments.out)
    from course.grading import guard

    if not Path(arguments.submission).exists():
        raise CommandError(f"{arguments.submission} does not exist; name a folder or a zip")
    path = Path(arguments.submission).absolute()
    ((_, record, why),) = guard.graded({path.name: path}, jobs=1)
    if record is None:
        raise CommandError(why)
    from course.report import writers

    said = writers.WRITERS[arguments.format or "text"](record)
    if out is None:
        print(said, end="")
    else:
        from lab.training.checkpoint import write_text  # here, as torch takes seconds

        write_text(out, said)


def _grade_all(arguments):
    if arguments.submission or arguments.format:
        raise CommandError("--all FOLDER grades a class and writes a report: it takes --out REPORT, no SUBMISSION and no --format")
    if arguments.out is None:
        raise CommandError("--all FOLDER needs --out REPORT, a new folder for the report, or one that is to be continued")
    from course.grading import classroom
    from course.report import changes

    try:
        how = {"dry": arguments.dry_run, "worker": arguments.worker, "tell": print}
        failed = classroom.grade_all(arguments.all, arguments.out, arguments.jobs, **how)
    except classroom.ClassError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise CommandError("stopped; what is graded is kept, and the same command goes on from there") from None
    if arguments.dry_run:
        print(f"nothing has changed in the report; what would is {Path(arguments.out) / classroom.PENDING / changes.NAME}")
    else:
        print(f"the report is {Path(arguments.out) / 'index.html'}")
    if failed:
        raise CommandError(f"{len(failed)} could not be graded: {', '.join(failed[:5])}; the report says why")


def mark(arguments):
    """Make the page on which people mark a class, take the files that it saves, and put the points into the report."""
    from course.grading.classroom import ClassError
    from course.marking import marking, page
    from course.report.safe import plain

    try:
        differences, strange = marking.mark(arguments.report, arguments.take)
    except ClassError as error:
        raise CommandError(str(error)) from error
    print(f"open {Path(arguments.report) / page.NAME} to mark; the report is {Path(arguments.report) / 'index.html'}")
    for name in strange:
        print(f"{plain(name)} has marks and is not in this class any more; they are kept")
    if differences:
        raise CommandError(
            "markers differ; both are kept, the points are open, and the page asks which holds:\n  " + "\n  ".join(differences)
        )


def _writable(out):
    """`out` as a Path to which a file can be written, before any work; None stays None."""
    if out is None:
        return None
    out = Path(out)
    if out.is_dir() or not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise CommandError(f"--out {out} cannot be written; name a file in a folder that exists")
    return out


def export(arguments):
    """Write the points of a class as the file that a platform's grade book takes."""
    from course.gradebook import export as gradebook

    how = {"column": arguments.column, "matches": arguments.matches, "by_section": arguments.by_section, "out": arguments.out}
    try:
        lines, left_out = gradebook.export(arguments.report, arguments.roster, arguments.to, **how)
    except gradebook.ExportError as error:
        raise CommandError(str(error)) from error
    print("\n".join(lines))
    if left_out:
        raise CommandError(f"{left_out} submissions are not in the file, see above")


def gradescope(arguments):
    """Make the zip that is uploaded to Gradescope as the autograder."""
    from course.platforms import gradescope

    gradescope.upload(_writable(arguments.out))


def nbgrader(arguments):
    """Make a folder in which nbgrader generates, collects and grades the notebook."""
    from course.platforms import nbgrader

    nbgrader.course(arguments.out)


def alike(arguments):
    """Show which submissions of a class are too much alike, as a hint for a person. No code of theirs is run."""
    out = _writable(arguments.out)
    from course.alike import alike as search
    from course.grading.classroom import ClassError

    try:
        pairs, notes = search.compare(arguments.folder, out, arguments.earlier, arguments.report, arguments.handout)
    except ClassError as error:
        raise CommandError(str(error)) from error
    for note in notes:
        print(f"not compared: {note}")
    print(f"{len(pairs)} pair{'' if len(pairs) == 1 else 's'} to look at; the page is {out}")


def lecture(arguments):
    """Show what a class did not understand, with examples for the lecture, and another year beside it."""
    out = _writable(arguments.out)
    from course.grading.classroom import ClassError, records
    from course.report import excerpt, lecture
    from lab.training.checkpoint import write_text

    try:
        now = records(arguments.report)
        before = records(arguments.before) if arguments.before else None
        people = [record.submission for record in (*now, *(before or ()))]
        show = excerpt.Excerpts(arguments.submissions, out, people) if arguments.submissions else lambda key, names: None
    except ClassError as error:
        raise CommandError(str(error)) from error
    parts = lecture.parts(now, before, show)
    title = lambda report: Path(report).absolute().name
    write_text(out, lecture.page(title(arguments.report), parts, len(now), (title(arguments.before), len(before)) if before else None))
    print(lecture.text(parts), end="")
    print(f"the page is {out}")


def parser():
    main = argparse.ArgumentParser(prog="python -m course", description="Hand out and grade the course.")
    commands = main.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("handout", help="make what students receive", description="Make what students receive, in a new folder.")
    command.add_argument("out", metavar="OUT", help="the folder")
    command.set_defaults(run=lambda parsed: handout(parsed.out))

    command = commands.add_parser("grade", help="grade a submission, or a class", description=grade.__doc__)
    command.add_argument("submission", nargs="?", metavar="SUBMISSION", help="a folder or a zip")
    command.add_argument("--format", choices=FORMATS, help="format of the output (default: text)")
    command.add_argument("--out", help="the file to write (default: the terminal); with --all the folder of the report")
    command.add_argument("--all", metavar="FOLDER", help="grade a class: each sub-folder and zip of FOLDER is a submission")
    command.add_argument("--jobs", type=int, help="with --all, how many are graded at once (default: one more than there are cores)")
    command.add_argument("--dry-run", action="store_true", help="with --all, say whose points would move, and leave the report as it is")
    command.add_argument("--worker", action="store_true", help="with --all, share the class with others that run on the same folders")
    command.set_defaults(run=grade)

    command = commands.add_parser("mark", help="make the page on which people mark a class", description=mark.__doc__)
    command.add_argument("report", metavar="REPORT", help="the report of grade --all")
    command.add_argument("--take", nargs="+", default=[], metavar="FILE", help="files that the page has saved")
    command.set_defaults(run=mark)

    command = commands.add_parser("export", help="write the points for a grade book", description=export.__doc__)
    command.add_argument("report", metavar="REPORT", help="the report of grade --all")
    command.add_argument("--roster", required=True, metavar="FILE", help="what the platform exported; for csv any table of people")
    command.add_argument("--to", required=True, choices=("canvas", "moodle", "blackboard", "csv"), help="the platform")
    command.add_argument("--column", metavar="NAME", help="the assignment's name or id there, where the roster has several")
    command.add_argument("--matches", metavar="FILE", help="the list of what matched nobody, with its last column filled in")
    command.add_argument("--by-section", action="store_true", help="with csv, a row a section")
    command.add_argument("--out", metavar="FOLDER", help="where to write (default: REPORT/export)")
    command.set_defaults(run=export)

    command = commands.add_parser("gradescope", help="make the upload for Gradescope", description=gradescope.__doc__)
    command.add_argument("out", metavar="OUT.zip", help="the file")
    command.set_defaults(run=gradescope)

    command = commands.add_parser("nbgrader", help="make a folder for nbgrader", description=nbgrader.__doc__)
    command.add_argument("out", metavar="OUT", help="the folder")
    command.set_defaults(run=nbgrader)

    command = commands.add_parser("alike", help="show which submissions are too much alike", description=alike.__doc__)
    command.add_argument("folder", metavar="FOLDER", help="the class: each sub-folder and zip is a submission")
    command.add_argument("--earlier", nargs="+", default=[], metavar="FOLDER", help="classes of earlier years, to compare with")
    command.add_argument("--report", help="the report of grade --all: shared rare mistakes count most")
    command.add_argument("--handout", nargs="+", default=[], metavar="FOLDER", help="what earlier years received, where it was another")
    command.add_argument("--out", required=True, metavar="PAGE", help="the page to write, as alike.html")
    command.set_defaults(run=alike)

    command = commands.add_parser("lecture", help="show what a class did not understand", description=lecture.__doc__)
    command.add_argument("report", metavar="REPORT", help="the report of grade --all")
    command.add_argument("--before", metavar="REPORT", help="the report of another year")
    command.add_argument("--submissions", metavar="FOLDER", help="the class, for anonymous examples of its code")
    command.add_argument("--out", required=True, metavar="PAGE", help="the page to write, as lecture.html")
    command.set_defaults(run=lecture)
    return main


def main(arguments=None):
    parsed = parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except (CommandError, HandoutError, SkeletonError, ValueError, OSError) as error:
        sys.exit(f"python -m course: {error}")


if __name__ == "__main__":
    main()
