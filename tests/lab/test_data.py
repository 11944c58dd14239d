"""lab.training.data: only whole files are served, a stand-in says that it is one, and batches are those of torchvision."""

import errno
import gzip
import hashlib
import os
import pickle
import random
import socketserver
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
import torch
from conftest import put
from torchvision import datasets, transforms
from torchvision.transforms import v2

from lab.training import data

PLAIN = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


def pixels_of(files, part):
    return np.frombuffer(files[f"{part}-images-idx3-ubyte"][16:], np.uint8).reshape(-1, 28, 28)


# Files that are there


def test_the_real_set_is_accepted(real_mnist):
    train, test = data.mnist(PLAIN), data.mnist(PLAIN, train=False)
    assert (len(train), len(test)) == (60000, 10000)
    assert train.targets.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    mean, std = train.data.float().mean() / 255, train.data.float().std() / 255
    assert mean.item() == pytest.approx(0.1307, abs=5e-5) and std.item() == pytest.approx(0.3081, abs=5e-5)


def test_whole_files_are_served(small_mnist, tmp_path):
    put(tmp_path, small_mnist)
    for train, part in ((True, "train"), (False, "t10k")):
        served = data.mnist(dir=tmp_path, train=train)
        assert np.array_equal(served.data.numpy(), pixels_of(small_mnist, part))
        assert served.targets.tolist() == [i % 10 for i in range(len(served.data))]


def damage(files, kind):
    name, content = "train-images-idx3-ubyte", files["train-images-idx3-ubyte"]
    if kind == "short labels":
        name = "train-labels-idx1-ubyte"
        content = files[name][:-1]
    elif kind == "flipped byte":
        content = content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]
    elif kind == "twenty images":  # consistent in itself: torchvision takes it
        content = np.array([0x803, 20, 28, 28], ">i4").tobytes() + content[16 : 16 + 20 * 784]
    elif kind == "other file":
        content = files["t10k-images-idx3-ubyte"]
    elif kind == "empty":
        content = b""
    return name, content


@pytest.mark.parametrize("kind", ["short labels", "flipped byte", "twenty images", "other file", "empty"])
@pytest.mark.parametrize("train", [True, False])
def test_a_damaged_file_is_named(small_mnist, tmp_path, monkeypatch, kind, train):
    name, content = damage(small_mnist, kind)
    path = put(tmp_path, {**small_mnist, name: content}) / "MNIST" / "raw" / name
    with pytest.raises(data.DataError) as error:
        data.mnist(dir=tmp_path, train=train)
    assert str(path) in str(error.value) and "copy a good one there, or delete it" in str(error.value)
    assert path.read_bytes() == content  # nothing of the user's is touched
    monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    with pytest.raises(data.DataError) as error:
        data.mnist(train=train)
    assert str(path) in str(error.value) and "download" not in str(error.value)  # nothing is downloaded to there


def test_a_change_anywhere_in_any_file_is_noticed(small_mnist, tmp_path):
    """240 variants: a byte changed, cut off, or one too many, at random places of each of the four files."""
    put(tmp_path, small_mnist)
    draw = random.Random(0)
    for name, content in small_mnist.items():
        path = tmp_path / "MNIST" / "raw" / name
        for _ in range(20):
            place = draw.randrange(len(content))
            changed = bytes([content[place] ^ draw.randrange(1, 256)])
            for variant in (content[:place] + changed + content[place + 1 :], content[:place], content[:place] + changed + content[place:]):
                path.write_bytes(variant)
                with pytest.raises(data.DataError, match=name):
                    data.mnist(dir=tmp_path)
        path.write_bytes(content)
    assert len(data.mnist(dir=tmp_path)) == 60


def test_an_old_processed_set_is_not_served_instead(small_mnist, tmp_path):
    put(tmp_path, small_mnist)
    (tmp_path / "MNIST" / "processed").mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3).long()), tmp_path / "MNIST" / "processed" / file)
    assert len(datasets.MNIST(tmp_path)) == 3  # torchvision prefers them
    assert len(data.mnist(dir=tmp_path)) == 60


