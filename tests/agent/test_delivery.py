"""Every number arrives or is in a gap, whatever happens in between: the real uplink, outbox and
spool between a pipeline, a disk, brokers and a city that do anything, in any order."""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import random
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import pytest
import structlog
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.clock import Stamp
from agent.delivery import Delivery
from agent.fresh import Fresh
from agent.health import UplinkHealth
from agent.outbox import HOLD_S, Outbox, Send
from agent.receipts import Receipts
from agent.record import ALERTS_STREAM, AlertRecord, Entry, Lost, Record
from agent.shelf import Shelf
from agent.spool import Spool, SpoolError
from agent.uplink import Uplink
from config.model import UplinkTable
from hil.world import (
    NO_MATCHING_SUBSCRIBERS,
    PAYLOAD_FORMAT_INVALID,
    SUCCESS,
    Flight,
    Key,
    World,
)

GATEWAY = "gw-1"
KINDS = {"snow-1": "snow", "snow-2": "snow", "door-1": "people", "gateway": "gateway"}
STREAMS = st.sampled_from(sorted(KINDS))
TOPICS = st.sampled_from(
    [f"{lane}/{kind}" for lane in ("alert", "live", "backlog") for kind in ("snow", "gateway")]
    + ["live/people", "backlog/people"]
)
WINDOW_S = 60
EPOCH_S = 1_800_000_000
RECEIPT_TIMEOUT_S = 20.0
ROOMY_BYTES, TIGHT_BYTES = 2**24, 2**17  # the tight one holds a few dozen large records
BIG_CHARACTERS = 3000
NOT_AUTHORISED, QUOTA_EXCEEDED = 0x87, 0x97
PACKET_TOO_LARGE, SESSION_TAKEN_OVER = 0x95, 0x8E
BROKERS = ("mqtt://a.test", "mqtt://b.test")
FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
MANY_ALERTS = 500
SMALL = {"PAGE_ENTRIES": 8, "LIVE_LIMIT": 6, "UNRECEIPTED_LIMIT": 6}


class Disk:
    """Fails when it is told to; opens connections that ask it first."""

    def __init__(self) -> None:
        self.good_statements: int | None = None  # then it fails, until mended
        self.is_full = False

    def connect(self, path: Path | str) -> sqlite3.Connection:
        if path == ":memory:":
            return sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.ask("open")
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                disk.ask(sql)
                return super().execute(sql, *args)

            def executemany(self, sql: str, *args: Any) -> sqlite3.Cursor:
                disk.ask(sql)
                return super().executemany(sql, *args)

        return sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=Connection
        )

    def ask(self, sql: str) -> None:
        if self.is_full and sql.startswith("BEGIN"):
            raise sqlite3.OperationalError("database or disk is full")
        if self.good_statements is None or sql == "ROLLBACK":
            return
        if self.good_statements == 0:
            raise sqlite3.OperationalError("disk I/O error")
        self.good_statements -= 1


