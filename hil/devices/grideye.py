"""A Grid-EYE AMG8833 from its own side, looking down at people who walk through.

The scene knows who really crossed, so that a count can be compared with the truth. Each seed is
one crowd and one noise, whenever and however often it is looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import floor, inf
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from ..emulation import PERSONS_PER_MINUTE, Emulation

SIDE = 8
MIDDLE = 3.5  # column
_OUTSIDE = 2.5  # columns beyond the edge at which nobody is felt any more
_BODY = 0.9  # standard deviation of a person's warmth, pixels
_BRIM, _BRIM_SHARE = 0.7, 0.75  # of a hat: its size, and how much of the warmth it hides
_NOISE_K = 0.2
_PATTERN_K = 0.7  # how much pixels differ for ever, and the floor under them

# Registers.
_POWER, _RESET, _RATE = 0x00, 0x01, 0x02
_STATUS_CLEAR = 0x05
_THERMISTOR = 0x0E
_PIXELS = 0x80
_NORMAL, _INITIAL_RESET = 0x00, 0x3F

Way = Literal["towards", "away"]
Field = npt.NDArray[np.float64]

_ROWS, _COLUMNS = (each.astype(np.float64) for each in np.indices((SIDE, SIDE)))


@dataclass(frozen=True, slots=True)
class Walker:
    """One person on a straight line across the field; "towards" is along increasing columns."""

    start_s: float  # outside the field
    way: Way
    row: float = 3.5
    speed: float = 3.6  # pixels a second; 1.3 m/s seen from 2.5 m above
    excess_k: float = 5.0  # above a floor as it is at first
    turns_after: float = inf  # columns before turning back; below 3.5, short of the middle
    stands_after: float = inf  # columns before standing still
    stands_s: float = 0.0
    hat: bool = False  # its brim is as cold as the floor: shoulders are seen beside it

    def column(self, at_s: float) -> float:
        """Return where the person is; outside 0..7 before and after."""
        walked = max(0.0, at_s - self.start_s) * self.speed
        stop = _OUTSIDE + self.stands_after
        if walked > stop:
            walked = max(stop, walked - self.stands_s * self.speed)
        turn = _OUTSIDE + self.turns_after
        if walked > turn:
            walked = 2 * turn - walked
        along = walked - _OUTSIDE
        return along if self.way == "towards" else SIDE - 1 - along

    def crosses_s(self) -> float:
        """Return when the middle is passed for good; infinity if it never is."""
        if self.turns_after < SIDE:
            return inf
        stood_s = self.stands_s if self.stands_after < MIDDLE else 0.0
        return self.start_s + (_OUTSIDE + MIDDLE) / self.speed + stood_s

    def gone_s(self) -> float:
        """Return when the person has left the field."""
        walked = 2 * _OUTSIDE + min(SIDE - 1, 2 * self.turns_after)
        stood_s = self.stands_s if self.stands_after < SIDE else 0.0
        return self.start_s + walked / self.speed + stood_s

    def covers(self, rows: Field, columns: Field, at_s: float) -> Field:
        """Return which share of each pixel's warmth is this person's, at `at_s`."""
        along2 = (columns - self.column(at_s)) ** 2
        covered = np.exp(-((rows - self.row) ** 2 + along2) / (2 * _BODY**2))
        if self.hat:
            brim = np.exp(-((rows - self.row) ** 2 + along2) / (2 * _BRIM**2))
            covered = covered * (1.0 - _BRIM_SHARE * brim)
        return np.asarray(covered)


class Scene:
    """A floor, and the people on it one after another, in the order in which they start.

    `climate` says how much warmer than at first the floor is, at a time: one number, or one for
    each pixel. People stay as warm as they are. `crossings` is the truth up to the last look:
    (seconds, way) of each.
    """

    def __init__(
        self,
        walkers: Iterable[Walker] = (),
        *,
        floor_c: float = 21.0,
        climate: Callable[[float], float | Field] = lambda _: 0.0,
    ) -> None:
        self.floor_c = floor_c
        self.crossings: list[tuple[float, Way]] = []
        self._climate = climate
        self._coming = iter(walkers)
        self._next = next(self._coming, None)
        self._present: list[Walker] = []
        self._looked_s = -inf

    @classmethod
    def crowd(cls, seed: int, persons_per_minute: float) -> Self:
        """Return a scene in which people come for ever, at random, and some turn back."""
        return cls(_crowd(random.Random(seed), persons_per_minute))

    def look(self, at_s: float) -> Field:
        """Return the temperatures at `at_s`, which never goes back; shape (8, 8), degC."""
        while self._next is not None and self._next.start_s <= at_s:
            self._present.append(self._next)
            self._next = next(self._coming, None)
        self.crossings += sorted(
            (walker.crosses_s(), walker.way)
            for walker in self._present
            if self._looked_s < walker.crosses_s() <= at_s
        )
        self._looked_s = at_s
        self._present = [walker for walker in self._present if walker.gone_s() > at_s]
        field_c = np.full((SIDE, SIDE), self.floor_c) + self._climate(at_s)
        for walker in self._present:
            share = walker.covers(_ROWS, _COLUMNS, at_s)
            field_c += share * (self.floor_c + walker.excess_k - field_c)
        return field_c


def _crowd(dice: random.Random, persons_per_minute: float) -> Iterator[Walker]:
    start_s = 0.0
    while True:
        start_s += dice.expovariate(persons_per_minute / 60)
        yield Walker(
            start_s,
            way=dice.choice(("towards", "away")),
            row=dice.uniform(1.5, SIDE - 2.5),
            speed=min(max(dice.gauss(3.6, 0.6), 2.0), 6.0),
            excess_k=dice.uniform(3.0, 6.0),
            turns_after=dice.uniform(1.0, 2.5) if dice.random() < 0.05 else inf,
        )


class GridEyeDevice:
    """The registers of an AMG8833. Powered up by the first transaction, where its scene begins."""

    def __init__(self, scene: Scene, *, seed: int = 0) -> None:
        self.scene = scene
        self._seed = seed
        self._pattern_k = np.random.default_rng(seed).normal(0.0, _PATTERN_K, (SIDE, SIDE))
        self._registers = bytearray(256)
        self._pointer = 0
        self._powered_s: float | None = None
        self._frame: int | None = None
        self._is_locked_up = False
        self.takes_settings = True  # False: what is written to it changes nothing

    def power_cycle(self) -> None:
        """Lose the registers and wake up as after power-up: normal mode, 10 frames a second."""
        self._registers = bytearray(256)
        self._frame = None
        self._is_locked_up = False

    def brown_out(self) -> None:
        """Answer with nothing but zeros from now on, until an initial reset."""
        self._is_locked_up = True

    def write(self, data: bytes, now_s: float) -> None:
        """Set the register pointer to the first byte, and write the others from there."""
        self._measure(now_s)
        self._pointer, values = data[0], data[1:]
        for value in values:
            self._set(self._pointer, value)
            self._pointer = (self._pointer + 1) % 256

    def read(self, length: int, now_s: float) -> bytes:
        """Return registers from the pointer on."""
        self._measure(now_s)
        first = self._pointer
        self._pointer = (first + length) % 256
        if self._is_locked_up:
            return bytes(length)
        return bytes(self._registers[(first + i) % 256] for i in range(length))

    def _set(self, register: int, value: int) -> None:
        if not self.takes_settings:
            return
        if register == _RESET:
            if value == _INITIAL_RESET:
                self._is_locked_up = False
                self._registers[:_PIXELS] = bytes(_PIXELS)
        elif register < _THERMISTOR and register != _STATUS_CLEAR:
            self._registers[register] = value

    def _measure(self, now_s: float) -> None:
        """Take the frame that is due; one that was not read is lost, as in the sensor."""
        if self._powered_s is None:
            self._powered_s = now_s
        if self._registers[_POWER] != _NORMAL:  # asleep: the last frame stays
            return
        frames_per_s = 1 if self._registers[_RATE] & 1 else 10
        frame = floor((now_s - self._powered_s) * frames_per_s + 1e-6)
        if frame == self._frame:
            return
        self._frame = frame
        at_s = frame / frames_per_s
        noise_k = np.random.default_rng((self._seed, frame)).normal(0.0, _NOISE_K, (SIDE, SIDE))
        field_c = self.scene.look(at_s) + self._pattern_k + noise_k
        for pixel, temperature_c in enumerate(field_c.flat):
            quarters = round(float(temperature_c) * 4)
            self._put(_PIXELS + 2 * pixel, quarters if quarters >= 0 else 4096 + quarters)
        sixteenths = round(self.scene.floor_c * 16)
        self._put(_THERMISTOR, sixteenths if sixteenths >= 0 else 2048 - sixteenths)

    def _put(self, register: int, value: int) -> None:
        self._registers[register] = value % 256
        self._registers[register + 1] = value // 256


EMULATION = Emulation(
    lambda _, seed: GridEyeDevice(Scene.crowd(seed, PERSONS_PER_MINUTE), seed=seed),
    options={},
    measures_after_s=15.0,
)
