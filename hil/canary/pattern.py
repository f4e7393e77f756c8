"""A known pattern of crossings: whoever has its seed knows each of them to the millisecond.

Eight counters with two outputs each. In every second of UTC each output gives 0 to 24 pulses: half
of that is the crowd's, the same for all of them, half its own, so that every counter's number says
something of the total and none says all. The pulses are dealt out at random over the middle eight
tenths of the second: none is so near to the seam of two windows that it might be in either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from drivers.base import Clock, Direction

from ..pins import SimulatedPins

S = 1_000_000_000
WAYS: tuple[Direction, ...] = ("towards", "away")
PINS = {f"counter-{at}": (2 + 2 * at, 3 + 2 * at) for at in range(8)}  # sensor -> towards, away

MOST = 24  # pulses of one output in a second
SEAM_NS = S // 10
SLOT_NS = 20_000_000
SLOTS = (S - 2 * SEAM_NS) // SLOT_NS - 1
JITTER_NS, PULSE_NS = 8_000_000, 6_000_000  # the rest of its slot is the pause to the next


@dataclass(frozen=True, slots=True, order=True)
class Beat:
    """One pulse, by the boot-time clock; it counts when it ends."""

    begin_ns: int
    sensor: str
    way: Direction

    @property
    def at_ns(self) -> int:
        """When it counts."""
        return self.begin_ns + PULSE_NS


@dataclass(frozen=True, slots=True)
class Pattern:
    """All that ever crosses. Second 0 begins at `origin_ns`, where a second of UTC does."""

    seed: int
    origin_ns: int  # boot time

    def second(self, number: int) -> list[Beat]:
        """Return the pulses of one second, in order."""
        dice = Random(f"{self.seed} {number}")
        crowd, beats = dice.random(), []
        for sensor in PINS:
            for way in WAYS:
                count = round(MOST * (crowd + dice.random()) / 2)
                shift_ns = SEAM_NS + dice.randrange(SLOT_NS)
                for slot in dice.sample(range(SLOTS), count):
                    begin_ns = shift_ns + slot * SLOT_NS + dice.randrange(JITTER_NS)
                    beats.append(Beat(self.origin_ns + number * S + begin_ns, sensor, way))
        return sorted(beats)

    def edges(self, from_ns: int) -> Iterator[tuple[int, int, int]]:
        """Yield (boot time, pin, level) for ever, of all pulses that begin after `from_ns`."""
        number = max(0, (from_ns - self.origin_ns) // S)
        while True:
            edges = []
            for beat in self.second(number):
                if beat.begin_ns > from_ns:
                    pin = PINS[beat.sensor][WAYS.index(beat.way)]
                    edges += [(beat.begin_ns, pin, 0), (beat.at_ns, pin, 1)]
            yield from sorted(edges)  # no pulse reaches into the next second
            number += 1


class PatternPins(SimulatedPins):
    """Pins on which the pattern is played beside the actors, at its own times."""

    def __init__(
        self, pattern: Pattern, actors: Sequence[Any], *, now_ns: Clock, seed: int = 0
    ) -> None:
        super().__init__(actors, now_ns=now_ns, seed=seed)
        self._pattern = pattern
        self._edges: Iterator[tuple[int, int, int]] | None = None

    def _play(self) -> None:
        super()._play()
        until_ns = self._now_ns()
        if self._edges is None:
            self._edges = self._pattern.edges(until_ns)
            self._next = next(self._edges)
        while self._next[0] <= until_ns:
            at_ns, pin, level = self._next
            self._factory.drive(pin, level, at_ns)
            self._next = next(self._edges)


class Unmoved:
    """A PinActor that leaves its pins to the pattern."""

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        """Return nothing."""
        return []
