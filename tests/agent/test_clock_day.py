"""Days of clock trouble through the real pipeline and spool: no overlap, no hole, no false claim.

Time is simulated. Each reading's value is the true time at which it was measured, so a record tells
by its own statistics whether its span and its error bound are right.
"""

from __future__ import annotations

import json
import queue
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.alerts import AlertBook
from agent.channels import Channel, MeasuredChannel, PeopleChannel
from agent.clock import Clock, Look, rtc_witness
from agent.collector import Collected
from agent.pipeline import Pipeline
from agent.privacy.ledger import Terms
from agent.privacy.policy import Policy
from agent.record import BEFORE_ALL
from agent.rules import Rules
from agent.spool import Spool
from agent.window import EARLIER_NS, Window, Windower
from config.model import AlertsTable
from drivers.base import Alive, Crossing, Quantity, Reading

S = 1_000_000_000
DAY_NS = 1_804_982_400 * S  # 2027-03-14T00:00:00Z; New York changes to summer time at 07:00
FAR_NS = 4_070_908_800 * S  # 2099-01-01
STEP_S = 10
PPM = 40  # by which the boot clock is fast
DEPTH = Quantity("depth_cm", "cm", "depth of snow")


class Exact(Policy):
    """Without noise, so that a crossing that is lost or counted twice is seen."""

    def release(self, counts: Any, _rand_below: Any = None) -> dict[str, object]:
        return {name: {"count": n, "unclamped": n} for name, n in counts.items()}


@dataclass
class World:
    """The true time, a gateway that lives in it, and what its clocks say."""

    folder: Path
    now_ns: int = DAY_NS
    synchronised: bool = False
    wrong_ns: int = 0  # of the synchronised clock; its bound is honest, or there is none
    has_bound: bool = True
    waited_enough: bool = False
    runs: int = 0
    boots: int = 0
    born_ns: int = 0
    offset_ns: int = 0
    given: int = 0  # readings, crossings and signs of life
    counted: int = 0  # those that the windows counted instead of recording
    covered: int = 0  # those whose UTC was covered, by the model here
    unexplained: int = 0  # those that were counted, and were not covered
    spans: list[tuple[int, int]] = field(default_factory=list)  # of UTC, covered in this run
    troubles: list[str | None] = field(default_factory=list)

    def boot_ns(self) -> int:
        lived_ns = self.now_ns - self.born_ns
        return lived_ns + lived_ns * PPM // 10**6

    def look(self) -> Look:
        boot_ns = self.boot_ns()
        if self.synchronised:
            self.offset_ns = self.now_ns + self.wrong_ns - boot_ns
        is_bound = self.synchronised and self.has_bound
        error_s = abs(self.wrong_ns) / S + 0.02 if is_bound else None
        return Look(boot_ns, boot_ns + self.offset_ns, self.synchronised, error_s)

    def powers_on(self, guess_ns: int, *, rtc_s: int | None = None) -> None:
        self.boots += 1
        self.born_ns = self.now_ns
        self.offset_ns = guess_ns
        self.synchronised = False
        self.passes(20)
        self.starts(rtc_s)

    def starts(self, rtc_s: int | None = None) -> None:
        self.runs += 1
        boot_id = f"boot-{self.boots}"
        policy = Exact(900, Fraction(1, 4))
        self.spool = Spool(
            self.folder / "spool.db",
            max_bytes=2**26,
            run=f"run-{self.runs}",
            boot_id=boot_id,
            terms=Terms(policy, "Asia/Tokyo", ""),
        )
        self.spool._db.execute("PRAGMA synchronous = OFF")
        look = self.look()
        self.clock = Clock(look, trust_system=False)
        witness = rtc_witness(rtc_s, look, known_ns=self.spool.known_ns)
        if witness is not None:
            self.clock.hear(witness)
            self.clock.accept(look)
        now_ns = self.clock.utc_ns(look.boot_ns)
        self.channels: dict[str, Channel[Any]] = {
            "snow-1": MeasuredChannel(
                "snow-1",
                "snow",
                window_s=60,
                rate_hz=1 / STEP_S,
                quantities={"depth_cm": DEPTH},
                now_ns=now_ns,
            ),
            "door-1": PeopleChannel("door-1", policy=policy, directions=("total",), now_ns=now_ns),
        }
        self.inbox: queue.Queue[Collected | None] = queue.Queue(1000)
        self.earlier = self.spool.ends()
        self.pipeline = Pipeline(
            self.channels,
            self.inbox,
            self.spool,
            config_id="c",
            clock=self.clock,
            look=self.look,
            boot_id=boot_id,
            clock_wait_over=lambda: self.waited_enough,
            committed=lambda _entries: None,
            rewind=lambda: None,
            book=AlertBook([], lambda: "episode"),
            rules=Rules(AlertsTable(), {}),
            version="0.1.0",
        )
        self._overhear()
        self.spans = []
        self.since_boot_ns = look.boot_ns
        self.row_begin_ns = now_ns
        self.pipeline.announce()

    def _overhear(self) -> None:
        """Note what is said of the clock."""
        note = self.pipeline._note

        def told(name: str, values: Mapping[str, object] | None) -> None:
            if name == "clock_untrusted":
                self.troubles.append(None if values is None else str(values["reason"]))
            note(name, values)

        self.pipeline._note = told  # type: ignore[method-assign]

    def stops(self) -> None:
        self.pipeline.stop()
        self.pipeline.run()
        for channel in self.channels.values():
            self.counted += counted_by(channel)
        self.spool.close(clean=True)

    def passes(self, seconds: float) -> None:
        self.now_ns += round(seconds * S)

    def until(self, hour: float) -> None:
        self.lives(round((DAY_NS + hour * 3600 * S - self.now_ns) / S / STEP_S))

    def lives(self, steps: int) -> None:
        for _ in range(steps):
            boot_ns = self.boot_ns()
            true_s = (self.now_ns - DAY_NS) / S
            for sensor_id, observations in (
                ("snow-1", [Reading("depth_cm", true_s, boot_ns)]),
                ("door-1", [Alive(boot_ns), Crossing("total", boot_ns)]),
            ):
                was_known, zero_ns = self.clock.known, self.clock.utc_ns(0)
                self.given += len(observations)
                is_covered = was_known and self._is_covered(sensor_id, zero_ns + boot_ns)
                self.covered += len(observations) * is_covered
                before = counted_by(self.channels[sensor_id])
                self.inbox.put_nowait(Collected(sensor_id, observations))
                self.pipeline.step()
                if not is_covered:
                    self.unexplained += counted_by(self.channels[sensor_id]) - before
                if was_known and abs(self.clock.utc_ns(0) - zero_ns) > S // 2:
                    self.spans.append((zero_ns + self.since_boot_ns, zero_ns + boot_ns))
                    self.since_boot_ns = boot_ns
                if abs(self.clock.utc_ns(0) - zero_ns) > S // 2 or was_known < self.clock.known:
                    self.row_begin_ns = self.clock.utc_ns(boot_ns)
                    self.earlier = self.spool.ends()  # it may have put right an earlier run's
            self.passes(STEP_S)

    def _is_covered(self, stream: str, utc_ns: int) -> bool:
        end_ns = self.earlier.get(stream)
        if end_ns is not None and end_ns - EARLIER_NS <= utc_ns < end_ns:
            return True
        if any(start <= utc_ns < end for start, end in self.spans):
            return True
        return utc_ns < self.row_begin_ns  # set back by less than a step, before the first window


