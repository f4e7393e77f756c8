"""From readings to committed records: clock, failing disks, stops, and noise drawn once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.collector import Collected
from agent.pipeline import (
    CLOCK_LOOK_S,
    STEADY_S,
    TIME_DISPUTED,
    TIME_STEPPED,
    TIME_UNKNOWN,
)
from agent.record import Entry, utc_text
from agent.writer import COMMIT_RETRY_S
from drivers.base import Alive, Crossing, Reading, Trouble
from tests.agent.stations import BOOT_NS, MIDNIGHT_NS, S, Station, locked


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails is not left, unless a test says so."""
    monkeypatch.setattr("agent.writer.VOLATILE_AFTER_S", 1e9)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    stations: list[Station] = []

    def build(**how: Any) -> Station:
        station = Station(tmp_path / "spool.db", **how)
        stations.append(station)
        return station

    yield build
    for station in stations:
        station.ends()


@pytest.fixture
def station(make: Callable[..., Station]) -> Station:
    return make()


def span(record: dict[str, Any]) -> tuple[str, str]:
    return record["start"], record["end"]


def clock_text(seconds: float) -> str:
    return utc_text(MIDNIGHT_NS + round(seconds * S))


# The ordinary way


def test_a_minute_of_readings_becomes_one_record(station: Station) -> None:
    station.measures(until_s=65)
    (record,) = station.records("snow-1")
    assert span(record) == (clock_text(0), clock_text(60))
    assert record["clock"] == {"state": "synced", "error_s": 0.02}
    assert record["quality"] == {"flag": "good", "n": 60, "expected": 60}
    assert record["values"]["depth_cm"]["mean"] == 42.0
    assert [entry.seq for entry in station.told] == [1]


def test_a_quantity_that_the_device_never_mentions_is_not_in_its_records(station: Station) -> None:
    station.measures(until_s=65)
    assert list(station.records("snow-1")[0]["values"]) == ["depth_cm"]


def test_a_silent_sensor_gives_a_missing_record_each_window(station: Station) -> None:
    station.passes(until_s=185)
    records = station.records("snow-1")
    assert [record["quality"]["flag"] for record in records] == ["missing"] * 3
    assert records[0]["values"] == {"depth_cm": None, "distance_cm": None}


def test_a_value_that_differs_carries_its_own_flag(station: Station) -> None:
    for second in range(60):
        station.boot_ns = station.at(second)
        station.says(
            "snow-1",
            Reading("depth_cm", 42.0, station.boot_ns),
            Reading("distance_cm", 308.0 if second < 3 else None, station.boot_ns, ("stale",)),
        )
    station.boot_ns = station.at(62)
    station.passes(until_s=63)
    (record,) = station.records("snow-1")
    assert record["quality"] == {"flag": "suspect", "n": 60, "expected": 60, "reasons": ["stale"]}
    assert "flag" not in record["values"]["distance_cm"]
    assert record["values"]["depth_cm"]["flag"] == "good"
    assert record["values"]["depth_cm"]["reasons"] == []


def test_windows_that_close_together_are_committed_together(station: Station) -> None:
    commits = []
    station.pipeline._writer._committed = lambda entries: commits.append(len(entries))
    station.passes(until_s=895)
    commits.clear()
    station.passes(until_s=905)
    assert commits == [2]  # the minute's record and the quarter's


def test_a_run_begins_with_what_the_one_before_produced(make: Callable[..., Station]) -> None:
    first = make()
    first.pipeline.announce()
    first.measures(until_s=65)
    first.ends(clean=False)
    second = make(run="run-2")
    second.pipeline.announce()
    assert second.records("gateway")[-1]["values"] == {
        "event": "start",
        "version": "0.1.0",
        "previous": {"run": "run-1", "clean": False, "produced": {"gateway": 1, "snow-1": 1}},
    }


