"""One sensor, asked directly: for a technician who stands beside it.

The daemon has no part in it: the sensor's bus is opened for it alone, nothing is aggregated,
nothing is published, and nothing is kept but what the caller keeps. What passes on the bus is
handed on entry by entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from drivers.base import (
    AIR_TEMPERATURE,
    BusError,
    Clock,
    Driver,
    DriverError,
    Fix,
    FrameError,
    Observation,
    Reading,
    Trouble,
)
from drivers.buses import Openable

from . import kernel
from .openbus import open_bus
from .plan import PlannedBus, PlannedSensor
from .tap import Entry, Tap

Opener = Callable[
    [PlannedBus, list[PlannedSensor]], tuple[Openable, Callable[[PlannedSensor], object]]
]

RETRY_S = 1.0  # before a device that did not answer is asked again
SILENT_AFTER = 3  # questions in a row
DEAF_AFTER = 10  # nonsense answers in a row, until the driver begins anew: as the daemon has it
SPARE_S = 10.0
SEARCH_S = 90.0  # for a receiver that begins to look for satellites
TEMPERATURE_S = 10.0  # for another sensor's thermometer to answer
RAW_KEPT = 400  # entries between two sets of readings


@dataclass(frozen=True, slots=True)
class Round:
    """What asking once brought."""

    t_s: float  # since the start
    observations: Sequence[Observation]
    error: DriverError | None = None


class Direct:
    """A sensor and its bus, held open for a while; a context manager."""

    def __init__(
        self,
        sensor: PlannedSensor,
        hand_on: Callable[[Entry], None],
        *,
        now_ns: Clock = kernel.boot_ns,
        wait_s: Callable[[float], object] = time.sleep,
        opener: Opener = open_bus,
    ) -> None:
        """Build the driver; `hand_on` is given each transaction as an entry of a recording."""
        self.sensor = sensor
        self._now_ns = now_ns
        self._wait_s = wait_s
        self._bus, wire_for = opener(sensor.bus, [sensor])
        self._tap = Tap(now_ns, hand_on)
        wire = self._tap.onto(wire_for(sensor), sensor.driver.spec, sensor.options)
        build: Any = sensor.driver  # the protocol has no constructor; base.Driver names it
        self.driver: Driver = build(wire, sensor.options, now_ns)
        self._bus_is_open = self._is_open = False
        self._garbled = 0

    def __enter__(self) -> Self:
        """Take hold of the bus. Raises BusError."""
        self._bus.open()
        self._bus_is_open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the device in peace, and let the bus go."""
        self._close()

    @property
    def elapsed_s(self) -> float:
        """How long it has been going on."""
        return (self._now_ns() - self._tap.start_ns) / 1e9

    @property
    def warmup_s(self) -> float:
        """How long the device must warm up, by its options."""
        return float(getattr(self.sensor.options, "warmup_s", 0.0))

    def usual_s(self, sets: int) -> float:
        """Return how long `sets` of readings may take, with room for a slow device."""
        each_s = max(self.driver.interval_s, 1 / self.driver.rate_hz)
        search_s = SEARCH_S if self.driver.spec.kind == "position" else 0.0
        return self.warmup_s + search_s + (sets + 2) * each_s + SPARE_S

    def rounds(self, timeout_s: float | None = None) -> Iterator[Round]:
        """Ask on the driver's schedule, as the daemon would, until `timeout_s` have passed."""
        until_s = float("inf") if timeout_s is None else self.elapsed_s + timeout_s
        while (started_s := self.elapsed_s) < until_s:
            asked = self._ask(started_s)
            yield asked
            pause_s = self.driver.interval_s
            if isinstance(asked.error, BusError):
                pause_s = max(RETRY_S, pause_s)
            left_s = min(started_s + pause_s, until_s) - self.elapsed_s
            if left_s > 0:
                self._wait_s(left_s)

    def _ask(self, at_s: float) -> Round:
        try:
            if not self._bus_is_open:
                self._bus.open()
                self._bus_is_open = True
            if not self._is_open:
                self._is_open = True  # what is half open is closed, too
                self.driver.open()
            observations = self.driver.poll()
        except BusError as exc:
            self._close()
            return Round(at_s, (), exc)
        except FrameError as exc:
            self._garbled += 1
            if self._garbled >= DEAF_AFTER:
                self._close_driver()
            return Round(at_s, (), exc)
        self._garbled = 0
        return Round(at_s, observations)

    def _close_driver(self) -> None:
        self._garbled = 0
        if self._is_open:
            self._is_open = False
            self.driver.close()

    def _close(self) -> None:
        self._close_driver()
        if self._bus_is_open:
            self._bus_is_open = False
            self._bus.close()


