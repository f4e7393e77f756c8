"""Road conditions: each code of each maker becomes one class of the contract, and is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import lufft_umb, md30, road
from drivers.base import Reading

# Written down from the makers' manuals, not from the tables under test.
LUFFT = {
    "dry": {10},
    "moist": {15},
    "wet": {20},
    "wet_salt": {25, 30},
    "ice": {35},
    "snow": {40},
    "frost": {45},
}
VAISALA = {
    "fault": {0, 100, 200},
    "dry": {1, 101, 201},
    "moist": {2, 102, 202},
    "wet": {3, 103, 203},
    "wet_salt": {4, 104, 204, 8, 108, 208},
    "frost": {5, 105, 205},
    "snow": {6, 106, 206},
    "ice": {7, 107, 207},
    "slush": {9, 109, 209},
}
WORDS = {
    "The sensor has a fault": "fault",
    "Dry": "dry",
    "Moist": "moist",
    "Wet": "wet",
    "Wet and salty": "wet_salt",
    "Frost": "frost",
    "Snow": "snow",
    "Ice": "ice",
    "Probably moist and salty": "wet_salt",
    "Slushy": "slush",
}


def expected(table: Mapping[str, set[int]], code: int) -> str:
    (name,) = [name for name, codes in table.items() if code in codes] or ["unknown"]
    return name


def said(readings: list[Reading]) -> dict[str, object]:
    return {each.quantity: each.value for each in readings}


@given(st.integers(0, 255))
def test_every_code_of_lufft_is_one_class_and_stays_a_code(code: int) -> None:
    table = {channel.number: channel for channel in lufft_umb.IRS31PRO}
    found = said(lufft_umb.readings([lufft_umb.ChannelValue(900, 0, code)], table, 0))
    assert found == {"condition": expected(LUFFT, code), "condition_code": str(code)}
    assert found["condition"] in lufft_umb.CONDITION.classes
    assert found["condition_code"] in road.CONDITION_CODE.classes


@given(st.integers(0, 255))
def test_every_state_of_vaisala_is_one_class_and_stays_a_code(state: int) -> None:
    numbers = dict.fromkeys((quantity.name for quantity in md30.QUANTITIES), 0.0)
    found = said(md30.readings(md30.Report(1, 0, 0, numbers, state), 0))
    assert found["condition"] == expected(VAISALA, state)
    assert found["condition_code"] == str(state)
    assert found["condition"] in md30.CONDITION.classes


@given(st.integers())
def test_a_number_that_is_no_code_is_unknown(code: int) -> None:
    assert road.lufft(code) == expected(LUFFT, code)
    assert road.vaisala(code) == expected(VAISALA, code)


@pytest.mark.parametrize("sensor", [23, 24])
def test_vaisalas_classes_are_those_of_the_recorded_vocabulary(
    recordings: Path, sensor: int
) -> None:
    text = (recordings / "rwis/fintraffic_sensor_value_descriptions.sql").read_text()
    start = f"values ({sensor},"
    lines = [line.split("values (")[1] for line in text.splitlines() if start in line]
    assert len(lines) == 10
    for line in lines:
        code, english = int(line.split(",")[1]), line.split("'")[-2]
        assert road.vaisala(code) == WORDS[english]


@pytest.mark.parametrize("codes", [road.LUFFT, road.VAISALA])
def test_a_device_names_the_classes_it_can_tell_and_unknown(codes: Mapping[int, str]) -> None:
    quantity = road.condition(codes)
    assert set(quantity.classes) == {*codes.values(), "unknown"}
    assert set(quantity.classes) <= set(road.CONDITIONS)
