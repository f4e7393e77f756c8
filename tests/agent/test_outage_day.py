"""A day without a network and with too small a spool: what is given up is the oldest, and named.

Real spool, real outbox; the broker and the time are the test's. Nothing sleeps.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Stamp
from agent.outbox import SUCCESS, Outbox, Send
from agent.record import GATEWAY_STREAM, Entry, Record, batch, deflated
from agent.spool import Spool
from hil.city.account import Account
from hil.city.payloads import unpack

GATEWAY = "chikaho-03"
CONFIG = "9f2c1ab04d77"
MAX_BYTES = 2 * 2**20  # the least that is allowed
WINDOW_S = 60
WINDOWS = 1440  # a day
BATCH_RECORDS = 20
RTT_S = 0.05
STREAMS = {
    "hall-1": "people",
    "hall-2": "people",
    "road-1": "road",
    "road-2": "road",
    "snow-1": "snow",
    "snow-2": "snow",
    "air-1": "weather",
    "box-1": "cabinet",
}
NOISE_BYTES = 400  # in each body, and no compression makes them fewer
MIDNIGHT_NS = 1_800_000_000 * 10**9

Key = tuple[str, str, int]  # run, stream, number


def window(stream: str, minute: int, noise: bytes) -> Record:
    start_ns = minute * WINDOW_S * 10**9
    return Record(
        stream=stream,
        kind=STREAMS[stream],
        start_ns=MIDNIGHT_NS + start_ns,
        end_ns=MIDNIGHT_NS + start_ns + WINDOW_S * 10**9,
        boot_start_ns=start_ns,
        boot_end_ns=start_ns + WINDOW_S * 10**9,
        clock=Stamp("synced", 0.02),
        quality={"flag": "good", "n": 60, "expected": 60},
        values={"depth_cm": {"mean": 42.1, "sd": 0.2, "n": 60}, "noise": noise.hex()},
    )


def start_record(spool: Spool, minute: int) -> Record:
    at_ns = minute * WINDOW_S * 10**9
    previous = None if spool.previous is None else spool.previous.json()
    return Record(
        stream=GATEWAY_STREAM,
        kind="gateway",
        start_ns=MIDNIGHT_NS + at_ns,
        end_ns=MIDNIGHT_NS + at_ns,
        boot_start_ns=at_ns,
        boot_end_ns=at_ns,
        clock=Stamp("synced", 0.02),
        quality={"flag": "good"},
        values={"event": "start", "version": "0", "previous": previous},
    )


def footprint_bytes(path: Path) -> int:
    files = (path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm"))
    return sum(file.stat().st_size for file in files if file.exists())


def put_in_order(spool: Spool) -> None:
    """Do what the uplink does to the spool between two windows without a connection."""
    if spool.is_loose:
        spool.pack()


def payload_of(send: Send) -> bytes:
    parcel = send.parcel
    if parcel.payload is not None:
        return parcel.payload
    return deflated(batch(GATEWAY, parcel.run, parcel.kind, parcel.config_id, parcel.bodies))


@dataclass
class Gateway:
    """A spool and those who write into it, minute by minute."""

    path: Path
    noise_bytes: int
    dice: random.Random = field(default_factory=lambda: random.Random(20270115))
    minute: int = 0
    committed: list[Key] = field(default_factory=list)  # the windows, oldest first
    produced: dict[str, dict[str, int]] = field(default_factory=dict)  # by run
    largest_bytes: int = 0
    evicted: int = 0  # in all runs

    def begin(self, run: str) -> None:
        self.spool = Spool(
            self.path,
            max_bytes=MAX_BYTES,
            run=run,
            boot_id="boot-1",
            gateway=GATEWAY,
            pack_records=BATCH_RECORDS,
        )
        self._commit([start_record(self.spool, self.minute)])

    def measure(self) -> list[Entry]:
        """Let a minute pass; return what was committed at its end."""
        records = [
            window(stream, self.minute, self.dice.randbytes(self.noise_bytes)) for stream in STREAMS
        ]
        self.minute += 1
        return self._commit(records)

    def end(self, *, clean: bool) -> None:
        self.evicted += self.spool.evicted
        self.spool.close(clean=clean)

    def check_size(self) -> None:
        self.largest_bytes = max(self.largest_bytes, footprint_bytes(self.path))
        assert self.largest_bytes <= MAX_BYTES

    def _commit(self, records: list[Record]) -> list[Entry]:
        entries = self.spool.append(records, CONFIG)
        self.check_size()
        self.committed += [
            (entry.run, entry.stream, entry.seq)
            for entry in entries
            if entry.stream != GATEWAY_STREAM
        ]
        self.produced[self.spool.run] = self.spool.produced()
        return entries


@dataclass
class City:
    """A broker and a city behind it: what came, as the account and as plain sets."""

    account: Account = field(default_factory=Account)
    delivered: set[Key] = field(default_factory=set)
    in_gaps: set[Key] = field(default_factory=set)
    bodies: dict[Key, dict[str, Any]] = field(default_factory=dict)

    def take(self, send: Send) -> None:
        payload = payload_of(send)
        records = self.account.take(f"yukimi/v1/{GATEWAY}/{send.topic}", payload)
        run = unpack(payload)["run"]
        for record in records:
            numbers = range(record.get("first", record["seq"]), record["seq"] + 1)
            keys = {(run, record["stream"], number) for number in numbers}
            if "gap" in record:
                assert record["gap"] == "spool_full"
                self.in_gaps |= keys
                continue
            (key,) = keys
            assert self.bodies.setdefault(key, record) == record
            self.delivered |= keys


@dataclass
class Line:
    """The way from a gateway to the city, in simulated time; it breaks at random."""

    gateway: Gateway
    city: City
    share_broken: float = 0.0  # of the round trips
    is_hasty: bool = False  # what was sent is taken for delivered
    now_s: float = 0.0
    drops: int = 0

    def __post_init__(self) -> None:
        self.dice = random.Random(1)
        self.box = Outbox(
            inflight=4,
            batch_records=BATCH_RECORDS,
            backlog_bytes_per_s=16384,
            require_subscriber=True,
        )
        self._connect()

    def carry(self, *, until_s: float) -> None:
        """Let time pass, with all that the outbox sends in it."""
        while self.now_s < until_s:
            sent = list(self._sends())
            if sent and self.dice.random() < self.share_broken:
                self._break(sent)
            elif sent:
                self.now_s += RTT_S
                for send in sent:
                    self.city.take(send)
                self._answer(sent)
            else:
                left_s = until_s - self.now_s
                self.now_s += min(left_s, max(self.box.wait_s(self.now_s), 0.001))

    def drain(self) -> None:
        """Let time pass until the spool is empty."""
        for _ in range(WINDOWS):
            if not self.gateway.spool.waiting_by_run():
                return
            self.carry(until_s=self.now_s + WINDOW_S)
        pytest.fail("the spool is never empty")

    def _connect(self) -> None:
        self.box.connected([], self.now_s, last_id=self.gateway.spool.last_id)

    def _sends(self) -> Iterator[Send]:
        while True:
            while (request := self.box.wants_page(self.now_s)) is not None:
                page = self.gateway.spool.peek(
                    after_id=request.after_id,
                    up_to_id=request.up_to_id,
                    limit=request.limit,
                    parcel_records=request.parcel_records,
                    without_kinds=request.without_kinds,
                    without_ids=request.without_ids,
                )
                self.box.take_page(page)
            send = self.box.next(self.now_s)
            if send is None:
                return
            self.box.sent(send, len(payload_of(send)), self.now_s)
            yield send

    def _answer(self, sent: list[Send]) -> None:
        for send in sent:
            answer = self.box.answered(send.token, SUCCESS, self.now_s)
            assert answer is not None
            self.gateway.spool.acknowledge(answer.done)

    def _break(self, sent: list[Send]) -> None:
        """Let some arrive, the answers to some of these come back, and no more."""
        self.drops += 1
        arrived = sent[: self.dice.randint(0, len(sent))]
        for send in arrived:
            self.city.take(send)
        self._answer(sent if self.is_hasty else arrived[: self.dice.randint(0, len(arrived))])
        self.box.lost()
        self.now_s += self.dice.uniform(0.1, 90.0)
        self._connect()


def a_day_alone(path: Path, noise_bytes: int) -> Gateway:
    """A day without a network, and a power cut at noon."""
    gateway = Gateway(path, noise_bytes)
    gateway.begin("morning")
    for minute in range(WINDOWS):
        if minute == WINDOWS // 2:
            gateway.end(clean=False)
            gateway.begin("evening")
        gateway.measure()
        put_in_order(gateway.spool)
        gateway.check_size()
    return gateway


def close_account(gateway: Gateway, city: City) -> None:
    for run, produced in gateway.produced.items():
        city.account.tell_produced(GATEWAY, run, produced, is_final=True)
    report = city.account.report()
    assert report.keeps_the_contract, "\n".join(report.lines())
    assert report.produced == len(gateway.committed) + len(gateway.produced)
    for run in gateway.produced:
        assert (run, GATEWAY_STREAM, 1) in city.delivered


@pytest.mark.parametrize("noise_bytes", [0, NOISE_BYTES])
def test_a_day_in_a_small_spool_loses_the_oldest_and_names_each(
    tmp_path: Path, noise_bytes: int
) -> None:
    gateway, city = a_day_alone(tmp_path / "spool.db", noise_bytes), City()
    assert len(gateway.committed) == len(STREAMS) * WINDOWS
    Line(gateway, city).drain()
    gateway.end(clean=True)
    close_account(gateway, city)

    windows = {key for key in city.delivered if key[1] != GATEWAY_STREAM}
    assert city.in_gaps.isdisjoint(city.delivered)
    assert city.in_gaps | windows == set(gateway.committed)
    for run, stream in {key[:2] for key in city.in_gaps}:
        own = [key for key in gateway.committed if key[:2] == (run, stream)]
        lost = city.in_gaps & set(own)
        assert lost == set(own[: len(lost)])  # the oldest
    assert gateway.evicted == len(city.in_gaps)
    assert city.account.report().duplicates == 0
    if noise_bytes:
        assert gateway.evicted > 0
        # Nor was more given up than had to be: bodies alone, in hexadecimal, fill a third.
        assert len(windows) * 2 * noise_bytes > MAX_BYTES / 3


def test_after_a_day_alone_everything_arrives_over_a_bad_line_while_more_is_measured(
    tmp_path: Path,
) -> None:
    gateway, city = a_day_alone(tmp_path / "spool.db", NOISE_BYTES), City()
    line = Line(gateway, city, share_broken=0.5)
    for minute in range(30):
        entries = gateway.measure()
        line.box.committed((entry, line.now_s) for entry in entries)
        line.carry(until_s=(minute + 1) * WINDOW_S)
        gateway.check_size()
    line.drain()
    gateway.end(clean=True)
    close_account(gateway, city)

    # What is given up while it is on its way may arrive and be in a gap.
    windows = {key for key in city.delivered if key[1] != GATEWAY_STREAM}
    assert city.in_gaps | windows == set(gateway.committed)
    assert line.drops > 10
    assert city.account.report().duplicates > 0


def test_what_the_day_left_is_still_there_after_one_more_start(tmp_path: Path) -> None:
    gateway, city = a_day_alone(tmp_path / "spool.db", NOISE_BYTES), City()
    gateway.end(clean=False)
    gateway.begin("night")
    Line(gateway, city, share_broken=0.1).drain()
    gateway.end(clean=True)
    close_account(gateway, city)
    assert {run for run, _, _ in city.delivered} == {"morning", "evening", "night"}


def test_the_same_line_loses_what_is_taken_for_delivered_too_early(tmp_path: Path) -> None:
    gateway, city = a_day_alone(tmp_path / "spool.db", NOISE_BYTES), City()
    Line(gateway, city, share_broken=0.5, is_hasty=True).drain()
    gateway.end(clean=True)
    for run, produced in gateway.produced.items():
        city.account.tell_produced(GATEWAY, run, produced, is_final=True)
    assert city.account.report().missing > 0
