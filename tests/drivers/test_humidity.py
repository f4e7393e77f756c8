"""Dew point and frost point against published tables and the full formula of Sonntag (1990)."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.humidity import dew_point_c, frost_point_c

DEW_BOUND_C = 0.11
FROST_BOUND_C = 0.05

# IAPWS-95, saturation over water: degC, hPa.
WATER = [(0.01, 6.1166), (10, 12.282), (20, 23.393), (30, 42.470), (40, 73.849), (50, 123.52)]
# Smithsonian Meteorological Tables, saturation over ice: degC, mmHg.
ICE = [(-20, 0.776), (-15, 1.241), (-10, 1.950), (-5, 3.013), (-1, 4.217)]
HPA_PER_MMHG = 1.333224


def over_water_hpa(at_c: float) -> float:
    """Sonntag (1990), -100 to 100 degC."""
    k = at_c + 273.15
    linear = 16.635764 - 2.711193e-2 * k + 1.673952e-5 * k * k
    return math.exp(-6096.9385 / k + linear + 2.433502 * math.log(k))


def over_ice_hpa(at_c: float) -> float:
    """Sonntag (1990), -100 to 0 degC."""
    k = at_c + 273.15
    linear = 24.7219 + 1.0613868e-2 * k - 1.3198825e-5 * k * k
    return math.exp(-6024.5282 / k + linear - 0.49382577 * math.log(k))


def at_which(saturation_hpa: Callable[[float], float], hpa: float) -> float:
    low_c, high_c = -99.0, 100.0
    for _ in range(60):
        middle_c = (low_c + high_c) / 2
        low_c, high_c = (middle_c, high_c) if saturation_hpa(middle_c) < hpa else (low_c, middle_c)
    return low_c


@pytest.mark.parametrize(("dew", "air"), list(combinations_with_replacement(WATER, 2)))
def test_a_dew_point_by_the_steam_tables(
    dew: tuple[float, float], air: tuple[float, float]
) -> None:
    found_c = dew_point_c(air[0], 100 * dew[1] / air[1])
    assert found_c == pytest.approx(dew[0], abs=DEW_BOUND_C)


@given(st.floats(-45.0, 60.0), st.floats(-50.0, 60.0))
def test_a_dew_point_keeps_its_bound(air_c: float, dew_c: float) -> None:
    percent = 100 * over_water_hpa(min(dew_c, air_c)) / over_water_hpa(air_c)
    assert dew_point_c(air_c, percent) == pytest.approx(min(dew_c, air_c), abs=DEW_BOUND_C)


@pytest.mark.parametrize(("frost_c", "mmhg"), ICE)
def test_a_frost_point_by_the_smithsonian_tables(frost_c: float, mmhg: float) -> None:
    dew_c = at_which(over_water_hpa, mmhg * HPA_PER_MMHG)
    # The table is older than Sonntag's formula: they differ by 0.2 %, which is 0.02 degC.
    assert frost_point_c(dew_c) == pytest.approx(frost_c, abs=FROST_BOUND_C + 0.02)


@given(st.floats(-45.0, -0.01))
def test_a_frost_point_keeps_its_bound_and_is_above_the_dew_point(dew_c: float) -> None:
    true_c = at_which(over_ice_hpa, over_water_hpa(dew_c))
    assert frost_point_c(dew_c) == pytest.approx(true_c, abs=FROST_BOUND_C)
    assert dew_c < frost_point_c(dew_c) < 0


@given(st.floats(0.0, 60.0))
def test_above_freezing_nothing_but_dew_falls(dew_c: float) -> None:
    assert frost_point_c(dew_c) == dew_c


@pytest.mark.parametrize(
    ("air_c", "percent"), [(20.0, 0.0), (20.0, -1.0), (-45.1, 50.0), (60.1, 50.0)]
)
def test_no_dew_point_where_there_is_none_or_the_formula_does_not_hold(
    air_c: float, percent: float
) -> None:
    assert dew_point_c(air_c, percent) is None
