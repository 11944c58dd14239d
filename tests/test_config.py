"""The settings: config.DMConfig. Given, not to be solved."""

import dataclasses
import json
import math
from decimal import Decimal
from fractions import Fraction

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import utils
from config import DMConfig
from DDPM import ConditionalDDPM

matplotlib.use("Agg")

COURSE = [  # the course's fifteen, in this order; notebooks and graders name them and hand them over by position
    ("input_dim", (28, 28)),
    ("num_channels", 1),
    ("condition_mask_value", -1),
    ("num_classes", 10),
    ("T", 400),
    ("beta_1", 1e-4),
    ("beta_T", 2e-2),
    ("mask_p", 0.1),
    ("num_feat", 64),
    ("omega", 2.0),
    ("batch_size", 256),
    ("epochs", 10),
    ("learning_rate", 1e-4),
    ("multi_lr_milestones", [20]),
    ("multi_lr_gamma", 0.1),
]
BAD = [  # one value for each rule
    ("input_dim", 28), ("input_dim", (28, 30)), ("input_dim", (28.0, 28)), ("input_dim", (1028, 28)),
    ("num_channels", True), ("num_channels", 1025), ("condition_mask_value", 10**20), ("num_classes", "10"), ("num_classes", 10**6),
    ("T", 0), ("T", 400.0), ("beta_1", 0), ("beta_1", 3e-2), ("beta_1", math.nan),  # 3e-2 is above beta_T
    ("beta_T", 1 - 1e-16), ("beta_T", 9e-5), ("mask_p", 1.1), ("num_feat", 12), ("num_feat", 4104), ("omega", 1e30), ("omega", np.bool_(True)),
    ("batch_size", 10**7), ("epochs", 10**49), ("learning_rate", 1e300), ("learning_rate", 0), ("learning_rate", 10**400),
    ("multi_lr_milestones", 20), ("multi_lr_milestones", [0]), ("multi_lr_milestones", [20, 10]), ("multi_lr_milestones", [10**7]),
    ("multi_lr_gamma", 1.1), ("lr_cycle", 0.5), ("lr_cycle", 1e4), ("ema_decay", 1), ("precision", "half"), ("precision", ["auto"]),
    ("seed", 2**63), ("schedule", "Cosine"), ("process", "fm"), ("data", ""), ("data", 3), ("classes", ["a"]), ("classes", ["a"] * 10), ("classes", "0123456789"),
]  # fmt: skip


def test_the_fields_of_the_course_come_first_with_their_defaults():
    fields = dataclasses.fields(DMConfig)
    assert [f.name for f in fields[:15]] == [name for name, _ in COURSE]
    config = DMConfig()
    for name, value in COURSE:
        assert getattr(config, name) == value and type(getattr(config, name)) is type(value), name
    assert dataclasses.astuple(DMConfig(*(value for _, value in COURSE)))[:15] == tuple(value for _, value in COURSE)


def test_every_field_has_bad_values_below():
    assert {name for name, _ in BAD} == {f.name for f in dataclasses.fields(DMConfig)}


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda v: v if isinstance(v, str) and v.isidentifier() else repr(v)[:20])
def test_a_bad_value_is_refused_by_field_and_value_and_what_is_allowed(name, value):
    with pytest.raises(ValueError) as error:
        DMConfig(**{name: value})
    words = str(error.value)
    assert name in words and repr(value) in words and "allowed is" in words, words


def test_a_number_too_long_to_print_is_refused_by_its_field():
    with pytest.raises(ValueError, match="epochs = a number too long to print; allowed is"):
        DMConfig(epochs=10**5000)


def test_the_ends_of_what_is_allowed_are_allowed():
    for name, values in {
        "input_dim": [(4, 1024)], "num_channels": [1, 1024], "condition_mask_value": [-1000, 0, 1000], "num_classes": [1, 100_000],
        "T": [1, 3000], "beta_1": [1e-12, 2e-2], "beta_T": [1e-4], "mask_p": [0, 1], "num_feat": [8, 4096], "omega": [-100, 100],
        "batch_size": [1, 10**6], "epochs": [1, 10**6], "learning_rate": [1e-12, 10], "multi_lr_milestones": [[], [3, 3, 10**6]],
        "multi_lr_gamma": [1e-12, 1], "lr_cycle": [0, 1, 1000], "ema_decay": [0], "seed": [0, 2**63 - 1],
        "precision": ["auto", "float32", "bfloat16", "float16"], "schedule": ["linear", "cosine"], "process": ["ddpm", "flow"],
    }.items():  # fmt: skip
        for value in values:
            assert getattr(DMConfig(**{name: value}), name) == value, name


