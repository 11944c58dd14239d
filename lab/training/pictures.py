"""The sets that one can train on, by name or as a folder of pictures with one sub-folder a class."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision import datasets

from lab.training import data
from lab.training.data import DataError

SHAPES = {"mnist": (1, 28, 28), "fashion": (1, 28, 28), "cifar10": (3, 32, 32)}
CLASSES = {"mnist": [], "fashion": datasets.FashionMNIST.classes,  # MNIST's are numbers
           "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]}  # fmt: skip
PICTURE, COLOURS = (32, 32), 3  # of a folder's pictures, if nothing else is asked for
TESTED = 6  # without folders train/ and test/, every sixth picture of a class, by name, is for tests


def settings(name="mnist", input_dim=None, num_channels=None):
    """What DMConfig has to know of a set: a dict of data, num_classes, classes, num_channels and input_dim.

    name: "mnist", "fashion", "cifar10" or a folder. input_dim, num_channels: of a folder's pictures. Raises ValueError for
    another name, or another shape than a named set's, and DataError for a folder that holds no classes.
    """
    if name in SHAPES:
        C, H, W = SHAPES[name]
        if input_dim not in (None, (H, W), [H, W]) or num_channels not in (None, C):
            raise ValueError(f"{name} has {C} x {H} x {W} pixels; for others give a folder of pictures")
        classes, count = CLASSES[name], 10
    else:
        classes = _classes(_parts(name)[0])
        (H, W), C = PICTURE if input_dim is None else input_dim, COLOURS if num_channels is None else num_channels
        count = len(classes)
    return {"data": str(name), "num_classes": count, "classes": list(classes), "num_channels": C, "input_dim": (H, W)}


def dataset(transform, name="mnist", dir="./data", train=True, input_dim=None, num_channels=None):
    """A data set with the attributes of torchvision's: data, targets, transform.

    A folder's pictures are turned as their EXIF says, laid on white, cropped at the centre to the shape of input_dim and resized. Its
    folders train/ and test/ are used; without them every sixth picture of a class, by name, is for tests. Raises what `settings`
    raises, and DataError for a file that is no picture.
    """
    shape = settings(name, input_dim, num_channels)
    if name == "mnist":
        return data.mnist(transform, dir, train)
    if name == "cifar10":
        return data.cifar10(transform, dir, train)
    if name == "fashion":
        return data.fashion(transform, dir, train)
    return Pictures(name, transform, train, shape["input_dim"], shape["num_channels"])


class Pictures(torch.utils.data.Dataset):
    """The pictures of a folder, all in memory: data (N, H, W) or (N, H, W, 3) uint8, targets (N,), classes."""

    def __init__(self, root, transform, train, input_dim, num_channels):
        mode = {1: "L", 3: "RGB"}.get(num_channels)
        if mode is None:
            raise ValueError(f"num_channels = {num_channels}; pictures have 1, grey, or 3, colours")
        folder, split = _parts(root, train)
        self.classes, self.transform = _classes(folder), transform
        if split is None and self.classes != _classes(_parts(root, True)[0]):
            raise DataError(f"{Path(root) / 'train'} and {Path(root) / 'test'} do not hold the same classes")
        numbered = [(i, k, path) for k, name in enumerate(self.classes) for i, path in enumerate(_files(folder / name, split, train))]
        chosen = [(path, k) for _, k, path in sorted(numbered)]  # the first of each class, the second …: a part holds all classes
        if not chosen:
            raise DataError(f"{folder} has no pictures to {'train' if train else 'test'} with; {TESTED} a class are needed for both")
        with ThreadPoolExecutor() as pool:
            self.data = np.stack(list(pool.map(lambda each: np.asarray(_picture(each[0], mode, input_dim)), chosen)))
        self.targets = torch.tensor([k for _, k in chosen])

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        image = Image.fromarray(self.data[index])
        return (image if self.transform is None else self.transform(image)), int(self.targets[index])


def _parts(root, train=True):
    """(the folder that holds the classes, TESTED where it has to be split, else None)."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise ValueError(f"data = {str(root)!r}; allowed is {', '.join(SHAPES)}, or a folder of pictures with one sub-folder a class")
    there = [part for part in ("train", "test") if (root / part).is_dir()]
    if len(there) == 1 and any(path.is_dir() and not path.name.startswith(".") for path in (root / there[0]).iterdir()):
        raise DataError(f"{root} has a folder {there[0]}; allowed are both train and test, or neither")
    return (root / ("train" if train else "test"), None) if len(there) == 2 else (root, TESTED)


def _classes(folder):
    """The names of the sub-folders, in order."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder} has no sub-folders; put the pictures of each class into one that has its name")
    return names


def _files(folder, split, train):
    """The pictures of a class, below its folder, by name; hidden files and folders are left out."""
    hidden = lambda path: any(part.startswith(".") for part in path.relative_to(folder).parts)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not hidden(path))
    return [path for i, path in enumerate(paths) if split is None or (i % split != split - 1) == train]


def as_rgb(image):
    """A PIL image of any mode as RGB: 16 bits scaled so that the brightest is white, transparency put on white."""
    if is_deep(image):
        grey = np.asarray(image, dtype=np.float32)
        return Image.fromarray((grey * (255 / max(grey.max(), 1))).astype(np.uint8)).convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def is_deep(image):
    """Whether an image has 16 bits or more, which PIL would cut off at 255."""
    return image.mode.startswith("I") or image.mode == "F"


def _picture(path, mode, input_dim):
    """A picture file at the size input_dim, (H, W), in a mode of PIL."""
    try:
        image = as_rgb(ImageOps.exif_transpose(Image.open(path))).convert(mode)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no picture that can be read ({error}); mend it, or take it out of the folder") from error
    return ImageOps.fit(image, input_dim[::-1], Image.Resampling.LANCZOS)
