"""3. Flow matching: ConditionalFM in FM.py, where the course has this section (checks.sections.FLOW)."""

import pytest
from checks.sections import SECTIONS

if "flow" not in SECTIONS:
    pytest.skip("this course has no section on flow matching", allow_module_level=True)


@pytest.mark.parametrize("property", SECTIONS["flow"].properties)
def test_flow(judged, property):
    judged("flow", property)