class NoWait(queue.Queue[Any]):
    """A queue that lets nobody wait: time is what the test says."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block=False)


@dataclass(frozen=True)
class Truth:
    """What was committed under a number."""

    is_poisoned: bool = False
    is_big: bool = False
    lost: str = ""  # given up before it was committed


class Watch:
    """Sees all that the outbox is told and says, and knows what it must choose."""

    def __init__(self, outbox: Outbox, *, all_alerts: bool) -> None:
        self.outbox = outbox
        self._all_alerts = all_alerts
        self.newest: dict[int, tuple[str, float]] = {}  # id -> topic, due: to go before backlog
        self.alerts: dict[int, str] = {}  # id -> topic
        self.flights: dict[int, Send] = {}
        self.holds: dict[str, float] = {}
        self.proven: set[str] = set()
        self.now_s = 0.0
        for name in ("connected", "lost", "committed", "sent", "answered", "too_large"):
            setattr(outbox, name, self._around(getattr(self, name), getattr(outbox, name)))

    def _around(self, see: Any, do: Any) -> Any:
        def both(*args: Any, **options: Any) -> Any:
            if args and not isinstance(args[0], int | Send):
                args = (list(args[0]), *args[1:])  # it may be a generator
            see(*args, **options)
            return do(*args, **options)

        return both

    def connected(self, newest: list[tuple[Entry, float]], now_s: float, **_: Any) -> None:
        self.lost()
        self.now_s = now_s
        self.alerts = dict(self._alerts_there())
        self.newest = {
            entry.id: (f"live/{entry.kind}", due_s)
            for entry, due_s in newest
            if entry.id > self.outbox._went_live.get(entry.stream, 0)
            and entry.id not in self.outbox._receipts.ids
        }

    def _alerts_there(self) -> Iterable[tuple[int, str]]:
        return ()

    def lost(self) -> None:
        self.flights, self.holds, self.proven = {}, {}, set()
        self.newest, self.alerts = {}, {}

    def committed(self, entries: list[tuple[Entry, float]]) -> None:
        if not self.outbox._connected:
            return
        if self.outbox._waiting("live/") + len(entries) > SMALL["LIVE_LIMIT"]:
            self.newest.clear()  # they may wait as backlog
        for entry, _ in entries:
            if entry.stream == ALERTS_STREAM and entry.id > self.outbox._horizon:
                self.alerts[entry.id] = f"alert/{entry.kind}"

    def sent(self, send: Send, size_bytes: int, now_s: float) -> None:
        self.now_s = now_s
        for row_id in send.parcel.ids:
            self.newest.pop(row_id, None)
            self.alerts.pop(row_id, None)
        if send.lane != "alert" and self._all_alerts:
            late = [topic for topic in self.alerts.values() if self._open(topic)]
            assert not late, f"an alert could have gone before {send.topic}"
        if send.lane == "backlog":
            for topic, items in self.outbox._prompt.items():
                due = [item for item in items if item.due_s <= now_s]
                assert not due or not self._open(topic), "the past went before the present"
            for topic, due_s in self.newest.values():
                assert due_s > now_s or not self._open(topic), "backlog before a newest record"
        self.flights[send.token] = send

    def too_large(self, send: Send) -> None:
        if send.parcel.records == 1:  # given up
            self.newest.pop(send.parcel.ids[0], None)
            self.alerts.pop(send.parcel.ids[0], None)

    def answered(self, token: int, code: int, now_s: float) -> None:
        send = self.flights.pop(token, None)
        if send is None:
            return
        if code == SUCCESS:
            self.proven.add(send.topic)
            self.holds.pop(send.topic, None)
        elif code != PAYLOAD_FORMAT_INVALID:
            self.proven.discard(send.topic)
            self.holds[send.topic] = now_s + HOLD_S
            if send.lane == "alert":
                self.alerts |= dict.fromkeys(send.parcel.ids, send.topic)

    def _open(self, topic: str) -> bool:
        if self.now_s < self.holds.get(topic, 0.0):
            return False
        return topic in self.proven or all(f.topic != topic for f in self.flights.values())


class DeliveryMachine(RuleBasedStateMachine):
    """A gateway through any number of lives."""

    confirm: ClassVar[str]

    @initialize(
        inflight=st.integers(1, 5),
        batch=st.integers(1, 6),
        rate=st.sampled_from([400, 10**6]),
        offset_s=st.sampled_from([0.0, 6.1]),
        is_tight=st.booleans(),
        alert_limit=st.sampled_from([3, MANY_ALERTS]),
        compression=st.sampled_from(["none", "backlog", "all"]),
    )
    def begin(
        self,
        inflight: int,
        batch: int,
        rate: int,
        offset_s: float,
        is_tight: bool,
        alert_limit: int,
        compression: str,
    ) -> None:
        self.undo = contextlib.ExitStack()
        self.disk = Disk()
        self.world = World(f"yukimi/v1/{GATEWAY}")
        self.world.inflight = inflight
        self.world.on_send = self._check_order
        self.alert_limit = alert_limit
        patch = mock.patch
        for each in (
            patch.multiple("agent.outbox", ALERT_LIMIT=alert_limit, **SMALL),
            patch("agent.delivery.ALERT_LIMIT", alert_limit),
            patch("agent.uplink.SPOOL_RETRY_S", 0.0),
            patch("agent.delivery.SPOOL_RETRY_S", 0.0),
            patch("agent.uplink.random.SystemRandom", lambda: random.Random(1)),
            patch("agent.link.BoundedClient", lambda *_, **__: self.world.new_client()),
            patch("agent.uplink.answers", self.world.answers),
            patch("agent.spoolfile.connect", self.disk.connect),
            patch("agent.shelf.PACK_LOOK", 50),
            patch("agent.spool.PAGE_BYTES", 8192),
        ):
            self.undo.enter_context(each)
        self.undo.callback(structlog.configure, **structlog.get_config())
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        folder = self.undo.enter_context(tempfile.TemporaryDirectory(dir=FOLDER))
        self.file = Path(folder) / "spool.db"
        self.inflight, self.batch, self.rate, self.offset_s = inflight, batch, rate, offset_s
        self.max_bytes = TIGHT_BYTES if is_tight else ROOMY_BYTES
        self.compression = compression
        self.now_s = 1000.0
        self.utc_moved_s = 0.0
        self.boot = self.runs = self.count = 0
        self.is_clock_known = True
        self.is_lazy = self.is_broken = False
        self.was_small = False  # a broker once took small messages only
        self.truth: dict[Key, Truth] = {}
        self.forgotten: set[Key] = set()  # were in memory only, when the power went
        self.pending: list[tuple[Record | AlertRecord | Lost, Truth]] = []
        self.ever_sent: set[Key] = set()
        self._live()

    def _live(self) -> None:
        """Begin a life, as the daemon does."""
        self.runs += 1
        self.run_name = f"run-{self.runs}"
        self.unseen: set[Key] = set()  # in the file, while the spool lives in memory
        self.produced: Counter[str] = Counter()
        self.safe: Counter[str] = Counter()  # as much of it as is on the disk
        self.untold: list[list[Entry]] = []
        self.evicted_told = 0
        self.in_order = True
        self.last_first: dict[tuple[str, str, str], int] = {}
        self.spool = Spool(
            self.file,
            max_bytes=self.max_bytes,
            run=self.run_name,
            boot_id=f"boot-{self.boot}",
            gateway=GATEWAY,
            pack_records=min(5, self.batch),
        )
        self.spool.reject = partial(self._reject, self.spool.reject)  # type: ignore[method-assign]
        if self.spool.is_volatile:
            self._look_at_the_file()
        table = {
            "brokers": list(BROKERS),
            "confirm": self.confirm,
            "inflight": self.inflight,
            "batch_records": self.batch,
            "backlog_bytes_per_s": self.rate,
            "receipt_timeout_s": RECEIPT_TIMEOUT_S,
            "compression": self.compression,
        }
        self.uplink = Uplink(
            UplinkTable.model_validate(table),
            gateway_id=GATEWAY,
            spool=self.spool,
            fresh=Fresh(self.offset_s, {name: WINDOW_S for name in KINDS if name != "gateway"}),
            health=UplinkHealth(),
            birth=lambda: {"state": "online"},
            health_message=dict,
            find_file=Path,
            utc_ns=self._utc_ns,
            boot_s=lambda: self.now_s,
        )
        self.uplink._events = NoWait(maxsize=10_000)
        self.watch = Watch(self.uplink._outbox, all_alerts=self.alert_limit == MANY_ALERTS)
        self.watch._alerts_there = self._alerts_there
        self._release_held()

    def _reject(self, reject: Callable[[int], str | None], row_id: int) -> str | None:
        try:
            return reject(row_id)
        except SpoolError:
            self.in_order = False  # it waits on, others pass it, and the broker may yet take it
            raise

    def _release_held(self) -> None:
        with contextlib.suppress(SpoolError):
            for boot in self.spool.held_boots():
                if boot.boot_id != f"boot-{self.boot}":
                    self.spool.correct(
                        boot.boot_id,
                        lambda boot_ns: boot_ns + EPOCH_S * 10**9,
                        lambda _boot_ns: Stamp("estimated", None),
                    )

    def _utc_ns(self) -> int:
        return round((EPOCH_S + self.now_s + self.utc_moved_s) * 1e9)

    def _go(self) -> None:
        if not self.is_lazy:
            self.step()
            self.step()

    def teardown(self) -> None:
        if not hasattr(self, "spool"):
            return
        with self.undo:
            try:
                if not self.is_broken:
                    self._mend_everything()
                    self._all_is_accounted_for()
            finally:
                self.spool._db.close()

    # What the pipeline does

    @rule(
        streams=st.lists(STREAMS, min_size=1, max_size=8),
        ago_s=st.sampled_from([0.0, 1.0, 300.0]),
        odd=st.sampled_from(["", "", "", "poison", "big"]),
        told=st.booleans(),
    )
    def measure(self, streams: list[str], ago_s: float, odd: str, told: bool) -> None:
        end_ns, boot_ns = self._utc_ns() - round(ago_s * 1e9), round((self.now_s - ago_s) * 1e9)
        times = (end_ns - 60 * 10**9, end_ns, boot_ns - 60 * 10**9, boot_ns)
        for stream in streams:
            self.count += 1
            values: dict[str, object] = {"count": self.count}
            if odd == "poison" and self.count % 2:
                values["poison"] = True
            if odd == "big":
                values["pad"] = _noise(self.count)
            item = Record(stream, KINDS[stream], *times, self._stamp(), {"flag": "good"}, values)
            self.pending.append((item, Truth("poison" in values, odd == "big")))
        self._commit(told=told)
        self._go()

    @rule(
        count=st.integers(1, 5),
        kind=st.sampled_from(["snow", "gateway"]),
        poisoned=st.integers(0, 5),
        told=st.booleans(),
    )
    def raise_alerts(self, count: int, kind: str, poisoned: int, told: bool) -> None:
        for number in range(count):
            self.count += 1
            is_poisoned = number + 1 == poisoned
            values: dict[str, object] = {"poison": True} if is_poisoned else {}
            sensor, now_ns = ("snow-1" if kind == "snow" else None), self._utc_ns()
            what = (sensor, kind, "x", f"{self.count:08x}", "raised", "info", now_ns, now_ns)
            item = AlertRecord(*what, self._stamp(), {}, values)
            self.pending.append((item, Truth(is_poisoned)))
        self._commit(told=told)
        self._go()

    @rule(stream=STREAMS, count=st.integers(1, 3))
    def lose_in_memory(self, stream: str, count: int) -> None:
        item = Lost(stream, KINDS[stream], count, "disk_failed", None, None)
        self.pending.append((item, Truth(lost="disk_failed")))
        self._commit(told=True)
        self._go()

    @precondition(lambda self: self.pending)
    @rule()
    def try_to_commit_again(self) -> None:
        self._commit(told=True)
        self._go()

    def _stamp(self) -> Stamp:
        return Stamp("synced", 0.1) if self.is_clock_known else Stamp("estimated", None)

    def _commit(self, *, told: bool) -> None:
        items = [item for item, _ in self.pending]
        try:
            entries = self.spool.append(items, "c1", hold=not self.is_clock_known)
        except SpoolError:
            return
        for item, truth in self.pending:
            for _ in range(item.count if isinstance(item, Lost) else 1):
                self.produced[item.stream] += 1
                self.truth[self.run_name, item.stream, self.produced[item.stream]] = truth
        if not self.spool.is_volatile:
            self.safe = self.produced.copy()
        if len(entries) < len(items):
            self.in_order = False  # some come later
        self.pending = []
        self.untold.append(entries)
        if told:
            self._tell()

    def _tell(self) -> None:
        for entries in self.untold:
            self.uplink.committed(entries)
        self.untold = []
        if self.spool.evicted > self.evicted_told:
            self.evicted_told = self.spool.evicted
            self.uplink.rewind()

    @precondition(lambda self: self.untold)
    @rule(is_missed=st.booleans())
    def tell(self, is_missed: bool) -> None:
        """The pipeline comes to tell of what it committed, or the uplink's queue is full."""
        if is_missed:
            self.untold = []
            self.uplink._missed.set()
            self.in_order = False  # they may overtake what is not due yet
        self._tell()
        self._go()

    # Time, the disk and the power

    @rule(by_s=st.sampled_from([0.1, 1.0, 6.5, 12.0, 29.9, 31.0, 700.0]))
    def wait(self, by_s: float) -> None:
        self.now_s += by_s
        self._go()

    @rule(by_s=st.sampled_from([-3600.0, -10.0, 10.0, 3600.0]))
    def step_the_clock(self, by_s: float) -> None:
        self.utc_moved_s += by_s

    @precondition(lambda self: not self.is_clock_known)
    @rule()
    def learn_the_time(self) -> None:
        def utc_ns(boot_ns: int) -> int:
            return boot_ns + round((EPOCH_S + self.utc_moved_s) * 1e9)

        try:
            count = self.spool.correct(
                f"boot-{self.boot}", utc_ns, lambda _: Stamp("corrected", 1.0)
            )
        except SpoolError:
            return
        self.is_clock_known = True
        if count:
            self.in_order = False
            self._tell()
            self.uplink.rewind()
        self._go()

    @rule(is_lazy=st.booleans())
    def let_events_pile_up(self, is_lazy: bool) -> None:
        self.is_lazy = is_lazy
        self._go()

    @rule()
    def step(self) -> None:
        with self._noting_failure():
            self.uplink.step()

    @contextlib.contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except AssertionError:
            self.is_broken = True  # nothing can be said of what comes after it
            raise

    @rule(after=st.none() | st.none() | st.none() | st.integers(0, 12))
    def disk_fails(self, after: int | None) -> None:
        self.disk.good_statements = after
        self._go()

    @rule(is_full=st.booleans())
    def disk_is_full(self, is_full: bool) -> None:
        self.disk.is_full = is_full
        self._go()

    @rule()
    def disk_is_given_up(self) -> None:
        if not self.spool.is_volatile:
            self._look_at_the_file()
            self.in_order = False
            self.spool.turn_volatile(OSError("gone"))
            self.watch.alerts.clear()  # those on the disk cannot go
        self._go()

    @precondition(lambda self: self.spool.is_volatile)
    @rule()
    def disk_is_taken_again(self) -> None:
        self._reopen()
        self._go()

    def _reopen(self) -> None:
        if self.spool.reopen():
            self.unseen = set()
            self.safe = self.produced.copy()
            self.in_order = False
            self._release_held()
            self._tell()
            self.uplink.rewind()

    @rule()
    def settle(self) -> None:
        with contextlib.suppress(SpoolError):
            self.spool.settle()

    @rule(
        is_clean=st.booleans(),
        reboots=st.booleans(),
        knows_time=st.booleans(),
        batch=st.integers(1, 6),
    )
    def restart(self, is_clean: bool, reboots: bool, knows_time: bool, batch: int) -> None:
        if is_clean:
            self._tell()
            self.uplink.stop()
            self.world.auto = True
            self.uplink.finish()
            self.world.auto = False
            self._city_is_quick()
            with contextlib.suppress(SpoolError):
                self.spool.close(clean=True)
        else:
            self.world.power_cut()
            self.spool._db.close()
        for stream, highest in self.produced.items():
            for seq in range(self.safe[stream] + 1, highest + 1):
                key = (self.run_name, stream, seq)
                self.forgotten.add(key)
                del self.truth[key]
        self.pending = []
        self.batch = batch
        self.boot += reboots
        self.is_clock_known = knows_time
        self._live()
        self._go()

    # Brokers

    @rule(code=st.sampled_from([0x00, 0x80, PACKET_TOO_LARGE, SESSION_TAKEN_OVER]))
    def lose_the_connection(self, code: int) -> None:
        self.world.lose(code)
        self._go()

    @rule(host=st.sampled_from(["a.test", "b.test"]))
    def go_down_or_come_back(self, host: str) -> None:
        self.world.down ^= {host}
        if self.world.host == host:
            self.world.lose(0x80)
        self._go()

    @rule(maximum=st.none() | st.integers(1, 6), packet_bytes=st.sampled_from([None, 900, 2500]))
    def limits_change(self, maximum: int | None, packet_bytes: int | None) -> None:
        self.world.receive_maximum, self.world.packet_bytes = maximum, packet_bytes
        self.was_small = self.was_small or packet_bytes is not None

    @rule(
        topics=st.sets(TOPICS, min_size=1),
        code=st.sampled_from([SUCCESS, NO_MATCHING_SUBSCRIBERS, NOT_AUTHORISED, QUOTA_EXCEEDED]),
    )
    def topics_are_refused(self, topics: set[str], code: int) -> None:
        self.world.refused |= dict.fromkeys(topics, code)

    @precondition(lambda self: self.world.flights)
    @rule(data=st.data(), is_heard=st.sampled_from([True, True, True, False]))
    def answer(self, data: st.DataObject, is_heard: bool) -> None:
        self.world.answer(data.draw(st.sampled_from(sorted(self.world.flights))), is_heard=is_heard)
        self._city_is_quick()
        self._go()

    @rule()
    def answer_all(self) -> None:
        for mid in list(self.world.flights):
            self.world.answer(mid)
        self._city_is_quick()
        self._go()

    @rule(is_old=st.booleans(), mid=st.integers(1, 12))
    def answer_twice(self, is_old: bool, mid: int) -> None:
        self.world.answer_twice(mid, is_old=is_old)
        self._go()

    # What must hold

    def _check_order(self, flight: Flight) -> None:
        assert self.uplink._session.is_online
        for key in flight.record_keys:
            run, stream, seq = key
            place = (flight.topic, run, stream)
            if key not in self.ever_sent:
                self.ever_sent.add(key)
                if self.in_order:
                    assert seq > self.last_first.get(place, 0), f"{place}: {seq} is out of order"
                self.last_first[place] = seq

    @invariant()
    def nothing_left_that_was_not_taken(self) -> None:
        if hasattr(self, "spool"):
            with self._noting_failure():
                self._check_account()

    def _check_account(self) -> None:
        held = self.unseen | {key for each in self._numbers().values() for key in each}
        lost = self.truth.keys() - held - self.world.city.durable.keys()
        assert not lost, f"left the spool, and nobody has it: {sorted(lost)}"

    @invariant()
    def memory_is_bounded(self) -> None:
        if hasattr(self, "spool"):
            box = self.uplink._outbox
            in_flight = self.inflight * self.batch
            assert len(self.uplink._delivery._mids) <= self.inflight
            assert len(box._page) <= SMALL["PAGE_ENTRIES"] + self.inflight
            assert box._waiting("live/") <= SMALL["LIVE_LIMIT"] + in_flight + len(KINDS)
            assert box._waiting("alert/") < 2 * self.alert_limit + in_flight
            waiting = len(box._receipts.ids)
            heaps = sum(map(len, box._receipts._by_stream.values()))
            streams = len(KINDS) + 1
            assert heaps <= 2 * streams * waiting + 64, "receipts that never come pile up"

    def _numbers(self) -> dict[int, list[Key]]:
        """Return what waits in the spool and is not acknowledged: by id."""
        rows = _rows(self.spool._db)
        return {row_id: keys for row_id, keys in rows.items() if row_id not in self.spool._acked}

    def _look_at_the_file(self) -> None:
        if self.file.exists():
            with contextlib.closing(sqlite3.connect(self.file)) as database:
                self.unseen = {key for keys in _rows(database).values() for key in keys}

    def _alerts_there(self) -> list[tuple[int, str]]:
        known = self.uplink._outbox._receipts.ids
        found = self.spool._db.cursor().execute(
            "SELECT r.id, 'alert/' || s.kind FROM record r JOIN series s ON s.id = r.series"
            " WHERE r.keep = 1"
        )
        return [row for row in found if row[0] not in self.spool._acked | known]

    # The end

    def _city_is_quick(self) -> None:
        if self.confirm == "broker":
            self.world.city.take()
            self.world.city.commit()

    def _mend_everything(self) -> None:
        self.disk.good_statements = None
        self.disk.is_full = False
        self.world.down.clear()
        self.world.refused.clear()
        self.world.packet_bytes = None
        self.is_lazy = False
        if self.spool.is_volatile:
            self._reopen()
        assert not self.spool.is_volatile
        if not self.is_clock_known:
            self.learn_the_time()
        self.spool.release_held()
        self._commit(told=True)
        self._tell()
        self.uplink.rewind()
        for _ in range(600):
            self._go()
            for mid in list(self.world.flights):
                self.world.answer(mid)
            self.world.city.take()
            self.world.city.commit()
            self.world.tell_receipts()
            self._go()
            if not self._numbers():
                return
            if not self.world.flights:
                self.now_s += max(0.01, self.uplink.wait_s())
        raise AssertionError(f"stuck in the spool: {self._numbers()}")

    def _all_is_accounted_for(self) -> None:
        delivered = self.world.city.durable
        assert self.truth.keys() <= delivered.keys()
        assert delivered.keys() <= self.truth.keys() | self.forgotten, "never committed"
        for key, truth in self.truth.items():
            why = delivered[key]
            allowed = {truth.lost}
            if truth.is_poisoned:
                allowed = {"rejected"}
            if truth.is_big and self.was_small:
                allowed.add("rejected")
            if self.max_bytes == TIGHT_BYTES and not truth.lost:
                allowed.add("spool_full")
            assert why in allowed, f"{key} is {why or 'delivered'}, and may be {allowed}"


