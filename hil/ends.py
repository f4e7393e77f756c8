"""The device's end of each wire: what an emulated device is told, and what it is asked.

A device speaks its protocol and knows nothing of the wire: it is told what the host wrote and
asked what it says, with the time as an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SerialDevice(Protocol):
    """A device on a serial line, seen from its own side.

    One with an attribute `baud` speaks and understands that speed only: a host at another hears
    garbage, and so does the device.
    """

    def hear(self, data: bytes, now_s: float) -> None:
        """Take the bytes that the host sent."""
        ...

    def speak(self, now_s: float) -> bytes:
        """Return what the device has put on the line by `now_s` and not said before."""
        ...


class NackError(Exception):
    """An I2C device does not acknowledge: it is booting, or does not know what was written."""


class I2cDevice(Protocol):
    """A device at one I2C address; either call may raise NackError."""

    def write(self, data: bytes, now_s: float) -> None:
        """Take one write transaction, a register pointer first."""
        ...

    def read(self, length: int, now_s: float) -> bytes:
        """Answer one read of `length` bytes from where the pointer stands."""
        ...


class PinActor(Protocol):
    """Something that moves pins: the person in the beam, the door.

    One with an attribute `next_s` knows when it moves a pin next, and is not asked before.
    """

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        """Return the (pin, electrical level) changes due by `now_s`, in order, each once."""
        ...


class FileDevice(Protocol):
    """Something that the kernel shows as small files."""

    def files(self, now_s: float) -> Mapping[str, str | OSError]:
        """Return the text behind each absolute path; a path is missing where the kernel has none.

        An OSError in place of a text is what reading that file fails with.
        """
        ...
