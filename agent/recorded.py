"""Buses that answer as a recording does.

What a driver asks is answered by the next entry that was asked the same; what was never recorded
fails, or, where the driver only writes, is accepted. Entries that were answered move the clock, so
that a driver's time-outs fall where they fell.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from drivers.base import BusError
from drivers.gpio import Edge, Pull


@dataclass(frozen=True, slots=True)
class Answered:
    """One question of a recording, and what came of it."""

    t_s: float
    who: Hashable  # the I2C address; the path of a file
    asked: Hashable
    answer: bytes | str | list[str] | None  # None: nothing was to be answered, or it failed
    error: str = ""  # the system's name of what failed


class Script:
    """What was asked and answered, in the file's order, each entry given once."""

    def __init__(self, reached: Callable[[float], None]) -> None:
        """`reached` is told the time of each entry that is given."""
        self.touched: set[Hashable] = set()  # whom the driver has asked so far
        self.has_failed = False  # an error that was recorded has been given
        self._reached = reached
        self._entries: dict[int, Answered] = {}  # by place in the file, those not yet given
        self._places: dict[Hashable, deque[int]] = {}
        self._count = 0
        self._front = 0  # no entry before this place is left

    def record(self, entry: Answered) -> None:
        """Add the file's next entry."""
        self._entries[self._count] = entry
        self._places.setdefault((entry.who, entry.asked), deque()).append(self._count)
        self._count += 1

    def first(self) -> Answered | None:
        """Return the earliest entry that was not given."""
        while self._front < self._count and self._front not in self._entries:
            self._front += 1
        return self._entries.get(self._front)

    def drop(self, entry: Answered) -> None:
        """Give up the first entry if it is still `entry`: nobody asks for it."""
        if self.first() is entry:
            self._entries.pop(self._places[entry.who, entry.asked].popleft())

    def ask(self, who: Hashable, *asked: Hashable) -> Answered | None:
        """Return the next entry of any of these questions, None if there is none left."""
        self.touched.add(who)
        lines = [line for each in asked if (line := self._places.get((who, each)))]
        if not lines:
            return None
        entry = self._entries.pop(min(lines, key=lambda line: line[0]).popleft())
        self._reached(entry.t_s)
        self.has_failed = self.has_failed or bool(entry.error)
        return entry


class RecordedI2c:
    """An I2cBus."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def read(self, address: int, write: bytes, length: int) -> bytes:
        """Answer as it was answered."""
        where = f"recorded 0x{address:02x}"
        entry = self._script.ask(address, ("read", write), ("error", write))
        if entry is None:
            raise BusError(f"{where}: EREMOTEIO, not in this recording")
        if entry.error:
            raise BusError(f"{where}: {entry.error}")
        if not isinstance(entry.answer, bytes) or len(entry.answer) < length:
            raise BusError(f"{where}: EIO, the recorded answer is too short")
        return entry.answer[:length]

    def write(self, address: int, data: bytes) -> None:
        """Accept anything but what failed: the file may not hold what the driver configures."""
        entry = self._script.ask(address, ("write", data), ("error", data))
        if entry is not None and entry.error:
            raise BusError(f"recorded 0x{address:02x}: {entry.error}")


class RecordedFiles:
    """Small files of the kernel."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def read(self, path: str) -> str:
        """Return the text that was read."""
        entry = self._asked(path, "text")
        if entry is None or not isinstance(entry.answer, str):
            raise BusError(f"{path}: {os.strerror(errno.ENOENT)}, not in this recording")
        return entry.answer

    def names(self, folder: str) -> list[str]:
        """Return the names that were listed; nothing where no listing is recorded."""
        entry = self._asked(folder, "names")
        return list(entry.answer) if entry is not None and isinstance(entry.answer, list) else []

    def _asked(self, path: str, what: str) -> Answered | None:
        entry = self._script.ask(path, what, "error")
        if entry is not None and entry.error:
            raise BusError(f"recorded {path}: {entry.error}")
        return entry


class RecordedPins:
    """Pins that move as the recording does; the bus and the watch in one."""

    def __init__(self) -> None:
        self._levels: dict[int, int] = {}
        self._watched: set[int] = set()
        self._edges: list[Edge] = []

    def watch(self, pins: Sequence[int], *, pull: Pull) -> RecordedPins:
        """Take `pins`; one that the recording has not yet named rests where its pull is."""
        self._watched.update(pins)
        for pin in pins:
            self._levels.setdefault(pin, 0 if pull == "down" else 1)
        return self

    def find(self, pin: int, level: int) -> None:
        """Let a pin stand at `level` without having moved."""
        self._levels[pin] = level

    def move(self, edge: Edge) -> None:
        """Let a pin that is watched move."""
        if edge.pin in self._watched and self._levels[edge.pin] != edge.level:
            self._levels[edge.pin] = edge.level
            self._edges.append(edge)

    def edges(self) -> list[Edge]:
        """Take the edges since the last call."""
        edges, self._edges = self._edges, []
        return edges

    def level(self, pin: int) -> int:
        """Return the level now."""
        return self._levels[pin]

    def close(self) -> None:
        """Give the pins back."""
        self._watched.clear()
        self._edges.clear()
