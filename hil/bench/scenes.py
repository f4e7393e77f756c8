"""What happens under a thermal array besides people who walk through one at a time.

Each situation is a floor and people of `hil.devices.grideye`, after a seed, with what must be
found in it. Lengths are pixels of 0.36 m, as seen from 2.5 m above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from hil.devices.grideye import SIDE, Field, Scene, Walker, Way

Climate = Callable[[float], float | Field]

_ROWS, _COLUMNS = np.indices((SIDE, SIDE)).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Situation:
    """One kind of scene, and what is asked of who counts in it."""

    about: str
    seconds: float
    build: Callable[[Random], Scene]
    least_found: float = 0.98  # share of those who cross; 0: told, not judged
    keeps_frames: float = 1.0  # share of frames that arrive


def way(dice: Random) -> Way:
    """Return one way or the other."""
    return dice.choice(("towards", "away"))


def _stream(dice: Random, *, every_s: float, count: int, **given: Any) -> list[Walker]:
    """Return people who come one at a time, each with a row, a pace and a coat of their own."""
    free: dict[str, Callable[[], float]] = {
        "row": lambda: dice.uniform(1.5, 5.5),
        "speed": lambda: dice.uniform(2.0, 5.5),
        "excess_k": lambda: dice.uniform(2.5, 7.0),
    }
    walkers = []
    for number in range(count):
        drawn: dict[str, Any] = {name: draw() for name, draw in free.items()} | given
        walkers.append(Walker(2.0 + number * every_s, way(dice), **drawn))
    return walkers


def _scene(walkers: Iterable[Walker], climate: Climate = lambda _: 0.0) -> Scene:
    return Scene(sorted(walkers, key=lambda walker: walker.start_s), climate=climate)


def _pairs(dice: Random, *, apart: float, opposite: bool, late_s: float = 0.3) -> Scene:
    """Return pairs that meet in the middle, or walk side by side."""
    walkers = []
    for number in range(6):
        first: Way = way(dice)
        second: Way = first if not opposite else "away" if first == "towards" else "towards"
        speed = dice.uniform(2.5, 5.0)
        for place, (each, row) in enumerate(((first, -apart / 2), (second, apart / 2))):
            walkers.append(
                Walker(
                    2.0 + 8 * number + place * dice.uniform(0.0, late_s),
                    each,
                    row=3.5 + row,
                    speed=dice.uniform(2.5, 5.0) if opposite else speed,
                    excess_k=dice.uniform(3.0, 7.0),
                )
            )
    return _scene(walkers)


def _follow(dice: Random, gap_s: float) -> Scene:
    walkers = []
    for number in range(6):
        each = way(dice)
        for place in range(2):
            start_s = 2.0 + 8 * number + place * gap_s
            walkers.append(Walker(start_s, each, excess_k=dice.uniform(3.0, 7.0)))
    return _scene(walkers)


def _spot(row: float, column: float, warm_k: float, size: float) -> Field:
    away2 = (_ROWS - row) ** 2 + (_COLUMNS - column) ** 2
    return np.asarray(warm_k * np.exp(-away2 / (2 * size**2)))


def _ramp(at_s: float, begin_s: float, lasts_s: float) -> float:
    return min(max(0.0, (at_s - begin_s) / lasts_s), 1.0)


def _stander(dice: Random, stands_s: float, *, turns: bool = False) -> Scene:
    after = dice.choice((dice.uniform(1.0, 2.7), dice.uniform(4.5, 6.0)))
    if turns:
        return _scene([Walker(2.0, way(dice), stands_after=2.5, stands_s=stands_s, turns_after=3)])
    return _scene([Walker(2.0, way(dice), stands_after=after, stands_s=stands_s)])


def _passers(dice: Random) -> Scene:
    stander = Walker(2.0, "towards", row=1.5, stands_after=dice.uniform(1, 3), stands_s=60.0)
    return _scene([stander, *_stream(dice, every_s=7.0, count=9, row=5.2)])


def _at_start(dice: Random) -> Scene:
    first = Walker(-dice.uniform(0.7, 1.4), way(dice), row=dice.uniform(1.5, 5.5))
    return _scene([first, Walker(6.0, way(dice))])


def _runners(dice: Random) -> Scene:
    return _scene(
        Walker(2.0 + 6 * i, way(dice), row=dice.uniform(1.5, 5.5), speed=dice.uniform(7, 14))
        for i in range(8)
    )


def _turners(dice: Random) -> Scene:
    return _scene(
        Walker(2.0 + 8 * i, way(dice), speed=dice.uniform(2, 5), turns_after=dice.uniform(1, 3.9))
        for i in range(6)
    )


def _gusty(dice: Random) -> Scene:
    lasts_s = dice.choice((6.0, 20.0, 70.0))
    return _scene(
        _stream(dice, every_s=7.0, count=20),
        lambda at_s: -3.0 * (_ramp(at_s, 20.0, 2.0) - _ramp(at_s, 20.0 + lasts_s, 2.0)),
    )


def _front(dice: Random) -> Scene:
    """Return a floor over which cold air moves from one side, and goes as it came."""
    axis = dice.choice((_ROWS, _COLUMNS))
    axis = dice.choice((axis, SIDE - 1 - axis))
    speed = dice.choice((1.0, 2.8, 6.0))
    lasts_s = dice.choice((5.0, 10.0, 70.0))

    def climate(at_s: float) -> Field:
        come = np.clip((at_s - 20.0) * speed - axis, 0.0, 1.0)
        gone = np.clip((at_s - 20.0 - lasts_s) * speed - axis, 0.0, 1.0)
        return np.asarray(3.0 * (gone - come))

    return _scene([], climate)


def _sunny(dice: Random) -> Scene:
    row, step_s = dice.uniform(1.0, 6.0), dice.uniform(30.0, 90.0)
    return _scene([], lambda at_s: _spot(row, at_s / step_s - 1.0, 6.0, 1.5))


def _with_cup(dice: Random) -> Scene:
    cup = _spot(dice.uniform(1.0, 6.0), dice.uniform(1.0, 6.0), 30.0, 0.35)
    return _scene([], lambda at_s: cup if at_s > 20.0 else 0.0)


def _heated(dice: Random) -> Scene:
    heater = _spot(1.0, dice.uniform(1.0, 6.0), 10.0, 1.0)
    return _scene(
        _stream(dice, every_s=8.0, count=36, row=5.5),
        lambda at_s: heater * _ramp(at_s, 20.0, 30.0),
    )


SITUATIONS: Mapping[str, Situation] = {
    "alone": Situation(
        "one at a time, 0.7 to 2 m/s, 2.5 to 7 K out of the floor",
        56.0,
        lambda dice: _scene(_stream(dice, every_s=6.0, count=8)),
    ),
    "running": Situation("one at a time, 2.5 to 5 m/s", 56.0, _runners),
    "hats": Situation(
        "the head as cold as the floor, shoulders beside it",
        56.0,
        lambda dice: _scene(
            _stream(dice, every_s=6.0, count=8, hat=True, excess_k=dice.uniform(3.5, 7.0))
        ),
    ),
    "lost frames": Situation(
        "one at a time; three frames in ten never arrive",
        56.0,
        lambda dice: _scene(_stream(dice, every_s=6.0, count=8)),
        keeps_frames=0.7,
    ),
    "meeting": Situation(
        "two walk through each other in opposite directions",
        54.0,
        lambda dice: _pairs(dice, apart=dice.uniform(0.0, 1.0), opposite=True, late_s=1.0),
        least_found=0.90,
    ),
    "passing": Situation(
        "two pass each other 0.7 m apart",
        54.0,
        lambda dice: _pairs(dice, apart=2.0, opposite=True, late_s=1.0),
        least_found=0.90,
    ),
    "abreast 1.1 m": Situation(
        "two side by side, 1.1 m apart",
        54.0,
        lambda dice: _pairs(dice, apart=3.0, opposite=False),
        least_found=0.90,
    ),
    "abreast 0.7 m": Situation(
        "two side by side, 0.7 m apart",
        54.0,
        lambda dice: _pairs(dice, apart=2.0, opposite=False, late_s=0.1),
        least_found=0.90,
    ),
    "abreast 0.5 m": Situation(
        "two side by side, 0.5 m apart: one for this sensor",
        54.0,
        lambda dice: _pairs(dice, apart=1.5, opposite=False, late_s=0.1),
        least_found=0.0,
    ),
    "following 1.0 s": Situation(
        "two in one track, 1.3 m apart", 54.0, lambda dice: _follow(dice, 1.0), least_found=0.90
    ),
    "following 0.6 s": Situation(
        "two in one track, 0.8 m apart", 54.0, lambda dice: _follow(dice, 0.6), least_found=0.0
    ),
    "turning back": Situation("back before the line, or within 15 cm after it", 52.0, _turners),
    "standing a minute": Situation(
        "60 s in the field, then on", 75.0, lambda dice: _stander(dice, 60.0)
    ),
    "standing, turning": Situation(
        "60 s before the line, then back", 75.0, lambda dice: _stander(dice, 60.0, turns=True)
    ),
    "passers-by": Situation("others pass who stands for a minute", 75.0, _passers, 0.90),
    "in view at first": Situation("somebody is there when it is switched on", 15.0, _at_start),
    "gust": Situation(
        "a door: the floor 3 K colder within 2 s, for 6 to 70 s; people", 150.0, _gusty
    ),
    "cold front": Situation("cold air creeps over the floor and back; nobody", 120.0, _front),
    "warming": Situation(
        "the floor 1 K a minute warmer; people",
        300.0,
        lambda dice: _scene(
            _stream(dice, every_s=8.0, count=36, excess_k=9.0), lambda at_s: at_s / 60.0
        ),
    ),
    "sun": Situation("a patch of sun moves by 4 to 12 mm a second; nobody", 700.0, _sunny),
    "hot cup": Situation("a cup of 50 degC on the floor; nobody", 200.0, _with_cup),
    "heater": Situation("a heater beside the way is switched on; people", 300.0, _heated),
}