def test_the_environment_names_a_folder(small_mnist, tmp_path, monkeypatch):
    put(tmp_path / "elsewhere", small_mnist)
    monkeypatch.setenv("MNIST_DIR", str(tmp_path / "elsewhere"))
    assert len(data.mnist(dir=tmp_path / "here")) == 60
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("there", [True, False])
def test_an_environment_without_the_files_is_an_error(tmp_path, monkeypatch, there):
    folder = tmp_path if there else tmp_path / "nowhere"
    for variable, load in (("MNIST_DIR", data.mnist), ("CIFAR10_DIR", data.cifar10)):
        monkeypatch.setenv(variable, str(folder))
        with pytest.raises(data.DataError, match=f"{variable} = .*lacks .*unset it"):
            load()
    assert list(tmp_path.iterdir()) == []


def test_a_home_folder_and_a_plain_string_will_do(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "d", small_mnist)
    for dir in ("~/d", "d", "./d", tmp_path / "d"):
        assert len(data.mnist(dir=dir)) == 60
    assert sorted(os.listdir()) == ["d"]


# Downloads


class Mirror(socketserver.ThreadingTCPServer):
    """An HTTP server on this machine: {name: (bytes, how many of them are sent before it hangs up)}; a `patience` it stalls for before."""

    daemon_threads = allow_reuse_address = True

    def __init__(self):
        self.files, self.asked, self.patience = {}, [], 0
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.strip("/")
        self.server.asked.append(name)
        if name not in self.server.files:
            return self.send_error(404)
        content, sent = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:sent])
        self.wfile.flush()
        if sent is not None:
            time.sleep(self.server.patience)

    def log_message(self, *words):
        pass


@pytest.fixture
def mirrors(small_mnist, monkeypatch):
    """Two mirrors of the small MNIST, and the only ones that are known."""
    servers = [Mirror(), Mirror()]
    for server in servers:
        server.files = {f"{name}.gz": (gzip.compress(content, mtime=0), None) for name, content in small_mnist.items()}
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(data.MNIST, "mirrors", [server.url for server in servers])
    yield servers
    for server in servers:
        hang_up(server)


@pytest.fixture
def mirror(mirrors, monkeypatch):
    """The first of them, and the only one that is known."""
    monkeypatch.setattr(data.MNIST, "mirrors", [mirrors[0].url])
    return mirrors[0]


def test_a_download_leaves_whole_files_and_no_others(mirror, small_mnist, tmp_path, capsys):
    root = tmp_path / "not" / "there" / "yet"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(data.mnist(dir=root).data.numpy(), pixels_of(small_mnist, "train"))
    assert {p.name: p.read_bytes() for p in root.rglob("*") if p.is_file()} == small_mnist
    assert capsys.readouterr().out == ""
    asked = len(mirror.asked)
    data.mnist(dir=root, train=False)
    assert len(mirror.asked) == asked  # it is there now


def break_off(mirror):
    content, _ = mirror.files["t10k-images-idx3-ubyte.gz"]
    mirror.files["t10k-images-idx3-ubyte.gz"] = content, len(content) // 2


def other_content(mirror):
    mirror.files["train-labels-idx1-ubyte.gz"] = b"<html>Please log in</html>", None


def hang_up(mirror):
    mirror.shutdown()
    mirror.server_close()


def stall(mirror):
    break_off(mirror)
    mirror.patience = 2


