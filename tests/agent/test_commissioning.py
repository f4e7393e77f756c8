"""Verdicts of acceptance tests: what passes, what does not, and what would put it right."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

import drivers
from agent.commissioning import judge_depth, judge_readings, judge_walks, ways_of
from drivers.base import Direction, Options, Quantity

RANGER = drivers.load("maxbotix-hrxl")
AIR: Mapping[str, Quantity] = {q.name: q for q in drivers.load("bme280").spec.quantities}


def mounted(**options: float) -> Any:
    return RANGER.Options.model_validate({"mount_height_cm": 350.0} | options)


def ground(distance_cm: float, options: Any, *, sd_cm: float = 0.2, n: int = 30) -> dict[str, Any]:
    dice = random.Random(5)
    distances = [distance_cm + dice.gauss(0.0, sd_cm) for _ in range(n)]
    return {"distance_cm": distances, "depth_cm": [options.depth_cm(each) for each in distances]}


# snow


def test_bare_ground_where_it_should_be_passes() -> None:
    options = mounted()
    found = judge_depth(ground(350.3, options), options)
    assert (found.passed, found.lines) == (True, [])
    assert found.measured["distance_cm"] == pytest.approx(350.3, abs=0.2)
    assert found.measured["spread_cm"] < 0.4


@pytest.mark.parametrize("slope_deg", [0.0, 30.0])
@pytest.mark.parametrize(("distance_cm", "key"), [(352.1, "zero_cm"), (381.0, "mount_height_cm")])
def test_the_line_that_it_gives_puts_the_zero_right(
    distance_cm: float, key: str, slope_deg: float
) -> None:
    options = mounted(slope_deg=slope_deg)
    found = judge_depth(ground(distance_cm, options), options)
    assert not found.passed
    (line,) = found.lines
    name, _, value = line.partition(" = ")
    assert name == key
    corrected = mounted(**{"slope_deg": slope_deg, name: float(value)})
    again = judge_depth(ground(distance_cm, corrected), corrected)
    assert again.passed
    assert again.measured["depth_cm"] == pytest.approx(0.0, abs=0.3)


def test_a_zero_that_was_set_before_is_taken_into_account() -> None:
    options = mounted(zero_cm=-2.0)
    found = judge_depth(ground(354.0, options), options)
    assert found.lines == ["zero_cm = -4.0"]


def test_depth_over_known_snow_is_held_against_the_stick() -> None:
    options = mounted()
    assert judge_depth(ground(308.0, options), options, known_cm=42.0).passed
    assert not judge_depth(ground(308.0, options), options, known_cm=45.0).passed


def test_a_device_that_computes_depth_itself_is_sent_to_its_maker() -> None:
    umb: Options = drivers.load("lufft-umb").Options.model_validate({"model": "shm31"})
    found = judge_depth({"depth_cm": [3.0, 3.1] * 10}, umb)
    assert (found.passed, found.lines) == (False, [])
    assert "maker's tool" in found.says[-1]


@pytest.mark.parametrize("sd_cm", [1.5, 5.0])
def test_ground_that_does_not_stand_still_is_no_zero(sd_cm: float) -> None:
    options = mounted()
    found = judge_depth(ground(352.1, options, sd_cm=sd_cm), options)
    assert (found.passed, found.lines) == (False, [])
    assert "falling snow" in found.says[-1]


def test_one_flake_is_enough_to_ask_for_a_better_moment() -> None:
    options = mounted()
    samples = ground(350.0, options)
    samples["depth_cm"][7] = 120.0
    found = judge_depth(samples, options)
    assert not found.passed
    assert "does not stand still" in found.says[-1]


@pytest.mark.parametrize("n", [0, 4, 23])
def test_too_few_values_are_no_measurement(n: int) -> None:
    options = mounted()
    samples = ground(350.0, options)
    samples["depth_cm"][n:] = [None] * (30 - n)
    found = judge_depth(samples, options, reasons=["weak_signal"])
    assert not found.passed
    assert "weak_signal" in found.says[-1]


def test_nothing_at_all_is_no_measurement() -> None:
    assert not judge_depth({}, mounted()).passed


# other sensors of things


def air(*values: float | None) -> dict[str, list[float | str | None]]:
    return {"air_temperature_c": list(values)}


def test_steady_and_plausible_values_pass() -> None:
    found = judge_readings(air(*[-3.0, -3.1] * 10), AIR)
    assert found.passed
    assert found.measured["air_temperature_c"]["median"] == pytest.approx(-3.05)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([-60.0] * 10, "beyond what is believed"),
        ([-3.0] * 9 + [9.0], "jumps by 12"),
        ([-3.0] * 5 + [None] * 5, "only 5 of 10"),
        ([None] * 10, "no value at all"),
    ],
)
def test_what_is_not_to_be_believed_is_told(values: list[float | None], why: str) -> None:
    found = judge_readings(air(*values), AIR)
    assert not found.passed
    assert any(why in text for text in found.says), found.says


def test_a_thermometer_is_compared() -> None:
    assert judge_readings(air(*[-3.0] * 10), AIR, thermometer_c=-2.0).passed
    found = judge_readings(air(*[-3.0] * 10), AIR, thermometer_c=1.0)
    assert not found.passed
    assert "differ by 4.0" in found.says[-1]
    assert not judge_readings({"pressure_hpa": [1000.0] * 10}, AIR, thermometer_c=1.0).passed


def test_a_class_has_no_limits() -> None:
    assert judge_readings({"condition": ["ice"] * 10}, {}).measured["condition"]["last"] == "ice"


# people

WALKED: dict[Direction, int] = {"towards": 10, "away": 10}
FLIPS = drivers.load("hlk-ld2450").Options()
BEAMS = drivers.load("beam-pair").Options.model_validate({"pin_a": 17, "pin_b": 27})


def walk(towards: int, away: int, first: Direction | None = "towards", **more: Any) -> Any:
    counted: dict[Direction, int] = {"towards": towards, "away": away}
    return judge_walks(WALKED, counted, first, more.get("options", FLIPS))


@pytest.mark.parametrize(("towards", "away"), [(10, 10), (9, 10), (11, 9)])
def test_one_in_ten_may_be_wrong(towards: int, away: int) -> None:
    assert walk(towards, away).passed


@pytest.mark.parametrize(
    ("towards", "away", "first", "why"),
    [
        (0, 0, None, "counted nobody"),
        (10, 10, "away", "counted as out"),
        (20, 0, "towards", "one way only"),
        (8, 10, "towards", "misses people"),
        (10, 14, "towards", "too many"),
    ],
)
def test_the_likely_cause_is_told(
    towards: int, away: int, first: Direction | None, why: str
) -> None:
    found = walk(towards, away, first)
    assert not found.passed
    assert why in found.says[-1]


def test_exchanged_directions_are_put_right_by_flip_or_by_the_wires() -> None:
    assert walk(10, 10, "away").lines == ["flip = true"]
    flipped = drivers.load("hlk-ld2450").Options.model_validate({"flip": True})
    assert walk(10, 10, "away", options=flipped).lines == ["flip = false"]
    counter = drivers.load("pulse-counter").Options.model_validate(
        {"pin_towards": 5, "pin_away": 6}
    )
    assert walk(10, 10, "away", options=counter).lines == []


def test_of_what_was_counted_nothing_goes_into_the_record() -> None:
    found = walk(9, 11)
    assert found.measured == {"walked": WALKED, "within": {"towards": 1, "away": 1}}
    assert walk(3, 17).measured == found.measured
    assert "counted 9" in found.says[0]  # but who walked may know


def test_a_counter_of_totals_is_walked_both_ways() -> None:
    assert ways_of(("total",), 10, 8) == {"total": 18}
    assert ways_of(("towards", "away"), 10, 8) == {"towards": 10, "away": 8}
    total: dict[Direction, int] = {"total": 18}
    assert judge_walks({"total": 18}, total, "total", BEAMS).passed
