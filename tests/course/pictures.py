"""Draws the pictures of the report's pages for course/README.md, with a class of invented names:

    python tests/course/pictures.py

writes pics/report_class.png, report_student.png, report_marking.png, report_again.png, report_alike.png and report_lecture.png. It needs what tests/browser.py needs, without axe-core.
"""

import io
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "course")]

from a_class import thirty, write
from browser import chromium
from catalogue import lay_out
from PIL import Image
from test_readable import MOVED, REQUEST
from thirty import lay_out_class, record, write_report

from course.__main__ import main
from course.marking import marking
from course.report import changes

WINDOW = {"width": 1060, "height": 640}
MOST = 80_000  # bytes


def save(tab, name):
    """What a tab shows, with a palette."""
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB").quantize(64, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    path = ROOT / "pics" / f"report_{name}.png"
    picture.save(path, optimize=True)
    assert path.stat().st_size < MOST, f"{path} has {path.stat().st_size:,} bytes"


def draw(browser, folder):
    write(folder, thirty())
    marking.mark(folder)
    tab = browser.new_page(viewport=WINDOW, accept_downloads=True)
    tab.goto((folder / "mark.html").as_uri())
    tab.get_by_label("Your initials").fill("AB")
    for key in ("Escape", "]", *"u1" * 14, *"u2c"):
        tab.keyboard.press(key)
    tab.keyboard.type("Which rows show that?")
    tab.keyboard.press("Escape")
    tab.evaluate("document.activeElement.scrollIntoView()")
    save(tab, "marking")
    for key in (*"u12" * 15, "]", *"u12" * 30, "[", "[", *"u12" * 10):
        tab.keyboard.press(key)
    with tab.expect_download() as download:
        tab.keyboard.press("s")
    marking.mark(folder, [download.value.path()])
    tab.goto((folder / "index.html").as_uri())
    save(tab, "class")
    tab.goto((folder / "students" / sorted(path.name for path in (folder / "students").iterdir())[0]).as_uri())
    save(tab, "student")
    moved = {**MOVED, "rows": [{**MOVED["rows"][0], "section": "2.1 Variance schedule"}]}
    (folder / "again.html").write_text(changes.page("Diffusion, autumn", [("Ada Kowalska", moved)], [REQUEST]), "utf-8")
    tab.goto((folder / "again.html").as_uri())
    save(tab, "again")


def draw_class(browser, folder):
    made = lay_out_class(folder / "autumn")
    lay_out(next(row for row in made.values() if not row.section), folder / "autumn" / "Nora Muster")  # a copy of one of them
    write_report(folder / "Diffusion, autumn", [record(name, row) for name, row in made.items()])
    main(["alike", str(folder / "autumn"), "--out", str(folder / "alike.html")])
    main(["lecture", str(folder / "Diffusion, autumn"), "--submissions", str(folder / "autumn"), "--out", str(folder / "lecture.html")])
    tab = browser.new_page(viewport=WINDOW)
    tab.goto((folder / "alike.html").as_uri())
    tab.evaluate("document.querySelector('#pair1').scrollIntoView()")
    save(tab, "alike")
    tab.goto((folder / "lecture.html").as_uri())
    tab.set_viewport_size({**WINDOW, "height": 390})  # one diagnosis
    tab.evaluate("document.querySelector('h2').scrollIntoView()")
    save(tab, "lecture")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        draw(browser, Path(folder) / "report")
        draw_class(browser, Path(folder))
