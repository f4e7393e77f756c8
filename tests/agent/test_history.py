"""What is remembered of the last day, how much room it takes, and when it may be shown."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from typing import Any

from agent.clock import Stamp
from agent.history import DAY_S, QUANTITIES, SLOT_S, SLOTS, WINDOWS, History
from agent.record import AlertRecord, Record, utc_text

BORN_NS = 1_800_000_000_000_000_000  # UTC of the boot
OFFSET_S = 6.0
SYNCED = Stamp("synced", 0.1)


def utc(boot_ns: int) -> str:
    return utc_text(BORN_NS + boot_ns)


def history(**kinds: str) -> History:
    made = History(0.0)
    made.begin(
        kinds or {"snow-1": "snow", "hall-1": "people"},
        [],
        offset_s=OFFSET_S,
        utc_ns=lambda boot_ns: BORN_NS + boot_ns,
    )
    return made


def record(
    stream: str, kind: str, end_s: float, values: Mapping[str, object], window_s: float = 60.0
) -> Record:
    end_ns, start_ns = round(end_s * 1e9), round((end_s - window_s) * 1e9)
    return Record(
        *(stream, kind, BORN_NS + start_ns, BORN_NS + end_ns, start_ns, end_ns, SYNCED),
        {"flag": "good", "n": 60, "expected": 60},
        values,
    )


def depth(end_s: float, mean: float, window_s: float = 60.0) -> Record:
    return record("snow-1", "snow", end_s, {"depth_cm": {"mean": mean}}, window_s)


def people(end_s: float, count: int, window_s: float = 900.0) -> Record:
    figures = {"count": max(0, count), "unclamped": count}
    return record("hall-1", "people", end_s, {"towards": figures, "away": figures}, window_s)


def alert(at_s: float, state: str, sensor: str | None = None, kind: str = "gateway") -> AlertRecord:
    at_ns = BORN_NS + round(at_s * 1e9)
    text = {"ja": "混雑", "en": "crowd"}
    given: Any = (sensor, kind, "crowding", "id-1", state, "warning", at_ns, at_ns, SYNCED)
    return AlertRecord(*given, text, {})


def means(made: History, now_s: float) -> list[float | None]:
    day = made.sensor("snow-1", now_s, utc)
    assert day is not None
    assert day["start"] == utc((int(now_s) // SLOT_S - SLOTS + 1) * SLOT_S * 10**9)
    found: list[float | None] = day["means"]["depth_cm"]
    assert len(found) == SLOTS
    return found


def test_a_slot_is_the_mean_of_the_records_that_end_in_it() -> None:
    made = history()
    for minute, mean in enumerate((10.0, 20.0, 30.0, 40.0, 50.0, 7.0), start=1):
        made.wrote([depth(minute * 60.0, mean)], minute * 60.0)
    assert means(made, 361.0)[-2:] == [30.0, 7.0]
    assert set(means(made, 361.0)[:-2]) == {None}


def test_a_record_of_an_hour_fills_the_slots_that_it_covers() -> None:
    made = history()
    made.wrote([depth(7200.0, 12.5, 3600.0)], 7200.0)
    assert means(made, 7199.0)[-13:] == [None] + [12.5] * 12


def test_where_nothing_was_recorded_the_day_has_a_hole() -> None:
    made = history()
    made.wrote([depth(300.0, 1.0)], 300.0)
    made.wrote([depth(1500.0, 5.0)], 1500.0)
    assert means(made, 1499.0)[-5:] == [1.0, None, None, None, 5.0]


def test_what_is_older_than_a_day_is_gone() -> None:
    made = history()
    for slot in range(1, SLOTS + 50):
        made.wrote([depth(slot * SLOT_S, float(slot))], slot * SLOT_S)
    now_s = (SLOTS + 49) * SLOT_S - 1.0
    assert means(made, now_s) == [float(slot) for slot in range(50, SLOTS + 50)]
    later_s = now_s + DAY_S + SLOT_S
    assert set(means(made, later_s)) == {None}


def test_a_sensor_takes_less_than_twelve_kilobytes() -> None:
    made = history(**{"snow-1": "snow", "hall-1": "people"})
    many = {f"q{n}_cm": {"mean": 1.5} for n in range(QUANTITIES + 5)}
    for n in range(1, 400):
        made.wrote([record("snow-1", "snow", n * 300.0, many)], n * 300.0)
        made.wrote([people(n * 900.0, 5)], n * 900.0 + 60.0)
    for name in ("_means", "_people"):
        (kept,) = getattr(made, name).values()
        assert 1000 < size_bytes(kept) < 12_000
    day = made.sensor("snow-1", 400 * 300.0, utc)
    assert day is not None
    assert len(day["means"]) == QUANTITIES


def size_bytes(thing: Any) -> int:
    size = sys.getsizeof(thing)
    if isinstance(thing, dict):
        return size + sum(size_bytes(each) for each in thing.values())
    if isinstance(thing, array | float | int | str):
        return size
    names = getattr(thing, "__slots__", None) or vars(thing)
    return size + sum(size_bytes(getattr(thing, name)) for name in names)


def test_what_was_released_of_people_is_shown_no_sooner_than_it_is_published() -> None:
    made = history()
    made.wrote([people(900.0, 12)], 900.1)
    assert made.record("hall-1", 905.9) is None
    assert made.sensor("hall-1", 905.9, utc) is None
    assert made.record("hall-1", 906.0) == people(900.0, 12)
    day = made.sensor("hall-1", 906.0, utc)
    assert day is not None
    start, end = utc(0), utc(900 * 10**9)
    assert day["windows"] == [{"start": start, "end": end, "towards": 12, "away": 12}]


def test_what_is_measured_is_shown_at_once() -> None:
    made = history()
    made.wrote([depth(60.0, 3.0)], 60.1)
    assert made.record("snow-1", 60.1) == depth(60.0, 3.0)


def test_an_alert_about_people_waits_and_another_does_not() -> None:
    made = history()
    made.wrote([alert(900.0, "raised", "hall-1", "people"), alert(900.0, "raised")], 900.1)
    assert [each["sensor"] for each in made.alerts(905.9)] == [None]
    assert [each["sensor"] for each in made.alerts(906.1)] == [None, "hall-1"]
    made.wrote([alert(1800.0, "cleared", "hall-1", "people")], 1800.1)
    assert len(made.alerts(1805.9)) == 2
    assert len(made.alerts(1806.1)) == 1
    edges = made.alert_edges(1806.1, utc)
    assert [each["state"] for each in edges] == ["raised", "raised", "cleared"]


def test_figures_that_are_withheld_are_null_and_a_day_of_windows_is_kept() -> None:
    made = history()
    for n in range(1, WINDOWS + 10):
        made.wrote([people(n * 900.0, n)], n * 900.0)
    missing = record("hall-1", "people", (WINDOWS + 10) * 900.0, {"towards": None}, 900.0)
    made.wrote([missing], (WINDOWS + 10) * 900.0)
    day = made.sensor("hall-1", (WINDOWS + 11) * 900.0, utc)
    assert day is not None
    counts = [window["towards"] for window in day["windows"]]
    assert counts == [*range(11, WINDOWS + 10), None]


def test_the_next_life_keeps_what_its_sensors_were_and_forgets_the_others() -> None:
    made = history()
    made.wrote([depth(60.0, 3.0), people(900.0, 2)], 900.0)
    made.begin({"snow-1": "snow"}, [], offset_s=OFFSET_S, utc_ns=lambda ns: BORN_NS + ns)
    assert made.record("snow-1", 1000.0) is not None
    assert made.record("hall-1", 1000.0) is None
    made.begin({"snow-1": "road"}, [], offset_s=OFFSET_S, utc_ns=lambda ns: BORN_NS + ns)
    assert made.record("snow-1", 1000.0) is None


def test_an_outage_has_the_first_reason_that_was_known() -> None:
    outages = history().outages
    outages.end(5.0)
    outages.begin(10.0, "")
    outages.begin(11.0, "the connection was closed")
    outages.begin(12.0, "Connection refused")
    assert outages.spans(0.0) == [(0.0, 5.0, ""), (10.0, None, "the connection was closed")]
    outages.end(20.0)
    assert outages.spans(6.0) == [(10.0, 20.0, "the connection was closed")]
