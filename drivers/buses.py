"""The wires: an I2C bus and a serial port, as drivers see them and as Linux gives them.

Drivers are written against the protocols `I2cBus` and `SerialPort`. The adapters below are the
only place that sees OSError: it leaves here as BusError with the device's path, the address and
the system's own word for what happened. A bus is owned by one thread.
"""

from __future__ import annotations

import errno
import os
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from .base import BusError, LineSettings

if TYPE_CHECKING:
    import serial
    import smbus2

INPUT_LIMIT_BYTES = 65536

# What pyserial lets through when a device goes: TypeError is its word for a closed descriptor,
# and termios.error is no OSError.
_PORT_ERRORS = (OSError, TypeError, termios.error)


class I2cBus(Protocol):
    """Transactions with 7-bit addresses; each raises BusError when it fails."""

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Write `write`, repeat START, read `length` bytes; with b"" to write, only read."""
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
    """/dev/i2c-N through smbus2, with raw transfers: block reads of SMBus end at 32 bytes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._bus: smbus2.SMBus | None = None

    def open(self) -> None:
        """Open the device node. Raises BusError."""
        import smbus2

        try:
            self._bus = smbus2.SMBus(self._path)
        except OSError as exc:
            raise BusError(f"{self._path}: {exc.strerror or exc}") from exc

    def close(self) -> None:
        """Close the device node."""
        bus, self._bus = self._bus, None
        if bus is not None:
            with suppress(OSError):
                bus.close()

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Write, repeated START, read; only read if there is nothing to write. Raises BusError."""
        import smbus2

        answer = smbus2.i2c_msg.read(address, length)
        # A write of no bytes is a transaction of its own, which some adapters refuse.
        asked = [smbus2.i2c_msg.write(address, write)] if write else []
        self._transfer(address, *asked, answer)
        return bytes(answer)

    def write(self, address: int, data: bytes) -> None:
        """Write in one transaction. Raises BusError."""
        import smbus2

        self._transfer(address, smbus2.i2c_msg.write(address, data))

    def _transfer(self, address: int, *messages: smbus2.i2c_msg) -> None:
        if self._bus is None:
            raise BusError(f"{self._path} 0x{address:02x}: bus is not open")
        try:
            self._bus.i2c_rdwr(*messages)
        except OSError as exc:
            raise BusError(f"{self._path} 0x{address:02x}: {exc.strerror or exc}") from exc


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
        except (*_PORT_ERRORS, ValueError) as exc:
            raise BusError(_reason(self._path, exc)) from exc

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
            if port.timeout != timeout_s:
                port.timeout = timeout_s
            first: bytes = port.read(1) if timeout_s > 0 else b""
            if timeout_s > 0 and not first:
                return b""
            return first + bytes(port.read(min(port.in_waiting, INPUT_LIMIT_BYTES)))
        except _PORT_ERRORS as exc:
            raise BusError(_reason(self._path, exc)) from exc

    def write(self, data: bytes) -> None:
        """Send `data`. Raises BusError."""
        port = self._opened()
        try:
            port.write(data)
            port.flush()
        except _PORT_ERRORS as exc:
            raise BusError(_reason(self._path, exc)) from exc

    def discard_input(self) -> None:
        """Forget what arrived unread."""
        port = self._opened()
        try:
            port.reset_input_buffer()
        except _PORT_ERRORS as exc:
            raise BusError(_reason(self._path, exc)) from exc

    def set_baud(self, baud: int) -> None:
        """Change the speed of the open line. Raises BusError."""
        port = self._opened()
        try:
            port.baudrate = baud
        except (*_PORT_ERRORS, ValueError) as exc:
            raise BusError(_reason(self._path, exc)) from exc

    def _opened(self) -> serial.Serial:
        if self._port is None:
            raise BusError(f"{self._path}: port is not open")
        return self._port


def _reason(path: str, exc: Exception) -> str:
    # pyserial wraps the system's error in prose, sometimes without its number: dig it out.
    cause: BaseException | None = exc
    while cause is not None:
        number = cause.args[0] if isinstance(cause, (OSError, termios.error)) and cause.args else 0
        if number == errno.EWOULDBLOCK:
            return f"{path}: in use by another program"
        if isinstance(number, int) and number:
            return f"{path}: {os.strerror(number)}"
        cause = cause.__context__
    return f"{path}: {exc}"
