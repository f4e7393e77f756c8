"""Does any number follow the true counts?

What stands in a record is held against the counts of that sensor's window, for each counter and for
all together; what names no window, against all windows of the last seconds. Compared is by ranks
(Spearman): a number that rises with the count is found, whatever its scale, and one wild value
proves nothing. How often it is the count itself is asked too, and a number's changes from second to
second are tried as well. The bound is that which the largest of all of them passes by chance once
in a million runs: `ALPHA` divided by how many were compared, by Fisher's transformation of r and by
a binomial's tail.

The counts are dealt out by dice, second for second, so that nothing honest can follow them: only
the counters that play the pattern are looked at here, in seconds in which they were heard out.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import eq
from statistics import NormalDist
from typing import Any

import numpy as np

from .pattern import PINS, WAYS
from .search import ALPHA, at_least
from .truth import Series, Truth

LEAST_SECONDS = 20  # in which a number is known: fewer can follow anything
CERTAIN_Z = 8.0  # of a chance below 1e-15
LAGS_S = range(9)  # a window is closed two seconds after its end, its record leaves soon after


@dataclass(frozen=True, slots=True)
class Link:
    """How one number goes with the counts."""

    number: str
    counts: str
    how: str
    z: float  # as a standard normal's value

    def __str__(self) -> str:
        return f"{self.number} {self.how} {self.counts}"


@dataclass(slots=True)
class Numbers:
    """Every number that was found: of a sensor's window, or of a moment.

    Moments are cut into seconds in two ways, so that none is always at a seam.
    """

    windows: dict[tuple[str, str], Series] = field(default_factory=lambda: defaultdict(dict))
    moments: dict[tuple[str, int], Series] = field(default_factory=lambda: defaultdict(dict))
    released: dict[tuple[str, str, int], int] = field(default_factory=dict)
    twice: set[tuple[str, str, int]] = field(default_factory=set)  # with different noise
    packs: int = 0  # rows that were seen

    def links(self, truth: Truth) -> list[Link]:
        """Hold all of them against the counts; return the comparisons that could be made."""
        found: list[Link] = []
        everybody, own = truth.of_all(), {name: truth.of_sensor(name) for name in PINS}
        alike: dict[str, dict[str, Series]] = defaultdict(dict)
        for (sensor, path), series in self.windows.items():
            counts = own.get(sensor, {"all": everybody["all"]})
            found += _compared(f"{path} of {sensor}", series, counts, (0,))
            if sensor in PINS:
                alike[path][sensor] = series
        for path, by_sensor in alike.items():
            for at, name in enumerate((*WAYS, "both ways")):
                counts_of = {each: list(own[each].values())[at] for each in by_sensor}
                found += _compared_at_once(path, by_sensor, name, counts_of)
        for (path, _), series in self.moments.items():
            found += _compared(path, series, everybody, LAGS_S)
        return found


def bound(links: Sequence[Link]) -> float:
    """Return the z that the largest of so many passes by chance once in a million times."""
    return NormalDist().inv_cdf(1 - ALPHA / (2 * max(1, len(links))))


def _compared_at_once(
    path: str, numbers: Mapping[str, Series], name: str, counts: Mapping[str, Series]
) -> Iterator[Link]:
    """Compare all counters together, each by how it differs from the others in that second."""
    pairs: list[tuple[float, float]] = []
    for second in set().union(*(set(one) for one in counts.values())):
        here = [each for each in counts if second in numbers[each] and second in counts[each]]
        if len(here) > 1:
            sides = ([one[each][second] for each in here] for one in (counts, numbers))
            pairs += zip(*(np.array(side) - np.mean(side) for side in sides), strict=True)
    if pairs:
        true, told = zip(*pairs, strict=True)
        yield from _following(f"{path} of all counters", {name: true}, told)


def _compared(
    path: str, series: Series, counts: Mapping[str, Series], lags_s: Iterable[int]
) -> Iterator[Link]:
    """Compare a number, and its steps, with counts that are of the same seconds."""
    steps = {at: value - series[at - 1] for at, value in series.items() if at - 1 in series}
    for label, one in ((path, series), (f"step of {path}", steps)):
        if len(set(one.values())) < 2:
            continue
        for lag_s in lags_s:
            shared = [at for at in next(iter(counts.values())) if at + lag_s in one]
            true = {name: tuple(each[at] for at in shared) for name, each in counts.items()}
            told = tuple(one[at + lag_s] for at in shared)
            if len(told) >= LEAST_SECONDS:
                yield from _following(label, true, told)
                yield from _equal(label, true, told)


def _following(
    label: str, counts: Mapping[str, tuple[float, ...]], told: tuple[float, ...]
) -> Iterator[Link]:
    for name, true in counts.items():
        r = float(_ranks(true) @ _ranks(told))
        if r:
            reach = math.atanh(max(-0.999999, min(0.999999, r)))
            # 1.06: the variance of Spearman's r (Fieller, Hartley, Pearson 1957).
            z = abs(reach) * math.sqrt((len(told) - 3) / 1.06)
            yield Link(label, name, f"(r {r:.2f}) follows", z)


def _equal(
    label: str, counts: Mapping[str, tuple[float, ...]], told: tuple[float, ...]
) -> Iterator[Link]:
    """Count how often the number is the count; by chance as often as each value of it occurs."""
    of, often = len(told), Counter(told)
    for name, true in counts.items():
        hits = sum(map(eq, true, told))
        if hits:
            share = (sum(often[each] for each in true) / of + 1) / of
            chance = at_least(hits, of, min(0.9, share))
            z = NormalDist().inv_cdf(1 - chance / 2) if chance > 1e-15 else CERTAIN_Z
            yield Link(label, name, f"is {hits} times of {of}", z)


@lru_cache(2**14)
def _ranks(values: tuple[float, ...]) -> Any:
    """Return the ranks, as a vector of length one around zero; equal values share theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = ((ends - counts + ends - 1) / 2)[places]
    ranks -= ranks.mean()
    return ranks / (np.linalg.norm(ranks) or 1.0)
