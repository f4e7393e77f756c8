"""Cut a sensor's observations into windows of UTC.

Windows start at multiples of their length and close a little after their end, so that readings
still on their way are counted where they belong. The first window after a start and the last
before a stop are short, and say so. Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from drivers.base import Observation, Reason

LATENESS_S = 2.0
LATENESS_NS = round(LATENESS_S * 1e9)


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
        self._next_start_ns = now_ns
        self.late = 0
        self.future = 0

    def add(self, observation: Observation, at_ns: int, *, now_ns: int) -> None:
        """Put an observation made at `at_ns` where it belongs.

        One that is later than the closing of its window, or from the future, is counted instead; a
        little of the future is taken for now.
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
        self.late += 1

    def advance(self, now_ns: int) -> list[Window[T]]:
        """Close what ended at least the lateness ago, oldest first; silent windows included."""
        self._open_until(now_ns)
        closed = [window for window in self._open if window.end_ns + LATENESS_NS <= now_ns]
        del self._open[: len(closed)]
        return closed

    def next_close_ns(self) -> int:
        """Return when `advance` has something to do again."""
        start_ns = self._open[0].start_ns if self._open else self._next_start_ns
        return self._end_after(start_ns) + LATENESS_NS

    def flush(self, now_ns: int, reason: Reason) -> list[Window[T]]:
        """Close everything now: a stop (`partial`) or a step of the clock (`clock_step`)."""
        self._open_until(now_ns)
        closed = [window for window in self._open if window.start_ns < now_ns]
        del self._open[: len(closed)]
        for window in closed:
            if window.end_ns > now_ns:
                window.end_ns = now_ns
                window.reasons.add(reason)
        if not self._open:
            self._next_start_ns = now_ns
        return closed

    def restart(self, now_ns: int) -> None:
        """Begin anew at `now_ns`, after a flush because the clock stepped."""
        self._next_start_ns = now_ns
        begun, self._open = self._open, []
        for window in begun:  # one at most, which began with the flush
            self._begin(window.tally)

    def _open_until(self, at_ns: int) -> None:
        while self._next_start_ns <= at_ns:
            self._begin(self._make_tally())

    def _begin(self, tally: T) -> None:
        start_ns = self._next_start_ns
        window = Window(start_ns, self._end_after(start_ns), tally)
        if start_ns % self._window_ns:
            window.reasons.add("partial")
        self._open.append(window)
        self._next_start_ns = window.end_ns

    def _end_after(self, start_ns: int) -> int:
        return (start_ns // self._window_ns + 1) * self._window_ns
