"""A window of people is released once: reserved, noised, committed; else it is burned."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.privacy.audit import Finding, audit
from agent.privacy.policy import Policy
from agent.spool import SpoolError
from drivers.base import Alive, Crossing
from hil.ledger import lines, waiting
from tests.agent.stations import Station, locked

Make = Callable[..., Station]
WINDOW = "2027-01-16T00:00:00.000Z", "2027-01-16T00:15:00.000Z"
BURNED = {"flag": "missing", "n": 0, "expected": 900, "reasons": ["burned"]}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr("agent.writer.VOLATILE_AFTER_S", 1e9)
    stations: list[Station] = []

    def build(**how: Any) -> Station:
        station = Station(tmp_path / "spool.db", **how)
        station.pipeline.announce()
        stations.append(station)
        return station

    yield build
    for station in stations:
        station.ends(clean=False)


@pytest.fixture
def station(make: Make) -> Station:
    return make()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What was released, each time that noise was drawn."""
    releases: list[dict[str, object]] = []
    release = Policy.release

    def watched(self: Policy, counts: Any, rand_below: Any = None) -> dict[str, object]:
        releases.append(release(self, counts, rand_below))
        return releases[-1]

    monkeypatch.setattr(Policy, "release", watched)
    return releases


def counts(station: Station, crossings: int = 3) -> None:
    """Somebody passes in the present window."""
    walk = [Crossing("towards", station.boot_ns)] * crossings
    station.says("door-1", Alive(station.boot_ns), *walk)


def held(station: Station) -> Finding:
    return audit(lines(station.spool), waiting(station.spool))


def kinds(station: Station) -> list[str]:
    return [json.loads(text)["line"] for _, text in lines(station.spool)]


@contextmanager
def failing(station: Station, name: str) -> Iterator[list[int]]:
    """A step of the spool fails, before it has done anything."""
    step, failures = getattr(station.spool, name), []

    def fails(*_what: Any, **_how: Any) -> Any:
        failures.append(station.boot_ns)
        raise SpoolError("no")

    setattr(station.spool, name, fails)
    yield failures
    setattr(station.spool, name, step)


