"""Which broker to try next, when, and in which version of MQTT. Pure: time is an argument."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Literal

BACKOFF_FIRST_S = 0.5
BACKOFF_CAP_S = 5.0
LONGEST = 16  # failures after which the wait grows no more
# Somebody else has our id: whoever comes back too soon throws the other out again.
CLASH_FIRST_S = 5.0
CLASH_CAP_S = 60.0
# A broker that stood in is left for the first one after this, and later each time that fails.
RETURN_FIRST_S = 900.0
RETURN_CAP_S = 86_400.0

# A broker that did not know MQTT 5 is asked again after this.
PLAIN_FOR_S = 3600.0

Protocol = Literal["5", "3.1.1"]


class Route:
    """Which broker to try next, and when: each in turn, with full jitter up to a cap.

    A city's gateways lose the broker together; the jitter keeps them from coming back together. One
    that stands in for the first is left again when that may be back.
    """

    def __init__(self, brokers: Sequence[str], rng: random.Random) -> None:
        self._brokers = list(brokers)
        self._rng = rng
        self._index = 0
        self._failures = 0
        self._clashes = 0
        self._returns = 0
        self._return_at_s: float | None = None

    @property
    def broker(self) -> str:
        """The URL to try."""
        return self._brokers[self._index]

    @property
    def first(self) -> str:
        """The URL of the first broker."""
        return self._brokers[0]

    def connected(self, now_s: float) -> None:
        """A broker took us."""
        if self._index == 0:
            self._returns, self._return_at_s = 0, None
            return
        delay_s = min(RETURN_CAP_S, RETURN_FIRST_S * 2**self._returns)
        self._return_at_s = now_s + delay_s * self._rng.uniform(0.75, 1.25)

    def may_return(self, now_s: float) -> bool:
        """Whether it is time to see if the first broker is back; each time is told once."""
        if self._return_at_s is None or now_s < self._return_at_s:
            return False
        self._returns = min(self._returns + 1, 16)
        self.connected(now_s)
        return True

    def go_back(self) -> None:
        """The first broker is tried next."""
        self._index, self._return_at_s = 0, None

    def lasted(self) -> None:
        """A connection that had held is lost: from now on the waits are the longest there are.

        Perhaps the whole city lost it. With short first waits a broker that restarts at once finds
        everybody there within the same second; the short ones are for who was not connected before.
        """
        self._failures = LONGEST

    def is_alone(self) -> None:
        """Nobody else has used our id for long."""
        self._clashes = 0

    def clashed(self) -> float:
        """Somebody else has our id: return how many seconds to leave the place to it."""
        ceiling_s = min(CLASH_CAP_S, CLASH_FIRST_S * 2**self._clashes)
        self._clashes = min(self._clashes + 1, 16)
        return self._rng.uniform(0.2 * ceiling_s, ceiling_s)

    def failed(
        self, *, turn: bool = True, patience_s: Callable[[str], float] = lambda _broker: 0.0
    ) -> float:
        """Return how many seconds to wait; with `turn` the next broker is tried then.

        `patience_s` tells for how long, about, one should be left alone beyond that.
        """
        if turn:
            self._index = (self._index + 1) % len(self._brokers)
        ceiling_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, LONGEST)
        ceiling_s = max(ceiling_s, patience_s(self.broker))
        return self._rng.uniform(0.1 * ceiling_s, ceiling_s)


class Dialect:
    """Which version of MQTT to ask a broker with.

    One that refuses 5 in words is asked with 3.1.1. One that says nothing at all to 5 may be old,
    or may only be starting behind a proxy: if it then takes 3.1.1, it is left once and asked with 5
    again. 3.1.1 costs the knowledge whether anybody subscribes, so it must not be a mistake.
    """

    def __init__(self, wanted: Protocol) -> None:
        self._wanted: Protocol = wanted
        self._state: Literal["wanted", "trying", "doubting", "plain"] = "wanted"
        self._plain_since_s = 0.0

    def ask(self, now_s: float) -> Protocol:
        """Return the version to ask with; an old broker may have been upgraded meanwhile."""
        if self._state == "plain" and now_s - self._plain_since_s > PLAIN_FOR_S:
            self._state = "wanted"
        return "3.1.1" if self._state in ("trying", "plain") else self._wanted

    def refused(self, now_s: float) -> None:
        """It said that it does not know 5."""
        self._state, self._plain_since_s = "plain", now_s

    def silent(self, now_s: float) -> None:
        """It took the connection and did not answer."""
        if self._wanted != "5" or self._state == "plain":
            return
        if self._state == "doubting":
            self.refused(now_s)
        else:
            self._state = "trying" if self._state == "wanted" else "wanted"

    def accepted(self) -> bool:
        """It took us; False where it must be left and asked again."""
        if self._state == "trying":
            self._state = "doubting"
            return False
        if self._state == "doubting":
            self._state = "wanted"
        return True
