"""A measuring sensor's channel: what the tests reject is counted in its record, and told on."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.channels import MeasuredChannel
from agent.clock import Clock, Look
from agent.phenomena.closed import Closed, Facts
from agent.record import Record, batch
from agent.schemas import message_schema
from drivers.base import Limits, Quantity, Reading, Reason

S = 1_000_000_000
MIDNIGHT_NS = 1_800_057_600 * S
BOOT_NS = 500 * S  # at midnight
LIMITS = Limits(range=(-45.0, 50.0), spike=5.0, suspect_spike=2.0, rate_per_s=1.0)
AIR = Quantity("air_temperature_c", "Cel", "air", limits=LIMITS)
HUMIDITY = Quantity("humidity_percent", "%", "humidity", limits=Limits(range=(0.0, 100.0)))
GROUND = Quantity("ground", "1", "what lies there", classes=("snow", "no_snow"))


class Station:
    """One channel, read once a second, and a clock that a test moves."""

    def __init__(self, *quantities: Quantity, known: bool = True, **more: Any) -> None:
        self.boot_ns = BOOT_NS
        utc_ns = MIDNIGHT_NS
        self.clock = Clock(
            Look(BOOT_NS, utc_ns, known, 0.02 if known else None), trust_system=False
        )
        self.channel = MeasuredChannel(
            "air-1",
            "weather",
            **{"window_s": 10, "rate_hz": 1.0, "now_ns": utc_ns, **more},
            quantities={quantity.name: quantity for quantity in quantities},
        )
        self.records: list[Record] = []

    def hears(self, *values: float | str | None, name: str = AIR.name) -> Station:
        """Live a second with each value; None is a second of silence."""
        for value in values:
            now_ns = self.clock.utc_ns(self.boot_ns)
            if value is not None:
                self.channel.add(Reading(name, value, self.boot_ns), now_ns, now_ns=now_ns)
            self.boot_ns += S
            self.records += self.channel.advance(now_ns, self.clock)
        return self

    def ends(self) -> list[Record]:
        """Live until the last window is closed."""
        self.hears(*[None] * 12)
        return self.records


def value(record: Record, name: str = AIR.name) -> Any:
    return record.values[name]


def lawful(records: list[Record]) -> None:
    """The city's schema accepts them."""
    bodies = [record.body(seq) for seq, record in enumerate(records, 1)]
    document = batch(
        gateway="gw", run="run-1", kind="weather", config_id="9f2c1ab04d77", bodies=bodies
    )
    Draft202012Validator(message_schema("batch")).validate(json.loads(document))


def test_a_spike_is_left_out_of_the_mean_and_counted() -> None:
    record = Station(AIR).hears(4, 4, 4, 4, 14, 4, 4, 4, 4, 4).ends()[0]
    assert value(record) == {
        "mean": 4,
        "min": 4,
        "max": 4,
        "sd": 0,
        "median": 4,
        "n": 9,
        "rejected": {"spike": 1},
    }
    assert record.quality["n"] == 9
    lawful([record])


def test_the_first_and_the_last_sample_of_a_window_are_judged_beside_their_neighbours() -> None:
    first, second, *_ = Station(AIR).hears(*[4.0] * 9, 14.0, *[4.0] * 10).ends()
    assert value(first)["rejected"] == {"spike": 1}  # the next came before the window closed
    assert "rejected" not in value(second)
    first, second, *_ = Station(AIR).hears(*[4.0] * 10, 14.0, *[4.0] * 9).ends()
    assert "rejected" not in value(first)
    assert value(second)["rejected"] == {"spike": 1}


def test_the_last_sample_of_all_is_not_judged_as_a_spike() -> None:
    """Nothing comes after it; and the rate only makes it suspect."""
    record = Station(AIR).hears(*[4.0] * 9, 14.0).ends()[0]
    assert value(record)["max"] == 14
    assert "rejected" not in value(record)


