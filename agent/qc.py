"""Quality control of a series of samples: the tests of IOOS QARTOD, per quantity, over windows.

Gross range, spike, rate of change and flat line, with their flags (1 good, 2 not evaluated,
3 suspect, 4 fail, 9 missing), as `ioos_qc.qartod` computes them: the tests hold both against each
other on the same series. What differs, and why:

- What is out of the gross range is missing for the other tests: else a single absurd value would
  fail both its neighbours as spikes.
- Samples further apart than three intervals, or than five minutes, are no neighbours: over an
  outage, or where a sensor is asked once an hour, weather alone moves by more than any spike.
- Times are exact, not cut to whole seconds; two samples of one instant have no rate.
- A ranger over snow has outliers (`robust.py`) in place of spikes: what they leave is the surface,
  and however many echoes came from flakes, they are not held against it.
- A flat line is timed, not counted in median intervals, remembers at most 33 stretches of time,
  and is noticed at most 1/32 of its length later for that. A tolerance of 0 finds equal values.

Source: IOOS, Manual for Real-Time Quality Control of In-situ Temperature and Salinity Data
(QARTOD), tests 4, 6, 7 and 8. Pure, and plain Python: a window is small, and most gateways never
load numpy.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from drivers.base import Limits, Reason

from .robust import outliers

GOOD, NOT_EVALUATED, SUSPECT, FAIL, MISSING = 1, 2, 3, 4, 9
_FROM_WORST = (FAIL, SUSPECT, GOOD, NOT_EVALUATED, MISSING)  # as ioos_qc.qartod.qartod_compare

# Samples are neighbours within so many nominal intervals. Within the shorter time in any case: who
# hears a free-running device once a second gets several samples at once. Never beyond the longer.
NEIGHBOUR_INTERVALS = 3.0
LEAST_GAP_S, LONGEST_GAP_S = 5.0, 300.0

STRETCHES = 32  # of the longer time of a flat line
SILENCE = 0.25  # of that time without a sample: nobody knows that it was flat

_EVERYTHING = (-math.inf, math.inf)


def gross_range(
    values: Sequence[float], fail: tuple[float, float], suspect: tuple[float, float] | None = None
) -> bytearray:
    """Flag what is outside of `fail`, or of `suspect` within it; NaN is missing. Never raises."""
    low, high = fail
    likely_low, likely_high = suspect or fail
    return bytearray(
        GOOD
        if likely_low <= value <= likely_high and low <= value <= high
        else MISSING
        if math.isnan(value)
        else SUSPECT
        if low <= value <= high
        else FAIL
        for value in values
    )


def spike(
    times_s: Sequence[float],
    values: Sequence[float],
    fail: float | None,
    suspect: float | None = None,
    *,
    gap_s: float = math.inf,
) -> bytearray:
    """Flag what is further than `fail` or `suspect` from the mean of both its neighbours.

    What lacks one, at an end or beside a NaN or a gap, is not evaluated.
    """
    rejected = math.inf if fail is None else fail
    doubted = rejected if suspect is None else suspect
    flags = bytearray(MISSING if math.isnan(value) else NOT_EVALUATED for value in values)
    apart = [later - earlier > gap_s for earlier, later in pairwise(times_s)]
    triples = zip(values, values[1:], values[2:], apart, apart[1:], strict=False)
    for at, (before, value, after, is_after_gap, is_before_gap) in enumerate(triples, 1):
        away = abs(value - (before + after) / 2)
        if not (is_after_gap or is_before_gap or math.isnan(away)):
            flags[at] = FAIL if away > rejected else SUSPECT if away > doubted else GOOD
    return flags


def rate_of_change(
    times_s: Sequence[float], values: Sequence[float], suspect_per_s: float
) -> bytearray:
    """Flag what differs from the sample before by more than `suspect_per_s` in each second.

    Where there is none before, as after a NaN, nothing is wrong: good, as in ioos_qc.
    """
    flags = bytearray(MISSING if math.isnan(value) else GOOD for value in values)
    pairs = zip(pairwise(times_s), pairwise(values), strict=True)
    for at, ((earlier_s, later_s), (before, value)) in enumerate(pairs, 1):
        elapsed_s = later_s - earlier_s
        if elapsed_s and abs((value - before) / elapsed_s) > suspect_per_s:
            flags[at] = SUSPECT
    return flags


def worst(flags: Sequence[int]) -> int:
    """Return the flag of a sample from those of its tests."""
    return next(flag for flag in _FROM_WORST if flag in flags)


class Plateau:
    """How long a series has been flat: within less than a tolerance, or all equal.

    It remembers stretches of time as (start, low, high), back to where they still are a plateau
    together: one where a series moves or stands still, up to 33 where it hovers. Of a stretch
    that no longer belongs all is forgotten; so what is flagged is flat, and may be flagged late.
    """

    __slots__ = (
        *("_fail_s", "_high", "_highs", "_last_s", "_longest_s", "_low", "_lows"),
        *("_starts_s", "_suspect_s", "_tolerance"),
    )

    def __init__(self, fail_s: float | None, suspect_s: float | None, tolerance: float) -> None:
        """One time at least must be given."""
        self._fail_s = math.inf if fail_s is None else fail_s
        self._suspect_s = math.inf if suspect_s is None else suspect_s
        self._longest_s = max(each for each in (fail_s, suspect_s) if each is not None)
        self._tolerance = tolerance
        self._starts_s, self._lows, self._highs = array("d"), array("d"), array("d")
        self._low, self._high = math.inf, -math.inf  # of all stretches
        self._last_s = -math.inf

    def flags(self, times_s: Sequence[float], values: Sequence[float]) -> bytearray:
        """Flag the samples that follow those of the last call; NaN is missing."""
        flags = bytearray(MISSING if math.isnan(value) else GOOD for value in values)
        if not flags:
            return flags
        begin = 0
        since_s = self._starts_s[0] if self._starts_s else times_s[0]
        if times_s[-1] - since_s < min(self._fail_s, self._suspect_s):
            begin = self._last_break(values)  # nothing lasts so long yet: what is before is over
            self._forget(len(self._starts_s) if begin else 0)
        for at in range(begin, len(values)):
            if flags[at] != MISSING:
                flags[at] = self._flag(times_s[at], values[at])
        return flags

    def _last_break(self, values: Sequence[float]) -> int:
        """Return where the last plateau of `values` begins."""
        low, high = math.inf, -math.inf
        for at in range(len(values) - 1, -1, -1):
            value = values[at]
            if not low <= value <= high and not math.isnan(value):
                low, high = min(low, value), max(high, value)
                if not self._is_flat(low, high):
                    return at + 1
        return 0

    def _is_flat(self, low: float, high: float) -> bool:
        return high == low or high - low < self._tolerance

    def _flag(self, time_s: float, value: float) -> int:
        if time_s - self._last_s > SILENCE * self._longest_s:
            self._forget(len(self._starts_s))
        self._last_s = time_s
        if not self._low <= value <= self._high:
            self._forget(self._strangers(value))
            self._low, self._high = min(self._low, value), max(self._high, value)
        self._take(time_s, value)
        flat_s = time_s - self._starts_s[0]
        return FAIL if flat_s >= self._fail_s else SUSPECT if flat_s >= self._suspect_s else GOOD

    def _strangers(self, value: float) -> int:
        """Return how many stretches, the oldest ones, are no plateau with `value`."""
        low = high = value
        for at in range(len(self._starts_s) - 1, -1, -1):
            low, high = min(low, self._lows[at]), max(high, self._highs[at])
            if not self._is_flat(low, high):
                return at + 1
        return 0

    def _take(self, time_s: float, value: float) -> None:
        starts_s, lows, highs = self._starts_s, self._lows, self._highs
        if starts_s and lows[-1] == highs[-1] == value:
            return  # equal values are one stretch, however long
        if starts_s and time_s < starts_s[-1] + self._longest_s / STRETCHES:
            lows[-1], highs[-1] = min(lows[-1], value), max(highs[-1], value)
            return
        starts_s.append(time_s)
        lows.append(value)
        highs.append(value)
        self._forget(len(starts_s) - STRETCHES - 1)  # the rest is long enough

    def _forget(self, count: int) -> None:
        if count > 0:
            del self._starts_s[:count], self._lows[:count], self._highs[:count]
            self._low = min(self._lows, default=math.inf)
            self._high = max(self._highs, default=-math.inf)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests found in a window: each sample counts once, under its first worst test."""

    rejected: Counter[Reason] = field(default_factory=Counter)
    doubted: Counter[Reason] = field(default_factory=Counter)
    outliers: int = 0  # of the rejected