@pytest.mark.parametrize("spoil", [break_off, other_content, hang_up])
def test_a_failed_download_leaves_nothing_and_says_once_what_stands_in(mirror, tmp_path, spoil):
    spoil(mirror)
    with pytest.warns(UserWarning) as warned:
        train, test = data.mnist(dir=tmp_path), data.mnist(dir=tmp_path, train=False)
    assert (len(train), len(test)) == (1500, 297)
    assert len(warned) == 1
    message = str(warned[0].message)
    assert "scikit-learn's 1,797 small digits stand in" in message  # that,
    assert "RuntimeError" in message or "URLError" in message  # why,
    assert str(tmp_path / "MNIST" / "raw") in message and "t10k-labels-idx1-ubyte" in message and "MNIST_DIR" in message  # what to do
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("spoil", [break_off, stall])
def test_where_the_first_mirror_fails_the_second_is_asked(mirrors, small_mnist, tmp_path, monkeypatch, spoil):
    monkeypatch.setattr(data, "CONNECT_SECONDS", 0.3)
    spoil(mirrors[0])
    assert np.array_equal(data.mnist(dir=tmp_path).data.numpy(), pixels_of(small_mnist, "train"))
    assert {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == small_mnist
    assert mirrors[0].asked and mirrors[1].asked


@pytest.mark.parametrize("named", [True, False])
def test_packed_files_are_unpacked(small_mnist, tmp_path, monkeypatch, named):
    """As torchvision leaves them, or as they lie on a stick, and without a network."""
    packed = {f"{name}.gz": gzip.compress(content) for name, content in small_mnist.items()}
    folder = put(tmp_path / "there", packed) / "MNIST" / "raw"
    if named:
        monkeypatch.setenv("MNIST_DIR", str(tmp_path / "there"))
    assert np.array_equal(data.mnist(dir=tmp_path / "there").data.numpy(), pixels_of(small_mnist, "train"))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {**small_mnist, **packed}
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_several_processes_unpack_at_once(small_mnist, tmp_path, monkeypatch):
    """Here the second begins and ends while the first is about to put its file in place."""
    name = "train-labels-idx1-ubyte"
    folder = put(tmp_path, {f"{name}.gz": gzip.compress(small_mnist[name])}) / "MNIST" / "raw"
    replace, unpack = os.replace, lambda: data._unpack(folder / name, "sha256", data.MNIST_FILES[name], "")

    def meanwhile(*paths):
        monkeypatch.setattr(os, "replace", replace)
        unpack()
        replace(*paths)

    monkeypatch.setattr(os, "replace", meanwhile)
    unpack()
    assert (folder / name).read_bytes() == small_mnist[name] and len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("change", [
    lambda content: gzip.compress(content[:-1]), lambda content: gzip.compress(content)[:-9], lambda content: b"<html>",
    lambda content: gzip.compress(content)[:20] + b"0000" + gzip.compress(content)[24:],
])  # fmt: skip
@pytest.mark.parametrize("named", [True, False])
def test_a_damaged_packed_file_is_named(small_mnist, tmp_path, monkeypatch, change, named):
    packed = {f"{name}.gz": gzip.compress(content) for name, content in small_mnist.items()}
    bad = "train-labels-idx1-ubyte.gz"
    folder = put(tmp_path, {**packed, bad: change(small_mnist[bad[:-3]])}) / "MNIST" / "raw"
    if named:
        monkeypatch.setenv("MNIST_DIR", str(tmp_path))
    with pytest.raises(data.DataError, match=f"{bad} .*copy a good one there") as error:
        data.mnist(dir=tmp_path)
    assert ("or delete it" in str(error.value)) != named and not (folder / bad[:-3]).exists()


def test_a_folder_where_packed_files_cannot_be_unpacked(small_mnist, tmp_path, monkeypatch):
    def full(*anything):
        raise OSError(errno.EROFS, "Read-only file system")

    put(tmp_path, {f"{name}.gz": gzip.compress(content) for name, content in small_mnist.items()})
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(data.DataError, match="train-images-idx3-ubyte cannot be written.*Read-only.*unpack"):
        data.mnist(dir=tmp_path)


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_git_lfs_pointer_is_called_one(small_mnist, tmp_path, packed):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 47040016\n"
    put(tmp_path, {f"{name}{packed}": pointer for name in small_mnist})
    with pytest.raises(data.DataError, match=f"train-images-idx3-ubyte{packed} is a Git LFS pointer.*git lfs pull"):
        data.mnist(dir=tmp_path)


def test_files_that_come_later_are_served(mirror, small_mnist, tmp_path):
    hang_up(mirror)
    with pytest.warns(UserWarning):
        data.mnist(dir=tmp_path)
    put(tmp_path, small_mnist)
    assert len(data.mnist(dir=tmp_path)) == 60


def test_what_is_missing_is_downloaded(mirror, small_mnist, tmp_path):
    some = {name: content for name, content in small_mnist.items() if "t10k" not in name}
    put(tmp_path, some)
    assert len(data.mnist(dir=tmp_path, train=False)) == 20


@pytest.mark.parametrize("inside", ["", "MNIST", "MNIST/raw"])
def test_a_folder_that_cannot_be_written_is_an_error(mirror, tmp_path, inside):
    blocked = tmp_path / "data" / inside
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file where a folder should be")
    with pytest.raises(data.DataError, match="cannot be written.*name another folder"):
        data.mnist(dir=tmp_path / "data")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [blocked]  # nothing half done beside it


@pytest.mark.parametrize("where", ["download", "move"])
def test_a_full_disk_is_an_error(mirror, tmp_path, monkeypatch, where):
    def full(*anything, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "download":
        monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", full)
    else:
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(data.DataError, match="No space left.*make room"):
        data.mnist(dir=tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


# Batches


@pytest.fixture
def small(small_mnist, tmp_path):
    """Makes the small MNIST with a transform."""
    put(tmp_path, small_mnist)
    return lambda transform, train=True: data.mnist(transform, tmp_path, train)


TRANSFORMS = {
    "plain": PLAIN,
    "tensor only": transforms.ToTensor(),
    "larger": transforms.Compose([transforms.Resize(32), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]),
    "second edition": v2.Compose([v2.ToImage(), v2.Resize((16, 16)), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.1,), (0.3,))]),
    "whole numbers": v2.Compose([v2.ToImage()]),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_batches_are_those_of_torchvision(small, name):
    ours = data.loader(small(TRANSFORMS[name]), 16, shuffle=False)
    theirs = torch.utils.data.DataLoader(small(TRANSFORMS[name]), 16)
    assert type(ours) is data.Loader and len(ours) == len(theirs) == 4
    pairs = list(zip(ours, theirs))
    assert [len(images) for (images, _), _ in pairs] == [16, 16, 16, 12]
    for (images, labels), (images_2, labels_2) in pairs:
        assert images.dtype == images_2.dtype and torch.equal(images, images_2)
        assert labels.dtype == labels_2.dtype and torch.equal(labels, labels_2)


def test_pixels_are_kept_once_and_small(small):
    dataset = small(PLAIN)
    served = data.loader(dataset, 16, shuffle=False)
    assert served.images.data_ptr() == dataset.data.data_ptr() and served.images.dtype == torch.uint8


def test_every_image_once_in_a_new_order_each_time(small):
    served = data.loader(small(transforms.ToTensor()), 16, shuffle=True)
    whole = small(None).data[:, None].float() / 255
    torch.manual_seed(0)
    epochs = []
    for _ in range(2):
        images, labels = (torch.cat(parts) for parts in zip(*served))
        where = [int((whole == image).all(dim=(1, 2, 3)).nonzero()) for image in images]
        assert sorted(where) == list(range(60)) and labels.tolist() == [i % 10 for i in where]
        epochs.append(where)
    assert epochs[0] != epochs[1] != list(range(60))
    torch.manual_seed(0)
    assert torch.equal(next(iter(served))[0], whole[epochs[0][:16]])  # the seed decides


def test_a_random_transform_is_drawn_anew_each_time(small):
    turning = transforms.Compose([transforms.RandomRotation(90), transforms.ToTensor()])
    served = data.loader(small(turning), 16, shuffle=False)
    assert type(served) is torch.utils.data.DataLoader
    assert not torch.equal(next(iter(served))[0], next(iter(served))[0])


def test_a_set_too_large_to_keep_is_transformed_batch_by_batch(small, monkeypatch):
    monkeypatch.setattr(data, "KEPT_BYTES", 60 * 784 * 4 - 1)
    served = data.loader(small(PLAIN), 16, shuffle=False)
    assert type(served) is torch.utils.data.DataLoader and len(served) == 4


def test_a_limit_keeps_the_first(small):
    served = data.loader(small(transforms.ToTensor()), 16, shuffle=False, limit=20)
    assert (len(served), len(served.dataset)) == (2, 20)
    assert torch.equal(torch.cat([images for images, _ in served]), small(None).data[:20, None].float() / 255)
    assert len(data.loader(small(PLAIN), np.int64(16), shuffle=True, limit=1000).dataset) == 60


def test_moving_leaves_the_loader_where_it_was(small):
    served = data.loader(small(transforms.ToTensor()), 16, shuffle=False)
    assert served.to("cpu") is served
    moved = served.to("meta")
    images, labels = next(iter(moved))
    assert images.device.type == labels.device.type == "meta" and images.dtype == torch.float32 and len(moved) == 4
    assert next(iter(served))[0].device.type == "cpu"


@pytest.mark.parametrize("size", [0, -1, True, 2.0, "16", None])
def test_a_wrong_batch_size_is_refused(small, size):
    with pytest.raises(ValueError, match=r"batch_size = .*at least 1"):
        data.loader(small(PLAIN), size, shuffle=False)
    if size is not None:
        with pytest.raises(ValueError, match=r"limit = .*at least 1"):
            data.loader(small(PLAIN), 16, shuffle=False, limit=size)


@pytest.mark.parametrize("transform", [None, transforms.Compose([]), transforms.Resize(8)])
def test_a_transform_without_tensors_is_refused(small, transform):
    with pytest.raises(ValueError, match="(?s)transform = .* gives Image; allowed is one that gives tensors"):
        data.loader(small(transform), 16, shuffle=False)


# Other sets


def test_the_stand_in_digits():
    train, test = data.Digits(PLAIN), data.Digits(PLAIN, train=False)
    assert (len(train), len(test)) == (1500, 297)
    share = train.targets.bincount() / 1500 - test.targets.bincount() / 297
    assert share.abs().max() < 0.002  # every class in proportion
    assert train[0][0].shape == (1, 28, 28) and train[0][0].dtype == torch.float32
    assert np.array_equal(train.data, data.Digits(PLAIN).data) and torch.equal(train.targets, data.Digits(PLAIN).targets)
    assert not any((image == other).all() for image in test.data[:20] for other in train.data)  # no overlap
    border = np.ones((28, 28), bool)
    border[4:24, 4:24] = False
    assert train.data[:, border].max() == 0 and train.data.max() > 250  # a digit in a margin, over the whole range


def test_a_stand_in_digit_looks_like_its_class():
    """A nearest-mean rule tells the enlarged digits apart: pixels and labels belong together."""
    train, test = data.Digits(), data.Digits(train=False)
    means = np.stack([train.data[(train.targets == digit).numpy()].mean(0) for digit in range(10)])  # (10, 28, 28)
    nearest = ((test.data[:, None].astype(float) - means) ** 2).sum((2, 3)).argmin(1)
    assert (nearest == test.targets.numpy()).mean() > 0.85


def write_cifar(root, monkeypatch):
    """A CIFAR-10 of five batches of four images and a test batch, which torchvision then takes for the real one."""
    draw, kind = np.random.default_rng(0), datasets.CIFAR10
    folder = root / kind.base_folder
    folder.mkdir(parents=True)

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(name):
        return write(name, {"data": draw.integers(0, 256, (4, 3072), np.uint8), "labels": [1, 2, 3, 9]})

    monkeypatch.setattr(kind, "train_list", [batch(f"data_batch_{i}") for i in range(1, 6)])
    monkeypatch.setattr(kind, "test_list", [batch("test_batch")])
    name, digest = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(kind, "meta", {"filename": name, "key": "label_names", "md5": digest})
    return folder


def test_cifar10_in_the_same_manner(tmp_path, monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    folder = write_cifar(tmp_path, monkeypatch)
    served = data.loader(data.cifar10(transforms.ToTensor(), tmp_path), 8, shuffle=False)
    theirs = torch.utils.data.DataLoader(datasets.CIFAR10(tmp_path, transform=transforms.ToTensor()), 8)
    assert type(served) is data.Loader and [len(labels) for _, labels in served] == [8, 8, 4]
    for (images, labels), (images_2, labels_2) in zip(served, theirs):
        assert images.shape[1:] == (3, 32, 32) and torch.equal(images, images_2) and torch.equal(labels, labels_2)
    assert len(data.cifar10(dir=tmp_path, train=False)) == 4
    (folder / "test_batch").write_bytes((folder / "test_batch").read_bytes()[:-1])
    with pytest.raises(data.DataError, match="test_batch is damaged"):
        data.cifar10(dir=tmp_path)


def test_digits_stand_in_for_cifar10_in_three_channels(tmp_path, monkeypatch):
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    with pytest.warns(UserWarning, match="CIFAR10 is not in .*stand in") as warned:
        train, test = data.cifar10(transforms.ToTensor(), tmp_path), data.cifar10(transforms.ToTensor(), tmp_path, train=False)
    assert len(warned) == 1 and (len(train), len(test)) == (1500, 297)
    images, _ = next(iter(data.loader(train, 5, shuffle=False)))
    assert images.shape == (5, 3, 32, 32) and torch.equal(images[:, 0], images[:, 2])
    assert list(tmp_path.rglob("*")) == []