class BrokerMachine(DeliveryMachine):
    """A record is done when the broker acknowledged it."""

    confirm = "broker"


class ReceiptMachine(DeliveryMachine):
    """A record is done when the city says that it holds it."""

    confirm = "receipt"

    @rule(commits=st.booleans())
    def the_city_takes(self, commits: bool) -> None:
        self.world.city.take()
        if commits:
            self.world.city.commit()

    @rule()
    def the_city_crashes(self) -> None:
        self.world.city.crash()

    @rule()
    def the_broker_forgets(self) -> None:
        self.world.city.inbox.clear()

    @rule()
    def receipts_arrive(self) -> None:
        self.world.tell_receipts()
        self._go()

    @rule()
    def receipts_are_lost(self) -> None:
        self.world.city.on_way.clear()

    @rule(data=st.data())
    def an_old_receipt_comes_again(self, data: st.DataObject) -> None:
        receipts = sorted(self.world.city.receipts.items())
        if receipts:
            (run, stream), through = data.draw(st.sampled_from(receipts))
            lower = data.draw(st.integers(0, through))
            self.world.tell_receipt(run, stream, json.dumps({"through": lower}).encode())
            self._go()

    @rule(payload=st.sampled_from([b'{"through": 9}', b"{}", b"", b"{", b'{"through": "9"}']))
    def a_receipt_of_another_run_comes(self, payload: bytes) -> None:
        self.world.tell_receipt("unknown", "snow-1", payload)
        self._go()