def test_a_schedule_that_leaves_nothing_of_an_image_is_refused():
    """In float32 alpha_bar_T is 0 there; the schedules of the course are far from it, and the cosine one has no betas to refuse."""
    for settings in (dict(T=1000, beta_T=0.2), dict(T=400, beta_T=0.5), dict(T=13, beta_1=0.999, beta_T=0.999), dict(T=100_000)):
        with pytest.raises(
            ValueError, match=rf"T = {settings['T']} with beta_1 .* gives alpha_bar_T = 10\^-\d+; allowed is 1e-37 and above"
        ):
            DMConfig(**settings)
    assert (
        DMConfig(T=200, beta_1=1e-3, beta_T=0.2) and DMConfig(T=50, beta_1=2e-3, beta_T=0.4) and DMConfig(T=12, beta_1=0.999, beta_T=0.999)
    )
    assert DMConfig(T=1000, beta_T=0.2, schedule="cosine")


def test_numbers_of_numpy_become_plain():
    config = DMConfig(
        input_dim=(np.int64(32), np.int32(32)),
        T=np.int64(50),
        num_feat=np.uint8(8),
        seed=np.int16(3),
        beta_1=np.float32(1e-3),
        beta_T=np.float64(0.1),
        omega=np.float32(1.5),
        mask_p=np.float16(0.5),
        multi_lr_milestones=[np.int64(3)],
        learning_rate=Fraction(1, 8),
        multi_lr_gamma=1,
        precision=np.str_("float32"),
    )
    plain = {int, float, str, tuple, list}
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        assert type(value) in plain, f.name
        assert all(type(v) is int for v in value) if isinstance(value, (tuple, list)) else True, f.name
    assert type(config.multi_lr_gamma) is float and config.beta_1 == float(np.float32(1e-3)) and config.T == 50
    with pytest.raises(ValueError, match="beta_1"):
        DMConfig(beta_1=Decimal("0.01"))


def test_dict_and_back_through_json():
    config = DMConfig((32, 64), T=200, beta_1=1e-3, beta_T=2e-1, multi_lr_milestones=[3, 5], omega=-0.5, precision="float32", seed=7)
    settings = config.to_dict()
    assert list(settings) == [f.name for f in dataclasses.fields(DMConfig)]
    assert all(type(v) in (int, float, str, list) for v in settings.values()), settings
    assert DMConfig.from_dict(json.loads(json.dumps(settings))) == config
    assert DMConfig.from_dict(settings) == config and DMConfig.from_dict({}) == DMConfig()
    settings["multi_lr_milestones"].append(9), settings["input_dim"].append(1)
    assert config.multi_lr_milestones == [3, 5] and config.input_dim == (32, 64)  # the dict is a copy


@pytest.mark.parametrize(
    "name, value, before", [("schedule", "cosine", "linear"), ("process", "flow", "ddpm"), ("data", "fashion", "mnist")]
)
def test_a_dict_of_before_there_was_a_choice_has_what_there_was(name, value, before):
    """As a checkpoint of an earlier edition holds one: younger fields come last, and their default is what that edition did."""
    settings = DMConfig(**{name: value}).to_dict()
    assert name in list(settings)[-4:] and getattr(DMConfig.from_dict(settings), name) == value
    del settings[name]
    assert getattr(DMConfig.from_dict(settings), name) == getattr(DMConfig(), name) == before


def test_default_lists_are_not_shared():
    DMConfig().multi_lr_milestones.append(30)
    assert DMConfig().multi_lr_milestones == [20]
    mine = [5]
    assert DMConfig(multi_lr_milestones=mine).multi_lr_milestones is not mine


