"""What happens on a pin between the actor that moves it and the board that watches it."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import count
from random import Random

from .ongoing import Heal, Ongoing


@dataclass(frozen=True, slots=True)
class Bounce:
    """A contact that chatters at each change."""

    edges: int  # beside the change itself
    within_s: float
    pin: int | None  # None: all


@dataclass(frozen=True, slots=True, eq=False)
class Glitch:
    """Spikes of the other level."""

    pin: int
    per_s: float
    width_s: float


class PinFaults(ABC):
    """The faults of one board's pins; they add up, and a stuck pin shows none of the others."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self._bouncing = Ongoing[Bounce]()
        self._glitching = Ongoing[Glitch]()
        self._stuck = Ongoing[tuple[int, int]]()  # pin, level
        self._true: dict[int, int] = {}  # the level that the actors gave each pin
        self._shown: dict[int, int] = {}
        self._due: list[
            tuple[int, int, int, int | None]
        ] = []  # (when, order, pin, level; the true)
        self._order = count()
        self._spikes_ns: dict[Glitch, int] = {}  # by glitch: when the next begins
        self._is_calm = True  # no fault, and none is left to be seen

    def bounce(self, edges: int, within_s: float, pin: int | None = None) -> Heal:
        """Let each change of `pin`, or of any, be followed by so many edges more within that time.

        The level that stays is the true one: an odd number is made even.
        """
        return self._bouncing.begin(Bounce(edges + edges % 2, within_s, pin))

    def glitch(self, pin: int, per_s: float, width_s: float = 0.0005) -> Heal:
        """Let spikes of the other level come by chance, on average so many a second."""
        return self._glitching.begin(Glitch(pin, per_s, width_s))

    def stick_pin(self, pin: int, level: int) -> Heal:
        """Hold `pin` at `level`; healed, it shows what its actor makes of it by then."""
        return self._stuck.begin((pin, level))

    def heal(self) -> None:
        """Undo every fault."""
        self._bouncing.heal()
        self._glitching.heal()
        self._stuck.heal()

    @property
    def is_worn(self) -> bool:
        """Whether there is a fault, or what one left is still to be seen."""
        return not self._is_calm or bool(self._stuck or self._bouncing or self._glitching)

    # What the board asks

    def _as_shown(
        self, changes: list[tuple[int, int]], from_ns: int, until_ns: int
    ) -> list[tuple[int, int, int]]:
        """Return (when, pin, level) of what the board sees of `changes`, and of all faults.

        They came at `from_ns`; what is due before `until_ns` comes with them, in order.
        """
        stuck = dict(self._stuck)
        if self._is_calm and not (stuck or self._bouncing or self._glitching):
            self._true.update(changes)
            self._shown.update(changes)
            return [(from_ns, pin, level) for pin, level in changes]
        for pin in {*stuck, *(each.pin for each in self._glitching)} - self._true.keys():
            self._true[pin] = self._shown[pin] = self._resting_level(pin)
        shown: list[tuple[int, int, int]] = []
        for pin, level in changes:
            self._change(pin, level, from_ns)
        for glitch in self._glitching:
            self._spike(glitch, from_ns, until_ns)
        moving = {each[2] for each in self._due}
        for pin, level in (self._true | stuck).items():
            if pin in stuck or pin not in moving:
                self._show(shown, from_ns, pin, level)
        while self._due and self._due[0][0] < until_ns:
            at_ns, _, pin, moved = heapq.heappop(self._due)
            if pin not in stuck:
                self._show(shown, at_ns, pin, self._true[pin] if moved is None else moved)
        self._is_calm = not self._due and self._shown == self._true
        return shown

    @abstractmethod
    def _resting_level(self, pin: int) -> int:
        """Return what a pin shows when nobody drives it."""

    def _change(self, pin: int, level: int, at_ns: int) -> None:
        self._put(at_ns, pin, level)
        if self._true.get(pin) == level:
            return
        self._true[pin] = level
        for bounce in self._bouncing:
            if bounce.pin not in (None, pin):
                continue
            times_s = sorted(self.dice.uniform(0, bounce.within_s) for _ in range(bounce.edges))
            for number, after_s in enumerate(times_s):
                is_back = number % 2 == 1
                self._put(at_ns + round(after_s * 1e9), pin, None if is_back else 1 - level)

    def _spike(self, glitch: Glitch, from_ns: int, until_ns: int) -> None:
        begins_ns = self._spikes_ns.get(glitch)
        if begins_ns is None:
            begins_ns = from_ns + self._pause_ns(glitch)
        while begins_ns < until_ns:
            ends_ns = begins_ns + round(glitch.width_s * 1e9)
            self._put(begins_ns, glitch.pin, 1 - self._true[glitch.pin])
            self._put(ends_ns, glitch.pin, None)
            begins_ns = ends_ns + self._pause_ns(glitch)
        self._spikes_ns[glitch] = begins_ns

    def _put(self, at_ns: int, pin: int, level: int | None) -> None:
        heapq.heappush(self._due, (at_ns, next(self._order), pin, level))

    def _pause_ns(self, glitch: Glitch) -> int:
        return 1 + round(self.dice.expovariate(glitch.per_s) * 1e9)

    def _show(self, into: list[tuple[int, int, int]], at_ns: int, pin: int, level: int) -> None:
        if self._shown.get(pin) != level:
            self._shown[pin] = level
            into.append((at_ns, pin, level))
