"""The wires: an I2C bus and a serial port, as drivers see them and as Linux gives them.

Drivers are written against the protocols `I2cBus` and `SerialPort`. The adapters below are the
only place that sees OSError: it leaves here as BusError with the device's path, the address and
the system's own word for what happened. A bus is owned by one thread.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from . import nodes
from .base import BusError, LineSettings, SpeedError

if TYPE_CHECKING:
    import serial
    import smbus2

INPUT_LIMIT_BYTES = 65536

I2C_ATTEMPTS = 3  # of a transfer that was refused, at once
UNSTICK_CLOCKS = 9  # a device that was interrupted within a byte has at most so many to go
_I2C_TIMEOUT = 0x0702  # ioctl, in units of 10 ms
_I2C_TIMEOUT_S = 0.1  # the kernel's own second would be taken from every other device
_I2C_KERNELS_TIMEOUT_S = 1.0
_I2C_SLOWEST_HZ = 10_000

# A device is refused for a moment: NACK by most adapters, NACK by others, a stretched clock on a
# Raspberry Pi, a lost arbitration. A time-out is not here: the bus is stuck, and so would we be.
_I2C_AGAIN = (errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.EAGAIN)
_I2C_GONE = (errno.ENODEV, errno.EBADF)

_TCGETS2 = 0x802C542A  # termios with speeds as numbers; x86 and Arm
_BAUD_TOLERANCE = 0.03  # what a UART can still read
_DRAIN_S = 2.0  # beyond what the bytes take

# What pyserial lets through when a device goes: TypeError is its word for a closed descriptor,
# and termios.error is no OSError.
_PORT_ERRORS = (OSError, TypeError, termios.error)


class BusGoneError(BusError):
    """Not one device but the bus itself is gone: whoever sits on it waits for it to be opened."""


class BusyError(BusError):
    """Another program, or another sensor of ours, has the device open."""


class I2cBus(Protocol):
    """Transactions with 7-bit addresses; each raises BusError when it fails."""

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Write `write`, repeat START, read `length` bytes; a plain read if `write` is empty."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Write `data` in one transaction."""
        ...


