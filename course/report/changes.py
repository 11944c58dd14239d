"""Whose points moved when a class was graded again, and what students ask to be looked at: a page, and lines for a terminal.

moved: (submission, what course.grading.again.moved says) each.
"""

from itertools import groupby
from textwrap import shorten

from course.report import pages
from course.report.safe import file_name, plain
from course.report.writers import points

NAME = "again.html"


def page(title, moved, requests=(), dry=False):
    """The page. requests: what course.report.requests.answered gives. dry: nothing of it is in the report yet."""
    moved = sorted(sorted(moved, key=lambda each: each[0].casefold()), key=lambda each: each[1]["when"], reverse=True)
    runs = [] if dry else [(when, list(group)) for when, group in groupby(moved, key=lambda each: each[1]["when"])]
    return pages.TEMPLATES.get_template("again.html").render(
        title=plain(title),
        runs=[("", moved)] if dry and moved else runs,
        requests=[{name: plain(value) for name, value in each.items()} for each in requests],
        dry=dry,
        link=lambda name: f"{pages.FOLDER}/{file_name(name)}.html",
        said=said,
        plain=plain,
    )


def said(count):
    """Points, for a reader; None are those that a person gives."""
    return "…" if count is None else points(count)


def lines(moved):
    """A line for each submission whose points moved, and one for each of its properties; one that says so if there is none."""
    for name, what in sorted(moved, key=lambda each: each[0].casefold()):
        yield plain(f"{name}: {points(what['from'])} -> {points(what['to'])} points; {what['why']}")
        for row in what["rows"]:
            why = f": {shorten(row['says'], 100, placeholder=' …')}" if row["says"] else ""  # such as that it took too long
            yield plain(f"    {row['section']}: {row['what']}: {said(row['from'])} -> {said(row['to'])}{why}")


def summary(moved, requests):
    """A sentence for the page of the class; "" where there is nothing to say. requests: of course.report.requests."""
    words = []
    if names := {name for name, _ in moved}:
        words.append(f"points of {len(names)} submission{'s' * (len(names) > 1)} have moved")
    if requests:
        waiting = sum(not each.answer for each in requests)
        words.append(f"{len(requests)} regrade request{'s' * (len(requests) > 1)}, {waiting} without an answer")
    return "; ".join(words) + "." if words else ""
