"""One driver, one emulated device and a wire between them, in simulated time.

A `Subject` is what the battery examines; a `Trial` is one of it that runs. The trial polls as the
collector does: it opens what is closed, closes the driver after a BusError and after ten
FrameErrors in a row, and looks at everything that a driver says: nothing unlawful passes.
"""

from __future__ import annotations

import gc
import io
import logging
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import drivers
from drivers.base import (
    Alive,
    BusError,
    DriverError,
    Fix,
    FrameError,
    Observation,
    Options,
    Quantity,
    Reading,
    Spec,
    Trouble,
)
from hil import emulation
from hil.buses import SimulatedFiles, SimulatedI2c, SimulatedSerial
from hil.emulation import Emulation
from hil.pins import SimulatedPins
from hil.rig import Now

from .lawful import BrokenPromiseError, broken, expect, expect_lawful
from .taps import TAPS, Frozen, PairTap, SerialTap, Tap

REOPEN_AFTER_FRAME_ERRORS = 10  # the collector's patience
RETRY_S = 1.0  # the collector's first wait after a BusError
PATIENCE_S = 60.0  # to measure, besides warm-up and boot
PATIENCE_POLLS = 20
SEED = 11


@dataclass(frozen=True, eq=False)
class Subject:
    """A driver and the device that it speaks to; equal to itself only."""

    name: str
    driver: Any  # the class
    emulation: Emulation

    @staticmethod
    @cache
    def named(name: str) -> Subject:
        """Find both by the driver's name."""
        return Subject(name, drivers.load(name), emulation.load(name))

    @property
    def spec(self) -> Spec:
        """What the driver says of its device."""
        spec: Spec = self.driver.spec
        return spec

    @property
    def is_people(self) -> bool:
        """Whether it counts people."""
        return self.spec.kind == "people"

    @property
    def is_serial(self) -> bool:
        """Whether it decodes a stream of bytes."""
        return self.spec.bus == "serial"

    def options(self, **changed: object) -> Options:
        """Parse the emulation's options, some of them `changed`."""
        options: Options = self.driver.Options.model_validate({**self.emulation.options, **changed})
        return options

    def has_option(self, name: str) -> bool:
        """Tell whether a driver has such an option."""
        return name in self.driver.Options.model_fields

    @property
    def budget_s(self) -> float:
        """Return how long a healthy device may take to measure, however slow its driver polls."""
        warmup_s = float(getattr(self.options(), "warmup_s", 0.0))
        interval_s = float(self.build(None, self.options(), Now().ns).interval_s)
        boot_s = max(self.emulation.measures_after_s, warmup_s)
        return boot_s + PATIENCE_S + PATIENCE_POLLS * interval_s

    def build(self, bus: Any, options: Options, now_ns: Callable[[], int]) -> Any:
        """Build the driver."""
        return self.driver(bus, options, now_ns)

    def passive(self, **changed: object) -> Passive:
        """Build a serial driver that is only fed."""
        return Passive(self, self.options(**changed))


class Passive:
    """A serial driver that is never opened: bytes in, observations out."""

    def __init__(self, subject: Subject, options: Options) -> None:
        self._subject = subject
        self._clock = Now()
        port = SimulatedSerial([], self._clock, wait_s=self._clock.advance)
        bus = port if options.second_port() is None else PairTap(SerialTap(port, Now().ns), port)
        self.driver = subject.build(bus, options, self._clock.ns)

    def feed(self, chunk: bytes, at_ns: int) -> list[Observation]:
        """Feed it, and look at what it says."""
        self._clock.s = at_ns / 1e9
        try:
            found = list(self.driver.feed(chunk, at_ns))
        except Exception as exc:
            raise BrokenPromiseError(
                f"feed() raised {type(exc).__name__}: {exc}. It never raises, whatever the bytes: "
                "count what is no frame in frame_errors, and go on with the next byte. "
                f"The last chunk was {chunk[-60:].hex(' ')}"
            ) from exc
        expect_lawful(self._subject.spec, found, at_ns, self.quantities)
        return found

    def feed_all(self, moments: Sequence[tuple[int, bytes]]) -> list[Observation]:
        """Feed one moment after the other."""
        return [seen for at_ns, chunk in moments for seen in self.feed(chunk, at_ns)]

    @cached_property
    def quantities(self) -> Mapping[str, Quantity]:
        """What it can say: under its options, and in replay whatever the model has."""
        return {**{q.name: q for q in self._subject.spec.quantities}, **self.driver.quantities}