NOTHING_FOUND = Verdict()


class Judge:
    """The tests of one quantity, window after window.

    A window's first sample is judged beside the last one of the window before; its last one beside
    the next, if that came before the window closed, else the spike test does not evaluate it.
    """

    __slots__ = ("_before", "_gap_s", "_limits", "_plateau")

    def __init__(self, limits: Limits, interval_s: float) -> None:
        self._limits = limits
        self._gap_s = min(max(NEIGHBOUR_INTERVALS * interval_s, LEAST_GAP_S), LONGEST_GAP_S)
        self._plateau: Plateau | None = None
        if limits.flat_s is not None or limits.suspect_flat_s is not None:
            self._plateau = Plateau(limits.flat_s, limits.suspect_flat_s, limits.flat_tolerance)
        self._before: tuple[float, float] | None = None

    def sift(
        self, times_s: array[float], values: array[float], after: tuple[float, float] | None = None
    ) -> tuple[array[float], Verdict]:
        """Return the samples that may be used, and what was found about the others.

        `times_s` (on a clock that does not step) and `values` (all finite) have shape (n,), n >= 0;
        `after` is the sample that follows them, where it is known.
        """
        tests = self.flags(times_s, values, after)
        has_outliers = self._limits.outlier is not None and "spike" in tests
        verdict = Verdict(outliers=tests["spike"].count(FAIL) if has_outliers else 0)
        if not any(SUSPECT in flags or FAIL in flags for flags in tests.values()):
            return values, verdict
        kept = array("d")
        for value, *flags in zip(values, *tests.values(), strict=True):
            flag = worst(flags)
            if flag != FAIL:
                kept.append(value)
            if flag in (FAIL, SUSPECT):
                reason = list(tests)[flags.index(flag)]
                (verdict.rejected if flag == FAIL else verdict.doubted)[reason] += 1
        return kept, verdict

    def flags(
        self, times_s: Sequence[float], values: Sequence[float], after: tuple[float, float] | None
    ) -> Mapping[Reason, bytearray]:
        """Return the flags of each test that has limits, by the reason that its failures have."""
        limits, tests = self._limits, dict[Reason, bytearray]()
        if not values:
            return tests
        following = [] if after is None else [after]
        if limits.range or limits.suspect_range:
            span = limits.range or _EVERYTHING
            tests["out_of_range"] = gross_range(values, span, limits.suspect_range)
            if FAIL in tests["out_of_range"]:
                values = [_within(span, value) for value in values]
            following = [(time_s, _within(span, value)) for time_s, value in following]
        if limits.outlier is not None:
            tests["spike"] = _outliers(values, limits.outlier)
            pairs = zip(values, tests["spike"], strict=True)
            values = [math.nan if flag == FAIL else value for value, flag in pairs]
        known = ([] if self._before is None else [self._before], following)
        first, end = len(known[0]), len(known[0]) + len(values)
        times_around = [*(time for time, _ in known[0]), *times_s, *(time for time, _ in known[1])]
        around = [*(value for _, value in known[0]), *values, *(value for _, value in known[1])]
        if "spike" not in tests and (limits.spike or limits.suspect_spike):
            flags = spike(
                times_around, around, limits.spike, limits.suspect_spike, gap_s=self._gap_s
            )
            tests["spike"] = flags[first:end]
        if limits.rate_per_s is not None:
            tests["rate"] = rate_of_change(times_around, around, limits.rate_per_s)[first:end]
        if self._plateau is not None:
            tests["stuck"] = self._plateau.flags(times_s, values)
        self._before = times_s[-1], values[-1]
        return tests


def _outliers(values: Sequence[float], floor: float) -> bytearray:
    """Flag what is far from where most agree; NaN is missing."""
    flags = bytearray(MISSING if math.isnan(value) else GOOD for value in values)
    at = [index for index, flag in enumerate(flags) if flag == GOOD]
    for index, is_far in zip(at, outliers([values[i] for i in at], floor), strict=True):
        if is_far:
            flags[index] = FAIL
    return flags


def _within(span: tuple[float, float], value: float) -> float:
    return value if span[0] <= value <= span[1] else math.nan
