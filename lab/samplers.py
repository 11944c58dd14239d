"""The public address of lab.diffusion.sampling: `from lab import samplers`."""

from lab.diffusion.few import METHOD as FEW
from lab.diffusion.process import BLACK, WHITE
from lab.diffusion.sampling import ANCESTRAL, BATCH, BEST, FLOW_METHODS, METHOD, METHODS, STEPS, pixels, sample, trajectory, usual
from lab.diffusion.walk import Step, final, timesteps

__all__ = [
    "ANCESTRAL", "BATCH", "BEST", "BLACK", "FEW", "FLOW_METHODS", "METHOD", "METHODS", "STEPS", "WHITE", "Step", "final",
    "pixels", "sample", "timesteps", "trajectory", "usual",
]  # fmt: skip
