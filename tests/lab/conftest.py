"""What the engine's tests share: no network, a small MNIST, and a toy model that trains in a blink."""

import dataclasses
import gzip
import hashlib
import os
import shutil
import socket
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from config import DMConfig
from lab import display
from lab.playground import export, network, runtime
from lab.training import checkpoint, data, experiment, pretrained
from lab.training.trainer import seeded
from utils import load_model

matplotlib.use("Agg")
IMAGES = {"train": 60, "t10k": 20}  # of the small MNIST


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing leaves this machine: other hosts cannot be found."""
    find = socket.getaddrinfo

    def only_here(host, *rest, **more):
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror(-2, f"{host} is not known in a test")
        return find(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", only_here)
    monkeypatch.setattr(data, "_stand_ins", set())


@pytest.fixture
def small_mnist(monkeypatch):
    """The four files of an MNIST of 60 and 20 images, {name: bytes}, which lab.training.data then takes for the real one."""
    monkeypatch.delenv("MNIST_DIR", raising=False)
    draw, files = np.random.default_rng(0), {}
    for part, count in IMAGES.items():
        pixels = draw.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count).astype(np.uint8) % 10
        files[f"{part}-images-idx3-ubyte"] = np.array([0x803, count, 28, 28], ">i4").tobytes() + pixels.tobytes()
        files[f"{part}-labels-idx1-ubyte"] = np.array([0x801, count], ">i4").tobytes() + labels.tobytes()
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}
    monkeypatch.setattr(data, "MNIST_FILES", {name: hashlib.sha256(content).hexdigest() for name, content in files.items()})
    monkeypatch.setattr(data.MNIST, "resources", [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()])
    return files


@pytest.fixture
def real_mnist():
    """The folder of the real MNIST."""
    if not os.environ.get("MNIST_DIR"):
        pytest.skip("needs the real MNIST: set MNIST_DIR")
    return os.environ["MNIST_DIR"]


def put(root, files):
    """Files of MNIST where torchvision looks for them below `root`."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return root


class Toy(nn.Module):
    """A model as lab.training is handed one: images and labels in, a noise loss out; with batch norm and chance in it."""

    def __init__(self, dmconfig):
        super().__init__()
        self.dmconfig = dmconfig
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.GELU(), nn.Conv2d(4, 1, 3, 1, 1))

    def forward(self, images, labels):
        noise = torch.randn_like(images)
        return nn.functional.mse_loss(self.network(images + noise), noise)


def settings(**changes):
    return DMConfig(**{"epochs": 3, "learning_rate": 1e-3, "lr_cycle": 10, "ema_decay": 0.9, "precision": "float32", **changes})


def toy(dmconfig, kind=Toy):
    with seeded("cpu", dmconfig.seed, "weights"):
        return kind(dmconfig)


class Bar:
    """A progress bar that only counts."""

    count = 0

    def update(self, count):
        self.count += count

    def set_postfix_str(self, *words, **more):
        pass


def batches(count, size=16, shuffle=False):
    """`count` images of 8x8 in batches of `size`."""
    draw = torch.Generator().manual_seed(count)
    images = torch.rand(count, 1, 8, 8, generator=draw)
    return DataLoader(TensorDataset(images, torch.arange(count) % 10), size, shuffle=shuffle)


def train(folder, train_loader=None, test_loader=None, picture=None, reporter=display.Reporter(silent=True), **changes):
    """Three epochs of four steps of a toy; the history and the last checkpoint."""
    dmconfig = settings(**changes)
    loaders = train_loader or batches(56, shuffle=True), test_loader or batches(16)
    picture = picture or (lambda model: plt.figure(figsize=(1, 1)))
    folder = Path(folder)
    history = experiment.run(toy(dmconfig), dmconfig, folder, *loaders, "cpu", picture, reporter)
    return history, checkpoint.load(folder / "last_checkpoint.pth")


def same(a, b):
    """Whether two nests of dicts, lists and tensors are equal to the bit."""
    if torch.is_tensor(a):
        return torch.is_tensor(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def without_times(history):
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in history]


def same_run(one, other):
    """Whether two results of `train` are equal to the bit, the time they took aside."""
    (history_1, state_1), (history_2, state_2) = one, other
    rest_1, rest_2 = ({key: value for key, value in state.items() if key != "history"} for state in (state_1, state_2))
    return same(without_times(history_1), without_times(history_2)) and same(rest_1, rest_2)


# ---- for tests/lab/playground: an exported page, and what runs it; they skip where a program is missing
@pytest.fixture(scope="session")
def shipped():
    """The network that ships, in float32."""
    model = load_model(device="cpu")
    model.dmconfig = dataclasses.replace(model.dmconfig, precision="float32")
    return model


@pytest.fixture(scope="session")
def shipped_few():
    """The network that draws in few calls, in float32."""
    model = load_model(pretrained.FEW, "cpu")
    model.dmconfig = dataclasses.replace(model.dmconfig, precision="float32")
    return model


@pytest.fixture(scope="session")
def package():
    """An unpacked onnxruntime-web."""
    folder = Path(os.environ.get("ONNXRUNTIME_WEB", runtime.CACHE))
    if not folder.exists():
        pytest.skip(
            f"needs onnxruntime-web {runtime.VERSION}: set ONNXRUNTIME_WEB to an unpacked one, or run python -m lab playground once"
        )
    return folder


@pytest.fixture(scope="session")
def onnx():
    """The packages that write an ONNX file."""
    for name in network.PACKAGES:
        pytest.importorskip(name, reason=f"needs {name}, which is not in requirements.txt")


@pytest.fixture(scope="session")
def page(shipped, shipped_few, package, onnx, tmp_path_factory):
    """The folder of the exported page."""
    out = tmp_path_factory.mktemp("page") / "page"
    export.export(out, shipped, package, shipped_few)
    return out


@pytest.fixture(scope="session")
def node():
    if not shutil.which("node"):
        pytest.skip("needs Node.js")
    return "node"


@pytest.fixture(scope="session")
def chromium():
    """A headless browser, driven by Playwright."""
    import browser  # here, as processes that tests start have other paths

    with browser.chromium() as found:
        yield found
