"""The air around: the latest that any sensor told, and nothing that is too old."""

from __future__ import annotations

import pytest

from agent.phenomena.weather import AGE_MAX_S, Surroundings
from drivers.base import Alive, Fix, Reading, Trouble

S = 1_000_000_000


def air(*told: tuple[str, float | str | None, int]) -> Surroundings:
    surroundings = Surroundings()
    for quantity, value, at_s in told:
        surroundings.hear(Reading(quantity, value, at_s * S))
    return surroundings


def test_what_was_told_last_counts_also_when_it_comes_late() -> None:
    told = [("air_temperature_c", 1.0, 10), ("air_temperature_c", 3.0, 30)]
    for order in (told, told[::-1]):
        assert air(*order).air_temperature_c(60 * S) == 3.0


@pytest.mark.parametrize("quantity", ["air_temperature_c", "humidity_percent", "dew_point_c"])
def test_after_fifteen_minutes_nobody_knows(quantity: str) -> None:
    surroundings = air((quantity, 5.0, 100))
    asked = getattr(surroundings, quantity)
    last_ns = 100 * S + round(AGE_MAX_S) * S
    assert asked(last_ns) == 5.0
    assert asked(last_ns + 1) is None


def test_a_told_dew_point_goes_before_a_computed_one_until_it_is_too_old() -> None:
    surroundings = air(("dew_point_c", -4.0, 0))
    for at_s in (0, 1000):
        surroundings.hear(Reading("air_temperature_c", 20.0, at_s * S))
        surroundings.hear(Reading("humidity_percent", 50.0, at_s * S))
    assert surroundings.dew_point_c(900 * S) == -4.0
    assert surroundings.dew_point_c(1000 * S) == pytest.approx(9.26, abs=0.02)


@pytest.mark.parametrize("stale", ["air_temperature_c", "humidity_percent"])
def test_a_dew_point_is_computed_from_two_fresh_values_only(stale: str) -> None:
    values = {"air_temperature_c": 20.0, "humidity_percent": 50.0}
    surroundings = air(
        *((name, value, 0 if name == stale else 1000) for name, value in values.items())
    )
    assert surroundings.dew_point_c(800 * S) is not None
    assert surroundings.dew_point_c(1000 * S) is None


@pytest.mark.parametrize(
    "observation",
    [
        Reading("air_temperature_c", None, S, ("bus_error",)),
        Reading("air_temperature_c", 9.0, S, ("uncalibrated",)),
        Reading("air_temperature_c", float("nan"), S),
        Reading("air_temperature_c", float("inf"), S),
        Reading("air_temperature_c", "9", S),
        Reading("surface_temperature_c", 9.0, S),
        Trouble("warmup", S),
        Alive(S),
        Fix(43.0, 141.0, S),
    ],
)
def test_only_valid_readings_of_the_air_are_heard(observation: Reading) -> None:
    surroundings = air(("air_temperature_c", 1.0, 0))
    surroundings.hear(observation)
    assert surroundings.air_temperature_c(2 * S) == 1.0
