"""Counting people without watching anybody.

A window gathers crossings by direction, in memory, and the seconds in which the sensor worked.
The true counts leave this module only into the release, where noise is added once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from drivers.base import (
    Alive,
    Crossing,
    Direction,
    Fix,
    Observation,
    Reading,
    Reason,
    Trouble,
    Withheld,
)

from ..aggregate import later


class Counted(Withheld):
    """What a window of a people sensor gathers. It prints nothing about what it holds.

    `fix` is where the gateway was at the window's end, which depends on nobody.
    """

    __slots__ = ("_alive_second", "_counts", "alive_s", "fix", "troubles")

    def __init__(self, directions: Iterable[Direction]) -> None:
        self._counts: dict[str, int] = dict.fromkeys(directions, 0)
        self._alive_second = -1
        self.alive_s = 0
        self.fix: Fix | None = None
        self.troubles: Counter[Reason] = Counter()

    def add(self, observation: Observation) -> None:
        """Take a crossing, a sign of life or a trouble."""
        match observation:
            case Crossing(direction=direction) if direction in self._counts:
                self._counts[direction] += 1
            case Alive(at_boot_ns=at_boot_ns):
                second = at_boot_ns // 1_000_000_000
                if second != self._alive_second:
                    self._alive_second = second
                    self.alive_s += 1
            case Trouble(reason=reason):
                self.troubles[reason] += 1
            case Fix():
                self.fix = later(self.fix, observation)
            case Reading() | Crossing():
                pass  # a people sensor measures nothing, and counts only its own directions

    def take(self) -> dict[str, int]:
        """Hand the true counts to the release, and forget them: a second call finds nothing.

        Raises RuntimeError when they were taken before.
        """
        if not self._counts:
            raise RuntimeError("a window's counts are released once")
        counts, self._counts = self._counts, {}
        return counts
