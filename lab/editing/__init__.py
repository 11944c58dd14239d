"""Editing with a diffusion model: the tasks under one name, `from lab import editing`."""

from lab.diffusion.process import ConditionalProcess
from lab.diffusion.walk import final
from lab.editing.tasks import (
    OMEGA,
    STEPS,
    anagram,
    blur,
    clean,
    denoise,
    edit,
    hybrid,
    inpaint,
    noised,
    pixels,
    sample,
    timesteps,
    to_model,
)

__all__ = ["OMEGA", "STEPS", "ConditionalProcess", "anagram", "blur", "clean", "denoise", "edit", "final", "hybrid", "inpaint", "noised",
           "pixels", "sample", "timesteps", "to_model"]  # fmt: skip
