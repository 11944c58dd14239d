"""Every setting of the course in one place, checked once."""

import dataclasses
import math
from dataclasses import dataclass, field
from numbers import Integral, Real

MEAN, STD = 0.1307, 0.3081  # of MNIST's pixels; the process works on (x - MEAN) / STD
MOST = 1_000_000            # largest batch_size and number of epochs
LEAST = 1e-37               # least alpha_bar_T: float32 loses what is smaller, and computing x_0 divides by its root


@dataclass
class DMConfig:
    """The settings of one experiment. A value that cannot work raises ValueError here, before anything runs.

    The bounds are wide: no useful value lies outside them.
    """

    input_dim: tuple[int, int] = (28, 28)  # height and width of an image, each a multiple of 4
    num_channels: int = 1                  # 1 for grey, 3 for colour
    condition_mask_value: int = -1         # what fills the one-hot row of a masked (null) condition
    num_classes: int = 10                  # length of the one-hot row
    T: int = 400                           # diffusion steps; t = T is noise, t = 1 the last step
    beta_1: float = 1e-4                   # of the linear schedule: variance of the noise added at t = 1 …
    beta_T: float = 2e-2                   # … and at t = T, linear in between
    mask_p: float = 0.1                    # probability that training hides a condition
    num_feat: int = 64                     # width of the network, a multiple of 8
    omega: float = 2.0                     # guidance weight: 0 is conditional, -1 unconditional
    batch_size: int = 256                  # images a step
    epochs: int = 10                       # passes over the training set
    learning_rate: float = 1e-4            # Adam's, where training starts
    multi_lr_milestones: list[int] = field(default_factory=lambda: [20])  # epochs after which the rate is multiplied …
    multi_lr_gamma: float = 0.1            # … by this
    lr_cycle: float = 20.0                 # the rate climbs to this many times learning_rate, then falls to 0; 0: no cycle
    ema_decay: float = 0.999               # of the moving average of the weights, used for sampling; 0: no average
    precision: str = "auto"                # "auto": the fastest the hardware supports; or "float32", "bfloat16", "float16"
    seed: int = 0                          # of the initial weights and all random numbers in training
    schedule: str = "linear"               # or "cosine" (lab.diffusion.schedules), which depends on T alone
    process: str = "ddpm"                  # or "flow" (explorations/FM.py), which ignores the betas; "few": distilled
    data: str = "mnist"                    # what is trained on: "mnist", "fashion", "cifar10" or a folder of pictures
    classes: list[str] = field(default_factory=list)  # their names, num_classes of them; [] for numbers

    def __post_init__(self):
        self.input_dim = self._pair("input_dim")
        self._integer("num_channels", 1, 1024)
        self._integer("condition_mask_value", -1000, 1000)  # an input of the network, and float16 ends at 65504
        self._integer("num_classes", 1, 100_000)
        self._integer("T", 1, 100_000)
        self._real("beta_1", 1e-12, 0.999, "a number with 1e-12 <= beta_1 <= beta_T <= 0.999")
        self._real("beta_T", self.beta_1, 0.999, f"a number with beta_1 = {self.beta_1} <= beta_T <= 0.999")
        self._real("mask_p", 0, 1, "a probability, 0 to 1")
        self._integer("num_feat", 8, 4096, multiple=8)
        self._real("omega", -100, 100)
        self._integer("batch_size", 1, MOST)
        self._integer("epochs", 1, MOST)
        self._real("learning_rate", 1e-12, 10)
        self.multi_lr_milestones = self._epochs("multi_lr_milestones")
        self._real("multi_lr_gamma", 1e-12, 1)
        self._real("lr_cycle", 0, 1000, cycle := "0, or a number from 1 to 1000")
        if 0 < self.lr_cycle < 1:
            self._refuse("lr_cycle", cycle)
        self._real("ema_decay", 0, 1 - 1e-9, "a number from 0 to below 1")
        self._word("precision", "auto", "float32", "bfloat16", "float16")
        self._integer("seed", 0, 2**63 - 1)
        self._word("schedule", "linear", "cosine")
        self._word("process", "ddpm", "flow", "few")
        if not isinstance(self.data, str) or not self.data:
            self._refuse("data", "the name of a set or of a folder")
        self.classes = self._names("classes")
        if self.schedule == "linear":
            self._check_end()

    def to_dict(self):
        """The settings as a dict of plain numbers, strings and lists, as checkpoints and JSON store them."""
        return {**dataclasses.asdict(self), "input_dim": list(self.input_dim)}

    @classmethod
    def from_dict(cls, settings):
        """The config of a dict; a setting that is missing has its default. ValueError names an unknown key."""
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = [key for key in settings if key not in known]
        if unknown:
            raise ValueError(f"unknown setting {', '.join(map(repr, unknown))}; DMConfig knows {', '.join(known)}")
        return cls(**settings)

    @classmethod
    def of(cls, config):
        """A DMConfig from any object with its fields, such as the config of an earlier edition; a DMConfig is returned as it is.

        Missing fields take their defaults. input_dim may be one number, the side of a square.
        Raises ValueError for an object without any of our fields, and for a value that cannot work.
        """
        if isinstance(config, cls):
            return config
        names = [f.name for f in dataclasses.fields(cls)]
        settings = {name: getattr(config, name) for name in names if hasattr(config, name)}
        if not settings:
            raise ValueError(f"the config is {config!r}; allowed is a DMConfig, or an object with such fields: {', '.join(names)}")
        if _is_integer(settings.get("input_dim")):
            settings["input_dim"] = (settings["input_dim"],) * 2
        return cls(**settings)

    def _refuse(self, name, allowed):
        try:
            value = repr(getattr(self, name))
        except ValueError:  # an int with thousands of digits
            value = "a number too long to print"
        raise ValueError(f"{name} = {value}; allowed is {allowed}")

    def _word(self, name, *words):
        value = getattr(self, name)
        if not isinstance(value, str) or value not in words:
            self._refuse(name, f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}")
        setattr(self, name, words[words.index(value)])  # a plain string, which checkpoints can hold

    def _integer(self, name, least, most, multiple=1):
        value = getattr(self, name)
        if not _is_integer(value) or not least <= value <= most or value % multiple:
            self._refuse(name, f"a {f'multiple of {multiple}' if multiple > 1 else 'whole number'} from {least} to {most}")
        setattr(self, name, int(value))  # numpy's integers become Python's, which checkpoints can hold

    def _real(self, name, least, most, allowed=None):
        value = getattr(self, name)
        if not is_finite(value) or not least <= float(value) <= most:
            self._refuse(name, allowed or f"a number from {least} to {most}")
        setattr(self, name, float(value))

    def _pair(self, name):
        value = getattr(self, name)
        sizes = list(value) if isinstance(value, (tuple, list)) else []
        if len(sizes) != 2 or not all(_is_integer(v) and 4 <= v <= 1024 and v % 4 == 0 for v in sizes):
            self._refuse(name, "a pair (height, width) of multiples of 4, at most 1024: the network halves each twice")
        return tuple(map(int, sizes))

    def _epochs(self, name):
        value = getattr(self, name)
        epochs = list(value) if isinstance(value, (tuple, list)) else [None]
        if not all(_is_integer(v) and 1 <= v <= MOST for v in epochs) or epochs != sorted(epochs):
            self._refuse(name, f"a list of epochs, each from 1 to {MOST}, in rising order; [] for none")
        return list(map(int, epochs))

    def _names(self, name):
        names = list(getattr(self, name)) if isinstance(getattr(self, name), (tuple, list)) else [None]
        whole = all(isinstance(each, str) and each for each in names) and len(set(names)) == len(names)
        if not whole or len(names) not in (0, self.num_classes):
            self._refuse(name, f"num_classes = {self.num_classes} different names, or [] for numbers")
        return names

    def label(self, name):
        """The class of this name, or of this number as a text. Raises ValueError for one that there is not."""
        if name in self.classes:
            return self.classes.index(name)
        if str(name).isascii() and str(name).isdigit() and int(name) < self.num_classes:
            return int(name)
        raise ValueError(f"the model has no class {name}; it draws {self.named()}")

    def named(self):
        """The classes in words."""
        return ", ".join([*self.classes[:20], *["…"] * (len(self.classes) > 20)]) or f"0 to {self.num_classes - 1}"

    def _check_end(self):
        """Raise ValueError for a linear schedule whose alpha_bar_T is too small to divide by its root."""
        stride = (self.beta_T - self.beta_1) / max(self.T - 1, 1)
        power = sum(math.log10(1 - self.beta_1 - stride * i) for i in range(self.T))
        if power < math.log10(LEAST):
            raise ValueError(
                f"T = {self.T} with beta_1 = {self.beta_1} and beta_T = {self.beta_T} gives alpha_bar_T = 10^{power:.0f}; "
                f"allowed is {LEAST} and above: fewer steps or smaller betas turn an image into noise as well"
            )


def is_finite(value):
    """Whether a value is a finite real number; a boolean is not."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float can hold
        return False


def _is_integer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)