class SerialPort(Protocol):
    """A byte stream; each call raises BusError when the device is gone."""

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived, waiting up to `timeout_s` for the first byte; b"" if none."""
        ...

    def write(self, data: bytes) -> None:
        """Send `data` and return when the last byte has left the buffer."""
        ...

    def discard_input(self) -> None:
        """Forget what arrived unread."""
        ...

    def set_baud(self, baud: int) -> None:
        """Change the speed of the open line, for devices whose speed must be found out."""
        ...


class SerialPair(Protocol):
    """The two ports of one sensor that needs both."""

    a: SerialPort
    b: SerialPort


class Openable(Protocol):
    """A bus with a life: the collector opens it, closes it, opens it again."""

    def open(self) -> None:
        """Take hold of the device. Raises BusError."""
        ...

    def close(self) -> None:
        """Let go. Never raises."""
        ...


class LinuxI2c:
    """/dev/i2c-N through smbus2, with raw transfers: block reads of SMBus end at 32 bytes.

    For us alone among those who ask for the lock. An address that a driver of the kernel holds is
    refused: a raw transfer would not ask it. `unstick` frees a bus that a device holds low, as one
    does that was interrupted in the middle of a byte; it is called whenever the bus is opened, and
    the bus is opened again when nobody on it answers.
    """

    def __init__(self, path: str, *, unstick: Callable[[], None] | None = None) -> None:
        self._path = path
        self._unstick = unstick
        self._bus: smbus2.SMBus | None = None
        self._timeout_s = 0.0  # as the adapter was told; 0 = not told
        self._refused: dict[int, str | None] = {}  # address -> the kernel's driver

    def open(self) -> None:
        """Open the device node for us alone. Raises BusError."""
        import smbus2

        try:
            bus = smbus2.SMBus(self._path)
        except OSError as exc:
            raise BusGoneError(_advice(self._path, exc.errno or 0, "an I2C bus")) from exc
        try:
            fcntl.flock(bus.fd or -1, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            with suppress(OSError):
                bus.close()
            raise _refusal(self._path, exc.errno or 0, "an I2C bus") from exc
        self._bus = bus
        self._refused.clear()
        self._timeout_s = 0.0
        if self._unstick is not None:
            try:
                self._unstick()
            except BusError:
                self.close()
                raise

    def close(self) -> None:
        """Close the device node."""
        if self._bus is not None:
            # The adapter keeps it for all who use it, the kernel's own drivers too.
            self._allow(_I2C_KERNELS_TIMEOUT_S)
            bus, self._bus = self._bus, None
            with suppress(OSError):
                bus.close()

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Write, repeated START, read; a plain read if `write` is empty. Raises BusError."""
        import smbus2

        answer = smbus2.i2c_msg.read(address, length)
        # A write of no bytes is a transaction of its own, which some adapters refuse.
        asked = [smbus2.i2c_msg.write(address, write)] if write else []
        self._transfer(address, len(write) + length, *asked, answer)
        return bytes(answer)

    def write(self, address: int, data: bytes) -> None:
        """Write in one transaction. Raises BusError."""
        import smbus2

        self._transfer(address, len(data), smbus2.i2c_msg.write(address, data))

    def _transfer(self, address: int, length: int, *messages: smbus2.i2c_msg) -> None:
        where = f"{self._path} 0x{address:02x}"
        if self._bus is None:
            raise BusError(f"{where}: bus is not open")
        if address not in self._refused:
            self._refused[address] = nodes.kernel_driver(self._path, address)
        if (driver := self._refused[address]) is not None:
            raise BusError(
                f"{where}: the kernel's driver {driver} has this address; "
                "set the device to another one, or take the kernel's away (dtoverlay)"
            )
        self._allow(max(_I2C_TIMEOUT_S, 2 * 9 * (length + 2) / _I2C_SLOWEST_HZ))
        for left in reversed(range(I2C_ATTEMPTS)):
            try:
                self._bus.i2c_rdwr(*messages)
            except OSError as exc:
                if exc.errno in _I2C_AGAIN and left:
                    continue
                if exc.errno in _I2C_GONE:
                    raise BusGoneError(f"{where}: {exc.strerror or exc}") from exc
                raise BusError(f"{where}: {_meaning(exc)}") from exc
            return

    def _allow(self, timeout_s: float) -> None:
        """Tell the adapter how long it may wait for a device; some cannot be told."""
        if self._bus is None or timeout_s == self._timeout_s:
            return
        self._timeout_s = timeout_s
        with suppress(OSError):
            fcntl.ioctl(self._bus.fd or -1, _I2C_TIMEOUT, math.ceil(timeout_s * 100))


class LinuxSerial:
    """A tty through pyserial, opened for us alone."""

    def __init__(self, path: str, line: LineSettings) -> None:
        self._path = path
        self._line = line
        self._port: serial.Serial | None = None

    def open(self) -> None:
        """Open and set the line. Raises BusError."""
        import serial

        try:
            self._port = serial.Serial(
                self._path,
                baudrate=self._line.baud,
                bytesize=self._line.data_bits,
                parity=self._line.parity,
                stopbits=self._line.stop_bits,
                timeout=0,
                write_timeout=2.0,
                exclusive=True,
            )
        except _PORT_ERRORS as exc:
            raise _port_error(self._path, exc) from exc
        except ValueError as exc:  # pyserial's word for a speed that the adapter refuses
            raise SpeedError(f"{self._path}: {exc}") from exc
        try:
            self._check_baud(self._port, self._line.baud)
        except BusError:
            self.close()
            raise

    def close(self) -> None:
        """Close the tty."""
        port, self._port = self._port, None
        if port is not None:
            with suppress(*_PORT_ERRORS):
                port.close()

    def read(self, timeout_s: float) -> bytes:
        """Return what has arrived, waiting up to `timeout_s` for the first byte."""
        port = self._opened()
        try:
            # pyserial's own waiting would set the whole line anew for each other time-out.
            if timeout_s > 0 and not select.select([port.fileno()], [], [], timeout_s)[0]:
                return b""
            return bytes(port.read(INPUT_LIMIT_BYTES))
        except _PORT_ERRORS as exc:
            raise _port_error(self._path, exc) from exc

    def write(self, data: bytes) -> None:
        """Send `data`. Raises BusError."""
        port = self._opened()
        try:
            port.write(data)
            self._drain(port, len(data))
        except _PORT_ERRORS as exc:
            raise _port_error(self._path, exc) from exc

    def discard_input(self) -> None:
        """Forget what arrived unread."""
        port = self._opened()
        try:
            port.reset_input_buffer()
        except _PORT_ERRORS as exc:
            raise _port_error(self._path, exc) from exc

    def set_baud(self, baud: int) -> None:
        """Change the speed of the open line. Raises BusError."""
        port = self._opened()
        try:
            port.baudrate = baud
        except _PORT_ERRORS as exc:
            raise _port_error(self._path, exc) from exc
        except ValueError as exc:
            raise SpeedError(f"{self._path}: {exc}") from exc
        self._check_baud(port, baud)

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise BusError(f"{self._path}: port is not open")
        return self._port

    def _drain(self, port: serial.Serial, length: int) -> None:
        # An adapter that hangs would hold tcdrain, and so the whole bus, for ever.
        until_s = time.monotonic() + length * 12 / port.baudrate + _DRAIN_S
        while left := port.out_waiting:
            if time.monotonic() > until_s:
                port.reset_output_buffer()
                raise BusGoneError(f"{self._path}: the adapter does not take what is sent")
            time.sleep(max(0.001, left * 10 / port.baudrate))  # to be woken once, at its end
        port.flush()

    def _check_baud(self, port: serial.Serial, baud: int) -> None:
        """Raise SpeedError where the adapter silently took another speed."""
        with suppress(OSError, *_PORT_ERRORS):
            settings = fcntl.ioctl(port.fileno(), _TCGETS2, bytes(44))
            set_baud: int = struct.unpack("=4I20s2I", settings)[-1]
            if abs(set_baud - baud) > _BAUD_TOLERANCE * baud:
                raise SpeedError(
                    f"{self._path}: the adapter cannot do {baud} baud, only {set_baud}: "
                    "take another adapter, or set the device to another speed"
                )


