"""2.3 Sampling: ConditionalDDPM.sample. Needs nothing else solved."""

import pytest
from checks.sections import SECTIONS


@pytest.mark.parametrize("property", SECTIONS["sample"].properties)
def test_sample(judged, property):
    judged("sample", property)
