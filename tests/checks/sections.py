"""The sections that can be checked: their points, and how a student's code is checked."""

import importlib
import os
from dataclasses import dataclass
from types import ModuleType

from checks import FLOW, flow, forward, lend, network, sample, scheduler
from checks.student import Student, is_unwritten, stops
from checks.verdict import Verdict


@dataclass(frozen=True)
class Section:
    """key: as in `pytest -k key`. title: of the notebook. module, cls: where a student writes it. checks: how it is judged."""

    key: str
    title: str
    module: str
    cls: str
    method: str
    checks: ModuleType

    @property
    def properties(self):
        """{key: (points, what a right solution does)}."""
        return self.checks.PROPERTIES

    @property
    def points(self):
        return sum(points for points, _ in self.properties.values())

    def examine(self, student):
        """A Verdict on a checks.student.Student; `unwritten` where there is nothing to judge yet. Raises errors of the checks themselves."""
        verdict = Verdict(self.properties, self.checks.SEE)
        try:
            self.checks.examine(student, verdict)
        except Exception as error:
            if not hasattr(error, "where"):
                raise
            student.hung |= self.key == "scheduler" and getattr(error, "final", False)
            verdict.unwritten = is_unwritten(error)
            unwritten = f"{self.cls}.{self.method} in {self.module}.py is not written yet."
            verdict.fault_rest(unwritten if verdict.unwritten else stops(self.method, error))
        student.hung |= self.key == "scheduler" and verdict.unreadable
        return verdict

    def look(self):
        """A Verdict on the module that Python imports under this name."""
        try:
            found = getattr(importlib.import_module(self.module), self.cls)
        except Exception as error:
            error.where = lend.where(error, os.getcwd())
            verdict = Verdict(self.properties, self.checks.SEE)
            verdict.fault_rest(stops(f"The import of {self.module}.py", error))
            return verdict
        return self.examine(Student(found))


FLOW_MATCHING = Section("flow", "3. Flow matching", "FM", "ConditionalFM", "forward", flow)
SECTIONS = {
    section.key: section
    for section in (
        Section("network", "1. Denoising network", "ResUNet", "ConditionalUnet", "forward", network),
        Section("scheduler", "2.1 Variance schedule", "DDPM", "ConditionalDDPM", "scheduler", scheduler),
        Section("forward", "2.2 Training", "DDPM", "ConditionalDDPM", "forward", forward),
        Section("sample", "2.3 Sampling", "DDPM", "ConditionalDDPM", "sample", sample),
        *([FLOW_MATCHING] if FLOW else []),
    )
}
