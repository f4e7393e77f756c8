"""People walking through two light beams, one after the other, for ever.

Each seed is one crowd, whatever the steps in which it is watched. The contacts bounce, some
people turn back half way, and what really happened is kept for comparison.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..emulation import PERSONS_PER_MINUTE, Emulation

# The body breaks each beam for this long; the second one begins while the first is broken.
_STEP_S = (0.06, 0.25)
_PAUSE_MIN_S = 0.15  # clear air between two bodies
_BOUNCE_GAP_S = (0.0002, 0.002)
_BOUNCES_MAX = 3
_TURNS_BACK = 0.1  # of all persons


@dataclass(frozen=True, slots=True, order=True)
class Passage:
    """What one person did, and when the last beam was clear again."""

    way: Literal["towards", "away", "turned_back"] = field(compare=False)
    end_s: float


class BeamCrowd:
    """A PinActor: the receivers of beams A and B, at `blocked_level` while a body is in them.

    People come in single file, on average `persons_per_minute` of them: there are 0.15 s or more,
    0.2 m at a walk, between a back and the next chest, as in a doorway. More than about 60 a minute
    do not fit. `passages` holds the truth about everybody whose last edge has been given out.
    """

    def __init__(
        self,
        seed: int,
        persons_per_minute: float,
        pin_a: int,
        pin_b: int,
        *,
        blocked_level: int = 0,
        turns_back: float = _TURNS_BACK,
    ) -> None:
        self.passages: list[Passage] = []
        self._random = random.Random(seed)
        self._spacing_s = 60.0 / persons_per_minute
        self._pins = {"a": pin_a, "b": pin_b}
        self._blocked_level = blocked_level
        self._turns_back = turns_back
        self._changes = self._walk()
        self._next = next(self._changes)

    @property
    def towards(self) -> int:
        """How many went A before B."""
        return sum(passage.way == "towards" for passage in self.passages)

    @property
    def away(self) -> int:
        """How many went B before A."""
        return sum(passage.way == "away" for passage in self.passages)

    def levels(self, now_s: float) -> list[tuple[int, int]]:
        """Return the (pin, electrical level) changes due by `now_s`, in order, each once."""
        return [(pin, level) for _, pin, level in self.changes(now_s)]

    @property
    def next_s(self) -> float:
        """When the next edge comes."""
        return self._next[0]

    def changes(self, now_s: float) -> list[tuple[float, int, int]]:
        """Return the same with the time of each."""
        due = []
        while self._next[0] <= now_s:
            due.append(self._next)
            # The generator writes a passage down when it is asked for what comes after it.
            self._next = next(self._changes)
        return due

    def _walk(self) -> Iterator[tuple[float, int, int]]:
        clear_level = 1 - self._blocked_level
        yield 0.0, self._pins["a"], clear_level
        yield 0.0, self._pins["b"], clear_level
        end_s = 0.0
        while True:
            start_s = end_s + self._pause_s()
            way, beams = self._person()
            at_s = start_s
            blocked: set[str] = set()
            for beam in beams:
                blocked ^= {beam}
                level = self._blocked_level if beam in blocked else clear_level
                yield from self._edge(at_s, self._pins[beam], level)
                end_s = at_s
                at_s += self._random.uniform(*_STEP_S)
            self.passages.append(Passage(way, end_s))

    def _pause_s(self) -> float:
        mean_s = self._spacing_s - 3 * sum(_STEP_S) / 2 - _PAUSE_MIN_S
        return _PAUSE_MIN_S + (self._random.expovariate(1 / mean_s) if mean_s > 0 else 0.0)

    def _person(self) -> tuple[Literal["towards", "away", "turned_back"], str]:
        """Choose what the next person does: the beams that change, in order."""
        near, far = self._random.choice(("ab", "ba"))
        if self._random.random() < self._turns_back:
            deep = near + far + far + near
            deepest = near + far + near + near + far + near
            return "turned_back", self._random.choice((near + near, deep, deepest))
        return "towards" if near == "a" else "away", near + far + near + far

    def _edge(self, at_s: float, pin: int, level: int) -> Iterator[tuple[float, int, int]]:
        yield at_s, pin, level
        for _ in range(self._random.randint(0, _BOUNCES_MAX)):
            for bounced in (1 - level, level):
                at_s += self._random.uniform(*_BOUNCE_GAP_S)
                yield at_s, pin, bounced


class OpenWay(BeamCrowd):
    """A way on which nobody waits for anybody: people come at random, abreast and nose to tail.

    A beam is broken while anybody is in it. Bodies are 0.25 m to 0.45 m deep, walk at 1.3 m/s, and
    the beams are 0.1 m apart.
    """

    def _walk(self) -> Iterator[tuple[float, int, int]]:
        clear_level = 1 - self._blocked_level
        yield 0.0, self._pins["a"], clear_level
        yield 0.0, self._pins["b"], clear_level
        waiting: list[tuple[float, int, str]] = []  # (when, one more or one less, beam)
        inside = {"a": 0, "b": 0}
        ends: list[Passage] = []
        start_s = 0.0
        while True:
            start_s += self._random.expovariate(1 / self._spacing_s)
            while waiting and waiting[0][0] <= start_s:
                at_s, more, beam = heapq.heappop(waiting)
                was_blocked = inside[beam] > 0
                inside[beam] += more
                if was_blocked != (inside[beam] > 0):
                    level = clear_level if was_blocked else self._blocked_level
                    yield at_s, self._pins[beam], level
                while ends and ends[0].end_s <= at_s:
                    self.passages.append(heapq.heappop(ends))
            speed_m_s = min(max(self._random.gauss(1.3, 0.2), 0.7), 2.2)
            body_s = self._random.uniform(0.25, 0.45) / speed_m_s
            near, far = self._random.choice(("ab", "ba"))
            for beam, in_s in ((near, start_s), (far, start_s + 0.1 / speed_m_s)):
                heapq.heappush(waiting, (in_s, 1, beam))
                heapq.heappush(waiting, (in_s + body_s, -1, beam))
            end_s = start_s + 0.1 / speed_m_s + body_s
            heapq.heappush(ends, Passage("towards" if near == "a" else "away", end_s))


def _build(options: Any, seed: int) -> BeamCrowd:
    return BeamCrowd(
        seed,
        PERSONS_PER_MINUTE,
        options.pin_a,
        options.pin_b,
        blocked_level=0 if options.active == "low" else 1,
    )


EMULATION = Emulation(_build, options={"pin_a": 17, "pin_b": 27})
