"""The right schedule, by a loop in float64, and how far float32 may be off."""

import numpy as np

MEAN, STD = 0.1307, 0.3081
ULP = 2.0**-23  # float32's
NAMES = ("beta_t", "sqrt_beta_t", "alpha_t", "oneover_sqrt_alpha", "alpha_t_bar", "sqrt_alpha_bar", "sqrt_oneminus_alpha_bar")

# The settings that the course uses, and others of ordinary size: 28 x 28, one channel, ten classes throughout.
DEFAULT = dict(T=400, beta_1=1e-4, beta_T=2e-2, num_feat=16, precision="float32")
OTHER = dict(T=150, beta_1=5e-4, beta_T=6e-2, mask_p=0.3, num_feat=16, precision="float32")


def schedule(beta_1, beta_T, T, **other):
    """The seven tables, (T,) each; the value at t has index t - 1."""
    return tables([beta_1 + (beta_T - beta_1) * (t - 1) / max(T - 1, 1) for t in range(1, T + 1)])


def tables(betas):
    """The seven tables that follow from betas, the rest of the schedule being right."""
    beta, alpha_bar = np.array(betas, dtype=np.float64), []
    for b in beta:
        alpha_bar.append((alpha_bar[-1] if alpha_bar else 1.0) * (1 - b))
    bar = np.array(alpha_bar)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = (beta, beta**0.5, 1 - beta, (1 - beta) ** -0.5, bar, bar**0.5, (1 - bar) ** 0.5)
    return dict(zip(NAMES, values, strict=True))


def float32_error(table):
    """How far each table may be off, (T,) each, when it was made in float32 throughout.

    linspace is good to a few ulp of its largest value, a product of t factors to about 4 (t + 1) ulp, and a root
    turns an error e of its argument into e / (2 root).
    """
    t = np.arange(1, len(table["beta_t"]) + 1)
    beta, bar = 4 * ULP * table["beta_t"].max(), 4 * (t + 1) * ULP * table["alpha_t_bar"]
    root = lambda error, name: error / (2 * table[name]) + ULP
    return {
        "beta_t": np.full(len(t), beta),
        "sqrt_beta_t": root(beta, "sqrt_beta_t"),
        "alpha_t": np.full(len(t), beta + ULP),
        "oneover_sqrt_alpha": (beta + ULP) / 2 * table["oneover_sqrt_alpha"] ** 3 + 2 * ULP,
        "alpha_t_bar": bar,
        "sqrt_alpha_bar": root(bar, "sqrt_alpha_bar"),
        "sqrt_oneminus_alpha_bar": root(bar + ULP, "sqrt_oneminus_alpha_bar"),
    }


def array(tensor):
    return tensor.detach().cpu().double().numpy()


def chi_square_bound(free, x=16.1):  # exp(16.1) is ten million
    """Chi square with `free` degrees of freedom exceeds it less than once in exp(x): Laurent & Massart 2000, lemma 1."""
    return free + 2 * (free * x) ** 0.5 + 2 * x