def test_who_listens_is_told_the_latest_air_temperature_that_is_one(
    make: Callable[..., Station],
) -> None:
    told: list[tuple[float, int]] = []

    def hear(celsius: float, at_boot_ns: int) -> None:
        told.append((celsius, at_boot_ns))

    station = make(listeners={"snow-1": [hear]})
    station.says(
        "snow-1",
        Reading("air_temperature_c", -4.0, BOOT_NS),
        Reading("air_temperature_c", -5.0, BOOT_NS + S),
        Reading("air_temperature_c", -6.0, BOOT_NS + 2 * S, ("warmup",)),
        Reading("air_temperature_c", None, BOOT_NS + 3 * S, ("stuck",)),
        Reading("depth_cm", 42.0, BOOT_NS + 4 * S),
        Trouble("bus_error", BOOT_NS + 5 * S),
    )
    station.says("snow-1", Reading("depth_cm", 42.0, BOOT_NS))
    station.says("door-1", Alive(BOOT_NS))
    assert told == [(-5.0, BOOT_NS + S)]


# Stopping


def test_a_stop_closes_every_window_as_partial_and_commits(station: Station) -> None:
    station.measures(until_s=90)
    station.says("door-1", Alive(station.boot_ns))
    station.stops()
    whole, partial = station.records("snow-1")
    assert "reasons" not in whole["quality"]
    assert span(partial) == (clock_text(60), clock_text(90))
    assert partial["quality"] == {"flag": "good", "n": 30, "expected": 30, "reasons": ["partial"]}
    (people,) = station.records("door-1")
    assert span(people) == (clock_text(0), clock_text(90))
    assert "partial" in people["quality"]["reasons"]


def test_what_lies_in_the_queue_when_a_window_closes_is_in_it(station: Station) -> None:
    for _ in range(62):
        station.inbox.put_nowait(Collected("snow-1", [Reading("depth_cm", 42.0, station.boot_ns)]))
        station.boot_ns += S
    station.boot_ns = station.at(62.5)  # it has slept until then
    station.pipeline.step()
    (record,) = station.records("snow-1")
    assert record["quality"] == {"flag": "good", "n": 60, "expected": 60}


def test_what_still_waits_in_the_queue_at_a_stop_is_taken(station: Station) -> None:
    for second in range(5):
        seen = Reading("depth_cm", 42.0, station.boot_ns)
        station.inbox.put_nowait(Collected("snow-1", [seen]))
        station.boot_ns += S
        del second
    station.stops()
    assert station.records("snow-1")[0]["quality"]["n"] == 5


def test_the_next_run_continues_where_the_partial_window_ended(
    make: Callable[..., Station],
) -> None:
    first = make()
    first.measures(until_s=30)
    first.stops()
    first.ends()
    second = make(run="run-2", begin_s=30.0)
    second.measures(until_s=65)
    one, two = second.records("snow-1")
    assert one["end"] == two["start"] == clock_text(30)
    assert two["quality"]["reasons"] == ["partial"]


# The clock


def test_records_of_unknown_time_wait_and_are_put_right(make: Callable[..., Station]) -> None:
    station = make(known=False)
    station.measures(until_s=130)
    assert station.records() == []
    assert station.spool.held() == 2
    station.ahead_ns = 3600 * S  # the network comes, and with it the time
    station.synchronised = True
    station.measures(until_s=130 + 2 * CLOCK_LOOK_S)
    records = station.records("snow-1")
    assert station.spool.held() == 0
    assert station.rewinds >= 1
    assert span(records[0]) == (clock_text(3600), clock_text(3660))
    assert {record["clock"]["state"] for record in records} == {"corrected"}
    assert records[2]["quality"]["reasons"] == ["clock_step"]


def test_the_window_that_was_open_when_the_time_came_is_put_right_with_the_others(
    make: Callable[..., Station],
) -> None:
    station = make(known=False)
    station.measures(until_s=30)
    station.ahead_ns = 3600 * S
    station.synchronised = True
    station.measures(until_s=70)
    cut, rest = station.records("snow-1")
    assert (cut["clock"]["state"], rest["clock"]["state"]) == ("corrected", "synced")
    assert cut["start"] == clock_text(3600)
    assert cut["end"] == rest["start"]
    assert cut["quality"]["n"] + rest["quality"]["n"] == 60


def test_records_held_by_an_earlier_run_of_this_boot_are_put_right(
    make: Callable[..., Station],
) -> None:
    first = make(known=False)
    first.measures(until_s=70)
    first.stops()
    first.ends()
    second = make(run="run-2", begin_s=80.0)  # meanwhile the time became known
    assert second.spool.held() == 3
    second.passes(until_s=90)
    assert second.spool.held() == 0
    assert {record["clock"]["state"] for record in second.records()} == {"corrected"}