def _rows(database: sqlite3.Connection) -> dict[int, list[Key]]:
    """Return the numbers in each row of a spool; a faulty disk does not keep the test from it."""
    found: dict[int, list[Key]] = {}
    for row_id, run, stream, first, seq, inside in database.cursor().execute(
        "SELECT r.id, run.run, s.stream, r.first, r.seq, r.inside FROM record r"
        " JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
    ):
        spans = [[stream, first, seq]] if inside is None else json.loads(inside)["spans"]
        found[row_id] = [
            (run, name, number) for name, low, high, *_ in spans for number in range(low, high + 1)
        ]
    return found


def _noise(number: int) -> str:
    """Return text that does not deflate well."""
    text = ""
    while len(text) < BIG_CHARACTERS:
        text += hashlib.sha512(f"{number} {len(text)}".encode()).hexdigest()
    return text


TestBroker = BrokerMachine.TestCase
TestReceipt = ReceiptMachine.TestCase
TestBroker.settings = TestReceipt.settings = settings(
    deadline=None, max_examples=300, stateful_step_count=40
)


def machine() -> BrokerMachine:
    """One that is driven by hand."""
    made = BrokerMachine()
    made.begin(5, 4, 10**6, 0.0, False, MANY_ALERTS, "backlog")
    return made