def test_where_most_samples_fail_the_value_is_bad() -> None:
    record = Station(AIR).hears(4, 4, 4, 4, 85, 85, 85, 85, 85, 85).ends()[0]
    assert (record.quality["flag"], record.quality["reasons"]) == ("bad", ["out_of_range"])
    assert (value(record)["n"], value(record)["rejected"]) == (4, {"out_of_range": 6})
    lawful([record])


def test_where_all_samples_fail_there_is_no_value_and_the_reason_is_told() -> None:
    record = Station(AIR, HUMIDITY).hears(*[85.0] * 10).ends()[0]
    assert record.values == {AIR.name: None}
    assert record.quality == {"flag": "bad", "n": 0, "expected": 10, "reasons": ["out_of_range"]}
    lawful([record])


def test_a_null_tells_its_reason_beside_a_value_that_is_worse() -> None:
    station = Station(AIR, HUMIDITY)
    for _ in range(10):
        now_ns = station.clock.utc_ns(station.boot_ns)
        for reading in (
            Reading(AIR.name, 85.0, station.boot_ns),
            Reading(HUMIDITY.name, None, station.boot_ns, ("frame_error",)),
        ):
            station.channel.add(reading, now_ns, now_ns=now_ns)
        station.boot_ns += S
    record = station.ends()[0]
    assert record.values == {AIR.name: None, HUMIDITY.name: None}
    assert record.quality["flag"] == "missing"
    assert record.quality["reasons"] == ["out_of_range", "frame_error"]


def test_a_good_value_beside_a_suspect_one_says_so_and_what_was_rejected() -> None:
    station = Station(AIR._replace(limits=Limits(spike=5.0)), HUMIDITY)
    for at in range(10):
        now_ns = station.clock.utc_ns(station.boot_ns)
        for reading in (
            Reading(AIR.name, 14.0 if at == 4 else 4.0, station.boot_ns),
            Reading(HUMIDITY.name, 101.0 if at < 3 else 99.0, station.boot_ns),
        ):
            station.channel.add(reading, now_ns, now_ns=now_ns)
        station.boot_ns += S
    record = station.ends()[0]
    assert (record.quality["flag"], record.quality["reasons"]) == ("suspect", ["out_of_range"])
    assert value(record)["flag"] == "good"
    assert value(record)["rejected"] == {"spike": 1}
    assert value(record, HUMIDITY.name)["rejected"] == {"out_of_range": 3}
    lawful([record])


def test_a_quantity_without_limits_is_believed() -> None:
    wild = [0.0, 1e6] * 5
    record = Station(Quantity(AIR.name, "Cel", "air")).hears(*wild).ends()[0]
    assert (value(record)["n"], record.quality["flag"]) == (10, "good")
    assert "rejected" not in value(record)


def test_a_class_is_not_judged() -> None:
    station = Station(GROUND).hears(*["snow", "no_snow"] * 5, name=GROUND.name)
    assert station.ends()[0].quality["flag"] == "good"


def test_limits_cost_little_memory() -> None:
    """Far below the 100 kB that a further sensor may cost, hovering in a plateau for two days."""
    flat = Limits(range=(-45.0, 50.0), spike=5.0, suspect_flat_s=3600.0, flat_tolerance=9.0)
    tracemalloc.start()
    try:
        station = Station(Quantity(AIR.name, "Cel", "air", limits=flat), window_s=60)
        before, _ = tracemalloc.get_traced_memory()
        for minute in range(400):
            station.hears(*[4.0 + minute % 7] * 60)
            station.records.clear()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


# A phenomenon


class Hears:
    """A phenomenon that notes what it is told, and derives a number from it."""

    def __init__(self) -> None:
        self.windows: list[Closed] = []
        self.doubts: dict[str, Reason] = {}

    @property
    def facts(self) -> Facts:
        return Facts(doubts=self.doubts)

    def derive(self, closed: Closed) -> dict[str, object]:
        self.windows.append(closed)
        return {"windows": len(self.windows), "forecast_air": {"value": 1.0}}

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        pass


