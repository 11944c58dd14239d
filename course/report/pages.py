"""HTML pages of records: one a submission, and one of the class for its lecturer. Each is one file that loads nothing."""

import base64
import io
import statistics
import textwrap
from collections import Counter
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from course.report.safe import file_name, plain
from course.report.writers import points

FOLDER = "students"  # of the pages that the lecturer's page links to
COLOR = "tab:blue"
WIDTH = 9.0  # inches
DRAWN = 20  # misconceptions; the table names all

# Everything is escaped: names, messages and notebooks come from students.
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
)
TEMPLATES.filters["points"] = points


def student_page(record):
    """The page of one submission: points, what was found, and the parts of the notebook that a person marks."""
    return TEMPLATES.get_template("student.html").render(record=plain(record))


def class_page(title, records, failed=(), again=""):
    """The lecturer's page: the distribution of points, the misconceptions counted, and a row a submission.

    failed: (name, why) of the submissions that could not be graded. again: a sentence on points that moved, and on requests.
    """
    records = [plain(record) for record in records]
    counts = misconceptions(records)
    given = [record.points for record in records]
    return TEMPLATES.get_template("class.html").render(
        title=plain(title),
        records=records,
        failed=plain(tuple(failed)),
        again=again,
        sections=records[0].sections if records else (),
        mean=statistics.mean(given) if given else 0,
        median=statistics.median(given) if given else 0,
        counts=counts,
        distribution=_png(_distribution(records)) if records else "",
        drawn=_png(_bars(counts)) if counts else "",
        link=lambda record: f"{FOLDER}/{file_name(record.submission)}.html",
    )


def misconceptions(records):
    """[(misconception, how many submissions have it)], the most frequent first."""
    held = [{each for section in record.sections for own in section.properties for each in own.misconceptions} for record in records]
    return sorted(Counter(each for own in held for each in own).items(), key=lambda pair: (-pair[1], pair[0]))


def _distribution(records):
    most = max(record.out_of - record.open for record in records)
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist([record.points for record in records], bins=[k - 0.5 for k in range(int(most) + 2)], color=COLOR, edgecolor="white")
    axes.set(xlabel=f"automatic points, of {points(most)}", ylabel="submissions", title="Distribution of the points")
    axes.set_xlim(-0.5, most + 0.5)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bars(counts):
    labels = [textwrap.fill(textwrap.shorten(what, 100, placeholder=" …"), 55) for what, _ in counts[:DRAWN]]
    values = [count for _, count in counts[:DRAWN]]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = Figure(figsize=(WIDTH, 0.9 + 0.12 * len(labels) + 0.2 * lines), layout="constrained")
    axes = figure.subplots()
    axes.bar_label(axes.barh(range(len(values)), values, color=COLOR), padding=3)
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="submissions", title=f"The {DRAWN} most frequent" if len(counts) > DRAWN else "How many have each")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.margins(y=0.02)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _png(figure):
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()
