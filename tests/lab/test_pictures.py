"""lab.training.pictures: sets by name and folders of pictures, from files to a trained model's named classes."""

import gzip
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms

from config import DMConfig
from lab.__main__ import main
from lab.quality import judge, metrics
from lab.training import checkpoint, data, pictures
from lab.training.data import DataError
from utils import load_model, make_dataloader

TENSOR = transforms.ToTensor()


def paint(path, color, size=(40, 30), mode="RGB", **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).convert(mode).save(path, **how)


@pytest.fixture
def folder(tmp_path):
    """Twelve red and twelve blue pictures of several sizes and kinds."""
    for i in range(12):
        paint(tmp_path / "set" / "red" / f"{i:02}.png", (200 + i, 0, 0), (20 + i, 30))
        paint(tmp_path / "set" / "blue" / "deeper" / f"{i:02}.jpg", (0, 0, 200 + i), (30, 20 + i), quality=95)
    (tmp_path / "set" / "red" / ".DS_Store").write_text("no picture, and hidden")
    paint(tmp_path / "set" / "red" / ".ipynb_checkpoints" / "0-checkpoint.png", (0, 255, 0))
    return tmp_path / "set"


def test_a_folder_is_split_by_name_and_its_sub_folders_are_the_classes(folder):
    train, test = (pictures.dataset(TENSOR, folder, train=part) for part in (True, False))
    assert train.classes == test.classes == ["blue", "red"] and len(train) == 20 and len(test) == 4
    assert (
        train.data.shape == (20, 32, 32, 3) and train.data.dtype == np.uint8 and train.targets.tolist() == [0, 1] * 10
    )  # a part holds all
    assert train.data[0, 5, 5].tolist()[2] > 190 and train.data[-1, 5, 5].tolist() == [210, 0, 0]  # the twelfth is for tests
    assert [int(image[5, 5, 0]) for image in test.data[1::2]] == [205, 211]
    image, label = train[-1]
    assert label == 1 and torch.allclose(image[0], torch.tensor(210 / 255))


