"""An Omron D6T from its own side, looking down on a slow door.

It measures every 300 ms (44L) or 250 ms (8L) and shows the mean of that time, so that who hurries
is smeared. The scene is in metres and knows who really crossed. Each seed is one crowd and one
noise, whenever and however often it is looked at.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from ..buses import NackError
from ..emulation import PERSONS_PER_MINUTE, Emulation

ADDRESS = 0x0A
HEIGHT_M = 2.5  # of the sensor above what it sees of people
_OUTSIDE_M = 2.0  # from the middle, where nobody is felt any more
_BODY_M = 0.32  # standard deviation of a person's warmth
_NOISE_K = 0.1
_PATTERN_K = 0.4  # how much pixels differ for ever, and the floor under them

Way = Literal["towards", "away"]
Grid = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Optics:
    """What one model sees, and how it says it."""

    rows: int
    columns: int
    across_deg: float
    along_deg: float
    step_k: float
    period_s: float
    boot_s: float
    timeout_s: float  # between command and read
    must_be_set_up: bool = False


OPTICS = {
    "44L-06": Optics(4, 4, 45.7, 44.2, 0.1, 0.3, 0.62, 1.0),
    "44L-06H": Optics(4, 4, 45.7, 44.2, 0.1, 0.3, 0.62, 1.0),
    "8L-09": Optics(1, 8, 5.5, 54.5, 0.1, 0.25, 0.02, 0.07),
    "8L-09H": Optics(1, 8, 5.5, 54.5, 0.2, 0.25, 0.02, 0.07, must_be_set_up=True),
}

# Omron's constants for the 8L-09H, without the packet error code.
_SETTINGS = ("020001", "05903a", "030003", "030007", "020000")
_SET_UP_S = 0.5


def pec(message: bytes) -> int:
    """Return the packet error code: the remainder of a division, a bit at a time."""
    rest = int.from_bytes(message, "big") << 8
    for bit in range(rest.bit_length() - 1, 7, -1):
        if rest >> bit & 1:
            rest ^= 0x107 << bit - 8
    return rest


@dataclass(frozen=True, slots=True)
class Visitor:
    """One person on a straight line through the door; "towards" is along increasing columns."""

    start_s: float  # outside
    way: Way
    speed_m_s: float = 0.8
    across_m: float = 0.0
    excess_k: float = 5.0
    turns_m: float = math.inf  # turns back so far before (negative) or behind the middle

    def along_m(self, at_s: float) -> float:
        """Return where the person is; the door is at 0."""
        along_m = max(0.0, at_s - self.start_s) * self.speed_m_s - _OUTSIDE_M
        if along_m > self.turns_m:
            along_m = 2 * self.turns_m - along_m
        return along_m if self.way == "towards" else -along_m

    def crosses_s(self) -> float:
        """Return when the door is passed for good; infinity if it never is."""
        return math.inf if self.turns_m < math.inf else self.start_s + _OUTSIDE_M / self.speed_m_s

    def gone_s(self) -> float:
        """Return when nothing is felt of the person any more."""
        walk_m = 2 * (min(self.turns_m, _OUTSIDE_M) + _OUTSIDE_M)
        return self.start_s + min(walk_m, 4 * _OUTSIDE_M) / self.speed_m_s


class Doorway:
    """A floor, and the people on it one after another, in the order in which they start.

    `crossings` is the truth up to the last look: (seconds, way) of each.
    """

    def __init__(self, visitors: Iterable[Visitor] = (), *, floor_c: float = 21.0) -> None:
        self.floor_c = floor_c
        self.covered_c: float | None = None  # what lies on the lens
        self.crossings: list[tuple[float, Way]] = []
        self._coming = iter(visitors)
        self._next = next(self._coming, None)
        self._present: list[Visitor] = []
        self._looked_s = -math.inf

    @classmethod
    def crowd(cls, seed: int, persons_per_minute: float, speed_m_s: float = 0.8) -> Self:
        """Return a door through which people come for ever, at random; some turn back."""
        return cls(_crowd(random.Random(seed), persons_per_minute, speed_m_s))

    def look(self, at_s: float, along_m: Grid, across_m: Grid) -> Grid:
        """Return the temperatures at `at_s`, which never goes back, degC; of the points' shape."""
        while self._next is not None and self._next.start_s <= at_s:
            self._present.append(self._next)
            self._next = next(self._coming, None)
        self.crossings += sorted(
            (visitor.crosses_s(), visitor.way)
            for visitor in self._present
            if self._looked_s < visitor.crosses_s() <= at_s
        )
        self._looked_s = at_s
        self._present = [visitor for visitor in self._present if visitor.gone_s() > at_s]
        if self.covered_c is not None:
            return np.full(along_m.shape, self.covered_c)
        seen_c = np.full(along_m.shape, self.floor_c)
        for visitor in self._present:
            away2 = (along_m - visitor.along_m(at_s)) ** 2 + (across_m - visitor.across_m) ** 2
            seen_c += visitor.excess_k * np.exp(-away2 / (2 * _BODY_M**2))
        return seen_c


def _crowd(dice: random.Random, persons_per_minute: float, speed_m_s: float) -> Iterator[Visitor]:
    start_s = 0.0
    while True:
        start_s += dice.expovariate(persons_per_minute / 60)
        yield Visitor(
            start_s,
            way=dice.choice(("towards", "away")),
            speed_m_s=speed_m_s * min(max(dice.gauss(1.0, 0.15), 0.6), 1.4),
            across_m=dice.uniform(-0.25, 0.25),  # a door of 0.9 m
            excess_k=dice.uniform(3.0, 6.0),
            turns_m=dice.uniform(-0.8, -0.4) if dice.random() < 0.05 else math.inf,
        )


