"""The page as a folder of static files: the network that draws, the runtime that runs it, and the page itself."""

import json
import os
import shutil
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lab.playground import network, runtime
from lab.playground.settings import settings

PAGE = Path(__file__).parent / "page"


def export(out, model, runtime_folder=None, few=None):
    """Write the page for `model` into the folder `out`, whole or not at all; any static host serves it. Returns its size in bytes.

    runtime_folder: an unpacked onnxruntime-web, by default downloaded. few: a network that draws in few calls, a method more. Raises
    ValueError for a model that does not draw MNIST's digits and for a folder that holds something, and what `runtime.files` and
    `network.exported` raise.
    """
    out = Path(out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty; name a new folder")
    about = settings(model, few)
    onnx = lambda each: network.exported(each.network, about["shape"], about["num_classes"])
    networks = {"network.onnx": onnx(model)} | ({} if few is None else {"few.onnx": onnx(few)})
    content = dict(runtime.packed(*file) for file in (runtime.files(runtime_folder) | networks).items())
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".playground-") as temporary:
        made = Path(temporary) / "page"
        shutil.copytree(PAGE, made)
        (made / "settings.json").write_text(json.dumps(about), "utf-8")
        for name, data in content.items():
            (made / name).write_bytes(data)
        size = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
        os.replace(made, out)  # over an empty folder too
    return size


def server(folder, port):
    """A server of a folder for this machine's browsers alone. port: 0 for any that is free. Raises OSError for one that is taken."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=folder))


class _Handler(SimpleHTTPRequestHandler):
    # Python asks the system, and Windows may have other types, which browsers refuse
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript", ".mjs": "text/javascript"}

    def end_headers(self):
        self.send_header("Cache-Control", "no-cache")  # else a browser would show the page of an earlier export
        super().end_headers()

    def log_message(self, *words):
        pass
