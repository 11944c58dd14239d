"""1. Denoising network: ConditionalUnet.forward. Needs nothing else solved."""

import pytest
from checks.sections import SECTIONS


@pytest.mark.parametrize("property", SECTIONS["network"].properties)
def test_network(judged, property):
    judged("network", property)
