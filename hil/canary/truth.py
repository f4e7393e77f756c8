"""The true counts, as the process had them in memory, and the released figures beside them.

A released figure may equal the true count as often as chance has it: discrete Laplace noise is 0
with probability tanh(epsilon / 2), 12.4 % at 1/4. More often is a leak; fewer is as suspicious.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from .pattern import PINS, WAYS, S
from .search import at_least, at_most
from .site import Evidence

NEAR_NS = 10**6  # a crossing may be told so far from its place in the pattern

Series = dict[int, float]  # by second of UTC


@dataclass(frozen=True, slots=True)
class Figures:
    """The released figures of whole windows, beside the truth."""

    errors: list[int]  # released minus true

    def equal(self) -> int:
        """Return how often the true count was released."""
        return sum(error == 0 for error in self.errors)

    def chance(self, epsilon: float) -> float:
        """Return the probability of as many equal ones, or a more extreme number on that side."""
        share, hits, of = math.tanh(epsilon / 2), self.equal(), len(self.errors)
        return min(at_least(hits, of, share), at_most(hits, of, share))

    def sd(self) -> float:
        """Return the standard deviation of the noise."""
        return math.sqrt(sum(error**2 for error in self.errors) / len(self.errors))


@dataclass(slots=True)
class Truth:
    """The true counts, by (sensor, way) and second of UTC."""

    counts: dict[tuple[str, str], Counter[int]]
    whole: set[int]  # seconds in which every pulse of the pattern was heard
    boot_to_utc_ns: int

    @classmethod
    def of(cls, evidence: Evidence) -> Truth:
        """Count what was heard, and compare it with the pattern."""
        counts: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        for each in evidence.crossed:
            counts[each.sensor, each.way][each.utc_ns // S] += 1
        first = evidence.crossed[0]
        shift_ns = first.utc_ns - first.boot_ns
        zero = round((evidence.pattern.origin_ns + shift_ns) / S)
        seconds = {each.utc_ns // S for each in evidence.crossed if each.sensor in PINS}
        whole = set()
        for second in seconds:
            due = Counter(
                (beat.sensor, beat.way) for beat in evidence.pattern.second(second - zero)
            )
            if all(counts[name, way][second] == due[name, way] for name in PINS for way in WAYS):
                whole.add(second)
        return cls(counts, whole, shift_ns)

    def of_sensor(self, name: str) -> dict[str, Series]:
        """Return a counter's numbers in whole seconds: each way and both."""
        ways: dict[str, Series] = {
            f"{name} {way}": {at: self.counts[name, way][at] for at in self.whole} for way in WAYS
        }
        return ways | {name: {at: sum(each[at] for each in ways.values()) for at in self.whole}}

    def of_all(self) -> dict[str, Series]:
        """Return each counter's number, and that of all together."""
        each = {name: self.of_sensor(name)[name] for name in PINS}
        return each | {"all": {at: sum(one[at] for one in each.values()) for at in self.whole}}


def figures(released: Mapping[tuple[str, str, int], int], truth: Truth) -> Figures:
    """Hold the released figures of whole windows against the truth."""
    errors = [
        figure - truth.counts[sensor, way][second]
        for (sensor, way, second), figure in released.items()
        if second in truth.whole
    ]
    return Figures(errors)


def strangers(evidence: Evidence) -> int:
    """Return how many crossings the counters told that are not in the pattern."""
    first, last = (pick(each.boot_ns for each in evidence.crossed) for pick in (min, max))
    pattern = evidence.pattern
    seconds = range((first - pattern.origin_ns) // S, (last - pattern.origin_ns) // S + 1)
    beats: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number in seconds:
        for beat in pattern.second(number):
            beats[beat.sensor, beat.way].append(beat.at_ns)
    found = 0
    for each in evidence.crossed:
        if each.sensor in PINS:
            own = beats[each.sensor, each.way]  # in order
            at = bisect_left(own, each.boot_ns - NEAR_NS)
            found += at == len(own) or own[at] > each.boot_ns + NEAR_NS
    return found