def test_records_that_could_not_be_written_when_the_time_came_are_put_right_too(
    make: Callable[..., Station],
) -> None:
    station = make(known=False)
    station.measures(until_s=30)
    station.ahead_ns = 3600 * S
    station.synchronised = True
    with locked(station):
        station.measures(until_s=50)
    station.measures(until_s=75)
    assert station.spool.held() == 0
    assert station.records("snow-1")[0]["start"] == clock_text(3600)
    assert station.records("snow-1")[0]["clock"]["state"] == "corrected"


def test_records_of_a_boot_that_never_knew_wait_for_one_that_does_and_get_its_bounds(
    make: Callable[..., Station],
) -> None:
    known = make()
    known.measures(until_s=65)
    known.ends(clean=False)
    never = make(run="run-2", boot="boot-2", known=False, begin_s=-400.0, ahead_s=-1e9)
    never.measures(until_s=-270)  # 230 s after its boot
    never.ends(clean=False)
    third = make(run="run-3", boot="boot-3", known=False, begin_s=-490.0, ahead_s=5000.0)
    third.passes(until_s=-480)
    assert third.spool.held() == 2
    third.synchronised = True
    third.passes(until_s=-470)  # it booted at 4500 s
    assert third.spool.held() == 0
    first, second = (r for r in third.records("snow-1") if r["clock"]["state"] == "estimated")
    assert first["clock"] == second["clock"]
    assert first["end"] == second["start"]
    # Its first record began after 60 s, and its last ended 230 s after its boot, before 4500 s.
    assert first["clock"]["error_s"] == pytest.approx((4500 - 230 + 100 - 60) / 2, abs=35)


def test_those_of_earlier_boots_go_without_a_bound_when_the_wait_is_over(
    make: Callable[..., Station],
) -> None:
    never = make(known=False)
    never.measures(until_s=65)
    never.ends(clean=False)
    second = make(run="run-2", boot="boot-2", known=False)
    second.waited_enough = True
    second.passes(until_s=10)
    (record,) = second.records("snow-1")
    assert record["clock"] == {"state": "estimated", "error_s": None}


def test_what_was_open_when_the_time_came_after_all_is_put_right(
    make: Callable[..., Station],
) -> None:
    station = make(known=False)
    station.waited_enough = True
    station.measures(until_s=90)
    station.ahead_ns = 3600 * S
    station.synchronised = True
    station.measures(until_s=100)
    states = [record["clock"]["state"] for record in station.records("snow-1")]
    assert states == ["estimated", "corrected"]


def test_after_waiting_long_enough_records_go_as_estimated(make: Callable[..., Station]) -> None:
    station = make(known=False)
    station.measures(until_s=70)
    assert station.spool.held() == 1
    station.waited_enough = True
    station.measures(until_s=140)
    first, second = station.records("snow-1")
    assert first["clock"] == second["clock"] == {"state": "estimated", "error_s": None}
    assert station.rewinds >= 1


def test_giving_up_the_wait_is_tried_again_where_the_disk_refused(
    make: Callable[..., Station],
) -> None:
    station = make(known=False)
    station.measures(until_s=70)
    station.waited_enough = True
    with locked(station):
        station.passes(until_s=80)
    station.passes(until_s=90)
    assert station.spool.held() == 0


@pytest.mark.parametrize("step_s", [1800, -1800])
def test_a_step_of_the_clock_closes_the_windows_and_begins_new_ones(
    station: Station, step_s: int
) -> None:
    station.measures(until_s=30)
    station.ahead_ns = step_s * S
    station.measures(until_s=65)
    cut, rest = station.records("snow-1")
    assert cut["start"] == clock_text(0)
    assert cut["quality"]["reasons"] == ["clock_step"]
    assert rest["end"] == clock_text(60 + step_s)
    measured_s = cut["quality"]["n"] + rest["quality"]["n"]
    assert measured_s == 60
    assert cut["clock"]["state"] == "synced"


def test_a_small_step_back_makes_no_overlap(station: Station) -> None:
    station.measures(until_s=42)
    station.ahead_ns = -3 * S
    station.measures(until_s=70)
    cut, rest = station.records("snow-1")
    assert cut["end"] == rest["start"]
    assert rest["end"] == clock_text(60)
    assert cut["quality"]["n"] + rest["quality"]["n"] == 63  # three seconds were lived twice
    assert cut["clock"]["error_s"] == 3.02  # one of the two clocks was wrong
    assert rest["clock"]["error_s"] == 0.02