@dataclass(frozen=True, slots=True)
class Poll:
    """What one poll brought, or why it brought nothing."""

    at_s: float
    took_s: float  # poll() alone
    opening_s: float  # before it, where the driver was closed
    observations: Sequence[Observation] = ()
    error: DriverError | None = None

    @property
    def readings(self) -> list[Reading]:
        """What it measured, or could not."""
        return [seen for seen in self.observations if isinstance(seen, Reading)]

    @property
    def values(self) -> dict[str, float | str]:
        """The last value of each quantity."""
        return {seen.quantity: seen.value for seen in self.readings if seen.value is not None}

    @property
    def reasons(self) -> set[str]:
        """Why there is no value, or a doubtful one."""
        said = {reason for seen in self.readings for reason in seen.reasons}
        return said | {seen.reason for seen in self.observations if isinstance(seen, Trouble)}

    @property
    def measures(self) -> bool:
        """Whether the device measured."""
        return bool(self.values) or any(isinstance(s, (Alive, Fix)) for s in self.observations)

    def __str__(self) -> str:
        if self.error is not None:
            return f"{type(self.error).__name__}: {self.error}"
        return ", ".join(map(str, self.observations)) or "nothing"


@dataclass
class Trial:
    """A subject that runs."""

    subject: Subject
    options: Options = field(default_factory=Options)
    seed: int = SEED
    is_healthy: bool = True  # nobody broke anything: what it says is true
    frozen: Frozen | None = None

    def __post_init__(self) -> None:
        if type(self.options) is Options:
            self.options = self.subject.options()
        self.clock = Now()
        self.device = self._new_device(self.seed)
        self.wire = self._wire()
        self.tap: Tap
        bus: Any
        if self.subject.is_serial:
            self.tap = bus = SerialTap(self.wire, self.clock.ns)
            if self.options.second_port() is not None:
                bus = PairTap(bus, self.second)
        else:
            self.tap = bus = TAPS[self.subject.spec.bus](self.wire)
        try:
            self.driver = self.subject.build(bus, self.options, self.clock.ns)
        except DriverError as exc:
            broken(f"building it raised {exc}: a driver does no I/O before open()")
        self._is_open = False
        self._bus_is_open = False
        self._garbled = 0
        self.printed = ""

    def _new_device(self, seed: int) -> Any:
        device = self.subject.emulation.build(self.options, seed)
        if self.subject.is_serial and self.options.second_port() is None:
            self.frozen = Frozen(device)
        return device

    @property
    def _on_wire(self) -> Any:
        return self.device if self.frozen is None else self.frozen

    def _wire(self) -> Any:
        spec = self.subject.spec
        if spec.bus == "serial":
            line = self.options.line() or spec.line
            if line is None:
                broken(f"{spec.name}: a serial driver has Spec.line, or Options.line()")
            if self.options.second_port() is not None:
                self.second = self._port(self.device[1], line.baud)
                return self._port(self.device[0], line.baud)
            return self._port(self._on_wire, line.baud)
        if spec.bus == "i2c":
            address = getattr(self.options, "address", None)
            expect(address is not None, f"{spec.name}: an I2C driver has an option `address`")
            return SimulatedI2c({int(str(address)): self.device}, self.clock)
        if spec.bus == "gpio":
            return SimulatedPins([self.device], now_ns=self.clock.ns)
        return SimulatedFiles([self.device], self.clock)

    def _port(self, device: Any, baud: int) -> SimulatedSerial:
        return SimulatedSerial([device], self.clock, wait_s=self.clock.advance, baud=baud)

    # The device and its wire

    def replace(self, wrap: Callable[[Any], Any]) -> None:
        """Put something between a serial device and its line."""
        self.wire.line.devices = tuple(wrap(device) for device in self.wire.line.devices)

    def power_cycle(self) -> None:
        """Let a device that was just switched on stand where the old one stood."""
        self.device = self._new_device(self.seed + 1)
        if self.subject.spec.bus == "i2c":
            self.wire.devices = dict.fromkeys(self.wire.devices, self.device)
        elif self.subject.is_serial and self.options.second_port() is not None:
            self.wire.line.devices, self.second.line.devices = ((each,) for each in self.device)
        elif self.subject.is_serial:
            self.wire.line.devices = (self._on_wire,)
        else:
            self.wire.devices = (self.device,)

    def silence(self) -> None:
        """Let nobody hear the device."""
        for wire in self._wires():
            if isinstance(wire, SimulatedSerial):
                wire.line.silence()
            elif isinstance(wire, SimulatedI2c):
                for address in wire.devices:
                    wire.nack(address)
            elif isinstance(wire, SimulatedFiles):
                wire.remove("")  # everything

    def unplug(self) -> None:
        """Take the adapter away, where there is one."""
        for wire in self._wires():
            if isinstance(wire, SimulatedSerial):
                wire.unplug()
            else:
                self.silence()

    def heal(self) -> None:
        """Undo silence and unplugging."""
        for wire in self._wires():
            if isinstance(wire, SimulatedSerial):
                wire.line.heal()
                if not wire._is_plugged:
                    wire.plug()
            elif not isinstance(wire, SimulatedPins):
                wire.heal()

    def _wires(self) -> list[Any]:
        return [self.wire, *([self.second] if hasattr(self, "second") else [])]

    # The collector

    def poll(self) -> Poll:
        """Ask once, as the collector does, and let time pass until the next time."""
        began_s = self.clock()
        opened_s: float | None = None
        self.tap.listen()
        observations: Sequence[Observation] = ()
        error: DriverError | None = None
        with self._overheard():
            try:
                self._open()
                opened_s = self.clock()
                observations = list(self.driver.poll())
                self._garbled = 0 if observations else self._garbled
            except FrameError as exc:
                error = exc
                self._garbled += 1
                if self._garbled >= REOPEN_AFTER_FRAME_ERRORS:
                    self.close()
            except BusError as exc:
                error = exc
                self.close()
            except Exception as exc:
                raise BrokenPromiseError(
                    f"open() or poll() raised {type(exc).__name__}: {exc}. Only BusError (nobody "
                    "answers) and FrameError (nonsense answers) may leave a driver: anything else "
                    "is a bug that restarts its whole bus"
                ) from exc
        ended_s = self.clock()
        opened_s = ended_s if opened_s is None else opened_s
        found = Poll(began_s, ended_s - opened_s, opened_s - began_s, observations, error)
        expect_lawful(self.subject.spec, observations, self.clock.ns(), self.driver.quantities)
        if error is not None:
            expect(str(error).strip(), f"{type(error).__name__} without a text: say what is wrong")
        if self.is_healthy:
            self._expect_true(found)
        wait_s = max(self.driver.interval_s, RETRY_S if isinstance(error, BusError) else 0.0)
        self.clock.advance(max(0.0, began_s + wait_s - ended_s))
        return found

    def _open(self) -> None:
        if not self._bus_is_open:
            for wire in self._wires():
                wire.open()
            self._bus_is_open = True
        if not self._is_open:
            self.driver.open()
            self._is_open = True

    def close(self) -> None:
        """Close the driver and its bus."""
        self._garbled = 0
        if self._is_open:
            self._is_open = False
            self.driver.close()
        for wire in self._wires():
            wire.close()
        self._bus_is_open = False

    def run(self, for_s: float, at_least: int = 1) -> list[Poll]:
        """Poll for some time, and some polls at least."""
        until_s = self.clock() + for_s
        polls = [self.poll() for _ in range(at_least)]
        while self.clock() < until_s:
            polls.append(self.poll())
        return polls

    def until(
        self, happens: Callable[[Poll], object], within_s: float, otherwise: str
    ) -> list[Poll]:
        """Poll until something happens; break off with `otherwise` if it does not in time."""
        until_s = self.clock() + within_s
        polls: list[Poll] = []
        while not polls or not happens(polls[-1]):
            if polls and self.clock() >= until_s:
                broken(f"{otherwise}. Waited {within_s:.0f} s; last: {polls[-1]}")
            polls.append(self.poll())
        return polls

    def measure(self, otherwise: str = "a healthy device is not measured") -> list[Poll]:
        """Poll until it measures."""
        return self.until(lambda poll: poll.measures, self.subject.budget_s, otherwise)

    def _expect_true(self, poll: Poll) -> None:
        truth = self.subject.emulation.truth
        for seen in poll.readings:
            true = truth.get(seen.quantity)
            if true is None or seen.value is None:
                continue
            if isinstance(true, frozenset):
                expect(
                    seen.value in true,
                    f"{seen.quantity} = {seen.value!r}, and the device can only have said one of "
                    f"{sorted(true)}",
                )
            else:
                low, high = true
                expect(
                    low <= float(seen.value) <= high,
                    f"{seen.quantity} = {seen.value}, and the device can only have said "
                    f"{low:g} to {high:g}: a wrong scale, a wrong byte order, or something that "
                    "is no value",
                )

    @contextmanager
    def _overheard(self) -> Iterator[None]:
        """Hear what a driver prints or logs, which of people nobody may."""
        if not self.subject.is_people:
            yield
            return
        paper = io.StringIO()
        log, handler = logging.getLogger(), logging.StreamHandler(paper)
        log.addHandler(handler)
        try:
            with redirect_stdout(paper), redirect_stderr(paper):
                yield
        finally:
            log.removeHandler(handler)
            self.printed += paper.getvalue()


def held_bytes(driver: object, *, beside: Sequence[object]) -> int:
    """Return how much memory an object holds, not counting what is `beside` it.

    Classes, modules and functions are everybody's; what the bench made is the bench's.
    """
    shared = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, Tap)
    seen = {id(each) for each in beside}
    waiting, total = [driver], 0
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, shared):
            continue
        if type(each).__module__.partition(".")[0] in ("hil", "gpiozero"):
            continue
        seen.add(id(each))
        total += sys.getsizeof(each)
        waiting += gc.get_referents(each)
    return total
