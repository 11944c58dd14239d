"""Get MNIST (or CIFAR-10), verify it, and serve it in batches at almost no cost."""

import contextlib
import copy
import errno
import gzip
import hashlib
import http.client
import os
import shutil
import socket
import tempfile
import warnings
import zlib
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import datasets, transforms
from torchvision.transforms import v2

from config import MEAN, STD
from lab.training.checkpoint import refuse_pointer, write_bytes

# SHA-256 of the four files of MNIST as they are distributed, unpacked (LeCun, Cortes, Burges).
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
CONNECT_SECONDS = 10  # a network that swallows packets must not hold a student up
KEPT_BYTES = 2 << 30  # a larger transformed set is not kept in memory, but transformed for each batch
NORMALISED = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])  # what the process works on
UNREACHED = (RuntimeError, OSError, EOFError, http.client.HTTPException)  # how a download by torchvision fails
_stand_ins = set()  # folders whose download failed: not tried again, so that train and test set are of one kind


class DataError(Exception):
    """A data set on disk that is damaged or cannot be read; the message names the file and what to do."""


class MNIST(datasets.MNIST):
    """torchvision's MNIST, always read from its four raw files, downloaded from any of its mirrors."""

    def _check_legacy_exist(self):
        return False  # else an old torchvision's processed/*.pt, which are not verified, would be used instead

    def download(self):
        """Try one mirror after the other until all files are there: torchvision itself gives up when the first stalls."""
        mirrors, failed = self.mirrors, []
        for mirror in mirrors:
            self.mirrors = [mirror]
            try:
                return super().download()
            except UNREACHED as error:
                if _is_full(error):
                    raise
                failed.append(f"{type(error).__name__}: {error}")
        raise RuntimeError("; ".join(failed))


def mnist(transform=None, dir="./data", train=True):
    """MNIST as a torchvision data set: from $MNIST_DIR where that is set, else from `dir`, unpacked or downloaded if needed.

    If it cannot be downloaded, scikit-learn's 1,797 digits stand in, with one warning.
    Raises DataError for a file whose content is not MNIST's.
    """
    root = _whole("MNIST", MNIST, dir, "MNIST/raw", MNIST_FILES, "sha256")
    return MNIST(root, train=train, transform=transform) if root else Digits(transform, train)


def cifar10(transform=None, dir="./data", train=True):
    """CIFAR-10 in the same manner (three channels, 32x32); the environment variable is $CIFAR10_DIR."""
    kind = datasets.CIFAR10
    files = dict([*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])])
    root = _whole("CIFAR10", kind, dir, kind.base_folder, files, "md5")
    return kind(root, train=train, transform=transform) if root else Digits(transform, train, size=32, mode="RGB")


def fashion(transform=None, dir="./data", train=True):
    """FashionMNIST (Xiao et al. 2017, arXiv:1708.07747), verified; the environment variable is $FASHION_DIR. Nothing stands in for it."""
    kind = datasets.FashionMNIST
    root = _whole("FASHION", kind, dir, "FashionMNIST/raw", dict(kind.resources), "md5", stand_in=False)
    for name, _ in kind.resources:  # the packed files are what has a checksum
        path = (root / "FashionMNIST/raw" / name).with_suffix("")
        content = gzip.decompress(path.with_name(name).read_bytes())
        if path.is_file() and path.read_bytes() != content:
            raise DataError(f"{path} is not what {name} holds; delete it, and it is unpacked again")
        if not path.is_file():
            _write_unpacked(path, content)
    return kind(root, train=train, transform=transform)


