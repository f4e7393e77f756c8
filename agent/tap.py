"""Listen in on a bus: every transaction of a driver becomes an entry of a recording.

A tap sits between a driver and its bus. It changes nothing, keeps nothing and lets every error
through; what passed is handed on as one entry of the contract's recordings at a time, with the
time that it began. Besides the contract's entries there are these, which a replay understands or
leaves alone:

    {"path": "/sys/...", "text": "..."}          a small file of the kernel that was read
    {"path": "/sys/...", "names": ["...", ...]}  a folder that was listed
    {"port": "b", "rx": "..."}                   the second port of a sensor that has two
    {"pin": 17, "level": 1, "edge": false}       a level that was found, not a change
    {"baud": 115200}                             the line's speed from here on
    {"error": "EIO"}                             a serial port that could not be used
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drivers.base import BusError, Clock, Options, Spec
from drivers.buses import I2cBus, SerialPair, SerialPort
from drivers.files import Files
from drivers.gpio import Edge, PinBus, PinWatch, Pull

Entry = dict[str, Any]


class Tap:
    """Gives entries their time, in seconds since `start_ns`, and hands them on."""

    def __init__(self, now_ns: Clock, hand_on: Callable[[Entry], None]) -> None:
        self.start_ns = now_ns()
        self.now_ns = now_ns
        self._hand_on = hand_on

    def note(self, at_ns: int, **what: Any) -> None:
        """Hand on what happened at `at_ns` on the boot-time clock."""
        # Rounded up to the microsecond: a replay must not be earlier than the driver was.
        since_us = -(-(at_ns - self.start_ns) // 1000)
        self._hand_on({"t_s": since_us / 1e6, **what})

    def onto(self, wire: Any, spec: Spec, options: Options) -> Any:
        """Return `wire`, as a driver of `spec` with `options` is given it, listened in on."""
        match spec.bus:
            case "i2c":
                return TappedI2c(wire, self)
            case "gpio":
                return TappedPins(wire, self)
            case "serial" if options.second_port() is not None:
                return TappedPair(wire, self)
            case "serial":
                return TappedSerial(wire, self)
            case _:
                return TappedFiles(wire, self)


def errno_name(error: BusError) -> str:
    """Return the system's name of what failed, such as EREMOTEIO; EIO where it said none."""
    cause: BaseException | None = error
    while cause is not None:
        number = cause.errno if isinstance(cause, OSError) else None
        if number is not None and number in errno.errorcode:
            return errno.errorcode[number]
        cause = cause.__cause__ or cause.__context__
    return "EIO"


class TappedI2c:
    """An I2cBus whose transactions are noted."""

    def __init__(self, bus: I2cBus, tap: Tap) -> None:
        self._bus = bus
        self._tap = tap

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Read, and note it."""
        at_ns = self._tap.now_ns()
        try:
            answer = self._bus.read(address, write, length)
        except BusError as exc:
            self._tap.note(at_ns, address=address, write=write.hex(), error=errno_name(exc))
            raise
        self._tap.note(at_ns, address=address, write=write.hex(), read=answer.hex())
        return answer

    def write(self, address: int, data: bytes) -> None:
        """Write, and note it."""
        at_ns = self._tap.now_ns()
        try:
            self._bus.write(address, data)
        except BusError as exc:
            self._tap.note(at_ns, address=address, write=data.hex(), error=errno_name(exc))
            raise
        self._tap.note(at_ns, address=address, write=data.hex())


class TappedSerial:
    """A SerialPort whose bytes are noted; `where` goes into each entry."""

    def __init__(self, port: SerialPort, tap: Tap, where: Mapping[str, str] | None = None) -> None:
        self._port = port
        self._tap = tap
        self._where = where or {}

    def read(self, timeout_s: float) -> bytes:
        """Read, and note what came at the time it was there."""
        try:
            # What waits already came before now; what is waited for comes when it comes.
            at_ns = self._tap.now_ns()
            chunk = self._port.read(0.0)
            if not chunk and timeout_s > 0:
                chunk = self._port.read(timeout_s)
                at_ns = self._tap.now_ns()
        except BusError as exc:
            self._failed(exc)
            raise
        if chunk:
            self._tap.note(at_ns, **self._where, rx=chunk.hex())
        return chunk

    def write(self, data: bytes) -> None:
        """Write, and note it."""
        at_ns = self._tap.now_ns()
        try:
            self._port.write(data)
        except BusError as exc:
            self._failed(exc)
            raise
        self._tap.note(at_ns, **self._where, tx=data.hex())

    def discard_input(self) -> None:
        """Forget what arrived unread: it is not noted either."""
        self._port.discard_input()

    def set_baud(self, baud: int) -> None:
        """Change the speed, and note it."""
        self._port.set_baud(baud)
        self._tap.note(self._tap.now_ns(), **self._where, baud=baud)

    def _failed(self, error: BusError) -> None:
        self._tap.note(self._tap.now_ns(), **self._where, error=errno_name(error))


class TappedPair:
    """A SerialPair whose ports are noted; entries of the second one say so."""

    def __init__(self, pair: SerialPair, tap: Tap) -> None:
        self.a: SerialPort = TappedSerial(pair.a, tap)
        self.b: SerialPort = TappedSerial(pair.b, tap, {"port": "b"})


class TappedPins:
    """A PinBus whose edges are noted, and the levels that were found."""

    def __init__(self, bus: PinBus, tap: Tap) -> None:
        self._bus = bus
        self._tap = tap

    def watch(self, pins: Sequence[int], *, pull: Pull) -> PinWatch:
        """Take `pins`, and note how they stand."""
        watch = self._bus.watch(pins, pull=pull)
        at_ns = self._tap.now_ns()
        for pin in pins:
            self._tap.note(at_ns, pin=pin, level=watch.level(pin), edge=False)
        return _TappedWatch(watch, self._tap)


class _TappedWatch:
    def __init__(self, watch: PinWatch, tap: Tap) -> None:
        self._watch = watch
        self._tap = tap

    def edges(self) -> list[Edge]:
        edges = self._watch.edges()
        for edge in edges:
            self._tap.note(edge.at_boot_ns, pin=edge.pin, level=edge.level)
        return edges

    def level(self, pin: int) -> int:
        return self._watch.level(pin)

    def close(self) -> None:
        self._watch.close()


class TappedFiles:
    """Files whose reading is noted."""

    def __init__(self, files: Files, tap: Tap) -> None:
        self._files = files
        self._tap = tap

    def read(self, path: str) -> str:
        """Read, and note it."""
        at_ns = self._tap.now_ns()
        try:
            text = self._files.read(path)
        except BusError as exc:
            self._tap.note(at_ns, path=path, error=errno_name(exc))
            raise
        self._tap.note(at_ns, path=path, text=text)
        return text

    def names(self, folder: str) -> list[str]:
        """List a folder, and note it."""
        at_ns = self._tap.now_ns()
        try:
            names = self._files.names(folder)
        except BusError as exc:
            self._tap.note(at_ns, path=folder, error=errno_name(exc))
            raise
        self._tap.note(at_ns, path=folder, names=names)
        return names