def test_while_the_disk_is_full_what_waits_still_leaves() -> None:
    made = machine()
    made.world.down = {"a.test", "b.test"}
    made.measure(["snow-1"] * 6, 300.0, "", True)
    made.disk.is_full = True
    made.world.down = set()
    made.wait(31.0)
    made.answer_all()
    made.answer_all()
    assert len(made.world.city.durable) == 6
    made.teardown()


def test_what_could_not_be_given_up_is_looked_at_again() -> None:
    made = machine()
    made.measure(["snow-1"], 0.0, "poison", True)
    made.disk.is_full = True
    made.wait(1.0)
    made.answer_all()
    made.disk.is_full = False
    made.wait(6.0)
    for _ in range(3):
        made.answer_all()
    assert list(made.world.city.durable.values()) == ["rejected"]
    made.teardown()


# Negative controls: with a defect planted, the machine finds something.


def _acks_on_send(self: Delivery, send: Send, ready: Any) -> None:
    PREPARE(self, send, ready)
    self._spool.acknowledge(send.parcel.ids, send.parcel.records)


def _takes_any_code(self: Outbox, token: int, code: int, now_s: float) -> Any:
    return ANSWERED(self, token, SUCCESS if code == NO_MATCHING_SUBSCRIBERS else code, now_s)


