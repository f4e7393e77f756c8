"""Sets of whole numbers as ranges: a million records in order are one range. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]  # first and last number, both in it


class Numbers:
    """A set of whole numbers as ranges that neither touch nor overlap, in order."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges())

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def ranges(self) -> Iterator[Range]:
        """Yield the ranges, lowest first."""
        return zip(self._firsts, self._lasts, strict=True)

    def overlaps(self, first: int, last: int) -> bool:
        """Tell whether any of first..last is in the set."""
        at = bisect_left(self._lasts, first)
        return at < len(self._firsts) and self._firsts[at] <= last

    @property
    def highest(self) -> int:
        """The highest number, 0 if there is none."""
        return self._lasts[-1] if self._lasts else 0

    def add(self, first: int, last: int) -> list[Range]:
        """Add first..last and return those of them that are new."""
        new = self.holes(first, last)
        if new:
            # All ranges that overlap or touch first..last become one.
            begin = bisect_left(self._lasts, first - 1)
            end = bisect_right(self._firsts, last + 1)
            if begin < end:
                first = min(first, self._firsts[begin])
                last = max(last, self._lasts[end - 1])
            self._firsts[begin:end] = [first]
            self._lasts[begin:end] = [last]
        return new

    def holes(self, first: int, last: int) -> list[Range]:
        """Return what of first..last is not in the set."""
        holes = []
        at = bisect_left(self._lasts, first)
        while first <= last and at < len(self._firsts) and self._firsts[at] <= last:
            if first < self._firsts[at]:
                holes.append((first, self._firsts[at] - 1))
            first = self._lasts[at] + 1
            at += 1
        if first <= last:
            holes.append((first, last))
        return holes


def count(ranges: Iterable[Range]) -> int:
    """Return how many numbers are in ranges that do not overlap."""
    return sum(last - first + 1 for first, last in ranges)
