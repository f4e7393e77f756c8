"""The bench's wires: pseudo-terminals, an I2C bus in memory, pins that nobody soldered.

A simulated device speaks its protocol and knows nothing of the wire: it is told what the host
wrote and asked what it says, with the time as an argument. The wires here carry any of them.
"""

from __future__ import annotations

from typing import Protocol


class SerialDevice(Protocol):
    """A device on a serial line, seen from its own side."""

    def hear(self, data: bytes, now_s: float) -> None:
        """Take the bytes that the host sent."""
        ...

    def speak(self, now_s: float) -> bytes:
        """Return what the device has put on the line by `now_s` and not said before."""
        ...


class I2cDevice(Protocol):
    """A device at one I2C address."""

    def write(self, data: bytes, now_s: float) -> None:
        """Take one write transaction, a register pointer first."""
        ...

    def read(self, length: int, now_s: float) -> bytes:
        """Answer one read of `length` bytes from where the pointer stands."""
        ...


class PinActor(Protocol):
    """Something that moves pins: the person in the beam, the door."""

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        """Return the (pin, electrical level) changes due by `now_s`, in order, each once."""
        ...
