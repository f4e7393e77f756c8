"""Each verb does something, for as long as it is told, and is undone after it.

The control is in the same run: the windows before and after each fault are whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hil.faults.disk import FaultyDisk
from hil.faults.ext4 import UnavailableError
from hil.scenario.book import FLAGS, Book, Measure, Row
from hil.scenario.run import Outcome, run
from hil.scenario.timeline import Episode
from hil.scenario.verbs import VERBS

from .texts import GATE, LINE, SURFACE, fault, loaded

SETTLES_S = 180.0  # a sensor is asked again within half a minute, and its window must be whole
EVERY_MIN = 10

SERIAL: dict[str, dict[str, object]] = {
    "serial_garble": {"share": 0.2},
    "serial_drop": {"share": 0.2},
    "serial_duplicate": {"share": 1.0},
    "serial_delay": {"delay_s": 2.0},
    "serial_stall": {"loses": True},
    "serial_wrong_baud": {"baud": 9600},
    "serial_flood": {"bytes_per_s": 1000.0},
    "serial_silence": {},
    "serial_unplug": {"back_as": "ttyUSB1"},
}
I2C: dict[str, dict[str, object]] = {
    "i2c_nack": {},
    "i2c_loose": {"share": 0.9},
    "i2c_stuck": {},
    "i2c_timeout": {},
    "i2c_wrong_pec": {},
    "i2c_blank": {},
    "i2c_clash": {},
}
NETWORK = (
    "network_cut",
    "network_stall",
    "network_portal",
    "broker_kill",
    "broker_refuse",
    "broker_quota",
    "broker_never_ack",
)
DISK: dict[str, dict[str, object]] = {"disk_full": {}, "disk_error": {}, "disk_read_only": {}}
ELSEWHERE = {  # tested by themselves
    "network_reset", "network_half_open", "broker_refuse_logins", "pin_bounce", "pin_stuck",
    "pin_glitch", "clock_step", "clock_unsynced", "power_cut",
}  # fmt: skip


@dataclass
class Seen:
    """What is kept of a run."""

    outcome: Outcome
    episodes: Sequence[Episode]
    rows: Sequence[Row]
    measures: Sequence[Measure]
    book: Book

    def during(self, verb: str) -> Episode:
        return next(each for each in self.episodes if each.fault.verb == verb)

    def flags(self, from_s: float, until_s: float) -> set[str]:
        inside = (row for row in self.rows if from_s <= row.start_s and row.end_s <= until_s)
        return {FLAGS[row.flag] for row in inside}


def see(folder: Path, stream: str, quantity: str, parts: Iterable[str], *, lasts: str) -> Seen:
    found = loaded(folder, *parts, lasts=lasts)
    kept: list[Seen] = []

    def look(book: Book) -> None:
        rows = list(book.rows(stream, quantity)) if quantity else []
        kept.append(Seen(None, found.episodes(), rows, book.measures(), book))  # type: ignore[arg-type]

    outcome = run(found, look=look)
    kept[0].outcome = outcome
    return kept[0]


def one_after_another(
    verbs: dict[str, dict[str, object]], target: str | None = None
) -> tuple[list[str], str]:
    """Let each verb act for four minutes, and rest for six."""
    target_of: dict[str, object] = {} if target is None else {"target": target}
    faults = [
        fault(verb, f"{EVERY_MIN * number + 4}m", "4m", **target_of, **given)
        for number, (verb, given) in enumerate(verbs.items())
    ]
    return faults, f"{EVERY_MIN * len(verbs) + 4}m"


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    faults, lasts = one_after_another(SERIAL, "snow-1")
    folder = tmp_path_factory.mktemp("serial")
    return see(folder, "snow-1", "depth_cm", [LINE, *faults], lasts=lasts)


@pytest.fixture(scope="module")
def i2c(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    faults, lasts = one_after_another(I2C, "surface-1")
    folder = tmp_path_factory.mktemp("i2c")
    return see(folder, "surface-1", "surface_temperature_c", [SURFACE, *faults], lasts=lasts)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    faults, lasts = one_after_another({verb: {} for verb in NETWORK})
    return see(tmp_path_factory.mktemp("network"), "snow-1", "", [LINE, *faults], lasts=lasts)


def suffers(seen: Seen, verb: str) -> None:
    episode = seen.during(verb)
    assert seen.flags(episode.begin_s, episode.end_s) - {"good"}, f"{verb} does nothing"
    before = seen.flags(episode.begin_s - 120.0, episode.begin_s)
    after = seen.flags(episode.end_s + SETTLES_S, episode.end_s + SETTLES_S + 120.0)
    assert before == {"good"}, f"not whole before {verb}: {before}"
    assert after == {"good"}, f"{verb} is still felt: {after}"


@pytest.mark.parametrize("verb", [each for each in SERIAL if each != "serial_duplicate"])
def test_a_fault_of_the_line_is_felt_and_heals(serial: Seen, verb: str) -> None:
    suffers(serial, verb)


def test_an_answer_that_comes_twice_is_taken_once(serial: Seen) -> None:
    episode = serial.during("serial_duplicate")
    inside = [row for row in serial.rows if episode.begin_s <= row.start_s < episode.end_s]
    truth = serial.outcome.loaded.truths()["snow-1"]["depth_cm"]
    assert inside
    for row in inside:
        assert math.isnan(row.value) or abs(row.value - truth(row.start_s + 30.0)) < 0.5


@pytest.mark.parametrize("verb", I2C)
def test_a_fault_of_the_bus_is_felt_and_heals(i2c: Seen, verb: str) -> None:
    suffers(i2c, verb)


@pytest.mark.parametrize("verb", NETWORK)
def test_records_wait_while_the_way_is_broken_and_leave_after_it(network: Seen, verb: str) -> None:
    episode = network.during(verb)
    calm = [m.waiting for m in network.measures if -120 <= m.at_s - episode.begin_s <= 0]
    broken = [m.waiting for m in network.measures if 120 <= m.at_s - episode.begin_s <= 240]
    healed = [m.waiting for m in network.measures if 180 <= m.at_s - episode.end_s <= 300]
    assert max(broken) > max(calm), f"{verb} does nothing"
    assert healed and min(healed) <= min(calm) + 1, f"{verb} is still felt"


def test_no_fault_of_the_way_loses_or_disorders_a_record(network: Seen) -> None:
    assert network.outcome.verdict("the account closes").holds
    assert network.outcome.ran.settled_s < 600


def test_a_short_cut_within_a_long_one_does_not_end_it(tmp_path: Path) -> None:
    cuts = [fault("network_cut", "4m", "10m"), fault("network_cut", "6m", "2m")]
    seen = see(tmp_path, "snow-1", "", [LINE, *cuts], lasts="16m")
    away = seen.book.outages
    assert len(away) == 1
    assert away[0][0] < 300.0
    assert away[0][1] > 830.0


def test_a_reset_costs_the_connection_and_nothing_else(tmp_path: Path) -> None:
    seen = see(tmp_path, "snow-1", "", [LINE, fault("network_reset", "5m")], lasts="12m")
    lost = [line.text for line in seen.book.lines if line.text.startswith("connection lost")]
    assert len(lost) == 1
    assert seen.outcome.verdict("the account closes").holds


def test_a_connection_that_died_unheard_is_given_up_and_made_anew(tmp_path: Path) -> None:
    dead = fault("network_half_open", "5m", "5m")
    seen = see(tmp_path, "snow-1", "", [LINE, dead], lasts="15m")
    lost = [line for line in seen.book.lines if line.text.startswith("connection lost")]
    assert len(lost) == 1
    assert 300 < lost[0].at_s < 420  # a record without an answer tells, not the network
    assert seen.outcome.verdict("the account closes").holds


def test_a_broker_that_lets_nobody_in_is_felt_by_who_must_connect_anew(tmp_path: Path) -> None:
    refused = fault("broker_refuse_logins", "4m", "6m")
    calm = see(tmp_path, "snow-1", "", [LINE, refused], lasts="16m")
    assert not [out for out in calm.book.outages if out[0] > 1.0]
    reset = fault("network_reset", "5m")
    seen = see(tmp_path, "snow-1", "", [LINE, refused, reset], lasts="16m")
    away = max(end_s - begin_s for begin_s, end_s in seen.book.outages)
    assert away > 240
    assert seen.outcome.verdict("the account closes").holds


def test_a_stuck_pin_says_that_the_door_is_open(tmp_path: Path) -> None:
    stuck = fault("pin_stuck", "5m", "4m", target="gate", level=1)
    seen = see(tmp_path, "gate", "", [GATE, stuck], lasts="14m")
    states = [(alert.name, alert.state) for alert in seen.book.alerts]
    assert states == [("cabinet_door", "raised"), ("cabinet_door", "cleared")]
    assert 300 <= seen.book.alerts[0].at_s <= 310
    assert 540 <= seen.book.alerts[1].at_s <= 840


@pytest.mark.parametrize(
    "spoiling",
    [
        fault("pin_bounce", "1m", "8m", target="gate", edges=6, within_s=0.005),
        fault("pin_glitch", "1m", "8m", target="gate", per_s=2.0, width_s=0.0005),
    ],
)
def test_what_bounces_or_glitches_at_a_pin_is_no_open_door(tmp_path: Path, spoiling: str) -> None:
    seen = see(tmp_path, "gate", "", [GATE, spoiling], lasts="10m")
    assert not seen.book.alerts


def test_a_clock_that_somebody_sets_wrong_is_told_of_and_comes_right(tmp_path: Path) -> None:
    step = fault("clock_step", "5m", "5m", by_s=3600.0)
    seen = see(tmp_path, "snow-1", "depth_cm", [LINE, step], lasts="25m")
    told = [alert.state for alert in seen.book.alerts if alert.name == "clock_untrusted"]
    assert told and told[0] == "raised"
    # Nobody vouched for the wrong time, so no window is cut by it.
    assert all(0.0 <= row.start_s <= 3600.0 for row in seen.rows)
    calm = see(tmp_path, "snow-1", "depth_cm", [LINE], lasts="15m")
    assert not calm.book.alerts


def test_a_clock_without_network_time_says_how_wrong_it_may_be(tmp_path: Path) -> None:
    drift = fault("clock_unsynced", "5m", "20m", drift_ppm=100.0)
    seen = see(tmp_path, "snow-1", "depth_cm", [LINE, drift], lasts="30m")
    truth = seen.outcome.loaded.truths()["snow-1"]["depth_cm"]
    assert all(abs(row.value - truth((row.start_s + row.end_s) / 2)) < 0.5 for row in seen.rows)


def test_a_disk_that_fails_keeps_no_record_from_arriving(tmp_path: Path) -> None:
    try:
        FaultyDisk().close()
    except UnavailableError as exc:
        pytest.skip(str(exc))
    small = '[config.spool]\nmax_bytes = "2MiB"\n'  # and so is its log, which has room of its own
    faults, _ = one_after_another({verb: DISK[verb] for verb in ("disk_error", "disk_read_only")})
    faults.append(fault("disk_full", "24m", "45m"))
    seen = see(tmp_path, "snow-1", "", [small, LINE, *faults], lasts="75m")
    for verb in DISK:
        episode = seen.during(verb)
        told = [
            line.text
            for line in seen.book.lines
            if line.level in ("warning", "error")
            and episode.begin_s <= line.at_s <= episode.end_s + 60.0
        ]
        assert told, f"{verb} does nothing"
    assert seen.outcome.verdict("the account closes").holds


def test_every_verb_that_can_act_here_is_tried_here() -> None:
    here = {name for name, verb in VERBS.items() if "process" in verb.stages}
    assert here == {*SERIAL, *I2C, *NETWORK, *DISK, *ELSEWHERE}
