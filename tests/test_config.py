"""The settings: config.DMConfig. Given, not to be solved."""

import dataclasses
import json
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from config import DMConfig

COURSE = [  # the course's fifteen, in this order; notebooks and graders name them and hand them over by position
    ("input_dim", (28, 28)), ("num_channels", 1), ("condition_mask_value", -1), ("num_classes", 10), ("T", 400), ("beta_1", 1e-4),
    ("beta_T", 2e-2), ("mask_p", 0.1), ("num_feat", 64), ("omega", 2.0), ("batch_size", 256), ("epochs", 10), ("learning_rate", 1e-4),
    ("multi_lr_milestones", [20]), ("multi_lr_gamma", 0.1),
]
WHOLE = ["num_channels", "condition_mask_value", "num_classes", "T", "num_feat", "batch_size", "epochs", "seed"]
REAL = ["beta_1", "beta_T", "mask_p", "omega", "learning_rate", "multi_lr_gamma", "lr_cycle", "ema_decay"]
NO_NUMBER = [True, False, math.nan, math.inf, -math.inf, "8", None, [8], 8 + 0j, np.nan, np.bool_(True)]

BAD = [
    *((name, value) for name in WHOLE for value in [*NO_NUMBER, 8.0, 8.5]),
    *((name, value) for name in REAL for value in [*NO_NUMBER, 10**400]),
    *((name, value) for name in ("num_channels", "num_classes", "T", "batch_size", "epochs") for value in (0, -1)),
    *(("num_feat", value) for value in (0, -8, 4, 12, 63)),
    *(("beta_1", value) for value in (0, -1e-4, 1, 1.5, 3e-2)),  # the last is above beta_T
    *(("beta_T", value) for value in (0, -2e-2, 1, 2, 9e-5)),    # the last is below beta_1
    *(("mask_p", value) for value in (-0.1, 1.1, 10)),
    *(("learning_rate", value) for value in (0, -1e-4)),
    *(("multi_lr_gamma", value) for value in (0, -0.1, 1.1)),
    *(("lr_cycle", value) for value in (-1, 0.5)),
    *(("ema_decay", value) for value in (-0.1, 1, 1.5)),
    *(("seed", value) for value in (-1, 2**63)),
    *(("precision", value) for value in ("half", "", "FLOAT32", None, 16, True, torch.float32, ["auto"])),
    *(("schedule", value) for value in ("Cosine", "", "squaredcos_cap_v2", None, 1, True, ["cosine"])),
    *(("input_dim", value) for value in (28, (28,), (28, 28, 1), (28, 30), (30, 28), (0, 28), (2, 28), (-28, 28), (28.0, 28), (True, 28),
                                         ("28", "28"), "28", None, (math.nan, 28), [(28, 28)], {28, 32}, 784)),
    *(("multi_lr_milestones", value) for value in (20, [0], [-1], [20, 10], [2.5], [True], ["20"], "20", None, [math.inf], [[20]], {20})),
]


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
    assert name in words or (name == "beta_1" and "beta_T" in words), words
    assert repr(value) in words, words
    assert "allowed is" in words, words


@pytest.mark.parametrize(("name", "value"), [
    ("input_dim", [32, 64]), ("input_dim", (4, 4)), ("num_channels", 3), ("condition_mask_value", 0), ("condition_mask_value", -7),
    ("num_classes", 1), ("T", 1), ("beta_1", 2e-2), ("beta_T", 0.999), ("mask_p", 0), ("mask_p", 1), ("num_feat", 8), ("omega", -1),
    ("omega", -3.5), ("omega", 0), ("batch_size", 1), ("epochs", 1), ("learning_rate", 10), ("multi_lr_milestones", []),
    ("multi_lr_milestones", (3, 3, 5)), ("multi_lr_gamma", 1), ("lr_cycle", 0), ("lr_cycle", 1), ("ema_decay", 0), ("seed", 2**63 - 1),
    ("precision", "bfloat16"), ("schedule", "cosine"),
])
def test_the_ends_of_what_is_allowed_are_allowed(name, value):
    got = getattr(DMConfig(**{name: value}), name)
    assert (list(got) if isinstance(value, (list, tuple)) else got) == (list(value) if isinstance(value, (list, tuple)) else value)


def test_numbers_of_numpy_become_plain():
    config = DMConfig(
        input_dim=(np.int64(32), np.int32(32)), T=np.int64(50), num_feat=np.uint8(8), seed=np.int16(3), beta_1=np.float32(1e-3),
        beta_T=np.float64(0.1), omega=np.float32(1.5), mask_p=np.float16(0.5), multi_lr_milestones=[np.int64(3)],
        learning_rate=Fraction(1, 8), multi_lr_gamma=1,
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


def test_a_dict_of_before_there_were_schedules_is_linear():
    """As a checkpoint of an earlier edition holds one: the field comes last and has the course's schedule as its default."""
    settings = DMConfig(schedule="cosine").to_dict()
    assert list(settings)[-1] == "schedule" and DMConfig.from_dict(settings).schedule == "cosine"
    del settings["schedule"]
    assert DMConfig.from_dict(settings).schedule == DMConfig().schedule == "linear"


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
