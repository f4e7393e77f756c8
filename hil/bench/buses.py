"""Thirty-two sensors on six buses at their real rates: does each bus keep its schedule?

Collectors and drivers are the real ones; the devices and the wires are simulated, in this process,
and bytes take the time that they take on a wire. First all is well; then every device that a wire
can lose is cut off in turn, on all buses at once, while its neighbours are watched.

schedule_overrun_percent    the longest time between two polls of a sensor beyond its interval, in
                            percent of it, the worst sensor of all, while all is well: 99 of 100
                            polls are no later.
schedule_overrun_worst_percent  the same, the worst of all polls.
neighbour_delay_timeouts    while a device is dead, the longest that a poll of any other on its bus,
                            when it was due, waited for polls of the dead one; in time-outs: the
                            longest that one of these took, 0.1 s at least.
lost_polls                  of devices that nobody had cut off.
cpu_percent                 processor time of this process, in percent of one core, while all is
                            well: the simulated devices and wires included.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import structlog

import drivers
from agent.collector import Collected, Collector, Station
from agent.health import Health
from drivers.base import Clock, DriverError, Observation
from drivers.gpio import boot_ns

from ..buses import STUCK_S, SimulatedI2c, SimulatedPair, SimulatedSerial
from ..simulated import SimulatedBus
from .figures import Figure, document, table

WRONG = 1
SETTLE_S = 20.0  # warm-up, the first opening of everything
WELL_S, QUICK_WELL_S = 120.0, 20.0
CUT_S, QUICK_CUT_S = 24.0, 12.0  # the slowest sensors are asked every 10 s

FIGURES = (
    Figure("schedule_overrun_percent", "beyond the interval, 99 of 100 polls", 10.0),
    Figure("schedule_overrun_worst_percent", "the worst poll"),
    Figure("neighbour_delay_timeouts", "by a dead device", 1.0),
    Figure("lost_polls", "of healthy devices", 0),
    Figure("cpu_percent", "of one core, devices included"),
)

Fleet = Mapping[str, Mapping[str, tuple[str, Mapping[str, Any]]]]


def _umb(*models_and_addresses: tuple[str, int]) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        f"{model}-{address:04x}": ("lufft-umb", {"model": model, "address": address})
        for model, address in models_and_addresses
    }


SITE: Fleet = {
    "rs485-1": _umb(
        *(("irs31pro", 0x1001 + at) for at in range(5)),
        *(("shm31", 0xB001 + at) for at in range(3)),
    ),
    "rs485-2": _umb(
        *(("irs31pro", 0x1001 + at) for at in range(3)),
        *(("shm31", 0xB001 + at) for at in range(2)),
    ),
    "i2c-1": {
        "hall-1": ("grideye-amg88xx", {}),
        "road-1": ("mlx90614", {}),
        "air-1": ("bme280", {}),
        "power-1": ("ina219", {}),
    },
    "i2c-3": {
        "hall-2": ("grideye-amg88xx", {}),
        "door-0": ("omron-d6t", {"model": "44L-06"}),
        "air-2": ("bme280", {}),
    },
    "gpio": {
        **{
            f"door-{at}": ("beam-pair", {"pin_a": 2 + 2 * at, "pin_b": 3 + 2 * at})
            for at in range(1, 5)
        },
        "gate-1": ("pulse-counter", {"pin": 20}),
        "cabinet-1": ("contact", {"pin": 21, "measures": "open"}),
    },
    "talkers": {f"snow-{at}": ("maxbotix-hrxl", {"mount_height_cm": 350.0}) for at in range(6)},
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One time that a driver was asked."""

    due_s: float
    started_s: float
    took_s: float
    failure: str  # what the driver said; "" if it answered

    @property
    def failed(self) -> bool:
        """Whether the device was asked in vain."""
        return bool(self.failure)

    @property
    def ended_s(self) -> float:
        """When the bus was free again."""
        return self.started_s + self.took_s