class D6tDevice:
    """A D6T behind its one command. Its scene begins with the first transaction."""

    def __init__(
        self,
        scene: Doorway,
        model: str = "44L-06",
        *,
        pec_covers_command: bool = False,
        seed: int = 0,
    ) -> None:
        self.scene = scene
        self._optics = optics = OPTICS[model]
        self._pec_covers_command = pec_covers_command
        self._seed = seed
        shape = (optics.rows, optics.columns)
        self._pattern_k = np.random.default_rng(seed).normal(0.0, _PATTERN_K, shape)
        self._along_m, self._across_m = _points(optics)
        self._begun_s: float | None = None
        self._powered_s: float | None = -math.inf  # long ago
        self._settings_taken = 0
        self._measures_from_s = math.inf if optics.must_be_set_up else -math.inf
        self._command_s = -math.inf
        self._frame: int | None = None
        self._words = b""
        self._is_frozen = False
        self._is_choked = False

    def power_cycle(self) -> None:
        """Lose what was set up, and boot at the next transaction."""
        self._powered_s = None
        self._settings_taken = 0
        self._measures_from_s = math.inf if self._optics.must_be_set_up else -math.inf
        self._is_frozen = self._is_choked = False

    def freeze(self) -> None:
        """Measure no more, and say the last frame again and again, until set up or powered."""
        self._is_frozen = True

    def choke(self, *, choked: bool = True) -> None:
        """Say FFFFh, as after an internal time-out."""
        self._is_choked = choked

    def write(self, data: bytes, now_s: float) -> None:
        """Take the command, or a setting with its packet error code."""
        self._live(now_s)
        if data == b"\x4c":
            self._command_s = now_s
            return
        if len(data) != 4 or pec(bytes((ADDRESS << 1,)) + data[:3]) != data[3]:
            raise NackError
        if not self._optics.must_be_set_up:
            return
        expected = bytes.fromhex(_SETTINGS[self._settings_taken % len(_SETTINGS)])
        self._settings_taken = self._settings_taken + 1 if data[:3] == expected else 0
        if self._settings_taken % len(_SETTINGS) == 0:
            self._is_frozen = False
            self._measures_from_s = now_s + _SET_UP_S if self._settings_taken else math.inf

    def read(self, length: int, now_s: float) -> bytes:
        """Return the newest frame and its packet error code, then a floating line."""
        self._live(now_s)
        if now_s < self._measures_from_s or now_s - self._command_s > self._optics.timeout_s:
            return b"\xff" * length
        self._measure(now_s)
        if self._is_choked:
            return b"\xff" * length
        head = bytes((ADDRESS << 1 | 1,))
        if self._pec_covers_command:
            head = bytes((ADDRESS << 1, 0x4C)) + head
        frame = self._words + bytes((pec(head + self._words),))
        return (frame + b"\xff" * length)[:length]

    def _live(self, now_s: float) -> None:
        if self._begun_s is None:
            self._begun_s = now_s
        if self._powered_s is None:
            self._powered_s = now_s
        if now_s - self._powered_s < self._optics.boot_s:
            raise NackError

    def _measure(self, now_s: float) -> None:
        """Take the newest measurement that is complete: the mean of three looks."""
        optics = self._optics
        frame = math.floor((now_s - (self._begun_s or 0.0)) / optics.period_s + 1e-6)
        if frame == self._frame or (self._is_frozen and self._words):
            return
        self._frame = frame
        shape = (optics.rows, optics.columns)
        dice = np.random.default_rng((self._seed, frame))
        field_c = np.zeros(shape)
        for part in (1, 2, 3):
            at_s = (frame - 1 + part / 3) * optics.period_s
            looked_c = self.scene.look(at_s, self._along_m, self._across_m)
            field_c += looked_c.mean(axis=(1, 3)) / 3
        if self.scene.covered_c is None:
            field_c += self._pattern_k
        field_c += dice.normal(0.0, _NOISE_K, shape)
        own = round((self.scene.floor_c + 2.0 + float(dice.normal(0.0, 0.05))) * 10)
        pixels = [round(float(each) / optics.step_k) for each in field_c.flat]
        self._words = struct.pack(f"<{1 + len(pixels)}h", own, *pixels)


def _points(optics: Optics) -> tuple[Grid, Grid]:
    """Return where each pixel looks, at five by five points, in metres from the middle.

    Shape (rows, 5, columns, 5).
    """

    def axis(pixels: int, degrees: float) -> Grid:
        width_m = 2 * HEIGHT_M * math.tan(math.radians(degrees / 2))
        return (np.arange(5 * pixels) + 0.5) * width_m / (5 * pixels) - width_m / 2

    across = axis(optics.rows, optics.across_deg).reshape(optics.rows, 5, 1, 1)
    along = axis(optics.columns, optics.along_deg).reshape(1, 1, optics.columns, 5)
    shape = (optics.rows, 5, optics.columns, 5)
    return np.broadcast_to(along, shape), np.broadcast_to(across, shape)


def _build(options: Any, seed: int) -> D6tDevice:
    return D6tDevice(Doorway.crowd(seed, PERSONS_PER_MINUTE), options.model, seed=seed)


EMULATION = Emulation(_build, options={"model": "44L-06"}, measures_after_s=1.0)
