"""A forecast beside what was measured: where it stands, when it does not, what a restart keeps."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.clock import Stamp
from agent.phenomena.choice import phenomenon_of
from agent.phenomena.closed import Closed, Phenomenon
from agent.phenomena.foresight import Foresight
from agent.phenomena.road import Road
from agent.phenomena.snow import Snow
from agent.phenomena.weather import Surroundings
from agent.record import Record, batch
from agent.schemas import message_schema

S = 1_000_000_000
BEGIN_NS = 1_800_057_600 * S
HOUR_NS = 3600 * S


def number(value: float) -> dict[str, Any]:
    return {"mean": value, "min": value, "max": value, "sd": 0.1, "median": value, "n": 60}


def closed(hour: int, quantity: str, value: float | None, *, is_timed: bool = True) -> Closed:
    end_ns = BEGIN_NS + (hour + 1) * HOUR_NS
    values = {quantity: None if value is None else number(value)}
    flag = "missing" if value is None else "good"
    return Closed(end_ns - HOUR_NS, end_ns, end_ns - BEGIN_NS, is_timed, values, {quantity: flag})


def day(hour: int) -> float:
    """Return a surface's temperature: a day's swing, which a trend foresees for an hour."""
    return 5 * math.sin(2 * math.pi * hour / 24)


def road() -> Phenomenon:
    made = phenomenon_of("road", {"surface_temperature_c"}, Surroundings(), moves=False)
    assert isinstance(made, Foresight)
    return made


def live(phenomenon: Phenomenon, hours: range) -> list[dict[str, object]]:
    return [phenomenon.derive(closed(hour, "surface_temperature_c", day(hour))) for hour in hours]


def test_a_forecast_stands_beside_what_it_was_made_of_once_it_has_proved_itself() -> None:
    told = live(road(), range(240))
    first = next(
        hour for hour, values in enumerate(told) if "forecast_surface_temperature_c" in values
    )
    assert first > 48
    forecast: Any = told[-1]["forecast_surface_temperature_c"]
    assert forecast["at"] == "2027-01-26T01:00:00.000Z"  # an hour after the window's end
    assert forecast["low"] <= forecast["value"] <= forecast["high"]
    assert abs(forecast["value"] - day(240)) < 1.0
    assert 0.02 < forecast["skill"] <= 1


def test_a_record_with_a_forecast_is_as_the_schema_has_it() -> None:
    derived = live(road(), range(240))[-1]
    assert "forecast_surface_temperature_c" in derived
    values = {"surface_temperature_c": number(1.0), **derived}
    quality = {"flag": "good", "n": 60, "expected": 60}
    span = (BEGIN_NS, BEGIN_NS + 60 * S)
    record = Record("road-1", "road", *span, *span, Stamp("synced", 0.01), quality, values)
    message = batch("gw", "run-1", "road", "9f2c1ab04d77", [record.body(1)])
    Draft202012Validator(message_schema("batch")).validate(json.loads(message))


def test_while_the_time_is_unknown_nothing_is_foreseen_and_nothing_learnt() -> None:
    phenomenon = road()
    live(phenomenon, range(240))
    before = json.dumps(phenomenon.state()["forecaster"])
    values = phenomenon.derive(closed(240, "surface_temperature_c", 40.0, is_timed=False))
    assert "forecast_surface_temperature_c" not in values
    assert json.dumps(phenomenon.state()["forecaster"]) == before


@pytest.mark.parametrize("stop", [1, 30, 100, 200])
def test_a_restart_changes_nothing(stop: int) -> None:
    whole = live(road(), range(240))
    first, second = road(), road()
    told = live(first, range(stop))
    second.restore(json.loads(json.dumps(first.state())))
    assert told + live(second, range(stop, 240)) == whole


@pytest.mark.parametrize(
    "state", [{}, {"inner": {}}, {"inner": {}, "forecaster": {}}, {"inner": 7, "forecaster": 7}]
)
def test_a_state_that_makes_no_sense_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"state|risk"):
        road().restore(state)


def test_new_snow_is_foreseen_from_what_was_computed() -> None:
    phenomenon = phenomenon_of("snow", {"depth_cm", "distance_cm"}, Surroundings(), moves=False)
    assert isinstance(phenomenon, Foresight)
    told = []
    for minute in range(600):
        end_ns = BEGIN_NS + (minute + 1) * 60 * S
        depth = number(20 + minute / 60)  # a centimetre an hour
        window = Closed(
            end_ns - 60 * S, end_ns, end_ns, True, {"depth_cm": depth}, {"depth_cm": "good"}
        )
        told.append(phenomenon.derive(window))
    assert all("new_snow_cm" in values for values in told)
    latest = phenomenon._forecaster.latest
    assert latest is not None
    assert latest.value >= float(str(told[-1]["new_snow_cm"]))


@pytest.mark.parametrize(
    ("kind", "quantities", "moves", "made"),
    [
        ("snow", {"depth_cm"}, False, Foresight),
        ("snow", {"depth_cm"}, True, Snow),
        ("snow", {"distance_cm"}, False, None),
        ("road", {"surface_temperature_c", "condition"}, False, Foresight),
        ("road", {"surface_temperature_c"}, True, Road),
        ("road", {"friction"}, False, Road),
        ("weather", {"air_temperature_c"}, False, None),
        ("cabinet", {"open"}, False, None),
    ],
)
def test_what_is_computed_depends_on_what_is_measured(
    kind: str, quantities: set[str], moves: bool, made: type | None
) -> None:
    found = phenomenon_of(kind, quantities, Surroundings(), moves=moves)
    assert type(found) is (made or type(None))