def _unpacks_and_goes_on(self: Delivery, answer: Any, code: int) -> None:
    with mock.patch.object(self._outbox, "rewind"):
        TAKE_ANSWER(self, answer, code)


def _packs_anything(self: Spool, *_: Any, **__: Any) -> int:
    packed = PACK(self)
    self._loose = self._pack_records  # and does so at every step
    return packed


def _frees_all(self: Receipts, run: str, stream: str, through: int) -> Any:
    return CAME(self, run, stream, through + 3)


def _drops_gaps(self: Spool, *_: Any) -> None:
    """Give records up without a word."""


def _newest_first(self: Outbox, item: Any) -> None:
    self._busy.add(item.id)
    topic = f"{'alert' if item.entry.stream == ALERTS_STREAM else 'live'}/{item.entry.kind}"
    self._prompt.setdefault(topic, []).insert(0, item)


def _never_expires(self: Receipts, _now_s: float) -> bool:
    return False


def _backlog_first(self: Outbox, now_s: float) -> Send | None:
    if not self._connected or len(self._flights) >= self._window:
        return None
    return self._next_backlog(now_s) or NEXT(self, now_s)


def _ignores_the_window(self: Outbox, *args: Any, **options: Any) -> None:
    CONNECTED(self, *args, **options)
    self._window += 1


