"""2.2 Training: ConditionalDDPM.forward. Needs nothing else solved."""

import pytest
from checks.sections import SECTIONS


@pytest.mark.parametrize("property", SECTIONS["forward"].properties)
def test_forward(judged, property):
    judged("forward", property)