def test_after_a_step_back_out_of_the_window_nothing_is_recorded_twice(station: Station) -> None:
    station.measures(until_s=200)
    station.ahead_ns = -150 * S
    station.measures(until_s=330)
    before = station.records("snow-1")
    station.measures(until_s=395)
    records = station.records("snow-1")
    assert before == records[:-1]
    assert records[-2]["end"] == records[-1]["start"]
    assert records[-1]["end"] == clock_text(240)


def test_a_run_that_begins_before_the_last_one_ended_waits_until_then(
    make: Callable[..., Station],
) -> None:
    first = make()
    first.measures(until_s=90)
    first.stops()
    first.ends()
    second = make(run="run-2", begin_s=100.0, ahead_s=-50.0)
    second.measures(until_s=175)
    records = second.records("snow-1")
    assert [span(r) for r in records[1:]] == [
        (clock_text(60), clock_text(90)),
        (clock_text(90), clock_text(120)),
    ]
    assert records[-1]["quality"]["n"] == 30


def test_what_waits_in_the_queue_when_the_clock_steps_is_counted_where_it_was_measured(
    station: Station,
) -> None:
    station.measures(until_s=30)
    for _ in range(3):
        seen = Reading("depth_cm", 42.0, station.boot_ns)
        station.inbox.put_nowait(Collected("snow-1", [seen]))
    station.ahead_ns = 3600 * S
    station.measures(until_s=36)
    assert station.records("snow-1")[0]["quality"]["n"] in range(33, 37)
    assert station.pipeline._channels["snow-1"]._windower.late == 0


def test_a_time_that_stays_unknown_is_told_and_so_is_its_end(make: Callable[..., Station]) -> None:
    station = make(known=False)
    station.passes(until_s=30)
    assert station.troubles == []
    station.waited_enough = True
    station.passes(until_s=60)
    assert station.troubles == [TIME_UNKNOWN]
    station.synchronised = True
    station.passes(until_s=70)
    assert station.troubles == [TIME_UNKNOWN, None]


def test_a_step_is_told_until_the_clock_has_been_steady(station: Station) -> None:
    station.passes(until_s=30)
    station.ahead_ns = -5 * S
    station.passes(until_s=40)
    assert station.troubles == [TIME_STEPPED]
    station.passes(until_s=20 + STEADY_S)
    assert station.troubles == [TIME_STEPPED]
    station.passes(until_s=45 + STEADY_S)
    assert station.troubles == [TIME_STEPPED, None]


def test_a_leap_second_is_no_trouble(station: Station) -> None:
    station.passes(until_s=30)
    station.ahead_ns = -1 * S
    station.passes(until_s=40)
    assert station.troubles == []


def test_a_clock_set_by_hand_is_told_and_not_followed(station: Station) -> None:
    station.measures(until_s=30)
    station.synchronised = False
    station.ahead_ns = 10**9 * S
    station.measures(until_s=65)
    assert station.troubles == [TIME_DISPUTED]
    (record,) = station.records("snow-1")
    assert span(record) == (clock_text(0), clock_text(60))


def test_a_step_of_the_clock_releases_a_people_window_once(station: Station) -> None:
    station.says("door-1", Alive(station.boot_ns), Crossing("towards", station.boot_ns))
    station.passes(until_s=30)
    station.ahead_ns = 1800 * S
    station.passes(until_s=40)
    (record,) = station.records("door-1")
    assert record["quality"]["reasons"] == ["clock_step"]
    assert set(record["values"]["towards"]) == {"count", "unclamped"}


def test_a_people_window_cut_to_less_than_a_second_is_released(station: Station) -> None:
    station.passes(until_s=900)
    station.says("door-1", Alive(station.boot_ns), Crossing("towards", station.boot_ns))
    station.passes(until_s=909)
    station.ahead_ns = 900 * S + 300_000_000 - (station.boot_ns - BOOT_NS)
    station.pipeline._next_look_ns = station.boot_ns
    station.passes(until_s=910)
    _, cut = station.records("door-1")
    assert span(cut) == (clock_text(900), clock_text(900.3))
    assert cut["values"]["towards"] is not None


