"""One thread for one bus: ask its devices on schedule, hand on what they say.

A device that does not answer costs its neighbours at most its own time-out, is asked less and less
often, and is looked for as long as the configuration says. When no device on the bus answers, the
bus itself is opened again: an adapter that was pulled out comes back so. What the pipeline cannot
take is counted, never waited for.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from drivers.base import BusError, Driver, FrameError, Observation, Reading, Trouble
from drivers.buses import Openable

from .health import Health, SensorHealth

log = structlog.get_logger(part="collector")

RETRY_FIRST_S = 1.0
RETRY_CAP_S = 30.0
IGNORE_AFTER_FAILURES = 10
DEAF_AFTER_FRAME_ERRORS = 3  # in a row, until a sensor counts as silent
TROUBLES_PER_POLL = 10  # a burst of garbage is told this often, not once a byte


@dataclass(frozen=True, slots=True)
class Collected:
    """What one poll of one sensor brought."""

    sensor_id: str
    observations: Sequence[Observation]


@dataclass(slots=True)
class Station:
    """A sensor on the bus, and when it is asked next."""

    sensor_id: str
    driver: Driver
    on_error: Literal["retry", "ignore"]
    health: SensorHealth
    next_s: float = 0.0
    is_open: bool = False
    failures: int = 0  # in a row
    garbled: int = 0  # in a row
    lost_polls: int = 0  # in this outage
    errors_told: int = 0  # of the driver's frame errors
    ignored: bool = False


class Collector:
    """The devices of one bus; `run` is the body of its thread."""

    def __init__(
        self,
        name: str,
        bus: Openable,
        stations: Sequence[Station],
        out: queue.Queue[Collected | None],
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
        self._queue_was_full = False
        self.beat_s = boot_ns() / 1e9

    def run(self) -> None:
        """Poll until told to stop; leave every device and the bus closed."""
        try:
            while not self._stopping.is_set():
                waiting = [station for station in self._stations if not station.ignored]
                if not waiting:
                    self._stopping.wait()
                    break
                station = min(waiting, key=lambda s: s.next_s)
                self.beat_s = now_s = self._now_s()
                if station.next_s > now_s:
                    self._stopping.wait(station.next_s - now_s)
                    continue
                self._poll(station)
        finally:
            for station in self._stations:
                self._close(station)
            self._bus.close()
            self._bus_is_open = False

    def _poll(self, station: Station) -> None:
        driver = station.driver
        started_s = self._now_s()
        planned_s = station.next_s
        # Until it has answered: a driver whose bug ends this thread lets its neighbours go first.
        station.next_s = started_s + RETRY_CAP_S
        observations: Sequence[Observation] = ()
        try:
            if not self._bus_is_open:
                self._bus.open()
                self._bus_is_open = True
            if not station.is_open:
                driver.open()
                station.is_open = True
            observations = driver.poll()
        except BusError as exc:
            self._failed(station, str(exc), started_s)
        except FrameError as exc:
            station.garbled += 1
            if station.garbled == DEAF_AFTER_FRAME_ERRORS:
                self._went_silent(station, str(exc))
            station.next_s = max(started_s + driver.interval_s, self._now_s())
        else:
            self._answered(station, observations)
            station.next_s = planned_s + driver.interval_s
            if station.next_s < self._now_s():
                # A late poll is not made up for: the next one keeps its distance.
                station.next_s = max(started_s + driver.interval_s, self._now_s())
        self._hand_on(station, observations)

    def _answered(self, station: Station, observations: Sequence[Observation]) -> None:
        station.failures = 0
        if not observations:
            return  # a stream between two frames; the driver knows how long that may last
        station.garbled = 0
        health = station.health
        before = health.state
        health.state = "warmup" if all(map(_is_warmup, observations)) else "ok"
        if health.state == before:
            return
        now_s = self._now_s()
        if before == "silent":
            outage_s, lost = round(now_s - health.since_s), station.lost_polls
            log.info("sensor is back", sensor=station.sensor_id, after_s=outage_s, polls_lost=lost)
        elif health.state == "ok":
            log.info("sensor measures", sensor=station.sensor_id)
        station.lost_polls = 0
        health.since_s = now_s

    def _failed(self, station: Station, why: str, started_s: float) -> None:
        station.failures += 1
        station.lost_polls += 1
        station.health.failed_polls += 1
        self._went_silent(station, why)
        self._close(station)
        if station.on_error == "ignore" and station.failures >= IGNORE_AFTER_FAILURES:
            station.ignored = True
            station.health.state = "ignored"
            log.warning("sensor is left alone until the next reload", sensor=station.sensor_id)
        if all(other.failures or other.ignored for other in self._stations):
            self._bus.close()
            self._bus_is_open = False
            for other in self._stations:
                self._close(other)
        backoff_s = min(RETRY_CAP_S, RETRY_FIRST_S * 2 ** min(station.failures - 1, 16))
        station.next_s = max(started_s + station.driver.interval_s, self._now_s() + backoff_s)
        self._hand_on(station, [Trouble("bus_error", round(started_s * 1e9))])

    def _went_silent(self, station: Station, why: str) -> None:
        if station.health.state == "silent":
            return
        station.health.state = "silent"
        station.health.since_s = self._now_s()
        log.warning("sensor is silent; looking for it", sensor=station.sensor_id, reason=why)

    def _close(self, station: Station) -> None:
        if station.is_open:
            station.is_open = False
            station.driver.close()

    def _hand_on(self, station: Station, observations: Sequence[Observation]) -> None:
        new_errors = station.driver.frame_errors - station.errors_told
        if new_errors > 0:
            station.errors_told = station.driver.frame_errors
            station.health.frame_errors += new_errors
            trouble = Trouble("frame_error", self._boot_ns())
            observations = [*observations, *[trouble] * min(new_errors, TROUBLES_PER_POLL)]
        if not observations:
            return
        try:
            self._out.put_nowait(Collected(station.sensor_id, observations))
            self._queue_was_full = False
        except queue.Full:
            self._health.lost_in_queue += len(observations)
            if not self._queue_was_full:
                self._queue_was_full = True
                log.error("the pipeline does not keep up; readings are dropped", bus=self.name)

    def _now_s(self) -> float:
        return self._boot_ns() / 1e9


def _is_warmup(observation: Observation) -> bool:
    match observation:
        case Trouble(reason=reason):
            return reason == "warmup"
        case Reading(reasons=reasons):
            return "warmup" in reasons
        case _:
            return False
