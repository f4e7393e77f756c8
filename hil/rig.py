"""One driver and its emulated device, alone in a time that only goes when it is told to.

What the fuzzer mutates and what the bench of decoders times is the traffic of such a rig: real
frames of every driver there is, without a table of them anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import drivers
from drivers.base import BusError, Driver, FrameError, Observation

from . import emulation
from .buses import SimulatedFiles, SimulatedI2c, SimulatedSerial
from .pins import SimulatedPins

BEGIN_S = 1000.0


class Now:
    """A clock that only goes when it is told to."""

    def __init__(self, begin_s: float = BEGIN_S) -> None:
        self.s = begin_s

    def __call__(self) -> float:
        """Return the time in seconds, as a device's does."""
        return self.s

    def ns(self) -> int:
        """Return the time in nanoseconds, as a driver's clock does."""
        return round(self.s * 1e9)

    def advance(self, by_s: float) -> None:
        """Let time pass."""
        self.s += by_s


class Rig:
    """A driver on a wire with its device; the wire tells what passed and how long it took.

    The wire's own time is the bench's, not the driver's: `wire_ns` is what to subtract.
    """

    def __init__(self, name: str, *, seed: int = 0, **changed: Any) -> None:
        """Build `name` with its emulation's options, some of them `changed`."""
        self.now = Now()
        self.heard: list[tuple[int, bytes]] = []  # (boot time, bytes) of a serial device
        self.answers: dict[tuple[bytes, int], list[bytes]] = {}  # of an I2C device, by question
        self.wire_ns = 0
        self.failures = 0
        own = emulation.load(name)
        build: Any = drivers.load(name)
        self.options = build.Options.model_validate({**own.options, **changed})
        self.device = own.build(self.options, seed)
        bus = self._bus(build.spec, self.device)
        self.wires = bus if isinstance(bus, tuple) else (bus,)
        for wire in self.wires:
            wire.open()
        taps = [_Tap(wire, self) for wire in self.wires]
        tap = taps[0] if len(taps) == 1 else SimpleNamespace(a=taps[0], b=taps[1])
        self.driver: Driver = build(tap, self.options, self.now.ns)
        self._is_open = False

    def run(self, for_s: float) -> list[Observation]:
        """Poll on schedule for a while, opening and re-opening as a collector would."""
        seen: list[Observation] = []
        until_s = self.now.s + for_s
        while self.now.s < until_s:
            began_s = self.now.s
            try:
                if not self._is_open:
                    self.driver.open()
                    self._is_open = True
                seen += self.driver.poll()
            except BusError:
                self.failures += 1
                self._is_open = False
                self.driver.close()
            except FrameError:
                self.failures += 1
            self.now.s = max(self.now.s, began_s + self.driver.interval_s)
        return seen

    def _bus(self, spec: Any, device: Any) -> Any:
        def port(each: Any) -> SimulatedSerial:
            baud = None if spec.line is None else spec.line.baud
            return SimulatedSerial([each], self.now, wait_s=self.now.advance, baud=baud)

        if spec.bus == "serial":
            return tuple(map(port, device)) if isinstance(device, tuple) else port(device)
        if spec.bus == "i2c":
            address: Any = self.options
            return SimulatedI2c({address.address: device}, self.now)
        if spec.bus == "gpio":
            return SimulatedPins([device], now_ns=self.now.ns)
        return SimulatedFiles([device], self.now)


class _Tap:
    """Any wire, or a watch on its pins: notes what the device said, and the time it took."""

    def __init__(self, wire: Any, rig: Rig) -> None:
        self._wire = wire
        self._rig = rig

    def __getattr__(self, name: str) -> Any:
        call: Callable[..., Any] = getattr(self._wire, name)
        rig = self._rig

        def timed(*arguments: Any, **named: Any) -> Any:
            began_ns = time.process_time_ns()
            try:
                said = call(*arguments, **named)
            finally:
                rig.wire_ns += time.process_time_ns() - began_ns
            if name == "read" and isinstance(said, bytes) and said:
                if isinstance(self._wire, SimulatedSerial):
                    rig.heard.append((rig.now.ns(), said))
                else:
                    rig.answers.setdefault(arguments[1:], []).append(said)
            return _Tap(said, rig) if name == "watch" else said

        return timed
