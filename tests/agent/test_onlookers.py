"""What is kept for those who look on: the newest readings, the bytes, the records that leave."""

from __future__ import annotations

import json
import threading
from typing import Any, cast

import pytest

from agent.departures import LINES_AT_ONCE, QUEUE_RECORDS, Departures
from agent.ear import CHUNKS, LISTEN_S, Ear
from agent.latest import Latest
from agent.outbox import Send
from agent.record import Parcel, batch, deflated
from agent.replies import Replies, _Read
from agent.snapshot import days_left
from drivers import load
from drivers.base import Fix, Reading, Trouble


def reading(at_s: float, value: float | None = 1.0, quantity: str = "depth_cm") -> Reading:
    return Reading(quantity, value, round(at_s * 1e9))


# The newest


def test_the_newest_reading_of_each_quantity_is_kept() -> None:
    latest = Latest()
    latest.hear([reading(1.0, 5.0), reading(1.0, 7.0, "distance_cm")])
    latest.hear([reading(2.0, None)])
    assert latest.readings == {
        "depth_cm": reading(2.0, None),
        "distance_cm": reading(1.0, 7.0, "distance_cm"),
    }


def test_a_rate_is_told_once_it_is_known_and_falls_when_nothing_comes() -> None:
    latest = Latest()
    for tenth in range(300):
        latest.hear([reading(1 + tenth / 10)])
    assert latest.rate_hz(10_999_999_999) is None
    assert latest.rate_hz(31_000_000_000) == pytest.approx(10.0, abs=0.1)
    assert latest.rate_hz(61_000_000_000) == pytest.approx(5.0, abs=0.1)


def test_what_has_no_value_counts_for_no_rate() -> None:
    latest = Latest()
    for second in range(30):
        latest.hear([reading(1.0 + second, None)])
    assert latest.rate_hz(31_000_000_000) == 0.0


def test_troubles_are_no_readings() -> None:
    latest = Latest()
    latest.hear([Trouble("bus_error", 10**9)])
    assert latest.readings == {}
    assert latest.heard == 0


def test_a_place_is_kept_too() -> None:
    latest = Latest()
    fix = Fix(43.06, 141.35, None, None, None, 10**9)
    latest.hear([fix])
    assert latest.fix == fix


# The bytes


class Port:
    def __init__(self) -> None:
        self.reads = 0

    def read(self, timeout_s: float) -> bytes:
        self.reads += 1
        return b"\x01\x02" if timeout_s == 0.0 else b""

    def write(self, data: bytes) -> None:
        pass


class Clock:
    now_ns = 10**9

    def __call__(self) -> int:
        return self.now_ns


def test_nothing_is_kept_until_somebody_listens_and_after() -> None:
    clock, port = Clock(), Port()
    driver = load("maxbotix-hrxl")
    options = driver.Options.model_validate({"mount_height_cm": 350.0})
    ear = Ear(port, driver.spec, options, clock)
    ear.wire.read(0.0)
    assert ear.heard() == ([], 0)
    ear.listen()
    for _ in range(CHUNKS + 5):
        ear.wire.read(0.0)
    chunks, last = ear.heard()
    assert len(chunks) == CHUNKS
    assert chunks[0] == (10**9, {"rx": "0102"})
    ear.wire.write(b"?")
    assert ear.heard(last)[0] == [(10**9, {"tx": "3f"})]
    clock.now_ns += round((LISTEN_S + 1) * 1e9)
    ear.wire.read(0.0)
    assert ear.heard()[0] == []
    reads = port.reads
    ear.wire.read(0.0)
    assert port.reads == reads + 1


class Asked:
    """The gateway's replies, as far as one who reads a sensor needs them."""

    def known(self, _name: str) -> dict[str, Any]:
        return {"readings": {}}

    def timed(self, ear: Ear, after: int, until_ns: int) -> tuple[list[dict[str, Any]], int]:
        chunks, last = ear.heard(after, until_ns)
        return [entry for _, entry in chunks], last


