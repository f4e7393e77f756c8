"""Cut a sensor's observations into windows of UTC.

Windows start at multiples of their length and close a little after their end, so that readings
still on their way are counted where they belong. The first window after a start and the last
before a stop are short, and say so.

No instant of UTC is in two windows, whatever the clock does. After a step back the present window
ends where the new time is. If that is before its start, the time has been covered already: until
UTC leaves what was covered, observations are counted and windows wait. Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from drivers.base import Observation, Reason

LATENESS_S = 2.0
LATENESS_NS = round(LATENESS_S * 1e9)

# Spans of UTC that are remembered as covered. If the clock steps about more often, the two that
# are nearest to each other become one: rather a hole than an overlap.
ERAS_LIMIT = 16

# Of earlier runs the end is known, not the start: so much before it counts as covered. A clock
# that is further back was far ahead, and must not silence the gateway for years.
EARLIER_NS = 86_400 * 1_000_000_000


class Tally(Protocol):
    """What a window gathers."""

    def add(self, observation: Observation) -> None:
        """Take one observation."""
        ...


T = TypeVar("T", bound=Tally)


@dataclass(slots=True)
class Window(Generic[T]):
    """A span of UTC, [start_ns, end_ns), and what was gathered in it."""

    start_ns: int
    end_ns: int
    tally: T
    reasons: set[Reason] = field(default_factory=set)

    @property
    def length_s(self) -> float:
        """The span in seconds."""
        return (self.end_ns - self.start_ns) / 1e9


class Windower(Generic[T]):
    """The open windows of one sensor."""

    def __init__(self, window_s: int, make_tally: Callable[[], T], *, now_ns: int) -> None:
        self._window_ns = window_s * 1_000_000_000
        self._make_tally = make_tally
        self._open: list[Window[T]] = []
        self._since_ns = now_ns  # where the present row of windows begins
        self._next_start_ns = now_ns
        self._eras: list[tuple[int, int]] = []  # covered before: [start, end), apart, ascending
        self._has_stepped = False
        self.late = 0
        self.future = 0
        self.covered = 0

    def add(self, observation: Observation, at_ns: int, *, now_ns: int) -> None:
        """Put an observation made at `at_ns` where it belongs.

        One that is later than the closing of its window, from the future, or from a time that was
        covered before a step, is counted instead; a little of the future is taken for now.
        """
        if at_ns > now_ns + LATENESS_NS:
            self.future += 1
            return
        at_ns = min(at_ns, now_ns)
        self._open_until(at_ns)
        for window in self._open:
            if window.start_ns <= at_ns < window.end_ns:
                window.tally.add(observation)
                return
        if self._free_from(at_ns) == at_ns:
            self.late += 1
        else:
            self.covered += 1

    def advance(self, now_ns: int) -> list[Window[T]]:
        """Close what ended at least the lateness ago, oldest first; silent windows included."""
        self._open_until(now_ns)
        closed = [window for window in self._open if window.end_ns + LATENESS_NS <= now_ns]
        del self._open[: len(closed)]
        return closed

    def next_close_ns(self) -> int:
        """Return when `advance` has something to do again."""
        if self._open:
            return self._open[0].end_ns + LATENESS_NS
        return self._end_after(self._free_from(self._next_start_ns)) + LATENESS_NS

    def flush(self, now_ns: int, reason: Reason) -> list[Window[T]]:
        """Close everything now: a stop (`partial`) or a step of the clock (`clock_step`)."""
        self._open_until(now_ns)
        closed = [window for window in self._open if window.start_ns < now_ns]
        del self._open[: len(closed)]
        for window in closed:
            if window.end_ns > now_ns:
                window.end_ns = self._next_start_ns = now_ns
                window.reasons.add(reason)
        return closed

    def step(
        self, now_ns: int, moved_ns: int, *, known: bool, covered_to_ns: int | None = None
    ) -> list[Window[T]]:
        """Close everything because UTC moves by `moved_ns`, and begin anew by the new time.

        `known` says whether `now_ns`, by the old time, was believed. If it was not, its windows get
        their times later, so they cover nothing now; the time may become known with the step, and
        then `covered_to_ns` tells what earlier runs covered.
        """
        closed = self.flush(now_ns, "clock_step")
        begun, self._open = self._open, []  # one at most, which began at this very instant
        to_ns = now_ns + moved_ns
        if not known:
            self._since_ns += moved_ns
        elif closed and self._since_ns <= closed[-1].start_ns < to_ns < closed[-1].end_ns:
            closed[-1].end_ns = to_ns
            closed[-1].reasons.add("clock_step")
        else:
            self._remember(self._since_ns, now_ns)
            self._since_ns = to_ns
        if covered_to_ns is not None:
            self.cover(covered_to_ns)
        self._next_start_ns = to_ns
        self._has_stepped = True
        for window in begun:
            if self._free_from(to_ns) == to_ns:
                self._begin(window.tally)
            else:  # it must not wait with what it holds
                window.end_ns = window.start_ns + 1
                window.reasons.add("clock_step")
                self._remember(now_ns, window.end_ns)
                closed.append(window)
        return closed

    def cover(self, end_ns: int) -> None:
        """Note that earlier runs made windows up to here; called while the time is known."""
        self._remember(end_ns - EARLIER_NS, end_ns)

    def _open_until(self, at_ns: int) -> None:
        while self._next_start_ns <= at_ns:
            free_ns = self._free_from(self._next_start_ns)
            if free_ns > self._next_start_ns:
                self._remember(self._since_ns, self._next_start_ns)
                self._since_ns = self._next_start_ns = free_ns
                self._has_stepped = True
            else:
                self._begin(self._make_tally())

    def _begin(self, tally: T) -> None:
        start_ns = self._next_start_ns
        window = Window(start_ns, self._end_after(start_ns), tally)
        if start_ns % self._window_ns:
            window.reasons.add("partial")
        if self._has_stepped or window.end_ns % self._window_ns:
            window.reasons.add("clock_step")
        self._has_stepped = False
        self._open.append(window)
        self._next_start_ns = window.end_ns

    def _end_after(self, start_ns: int) -> int:
        end_ns = (start_ns // self._window_ns + 1) * self._window_ns
        return min([end_ns, *(era_ns for era_ns, _ in self._eras if era_ns > start_ns)])

    def _free_from(self, start_ns: int) -> int:
        """Return the first instant from `start_ns` on that was not covered."""
        for era_start_ns, era_end_ns in self._eras:
            if era_start_ns <= start_ns < era_end_ns:
                return era_end_ns
        return start_ns

    def _remember(self, start_ns: int, end_ns: int) -> None:
        if start_ns >= end_ns:
            return
        eras: list[tuple[int, int]] = []
        for each in sorted([*self._eras, (start_ns, end_ns)]):
            if eras and each[0] <= eras[-1][1]:
                eras[-1] = (eras[-1][0], max(each[1], eras[-1][1]))
            else:
                eras.append(each)
        while len(eras) > ERAS_LIMIT:
            at = min(range(len(eras) - 1), key=lambda i: eras[i + 1][0] - eras[i][1])
            eras[at : at + 2] = [(eras[at][0], eras[at + 1][1])]
        self._eras = eras