def test_a_phenomenon_sees_each_window_once_in_order_and_adds_to_its_record() -> None:
    hears = Hears()
    station = Station(AIR, phenomenon=hears).hears(*[4.0] * 10, *[None] * 10, *[5.0] * 5)
    now_ns = station.clock.utc_ns(station.boot_ns)
    station.records += station.channel.flush(now_ns, station.clock, "partial")
    assert [each.values["windows"] for each in station.records] == [1, 2, 3]
    first, silent, partial = hears.windows
    assert (first.start_ns, first.end_ns) == (MIDNIGHT_NS, MIDNIGHT_NS + 10 * S)
    assert first.boot_end_ns == BOOT_NS + 10 * S
    assert (first.end_ns, silent.end_ns) == (silent.start_ns, partial.start_ns)
    assert (partial.end_ns - partial.start_ns) == 5 * S
    assert (first.number(AIR.name), partial.number(AIR.name)) == (4.0, 5.0)
    assert (silent.number(AIR.name), silent.flags) == (None, {AIR.name: "missing"})
    assert station.records[0].quality == {"flag": "good", "n": 10, "expected": 10}


def test_what_a_phenomenon_doubts_is_suspect_and_says_why() -> None:
    hears = Hears()
    station = Station(AIR, HUMIDITY, phenomenon=hears)
    for second in range(10):
        station.hears(4.0)
        now_ns = station.clock.utc_ns(station.boot_ns) - S
        wet = Reading(HUMIDITY.name, 80.0 + second, station.boot_ns - S)
        station.channel.add(wet, now_ns, now_ns=now_ns)
    hears.doubts = {AIR.name: "obstructed"}
    record = station.ends()[0]
    assert record.quality == {
        "flag": "suspect",
        "n": 10,
        "expected": 10,
        "reasons": ["obstructed"],
    }
    humidity = record.values[HUMIDITY.name]
    assert isinstance(humidity, dict)
    assert (humidity["flag"], humidity["reasons"]) == ("good", [])


def test_echoes_that_flakes_gave_are_counted_and_not_held_against_the_surface() -> None:
    depth = Quantity("depth_cm", "cm", "snow", limits=Limits(outlier=3.0))
    station = Station(depth)
    echoes = [42.0, 180.0, 42.2, 95.0, 41.9, 230.0, 42.1, 310.0, 120.0, 66.0]
    record = station.hears(*echoes, name=depth.name).ends()[0]
    value = record.values["depth_cm"]
    assert isinstance(value, dict)
    assert (value["n"], value["min"], value["max"]) == (4, 41.9, 42.2)
    assert value["rejected"] == {"spike": 6}
    # Fewer than half of those that it should hold, but not bad: what is left agrees.
    assert record.quality["flag"] == "suspect"
    lawful([record])


def test_in_maintenance_every_record_says_so() -> None:
    station = Station(AIR, in_maintenance=True).hears(*[4.0] * 20)
    assert [each.quality["reasons"] for each in station.ends()[:2]] == [["maintenance"]] * 2
    assert station.records[0].quality["flag"] == "good"


def test_a_phenomenon_hears_nothing_that_was_rejected() -> None:
    hears = Hears()
    Station(AIR, phenomenon=hears).hears(*[4.0] * 4, 85.0, *[4.0] * 5).ends()
    (first, *_) = hears.windows
    assert first.number(AIR.name, "max") == 4.0
    hears = Hears()
    Station(AIR, phenomenon=hears).hears(*[4.0] * 4, *[85.0] * 6).ends()
    assert hears.windows[0].flags == {AIR.name: "bad"}
    assert hears.windows[0].number(AIR.name, "max") is None  # bad is not believed


@pytest.mark.parametrize("known", [True, False])
def test_a_phenomenon_knows_whether_the_hours_are_those_of_the_day(known: bool) -> None:
    hears = Hears()
    records = Station(AIR, known=known, phenomenon=hears).hears(*[4.0] * 10).ends()
    assert {each.is_timed for each in hears.windows} == {known}
    assert {each.clock.state for each in records} == {"synced" if known else "estimated"}