class Walk:
    """A sensor that is asked and answers, a step at a time, and somebody who reads it."""

    def __init__(self) -> None:
        self.clock = Clock()
        driver = load("maxbotix-hrxl")
        options = driver.Options.model_validate({"mount_height_cm": 350.0})
        self.ear = Ear(Port(), driver.spec, options, self.clock)
        self.latest = Latest()
        self.began_ns = 0

    def asks(self) -> None:
        self.clock.now_ns += 10**6
        self.began_ns = self.clock.now_ns
        self.ear.wire.write(b"?")

    def answers(self) -> None:
        self.clock.now_ns += 10**6
        self.ear.wire.read(0.0)

    def is_handed_on(self, began_ns: int, ended_ns: int) -> None:
        self.latest.hear([Reading("depth_cm", 1.0, began_ns)], (began_ns, ended_ns))

    def read(self) -> _Read:
        asked = cast(Replies, Asked())
        stream = _Read(asked, {"id": "snow-1"}, self.latest, self.ear, 2)
        assert stream.lines(0.0) == [{"sensor": {"id": "snow-1"}}]
        return stream


def test_a_reading_is_told_with_its_own_bytes_and_not_the_next_ones() -> None:
    walk = Walk()
    stream = walk.read()
    for number in range(2):
        if not number:
            walk.asks()
        began_ns = walk.began_ns
        walk.answers()
        ended_ns = walk.clock.now_ns
        walk.asks()  # what it brought is handed on up to a second later
        assert stream.lines(0.0) == []
        walk.is_handed_on(began_ns, ended_ns)
        (line,) = stream.lines(0.0)
        assert line["raw"] == [{"tx": "3f"}, {"rx": "0102"}]
    assert stream.is_over


def test_a_reading_whose_bytes_were_heard_in_part_only_is_not_told() -> None:
    walk = Walk()
    walk.asks()
    began_ns = walk.began_ns
    stream = walk.read()
    walk.answers()
    walk.is_handed_on(began_ns, walk.clock.now_ns)
    assert stream.lines(0.0) == []
    walk.asks()
    walk.answers()
    walk.is_handed_on(walk.began_ns, walk.clock.now_ns)
    (line,) = stream.lines(0.0)
    assert line["raw"] == [{"tx": "3f"}, {"rx": "0102"}]


def test_nobody_listens_in_on_a_sensor_of_people() -> None:
    driver = load("hlk-ld2450")
    with pytest.raises(ValueError, match="nobody listens in"):
        Ear(Port(), driver.spec, driver.Options(), Clock())


# The records that leave


def send(first: int, count: int = 1, *, is_packed: bool = False) -> Send:
    bodies = tuple(json.dumps({"stream": "snow-1", "seq": first + n}) for n in range(count))
    payload = deflated(batch("g", "r", "snow", "c", bodies)) if is_packed else None
    ids = tuple(range(first, first + count))
    parcel = Parcel("r", "snow", "c", ids, () if is_packed else bodies, (), payload, count)
    return Send(first, "live", parcel)


def numbers(lines: list[dict[str, object]]) -> list[int]:
    found = []
    for line in lines:
        match line:
            case {"record": {"seq": int(seq)}}:
                found.append(seq)
    return found


def test_what_leaves_is_told_packed_or_not_and_calls_for_it() -> None:
    woken = threading.Event()
    departures = Departures(woken.set)
    departures.left(send(1))
    assert not woken.is_set()
    stream = departures.stream()
    departures.left(send(2))
    assert woken.is_set()
    assert numbers(stream.lines(0.0)) == [2]
    departures.left(send(3, 3, is_packed=True))
    assert stream.lines(0.1) == []  # not so soon
    assert numbers(stream.lines(1.0)) == [3, 4, 5]


def test_a_backlog_is_told_at_a_pace_and_what_is_too_much_is_counted() -> None:
    departures = Departures(lambda: None)
    stream = departures.stream()
    for first in range(1, 3 * QUEUE_RECORDS, 100):
        departures.left(send(first, 100))
    lines = stream.lines(0.0)
    assert lines[0] == {"dropped": 2 * QUEUE_RECORDS}
    assert len(lines) == LINES_AT_ONCE
    told, now_s = numbers(lines), 0.0
    while stream.next_s() < float("inf"):
        now_s = stream.next_s()
        told += numbers(stream.lines(now_s))
    assert told == list(range(2 * QUEUE_RECORDS + 1, 3 * QUEUE_RECORDS + 1))
    assert now_s >= (QUEUE_RECORDS / LINES_AT_ONCE - 1) * 0.25


def test_who_has_gone_is_told_nothing() -> None:
    woken = threading.Event()
    departures = Departures(woken.set)
    departures.stream().close()
    departures.left(send(1))
    assert not woken.is_set()


def test_the_days_that_an_outage_may_last_follow_from_room_and_rate() -> None:
    assert days_left(1000, 10.0, 20.0) == 5.0
    assert days_left(-1, 10.0, 20.0) == 0.0
