"""To listen in on a sensor's bus while somebody asks, in a gateway that runs.

The driver talks through a wire that is the bus itself, or the bus with a tap on it (`tap`) as long
as somebody wants to see what passes: at most CHUNKS entries are kept, and none once nobody has
asked for LISTEN_S. Never built for a sensor that counts people: its bytes are persons.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from drivers.base import Clock, Options, Spec

from .tap import Entry, Tap

CHUNKS = 20
LISTEN_S = 10.0
CHUNK_DIGITS = 1024  # hexadecimal ones shown of an entry
ROUNDED_NS = 1000  # an entry's time is rounded up to as much


class Ear:
    """One sensor's wire, and what was heard on it."""

    def __init__(self, wire: Any, spec: Spec, options: Options, now_ns: Clock) -> None:
        """Wire it up. Raises ValueError for a sensor of people."""
        if spec.kind == "people":
            raise ValueError(f"{spec.name} counts people: nobody listens in")
        self._plain = wire
        self._now_ns = now_ns
        self._tap = Tap(now_ns, self._hear)
        self._tapped = self._tap.onto(wire, spec, options)
        self._chunks: deque[tuple[int, Entry]] = deque(maxlen=CHUNKS)
        self._until_ns = 0
        self._number = 0
        self.now = wire  # what the driver talks through at present
        self.wire = _Wire(self)

    def listen(self) -> int:
        """Listen from now on, for LISTEN_S, and return that boot time.

        Called again and again while somebody wants to see.
        """
        now_ns = self._now_ns()
        self._until_ns = now_ns + round(LISTEN_S * 1e9)
        self.now = self._tapped
        return now_ns

    def heard(
        self, after: int = 0, until_ns: int | None = None
    ) -> tuple[list[tuple[int, Entry]], int]:
        """Return entries later than number `after`, with their boot times; and the last number.

        None that is later than the boot time `until_ns`.
        """
        chunks, last = list(self._chunks), self._number
        new = chunks[-(last - after) :] if last > after else []
        while until_ns is not None and new and new[-1][0] > until_ns + ROUNDED_NS:
            new.pop()
            last -= 1
        return [(at_ns, shown(entry)) for at_ns, entry in new], last

    def _hear(self, entry: Entry) -> None:
        """Take an entry; called by whoever owns the bus."""
        at_ns = self._tap.start_ns + round(entry["t_s"] * 1e9)
        if at_ns > self._until_ns:
            self.now = self._plain
            self._chunks.clear()
            return
        self._chunks.append((at_ns, entry))
        self._number += 1


class _Wire:
    """What the driver is given: each call goes to what `now` is."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ear.now, name)


def shown(entry: Entry) -> Entry:
    """Return an entry without its time, its bytes cut to what somebody can look at."""
    return {
        name: value[:CHUNK_DIGITS] if isinstance(value, str) else value
        for name, value in entry.items()
        if name != "t_s"
    }