class Loader:
    """Batches (images, labels) of a data set that is kept as one tensor, transformed once.

    dataset: a torchvision data set whose transform draws no random numbers. `to(device)` is this loader on a device.
    If `shuffle`, each iteration shuffles anew, by torch's global random state. The last batch may be smaller.
    """

    def __init__(self, dataset, batch_size, shuffle):
        self.dataset, self.batch_size, self.shuffle = dataset, batch_size, shuffle
        self.images, self.finish = _kept(dataset)  # (N, C, H, W), and a function that finishes a batch
        self.labels = torch.as_tensor(np.asarray(dataset.targets)).long()  # (N,)

    def to(self, device):
        """A loader with its tensors on `device`, or this one if they would fill more than half of the free memory."""
        device = torch.device(device)
        if device == self.images.device or device.type == "cuda" and 4 * self.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        moved = copy.copy(self)
        moved.images, moved.labels = self.finish(self.images.to(device)), self.labels.to(device)
        moved.finish = lambda images: images  # done already: a GPU has the memory, and small work would slow it down
        return moved

    def __len__(self):
        return -(-len(self.images) // self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.images)) if self.shuffle else torch.arange(len(self.images))
        for rows in order.to(self.images.device).split(self.batch_size):
            yield self.finish(self.images[rows]), self.labels[rows]


def loader(dataset, batch_size, shuffle, limit=None):
    """The fastest iterable of (images, labels) for a data set: a Loader where its transform is the same every time.

    limit: keep only the first `limit` images. Raises ValueError for a transform that gives no tensor.
    """
    for name, value in (("batch_size", batch_size), ("limit", limit)):
        if value is None and name == "limit":
            continue
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} = {value!r}; allowed is a whole number of at least 1")
    dataset.data, dataset.targets = dataset.data[:limit], dataset.targets[:limit]
    first = dataset[0][0]
    if not torch.is_tensor(first):
        raise ValueError(f"transform = {dataset.transform!r} gives {type(first).__name__}; allowed is one that gives tensors")
    if _is_deterministic(dataset.transform) and first.nbytes * len(dataset) <= KEPT_BYTES:
        return Loader(dataset, int(batch_size), shuffle)
    return torch.utils.data.DataLoader(dataset, int(batch_size), shuffle=shuffle)