def counted_by(channel: Channel[Any]) -> int:
    windower = channel._windower
    return windower.late + windower.future + windower.covered


def bodies(spool: Spool) -> list[dict[str, Any]]:
    page = spool.peek(
        after_id=BEFORE_ALL, up_to_id=spool.last_id, limit=10**6, parcel_records=10**6
    )
    rows = sorted(
        (row_id, body)
        for parcel in page.parcels
        for row_id, body in zip(parcel.ids, parcel.bodies, strict=True)
    )
    return [json.loads(body) for _, body in rows]


def records_of(world: World) -> list[dict[str, Any]]:
    """Return all records, once those that wait are given up."""
    spool = Spool(world.folder / "spool.db", max_bytes=2**26, run="reader", boot_id="reader")
    spool.release_held()
    found = bodies(spool)
    spool.close(clean=True)
    return found


def seconds(text: str) -> float:
    moment = time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    days = (moment.tm_year, moment.tm_yday)
    total = sum(
        366 if y % 4 == 0 and (y % 100 or y % 400 == 0) else 365 for y in range(1970, days[0])
    )
    clock_s = moment.tm_hour * 3600 + moment.tm_min * 60 + moment.tm_sec
    return (total + days[1] - 1) * 86400 + clock_s + int(text[20:23]) / 1000 - DAY_NS // S


