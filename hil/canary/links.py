"""Does any number follow the true counts?

What stands in a record is held against the counts of that sensor's window, for each counter and for
all together; what names no window, against all windows of the last seconds. Compared is by ranks
(Spearman): a number that rises with the count is found, whatever its scale, and one wild value
proves nothing. A number's changes from second to second are tried as well. The bound of |r| is that
which the largest of all of them passes by chance once in a million runs: by Fisher's
transformation, at `ALPHA` divided by how many were compared.

The counts are dealt out by dice, second for second, so that nothing honest can follow them: only
the counters that play the pattern are looked at here, in seconds in which they were heard out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from .pattern import PINS, WAYS
from .search import ALPHA
from .truth import Series, Truth

LEAST_SECONDS = 20  # in which a number is known: fewer can follow anything
LAGS_S = range(9)  # a window is closed two seconds after its end, its record leaves soon after


@dataclass(frozen=True, slots=True)
class Link:
    """How one number goes with the counts."""

    number: str
    counts: str
    r: float
    z: float  # of r, as a standard normal's value

    def __str__(self) -> str:
        return f"{self.number} follows {self.counts}: r {self.r:.2f}"


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
        yield from _links(f"{path} of all counters", {name: true}, told)


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
            yield from _links(label, true, tuple(one[at + lag_s] for at in shared))


def _links(
    label: str, counts: Mapping[str, tuple[float, ...]], told: tuple[float, ...]
) -> Iterator[Link]:
    if len(told) < LEAST_SECONDS:
        return
    for name, true in counts.items():
        r = float(_ranks(true) @ _ranks(told))
        if r:
            reach = math.atanh(max(-0.999999, min(0.999999, r)))
            # 1.06: the variance of Spearman's r (Fieller, Hartley, Pearson 1957).
            yield Link(label, name, r, abs(reach) * math.sqrt((len(told) - 3) / 1.06))


@lru_cache(2**14)
def _ranks(values: tuple[float, ...]) -> Any:
    """Return the ranks, as a vector of length one around zero; equal values share theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = ((ends - counts + ends - 1) / 2)[places]
    ranks -= ranks.mean()
    return ranks / (np.linalg.norm(ranks) or 1.0)
