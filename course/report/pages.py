"""HTML pages of records: one a submission, and one of the class for its lecturer. Each is one file that loads nothing."""

import base64
import io
import statistics
import textwrap
from collections import Counter
from pathlib import Path

import jinja2
import matplotlib
from matplotlib.figure import Figure

from course.report.safe import file_name, plain
from course.report.writers import points

FOLDER = "students"  # of the pages that the lecturer's page links to
PICTURES = ("png", "jpeg")  # kinds of pieces of a notebook
WIDTH = 9.0  # inches
DRAWN = 20  # misconceptions; the table names all
COLORS = ("#2f6fab", "#1d2129", "#ffffff"), ("#6aa9e6", "#e6e8ec", "#15181d")  # bars, ink, paper: on a light page and on a dark one

# Everything is escaped: names, messages and notebooks come from students.
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
)
TEMPLATES.globals["PICTURES"] = PICTURES


def marked(given, key):
    """What stands for the points of a section that a person marks."""
    return "…" if key not in given or given[key].points is None else points(given[key].points)


def sum_marked(given):
    return sum(each.points or 0 for each in given.values())


def unmarked(record, given):
    """The points that a person may still give."""
    return sum(section.out_of for section in record.open_sections if marked(given, section.key) == "…")


TEMPLATES.filters |= {"points": points, "marked": marked, "sum_marked": sum_marked, "unmarked": unmarked}


def student_page(record, given=None):
    """The page of one submission: points, what was found, and the parts of the notebook that a person marks.

    given: {section: course.marking.marks.Given} of what a person has marked.
    """
    return TEMPLATES.get_template("student.html").render(record=plain(record), given=given or {})


def class_page(title, records, failed=(), given=None, again=""):
    """The lecturer's page: the distribution of points, the misconceptions counted, and a row a submission.

    failed: (name, why) of the submissions that could not be graded. given: {submission: {section: course.marking.marks.Given}}.
    again: a sentence on points that moved, and on requests.
    """
    records = [plain(record) for record in records]
    given = {record.submission: (given or {}).get(record.submission, {}) for record in records}
    counts = misconceptions(records)
    reached = [record.points for record in records]
    return TEMPLATES.get_template("class.html").render(
        title=plain(title),
        records=records,
        given=given,
        waiting=sum(marked(given[record.submission], section.key) == "…" for record in records for section in record.open_sections),
        failed=plain(tuple(failed)),
        again=again,
        sections=records[0].sections if records else (),
        mean=statistics.mean(reached) if reached else 0,
        median=statistics.median(reached) if reached else 0,
        total=statistics.mean(record.points + sum_marked(given[record.submission]) for record in records) if records else 0,
        counts=counts,
        distribution=_drawn(_distribution, records) if records else "",
        distribution_words=_distribution_words(records) if records else "",
        drawn=_drawn(_bars, counts) if counts else "",
        link=lambda record: f"{FOLDER}/{file_name(record.submission)}.html",
    )


def _distribution_words(records):
    """The histogram in words, for those who do not see it."""
    reached = sorted(record.points for record in records)
    bars = Counter(int(value + 0.5) for value in reached)
    bars = ", ".join(f"{bars[value]} at {value}" for value in sorted(bars))
    return f"Histogram of the automatic points, from {points(reached[0])} to {points(reached[-1])}. Submissions: {bars}"


def misconceptions(records):
    """[(misconception, how many submissions have it)], the most frequent first."""
    held = [{each for section in record.sections for own in section.properties for each in own.misconceptions} for record in records]
    return sorted(Counter(each for own in held for each in own).items(), key=lambda pair: (-pair[1], pair[0]))


def _distribution(records, color):
    most = max(record.out_of - record.open for record in records)
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist([record.points for record in records], bins=[k - 0.5 for k in range(int(most) + 2)], rwidth=0.95, color=color)
    axes.set(xlabel=f"automatic points, of {points(most)}", ylabel="submissions", title="Distribution of the points")
    axes.set_xlim(-0.5, most + 0.5)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bars(counts, color):
    labels = [textwrap.fill(textwrap.shorten(what, 100, placeholder=" …"), 55) for what, _ in counts[:DRAWN]]
    values = [count for _, count in counts[:DRAWN]]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.12 * len(labels) + 0.2 * lines), layout="constrained")
    axes = figure.subplots()
    axes.bar_label(axes.barh(range(len(values)), values, color=color), padding=3)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="submissions", title=f"The {DRAWN} most frequent" if len(counts) > DRAWN else "How many have each")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _drawn(draw, data):
    """A figure twice, as base64 of a PNG: for a light page and for a dark one."""
    return tuple(_png(draw, data, *colors) for colors in COLORS)


def _png(draw, data, color, ink, paper):
    inks = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), ink)
    content = io.BytesIO()
    with matplotlib.rc_context({**inks, "figure.facecolor": paper, "axes.facecolor": paper}):
        draw(data, color).savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()
