"""Every setting of the course in one place, checked once."""

import dataclasses
import math
from dataclasses import dataclass, field
from numbers import Integral, Real

MEAN, STD = 0.1307, 0.3081  # of MNIST's pixels; the process works on (x - MEAN) / STD


@dataclass
class DMConfig:
    """The settings of one experiment. A value that cannot work raises ValueError here, before anything runs."""

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
    ema_decay: float = 0.999               # moving average of the weights, which is what one samples from; 0: none
    precision: str = "auto"                # "auto": what the hardware is built for; or "float32", "bfloat16", "float16"
    seed: int = 0                          # of the initial weights and everything drawn in training
    schedule: str = "linear"               # of the variances; or "cosine", by lab.schedules, which needs T alone

    def __post_init__(self):
        self.input_dim = self._pair("input_dim")
        self._integer("num_channels", 1)
        self._integer("condition_mask_value")
        self._integer("num_classes", 1)
        self._integer("T", 1)
        self._real("beta_1", lambda v: 1e-12 <= v < 1, "a number with 1e-12 <= beta_1 <= beta_T < 1")
        self._real("beta_T", lambda v: self.beta_1 <= v < 1, f"a number with beta_1 = {self.beta_1} <= beta_T < 1")
        self._real("mask_p", lambda v: 0 <= v <= 1, "a probability, 0 to 1")
        self._integer("num_feat", 8, multiple=8)
        self._real("omega", lambda v: True, "a finite number")
        self._integer("batch_size", 1)
        self._integer("epochs", 1)
        self._real("learning_rate", lambda v: v > 0, "a number above 0")
        self.multi_lr_milestones = self._epochs("multi_lr_milestones")
        self._real("multi_lr_gamma", lambda v: 0 < v <= 1, "a number above 0, at most 1")
        self._real("lr_cycle", lambda v: v == 0 or v >= 1, "0, or a number of at least 1")
        self._real("ema_decay", lambda v: 0 <= v < 1, "a number from 0 to below 1")
        if self.precision not in ("auto", "float32", "bfloat16", "float16"):
            self._refuse("precision", "'auto', 'float32', 'bfloat16' or 'float16'")
        self._integer("seed", 0, most=2**63 - 1)
        if self.schedule not in ("linear", "cosine"):
            self._refuse("schedule", "'linear' or 'cosine'")

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

    def _refuse(self, name, allowed):
        raise ValueError(f"{name} = {getattr(self, name)!r}; allowed is {allowed}")

    def _integer(self, name, least=None, multiple=1, most=None):
        value = getattr(self, name)
        words = "a whole number" + (f" of at least {least}" if least is not None else "")
        words += f", a multiple of {multiple}" if multiple > 1 else ""
        words += f", at most {most}" if most is not None else ""
        if not _is_integer(value) or value < (value if least is None else least) or value % multiple or value > (most or value):
            self._refuse(name, words)
        setattr(self, name, int(value))  # numpy's integers become Python's, which checkpoints can hold

    def _real(self, name, fits, allowed):
        value = getattr(self, name)
        if not is_finite(value) or not fits(value):
            self._refuse(name, allowed)
        setattr(self, name, float(value))

    def _pair(self, name):
        value = getattr(self, name)
        sizes = list(value) if isinstance(value, (tuple, list)) else []
        if len(sizes) != 2 or not all(_is_integer(v) and v >= 4 and v % 4 == 0 for v in sizes):
            self._refuse(name, "a pair (height, width) of multiples of 4: the network halves each twice")
        return tuple(map(int, sizes))

    def _epochs(self, name):
        value = getattr(self, name)
        epochs = list(value) if isinstance(value, (tuple, list)) else [None]
        if not all(_is_integer(v) and v >= 1 for v in epochs) or epochs != sorted(epochs):
            self._refuse(name, "a list of epochs, each at least 1, in rising order; [] for none")
        return list(map(int, epochs))


def is_finite(value):
    """Whether a value is a finite real number, and no boolean passed as one."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float can hold
        return False


def _is_integer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)
