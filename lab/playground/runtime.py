"""The files of onnxruntime-web, which runs the page's network in a browser: downloaded once, checked, and packed for the page."""

import gzip
import hashlib
import http.client
import os
import shutil
import tempfile
import urllib.request
from pathlib import Path

from lab.training.data import DataError

VERSION = "1.30.0"
URL = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist"
CACHE = Path("data") / f"onnxruntime-web-{VERSION}"
SECONDS = 30  # without an answer
# SHA-256 of what the page needs of the package's folder dist: a script and its WebAssembly, without and with WebGPU.
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}


def files(folder=None):
    """The files of onnxruntime-web as {name: bytes}, from the unpacked package in `folder`, else from CACHE, where they are downloaded to.

    Raises DataError where they are missing, cannot be had or are not those of FILES.
    """
    if folder is None and not CACHE.exists():
        _download(CACHE)
    return {name: _read(Path(folder or CACHE) / "dist" / name, digest, folder is None) for name, digest in FILES.items()}


def packed(name, content):
    """Name and bytes of a file as the page has it: what is large gzipped, 19 MB in place of 51, whether a host packs it or not."""
    return (f"{name}.gz", gzip.compress(content, mtime=0)) if name.endswith((".wasm", ".onnx")) else (name, content)


def _read(path, digest, ours):
    otherwise = f"delete {CACHE} to have it downloaded again" if ours else f"unpack onnxruntime-web {VERSION} there"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); {otherwise}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path} is not that of onnxruntime-web {VERSION}, or damaged; {otherwise}")
    return content


def _download(folder):
    """Fetch FILES of the package into `folder`, whole or not at all."""
    found = {}
    for name in FILES:
        try:
            with urllib.request.urlopen(f"{URL}/{name}", timeout=SECONDS) as answer:
                found[name] = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DataError(
                f"{URL}/{name} could not be downloaded ({error}). Unpack onnxruntime-web {VERSION} in a folder where there is a network, "
                "as with npm pack, and name it: python -m lab playground --runtime FOLDER"
            ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".download-", dir=folder.parent))
    try:
        (partial / "dist").mkdir()
        for name, content in found.items():
            (partial / "dist" / name).write_bytes(content)
            _read(partial / "dist" / name, FILES[name], True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
