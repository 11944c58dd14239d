"""The page's folder: what is refused, what is in it, and how it is served; without a browser."""

import builtins
import dataclasses
import gzip
import hashlib
import io
import json
import re
import threading
import urllib.request

import pytest
import torch

from config import DMConfig
from DDPM import ConditionalDDPM
from lab.__main__ import main
from lab.diffusion.few import FewSteps
from lab.playground import export, network, runtime
from lab.training import pretrained
from lab.training.data import DataError

SMALL = DMConfig(num_feat=8, T=10, precision="float32")
CONTENT = {name: f"content of {name}".encode() for name in runtime.FILES}


@pytest.fixture
def short_package(tmp_path, monkeypatch):
    """A package whose files are short, taken for the real one."""
    monkeypatch.setattr(runtime, "FILES", {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()})
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    for name, content in CONTENT.items():
        (folder / "dist" / name).write_bytes(content)
    return folder


@pytest.fixture
def packed(short_package, monkeypatch, tmp_path):
    """What the server answers with: the files of the package; the tests run in an empty folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    answers = []
    read = lambda url: (short_package / "dist" / url.rsplit("/", 1)[1]).read_bytes()
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: answers.append(url) or io.BytesIO(read(url)))
    return answers


def test_the_package_is_downloaded_once_and_kept(packed):
    assert runtime.files() == runtime.files() == CONTENT
    assert packed == [f"{runtime.URL}/{name}" for name in CONTENT]


@pytest.mark.parametrize("at", [None, "package"])
def test_a_file_that_was_changed_is_refused(packed, short_package, at):
    """In the package that is named, and in the one that was downloaded."""
    runtime.files()
    name = next(iter(CONTENT))
    folder = short_package if at else runtime.CACHE
    (folder / "dist" / name).write_bytes(CONTENT[name][:-1])
    with pytest.raises(DataError, match=f"{name} is not that of onnxruntime-web"):
        runtime.files(folder if at else None)


def test_a_download_with_another_file_leaves_nothing(packed, monkeypatch):
    monkeypatch.setattr(runtime, "FILES", {name: "0" * 64 for name in CONTENT})
    with pytest.raises(DataError, match="damaged"):
        runtime.files()
    assert not list(runtime.CACHE.parent.iterdir())


def test_without_a_network_the_error_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="could not be downloaded .*--runtime"):
        runtime.files()
    assert not list(tmp_path.iterdir())


def test_an_incomplete_package_is_refused(short_package):
    (short_package / "dist" / "ort.webgpu.bundle.min.mjs").unlink()
    with pytest.raises(DataError, match="ort.webgpu.bundle.min.mjs cannot be read"):
        runtime.files(short_package)


@pytest.mark.parametrize(
    "changes, word",
    [({"num_channels": 3}, "num_channels = 3"), ({"num_classes": 100}, "num_classes = 100"), ({"input_dim": (32, 32)}, "input_dim = "),
     ({"schedule": "cosine"}, "schedule = 'cosine'"), ({"process": "flow"}, "process = 'flow'")],
)  # fmt: skip
def test_a_model_of_something_else_is_refused(tmp_path, changes, word):
    model = ConditionalDDPM(SMALL)
    model.dmconfig = dataclasses.replace(SMALL, **changes)
    with pytest.raises(ValueError, match=word):
        export.export(tmp_path / "page", model, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "changes, word", [({"T": 8}, "T = 8"), ({"beta_T": 0.03}, "beta_T = 0.03"), ({"num_channels": 3}, "num_channels = 3")]
)
def test_a_network_of_few_calls_has_to_fit(tmp_path, changes, word):
    few = FewSteps(ConditionalDDPM(SMALL))
    few.dmconfig = dataclasses.replace(few.dmconfig, **changes)
    with pytest.raises(ValueError, match=word):
        export.export(tmp_path / "page", ConditionalDDPM(SMALL), tmp_path, few)
    with pytest.raises(ValueError, match="process = 'ddpm'; the page draws with process = 'few'"):
        export.export(tmp_path / "page", ConditionalDDPM(SMALL), tmp_path, ConditionalDDPM(SMALL))
    assert not list(tmp_path.iterdir())


def test_the_network_that_draws_in_few_calls_comes_with_the_weights_that_ship_alone(tmp_path, monkeypatch):
    """Another model has no such student."""
    given = []
    monkeypatch.setattr(export, "export", lambda out, model, runtime, few: given.append(few) or 0)
    main(["playground", "--out", str(tmp_path / "page")])
    main(["playground", "--out", str(tmp_path / "page"), "--checkpoint", str(pretrained.DIGITS)])
    assert isinstance(given[0], FewSteps) and given[1] is None


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SystemExit) as stop:
        main(["playground", "--out", str(tmp_path)])
    assert "not empty; name a new folder" in str(stop.value) and [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_missing_packages_are_named_with_the_command_that_installs_them(tmp_path, monkeypatch):
    find = builtins.__import__

    def without(name, *rest, **more):
        if name in ("onnx", "onnxruntime", "onnxscript"):
            raise ImportError(name)
        return find(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install onnx onnxscript onnxruntime"):
        network.exported(ConditionalDDPM(SMALL).network, (1, 28, 28), 10)


def test_the_page_is_a_folder_that_is_served_with_the_right_types(tmp_path, short_package, monkeypatch):
    monkeypatch.setattr(network, "exported", lambda *about: b"a network")
    size = export.export(tmp_path / "page", ConditionalDDPM(SMALL), short_package)
    page = tmp_path / "page"
    assert size == sum(path.stat().st_size for path in page.rglob("*") if path.is_file())
    assert gzip.decompress((page / "ort-wasm-simd-threaded.wasm.gz").read_bytes()) == CONTENT["ort-wasm-simd-threaded.wasm"]
    about = json.loads((page / "settings.json").read_text())
    assert about["T"] == 10 and about["few"] is None and gzip.decompress((page / "network.onnx.gz").read_bytes()) == b"a network"
    assert not (page / "few.onnx.gz").exists()
    with export.server(page, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, kind in (("", "text/html"), ("app.js", "text/javascript"), ("ort.wasm.bundle.min.mjs", "text/javascript")):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/{name}") as answer:
                assert answer.headers.get_content_type() == kind
        server.shutdown()


def test_the_pages_files_are_all_there_and_ask_no_other_host():
    for path in export.PAGE.rglob("*"):
        if path.suffix in (".js", ".html", ".css"):
            text = path.read_text("utf-8")
            assert not re.search(r"(https?:)?//[\w-]+\.\w", re.sub(r"^\s*(//|/?\*).*", "", text, flags=re.M)), path.name
            for name in re.findall(r"""(?:from |src=|import\(|href=)["'`]\.?/?([\w./-]+\.(?:js|css|txt))["'`]""", text):
                assert (path.parent / name).is_file(), f"{path.name} names {name}"


@pytest.mark.slow
def test_a_network_that_onnx_computes_otherwise_is_refused(onnx, monkeypatch):
    """A batch norm that is lost on the way."""
    halved = network._halved

    def wrong(model):
        next(weight for weight in model.graph.initializer if list(weight.dims) == [8, 8, 3, 3]).raw_data = bytes(8 * 8 * 3 * 3 * 4)
        return halved(model)

    exact = ConditionalDDPM(SMALL).network
    network.exported(exact, (1, 28, 28), 10)
    monkeypatch.setattr(network, "_halved", wrong)
    with pytest.raises(ValueError, match="gives other outputs than the network"):
        network.exported(exact, (1, 28, 28), 10)


@pytest.mark.slow
def test_weights_that_half_precision_would_change_stay_as_they_are(onnx):
    """New weights need all their bits; rounded ones take half the bytes, but for those that a batch norm is folded into."""
    exact, rounded = ConditionalDDPM(SMALL).network, ConditionalDDPM(SMALL).network
    with torch.no_grad():
        for weight in rounded.parameters():
            weight.copy_(weight.half())
    sizes = [len(network.exported(each, (1, 28, 28), 10)) for each in (exact, rounded)]
    assert sizes[1] < sizes[0] - 20_000


@pytest.mark.slow
def test_the_page_with_the_weights_that_ship_is_small(page):
    assert sum(path.stat().st_size for path in page.rglob("*") if path.is_file()) <= 20e6
