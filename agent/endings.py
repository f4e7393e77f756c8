"""How sessions with a broker end: one that ends soon again and again is not begun each second.

A session is sound once it has held a while and the broker acknowledges what it is sent. Of what is
not acknowledged the first is what a broker may have hung up on, for it reads in order. Pure.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import takewhile
from typing import NamedTuple

from . import route

STABLE_S = 10.0  # a session that held for less may be somebody with our own id
FREE = 3  # sessions in a row that may end soon: a network that comes and goes
CAP_S = 60.0
REMEMBERED = 64  # messages


class Trouble(NamedTuple):
    """A broker that ends each session soon, or acknowledges nothing in any."""

    broker: str
    reason: str
    after: str | None  # the topic that it may not have liked, below our root


class Endings:
    """What was said in the session that is, and how those before it ended."""

    def __init__(self) -> None:
        self._said: deque[tuple[int | None, str, bool]] = deque(maxlen=REMEMBERED)
        self._acked: set[bool] = set()  # of records, of others
        self._has_sent_records = False
        self._ends: Counter[str] = Counter()  # unsound ones in a row, by broker
        self._reasons: dict[str, str] = {}  # of the last of them
        self._troubles: dict[str, Trouble] = {}

    def begin(self) -> None:
        """A broker took us."""
        self._said.clear()
        self._acked.clear()
        self._has_sent_records = False

    def said(self, topic: str, mid: int | None, *, is_record: bool = False) -> None:
        """Note what is published; without `mid` nobody acknowledges it."""
        self._said.append((mid, topic, is_record))
        self._has_sent_records |= is_record

    def acked(self, mid: int, *, is_record: bool) -> None:
        """Note what was acknowledged: all that was said before it was read, too."""
        self._acked.add(is_record)
        before = list(takewhile(lambda each: each[0] != mid, self._said))
        if len(before) < len(self._said):
            for _ in range(len(before) + 1):
                self._said.popleft()

    @property
    def is_about_records(self) -> bool:
        """Whether the first that was not acknowledged, if any, was records."""
        return bool(self._said) and self._said[0][2]

    def is_sound(self, held_s: float) -> bool:
        """Tell whether this session is one by now."""
        return held_s >= STABLE_S and (self._has_sent_records in self._acked or True in self._acked)

    def ended(self, broker: str, reason: str) -> Trouble | None:
        """Note an end that was not sound; return the trouble where that is an edge.

        Three for three reasons are a network that comes and goes, and no trouble yet.
        """
        if broker not in self._troubles and self._reasons.get(broker, reason) != reason:
            del self._ends[broker]
        self._reasons[broker] = reason
        self._ends[broker] += 1
        if self._ends[broker] < FREE:
            return None
        known = self._troubles.get(broker)
        if known is not None and known.reason == reason:
            return None  # and what was not acknowledged may differ each time: the first is told
        after = self._said[0][1] if self._said else None
        trouble = self._troubles[broker] = Trouble(broker, reason, after)
        return trouble if known is None else None

    def unreachable(self, broker: str) -> None:
        """Note an attempt that failed: who is away ends nobody's sessions."""
        if broker not in self._troubles:
            del self._ends[broker]
            self._reasons.pop(broker, None)

    def sound(self, broker: str) -> bool:
        """Forget how sessions with a broker ended; tell whether that is an edge."""
        del self._ends[broker]
        self._reasons.pop(broker, None)
        return self._troubles.pop(broker, None) is not None

    def trouble(self, broker: str) -> Trouble | None:
        """Return what is wrong with a broker, if anything."""
        return self._troubles.get(broker)

    @property
    def troubles(self) -> list[Trouble]:
        """All of them, the oldest first."""
        return list(self._troubles.values())

    def patience_s(self, broker: str) -> float:
        """Return for how long a broker is left alone at most."""
        over = self._ends[broker] - FREE
        return 0.0 if over < 0 else min(CAP_S, 2 * route.BACKOFF_CAP_S * 2 ** min(over, 16))