def air_temperature_c(
    sensor: PlannedSensor, *, timeout_s: float = TEMPERATURE_S, opener: Opener = open_bus
) -> float | None:
    """Read a thermometer once, for another sensor that needs it; None where it gives no value.

    Raises DriverError.
    """
    with Direct(sensor, lambda _: None, opener=opener) as thermometer:
        told = None
        for told in thermometer.rounds(timeout_s):
            for seen in told.observations:
                match seen:
                    case Reading(quantity=name, value=float() | int() as value, reasons=()) if (
                        name == AIR_TEMPERATURE
                    ):
                        return value
    if told is not None and told.error is not None:
        raise told.error
    return None


@dataclass(slots=True)
class ReadSet:
    """A value, or the reason why there is none, for each quantity; the newest of each."""

    t_s: float
    readings: dict[str, Reading] = field(default_factory=dict)
    fix: Fix | None = None
    raw: list[Entry] = field(default_factory=list)

    @property
    def observations(self) -> list[Observation]:
        """Return all of it, as a driver would."""
        return [*self.readings.values(), *([self.fix] if self.fix is not None else [])]

    @property
    def is_warmup(self) -> bool:
        """Whether the device says of all that it is not yet to be believed."""
        return bool(self.readings) and self.fix is None and all(map(_is_warmup, self.observations))

    @property
    def has_value(self) -> bool:
        """Whether there is anything but reasons."""
        return self.fix is not None or any(
            reading.value is not None for reading in self.readings.values()
        )


class Assembly:
    """From what polls bring to sets of readings.

    Who is asked says all it has at once. Who talks by itself may say it sentence by sentence: a
    set is then complete with all quantities, or when one of them comes for the third time, because
    what is missing by then will not come.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._raw: list[Entry] = []
        self._begin()

    def _begin(self) -> None:
        self._set: ReadSet | None = None
        self._seen: dict[str, int] = {}

    def note(self, entry: Entry) -> None:
        """Take a transaction, for the set that comes of it."""
        self._raw.append(entry)
        del self._raw[:-RAW_KEPT]

    def take(self, told: Round) -> list[ReadSet]:
        """Return the sets that a round completes."""
        found = [each for seen in told.observations if (each := self._add(seen, told.t_s))]
        if not self._driver.spec.talks and self._set is not None and self._is_asked_whole():
            found.append(self._finish())
        if found:
            found[0].raw, self._raw = self._raw, []
        return found

    def _is_asked_whole(self) -> bool:
        return self._driver.spec.kind != "position"

    def _add(self, seen: Observation, t_s: float) -> ReadSet | None:
        if isinstance(seen, Reading):
            name = seen.quantity
        elif isinstance(seen, Fix):
            name = "location"
        else:
            return None
        if self._set is None:
            self._set = ReadSet(t_s)
        if isinstance(seen, Fix):
            self._set.fix = seen
        else:
            self._set.readings[name] = seen
        self._seen[name] = self._seen.get(name, 0) + 1
        wanted, here = set(self._driver.quantities), set(self._seen)
        if self._driver.spec.kind == "position":
            # What a receiver did not know a sentence ago it may know in the next.
            wanted.add("location")
            unknown = {each.quantity for each in self._set.readings.values() if each.value is None}
            here -= unknown
        if wanted <= here or self._seen[name] >= 3:
            return self._finish()
        return None

    def _finish(self) -> ReadSet:
        found = self._set or ReadSet(0.0)
        self._begin()
        return found


def read_sets(
    direct: Direct, assembly: Assembly, timeout_s: float, warming: Callable[[], object]
) -> Iterator[ReadSet]:
    """Yield sets of readings until `timeout_s` have passed; call `warming` while it warms up.

    Raises BusError if the device stays silent, FrameError if only nonsense came. If it did not
    get warm in time, its last word is what is yielded.
    """
    silent = 0
    given = False
    cold: ReadSet | None = None
    error: DriverError | None = None
    for told in direct.rounds(timeout_s):
        error = told.error or error
        silent = silent + 1 if isinstance(told.error, BusError) else 0
        if silent >= SILENT_AFTER and told.error is not None:
            raise told.error
        if any(isinstance(o, Trouble) and o.reason == "warmup" for o in told.observations):
            warming()
        for found in assembly.take(told):
            searches = direct.driver.spec.kind == "position" and not found.has_value
            if found.is_warmup or searches:
                cold = found
                warming()
            else:
                given = True
                yield found
    if given:
        return
    if cold is not None:
        yield cold
        return
    driver = direct.driver
    if error is None and driver.frame_errors:
        error = FrameError(f"{driver.frame_errors} damaged frames, and no good one")
    raise error or BusError(f"it said nothing in {timeout_s:g} s: check power and wires")


def _is_warmup(seen: Observation) -> bool:
    return isinstance(seen, Reading) and seen.value is None and "warmup" in seen.reasons
