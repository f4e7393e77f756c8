"""A door or a UPS relay, from its own side: a contact that opens and shuts now and then.

It begins in the good state. Each seed is one life, whatever the steps in which it is watched.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from ..emulation import Complaint, Emulation

SHUT_S = (300.0, 7200.0)  # all is well for so long
OPEN_S = (20.0, 600.0)
_BOUNCE_GAP_S = (0.0005, 0.008)
_BOUNCES_MAX = 5
_CHATTER_S = 0.004
_LOOK_S = 0.1


class ContactDevice:
    """A PinActor on one pin: at `good_level` while the door is shut or the mains is there.

    `is_good` is the truth. Tests move it with `swing`, which bounces; left alone it moves by
    itself, unless `is_still`.
    """

    def __init__(
        self, pin: int, *, good_level: int = 0, is_still: bool = False, seed: int = 0
    ) -> None:
        self.is_good = True
        self._pin = pin
        self._good_level = good_level
        self._random = random.Random(seed)
        self._due: list[tuple[float, int]] = [(0.0, good_level)]
        self._next_s = None if is_still else self._random.uniform(*SHUT_S)
        self._is_cut = False
        self._is_loose = False
        self._chatters_s: float | None = None
        self._follows: Callable[[float], bool] | None = None
        self._look_s = 0.0

    def follow(self, is_good: Callable[[float], bool]) -> None:
        """Move by itself no more, but as `is_good` says; it is looked at ten times a second."""
        self._follows, self._next_s = is_good, None

    @property
    def next_s(self) -> float:
        """When it moves next, or must be looked at again."""
        next_s = min((at_s for at_s, _ in self._due), default=math.inf)
        if self._is_loose:
            return 0.0 if self._chatters_s is None else min(next_s, self._chatters_s)
        if self._follows is not None:
            return min(next_s, self._look_s)
        return next_s if self._next_s is None else min(next_s, self._next_s)

    def swing(self, at_s: float, *, is_good: bool) -> None:
        """Open or shut at `at_s`, with bounce."""
        self.is_good = is_good
        level = self._good_level if is_good else 1 - self._good_level
        self._due.append((at_s, level))
        for _ in range(self._random.randint(1, _BOUNCES_MAX)):
            for bounced in (1 - level, level):
                at_s += self._random.uniform(*_BOUNCE_GAP_S)
                self._due.append((at_s, bounced))

    def cut(self, at_s: float) -> None:
        """Break the wire: the resistor at the Pi draws the pin away from the good level."""
        self._due = [(at_s, 1 - self._good_level)]
        self._is_cut = True

    def chatter(self) -> None:
        """Become a loose wire from now on: on and off all the time."""
        self._is_loose = True

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        """Return the (pin, electrical level) changes due by `now_s`, in order, each once."""
        while self._next_s is not None and self._next_s <= now_s and not self._is_cut:
            self.swing(self._next_s, is_good=not self.is_good)
            self._next_s += self._random.uniform(*(SHUT_S if self.is_good else OPEN_S))
        if self._follows is not None and now_s >= self._look_s and not self._is_cut:
            self._look_s = now_s + _LOOK_S
            if self._follows(now_s) != self.is_good:
                self.swing(now_s, is_good=not self.is_good)
        if self._is_loose and self._chatters_s is None:
            self._chatters_s = now_s
        while self._chatters_s is not None and self._chatters_s <= now_s:
            self._due.append((self._chatters_s, self._random.randint(0, 1)))
            self._chatters_s += _CHATTER_S
        due = [(self._pin, level) for at_s, level in self._due if at_s <= now_s]
        self._due = [(at_s, level) for at_s, level in self._due if at_s > now_s]
        return due


def _build(options: Any, seed: int) -> ContactDevice:
    return ContactDevice(options.pin, good_level=0 if options.good_level == "low" else 1, seed=seed)


EMULATION = Emulation(
    _build,
    options={"pin": 22, "measures": "open"},
    truth={"open": frozenset(("yes", "no"))},
    complaints={"loose wire": Complaint(ContactDevice.chatter, "weak_signal")},
)
