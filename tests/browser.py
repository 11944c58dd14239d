"""Headless Chromium for the tests of pages, and axe-core in it; a test skips, with the reason, where one of them is not installed.

    pip install playwright && npm install --no-save axe-core && apt-get install chromium

AXE_CORE names another place of axe.min.js than node_modules/, CHROMIUM another browser.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip


@contextlib.contextmanager
def chromium():
    """A browser of playwright. What is opened in it may load files of this disk alone."""
    where = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not where:
        pytest.skip("Chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=FLAGS)
        yield browser
        browser.close()


def axe_source():
    path = Path(os.environ.get("AXE_CORE") or ROOT / "node_modules" / "axe-core" / "axe.min.js")
    if not path.is_file():
        pytest.skip(f"axe-core is not installed: {path} is not there")
    return path.read_text("utf-8")


def violations(page, source):
    """What axe-core finds wrong on an open page, a line each. All rules are asked, those of good practice too."""
    page.evaluate(source)  # unlike a script element, this is not subject to the page's policy
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{rule['id']}: {rule['help']}: {node['html'][:150]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]
