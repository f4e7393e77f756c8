"""One day of one stream: what was expected, what came and when, what is missing. Pure.

A record belongs to the day in which its window ends. A number that never came has no time; it is
placed between its neighbours, a window apart from the one before it. Times are seconds since 1970.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.numbers import Numbers, Range

LATE_S = 12.0  # beyond a window: the largest offset at which a gateway sends is 12 s
EVENT_S = 60  # what has no window is late after as much

MEASURED = frozenset(("good", "suspect", "not_evaluated"))


class Day(NamedTuple):
    """A day, or as much of it as is over: from < end of a window <= to."""

    from_s: float
    to_s: float

    def holds(self, at_s: float) -> bool:
        """Whether what ended then belongs to the day."""
        return self.from_s < at_s <= self.to_s


class Arrived(NamedTuple):
    """A record that is there."""

    run: str
    seq: int
    start_s: float
    end_s: float
    received_s: float
    flag: str
    clock_state: str


class Gone(NamedTuple):
    """A gap that is there; its times may not be known."""

    run: str
    first: int
    seq: int
    reason: str
    start_s: float | None
    end_s: float | None


class Anchor(NamedTuple):
    """A number whose time is known."""

    seq: int
    start_s: float
    end_s: float


class Hole(NamedTuple):
    """Numbers that neither came nor stand in a gap, or a gap of unknown time; its neighbours."""

    first: int
    last: int
    before: Anchor | None
    after: Anchor | None
    began_s: float | None  # of the run


@dataclass(frozen=True, slots=True)
class StreamDay:
    """A day of a stream."""

    gateway: str
    stream: str
    kind: str | None
    window_s: int | None  # None: it has no windows
    expected: int | None  # nominal windows of the day; None where it has none
    delivered: int
    late: int  # of those: the next was due already
    lost: Mapping[str, int]  # in gaps, by reason
    rejected: int
    missing: int
    undated: int  # of those: nobody can say of which day they are
    covered_percent: float | None  # of the day's seconds, by records
    measured_percent: float | None  # the same, by records with a value that may be believed
    estimated_clock: int  # records of a time that was never known
    latency_s: Mapping[str, float] = field(default_factory=dict)  # p50, p95, max

    @property
    def produced(self) -> int:
        """The numbers of the day."""
        return self.delivered + sum(self.lost.values()) + self.rejected + self.missing

    @property
    def is_whole(self) -> bool:
        """Whether every number of the day came or stands in a gap."""
        return not self.missing and not self.rejected


def in_day(hole: Hole, day: Day, window_s: int) -> int | None:
    """Return how many numbers of a hole belong to the day; None where nobody can say."""
    before, after = hole.before, hole.after
    if before is None and after is None and hole.began_s is not None:
        before = Anchor(0, hole.began_s, hole.began_s)

    def end_s(number: int) -> float:
        if before is not None:
            at_s = before.end_s + (number - before.seq) * window_s
            return at_s if after is None else min(at_s, after.start_s)
        assert after is not None  # noqa: S101  # else there is nothing to place it by
        return after.end_s - (after.seq - number) * window_s

    if before is None and after is None:
        return None
    numbers = range(hole.first, hole.last + 1)
    return bisect_right(numbers, day.to_s, key=end_s) - bisect_right(numbers, day.from_s, key=end_s)


def gap_in_day(gap: Gone, fresh: Sequence[Range], day: Day) -> int:
    """Return how many of the numbers `fresh` of a gap of known time belong to the day."""
    if gap.start_s is None or gap.end_s is None:
        raise ValueError("a gap of unknown time is a hole")
    begin_s, step_s = gap.start_s, (gap.end_s - gap.start_s) / (gap.seq - gap.first + 1)

    def end_s(number: int) -> float:
        return begin_s + (number - gap.first + 1) * step_s

    return sum(
        bisect_right(range(first, last + 1), day.to_s, key=end_s)
        - bisect_right(range(first, last + 1), day.from_s, key=end_s)
        for first, last in fresh
    )


def split(
    came: Numbers, gaps: Iterable[Gone], refused: Numbers, produced: int
) -> tuple[list[tuple[Gone, list[Range]]], list[Range], list[Range]]:
    """Return of a run's stream: what each gap alone names, the rejected, and the missing."""
    known = Numbers()
    for first, last in came.ranges():
        known.add(first, last)
    named = [(gap, known.add(gap.first, gap.seq)) for gap in gaps]
    spoilt = [part for span in refused.ranges() for part in known.add(*span)]
    return named, spoilt, known.holes(1, max(produced, known.highest))


def draw_up(
    gateway: str,
    stream: str,
    *,
    kind: str | None,
    window_s: int | None,
    day: Day,
    arrived: Iterable[Arrived],
    lost: Mapping[str, int],
    rejected: int,
    missing: int,
    undated: int,
) -> StreamDay:
    """Draw up the day of a stream; `day` begins no earlier than the stream does."""
    mine = [each for each in arrived if day.holds(each.end_s)]
    latencies = sorted(each.received_s - each.end_s for each in mine)
    late_s = (window_s or EVENT_S) + LATE_S
    span_s = day.to_s - day.from_s
    return StreamDay(
        gateway,
        stream,
        kind,
        window_s,
        expected=int(span_s // window_s) if window_s else None,
        delivered=len(mine),
        late=sum(latency > late_s for latency in latencies),
        lost=dict(lost),
        rejected=rejected,
        missing=missing,
        undated=undated,
        covered_percent=_percent(mine, day, span_s) if window_s else None,
        measured_percent=(
            _percent([each for each in mine if each.flag in MEASURED], day, span_s)
            if window_s
            else None
        ),
        estimated_clock=Counter(each.clock_state for each in mine)["estimated"],
        latency_s=_quantiles(latencies),
    )


def _percent(records: Sequence[Arrived], day: Day, span_s: float) -> float:
    """Return the share of the day that lies in a record; none is counted twice."""
    covered_s, reached_s = 0.0, day.from_s
    for start_s, end_s in sorted((each.start_s, each.end_s) for each in records):
        covered_s += max(0.0, min(end_s, day.to_s) - max(start_s, reached_s))
        reached_s = max(reached_s, end_s)
    return round(100 * covered_s / span_s, 2) if span_s > 0 else 0.0


def _quantiles(ordered: Sequence[float]) -> dict[str, float]:
    if not ordered:
        return {}
    at = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {
        name: round(ordered[math.ceil(share * len(ordered)) - 1], 3) for name, share in at.items()
    }