class Watched:
    """A driver, and when it was asked."""

    def __init__(self, driver: Any, now_ns: Clock) -> None:
        self._driver = driver
        self._now_ns = now_ns
        self._began_s: float | None = None  # its opening is part of its turn
        self.station: Station | None = None
        self.turns: list[Turn] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def open(self) -> None:
        """Open the driver."""
        self._began_s = self._now_ns() / 1e9
        try:
            self._driver.open()
        except DriverError as exc:
            self._end(str(exc))
            raise

    def poll(self) -> Sequence[Observation]:
        """Poll the driver."""
        if self._began_s is None:
            self._began_s = self._now_ns() / 1e9
        try:
            found: Sequence[Observation] = self._driver.poll()
        except DriverError as exc:
            self._end(str(exc))
            raise
        self._end("")
        return found

    def _end(self, failure: str) -> None:
        began_s, self._began_s = self._began_s or 0.0, None
        due_s = min(began_s, self.station.due_s if self.station else began_s)
        self.turns.append(Turn(due_s, began_s, self._now_ns() / 1e9 - began_s, failure))


class Line:
    """One bus of a fleet: its devices, its drivers, and its wires to cut."""

    def __init__(
        self,
        name: str,
        sensors: Mapping[str, tuple[str, Mapping[str, Any]]],
        now_ns: Clock = boot_ns,
        wait_s: Callable[[float], object] = time.sleep,
    ) -> None:
        self.name = name
        parsed = {
            sensor: (driver, drivers.load(driver).Options.model_validate(dict(options)))
            for sensor, (driver, options) in sensors.items()
        }
        self.bus = SimulatedBus(parsed, now_ns=now_ns, wait_s=wait_s)
        self.health = Health()
        self.watched: dict[str, Watched] = {}
        for sensor, (driver, options) in parsed.items():
            build: Any = drivers.load(driver)  # the protocol has no constructor
            self.watched[sensor] = Watched(build(self.bus.wire(sensor), options, now_ns), now_ns)
        self._now_ns = now_ns

    def collector(self, stopping: threading.Event) -> Collector:
        """Return what polls it; what that finds goes nowhere."""
        stations = [
            Station(sensor, driver, "retry", self.health.sensor(sensor))  # type: ignore[arg-type]
            for sensor, driver in self.watched.items()
        ]
        for station, driver in zip(stations, self.watched.values(), strict=True):
            driver.station = station
        return Collector(
            self.name,
            self.bus,
            stations,
            _Nowhere(),
            health=self.health,
            boot_ns=self._now_ns,
            stopping=stopping,
        )

    def cuttable(self) -> list[str]:
        """List the sensors whose device can be cut off; pins that nobody moves cost nothing."""
        wires = (SimulatedI2c, SimulatedSerial, SimulatedPair)
        return [name for name in self.watched if isinstance(self.bus.wire(name), wires)]

    def cut(self, sensor: str) -> None:
        """Let nobody hear the device of `sensor`."""
        match self.bus.wire(sensor):
            case SimulatedI2c() as i2c:
                i2c.nack(
                    next(at for at, it in i2c.devices.items() if it is self.bus.devices[sensor])
                )
            case SimulatedSerial() as port:
                port.line.silence(self.bus.devices[sensor])
            case SimulatedPair() as pair:
                pair.a.line.silence()
                pair.b.line.silence()

    def heal(self, sensor: str) -> None:
        """Undo it."""
        match self.bus.wire(sensor):
            case SimulatedI2c() as i2c:
                i2c.heal()
            case SimulatedSerial() as port:
                port.line.heal()
            case SimulatedPair() as pair:
                pair.a.line.heal()
                pair.b.line.heal()

    def overruns(self, from_s: float, until_s: float) -> Iterator[tuple[str, float]]:
        """Yield (sensor, seconds beyond its interval) of good polls that follow good polls."""
        for name, driver in self.watched.items():
            for before, after in pairwise(driver.turns):
                if from_s <= after.started_s < until_s and not (before.failed or after.failed):
                    yield name, after.started_s - before.started_s - driver.interval_s

    def failed(self, from_s: float, until_s: float) -> dict[str, list[Turn]]:
        """Return the turns of each sensor that failed, from beginning to end within the time."""
        return {
            name: [
                turn
                for turn in driver.turns
                if from_s <= turn.started_s and turn.ended_s < until_s and turn.failed
            ]
            for name, driver in self.watched.items()
        }

    def overrun_percents(self, from_s: float, until_s: float) -> dict[str, list[float]]:
        """Return each sensor's overruns in percent of its interval, in ascending order."""
        found: dict[str, list[float]] = {}
        for name, over_s in self.overruns(from_s, until_s):
            found.setdefault(name, []).append(100 * over_s / self.watched[name].interval_s)
        return {name: sorted(percents) for name, percents in found.items()}

    def neighbour_delay(self, victim: str, from_s: float, until_s: float) -> float:
        """Return how long another at most waited for the dead `victim`, in its time-outs."""
        in_vain = self.failed(from_s, until_s)[victim]
        timeout_s = max([STUCK_S, *(turn.took_s for turn in in_vain)])
        waited_s = [
            sum(
                max(0.0, min(turn.started_s, dead.ended_s) - max(turn.due_s, dead.started_s))
                for dead in in_vain
            )
            for name, driver in self.watched.items()
            if name != victim
            for turn in driver.turns
            if from_s <= turn.due_s < until_s
        ]
        return max(waited_s, default=0.0) / timeout_s