def test_slewing_closes_nothing(station: Station) -> None:
    for _ in range(50):
        station.ahead_ns += 2_000_000  # two milliseconds a second
        station.passes(until_s=(station.boot_ns - BOOT_NS) / S + 1)
    assert station.records() == []


# A disk that fails


def test_while_the_disk_fails_records_wait_in_memory_and_keep_their_numbers(
    station: Station,
) -> None:
    with capture_logs() as logs:
        with locked(station):
            station.measures(until_s=200)
            assert station.records() == []
        station.measures(until_s=210)
    records = station.records("snow-1")
    assert [record["seq"] for record in records] == [1, 2, 3]
    assert [entry.seq for entry in station.told] == [1, 2, 3]
    assert [line["event"] for line in logs] == [
        "spool cannot be written; records wait in memory",
        "spool can be written again",
    ]


def test_a_failing_disk_is_not_asked_at_each_turn(station: Station) -> None:
    attempts = []
    append = station.spool.append

    def counted(*what: Any, **how: Any) -> list[Entry]:
        attempts.append(station.boot_ns)
        return append(*what, **how)

    station.spool.append = counted  # type: ignore[method-assign]
    with locked(station):
        station.measures(until_s=122)
    assert len(attempts) <= 60 / COMMIT_RETRY_S + 2


def test_what_memory_cannot_hold_is_named_in_a_gap(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.writer.PENDING_LIMIT", 4)
    with locked(station):
        station.pipeline.announce()
        station.measures(until_s=605)
    station.measures(until_s=615)
    gap, *rest = station.records("snow-1")
    assert gap == {
        "stream": "snow-1",
        "first": 1,
        "seq": 7,
        "gap": "disk_failed",
        "start": clock_text(0),
        "end": clock_text(420),
    }
    assert [record["seq"] for record in rest] == [8, 9, 10]
    assert station.records("gateway")[0]["seq"] == 1
    station.measures(until_s=665)
    assert [record["seq"] for record in station.records("snow-1")] == [7, 8, 9, 10, 11]
    assert station.spool.produced() == {"snow-1": 11, "gateway": 1}


def test_a_gap_of_unknown_time_says_so(
    make: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.writer.PENDING_LIMIT", 2)
    station = make(known=False)
    with locked(station):
        station.measures(until_s=605)
    station.measures(until_s=615)
    gap = station.records("snow-1")[0]
    assert (gap["seq"], gap["start"], gap["end"]) == (8, None, None)


def test_a_disk_that_fails_at_the_stop_too_costs_what_was_in_memory_and_no_crash(
    station: Station,
) -> None:
    with locked(station):
        station.measures(until_s=70)
        station.stops()
    assert station.records() == []
    assert station.spool.produced() == {}


# People


def test_nothing_but_the_released_figures_is_on_the_disk(station: Station) -> None:
    for second in range(900):
        station.boot_ns = station.at(second)
        crossings = [Crossing("towards", station.boot_ns)] * 7
        station.says("door-1", Alive(station.boot_ns), *crossings)
    station.boot_ns = station.at(902)
    station.passes(until_s=903)
    (record,) = station.records("door-1")
    towards = record["values"]["towards"]
    # 6300 passed; noise beyond 200 has a probability of less than one in 10^21.
    assert 6100 < towards["unclamped"] < 6500
    assert set(record) == {"stream", "seq", "start", "end", "clock", "quality", "values"}
    assert set(record["values"]) == {"towards", "away", "epsilon", "noise_sd", "ci95"}
    assert set(record["quality"]) == {"flag", "n", "expected"}
    assert record["quality"]["n"] == 900


def test_a_people_sensor_out_of_order_says_only_what_tells_of_nobody(station: Station) -> None:
    station.says("door-1", Trouble("obstructed", station.boot_ns))
    station.says("door-1", Trouble("bus_error", station.boot_ns))
    station.passes(until_s=905)
    (record,) = station.records("door-1")
    assert record["quality"] == {
        "flag": "missing",
        "n": 0,
        "expected": 900,
        "reasons": ["bus_error"],
    }
    assert record["values"]["towards"] is None


def test_its_pulse_is_felt_while_it_works(station: Station) -> None:
    station.passes(until_s=10)
    assert station.pipeline.pulse.beat_s == pytest.approx(510, abs=1)
