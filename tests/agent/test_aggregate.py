"""Statistics of a window: right by hand, the same of few and of many, nothing merged."""

from __future__ import annotations

import json
import math
import random
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.aggregate import MANY, MAX_SAMPLES, Measured, shares, summarise
from drivers.base import Alive, Crossing, Quantity, Reading, Trouble

DEPTH = Quantity("depth_cm", "cm", "depth of snow", -50.0, 1000.0)
GROUND = Quantity("ground", "1", "what lies there", classes=("snow", "no_snow", "unknown"))
QUANTITIES = {quantity.name: quantity for quantity in (DEPTH, GROUND)}


def gathered(*values: float | str | None) -> Measured:
    tally = Measured(QUANTITIES)
    for value in values:
        tally.add(Reading("ground" if isinstance(value, str) else "depth_cm", value, 0))
    return tally


def test_a_window_of_numbers_is_summarised() -> None:
    assert gathered(42.0, 41.0, 43.0, 46.0).value("depth_cm") == {
        "mean": 43.0,
        "min": 41.0,
        "max": 46.0,
        "sd": 2.2,  # the sample's: sqrt(14 / 3)
        "median": 42.5,
        "n": 4,
    }


def test_equal_samples_do_not_differ() -> None:
    summary = gathered(0.4, 0.4, 0.4).value("depth_cm")  # a sum of them would leave some dust
    assert summary is not None
    assert summary["sd"] == 0


def test_one_sample_has_no_standard_deviation() -> None:
    summary = gathered(42.0).value("depth_cm")
    assert summary is not None
    assert summary["sd"] is None
    assert summary["median"] == 42.0


def test_nothing_valid_gives_no_value() -> None:
    assert gathered(None, None).value("depth_cm") is None
    assert gathered().value("ground") is None


def test_a_class_gives_its_mode_and_shares_the_most_frequent_first() -> None:
    value = gathered("snow", "no_snow", "snow").value("ground")
    assert value == {"mode": "snow", "share": {"snow": 0.667, "no_snow": 0.333}, "n": 3}
    assert list(value["share"]) == ["snow", "no_snow"]  # type: ignore[call-overload]


def test_of_equally_frequent_classes_the_mode_does_not_depend_on_the_order() -> None:
    assert gathered("snow", "no_snow").value("ground") == gathered("no_snow", "snow").value(
        "ground"
    )


def test_a_failed_reading_is_counted_with_its_reasons_and_is_no_sample() -> None:
    tally = Measured(QUANTITIES)
    tally.add(Reading("depth_cm", None, 0, ("obstructed",)))
    tally.add(Reading("depth_cm", None, 1, ("obstructed", "stale")))
    assert tally.n("depth_cm") == 0
    assert tally.failed["depth_cm"] == {"obstructed": 2, "stale": 1}


def test_a_trouble_of_the_device_concerns_all_its_quantities() -> None:
    tally = Measured(QUANTITIES)
    tally.add(Trouble("bus_error", 0))
    assert tally.troubles == {"bus_error": 1}
    assert tally.heard_of() == []


def test_what_a_device_never_mentions_is_not_heard_of_and_what_fails_is() -> None:
    tally = Measured(QUANTITIES)
    tally.add(Reading("ground", None, 0, ("weak_signal",)))
    assert tally.heard_of() == ["ground"]


def test_what_is_not_the_sensors_own_changes_nothing() -> None:
    tally = Measured(QUANTITIES)
    for stranger in (
        Reading("humidity_percent", 50.0, 0),
        Reading("depth_cm", "snow", 0),  # a name where a number belongs
        Reading("ground", 1.0, 0),
        Crossing("towards", 0),
        Alive(0),
    ):
        tally.add(stranger)
    assert tally.heard_of() == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_is_no_sample_and_the_record_stays_json(value: float) -> None:
    tally = gathered(41.0, value, 43.0)
    summary = tally.value("depth_cm")
    assert summary is not None
    assert summary["n"] == 2
    json.dumps(summary, allow_nan=False)


def test_a_runaway_device_does_not_take_the_memory() -> None:
    tally = Measured({"depth_cm": DEPTH})
    tally.numbers["depth_cm"] = array("d", bytes(8 * MAX_SAMPLES))
    tally.add(Reading("depth_cm", 1.0, 0))
    assert tally.n("depth_cm") == MAX_SAMPLES


@pytest.mark.parametrize("n", [MANY - 1, MANY, MANY + 1])
def test_the_summary_is_the_same_whether_samples_are_few_or_many(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = random.Random(n)
    samples = array("d", (crowd.uniform(-40.0, 350.0) for _ in range(n)))
    monkeypatch.setattr("agent.aggregate.MANY", n)
    as_many = summarise(samples)
    monkeypatch.setattr("agent.aggregate.MANY", n + 1)
    as_few = summarise(samples)
    assert as_many == pytest.approx(as_few, rel=1e-3)
    for extreme in ("min", "max", "n"):
        assert as_many[extreme] == as_few[extreme]
    assert {type(value) for value in as_many.values()} == {float, int}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    st.sampled_from([1, 20]),  # the same values, often enough to be many
)
def test_a_summary_lies_within_its_samples(values: list[float], times: int) -> None:
    samples = array("d", values * times)
    summary = summarise(samples)
    low, high = summary["min"], summary["max"]
    assert isinstance(low, float | int)
    assert isinstance(high, float | int)
    assert summary["n"] == len(samples)
    for centre in ("mean", "median"):
        value = summary[centre]
        assert isinstance(value, float | int)
        assert low <= value <= high
    json.dumps(summary, allow_nan=False)


@given(st.lists(st.sampled_from(["snow", "no_snow", "unknown"]), min_size=1))
def test_shares_add_up_to_one(names: list[str]) -> None:
    tally = gathered(*names)
    value = shares(tally.classes["ground"])
    parts = value["share"]
    assert isinstance(parts, dict)
    assert sum(parts.values()) == pytest.approx(1.0, abs=0.002)
    assert names.count(str(value["mode"])) == max(map(names.count, names))
