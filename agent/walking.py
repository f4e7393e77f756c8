"""People who walk through a people sensor, know of it and agree: how many it counts, which way.

Totals live in memory as long as the test goes on; no time of a crossing, no picture and no total is
kept, logged or sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from drivers.base import Alive, BusError, Crossing, Direction, DriverError, Trouble

from .direct import SILENT_AFTER

if TYPE_CHECKING:
    from .direct import Direct, Round


class Walks:
    """One test, held open: the device warms up once."""

    def __init__(self, direct: Direct) -> None:
        """Count with an open sensor."""
        self._direct = direct
        self._rounds = direct.rounds()
        self._last_s = 0.0
        self._silent = 0
        self.counted: dict[Direction, int] = {}

    @property
    def total(self) -> int:
        """How many were counted, whichever way."""
        return sum(self.counted.values())

    @property
    def quiet_s(self) -> float:
        """How long ago the last one was counted."""
        return self._direct.elapsed_s - self._last_s

    def wait_ready(self, is_over: Callable[[], bool], warming: Callable[[], object]) -> bool:
        """Wait until it works; False if it did not before `is_over`. Raises DriverError."""
        while not is_over():
            told = self._next()
            if any(isinstance(seen, Alive) for seen in told.observations):
                return True
            if any(isinstance(s, Trouble) and s.reason == "warmup" for s in told.observations):
                warming()
        return False

    def count(self, is_over: Callable[[], bool]) -> None:
        """Count who passes, until `is_over`. Raises DriverError."""
        while not is_over():
            for seen in self._next().observations:
                if isinstance(seen, Crossing):
                    self.counted[seen.direction] = self.counted.get(seen.direction, 0) + 1
                    self._last_s = self._direct.elapsed_s

    def _next(self) -> Round:
        told = next(self._rounds)
        error: DriverError | None = told.error
        self._silent = self._silent + 1 if isinstance(error, BusError) else 0
        if error is not None and self._silent >= SILENT_AFTER:
            raise error
        return told
