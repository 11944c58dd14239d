"""2.1 Variance schedule: ConditionalDDPM.scheduler. Needs nothing else solved."""

import pytest
from checks.sections import SECTIONS


@pytest.mark.parametrize("property", SECTIONS["scheduler"].properties)
def test_scheduler(judged, property):
    judged("scheduler", property)