def test_an_unknown_key_is_named():
    with pytest.raises(ValueError, match="'num_feats'") as error:
        DMConfig.from_dict({"num_feats": 64, "T": 5})
    assert "num_feat," in str(error.value)  # and so is what it may have meant
    with pytest.raises(ValueError, match="T = 0"):
        DMConfig.from_dict({"T": 0})


def test_betas_are_ordered():
    for settings in (dict(beta_1=0.5), dict(beta_T=1e-5), dict(beta_1=0.3, beta_T=0.2)):
        with pytest.raises(ValueError, match="beta_T"):
            DMConfig(**settings)
    assert DMConfig(beta_1=0.1, beta_T=0.1).beta_T == 0.1


# The configs of earlier editions


class Config2024:
    """A plain class, the settings in __init__; conditions were one-hot rows."""

    def __init__(self):
        self.input_dim, self.num_channels, self.condition_mask_value, self.num_classes = (28, 28), 1, -1, 10
        self.T, self.beta_1, self.beta_T, self.mask_p, self.num_feat, self.omega = 3, 1e-4, 2e-2, 0.1, 8, 2.0
        self.batch_size, self.epochs, self.learning_rate, self.weights = 16, 1, 1e-3, None


@dataclasses.dataclass
class Config2025:
    input_dim: tuple = (28, 28)
    num_channels: int = 1
    T: int = 3
    num_feat: int = 8
    batch_size: int = 16
    epochs: int = 1


class modelconfig:
    """Settings of the class itself, and one number for the size of an image."""

    input_dim, num_channels, num_classes, T, num_feat, batch_size, epochs = 28, 1, 10, 3, 8, 16, 1


@pytest.mark.parametrize(
    "config", [Config2024(), Config2025(), modelconfig(), modelconfig], ids=["2024", "2025", "2026", "2026, the class"]
)
def test_an_older_config_is_taken(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(utils, "best_device", lambda: torch.device("cpu"))
    ours = DMConfig.of(config)
    assert (ours.T, ours.input_dim, ours.seed, ours.schedule) == (3, (28, 28), 0, "linear") and not hasattr(ours, "weights")
    loader = DataLoader(TensorDataset(torch.rand(20, 1, 28, 28), torch.arange(20) % 10), 16)
    model = utils.check_forward(loader, config, "cpu")
    images, labels = next(iter(loader))
    assert torch.equal(*(model(images, c, torch.Generator().manual_seed(0)) for c in (labels, F.one_hot(labels, 10))))
    assert utils.check_sample(model, config, "cpu").axes[0].images[0].get_array().shape == (280, 280, 3)
    assert len(utils.solver(config, "old", loader, loader)) == 1
    assert utils.load_model("save/old/best_checkpoint.pth", "cpu").dmconfig == ours
    plt.close("all")


def test_a_class_of_an_earlier_edition_is_handed_its_own_config(monkeypatch):
    seen = []
    monkeypatch.setattr("DDPM.ConditionalDDPM", lambda dmconfig: seen.append(dmconfig) or ConditionalDDPM(dmconfig))
    config = modelconfig()
    utils._new_model(config, "cpu")
    assert seen == [config]


def test_a_config_is_not_made_of_anything():
    config = DMConfig(T=7)
    assert DMConfig.of(config) is config
    with pytest.raises(ValueError, match="the config is 3; allowed is a DMConfig, or an object with such fields: input_dim, "):
        DMConfig.of(3)
    bad = modelconfig()
    bad.T = 0
    with pytest.raises(ValueError, match="T = 0; allowed"):
        DMConfig.of(bad)


def test_images_that_are_not_finite_are_no_picture():
    """Neither by the sampler of the course, nor by a student's, which may not look."""
    model = ConditionalDDPM(DMConfig.of(modelconfig))
    torch.nn.init.constant_(model.network.outblock[3].bias, math.inf)
    with pytest.raises(ValueError, match="7,840 of the images' 7,840 values are not finite"):
        model.sample(torch.arange(10), 2.0)
    model.sample = lambda c, omega: torch.full((len(c), 1, 28, 28), math.nan)
    with pytest.raises(ValueError, match="not finite"):
        utils.check_sample(model, model.dmconfig, "cpu")
