"""The page's controls inside a notebook: what the kernel computes, and the whole in JupyterLab in headless Chromium."""

import asyncio
import builtins
import importlib.util
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
import torch

import utils
from config import DMConfig
from DDPM import ConditionalDDPM
from lab.playground import widget
from lab.quality import judge
from lab.samplers import final, pixels, sample

ROOT = Path(utils.__file__).parent
needs_anywidget = pytest.mark.skipif(not importlib.util.find_spec("anywidget"), reason="needs anywidget")
DRAW = {"name": "sample", "labels": [7], "omega": [2], "seeds": [1], "method": "dpmpp", "steps": 9}


def answered(model, *tasks):
    """What the page is told after these tasks, each sent when the one before has begun: (message, buffers)."""
    told = []

    async def ask():
        answers = widget.Answers(model, lambda *message: told.append(message))
        for task in tasks:
            answers(task)
            await asyncio.sleep(0)
        await asyncio.wait([answers.running])

    asyncio.run(ask())
    return told


def test_the_steps_of_a_digit_are_those_of_sample(shipped):
    *steps, (done, _) = answered(shipped, {**DRAW, "id": 5})
    assert [message["t"] for message, _ in steps] == [400, 356, 311, 267, 222, 178, 133, 89, 44, 0]
    assert {message["id"] for message, _ in steps} == {5} and done["kind"] == "done" and done["seconds"] > 0
    x = torch.frombuffer(bytearray(steps[-1][1][0]), dtype=torch.float32).view(1, 1, 28, 28)
    wanted = sample(shipped, torch.tensor([7]), 2.0, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pixels(x), wanted)


def test_a_new_task_cancels_the_one_before(shipped):
    told = answered(shipped, {**DRAW, "id": 1, "steps": 400}, {**DRAW, "id": 2, "steps": 1})
    assert sum(message["id"] == 1 for message, _ in told) < 10
    assert [message["kind"] for message, _ in told if message["id"] == 2] == ["step", "step", "done"]


@pytest.mark.parametrize("omega", [[0, 2], [2, 2]])
def test_equal_seeds_begin_with_equal_noise(shipped, omega):
    """As in "Compare", at two weights and at one."""
    steps = list(zip(*widget.walks(shipped, {**DRAW, "labels": [3, 3], "omega": omega, "seeds": [4, 4]})))
    start, end = ([step.x for step in steps[k]] for k in (0, -1))
    assert torch.equal(*start)
    assert torch.equal(*end) == (omega[0] == omega[1])


def test_a_number_is_drawn_in_one_go_and_reads_as_such(shipped):
    walks = widget.walks(shipped, {**DRAW, "labels": [4, 0, 7], "omega": [2, 2, 2], "seeds": [1, 2, 3]})
    assert len(walks) == 1
    assert judge.read(judge.load(), pixels(final(walks[0])))[0].tolist() == [4, 0, 7]


def test_what_was_drawn_is_kept_and_the_other_half_fits(shipped):
    eight = sample(shipped, torch.tensor([8]), 2.0, generator=torch.Generator().manual_seed(3))
    image, mask = (eight - 0.1307) / 0.3081, torch.zeros(28, 28)
    mask[14:] = 1
    task = {"labels": [8], "omega": [2], "seeds": [1], "steps": 30, "image": image.flatten().tolist()}
    (walk,) = widget.walks(shipped, {**task, "name": "inpaint", "mask": mask.flatten().tolist()})
    done = pixels(final(walk))
    torch.testing.assert_close(done[..., :14, :], eight[..., :14, :], atol=1e-5, rtol=0)
    assert judge.read(judge.load(), done)[0].item() == 8
    (walk,) = widget.walks(shipped, {**task, "name": "edit", "start": 6, "labels": [3]})
    assert judge.read(judge.load(), pixels(final(walk)))[0].item() == 3


def test_without_a_class_nothing_is_asked_for(shipped):
    (walk,) = widget.walks(shipped, {**DRAW, "labels": [None]})
    wanted = sample(shipped, torch.tensor([0]), -1.0, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pixels(final(walk)), wanted)


def test_an_error_in_the_network_is_shown_on_the_page():
    model = ConditionalDDPM(DMConfig(num_feat=8, T=10)).eval()
    model.network.forward = None
    (message, _), *rest = answered(model, {**DRAW, "id": 1, "steps": 2})
    assert message["kind"] == "error" and "NoneType" in message["message"] and not rest


