"""What is measured of a gateway while it is played: now and then, and whenever it is cut off."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

from agent.spool import SpoolError

from ..relay import Relay
from .book import Book, Measure
from .clockwork import S
from .life import Life
from .places import Place

MOST = 1500  # in a run
LEAST_S = 60.0  # between two
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Looks:
    """Looks at a life, and writes down what it sees."""

    def __init__(self, book: Book, place: Place, relay: Relay, lasts_s: float) -> None:
        self._book, self._place, self._relay = book, place, relay
        self._every_ns = round(max(LEAST_S, lasts_s / MOST) * S)
        self._away_s: float | None = None
        self.due_ns = 0

    def look(self, life: Life | None, now_ns: int) -> None:
        """Measure; the next time is due a while later."""
        self.due_ns = now_ns + self._every_ns
        if life is None:
            return
        self.crossings(life)
        with suppress(SpoolError, OSError):  # of a disk that fails there is nothing to tell
            self._book.measure(
                Measure(
                    now_ns / S,
                    _rss_bytes(),
                    life.gateway.spool.bytes(),
                    self._place.used_bytes(),
                    life.waiting,
                    len(os.listdir("/proc/self/fd")) - 1,  # noqa: PTH208  (a path each is a waste)
                    threading.active_count(),
                    self._relay.bytes_to_target,
                    float(life.is_connected),
                )
            )

    def crossings(self, life: Life) -> None:
        """Take down who passed, which nobody but the bench knows."""
        for sensor, taken, shift_s in life.take_crossings():
            self._book.passed(sensor, taken, shift_s)

    def connection(self, now_s: float, *, is_there: bool) -> None:
        """Take down since when the broker is not there, and until when."""
        if not is_there and self._away_s is None:
            self._away_s = now_s
        elif is_there and self._away_s is not None:
            if now_s > self._away_s:
                self._book.outages.append((self._away_s, now_s))
            self._away_s = None


def _rss_bytes() -> int:
    """Return this process's memory, to the page: the gateway itself tells it more coarsely."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE_BYTES