def overlaps(records: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the pairs of records of one stream that claim the same time."""
    found = []
    for stream in ("snow-1", "door-1"):
        mine = [r for r in records if r["stream"] == stream]
        for before, after in pairwise(sorted(mine, key=lambda r: (r["start"], r["end"]))):
            if after["start"] < before["end"]:
                found.append((before, after))
    return found


def is_excused(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Say whether the error bounds allow that two records were measured one after the other.

    A record that waited is not thrown away because an earlier run claimed its time by mistake.
    """
    bounds = [r["clock"]["error_s"] for r in (before, after)]
    states = {r["clock"]["state"] for r in (before, after)}
    overlap_s = seconds(before["end"]) - seconds(after["start"])
    return states != {"synced"} and (None in bounds or sum(bounds) >= overlap_s)


def false_claims(records: Sequence[dict[str, Any]]) -> list[str]:
    """Name the records that were measured at other times than they claim, with their bound."""
    found = []
    for record in records:
        error_s = record["clock"]["error_s"]
        values = record["values"].get("depth_cm")
        if record["stream"] != "snow-1" or values is None or error_s is None:
            continue
        early_s = seconds(record["start"]) - values["min"]
        late_s = values["max"] - seconds(record["end"])
        if max(early_s, late_s) > error_s + 0.002:
            found.append(f"{record}: off by {max(early_s, late_s)} s")
    return found


def losses(world: World, records: Sequence[dict[str, Any]]) -> list[str]:
    """Name readings and crossings that are neither in a record nor counted, or are in two."""
    measured = sum(r["quality"]["n"] for r in records if r["stream"] == "snow-1")
    crossed = sum(
        (r["values"]["total"] or {"count": 0})["count"] for r in records if r["stream"] == "door-1"
    )
    placed = measured + 2 * crossed  # each crossing comes with a sign of life
    if placed + world.counted != world.given:
        return [f"{world.given} given, {placed} in records, {world.counted} counted"]
    return []


def the_day(world: World) -> None:
    """Live through it."""
    world.powers_on(0)  # 1970
    world.until(1)
    world.synchronised, world.wrong_ns = True, 3 * S
    world.until(2)
    world.wrong_ns = 0  # -3 s
    world.until(3)
    world.wrong_ns = 7200 * S  # +2 h
    world.until(4)
    world.wrong_ns = 0  # -2 h: from 05:00 to 06:00 everything was covered already
    world.until(8)
    world.stops()
    world.passes(600)
    world.powers_on(FAR_NS)
    world.until(9)
    world.synchronised = True
    world.until(10)
    world.stops()
    world.passes(1800)
    world.powers_on(DAY_NS + 10 * 3600 * S)  # never synchronised, the guess not far off
    world.until(13)
    world.stops()
    world.passes(1200)
    world.powers_on(0)  # never synchronised, the guess far off
    world.until(14)
    world.stops()
    world.passes(600)
    world.powers_on(0)
    world.until(14.5)
    world.synchronised = True
    world.until(18)
    world.wrong_ns, world.has_bound = FAR_NS - world.now_ns, False  # 2099, and believed
    world.until(18.5)
    world.wrong_ns, world.has_bound = 0, True
    world.until(24.5)
    world.stops()


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, list[dict[str, Any]]]:
    world = World(tmp_path_factory.mktemp("day"))
    the_day(world)
    return world, records_of(world)


Lived = tuple[World, list[dict[str, Any]]]


def test_no_instant_is_in_two_records(lived: Lived) -> None:
    assert overlaps(lived[1]) == []


def test_every_record_was_measured_when_it_says_within_its_bound(lived: Lived) -> None:
    assert false_claims(lived[1]) == []
    bounds = [r["clock"]["error_s"] for r in lived[1]]
    assert sum(bound is None for bound in bounds) < 70  # half an hour in 2099


def test_every_reading_is_in_one_record_or_was_measured_in_a_time_that_was_covered(
    lived: Lived,
) -> None:
    world, records = lived
    assert losses(world, records) == []
    assert (world.counted, world.unexplained) == (world.covered, 0)
    # From 05:00 to 06:00 nothing is recorded a second time: a reading, a crossing, a sign of life.
    assert world.counted == pytest.approx(3 * 3600 / STEP_S, abs=6)


def test_the_covered_hour_gives_no_records_not_even_missing_ones(lived: Lived) -> None:
    believed = [
        r
        for r in lived[1]
        if r["stream"] == "snow-1" and 5 * 3600 <= seconds(r["start"]) < 6 * 3600
    ]
    assert len(believed) == 60  # made while the clock was two hours ahead
    assert {r["quality"]["flag"] for r in believed} == {"good"}
    after = next(r for r in lived[1] if seconds(r["start"]) >= 6 * 3600 and r["seq"] > 1)
    assert "clock_step" in after["quality"]["reasons"]


def test_the_states_tell_what_was_known(lived: Lived) -> None:
    of_run: dict[str, set[str]] = {}
    for record in lived[1]:
        hour = record["values"].get("depth_cm")
        if hour is None:
            continue
        at_h = hour["min"] / 3600
        name = next(
            name
            for name, until_h in (
                ("before the first sync", 1),
                ("known", 8.1),
                ("2099", 9),
                ("known again", 10.4),
                ("never", 14.01),
                ("before the last sync", 14.5),
                ("at last", 99),
            )
            if at_h < until_h + 0.001
        )
        of_run.setdefault(name, set()).add(record["clock"]["state"])
    assert of_run == {
        "before the first sync": {"corrected"},
        "known": {"synced"},
        "2099": {"corrected"},
        "known again": {"synced"},
        "never": {"estimated"},
        "before the last sync": {"corrected"},
        "at last": {"synced"},
    }


