"""What the sensors of one bus say, read directly where no daemon holds it.

A bus has one owner at a time, so its sensors are asked one after another, once, for all the checks
that want to know. Who does not answer is looked for at other speeds and addresses. Of people
sensors nothing is kept but whether they work.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedBus, PlannedSensor
    from agent.scan import Machine, Place
    from drivers.base import BusError, DriverError, Reading
    from drivers.buses import Openable

_TIOCGICOUNT = 0x545D
_FRAME_ERRORS, _BREAKS = 6, 9  # of struct serial_icounter_struct, in ints
ENOUGH_FRAMES = 3
GARBLED_BYTES = 12  # fewer may be a banner, or the middle of a frame
LONGEST_WAIT_S = 0.5  # between two questions; every device can answer so often
LEAST_S = 0.4  # of a sensor's turn


@dataclass(slots=True)
class Exam:
    """What one sensor said."""

    is_reached: bool = False  # before the time was over
    heard_bytes: int = 0  # of a serial device
    frames: int = 0
    frame_errors: int = 0
    identity: str = ""
    error: DriverError | None = None  # the last one
    readings: dict[str, Reading] = field(default_factory=dict)  # the newest of each quantity
    is_alive: bool = False  # it works, or warms up
    has_measured: bool = False
    is_warming: bool = False
    other_baud: int | None = None  # it answers at this speed, which is not the configured one
    other_address: int | None = None
    at_its_address: Place | None = None  # who answers there, I2C only
    line_errors: tuple[int, int] | None = None  # framing errors and breaks meanwhile
    bug: str = ""  # where its driver failed; what it said may hold what was measured

    @property
    def is_dead(self) -> bool:
        """Whether nothing at all was heard of it."""
        heard = self.is_alive or self.frames or self.heard_bytes
        return not (heard or self.is_another or self.bug)

    @property
    def is_lost(self) -> bool:
        """Whether it is worth while to look for it elsewhere."""
        return self.is_reached and not self.is_alive and not self.bug

    @property
    def is_another(self) -> bool:
        """Whether somebody else answers in its place."""
        from drivers.base import IdentityError

        return isinstance(self.error, IdentityError)

    @property
    def is_garbled(self) -> bool:
        """Whether bytes come, and no frame among them."""
        return not self.frames and not self.is_alive and self.heard_bytes >= GARBLED_BYTES


@dataclass(slots=True)
class BusExam:
    """What one bus and its sensors said."""

    error: BusError | None = None  # why it cannot be used at all
    is_stuck: bool = False  # I2C: somebody holds it low
    places: list[Place] = field(default_factory=list)  # I2C: who answers
    sensors: dict[str, Exam] = field(default_factory=dict)


def examine(site: Site, bus: PlannedBus) -> BusExam:
    """Return what a bus and its sensors say; they are asked once."""
    return site.once(f"bus {bus.name}", lambda: _Examiner(site, bus).examine())


def exam_of(site: Site, sensor: PlannedSensor) -> Exam | None:
    """Return what a sensor said when it was read here; None where the gateway has it."""
    if site.daemon is not None:
        return None
    return examine(site, sensor.bus).sensors.get(sensor.table.id)


def machine_of(site: Site) -> Machine:
    """Return the machine whose buses are looked at."""
    from agent.scan import Machine

    return site.machine or Machine()


class _Examiner:
    def __init__(self, site: Site, bus: PlannedBus) -> None:
        self._site = site
        self._bus = bus
        self._machine = machine_of(site)
        self._path = str(site.at(bus.path)) if bus.path else ""
        plan = site.plan
        self._sensors = [] if plan is None else [s for s in plan.sensors if s.bus is bus]
        self._exam = BusExam(sensors={s.table.id: Exam() for s in self._sensors})

    def examine(self) -> BusExam:
        from drivers.base import BusError

        try:
            if self._bus.kind == "i2c":
                self._scan()
            if not self._exam.is_stuck:
                self._read_all()
        except BusError as exc:
            self._exam.error = exc
        return self._exam

    def _scan(self) -> None:
        """Ask every address for a sign."""
        from agent.scan import known_models, look_at_i2c
        from drivers.base import BusError
        from drivers.buses import BusyError

        until_ns = self._until_ns(self._site.budget.search_s)
        found = look_at_i2c(self._machine, self._path, until_ns, known_models(), {})
        if any(place.state == "in use" for place in found):
            raise BusyError(found[-1].says)
        self._exam.places = [place for place in found if place.address is not None]
        self._exam.is_stuck = any("holds the bus low" in place.says for place in found)
        failed = [place for place in found if place.state == "failed" and place.address is None]
        if failed and not self._exam.is_stuck and not self._exam.places:
            raise BusError(failed[0].says)

    def _read_all(self) -> None:
        from agent.logs import place_of
        from drivers.base import DriverError

        budget = self._site.budget
        end_s = time.monotonic() + budget.bus_s
        for index, sensor in enumerate(self._sensors):
            left_s = end_s - time.monotonic()
            if left_s < LEAST_S:
                return
            share_s = left_s / (len(self._sensors) - index)
            turn_s = min(max(LEAST_S, share_s), budget.listen_s)
            exam = self._exam.sensors[sensor.table.id]
            try:
                self._read(sensor, exam, turn_s)
            except DriverError:
                raise
            except Exception as exc:  # noqa: BLE001  (one driver's bug is not its neighbours')
                exam.bug = place_of(exc)
        silent = [s for s in self._sensors if self._exam.sensors[s.table.id].is_lost]
        for sensor in silent:
            self._look_around(sensor, self._exam.sensors[sensor.table.id], len(silent))

    def _read(self, sensor: PlannedSensor, exam: Exam, turn_s: float) -> None:
        from agent.direct import Direct
        from drivers.base import Reading, Trouble

        def note(entry: dict[str, Any]) -> None:
            exam.heard_bytes += len(entry.get("rx", "")) // 2

        errors = self._site.line_errors or line_errors
        before = errors(self._path) if self._bus.kind == "serial" else None
        exam.is_reached = True
        with Direct(sensor, note, wait_s=_wait, opener=self._open) as direct:
            for told in direct.rounds(turn_s):
                exam.error = told.error or exam.error
                for seen in told.observations:
                    if isinstance(seen, Trouble):
                        exam.is_warming = exam.is_warming or seen.reason == "warmup"
                        exam.is_alive = exam.is_alive or exam.is_warming
                        continue
                    exam.is_alive = exam.has_measured = True
                    if isinstance(seen, Reading):
                        exam.readings[seen.quantity] = seen
                exam.frames = direct.driver.frames
                exam.frame_errors = direct.driver.frame_errors
                if exam.is_another or self._is_enough(exam, direct.driver):
                    break
            exam.identity = direct.driver.identity
        after = errors(self._path) if before is not None else None
        if before is not None and after is not None:
            exam.line_errors = after[0] - before[0], after[1] - before[1]

    @staticmethod
    def _is_enough(exam: Exam, driver: Any) -> bool:
        return exam.has_measured and (not driver.spec.talks or exam.frames >= ENOUGH_FRAMES)

    def _look_around(self, sensor: PlannedSensor, exam: Exam, sharers: int) -> None:
        """Look for a sensor that does not answer where it might be instead."""
        if self._bus.kind == "i2c":
            address = getattr(sensor.options, "address", None)
            for place in self._exam.places:
                if place.address == address:
                    exam.at_its_address = place
                elif sensor.table.driver in {each.driver for each in place.found}:
                    exam.other_address = place.address
            return
        is_alone = not any(each.is_alive for each in self._exam.sensors.values())
        if self._bus.kind == "serial" and self._bus.second_path is None and is_alone:
            self._search(sensor, exam, self._site.budget.search_s / sharers)

    def _search(self, sensor: PlannedSensor, exam: Exam, time_s: float) -> None:
        """Listen at the other speeds, and ask at them who can be asked."""
        from agent.scan import look_at_port, parsed

        model, until_ns = sensor.driver, self._until_ns(time_s)
        for place in look_at_port(self._machine, self._path, until_ns, [model]):
            for found in place.found:
                options = parsed(model, found.options)
                line = (options.line() if options is not None else None) or model.spec.line
                baud = found.baud or (line.baud if line is not None else None)
                address = found.options.get("address")
                if self._bus.line is not None and baud != self._bus.line.baud:
                    exam.other_baud = baud
                elif isinstance(address, int) and address != getattr(
                    sensor.options, "address", address
                ):
                    exam.other_address = address
                else:
                    exam.is_alive = True  # it was late
                return

    def _until_ns(self, time_s: float) -> int:
        return self._machine.now_ns() + round(time_s * 1e9)

    def _open(
        self, planned: PlannedBus, sensors: list[PlannedSensor]
    ) -> tuple[Openable, Callable[[PlannedSensor], object]]:
        """Build the bus of this machine, which need not be Linux's."""
        from agent.openbus import open_bus

        bus: Any
        if planned.kind == "i2c":
            bus = self._machine.open_i2c(self._path)
        elif planned.kind == "serial" and planned.line and planned.second_path is None:
            bus = self._machine.open_serial(self._path, planned.line)
        else:
            return open_bus(planned, sensors)
        return bus, lambda _sensor: bus


def _wait(time_s: float) -> None:
    """Wait for a device's next turn, but not for one that is due in minutes."""
    time.sleep(min(time_s, LONGEST_WAIT_S))


def line_errors(path: str) -> tuple[int, int] | None:
    """Return the framing errors and breaks that a port has counted; None where it does not count.

    A line whose two wires are swapped is never at rest: it is one long break.
    """
    with suppress(OSError):
        port = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            counts = struct.unpack("20i", fcntl.ioctl(port, _TIOCGICOUNT, bytes(80)))
        finally:
            os.close(port)
        return counts[_FRAME_ERRORS], counts[_BREAKS]
    return None
