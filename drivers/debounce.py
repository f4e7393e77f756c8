"""Which edges of a pin to believe: contacts bounce, cables pick up noise, threads are late.

Pure: times come with the edges, and "now" is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .gpio import Edge

# Edges reach us through lgpio's thread, late by a GIL switch or more. A level is believed only
# when a later edge that contradicts it would have come by now.
LATENESS_NS = 100_000_000


class Debouncer:
    """Believes a pin's new level once it has held for `min_gap_ns`; the time stays the edge's.

    Edges closer together than that reject each other, but the last one always stands: however
    long a contact chatters, the level believed in the end is the true one. All pins wait
    equally long, so the order of their edges is kept.
    """

    def __init__(self, levels: Mapping[int, int], min_gap_ns: int) -> None:
        # Edges not believed. Where the pins count people it tells of persons, and stays here.
        self.rejected = 0
        self._levels = dict(levels)
        self._min_gap_ns = min_gap_ns
        self._unsettled: dict[int, Edge] = {}  # the latest edge of a pin, oldest pin first

    @property
    def levels(self) -> Mapping[int, int]:
        """The level believed of each pin."""
        return self._levels

    @property
    def is_settled(self) -> bool:
        """Whether no edge waits to be believed."""
        return not self._unsettled

    def settle(self, edges: Sequence[Edge], now_ns: int) -> list[Edge]:
        """Take what came by `now_ns`; return the edges believed, those that may be late waiting."""
        settled = [believed for edge in edges for believed in self.take(edge)]
        return settled + self.advance(now_ns - LATENESS_NS)

    def take(self, edge: Edge) -> list[Edge]:
        """Take one edge; return those that had settled by its time."""
        settled = self.advance(edge.at_boot_ns)
        if self._unsettled.pop(edge.pin, None) is not None:
            self.rejected += 1
        if edge.level != self._levels[edge.pin]:
            self._unsettled[edge.pin] = edge
        else:
            self.rejected += 1
        return settled

    def advance(self, now_ns: int) -> list[Edge]:
        """Return the edges that have settled by `now_ns`, oldest first."""
        settled = [
            edge
            for edge in self._unsettled.values()
            if now_ns - edge.at_boot_ns >= self._min_gap_ns
        ]
        for edge in settled:
            del self._unsettled[edge.pin]
            self._levels[edge.pin] = edge.level
        return settled
