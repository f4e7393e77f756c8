"""The same line again and again says nothing new, and wears out a card: here it is kept back.

Each event of each thing it is about may be told some times at once and then once in a while, for
ever; the next line that is told says how many were kept back. Whatever loops, the log is bounded by
the number of different things that can be said.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

AT_ONCE = 20
THEN_EACH_S = 60.0
THINGS = 1000  # that are remembered at a time
ABOUT = ("sensor", "bus", "thread", "stream", "topic", "broker", "ask", "file")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float
    kept_back: int = 0


class LogLimit:
    """Decides line by line; any thread may ask."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._buckets: dict[tuple[object, ...], _Bucket] = {}

    def kept_back(self, line: Mapping[str, object]) -> int | None:
        """Return how many lines like this were kept back before; None where this one is too."""
        about = next((line[name] for name in ABOUT if name in line), None)
        key = (line.get("part"), line.get("event"), str(about))
        with self._lock:
            now_s = self._now_s()
            bucket = self._buckets.pop(key, None) or _Bucket(AT_ONCE, now_s)
            self._buckets[key] = bucket  # the last in order: who is silent for long is forgotten
            if len(self._buckets) > THINGS:
                del self._buckets[next(iter(self._buckets))]
            gained = (now_s - bucket.at_s) / THEN_EACH_S
            bucket.tokens, bucket.at_s = min(AT_ONCE, bucket.tokens + gained), now_s
            if bucket.tokens < 1:
                bucket.kept_back += 1
                return None
            bucket.tokens -= 1
            kept_back, bucket.kept_back = bucket.kept_back, 0
            return kept_back
