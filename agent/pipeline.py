"""Readings -> quality -> window -> aggregate -> (people: release with noise) -> record -> spool.

One thread does all of it, so nothing here needs a lock. Windows that close together are committed
together. A people window's true counts go through the release exactly once: if the commit fails,
the same noised record is tried again. While the spool cannot be written, records wait in memory,
bounded; what must be given up is named in a gap when writing works again.
"""

from __future__ import annotations

import math
import queue
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, TypeVar

import structlog

from drivers.base import Direction, Quantity, Reason

from .aggregate import Measured
from .clock import Change, Clock, Look, estimate
from .collector import Collected
from .phenomena.people import Counted
from .privacy.policy import Policy
from .quality import grade, grade_people, overall
from .record import GATEWAY_STREAM, Entry, Lost, Record
from .spool import Spool, SpoolError
from .window import Tally, Window, Windower

log = structlog.get_logger(part="pipeline")

CLOCK_LOOK_S = 5.0
COMMIT_RETRY_S = 5.0
PENDING_LIMIT = 5000  # records in memory while the spool cannot be written

STEP_TOLD_S = 1.0  # leap seconds are no trouble
STEADY_S = 600.0  # without a further step, until the clock counts as well again

TIME_UNKNOWN = "time unknown"
TIME_STEPPED = "clock stepped"
TIME_DISPUTED = "clock set by nobody who vouches for it"


T = TypeVar("T", bound=Tally)


class Channel(ABC, Generic[T]):
    """One sensor's way from observations to records."""

    def __init__(self, windower: Windower[T]) -> None:
        self._windower = windower
        self.add = windower.add
        self.cover = windower.cover
        self.next_close_ns = windower.next_close_ns

    def advance(self, now_ns: int, clock: Clock) -> list[Record]:
        """Return the records of windows that ended."""
        return [self._record(window, clock) for window in self._windower.advance(now_ns)]

    def flush(self, now_ns: int, clock: Clock, reason: Reason) -> list[Record]:
        """Return the records of everything open."""
        return [self._record(window, clock) for window in self._windower.flush(now_ns, reason)]

    def step(
        self, now_ns: int, moved_ns: int, clock: Clock, covered_to_ns: int | None
    ) -> list[Record]:
        """Return the records of everything open when UTC moves; `clock` still has the old time.

        `covered_to_ns` is given when the time becomes known: what earlier runs covered.
        """
        windows = self._windower.step(
            now_ns, moved_ns, known=clock.known, covered_to_ns=covered_to_ns
        )
        records = [self._record(window, clock) for window in windows]
        return [replace(each, clock=each.clock.doubted(moved_ns)) for each in records]

    @abstractmethod
    def _record(self, window: Window[T], clock: Clock) -> Record:
        """Turn a closed window into its record."""


class MeasuredChannel(Channel[Measured]):
    """A sensor that measures quantities."""

    def __init__(
        self,
        stream: str,
        kind: str,
        *,
        window_s: int,
        rate_hz: float,
        quantities: Mapping[str, Quantity],
        now_ns: int,
    ) -> None:
        self._stream, self._kind = stream, kind
        self._rate_hz = rate_hz
        self._quantities = quantities
        super().__init__(Windower(window_s, lambda: Measured(quantities), now_ns=now_ns))

    def _record(self, window: Window[Measured], clock: Clock) -> Record:
        tally = window.tally
        expected = math.floor(self._rate_hz * window.length_s + 1e-6)
        qualities = {
            name: grade(
                tally.n(name), expected, tally.failed[name] + tally.troubles, window.reasons
            )
            for name in tally.heard_of() or self._quantities
        }
        quality = overall(qualities)
        values: dict[str, object] = {}
        for name, own in qualities.items():
            value = tally.value(name)
            if value is not None and own.flag != quality.flag:
                value |= {"flag": own.flag, "reasons": list(own.reasons)}
            values[name] = value
        return _record(self._stream, self._kind, window, clock, quality.json(), values)


class PeopleChannel(Channel[Counted]):
    """A sensor that counts people: nothing but the released figures comes out of it."""

    def __init__(
        self, stream: str, *, policy: Policy, directions: tuple[Direction, ...], now_ns: int
    ) -> None:
        self._stream = stream
        self._policy = policy
        self._directions = directions
        super().__init__(Windower(policy.window_s, lambda: Counted(directions), now_ns=now_ns))

    def _record(self, window: Window[Counted], clock: Clock) -> Record:
        tally = window.tally
        expected = math.floor(window.length_s + 1e-6)
        alive_s = min(tally.alive_s, expected)
        quality = grade_people(alive_s, expected, tally.troubles, window.reasons)
        # Whether the sensor worked depends on the sensor, so to withhold a count tells of nobody.
        values = (
            self._policy.release(tally.take())
            if tally.alive_s  # in a window of less than a second too
            else self._policy.withheld(self._directions)
        )
        return _record(self._stream, "people", window, clock, quality.json(), values)


