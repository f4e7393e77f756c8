"""The same line again and again says nothing new, and wears out a card: here it is kept back.

Each event of each thing it is about may be told some times at once and then once in a while, for
ever; the next line that is told says how many were kept back. What lines are about may be chosen by
others (a broker names topics and streams), so each event has a limit of its own besides, all things
together: whatever loops, the log is bounded by the number of events that the code knows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

AT_ONCE = 20
THEN_EACH_S = 60.0
# Of one event, about whatever it is: 64 sensors that fall silent at once are told of many times.
OF_ALL_AT_ONCE = 1000
OF_ALL_THEN_EACH_S = 10.0
THINGS = 1000  # that are remembered at a time
ABOUT = ("sensor", "bus", "thread", "stream", "topic", "broker", "ask", "file")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float
    kept_back: int = 0

    def fill(self, now_s: float, most: int, each_s: float) -> bool:
        """Let time have passed; tell whether a line may be told."""
        self.tokens = min(most, self.tokens + (now_s - self.at_s) / each_s)
        self.at_s = now_s
        return self.tokens >= 1

    def take(self) -> int:
        """Tell a line; return how many were kept back before."""
        self.tokens -= 1
        kept_back, self.kept_back = self.kept_back, 0
        return kept_back


class LogLimit:
    """Decides line by line; any thread may ask."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._things: dict[tuple[object, ...], _Bucket] = {}
        self._events: dict[tuple[object, ...], _Bucket] = {}

    def kept_back(self, line: Mapping[str, object]) -> int | None:
        """Return how many lines like this were kept back before; None where this one is too."""
        about = next((line[name] for name in ABOUT if name in line), None)
        event = (line.get("part"), line.get("event"))
        with self._lock:
            now_s = self._now_s()
            all_of_it = self._events.setdefault(event, _Bucket(OF_ALL_AT_ONCE, now_s))
            key = (*event, str(about))
            thing = self._things.pop(key, None) or _Bucket(AT_ONCE, now_s)
            self._things[key] = thing  # the last in order: who is silent for long is forgotten
            if len(self._things) > THINGS:
                del self._things[next(iter(self._things))]
            if not thing.fill(now_s, AT_ONCE, THEN_EACH_S):
                thing.kept_back += 1
                return None
            if not all_of_it.fill(now_s, OF_ALL_AT_ONCE, OF_ALL_THEN_EACH_S):
                all_of_it.kept_back += 1
                return None
            return thing.take() + all_of_it.take()