class Digits(torch.utils.data.Dataset):
    """scikit-learn's 1,797 handwritten 8x8 digits (UCI, Alpaydin & Kaynak 1998) at the size of the set they stand in for.

    1,500 to train, 297 to test, every class in proportion; the attributes are those of torchvision's data sets.
    """

    def __init__(self, transform=None, train=True, size=28, mode="L"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        parts = train_test_split(digits.images, digits.target, test_size=297, random_state=0, stratify=digits.target)
        images, labels = parts[0::2] if train else parts[1::2]
        self.data = np.stack([_enlarge(image, size, mode) for image in images])
        self.targets, self.transform = torch.as_tensor(labels), transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image = Image.fromarray(self.data[index])
        return (image if self.transform is None else self.transform(image)), int(self.targets[index])


def _enlarge(image, size, mode):
    """An 8x8 array of 0 … 16 as `size` x `size` pixels of 0 … 255, the digit with MNIST's margin of a seventh."""
    inner = size - 2 * (size // 7)
    digit = Image.fromarray((image * (255 / 16)).astype(np.uint8)).resize((inner, inner), Image.Resampling.BICUBIC)
    canvas = Image.new("L", (size, size))
    canvas.paste(digit, (size // 7, size // 7))
    return np.asarray(canvas.convert(mode))


def _kept(dataset):
    """The images of a data set, (N, C, H, W), and a function that finishes a batch of them.

    If the transform is ToTensor and Normalize alone, these are the raw pixels, a quarter of the floats' memory, and each
    batch is scaled when it is served, at next to no cost. Other transforms work image by image, so they run here, once.
    """
    steps = getattr(dataset.transform, "transforms", [dataset.transform])
    if type(steps[0]) is not transforms.ToTensor or any(type(step) is not transforms.Normalize for step in steps[1:]):
        return torch.stack([dataset[i][0] for i in range(len(dataset))]), lambda images: images
    pixels = torch.as_tensor(dataset.data)  # uint8

    def finish(pixels):
        images = pixels.float() / 255  # ToTensor, for a whole batch
        for step in steps[1:]:
            images = step(images)
        return images

    return (pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)), finish


def _is_deterministic(transform):
    """Whether a transform is known to give the same tensor each time."""
    plain = (transforms.ToTensor, transforms.Normalize, transforms.Resize, transforms.CenterCrop, transforms.Pad, transforms.Grayscale,
             v2.ToImage, v2.ToDtype, v2.Normalize, v2.Resize, v2.CenterCrop, v2.Pad, v2.Grayscale)  # fmt: skip
    steps = getattr(transform, "transforms", [transform])
    return all(type(step) in plain for step in steps)


def _whole(name, kind, dir, inside, files, method, stand_in=True):
    """The folder that holds a data set, its files verified, and downloaded if needed; None if that fails and digits may stand in."""
    variable = f"{name}_DIR"
    named = os.environ.get(variable)
    root = Path(named or dir).expanduser().absolute()
    folder = root / inside
    otherwise = "" if named else ", or delete it to have it downloaded again"
    for file, digest in files.items():
        _unpack(folder / file, method, digest, otherwise)
    missing = [file for file in files if not (folder / file).is_file()]
    if missing and named:
        raise DataError(f"{variable} = {root} lacks {inside}/{missing[0]}; point it at the folder that holds {inside}, or unset it")
    if missing and folder not in _stand_ins:
        why = _download(kind, root, inside, files)
        if why and not stand_in:
            raise DataError(
                f"{name} is not in {folder} and could not be downloaded ({why}); put {', '.join(files)} there, or set {variable}"
            )
        if why:
            _stand_ins.add(folder)
            warnings.warn(
                f"{name} is not in {folder} and could not be downloaded ({why}). scikit-learn's 1,797 small digits stand in for it: "
                f"the course runs, but its numbers do not compare. For the real set put its files, unpacked, there ({', '.join(files)}), "
                f"or set {variable} to the folder that holds {inside}; to try the download again, start Python anew.",
                stacklevel=5,
            )
    if folder in _stand_ins and missing:
        return None
    for file, digest in files.items():
        _verify(folder / file, method, digest, otherwise)
    return root


def _unpack(path, method, digest, otherwise):
    """Unpack the file `path` from the .gz beside it, if only that is there; verified first."""
    packed = path.with_name(f"{path.name}.gz")
    if path.is_file() or not packed.is_file():
        return
    _write_unpacked(path, _verify(packed, method, digest, otherwise, gzip.decompress))


def _write_unpacked(path, content):
    """Write what the .gz beside `path` holds; another process may be about the same."""
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=path.parent) as own:
            write_bytes(Path(own) / path.name, content)
            os.replace(Path(own) / path.name, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}; unpack {path.name}.gz there, or make room") from error


def _download(kind, root, inside, files):
    """Fetch the files of a torchvision data set into root/inside, whole or not at all; returns a network error in words, or None."""
    unwritable = f"{root} cannot be written: %s; make room there, or name another folder with dir= or an environment variable"
    try:
        root.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".download-", dir=root))
    except OSError as error:
        raise DataError(unwritable % error) from error
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        try:
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                kind(partial, download=True)
        except UNREACHED as error:
            if _is_full(error):  # not a network error
                raise DataError(unwritable % error) from error
            return " ".join(f"{type(error).__name__}: {error}".split())
        try:
            (root / inside).mkdir(parents=True, exist_ok=True)
            for file in files:
                os.replace(partial / inside / file, root / inside / file)
        except OSError as error:
            raise DataError(unwritable % error) from error
    finally:
        socket.setdefaulttimeout(patience)
        shutil.rmtree(partial, ignore_errors=True)


def _is_full(error):
    """Whether an error says that the disk is full."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def _verify(path, method, digest, otherwise, read=lambda content: content):
    """The content of `path` after `read`. Raises DataError if it has another digest."""
    refuse_pointer(path, DataError)
    try:
        content = read(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; copy a good one there{otherwise}") from error
    found = hashlib.new(method, content).hexdigest()
    if found != digest:
        raise DataError(
            f"{path} is damaged: {len(content):,} bytes with {method} {found[:12]}…, expected {digest[:12]}…; "
            f"copy a good one there{otherwise}"
        )
    return content