PREPARE, TAKE_ANSWER, ANSWERED = Delivery._prepare, Delivery._take_answer, Outbox.answered
PACK, CAME, NEXT, CONNECTED = Spool.pack, Receipts.came, Outbox.next, Outbox.connected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("machine", "target", "name", "defect"),
    [
        (BrokerMachine, Delivery, "_prepare", _acks_on_send),
        (BrokerMachine, Outbox, "answered", _takes_any_code),
        (BrokerMachine, Delivery, "_take_answer", _unpacks_and_goes_on),
        (BrokerMachine, Spool, "pack", _packs_anything),
        (BrokerMachine, Shelf, "_put_gap", _drops_gaps),
        (BrokerMachine, Outbox, "_put_prompt", _newest_first),
        (BrokerMachine, Outbox, "next", _backlog_first),
        (BrokerMachine, Outbox, "connected", _ignores_the_window),
        (ReceiptMachine, Receipts, "came", _frees_all),
        (ReceiptMachine, Receipts, "expire", _never_expires),
    ],
)
def test_a_planted_defect_is_found(
    machine: type[DeliveryMachine], target: type, name: str, defect: Any
) -> None:
    bounded = settings(
        deadline=None,
        max_examples=2000,  # it ends with the first that fails
        stateful_step_count=40,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        print_blob=False,
    )
    with mock.patch.object(target, name, defect), pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=bounded)