def test_a_window_is_reserved_then_noised_then_committed_with_its_line(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    reserve, append, release = station.spool.reserve, station.spool.append, Policy.release

    def note(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*what: Any, **how: Any) -> Any:
            steps.append(f"{name}, and the ledger has {kinds(station)[2:]}")
            return step(*what, **how)

        return noted

    monkeypatch.setattr(station.spool, "reserve", note("reserve", reserve))
    monkeypatch.setattr(station.spool, "append", note("append", append))
    monkeypatch.setattr(Policy, "release", note("noise", release))
    counts(station)
    station.passes(until_s=903)
    assert steps[-3:] == [
        "reserve, and the ledger has []",
        "noise, and the ledger has ['reserve']",
        "append, and the ledger has ['reserve']",
    ]
    assert kinds(station) == ["policy", "boot", "reserve", "release"]
    assert not held(station).broken


def test_a_record_that_cannot_be_committed_is_tried_again_with_the_noise_it_has(
    station: Station, drawn: list[dict[str, object]]
) -> None:
    counts(station)
    with failing(station, "append") as failures:
        station.passes(until_s=930)
        assert len(failures) > 1
    station.passes(until_s=940)
    (record,) = station.records("door-1")
    assert record["values"] == drawn[0]
    assert len(drawn) == 1
    assert held(station).released == 1


def test_a_window_that_cannot_be_reserved_is_burned_and_nothing_is_drawn(
    station: Station, drawn: list[dict[str, object]]
) -> None:
    counts(station)
    with locked(station), capture_logs() as logs:
        station.passes(until_s=903)
    station.passes(until_s=940)
    (record,) = station.records("door-1")
    assert record["quality"] == BURNED
    assert record["values"]["towards"] is record["values"]["away"] is None
    assert drawn == []
    assert kinds(station)[2:] == ["burned"]
    assert held(station).burned == 1
    assert not held(station).broken
    assert "nothing can be reserved: people's windows are burned" in [
        line["event"] for line in logs
    ]


def test_the_next_window_after_a_burned_one_is_released_as_ever(station: Station) -> None:
    counts(station)
    with locked(station):
        station.passes(until_s=903)
    counts(station)
    station.passes(until_s=1805)
    first, second = station.records("door-1")
    assert first["quality"]["flag"] == "missing"
    assert second["values"]["towards"] is not None
    assert held(station).released == 1


def test_a_life_that_ends_between_reservation_and_release_burns_the_window(
    make: Make, drawn: list[dict[str, object]]
) -> None:
    station = make()
    counts(station)
    with failing(station, "append"):
        station.passes(until_s=905)
        station.ends(clean=False)
    assert len(drawn) == 1  # and it is gone
    later = make(run="run-2", begin_s=910)
    (record,) = later.records("door-1")
    assert record["quality"] == BURNED
    assert (record["start"], record["end"]) == WINDOW
    assert record["clock"]["state"] == "synced"
    assert record["values"]["epsilon"] == "1/4"
    finding = held(later)
    assert (finding.broken, finding.released, finding.burned, finding.waiting) == ("", 0, 1, 0)
    assert later.spool.unsettled() == []
    third = make_after(later, make)
    assert len(third.records("door-1")) == 1


def make_after(station: Station, make: Make) -> Station:
    station.ends(clean=False)
    return make(run="run-3", begin_s=920)


def test_what_cannot_be_burned_at_the_start_is_burned_as_soon_as_it_can(
    make: Make, tmp_path: Path
) -> None:
    station = make()
    counts(station)
    with failing(station, "append"):
        station.passes(until_s=905)
        station.ends(clean=False)
    later = Station(tmp_path / "spool.db", run="run-2", begin_s=910)
    try:
        with locked(later), capture_logs() as logs:
            later.pipeline.announce()
            later.passes(until_s=930)
        assert later.records("door-1") == []
        assert len([line for line in logs if "the ledger cannot be read" in line["event"]]) == 1
        later.passes(until_s=940)
        (record,) = later.records("door-1")
        assert record["quality"] == BURNED
        finding = held(later)
        assert (finding.broken, finding.burned, finding.waiting) == ("", 1, 0)
    finally:
        later.ends(clean=False)


def test_a_burned_window_and_the_one_after_it_do_not_overlap(make: Make) -> None:
    station = make()
    counts(station)
    with failing(station, "append"):
        station.passes(until_s=905)
        station.ends(clean=False)
    later = make(run="run-2", begin_s=880)  # the wall clock is where it had been
    counts(later)
    later.passes(until_s=1805)
    burned, after = later.records("door-1")
    assert burned["end"] == after["start"] == "2027-01-16T00:15:00.000Z"


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_a_burned_window_of_unknown_time_waits_for_the_clock_in_its_own_boot_only(
    make: Make, boot: str
) -> None:
    station = make(known=False)
    counts(station)
    with failing(station, "append"):
        station.passes(until_s=905)
        station.ends(clean=False)
    later = make(run="run-2", begin_s=910, boot=boot, known=False)
    records = later.records("door-1")
    if boot == "boot-1":
        assert records == []
        later.synchronised = True
        later.passes(until_s=930)
        (record,) = later.records("door-1")
        assert record["clock"]["state"] == "corrected"
    else:
        (record,) = records
        assert record["clock"] == {"state": "estimated", "error_s": None}
    assert record["quality"] == BURNED


def test_without_a_disk_people_are_not_counted_and_all_else_goes_on(
    station: Station, drawn: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.writer.REOPEN_S", 1e9)
    station.spool.turn_volatile(OSError("no disk"))
    counts(station)
    station.measures(until_s=903)
    station.passes(until_s=905)
    assert drawn == []
    assert [record["quality"] for record in station.records("door-1")] == [BURNED]
    assert len(station.records("snow-1")) == 15
    assert station.spool.reopen()
    finding = held(station)
    assert (finding.broken, finding.burned) == ("", 1)


def test_figures_that_wait_are_taken_back_when_the_disk_is_left(
    station: Station, drawn: list[dict[str, object]]
) -> None:
    counts(station)
    with failing(station, "append"):
        station.passes(until_s=905)
    assert len(drawn) == 1
    station.spool.turn_volatile(OSError("no disk"))
    station.passes(until_s=920)
    (record,) = station.records("door-1")
    assert record["quality"] == BURNED
    station.spool.reopen()
    finding = held(station)
    assert (finding.broken, finding.released, finding.burned) == ("", 0, 1)
    assert finding.reserved == 1


class FailsItsSync:
    """A connection whose syncs fail after commits: who opens the file next finds them there."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        done = self._database.execute(statement, *values)
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return done


def commits_though_it_fails(station: Station) -> None:
    """A window's release is on the disk, and the pipeline was told that it is not."""
    counts(station)
    with failing(station, "append"):
        station.passes(until_s=905)
    database = station.spool._db
    station.spool._db = FailsItsSync(database)  # type: ignore[assignment]
    station.boot_ns += 6 * 10**9
    station.pipeline.step()
    station.spool._db = database


def test_a_window_whose_release_failed_is_a_gap_till_the_disk_is_back_and_is_burned_then(
    station: Station,
) -> None:
    commits_though_it_fails(station)
    station.spool.turn_volatile(OSError("no disk"))
    station.passes(until_s=920)
    (in_memory,) = station.records("door-1")
    assert (in_memory["gap"], in_memory["seq"]) == ("disk_failed", 1)
    assert (in_memory["start"], in_memory["end"]) == WINDOW
    station.passes(until_s=990)
    assert not station.spool.is_volatile
    gap, *records = station.records("door-1")
    assert (gap, len(records)) == (in_memory, 1)
    (record,) = records
    assert (record["quality"], record["seq"]) == (BURNED, 2)
    assert (record["start"], record["end"]) == WINDOW
    keys = [(each["stream"], each["seq"]) for each in station.records()]
    assert len(keys) == len(set(keys))
    finding = held(station)
    assert (finding.broken, finding.released, finding.burned) == ("", 0, 1)
    assert station.spool.unsettled() == []


def test_the_next_life_may_find_that_release_and_it_is_the_only_thing_said_of_its_number(
    make: Make, tmp_path: Path, drawn: list[dict[str, object]]
) -> None:
    station = make()
    commits_though_it_fails(station)
    left = [tmp_path / f"spool.db{suffix}" for suffix in ("", "-wal")]
    on_disk = [file.read_bytes() for file in left]
    station.spool.turn_volatile(OSError("no disk"))
    station.passes(until_s=920)
    (said,) = station.records("door-1")
    assert "gap" in said
    station.ends(clean=False)
    for file, content in zip(left, on_disk, strict=True):
        file.write_bytes(content)
    later = make(run="run-2", begin_s=930)
    (record,) = later.records("door-1")
    assert (record["seq"], record["values"]) == (1, drawn[0])
    finding = held(later)
    assert (finding.broken, finding.released, finding.burned) == ("", 1, 0)


def test_a_release_that_failed_and_was_salvaged_is_not_released_twice(
    station: Station, drawn: list[dict[str, object]]
) -> None:
    commits_though_it_fails(station)
    with station.spool._lock:
        station.spool._replace("is damaged")
    station.passes(until_s=930)
    assert [record["values"] for record in station.records("door-1")] == drawn
    assert len(drawn) == 1
    finding = held(station)
    assert (finding.broken, finding.released, finding.burned) == ("", 1, 0)


def test_figures_are_taken_back_where_their_reservation_is_lost_with_the_file(
    station: Station, drawn: list[dict[str, object]]
) -> None:
    counts(station)
    with failing(station, "append"):
        station.passes(until_s=905)
    assert len(drawn) == 1
    station.spool._db.execute("DELETE FROM ledger")  # what a salvage could not read
    with station.spool._lock:
        station.spool._replace("is damaged")
    station.passes(until_s=920)
    (record,) = station.records("door-1")
    assert record["quality"] == BURNED
    counts(station)
    station.passes(until_s=1805)
    finding = held(station)
    assert (finding.broken, finding.released, finding.burned) == ("", 1, 1)
    assert [what.partition(": ")[2] for what in finding.damages] == ["is damaged"]


def test_damage_is_told_in_the_ledger_at_once_and_not_with_the_next_window(
    station: Station,
) -> None:
    with station.spool._lock:
        station.spool._replace("is damaged")
    station.passes(until_s=10)
    assert [what.partition(": ")[2] for what in held(station).damages] == ["is damaged"]


def test_a_change_of_policy_is_a_line_and_holds_from_the_next_window_on(make: Make) -> None:
    station = make()
    counts(station)
    station.passes(until_s=600)
    station.stops()
    station.ends()
    later = make(run="run-2", begin_s=610, epsilon="1/8")
    counts(later)
    later.passes(until_s=905)
    first, second = later.records("door-1")
    assert (first["values"]["epsilon"], second["values"]["epsilon"]) == ("1/4", "1/8")
    assert kinds(later) == [
        *("policy", "boot", "reserve", "release"),
        *("policy", "boot", "reserve", "release"),
    ]
    assert not held(later).broken


def test_a_window_in_which_nothing_was_alive_needs_no_release(station: Station) -> None:
    station.passes(until_s=905)
    (record,) = station.records("door-1")
    assert record["values"]["towards"] is None
    assert kinds(station) == ["policy", "boot"]
    assert not held(station).broken
