"""What a UART hears of a line whose two wires are swapped: every level is the other one.

Worked out bit by bit: a line at rest looks like a long break, a start bit like rest, and the first
falling edge within a byte like the start of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

REST_BITS = 20  # between what is said at once


class Reversed:
    """A serial device at the end of a swapped pair."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self.framing_errors = 0
        self.breaks = 0

    def hear(self, data: bytes, now_s: float) -> None:
        """Take what the host sent, upside down."""
        self._device.hear(self._through(data), now_s)

    def speak(self, now_s: float) -> bytes:
        """Return what the host hears of what the device says."""
        return self._through(self._device.speak(now_s))

    def _through(self, data: bytes) -> bytes:
        if not data:
            return b""
        heard, errors, breaks = reversed_polarity(data)
        self.framing_errors += errors
        self.breaks += breaks
        return heard


def reversed_polarity(data: bytes) -> tuple[bytes, int, int]:
    """Return what is heard of `data` (8N1), and how many framing errors and breaks there were.

    As Linux hands it on by default: a byte without a stop bit as it is, a break as 0x00.
    """
    levels = [1 - each for each in _levels(data)]
    heard = bytearray()
    errors = breaks = at = 0
    while at < len(levels):
        if levels[at]:  # at rest, as it seems
            at += 1
            continue
        frame = levels[at + 1 : at + 10]
        if len(frame) < 9:
            break
        byte = sum(bit << place for place, bit in enumerate(frame[:8]))
        heard.append(byte)
        if frame[8]:
            at += 10
            continue
        if byte:
            errors += 1
        else:
            breaks += 1
        at += 10
        while at < len(levels) and not levels[at]:
            at += 1
    return bytes(heard), errors, breaks


def _levels(data: bytes) -> Iterator[int]:
    yield from [1] * REST_BITS
    for byte in data:
        yield 0
        yield from (byte >> place & 1 for place in range(8))
        yield 1
    yield from [1] * REST_BITS
