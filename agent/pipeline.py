"""Readings -> quality -> window -> aggregate -> (people: release with noise) -> record -> spool.

One thread does all of it, so nothing here needs a lock. Windows that close together are committed
together. A people window's true counts go through the release exactly once: if the commit fails,
the same noised record is tried again. While the spool cannot be written, records wait in memory,
bounded; what must be given up is named in a gap when writing works again.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

from drivers.base import AIR_TEMPERATURE, Fix, Observation, Reading

from .alerts import AlertBook
from .channels import Channel
from .clock import Change, Clock, GnssTime, Look, estimate
from .collector import Collected
from .latest import Latest
from .logs import logger
from .memory import State
from .phenomena.closed import NO_FACTS, Facts
from .phenomena.weather import Surroundings
from .privacy.ledger import Claim
from .privacy.release import Sealed, burned_before, release
from .pulse import Pulse
from .record import GATEWAY_STREAM, AlertRecord, Entry, Record, utc_text
from .rules import POWER, TOLD_AT_ONCE, Finding, Rules
from .spool import PreviousRun, Spool, SpoolError
from .writer import Writer

log = logger("pipeline")

CLOCK_LOOK_S = 5.0
STEP_TOLD_S = 1.0  # leap seconds are no trouble
STEADY_S = 600.0  # without a further step, until the clock counts as well again
SLACK_S = 120.0  # of one step: a card that is dying takes a minute for a commit
TICK_S = 1.0  # not at each hand-over: episodes that wait for their time would cost all of them
REMEMBER_S = 900.0  # what a power cut may cost of what is remembered of the sensors

TIME_UNKNOWN = "time unknown"
TIME_STEPPED = "clock stepped"
TIME_DISPUTED = "clock set by nobody who vouches for it"

# What a driver hears an air temperature with: degC, and the boot time of its measurement.
HearTemperature = Callable[[float, int], None]


def _tell_temperature(
    observations: Sequence[Observation], listeners: Sequence[HearTemperature]
) -> None:
    """Pass on the latest air temperature: some devices need it, and have no thermometer."""
    for observation in reversed(observations):
        match observation:
            case Reading(quantity=name, value=float() | int() as celsius, reasons=()) if (
                name == AIR_TEMPERATURE
            ):
                for hear in listeners:
                    hear(float(celsius), observation.at_boot_ns)
                return


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
        book: AlertBook,
        rules: Rules,
        remember: Callable[[Mapping[str, State]], None] = lambda _states: None,
        power_failed: Callable[[str], None] = lambda _sensor: None,
        without_power: Collection[str] = (),
        version: str = "",
        listeners: Mapping[str, Sequence[HearTemperature]] = MappingProxyType({}),
        surroundings: Surroundings | None = None,
        of_the_air: Collection[str] = (),
        latest: Mapping[str, Latest] = MappingProxyType({}),
        wrote: Callable[[list[Record | AlertRecord]], None] = lambda _records: None,
    ) -> None:
        """Wire it up. Raises SpoolError.

        `listeners` are told each sensor's air temperature, `surroundings` all that those
        `of_the_air` say, `remember` what the next life must know of the sensors, and `power_failed`
        which of them saw the mains go; those `without_power` had said so before. For who looks
        on, `latest` hears what sensors say, and `wrote` what was committed.
        """
        self._channels = channels
        self._listeners = listeners
        self._latest = latest
        self._inbox = inbox
        self._spool = spool
        self._clock = clock
        self._look = look
        self._boot_id = boot_id
        self._clock_wait_over = clock_wait_over
        self._rewind = rewind
        self._book = book
        self._rules = rules
        self._surroundings = surroundings
        self._of_the_air = frozenset(of_the_air)
        self._remember = remember
        self._remember_at_ns = look().boot_ns + round(REMEMBER_S * 1e9)
        self._power_failed = power_failed
        # Whoever starts while the mains are still away has said good-bye before.
        told = {sensor for sensor, name in book.active if name == "power_fail"}
        self._without_power = told.union(without_power)
        self._receivers: dict[str, GnssTime] = {}
        self._version = version
        self._trouble: str | None = None
        self.last_step: tuple[float, Change] | None = None  # of the clock: when, on the boot's
        self._steady_at_ns = 0
        self._covered_to_ns = spool.ends()
        if clock.known:
            self._cover()
        self._stopping = threading.Event()
        self._hold = True  # records of unknown time wait for the clock
        self._notices: queue.SimpleQueue[tuple[str, Mapping[str, object] | None]]
        self._notices = queue.SimpleQueue()
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._work_ends_s: dict[str, float] = {}  # by sensor, on the boot-time clock
        self._told_previous: PreviousRun | None = None
        self._burned: set[Claim] = set()  # of earlier lives
        self._owes_burning = False  # what they left open is not known yet
        self._writer = Writer(
            spool, config_id, committed=committed, rewind=rewind, tell=self._note, wrote=wrote
        )
        self._next_look_ns = 0
        self._close_at_ns = 0
        self._tick_at_ns = 0
        self.pulse = Pulse(SLACK_S, look().boot_ns / 1e9)

    @property
    def is_failing(self) -> bool:
        """Whether nothing can be committed just now."""
        return self._writer.is_failing

    def run(self) -> None:
        """Work until told to stop; then close every window and commit what there is."""
        while not self._stopping.is_set():
            self.step()
        self.finish()

    def finish(self) -> None:
        """Take what is left, close every window and commit."""
        self._take_all(self._look())
        now_ns = self._clock.utc_ns(self._look().boot_ns)
        closed: list[Record | Sealed] = []
        for channel in self._channels.values():
            closed += channel.advance(now_ns, self._clock)
            closed += channel.flush(now_ns, self._clock, "partial")
        self._writer.add(release(closed, self._spool))
        self._tick_at_ns = 0
        self._writer.add(self._news(now_ns, self._look().boot_ns))
        self._take_orders(self._look().boot_ns)
        self._writer.commit(self._look().boot_ns, hold=self._hold, at_once=True)
        self._keep_in_mind()

    def stop(self) -> None:
        """Begin to stop; called by another thread, after the collectors."""
        self._stopping.set()
        with suppress(queue.Full):  # full: it rests for a second at most
            self._inbox.put_nowait(None)

    @property
    def clock_trouble(self) -> str | None:
        """Why the clock is not to be trusted; None while it is."""
        return self._trouble

    @property
    def damages(self) -> int:
        """How often the spool's file was found damaged in this run."""
        return self._writer.damages

    def tell(self, name: str, values: Mapping[str, object] | None) -> None:
        """Say, from any thread, what a person should know; values of None mean that it is over."""
        self._note(name, values)
        with suppress(queue.Full):  # full: it rests for a second at most
            self._inbox.put_nowait(None)

    def _note(self, name: str, values: Mapping[str, object] | None) -> None:
        self._notices.put((name, values))

    def audit(self, values: Mapping[str, object]) -> None:
        """Write down, from any thread, what was done to the gateway: a record of its own stream."""
        self._orders.put(partial(self._write_own, values))
        with suppress(queue.Full):
            self._inbox.put_nowait(None)

    def maintain(self, sensor_id: str, for_s: float) -> None:
        """Take, from any thread, a sensor into maintenance for a while; 0: out of it."""
        self._orders.put(partial(self._maintain, sensor_id, for_s))
        with suppress(queue.Full):
            self._inbox.put_nowait(None)

    def announce(self, still: Collection[str] = ()) -> None:
        """Begin the run: its first record, and what an earlier life left open.

        These are windows of people that were reserved, and alerts that may be over; `still` names
        those of the gateway itself that are known not to be.
        """
        self._announce()
        self._burn_unsettled()
        now_ns = self._clock.utc_ns(self._look().boot_ns)
        for sensor, name in self._book.active:
            if sensor != GATEWAY_STREAM and not self._rules.may_speak_of(sensor, name):
                gone = Finding(name, sensor, kind=GATEWAY_STREAM, is_there=False)
                self._tell_finding(gone, now_ns)  # of a sensor, or by a rule, that is no more
        own = {name for sensor, name in self._book.active if sensor == GATEWAY_STREAM}
        for name in own.difference(still):
            # Whoever finds it still there says so again before the hold is over.
            if not (name == "clock_untrusted" and not self._clock.known):
                self._note(name, None)
        self._writer.tend(self._look().boot_ns)

    def _announce(self) -> None:
        """Commit the record that begins a run and tells what the one before produced."""
        previous = self._told_previous = self._spool.previous
        self._write_own(
            {
                "event": "start",
                "version": self._version,
                "previous": None if previous is None else previous.json(),
            }
        )
        self._writer.commit(self._look().boot_ns, hold=self._hold)

    def _write_own(self, values: Mapping[str, object]) -> None:
        """Add a record of the gateway's own stream, of now."""
        boot_ns = self._look().boot_ns
        now_ns = self._clock.utc_ns(boot_ns)
        quality = {"flag": "good", "n": 1, "expected": 1}
        times = (now_ns, now_ns, boot_ns, boot_ns)
        stamp = self._clock.stamp()
        self._writer.add([Record(GATEWAY_STREAM, "gateway", *times, stamp, quality, values)])

    def _maintain(self, sensor_id: str, for_s: float) -> None:
        if for_s > 0:
            self._channels[sensor_id].begin_work()
            self._rules.at_work.add(sensor_id)
            self._work_ends_s[sensor_id] = self._look().boot_ns / 1e9 + for_s
        elif self._work_ends_s.pop(sensor_id, None) is not None:
            self._channels[sensor_id].end_work()
            self._rules.at_work.discard(sensor_id)

    def _take_orders(self, boot_ns: int) -> None:
        while not self._orders.empty():
            self._orders.get()()
        for sensor_id, end_s in list(self._work_ends_s.items()):
            if boot_ns / 1e9 >= end_s:
                self._maintain(sensor_id, 0)

    def _burn_unsettled(self) -> None:
        """Begin this life's ledger, and say what an earlier life was about to release.

        Whether it drew the noise nobody knows; so the window is burned.
        """
        look = self._look()
        try:
            self._spool.begin_ledger(self._clock.utc_ns(look.boot_ns))
            claims = self._spool.unsettled()
        except SpoolError as exc:
            if not self._owes_burning:
                log.error("the ledger cannot be read: what is open in it waits", error=str(exc))
            self._owes_burning = True
            return
        self._owes_burning = False
        for claim in claims:
            if claim in self._burned:  # and waits for the disk
                continue
            self._burned.add(claim)
            record = burned_before(claim, self._clock, self._boot_id)
            log.warning(
                "window of people burned", sensor=claim.sensor, start=utc_text(claim.start_ns)
            )
            self._writer.add([record])
            if claim.sensor in self._channels and record.clock.state != "estimated":
                self._channels[claim.sensor].cover(record.end_ns)
        self._writer.commit(look.boot_ns, hold=self._hold)

    def step(self, patience_s: float | None = None) -> None:
        """Take what comes within `patience_s`, else within `wait_s`, and do what it is time for."""
        wait_s = self.wait_s() if patience_s is None else patience_s
        self.pulse.beat(self._look().boot_ns / 1e9, wait_s)
        try:
            first = self._inbox.get(timeout=wait_s)
        except queue.Empty:
            first = None
        look = self._look()
        if first is not None:  # by the clock under which it was measured
            self._take(first, look)
        if look.boot_ns >= self._next_look_ns:
            self._next_look_ns = look.boot_ns + round(CLOCK_LOOK_S * 1e9)
            self._tend_clock(look)
            self._plan_closing()  # a clock that was set moves every window
            damages = self._writer.damages
            if self._writer.tend(look.boot_ns):
                if self._told_previous != self._spool.previous:
                    self._announce()  # what the run before had produced is known only now
                self._burn_unsettled()
            elif self._owes_burning or self._writer.damages > damages:
                self._burn_unsettled()  # the ledger says at once that its file was damaged
        self._take_all(look)
        now_ns = self._clock.utc_ns(look.boot_ns)
        if now_ns >= self._close_at_ns:
            self._close(now_ns)
            self._plan_closing()
        self._writer.add(self._news(now_ns, look.boot_ns))
        self._take_orders(look.boot_ns)
        self._writer.commit(look.boot_ns, hold=self._hold)
        if look.boot_ns >= self._remember_at_ns:
            self._remember_at_ns = look.boot_ns + round(REMEMBER_S * 1e9)
            self._keep_in_mind()

    def _close(self, now_ns: int) -> None:
        """Take the windows that ended, and what they tell; people's are released together."""
        people: list[Record | Sealed] = []
        for channel in self._channels.values():
            if channel.next_close_ns() > now_ns:
                continue
            closed = channel.advance(now_ns, self._clock)
            if any(isinstance(each, Sealed) for each in closed):
                people += closed
            else:
                self._keep(release(closed, self._spool), channel.facts, now_ns)
        self._keep(release(people, self._spool), NO_FACTS, now_ns)

    def _keep(self, records: Iterable[Record], facts: Facts, now_ns: int) -> None:
        """Hand records on, and look at what they tell."""
        for record in records:
            self._writer.add([record])
            for finding in self._rules.look(record, facts):
                self._tell_finding(finding, now_ns)

    def _tell_finding(self, finding: Finding, now_ns: int) -> None:
        at_ns = now_ns if finding.at_ns is None else min(finding.at_ns, now_ns)
        clock = self._clock.stamp()
        if finding.is_there:
            record = self._book.raise_(
                finding.name,
                sensor=finding.sensor,
                kind=finding.kind,
                values=finding.values,
                at_ns=at_ns,
                clock=clock,
            )
        else:
            record = self._book.clear(finding.name, sensor=finding.sensor, at_ns=at_ns, clock=clock)
        if record is not None:
            self._writer.add([record])

    def _keep_in_mind(self) -> None:
        states = {name: channel.state() for name, channel in self._channels.items()}
        self._remember({name: state for name, state in states.items() if state})

    @property
    def has_more(self) -> bool:
        """Whether something waits to be taken."""
        return not self._inbox.empty()

    def wait_s(self) -> float:
        """Return in how long there is something to do even if nothing comes."""
        look = self._look()
        now_ns = self._clock.utc_ns(look.boot_ns)
        return min(CLOCK_LOOK_S, max(0.0, (self._close_at_ns - now_ns) / 1e9))

    def _plan_closing(self) -> None:
        # Not asked of each channel at each hand-over: that grows with the square of their number.
        self._close_at_ns = min(channel.next_close_ns() for channel in self._channels.values())

    def _take(self, collected: Collected, look: Look) -> None:
        channel = self._channels[collected.sensor_id]
        now_ns = self._clock.utc_ns(look.boot_ns)
        if self._surroundings is not None and collected.sensor_id in self._of_the_air:
            for observation in collected.observations:
                self._surroundings.hear(observation)
        for observation in collected.observations:
            at_ns = self._clock.utc_ns(observation.at_boot_ns)
            channel.add(observation, at_ns, now_ns=now_ns)
            match observation:
                case Fix():
                    self._take_fix(collected.sensor_id, observation, at_ns, now_ns)
                case Reading(quantity=name) if name in TOLD_AT_ONCE:
                    self._take_at_once(collected.sensor_id, observation, now_ns)
        if latest := self._latest.get(collected.sensor_id):
            latest.hear(collected.observations, (collected.began_ns, collected.ended_ns))
        if listeners := self._listeners.get(collected.sensor_id):
            _tell_temperature(collected.observations, listeners)

    def _take_at_once(self, sensor_id: str, reading: Reading, now_ns: int) -> None:
        """Look at what cannot wait for its window: it is committed in this very step."""
        finding = self._rules.hear(sensor_id, reading)
        if finding is not None:
            self._tell_finding(finding, now_ns)
        if reading.quantity != POWER:
            return
        if reading.value == "yes":
            self._without_power.discard(sensor_id)
        elif finding is not None and finding.is_there and sensor_id not in self._without_power:
            self._without_power.add(sensor_id)
            self._power_failed(sensor_id)

    def _take_fix(self, sensor_id: str, fix: Fix, at_ns: int, now_ns: int) -> None:
        """Tell the other sensors' windows where they are, and the clock what time it is."""
        for channel in self._channels.values():
            if channel.moves:
                channel.add(fix, at_ns, now_ns=now_ns)
        witness = self._receivers.setdefault(sensor_id, GnssTime()).hear(fix)
        if witness is not None:
            self._clock.hear(witness)

    def _news(self, now_ns: int, boot_ns: int) -> list[AlertRecord]:
        """Return what is news of what was told, and of what waited for its time."""
        clock = self._clock.stamp()
        records: list[AlertRecord | None] = []
        while not self._notices.empty():
            name, values = self._notices.get()
            if values is None:
                records.append(self._book.clear(name, at_ns=now_ns, clock=clock))
            else:
                records.append(self._book.raise_(name, values=values, at_ns=now_ns, clock=clock))
        if boot_ns >= self._tick_at_ns:
            self._tick_at_ns = boot_ns + round(TICK_S * 1e9)
            records += self._book.tick(now_ns, clock)
        return [record for record in records if record is not None]

    def _take_all(self, look: Look) -> None:
        """Take what has come by now."""
        for _ in range(self._inbox.qsize()):
            collected = self._inbox.get_nowait()
            if collected is not None:
                self._take(collected, look)

    def _tend_clock(self, look: Look) -> None:
        change = self._clock.judge(look)
        if change is not None:
            self._close_before(change, look)
        if change is not None and self._clock.known and abs(change.moved_ns) > STEP_TOLD_S * 1e9:
            self._steady_at_ns = look.boot_ns + round(STEADY_S * 1e9)
        self._clock.accept(look)
        try:
            if self._clock.known and self._writer.has_held:
                self._correct_held()
            elif self._hold and not self._clock.known and self._clock_wait_over():
                count = self._spool.release_held()
                self._hold = False
                log.warning("the time stays unknown: records go out as estimated", records=count)
                self._rewind()
        except SpoolError as exc:
            if not self._writer.is_failing:  # else it is known
                log.error("spool cannot be written; trying again", error=str(exc))
        self._tell_trouble(look)

    def _close_before(self, change: Change, look: Look) -> None:
        """Close every window by the old time, with all that was measured under it."""
        self._take_all(look)
        if change.event == "synced":
            self._hold = True  # what was measured until now can be put right at once
        now_ns = self._clock.utc_ns(look.boot_ns)
        closed: list[Record | Sealed] = []
        for stream, channel in self._channels.items():
            covered_to_ns = self._covered_to_ns.get(stream) if change.event == "synced" else None
            closed += channel.step(now_ns, change.moved_ns, self._clock, covered_to_ns)
        self._writer.add(release(closed, self._spool))
        self._writer.commit(look.boot_ns, hold=self._hold)
        self._book.moved(change.moved_ns)
        self.last_step = (look.boot_ns / 1e9, change)
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
        self._note("clock_untrusted", None if trouble is None else {"reason": trouble})

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
        self._writer.has_held = False

    def _cover(self) -> None:
        for stream, channel in self._channels.items():
            if stream in self._covered_to_ns:
                channel.cover(self._covered_to_ns[stream])