class _Nowhere:
    """An inbox whose reader is always quick."""

    def lay(self, collected: Collected) -> None:
        pass

    def ring(self, *, at_once: bool = False) -> None:
        pass


def measure(well_s: float, cut_s: float, say: Callable[[str], None]) -> dict[str, float]:
    """Run the site in real time and return its figures."""
    stopping = threading.Event()
    lines = [Line(name, sensors) for name, sensors in SITE.items()]
    threads = [
        threading.Thread(target=line.collector(stopping).run, name=line.name) for line in lines
    ]
    for thread in threads:
        thread.start()
    try:
        say(f"{sum(len(line.watched) for line in lines)} sensors on {len(lines)} buses")
        time.sleep(SETTLE_S)
        well_from_s, cpu_s = boot_ns() / 1e9, time.process_time()
        time.sleep(well_s)
        well_until_s = boot_ns() / 1e9
        cpu_s = time.process_time() - cpu_s
        say("cutting them off, one on each bus at a time")
        delays = []
        for turn in range(max(len(line.cuttable()) for line in lines)):
            victims = [
                (line, line.cuttable()[turn]) for line in lines if turn < len(line.cuttable())
            ]
            from_s = boot_ns() / 1e9
            for line, victim in victims:
                line.cut(victim)
            time.sleep(cut_s)
            until_s = boot_ns() / 1e9
            for line, victim in victims:
                line.heal(victim)
                delays.append(line.neighbour_delay(victim, from_s, until_s))
            time.sleep(cut_s)  # the dead one may be looked for as late as this
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    percents = [
        each for line in lines for each in line.overrun_percents(well_from_s, well_until_s).values()
    ]
    lost = [
        f"{name}: {turn.failure}"
        for line in lines
        for name, turns in line.failed(well_from_s, well_until_s).items()
        for turn in turns
    ]
    for each in lost:
        say(each)
    return {
        "schedule_overrun_percent": max(0.0, *(p[math.ceil(0.99 * len(p)) - 1] for p in percents)),
        "schedule_overrun_worst_percent": max(0.0, *(p[-1] for p in percents)),
        "neighbour_delay_timeouts": max(delays),
        "lost_polls": len(lost),
        "cpu_percent": 100 * cpu_s / (well_until_s - well_from_s),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="shorter")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a figure misses its target."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    times = (QUICK_WELL_S, QUICK_CUT_S) if arguments.quick else (WELL_S, CUT_S)
    values = measure(*times, _say)
    print(document(values) if arguments.json else "\n".join(table(FIGURES, values)))
    return 0 if all(each.holds(values[each.key]) for each in FIGURES) else WRONG


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
