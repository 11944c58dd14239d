"""utils.py, as the notebook and the harness of earlier editions use it, at toy size."""

import dataclasses
import importlib
import re
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision import transforms

import utils
from config import DMConfig
from DDPM import ConditionalDDPM
from lab import display
from lab.training import checkpoint, data

matplotlib.use("Agg")
SMALL = DMConfig(T=3, num_feat=8, batch_size=16, epochs=2, learning_rate=1e-3, lr_cycle=2, precision="float32")
PLAIN = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """In an empty folder, without a network and a set of its own: the small digits stand in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MNIST_DIR", raising=False)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(data, "_download", lambda *set: "no network")
    monkeypatch.setattr(data, "_stand_ins", set())
    monkeypatch.setattr(utils, "best_device", lambda: torch.device("cpu"))
    yield
    plt.close("all")


@pytest.fixture
def loaders():
    return [data.loader(data.Digits(PLAIN, train), 16, shuffle=train, limit=48) for train in (True, False)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of an experiment, its history, and what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        patch.setattr(utils, "best_device", lambda: torch.device("cpu"))
        patch.setattr(utils, "EPOCH_STEPS", 2)
        printed = []
        patch.setattr(display.Reporter, "line", lambda self, text: printed.append(text))
        sets = [data.loader(data.Digits(PLAIN, train), 16, shuffle=train, limit=48) for train in (True, False)]
        history = utils.solver(SMALL, "toy", *sets)
        return Path("save/toy").absolute(), history, printed


def picture(figure):
    return np.asarray(figure.axes[0].images[0].get_array())


def test_dataloaders():
    with pytest.warns(UserWarning, match="MNIST is not in .*no network.*stand in") as warned:
        train, test = utils.make_dataloader(PLAIN, 32), utils.make_dataloader(PLAIN, 32, train=False)
    assert len(warned) == 1 and warned[0].filename == __file__  # it points at the line that asked
    assert (len(train), len(train.dataset), len(test), len(test.dataset)) == (47, 1500, 10, 297)
    first = [next(iter(train))[1].tolist() for _ in range(2)]
    assert first[0] != first[1]  # shuffled
    assert torch.equal(next(iter(test))[0], next(iter(test))[0])  # not shuffled
    images, labels = next(iter(test))
    assert torch.equal(images, torch.stack([test.dataset[i][0] for i in range(32)])) and images.min() == pytest.approx(-0.1307 / 0.3081)
    assert labels.tolist() == [test.dataset[i][1] for i in range(32)]
    assert len(utils.make_dataloader(PLAIN, 32, limit=40)) == 2
    with pytest.raises(ValueError, match="batch_size = 0"):
        utils.make_dataloader(PLAIN, 0)


@pytest.mark.filterwarnings("ignore:CIFAR10 is not in")
def test_dataloaders_in_colour():
    images, labels = next(iter(utils.make_dataloader_cifar10(transforms.ToTensor(), 8)))
    assert images.shape == (8, 3, 32, 32) and labels.shape == (8,)


def test_one_epoch(loaders, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    torch.manual_seed(1)
    model = utils.check_forward(loaders[0], SMALL, "cpu")
    curve = shown[0].axes[0].lines[0].get_xydata()
    assert len(shown) == 1 and len(curve) == 3 and np.isfinite(curve).all()
    assert isinstance(model, ConditionalDDPM)
    fresh = utils._new_model(SMALL, "cpu").state_dict()
    assert not torch.equal(model.state_dict()["network.init_conv.conv1.0.weight"], fresh["network.init_conv.conv1.0.weight"])
    torch.manual_seed(2)
    again = utils.check_forward(loaders[0], SMALL, "cpu").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())  # the seed decides
    last = utils.check_forward(loaders[0], dataclasses.replace(SMALL, ema_decay=0), "cpu").state_dict()
    assert not torch.equal(again["network.init_conv.conv1.0.weight"], last["network.init_conv.conv1.0.weight"])  # it is the average
    assert capsys.readouterr().out == ""


def test_a_row_a_class_and_ten_a_row():
    model, asked = ConditionalDDPM(SMALL), []

    def draw(conditions, omega, generator=None):
        asked.append(omega)
        number = torch.arange(100) % 10  # the place in a row
        return (conditions / 10 + number / 100).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)

    model.sample = draw
    shown = picture(utils.check_sample(model, SMALL, "cpu"))
    expected = np.arange(100).reshape(10, 10) / 100  # class and place
    assert np.allclose(shown, expected.repeat(28, 0).repeat(28, 1)[:, :, None]) and asked == [SMALL.omega]


def test_solver_keeps_what_the_course_promises(trained):
    folder, history, printed = trained
    files = {str(path.relative_to(folder)).replace("\\", "/") for path in folder.rglob("*") if path.is_file()}
    assert files >= {"best_checkpoint.pth", "last_checkpoint.pth", "images/generate_epoch_1.png", "images/generate_epoch_2.png",
                     "loss_curve.png", "log.csv"}  # fmt: skip
    assert [row["epoch"] for row in history] == [1, 2]
    assert history[1]["test_noise_loss"] < history[0]["test_noise_loss"]  # it learns
    assert printed[::2] == ["epoch 1/2", "epoch 2/2"]
    form = r"train: train_noise_loss = (\d\.\d{4}) test: test_noise_loss = (\d\.\d{4})"
    losses = [re.fullmatch(form, line).groups() for line in printed[1::2]]
    assert losses == [(f"{row['train_noise_loss']:.4f}", f"{row['test_noise_loss']:.4f}") for row in history]
    state = torch.load(folder / "best_checkpoint.pth", weights_only=True)
    assert state["epoch"] == 2 and DMConfig.from_dict(state["dmconfig"]) == SMALL
    ConditionalDDPM(SMALL).load_state_dict(state["model_state_dict"], strict=True)


def test_solver_goes_on_or_refuses(trained, loaders, monkeypatch):
    folder, history, _ = trained
    monkeypatch.chdir(folder.parent.parent)
    assert utils.solver(SMALL, "toy", *loaders) == history
    with pytest.raises(ValueError, match="holds an experiment already"):
        utils.solver(SMALL, "toy", *loaders, resume=False)
    with pytest.raises(ValueError, match="omega was 2.0, is 5.0"):
        utils.solver(dataclasses.replace(SMALL, omega=5), "toy", *loaders)


def test_solver_draws_with_fewer_time_steps_than_its_pictures_have(loaders, capsys):
    assert SMALL.T < utils.EPOCH_STEPS
    utils.solver(dataclasses.replace(SMALL, epochs=1), "short", loaders[1], loaders[1])
    assert plt.imread("save/short/images/generate_epoch_1.png").std() > 0.01
    assert re.fullmatch(r"epoch 1/1\ntrain: train_noise_loss = .* test: test_noise_loss = .*\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "/tmp"])
def test_solver_refuses_a_name_that_is_no_folder_in_save(name, loaders):
    with pytest.raises(ValueError, match="exp_name"):
        utils.solver(SMALL, name, *loaders)
    assert list(Path().iterdir()) == []


def test_load_model(trained):
    path = trained[0] / "best_checkpoint.pth"
    model = utils.load_model(path, "cpu")
    assert not any(module.training for module in model.modules()) and model.dmconfig == SMALL
    saved = checkpoint.load(path)["model_state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    with pytest.raises(checkpoint.CheckpointError, match="nowhere.pth does not exist"):
        utils.load_model("nowhere.pth")
    state = checkpoint.load(path)
    state["model_state_dict"].popitem()
    checkpoint.save("other.pth", state)
    with pytest.raises(checkpoint.CheckpointError, match="other.pth holds the weights of another network than ResUNet.py's"):
        utils.load_model("other.pth", "cpu")


def test_the_picture_of_a_checkpoint(trained):
    path = str(trained[0] / "best_checkpoint.pth")
    torch.manual_seed(3)
    image = utils.sample_images(SMALL, path)
    assert image.shape == (280, 280, 3) and image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    torch.manual_seed(3)
    assert np.array_equal(image, picture(utils.check_sample(utils.load_model(path, "cpu"), SMALL, "cpu")))
    torch.manual_seed(3)
    other = utils.sample_images(dataclasses.replace(SMALL, omega=0), path)
    assert not np.array_equal(image, other)  # its config decides


# Earlier editions


@dataclasses.dataclass
class OldConfig:
    """The settings of earlier editions: none of ours besides."""

    input_dim: tuple = (28, 28)
    num_channels: int = 1
    condition_mask_value: int = -1
    num_classes: int = 10
    T: int = 3
    beta_1: float = 1e-4
    beta_T: float = 2e-2
    mask_p: float = 0.1
    num_feat: int = 8
    omega: float = 2.0


def test_the_harness_of_earlier_editions(loaders, tmp_path):
    config = OldConfig()
    model = ConditionalDDPM(dmconfig=config)
    optimizer = torch.optim.Adam(model.network.parameters(), lr=1e-3)
    model.train()
    before = [p.clone() for p in model.network.parameters()]
    for images, labels in loaders[0]:
        for conditions in (labels, F.one_hot(labels, 10)):
            noise_loss = model(images, conditions)
            optimizer.zero_grad()
            noise_loss.backward()
            optimizer.step()
    assert not any(torch.equal(p, q) for p, q in zip(model.network.parameters(), before) if p.requires_grad)
    model.eval()
    rows = torch.tile(torch.arange(config.num_classes), [10, 1]).T.reshape(-1)
    pictures = []
    for conditions in (rows, F.one_hot(rows, num_classes=config.num_classes)):
        torch.manual_seed(0)
        with torch.no_grad():
            pictures.append(model.sample(conditions, config.omega))
    assert pictures[0].shape == (100, 1, 28, 28) and torch.equal(*pictures) and not model.training
    state = {"epoch": 1, "model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "dmconfig": config}
    torch.save(state, tmp_path / "old.pth")
    loaded = torch.load(tmp_path / "old.pth", weights_only=False)
    other = ConditionalDDPM(dmconfig=loaded["dmconfig"])
    other.load_state_dict(loaded["model_state_dict"])
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(checkpoint.CheckpointError, match="earlier editions"):
        utils.load_model(tmp_path / "old.pth")


@pytest.mark.parametrize("first", ["DDPM", "utils"])
def test_a_ddpm_that_begins_with_everything_of_utils(tmp_path, monkeypatch, first):
    ours = Path(sys.modules["DDPM"].__file__).read_text(encoding="utf-8")
    (tmp_path / "DDPM.py").write_text("from utils import *\n" + ours.replace("from __future__", "# from __future__"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("DDPM", "utils"):
        monkeypatch.delitem(sys.modules, name)
    importlib.import_module(first)
    again, student = importlib.import_module("utils"), importlib.import_module("DDPM")
    assert student.__file__ == str(tmp_path / "DDPM.py") and again is not utils
    assert type(again._new_model(SMALL, "cpu")) is student.ConditionalDDPM


def test_check_says_what_pytest_says(capsys):
    utils.check("scheduler")
    assert capsys.readouterr().out == "2.1 Variance schedule: all right\n"
    with pytest.raises(ValueError, match="allowed is one of network, scheduler, forward, sample"):
        utils.check("2.1")


def shown(error):
    """What a notebook shows of an error in place of its frames."""
    return "\n".join(error._render_traceback_())


def test_an_unwritten_piece_is_one_line_in_a_notebook(loaders, monkeypatch):
    text = Path(sys.modules["DDPM"].__file__).read_text()
    code = compile(text.replace("hidden = torch.rand", "raise NotImplementedError  #"), "/somewhere/DDPM.py", "exec")
    module = {"__name__": "DDPM"}
    exec(code, module)
    monkeypatch.setattr(sys.modules["DDPM"], "ConditionalDDPM", module["ConditionalDDPM"])
    with pytest.raises(NotImplementedError) as error:
        utils.check_forward(loaders[0], SMALL, "cpu")
    assert shown(error.value) == "ConditionalDDPM.forward in DDPM.py is not written yet."


def test_without_a_model_the_sample_check_says_where_it_comes_from():
    with pytest.raises(ValueError) as error:
        utils.check_sample(None, SMALL, "cpu")
    assert shown(error.value).startswith("There is no model yet: check_forward trains it")


def test_an_interrupted_training_says_where_it_stands(loaders, monkeypatch):
    epochs = iter([None, KeyboardInterrupt])
    train = utils.Trainer.train_epoch

    def interrupted(self, *args):
        if stop := next(epochs):
            raise stop
        return train(self, *args)

    monkeypatch.setattr(utils.Trainer, "train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt) as error:
        utils.solver(SMALL, "it", *loaders)
    assert shown(error.value) == "Interrupted after 1 of 2 epochs, which are kept in save/it. The same call goes on from there."
