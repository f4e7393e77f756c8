"""One thread for one bus: ask its devices on schedule, hand on what they say.

A poll that fails is repeated soon, as a new turn among the others'; after that the sensor is
silent, is asked less and less often, and is looked for as long as the configuration says. A dead
device costs its neighbours at most one time-out before each of their own turns. When no device on
the bus answers, or the bus itself is gone, it is opened again: an adapter that was pulled out comes
back so. A driver with a bug is treated like a device that is dead. What the pipeline cannot take is
counted, never waited for.

Sensors with the same interval are asked one after the other, and the pipeline is told of all of
them together: a bus of eight wakes two threads once a turn, and not sixteen times.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from drivers.base import (
    BusError,
    Driver,
    DriverError,
    FrameError,
    IdentityError,
    NoGlimpseError,
    Observation,
    Reading,
    Trouble,
    Withheld,
    glimpses,
)
from drivers.buses import BusGoneError, Openable

from .health import ErrorKind, Health, SensorError, SensorHealth
from .logs import logger, place_of, words_of
from .pulse import Pulse
from .rules import TOLD_AT_ONCE

log = logger("collector")

QUICK_RETRIES = 2  # until a sensor counts as silent
QUICK_RETRY_S = 0.2
RETRY_FIRST_S = 1.0
RETRY_CAP_S = 30.0
IGNORE_AFTER_FAILURES = 10
REOPEN_AFTER_FRAME_ERRORS = 10  # in a row: the device may have lost its configuration
TROUBLES_PER_POLL = 10  # a burst of garbage is told this often, not once a byte
HAND_ON_S = 0.5  # a window waits 2 s for what is late: the poll, the debouncing and this
TOLERANCE = 0.1  # of its interval, by which a poll may be late
# The longest poll, an opening included, that is still one: the slowest device, with every question
# timed out, takes some seconds.
SLACK_S = 60.0
TAKES_FADES = 0.8  # a poll, of how long the longest lately took


@dataclass(frozen=True, slots=True, repr=False)
class Collected(Withheld):
    """What one poll of one sensor brought; how much that is, too, may tell of persons."""

    sensor_id: str
    observations: Sequence[Observation]
    began_ns: int = 0  # the poll, on the boot-time clock
    ended_ns: int = 0


@dataclass(slots=True)
class Station:
    """A sensor on the bus, and when it is asked next."""

    sensor_id: str
    driver: Driver
    on_error: Literal["retry", "ignore"]
    health: SensorHealth
    due_s: float = 0.0  # its place in the schedule
    next_s: float = 0.0  # when it is asked: then, or later because it failed
    takes_s: float = 0.0  # the longest of its latest polls
    is_open: bool = False
    failures: int = 0  # in a row
    garbled: int = 0  # of them, answers that were nonsense
    lost_polls: int = 0  # in this outage
    errors_told: int = 0  # of the driver's frame errors
    has_bug: bool = False  # and it was told
    identity: str | None = None  # as it was told
    held: list[Observation] = field(default_factory=list)  # of people, not yet handed on
    handed_on: int = -1  # the last turn at which it was
    ignored: bool = False

    @property
    def counts_people(self) -> bool:
        """Whether what it says, and when, may tell of persons."""
        return self.driver.spec.kind == "people"

    @property
    def is_told_at_once(self) -> bool:
        """Whether an alert may hang on what it says now."""
        return not TOLD_AT_ONCE.isdisjoint(self.driver.quantities)

    @property
    def is_silent(self) -> bool:
        """Whether it has failed more often than by chance."""
        return self.failures > QUICK_RETRIES

    @property
    def deadline_s(self) -> float:
        """When it should be asked at the latest; who fails waits for as long as that costs."""
        patience_s = self.takes_s if self.failures else 0.0
        return self.next_s + max(TOLERANCE * self.driver.interval_s, patience_s)


class Out(Protocol):
    """Where to what was collected goes (`inbox`)."""

    def lay(self, collected: Collected) -> None:
        """Put something in and wake nobody. Raises queue.Full."""
        ...

    def ring(self, *, at_once: bool = False) -> None:
        """Wake who waits for it; `at_once` even one who rests."""
        ...


class Collector:
    """The devices of one bus; `run` is the body of its thread."""

    def __init__(
        self,
        name: str,
        bus: Openable,
        stations: Sequence[Station],
        out: Out,
        *,
        health: Health,
        boot_ns: Callable[[], int],
        stopping: threading.Event,
    ) -> None:
        self.name = name
        self._bus = bus
        self._stations = list(stations)
        self._out = out
        self._health = health
        self._boot_ns = boot_ns
        self._stopping = stopping
        self._bus_is_open = False
        self._bus_has_answered = False  # since it was opened
        self._queue_was_full = False
        self._laid_s: float | None = None  # since when something lies there that was not rung for
        self.pulse = Pulse(SLACK_S, self._now_s())

    def run(self) -> None:
        """Poll until told to stop; leave every device and the bus closed."""
        try:
            while not self._stopping.is_set():
                self._stopping.wait(self.step())
        finally:
            self.finish()

    def step(self) -> float | None:
        """Poll the sensor whose turn it is; return how long nobody's is, None where for ever."""
        now_s = self._now_s()
        waiting = [station for station in self._stations if not station.ignored]
        station, at_s = _turn(waiting, now_s)
        if station is not None:
            if self._laid_s is not None and now_s - self._laid_s >= HAND_ON_S:
                self._ring()
            self.pulse.beat(now_s)
            self._poll(station)
            return 0.0
        self._ring()
        wait_s = None if at_s is None else at_s - now_s
        self.pulse.beat(now_s, math.inf if wait_s is None else wait_s)
        return wait_s

    def finish(self) -> None:
        """Hand on what is held, and leave every device and the bus closed."""
        for station in self._stations:
            if station.counts_people:
                self._put(station, station.held)
                station.held = []
        self._ring()
        self._close_bus()

    def _poll(self, station: Station) -> None:
        driver = station.driver
        began_ns = self._boot_ns()
        started_s = began_ns / 1e9
        # Whatever goes wrong below, its neighbours go first.
        station.next_s = started_s + RETRY_CAP_S
        observations: Sequence[Observation] = ()
        try:
            if not self._bus_is_open:
                self._bus.open()
                self._bus_is_open = True
            if not station.is_open:
                driver.open()
                station.is_open = True
                self._tell_identity(station)
            observations = driver.poll()
            if station.counts_people:
                observations = glimpses(observations)
        except (BusError, FrameError) as exc:
            observations = self._failed(
                station, exc, words_of(exc, of_people=station.counts_people), started_s
            )
        except Exception as exc:  # noqa: BLE001  (whatever it is, its neighbours go on)
            # Not any message: a driver may hold people.
            is_known = isinstance(exc, NoGlimpseError)
            what = words_of(exc, of_people=True) if is_known else place_of(exc)
            if not station.has_bug:
                station.has_bug = True
                log.error("bug in a driver", sensor=station.sensor_id, error=what)
            observations = self._failed(station, exc, f"bug in its driver: {what}", started_s)
        else:
            self._answered(station, observations)
            station.due_s += driver.interval_s
            if station.due_s < self._now_s():
                # A late poll is not made up for: the next one keeps its distance.
                station.due_s = max(started_s + driver.interval_s, self._now_s())
                self._join(station)
            station.next_s = station.due_s
        station.takes_s = max(self._now_s() - started_s, TAKES_FADES * station.takes_s)
        self._hand_on(station, observations, began_ns)

    def _join(self, station: Station) -> None:
        """Let it be asked together with another one of its kind, where that is not far."""
        if station.counts_people:  # each of its frames is a step of somebody's way
            return
        interval_s, now_s = station.driver.interval_s, self._now_s()
        turns_s = [
            other.due_s
            for other in self._stations
            if other.driver.interval_s == interval_s
            and other.due_s >= now_s
            and abs(other.due_s - station.due_s) < interval_s / 2
        ]
        station.due_s = min(turns_s, default=station.due_s)

    def _tell_identity(self, station: Station) -> None:
        identity = station.driver.identity
        if identity and identity != station.identity:
            station.identity = identity
            log.info("sensor found", sensor=station.sensor_id, identity=identity)

    def _answered(self, station: Station, observations: Sequence[Observation]) -> None:
        if not observations:
            return  # a stream between two frames; the driver knows how long that may last
        lost, station.lost_polls = station.lost_polls, 0
        station.failures = station.garbled = 0
        if not station.counts_people:  # else it may be somebody who brings it about each time
            station.has_bug = False
        if not self._bus_has_answered:
            self._bus_has_answered = True
            self._look_for_the_others()
        health = station.health
        before = health.state
        health.state = "warmup" if all(map(_is_warmup, observations)) else "ok"
        if health.state == before:
            return
        now_s = self._now_s()
        if before == "silent":
            outage_s = round(now_s - health.since_s)
            log.info("sensor is back", sensor=station.sensor_id, after_s=outage_s, polls_lost=lost)
        elif health.state == "ok":
            log.info("sensor measures", sensor=station.sensor_id)
        health.since_s = now_s

    def _look_for_the_others(self) -> None:
        """Ask the silent ones at once: it was the bus that kept them from answering."""
        for other in self._stations:
            if other.is_silent:
                other.next_s = min(other.next_s, self._now_s())

    def _failed(
        self, station: Station, error: Exception, why: str, started_s: float
    ) -> list[Observation]:
        """Plan when it is asked again, and return what is told of it."""
        station.failures += 1
        station.lost_polls += 1
        station.health.failed_polls += 1
        kind: ErrorKind = "bug"
        if isinstance(error, IdentityError):
            kind = "other_device"
        elif isinstance(error, DriverError):
            kind = "frame_error" if isinstance(error, FrameError) else "bus_error"
        station.health.error = SensorError(started_s, kind, why)
        is_garbled = isinstance(error, FrameError)
        station.garbled = station.garbled + 1 if is_garbled else 0
        if not is_garbled or station.garbled % REOPEN_AFTER_FRAME_ERRORS == 0:
            self._close(station)
        self._plan_retry(station, why, started_s)
        if isinstance(error, BusGoneError) or (
            not station.is_open and all(each.is_silent or each.ignored for each in self._stations)
        ):
            self._close_bus()
        if not is_garbled:
            return [Trouble("bus_error", round(started_s * 1e9))]
        if station.driver.frame_errors == station.errors_told:
            # A wrong answer at its opening, which the driver has not counted.
            station.health.frame_errors += 1
            return [Trouble("frame_error", round(started_s * 1e9))]
        return []

    def _plan_retry(self, station: Station, why: str, started_s: float) -> None:
        interval_s, now_s = station.driver.interval_s, self._now_s()
        if not station.is_silent:
            station.next_s = now_s + min(QUICK_RETRY_S, interval_s)
            return
        health = station.health
        if health.state != "silent":
            health.state, health.since_s = "silent", now_s
            log.warning("sensor is silent; looking for it", sensor=station.sensor_id, reason=why)
        if station.on_error == "ignore" and station.failures >= IGNORE_AFTER_FAILURES:
            station.ignored = True
            health.state = "ignored"
            log.warning("sensor is left alone until the next reload", sensor=station.sensor_id)
        doublings = min(station.failures - QUICK_RETRIES - 1, 16)
        backoff_s = min(RETRY_CAP_S, RETRY_FIRST_S * 2**doublings)
        station.due_s = station.next_s = max(started_s + interval_s, now_s + backoff_s)

    def _close(self, station: Station) -> None:
        if not station.is_open:
            return
        station.is_open = False
        try:
            station.driver.close()
        except Exception as exc:  # noqa: BLE001  (the next one must still be closed)
            log.error("bug in a driver", sensor=station.sensor_id, error=place_of(exc))

    def _close_bus(self) -> None:
        for station in self._stations:
            self._close(station)
        self._bus.close()
        self._bus_is_open = self._bus_has_answered = False

    def _hand_on(
        self, station: Station, observations: Sequence[Observation], began_ns: int
    ) -> None:
        new_errors = station.driver.frame_errors - station.errors_told
        if new_errors > 0:
            station.errors_told = station.driver.frame_errors
            station.health.frame_errors += new_errors
            trouble = Trouble("frame_error", self._boot_ns())
            observations = [*observations, *[trouble] * min(new_errors, TROUBLES_PER_POLL)]
        if station.counts_people:
            self._hold(station, observations)
        elif observations:
            self._put(station, observations, began_ns, self._boot_ns())

    def _hold(self, station: Station, observations: Sequence[Observation]) -> None:
        """Hand on what a people sensor says at fixed times, whether that is anything or not.

        Any user of this machine can see in /proc how often the pipeline's thread was woken.
        """
        station.held += observations
        turn = int(self._now_s() / HAND_ON_S)
        if turn != station.handed_on or station.failures:  # its next poll may be long
            station.handed_on = turn
            observations, station.held = station.held, []
            self._put(station, observations)

    def _put(
        self,
        station: Station,
        observations: Sequence[Observation],
        began_ns: int = 0,
        ended_ns: int = 0,
    ) -> None:
        try:
            self._out.lay(Collected(station.sensor_id, observations, began_ns, ended_ns))
            self._queue_was_full = False
            if self._laid_s is None:
                self._laid_s = self._now_s()
            if station.is_told_at_once:
                self._ring(at_once=True)
        except queue.Full:
            self._health.lost_in_queue += len(observations)
            if not self._queue_was_full:
                self._queue_was_full = True
                log.error("the pipeline does not keep up; readings are dropped", bus=self.name)

    def _ring(self, *, at_once: bool = False) -> None:
        if self._laid_s is not None:
            self._laid_s = None
            self._out.ring(at_once=at_once)

    def _now_s(self) -> float:
        return self._boot_ns() / 1e9


def _turn(stations: Sequence[Station], now_s: float) -> tuple[Station | None, float | None]:
    """Return whose turn it is, or until when to wait; neither if there is nobody.

    The earliest deadline goes first. It waits for one that comes soon if it would make that one
    late and has the time itself: a slow device fits between two polls of a fast one.
    """
    due = [station for station in stations if station.next_s <= now_s]
    if not due:
        return None, min((station.next_s for station in stations), default=None)
    first = min(due, key=lambda station: station.deadline_s)
    at_risk_s = min(now_s + first.takes_s, first.deadline_s)
    soon_s = [
        other.next_s for other in stations if now_s < other.next_s and other.deadline_s < at_risk_s
    ]
    return (None, min(soon_s)) if soon_s else (first, None)


def _is_warmup(observation: Observation) -> bool:
    match observation:
        case Trouble(reason=reason):
            return reason == "warmup"
        case Reading(reasons=reasons):
            return "warmup" in reasons
        case _:
            return False
