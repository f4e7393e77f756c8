"""How far a window may be trusted: the rules behind `quality.flag`, per value.

Samples are what the device measured; the tests of `qc.py` reject some, and let others stay in
doubt. What the driver itself refused is no sample. The first rule that holds:

not_evaluated  no sample, in a window too short to expect one (around a start or a stop)
missing        no sample at all
bad            samples came, and fewer than half of them passed
suspect        fewer than half of the samples that the window should hold have passed, or more
               than a fifth of those that came are rejected or in doubt
good           otherwise

Outliers do not count among the samples that came: in a snowstorm most echoes are of flakes, and
what is left of them is the surface. They are counted in the value, and what they cost shows in
the number that has passed.

A value that is not good says why, as far as is known: failed readings, the device's troubles, and
what the tests found. The window's own reasons (`partial`, `clock_step`) are always told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from drivers.base import PEOPLE_REASONS, REASONS, Reason

from .qc import NOTHING_FOUND, Verdict

Flag = Literal["good", "not_evaluated", "suspect", "bad", "missing"]
_FROM_BEST_TO_WORST: tuple[Flag, ...] = ("good", "not_evaluated", "suspect", "bad", "missing")

ENOUGH = 0.5  # of the expected samples
DOUBTFUL = 0.2  # of the samples that came


class Quality(NamedTuple):
    """A flag, its reasons, and the counts that it rests on."""

    flag: Flag
    n: int
    expected: int
    reasons: tuple[Reason, ...] = ()

    def json(self) -> dict[str, object]:
        """Return the contract's `quality` object."""
        value: dict[str, object] = {"flag": self.flag, "n": self.n, "expected": self.expected}
        if self.reasons:
            value["reasons"] = list(self.reasons)
        return value


def grade(
    n: int,
    expected: int,
    seen: Counter[Reason],
    window: Iterable[Reason],
    verdict: Verdict = NOTHING_FOUND,
) -> Quality:
    """Grade one value: `n` valid samples of `expected`, what went wrong, what the tests found."""
    rejected = verdict.rejected.total() - verdict.outliers
    doubted = verdict.doubted.total()
    came = n + rejected
    flag: Flag = "good"
    if came == 0:
        flag = "missing" if expected or seen else "not_evaluated"
    elif n < rejected:
        flag = "bad"
    elif n < ENOUGH * expected or rejected + doubted > DOUBTFUL * came:
        flag = "suspect"
    reasons = set(window)
    if flag != "good":
        found = seen + verdict.rejected + verdict.doubted
        reasons |= {reason for reason, count in found.items() if count}
    return Quality(flag, n, expected, _in_order(reasons))


def doubted(quality: Quality, why: Reason) -> Quality:
    """Return the quality of a value that something beyond its own samples puts in doubt."""
    worst = max(quality.flag, "suspect", key=_FROM_BEST_TO_WORST.index)
    return quality._replace(flag=worst, reasons=_in_order({*quality.reasons, why}))


def grade_people(n: int, expected: int, seen: Counter[Reason], window: Iterable[Reason]) -> Quality:
    """Grade a people window by the seconds its sensor worked; only reasons that tell of nobody."""
    quality = grade(n, expected, seen, window)
    allowed = tuple(reason for reason in quality.reasons if reason in PEOPLE_REASONS)
    return Quality(quality.flag, n, expected, allowed)


def overall(qualities: Mapping[str, Quality]) -> Quality:
    """Return a record's quality: the worst of its values, and what the best-fed one counted.

    The reasons are those of every value that is as bad, and of every one that has no valid sample:
    it is null, which has no place for its own.
    """
    flag = max((q.flag for q in qualities.values()), key=_FROM_BEST_TO_WORST.index)
    return Quality(
        flag,
        max(q.n for q in qualities.values()),
        max(q.expected for q in qualities.values()),
        _in_order(
            {
                reason
                for q in qualities.values()
                if q.flag == flag or q.n == 0
                for reason in q.reasons
            }
        ),
    )


def _in_order(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    return tuple(sorted(reasons, key=REASONS.index))
