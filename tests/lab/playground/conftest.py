"""An exported page with the weights that ship, for the tests that need one; they skip where a program for it is missing."""

import dataclasses
import importlib
import os
import shutil
from pathlib import Path

import pytest

from lab.playground import export, network, runtime
from utils import load_model


@pytest.fixture(scope="session")
def model():
    """The network that ships, in float32."""
    model = load_model(device="cpu")
    model.dmconfig = dataclasses.replace(model.dmconfig, precision="float32")
    return model


@pytest.fixture(scope="session")
def package():
    """An unpacked onnxruntime-web."""
    folder = Path(os.environ.get("ONNXRUNTIME_WEB", runtime.CACHE))
    if not folder.exists():
        pytest.skip(f"needs onnxruntime-web {runtime.VERSION}: set ONNXRUNTIME_WEB to an unpacked one, or run python -m lab playground once")
    return folder


@pytest.fixture(scope="session")
def onnx():
    """The packages that write an ONNX file."""
    for name in network.PACKAGES:
        pytest.importorskip(name, reason=f"needs {name}, which is not in requirements.txt")


@pytest.fixture(scope="session")
def page(model, package, onnx, tmp_path_factory):
    """The folder of the exported page."""
    out = tmp_path_factory.mktemp("page") / "page"
    export.export(out, model, package)
    return out


@pytest.fixture(scope="session")
def node():
    if not shutil.which("node"):
        pytest.skip("needs Node.js")
    return "node"


@pytest.fixture(scope="session")
def chromium():
    """A headless browser, driven by Playwright."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if not found or not importlib.util.find_spec("playwright"):
        pytest.skip("needs Chromium, and pip install playwright")
    from playwright.sync_api import sync_playwright

    quiet = ["quic", "background-networking", "component-update", "sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
        )
        yield browser
        browser.close()