def test_a_boot_that_never_knew_is_bounded_by_its_neighbours(lived: Lived) -> None:
    never = [r for r in lived[1] if r["clock"]["state"] == "estimated" and r["stream"] == "snow-1"]
    assert len(never) > 180
    for record in never:
        assert 0 < record["clock"]["error_s"] < 2 * 3600


def test_steps_and_silence_of_the_clock_are_told_at_their_edges(lived: Lived) -> None:
    assert [each for each in lived[0].troubles if each] == ["clock stepped"] * 5
    assert lived[0].troubles[1::2] == [None] * 5


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_local_time_changes_nothing(
    lived: Lived, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        world = World(tmp_path)
        the_day(world)
        records = records_of(world)
    time.tzset()
    assert records == lived[1]


class Naive(Windower[Any]):
    """Begins anew at each step by the new time, whatever was covered."""

    def step(
        self, now_ns: int, moved_ns: int, *, known: bool, covered_to_ns: int | None = None
    ) -> list[Window[Any]]:
        del known, covered_to_ns
        closed = self.flush(now_ns, "clock_step")
        self._open = []
        self._next_start_ns = now_ns + moved_ns
        return closed


def test_the_checks_see_the_overlaps_of_a_naive_tiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.channels.Windower", Naive)
    world = World(tmp_path)
    the_day(world)
    assert len(overlaps(records_of(world))) > 50


def test_the_checks_see_a_false_claim_and_a_loss(lived: Lived) -> None:
    world, records = lived
    told = [r for r in records if r["clock"]["state"] == "estimated"]
    bold = [{**r, "clock": {"state": "synced", "error_s": 0.02}} for r in told]
    assert false_claims(bold)
    some = next(r for r in records if r["stream"] == "snow-1")
    assert losses(world, [r for r in records if r is not some])
    assert losses(world, [*records, some])


IN_ONE_RUN = (
    st.tuples(st.just("live"), st.integers(1, 60)),
    st.tuples(st.just("sync"), st.sampled_from([0, 0, 3, -7, 400, -3000, 80_000])),
    st.tuples(st.just("sync unbounded"), st.sampled_from([0, 5000, -5000])),
    st.tuples(st.just("lose"), st.just(0)),
    st.tuples(st.just("set by hand"), st.sampled_from([-500, 500, 10**9])),
)
# A clock that was believed more than a day ahead takes with it, at a restart, what was covered
# before: the spool knows one end a stream.
FAR = st.tuples(st.just("sync unbounded"), st.sampled_from([10**8, -(10**7), 10**9]))
RESTARTS = (
    st.tuples(st.just("restart"), st.integers(0, 300)),
    st.tuples(st.just("reboot"), st.integers(1, 4000)),
    st.tuples(st.just("reboot with a guess"), st.integers(1, 4000)),
    st.tuples(st.just("reboot with a battery"), st.integers(1, 4000)),
)
OPERATIONS = st.one_of(
    st.lists(st.one_of(*IN_ONE_RUN, *RESTARTS), min_size=2, max_size=14),
    st.lists(st.one_of(*IN_ONE_RUN, FAR), min_size=2, max_size=14),
)


def run_through(world: World, operations: list[tuple[str, int]]) -> None:
    world.powers_on(0)
    for name, value in operations:
        match name:
            case "live":
                world.lives(value)
            case "sync" | "sync unbounded":
                world.synchronised, world.wrong_ns = True, value * S
                world.has_bound = name == "sync"
                world.lives(2)
            case "lose":
                world.synchronised = False
                world.lives(2)
            case "set by hand":
                world.synchronised = False
                world.offset_ns += value * S
                world.lives(2)
            case "restart":
                world.stops()
                world.passes(value)
                world.starts()
            case _:
                world.stops()
                world.passes(value)
                guess_ns = 0 if name == "reboot" else world.now_ns - 300 * S
                rtc_s = None
                if name == "reboot with a battery":
                    guess_ns = world.now_ns
                    rtc_s = world.now_ns // S + 20
                world.powers_on(guess_ns, rtc_s=rtc_s)
    world.lives(2)
    world.stops()


@settings(deadline=None, max_examples=150)
@given(operations=OPERATIONS)
def test_whatever_the_clock_does_records_neither_overlap_nor_lie_nor_vanish(
    operations: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        run_through(world, operations)
        records = records_of(world)
    assert [pair for pair in overlaps(records) if not is_excused(*pair)] == []
    assert false_claims(records) == []
    assert losses(world, records) == []
    assert world.unexplained == 0