class PairedSerial:
    """The two ports of one sensor that needs both, opened and closed together."""

    def __init__(self, a: str, b: str, line: LineSettings) -> None:
        """Name both ports; both begin at the speed of `line`, and the driver may set either."""
        self.a = LinuxSerial(a, line)
        self.b = LinuxSerial(b, line)

    def open(self) -> None:
        """Open both, or none. Raises BusError."""
        self.a.open()
        try:
            self.b.open()
        except BusError:
            self.a.close()
            raise

    def close(self) -> None:
        """Close both."""
        self.a.close()
        self.b.close()


def _meaning(exc: OSError) -> str:
    """Return the system's word for what became of a transfer, and what to look at."""
    word = exc.strerror or str(exc)
    if exc.errno == errno.ETIMEDOUT:
        return f"{word}: a device holds the bus; check the pull-ups, or switch the devices off"
    if exc.errno in (errno.EREMOTEIO, errno.ENXIO):
        return f"{word}: nobody answers; check power, SDA, SCL and the address"
    return word


def _port_error(path: str, exc: Exception) -> BusError:
    # pyserial wraps the system's error in prose, sometimes without its number: dig it out.
    cause: BaseException | None = exc
    while cause is not None:
        number = cause.args[0] if isinstance(cause, (OSError, termios.error)) and cause.args else 0
        if isinstance(number, int) and number:
            return _refusal(path, number, "a serial port")
        cause = cause.__context__
    return BusGoneError(f"{path}: {exc}")


def _refusal(path: str, number: int, kind: str) -> BusError:
    if number not in (errno.EWOULDBLOCK, errno.EBUSY):
        return BusGoneError(_advice(path, number, kind))
    held = nodes.holder(path)
    if held is None:
        return BusyError(f"{path}: in use by another program")
    pid, program = held
    if pid == os.getpid():
        return BusyError(f"{path}: in use by this program already, maybe under another name")
    return BusyError(f"{path}: in use by another program: {program} (process {pid})")


def _advice(path: str, number: int, kind: str) -> str:
    """Return the system's word for `number`, and what a technician can do about it."""
    word = f"{path}: {os.strerror(number)}"
    match number:
        case errno.EACCES | errno.EPERM:
            return f"{word}: only group {_group_of(path)} may use it; add this user to that group"
        case errno.EISDIR | errno.ENOTTY:
            return f"{word}: this is not {kind}"
        case errno.ENOENT if kind == "an I2C bus":
            return f"{word}: is I2C switched on (raspi-config, or dtparam=i2c_arm=on)?"
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return f"{word}: is it plugged in? See `ls /dev/serial/by-id`"
    return word


def _group_of(path: str) -> str:
    with suppress(OSError, KeyError):
        return Path(path).group()
    return "dialout"
