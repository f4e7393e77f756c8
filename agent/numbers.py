"""A set of whole numbers as ranges: which numbers of a stream were found. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

Range = tuple[int, int]  # first and last number, both in it

_BEYOND = 2**63


class Numbers:
    """Ranges that do not overlap, in order; what is put in must not overlap either."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []

    def overlaps(self, first: int, last: int) -> bool:
        """Tell whether any of first..last is in the set."""
        at = bisect_right(self._ranges, (first, _BEYOND))
        before, after = self._ranges[at - 1 : at], self._ranges[at : at + 1]
        return any(own_last >= first for _, own_last in before) or any(
            own_first <= last for own_first, _ in after
        )

    def take(self, first: int, last: int) -> None:
        """Put first..last in; none of them is there yet."""
        at = bisect_right(self._ranges, (first, _BEYOND))
        if at < len(self._ranges) and self._ranges[at][0] == last + 1:
            last = self._ranges.pop(at)[1]
        if at and self._ranges[at - 1][1] + 1 == first:
            self._ranges[at - 1] = (self._ranges[at - 1][0], last)
        else:
            insort(self._ranges, (first, last))

    def ranges(self) -> list[Range]:
        """Return the ranges, lowest first."""
        return list(self._ranges)

    def missing(self, first: int, last: int) -> Iterator[Range]:
        """Yield what of first..last is not in the set."""
        expected = first
        at = max(0, bisect_right(self._ranges, (first, _BEYOND)) - 1)
        while expected <= last and at < len(self._ranges):
            own_first, own_last = self._ranges[at]
            if own_first > last:
                break
            if own_first > expected:
                yield expected, own_first - 1
            expected = max(expected, own_last + 1)
            at += 1
        if expected <= last:
            yield expected, last