def test_folders_train_and_test_are_taken_as_they_are(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            for i in range(count):
                paint(tmp_path / part / name / f"{i}.png", (9, 9, 9))
    assert len(pictures.dataset(TENSOR, tmp_path)) == 6 and len(pictures.dataset(TENSOR, tmp_path, train=False)) == 4
    paint(tmp_path / "test" / "emu" / "0.png", (9, 9, 9))
    with pytest.raises(DataError, match="do not hold the same classes"):
        pictures.dataset(TENSOR, tmp_path, train=False)
    (tmp_path / "test").rename(tmp_path / "val")
    paint(tmp_path / "vehicles" / "train" / "0.png", (9, 9, 9))
    paint(tmp_path / "vehicles" / "bus" / "0.png", (9, 9, 9))
    assert pictures.settings(tmp_path / "vehicles")["classes"] == ["bus", "train"], "a train may be a class"
    (tmp_path / "vehicles" / "train" / "0.png").unlink()
    with pytest.raises(DataError, match="has a folder train; allowed are both train and test, or neither"):
        pictures.settings(tmp_path)


def test_a_picture_is_cropped_at_its_centre_turned_and_laid_on_white(tmp_path):
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    tall = Image.fromarray(wide.transpose(1, 0, 2))
    (tmp_path / "a").mkdir()
    Image.fromarray(wide).save(tmp_path / "a" / "0.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: the tall picture is wide
    tall.save(tmp_path / "a" / "1.png", exif=exif)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a" / "2.png")
    Image.fromarray(np.full((8, 8), 65535, np.uint16)).save(tmp_path / "a" / "3.png")
    paint(tmp_path / "a" / "4.gif", (255, 255, 255), mode="P")
    found = pictures.dataset(TENSOR, tmp_path, input_dim=(8, 12), num_channels=1)
    assert found.data.shape == (5, 8, 12)
    assert all((found.data[i, :, 3:9] > 230).all() for i in range(5)) and found.data[0, 0, 0] < 128 and (found.data[2:] == 255).all()


@pytest.mark.parametrize("name, content", [("notes.txt", b"hello"), ("broken.png", b"\x89PNG\r\n\x1a\n" + bytes(20)), ("empty.jpg", b"")])
def test_a_file_that_is_no_picture_is_named(folder, name, content):
    (folder / "red" / name).write_bytes(content)
    with pytest.raises(DataError, match=f"red/{name} is no picture"):
        [pictures.dataset(TENSOR, folder, train=part) for part in (True, False)]


def test_what_cannot_be_a_set(tmp_path):
    with pytest.raises(ValueError, match="data = 'nothing'; allowed is mnist, fashion, cifar10, or a folder of pictures"):
        pictures.settings("nothing")
    with pytest.raises(DataError, match="has no sub-folders"):
        pictures.settings(tmp_path)
    for wrong in ({"input_dim": (32, 32)}, {"input_dim": (0, 0)}, {"num_channels": 3}, {"num_channels": 0}):
        with pytest.raises(ValueError, match="mnist has 1 x 28 x 28 pixels"):
            pictures.settings("mnist", **wrong)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="has no pictures to train with"):
        pictures.dataset(TENSOR, tmp_path)
    paint(tmp_path / "a" / "0.png", (1, 2, 3))
    with pytest.raises(ValueError, match="num_channels = 2; pictures have 1, grey, or 3, colours"):
        pictures.dataset(TENSOR, tmp_path, num_channels=2)


def test_settings_name_the_classes(folder):
    assert pictures.settings("mnist") == {"data": "mnist", "num_classes": 10, "classes": [], "num_channels": 1, "input_dim": (28, 28)}
    assert pictures.settings("cifar10")["classes"][6] == "frog" and pictures.settings("fashion")["classes"][9] == "Ankle boot"
    for wrong in ({"input_dim": (0, 0)}, {"num_channels": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} = "):
            DMConfig(**pictures.settings(folder, **wrong))
    config = DMConfig(**pictures.settings(folder, (16, 16)))
    assert config.classes == ["blue", "red"] and config.num_channels == 3 and DMConfig.from_dict(config.to_dict()) == config
    assert config.label("red") == config.label("1") == config.label(1) == 1
    with pytest.raises(ValueError, match="the model has no class green; it draws blue, red"):
        config.label("green")
    with pytest.raises(ValueError, match="the model has no class 10; it draws 0 to 9"):
        DMConfig().label("10")


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A FashionMNIST of twelve pictures, packed as it is distributed."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    files = {}
    for part, count in (("train", 12), ("t10k", 4)):
        files[f"{part}-images-idx3-ubyte.gz"] = np.array([0x803, count, 28, 28], ">i4").tobytes() + bytes(range(count)) * 784
        files[f"{part}-labels-idx1-ubyte.gz"] = np.array([0x801, count], ">i4").tobytes() + bytes(i % 10 for i in range(count))
    packed = {name: gzip.compress(content, mtime=0) for name, content in files.items()}
    monkeypatch.setattr(datasets.FashionMNIST, "resources", [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()])
    for name, content in packed.items():
        (raw / name).write_bytes(content)
    monkeypatch.setenv("FASHION_DIR", str(tmp_path))
    return raw


def test_fashion_is_unpacked_and_verified(fashion, monkeypatch, tmp_path):
    found = make_dataloader(data.NORMALISED, 4, data="fashion")
    assert len(found.dataset) == 12 and found.dataset.targets.tolist() == [*range(10), 0, 1]
    (fashion / "train-labels-idx1-ubyte").write_bytes(b"others")
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is not what train-labels-idx1-ubyte.gz holds"):
        make_dataloader(data.NORMALISED, 4, data="fashion")
    (fashion / "t10k-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte.gz is damaged"):
        make_dataloader(data.NORMALISED, 4, data="fashion")
    monkeypatch.delenv("FASHION_DIR")
    with pytest.raises(DataError, match="FASHION is not in .* and could not be downloaded"):
        make_dataloader(data.NORMALISED, 4, dir=tmp_path / "elsewhere", data="fashion")


def test_from_a_folder_to_pictures_and_their_judge(folder, tmp_path, monkeypatch):
    """The command lines: train, sample by name, judge, evaluate; a set without a judge is told how to get one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(metrics, "LEAST", 4)
    metrics._reference.cache_clear()
    size = ["--size", "16"]
    main(["train", "own", "--data", "set", *size, "--num-feat", "8", "--epochs", "1", "--batch-size", "10", "--T", "4"])
    path = "save/own/best_checkpoint.pth"
    config = DMConfig.from_dict(checkpoint.load(path)["dmconfig"])
    assert (config.data, config.classes, config.num_channels, config.input_dim) == ("set", ["blue", "red"], 3, (16, 16))
    model = load_model(path, "cpu")
    assert model.sample(torch.tensor([0, 1]), 1.0).shape == (2, 3, 16, 16)
    drawing = ["--checkpoint", path, "--steps", "2", "--method", "ddim"]
    main(["sample", "--label", "red", "--n-samples", "3", *drawing])
    main(["sample", "--label", "1", "--n-samples", "3", *drawing, "--out", "same.png"])
    assert (tmp_path / "digits.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    for wrong, words in (
        (["--label", "green"], "no class green; it draws blue, red"),
        (["01"], "the model draws blue, red; --label names one"),
    ):
        with pytest.raises(SystemExit, match=words):
            main(["sample", *wrong, *drawing])
    judging = ["evaluate", "--checkpoint", path, "--samples", "8", "--omega", "0", "--steps", "2", "--method", "ddim"]
    with pytest.raises(SystemExit, match="nothing reads pictures of set.*python -m lab judge --data set --size 16 --num-channels 3"):
        main(judging)
    main(["judge", "--data", "set", *size, "--epochs", "3"])
    reader = judge.load(dmconfig=config)
    assert reader.classify.out_features == 2
    again = ["sample", "--label", "red", *drawing, "--redraw"]
    with pytest.raises(SystemExit, match="nothing reads pictures of set.*--num-channels 3 --second"):
        main(again)
    main(["judge", "--data", "set", *size, "--epochs", "3", "--second"])
    main(again)
    weights = [each.classify.weight for each in (reader, judge.load(dmconfig=config, second=True))]
    assert not torch.equal(*weights) and torch.equal(weights[0], judge.load(dmconfig=config).classify.weight)
    monkeypatch.setattr(metrics, "NEIGHBOURS", 1)
    main(judging)
    assert (tmp_path / "quality.csv").read_text().count("\n") == 2
    with pytest.raises(SystemExit, match="--num-classes 3; set has 2"):
        main(["train", "other", "--data", "set", "--num-classes", "3"])


def test_a_judge_of_other_classes_does_not_read(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["judge", "--data", "set", "--size", "16", "--epochs", "1"])
    paint(folder / "green" / "0.png", (0, 200, 0))
    with pytest.raises(ValueError, match=r"reads the classes \['blue', 'red'\], the model draws \['blue', 'green', 'red'\]"):
        judge.load(dmconfig=DMConfig(**pictures.settings("set", (16, 16))))
