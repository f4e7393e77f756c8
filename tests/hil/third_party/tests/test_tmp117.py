"""What every driver promises, and what only a TMP117 can get wrong."""

from __future__ import annotations

import pytest
from yukimi_tmp117 import temperature_c

from hil.conformance.battery import *  # noqa: F403

DRIVERS = ["ti-tmp117"]


@pytest.mark.parametrize(
    ("code", "expected_c"),
    [(0xF380, -25.0), (0xFFFF, -0.0078125), (0x0000, 0.0), (0x0C80, 25.0), (0x3200, 100.0)],
)
def test_the_codes_of_the_data_sheet(code: int, expected_c: float) -> None:
    assert temperature_c(code) == expected_c