def _record(
    stream: str,
    kind: str,
    window: Window[Measured] | Window[Counted],
    clock: Clock,
    quality: dict[str, object],
    values: dict[str, object],
) -> Record:
    boot_start_ns = clock.boot_ns(window.start_ns)
    return Record(
        stream,
        kind,
        window.start_ns,
        window.end_ns,
        boot_start_ns,
        clock.boot_ns(window.end_ns),
        clock.stamp(boot_start_ns),
        quality,
        values,
    )


class Pipeline:
    """The thread between the collectors and the spool; `run` is its body."""

    def __init__(
        self,
        channels: Mapping[str, Channel[Any]],
        inbox: queue.Queue[Collected | None],
        spool: Spool,
        *,
        config_id: str,
        clock: Clock,
        look: Callable[[], Look],
        boot_id: str,
        clock_wait_over: Callable[[], bool],
        committed: Callable[[list[Entry]], None],
        rewind: Callable[[], None],
        clock_trouble: Callable[[str | None], None] | None = None,
    ) -> None:
        """Wire it up; `clock_trouble` hears why the clock is in trouble, None when it is over.

        Raises SpoolError.
        """
        self._channels = channels
        self._inbox = inbox
        self._spool = spool
        self._config_id = config_id
        self._clock = clock
        self._look = look
        self._boot_id = boot_id
        self._clock_wait_over = clock_wait_over
        self._committed = committed
        self._rewind = rewind
        self._clock_trouble = clock_trouble
        self._trouble: str | None = None
        self._steady_at_ns = 0
        self._covered_to_ns = spool.ends()
        if clock.known:
            self._cover()
        self._stopping = threading.Event()
        self._hold = True  # records of unknown time wait for the clock
        self._any_held = True  # an earlier run of this boot may have left some
        self._pending: deque[Record] = deque()
        self._lost: dict[str, Lost] = {}
        self._retry_at_ns = 0
        self._next_look_ns = 0
        self._evicted_told = 0
        self.beat_s = look().boot_ns / 1e9

    def run(self) -> None:
        """Work until told to stop; then close every window and commit what there is."""
        while not self._stopping.is_set():
            self._step()
        self._take_all()
        now_ns = self._clock.utc_ns(self._look().boot_ns)
        for channel in self._channels.values():
            self._pending += channel.advance(now_ns, self._clock)
            self._pending += channel.flush(now_ns, self._clock, "partial")
        self._retry_at_ns = 0
        self._commit(self._look().boot_ns)

    def stop(self) -> None:
        """Begin to stop; called by another thread, after the collectors."""
        self._stopping.set()
        with suppress(queue.Full):  # full, so it is awake
            self._inbox.put_nowait(None)

    def announce(self, version: str) -> None:
        """Commit the record that begins a run and tells what the one before produced."""
        previous = self._spool.previous
        look = self._look()
        now_ns = self._clock.utc_ns(look.boot_ns)
        values = {
            "event": "start",
            "version": version,
            "previous": None if previous is None else previous.json(),
        }
        quality = {"flag": "good", "n": 1, "expected": 1}
        boot_ns, stamp = look.boot_ns, self._clock.stamp()
        self._pending.append(
            Record(
                GATEWAY_STREAM, "gateway", now_ns, now_ns, boot_ns, boot_ns, stamp, quality, values
            )
        )
        self._commit(look.boot_ns)

    def _step(self) -> None:
        try:
            first = self._inbox.get(timeout=self._wait_s())
        except queue.Empty:
            first = None
        look = self._look()
        self.beat_s = look.boot_ns / 1e9
        if first is not None:  # by the clock under which it was measured
            self._take(first, look)
        if look.boot_ns >= self._next_look_ns:
            self._next_look_ns = look.boot_ns + round(CLOCK_LOOK_S * 1e9)
            self._tend_clock(look)
        now_ns = self._clock.utc_ns(look.boot_ns)
        for channel in self._channels.values():
            if channel.next_close_ns() <= now_ns:
                self._pending += channel.advance(now_ns, self._clock)
        self._commit(look.boot_ns)

    def _wait_s(self) -> float:
        look = self._look()
        now_ns = self._clock.utc_ns(look.boot_ns)
        next_ns = min(channel.next_close_ns() for channel in self._channels.values())
        return min(CLOCK_LOOK_S, max(0.0, (next_ns - now_ns) / 1e9))

    def _take(self, collected: Collected, look: Look) -> None:
        channel = self._channels[collected.sensor_id]
        now_ns = self._clock.utc_ns(look.boot_ns)
        for observation in collected.observations:
            at_ns = self._clock.utc_ns(observation.at_boot_ns)
            channel.add(observation, at_ns, now_ns=now_ns)

    def _take_all(self) -> None:
        while not self._inbox.empty():
            collected = self._inbox.get_nowait()
            if collected is not None:
                self._take(collected, self._look())

    def _tend_clock(self, look: Look) -> None:
        change = self._clock.judge(look)
        if change is not None:
            self._close_before(change, look)
        if change is not None and self._clock.known and abs(change.moved_ns) > STEP_TOLD_S * 1e9:
            self._steady_at_ns = look.boot_ns + round(STEADY_S * 1e9)
        self._clock.accept(look)
        try:
            if self._clock.known and self._any_held:
                self._correct_held()
            elif self._hold and not self._clock.known and self._clock_wait_over():
                count = self._spool.release_held()
                self._hold = False
                log.warning("the time stays unknown: records go out as estimated", records=count)
                self._rewind()
        except SpoolError as exc:
            if not self._retry_at_ns:  # else it is known
                log.error("spool cannot be written; trying again", error=str(exc))
        self._tell_trouble(look)

    def _close_before(self, change: Change, look: Look) -> None:
        """Close every window by the old time, with all that was measured under it."""
        self._take_all()
        if change.event == "synced":
            self._hold = True  # what was measured until now can be put right at once
        now_ns = self._clock.utc_ns(look.boot_ns)
        for stream, channel in self._channels.items():
            covered_to_ns = self._covered_to_ns.get(stream) if change.event == "synced" else None
            self._pending += channel.step(now_ns, change.moved_ns, self._clock, covered_to_ns)
        self._commit(look.boot_ns)
        log.warning("the clock was set", why=change.event, moved_s=round(change.moved_ns / 1e9, 3))

    def _tell_trouble(self, look: Look) -> None:
        trouble = None
        if not self._clock.known:
            trouble = TIME_UNKNOWN if self._clock_wait_over() else None
        elif self._clock.disputes(look):
            trouble = TIME_DISPUTED
        elif look.boot_ns < self._steady_at_ns:
            trouble = TIME_STEPPED
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble is None:
            log.info("the clock is well again")
        else:
            log.warning("the clock is not to be trusted", why=trouble)
        if self._clock_trouble is not None:
            self._clock_trouble(trouble)

    def _correct_held(self) -> None:
        clock, count = self._clock, 0
        try:
            if self._spool.held():
                count += self._spool.correct(self._boot_id, clock.utc_ns, clock.corrected)
                boots = self._spool.held_boots()  # earlier ones: of this boot nothing waits now
                error_s = clock.corrected(0).error_s
                estimates = estimate(boots, born_ns=clock.utc_ns(0), error_s=error_s)
                for boot, found in zip(boots, estimates, strict=True):
                    count += self._spool.correct(boot.boot_id, found.utc_ns, found.stamp_at)
        finally:
            if count:
                log.info("the time is known: records put right", records=count)
                self._rewind()
        self._covered_to_ns = self._spool.ends()
        self._cover()
        self._any_held = False

    def _cover(self) -> None:
        for stream, channel in self._channels.items():
            if stream in self._covered_to_ns:
                channel.cover(self._covered_to_ns[stream])

    def _commit(self, boot_ns: int) -> None:
        if not self._pending or boot_ns < self._retry_at_ns:
            return
        while len(self._pending) > PENDING_LIMIT:
            self._give_up_oldest()
        batch: Sequence[Record | Lost] = [*self._lost.values(), *self._pending]
        try:
            entries = self._spool.append(batch, self._config_id, hold=self._hold)
        except SpoolError as exc:
            if not self._retry_at_ns:
                log.error("spool cannot be written; records wait in memory", error=str(exc))
            self._retry_at_ns = boot_ns + round(COMMIT_RETRY_S * 1e9)
            return
        if self._retry_at_ns:
            log.info("spool can be written again", records=len(self._pending))
        self._retry_at_ns = 0
        self._any_held = self._any_held or len(entries) < len(batch)
        self._pending.clear()
        self._lost.clear()
        self._committed(entries)
        if self._spool.evicted > self._evicted_told:
            if not self._evicted_told:
                log.error("spool is full: the oldest records are given up and named in gaps")
            self._evicted_told = self._spool.evicted
            self._rewind()

    def _give_up_oldest(self) -> None:
        pending = self._pending
        # The record that begins the run tells what the one before produced: it goes last.
        record = next((r for r in pending if r.stream != GATEWAY_STREAM), pending[0])
        pending.remove(record)
        is_timed = record.clock.state != "estimated"
        start_ns, end_ns = (record.start_ns, record.end_ns) if is_timed else (None, None)
        earlier = self._lost.get(record.stream)
        if earlier is not None:
            start_ns = start_ns if earlier.start_ns is None else earlier.start_ns
            end_ns = earlier.end_ns if end_ns is None else end_ns
        count = 1 + (earlier.count if earlier else 0)
        self._lost[record.stream] = Lost(
            record.stream, record.kind, count, "disk_failed", start_ns, end_ns
        )