@needs_anywidget
def test_the_notebook_holds_a_picture_and_a_view_and_no_state(shipped, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    utils.playground(shipped)
    assert set(shown[0]) == {"image/png", "text/plain", "application/vnd.jupyter.widget-view+json"}


def test_without_anywidget_there_is_a_picture_and_a_sentence(shipped, monkeypatch, capsys):
    shown, real = [], builtins.__import__

    def without(name, *rest):
        if name == "anywidget":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    utils.playground(shipped)
    assert set(shown[0]) == {"image/png", "text/plain"}
    assert "pip install anywidget" in capsys.readouterr().out


@pytest.mark.parametrize("change, named", [({"num_classes": 12}, "num_classes = 12"), ({"input_dim": (32, 32)}, "input_dim")])
def test_another_model_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        utils.playground(ConditionalDDPM(DMConfig(num_feat=8, T=10, **change)).eval())


# ---- in JupyterLab


@pytest.fixture
def jupyterlab(tmp_path):
    """The address of a JupyterLab whose folder holds one notebook, with the cell of the course on the weights that ship."""
    for name in ("jupyterlab", "anywidget"):
        pytest.importorskip(name, reason=f"needs {name}")
    cell = nbformat.v4.new_code_cell("from utils import load_model, playground\n\nplayground(load_model())")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / "page.ipynb")
    port_file = tmp_path / "runtime"
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JUPYTER_RUNTIME_DIR": str(port_file),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
               "--ServerApp.password=", f"--ServerApp.root_dir={tmp_path}", "--LabApp.news_url=", "--LabApp.check_for_updates_class="
               "jupyterlab.handlers.announcements.NeverCheckForUpdate"]  # fmt: skip
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=tmp_path)
    try:
        yield _address(server, port_file), tmp_path / "page.ipynb"
    finally:
        server.terminate()
        server.wait(60)


def _address(server, runtime):
    (file,) = _until(lambda: server.poll() or list(runtime.glob("jpserver-*.json")))
    url = json.loads(file.read_text())["url"]
    _asked(url, "api")
    return url


def _asked(url, path):
    with urllib.request.urlopen(url + path, timeout=60) as answer:
        return json.load(answer)


def _until(found, seconds=120):
    """The first result of found() that is true."""
    for _ in range(seconds * 2):
        if result := found():
            return result
        time.sleep(0.5)
    raise AssertionError(f"{found} did not come true in {seconds} seconds")


@pytest.mark.slow
def test_in_jupyterlab_one_draws_and_the_saved_notebook_keeps_no_widget(jupyterlab, chromium):
    url, notebook = jupyterlab
    tab, wrong = chromium.new_context(viewport={"width": 1300, "height": 1100}).new_page(), []
    tab.set_default_timeout(120_000)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(f"{url}lab/tree/page.ipynb?reset")
    _until(lambda: [kernel["connections"] for kernel in _asked(url, "api/kernels") if kernel["execution_state"] == "idle"] == [1])
    tab.locator(".jp-NotebookPanel-toolbar [data-jp-item-name=run] >> visible=true").click()
    tab.locator("#status", has_text="A 3: 9 steps").wait_for()
    assert "Computed by the notebook's kernel." in tab.inner_text("#provider")
    assert "few" not in tab.eval_on_selector("#method", "select => [...select.options].map((option) => option.value)")  # it has no student
    tab.check("[name=class][value='7']")
    tab.locator("#status", has_text="A 7: 9 steps").wait_for()
    pixels = tab.eval_on_selector(
        "#views canvas", "c => [...c.getContext('2d').getImageData(0, 0, 28, 28).data].filter((_, i) => i % 4 == 0)"
    )
    drawn = torch.tensor(pixels).view(1, 1, 28, 28) / 255
    assert judge.read(judge.load(), drawn)[0].item() == 7
    tab.locator("#moment").press("Home")
    assert tab.inner_text("#moment-value") == "t = 400"
    tab.click("#tab-write")
    tab.fill("#text", "")
    tab.locator("#text").press_sequentially("19")  # no commands of JupyterLab, where 1 makes a heading of a cell
    tab.locator("#status", has_text="19: 9 steps").wait_for()
    tab.screenshot(path=os.environ.get("WIDGET_PICTURE") or notebook.with_suffix(".png"))
    tab.locator(".jp-NotebookPanel-toolbar [data-jp-item-name=save] >> visible=true").click()
    saved = lambda: nbformat.read(notebook, 4)
    (output,) = _until(lambda: saved().cells[0].outputs)
    assert "widgets" not in saved().metadata and saved().cells[0].cell_type == "code"
    assert "image/png" in output.data and len(json.dumps(output.data.get("application/vnd.jupyter.widget-view+json", {}))) < 200
    assert not wrong
    tab.context.close()
