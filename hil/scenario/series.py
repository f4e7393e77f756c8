"""What really happens at a sensor: a quantity as a function of time. Devices are moved by it.

A series is a constant, keyframes with straight lines between them, a formula, a column of a CSV
file, a recorded winter by its name, or a generated one. All give a value for every instant from
the scenario's start on; before its first value and after its last one a series stands still.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from pydantic import Field, model_validator

from config.explain import nearest
from config.model import Table
from config.text import Text

from ..winter import HOUR_S
from .formula import compiled
from .spans import Span, seconds

Value = float | str
Truth = Callable[[float], Any]  # seconds since the scenario's start -> a number, or a class

WAYS = ("constant", "keyframes", "formula", "csv", "recording", "generated")
ONE_WAY = Text(
    "must say in one way what happens: one of {ways}",
    "値の与え方を1つだけ指定してください: {ways}",
)
NO_FRAMES = Text(
    'keyframes are pairs of a time and a value, as in [["0h", 30.0], ["6h", 42.5]], times rising',
    'keyframes は [["0h", 30.0], ["6h", 42.5]] のように、時刻と値の組を時刻順に並べます',
)
NO_COLUMN = Text('{file}: no column "{name}"{meant}', "{file}: 列「{name}」がありません{meant}")

NO_ROWS = Text(
    '{file}: the column "{name}" needs values, with times that rise',
    "{file}: 列「{name}」には、時刻順に並んだ値が必要です",
)


class UnavailableError(Exception):
    """The scenario needs something that is not here; the message says what."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a series may need to know of its scenario."""

    folder: Path  # of the scenario's file
    recordings: Path | None
    seed: int
    local_hour_at_start: float
    lasts_s: float


