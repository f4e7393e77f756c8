"""How far a window may be trusted: the rules behind `quality.flag`, per value.

not_evaluated  no sample, in a window too short to expect one (around a start or a stop)
missing        no valid sample
suspect        fewer than half of the samples that the window should hold
good           otherwise

A value that is not good says why, as far as the driver knows: its own failed readings and the
device's troubles. The window's own reasons (`partial`, `clock_step`) are always told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from drivers.base import PEOPLE_REASONS, REASONS, Reason

Flag = Literal["good", "not_evaluated", "suspect", "bad", "missing"]
_FROM_BEST_TO_WORST: tuple[Flag, ...] = ("good", "not_evaluated", "suspect", "bad", "missing")

ENOUGH = 0.5  # of the expected samples


@dataclass(frozen=True, slots=True)
class Quality:
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


def grade(n: int, expected: int, seen: Counter[Reason], window: Iterable[Reason]) -> Quality:
    """Grade one value: `n` valid samples of `expected`, and what went wrong meanwhile."""
    flag: Flag = "good"
    if n == 0:
        flag = "missing" if expected or seen else "not_evaluated"
    elif n < ENOUGH * expected:
        flag = "suspect"
    reasons = set(window)
    if flag != "good":
        reasons |= {reason for reason, count in seen.items() if count}
    return Quality(flag, n, expected, _in_order(reasons))


def grade_people(n: int, expected: int, seen: Counter[Reason], window: Iterable[Reason]) -> Quality:
    """Grade a people window by the seconds its sensor worked; only reasons that tell of nobody."""
    quality = grade(n, expected, seen, window)
    allowed = tuple(reason for reason in quality.reasons if reason in PEOPLE_REASONS)
    return Quality(quality.flag, n, expected, allowed)


def overall(qualities: Mapping[str, Quality]) -> Quality:
    """Return a record's quality: the worst of its values, and what the best-fed one counted.

    The reasons are those of every value that is as bad: a missing one has no place for its own.
    """
    flag = max((q.flag for q in qualities.values()), key=_FROM_BEST_TO_WORST.index)
    return Quality(
        flag,
        max(q.n for q in qualities.values()),
        max(q.expected for q in qualities.values()),
        _in_order({reason for q in qualities.values() if q.flag == flag for reason in q.reasons}),
    )


def _in_order(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    return tuple(sorted(reasons, key=REASONS.index))