class Series(Table):
    """One quantity, from the scenario's start on."""

    constant: float | str | bool | None = None
    keyframes: list[list[str | float | bool]] | None = None
    smooth: bool = True  # straight lines between keyframes; else each holds until the next
    formula: str | None = None
    csv: str | None = None
    column: str | None = None  # of the CSV file, or of the recording
    recording: Literal["San Juan", "Grand Mesa"] | None = None
    generated: Literal["storm", "quiet", "melt"] | None = None
    skip: Span = Field(default=0.0)  # this much of the file's or the recording's beginning
    plus: float = 0.0  # added to every value
    times: float = 1.0  # every value is multiplied by this, before `plus`

    @model_validator(mode="after")
    def _one_way(self) -> Series:
        given = [name for name in WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(ONE_WAY.filled(ways=", ".join(WAYS)))
        if self.keyframes is not None:
            _frames(self.keyframes)
        if self.formula is not None:
            compiled(self.formula)
        return self

    def truth(self, setting: Setting, quantity: str) -> Truth:
        """Return it as a function of time. Raises UnavailableError, ValueError, OSError."""
        found = self._unscaled(setting, quantity)
        if self.plus == 0.0 and self.times == 1.0:
            return found
        return lambda at_s: found(at_s) * self.times + self.plus

    def _unscaled(self, setting: Setting, quantity: str) -> Truth:
        if self.constant is not None:
            constant = self.constant
            return lambda _: constant
        if self.keyframes is not None:
            return _Line(*_frames(self.keyframes), smooth=self.smooth)
        if self.formula is not None:
            value, hour = compiled(self.formula), setting.local_hour_at_start
            return lambda at_s: value(at_s / 3600.0, hour)
        if self.csv is not None:
            return _of_csv(setting.folder / self.csv, self.column or quantity, self.skip)
        if self.recording is not None:
            return _recorded(setting, self.recording, self.column or quantity, self.skip)
        return _generated(setting, self.generated or "quiet", quantity)


class _Line:
    """Straight lines, or steps, through points."""

    def __init__(
        self, at_s: Sequence[float], values: Sequence[Any], *, smooth: bool = True
    ) -> None:
        self._at_s, self._values = list(at_s), list(values)
        self._smooth = smooth and all(
            isinstance(each, int | float) and not isinstance(each, bool) for each in values
        )

    def __call__(self, at_s: float) -> Any:
        after = bisect_right(self._at_s, at_s)
        if after == 0 or after == len(self._at_s):
            return self._values[max(0, after - 1)]
        low, high = self._values[after - 1], self._values[after]
        if not self._smooth:
            return low
        from_s, to_s = self._at_s[after - 1], self._at_s[after]
        return low + (high - low) * (at_s - from_s) / (to_s - from_s)


def _frames(frames: Sequence[Sequence[Any]]) -> tuple[list[float], list[Any]]:
    if not frames or any(len(frame) != 2 for frame in frames):
        raise ValueError(NO_FRAMES)
    at_s = [seconds(frame[0]) for frame in frames]
    if sorted(at_s) != at_s:
        raise ValueError(NO_FRAMES)
    return at_s, [frame[1] for frame in frames]


def _of_csv(file: Path, column: str, skip_s: float) -> Truth:
    """Read a column; the first one is the time: seconds, or spans such as "6h"."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    names = list(rows[0]) if rows else []
    if column not in names:
        meant = nearest(column, names[1:]).en
        raise ValueError(NO_COLUMN.filled(file=file.name, name=column, meant=meant))
    at_s, values = [], []
    for row in rows:
        if (row[column] or "").strip():
            time = row[names[0]].strip()
            since_s = float(time) if _is_number(time) else seconds(time)
            at_s.append(since_s - skip_s)
            values.append(float(row[column]) if _is_number(row[column]) else row[column])
    if not at_s or sorted(at_s) != at_s:
        raise ValueError(NO_ROWS.filled(file=file.name, name=column))
    return _Line(at_s, values)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _recorded(setting: Setting, name: str, quantity: str, skip_s: float) -> Truth:
    from ..bench.winters import stations

    if setting.recordings is None or not (setting.recordings / "snow").is_dir():
        raise UnavailableError(
            f'the recording "{name}" is not here: set YUKIMI_RECORDINGS to the folder that holds it'
        )
    station = next(each for each in stations(setting.recordings) if each.name == name)
    columns = {
        "depth_cm": station.depth_cm,
        "air_temperature_c": station.air_c,
        "surface_temperature_c": station.surface_c,
    }
    if quantity not in columns:
        meant = nearest(quantity, columns).en
        raise ValueError(NO_COLUMN.filled(file=name, name=quantity, meant=meant))
    points = [
        (at_s - station.at_s[0] - skip_s, value)
        for at_s, value in zip(station.at_s, columns[quantity], strict=True)
        if value is not None
    ]
    if not points:
        raise ValueError(NO_COLUMN.filled(file=name, name=quantity, meant=""))
    return _Line([at_s for at_s, _ in points], [value for _, value in points])


def _generated(setting: Setting, kind: str, quantity: str) -> Truth:
    """Draw a winter hour by hour from the seed: cold and snow in fronts, settling, melting."""
    dice = Random(f"{setting.seed} {kind}")
    hours = int(setting.lasts_s // HOUR_S) + 3
    mean_c, share, rate_cm = {
        "storm": (-5.0, 0.6, 2.2), "quiet": (-3.0, 0.1, 0.6), "melt": (3.0, 0.0, 0.0),
    }[kind]  # fmt: skip
    depth_cm, front, depths, airs = 35.0, dice.random() < share, [], []
    for hour in range(hours):
        local = (setting.local_hour_at_start + hour) % 24
        air_c = mean_c + 3.0 * math.cos(2 * math.pi * (local - 14) / 24) + dice.gauss(0, 0.3)
        if dice.random() < 0.15:
            front = dice.random() < share
        depth_cm += rate_cm * dice.uniform(0.5, 1.5) if front and air_c < 1 else 0.0
        depth_cm = max(0.0, depth_cm * 0.9985 - 0.12 * max(0.0, air_c))
        depths.append(round(depth_cm, 2))
        airs.append(round(air_c, 2))
    columns = {
        "depth_cm": depths,
        "air_temperature_c": airs,
        "surface_temperature_c": [0.8 * each - 1.0 for each in airs],
    }
    if quantity not in columns:
        meant = nearest(quantity, columns).en
        raise ValueError(NO_COLUMN.filled(file=kind, name=quantity, meant=meant))
    return _Line([float(HOUR_S * hour) for hour in range(hours)], columns[quantity])
