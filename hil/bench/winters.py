"""The recorded winter weeks as series to forecast: temperatures, and snow as it fell.

Two stations, 21 and 15 days at one value an hour. Nothing between the hours is invented, and an
hour that the file does not have is None.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from agent.phenomena.forecast import Forecaster, new_snow_forecaster, surface_forecaster

Values = list[float | None]

WEEK_HOURS = 7 * 24
BREAK_HOURS = 6  # without growth: the snowfall is over
GROWTH_CM = 0.5  # what a sonic sensor can tell from its noise


@dataclass(frozen=True, slots=True)
class Station:
    """A recording, one row an hour; None where the file has no value."""

    name: str
    at_s: list[float]  # the station's own time taken for UTC: only spacing matters here
    surface_c: Values
    air_c: Values
    depth_cm: Values


@dataclass(frozen=True, slots=True)
class Series:
    """What is forecast: `hours_ahead` of one quantity."""

    name: str
    station: Station
    values: Values
    hours_ahead: int
    forecaster: Callable[[], Forecaster]
    is_accumulation: bool = False

    def weeks(self) -> list[range]:
        """Return the indices of each week; a rest of less than half a week joins the last one."""
        count = len(self.values)
        starts = [at for at in range(0, count, WEEK_HOURS) if not at or count - at > WEEK_HOURS / 2]
        return [range(first, end) for first, end in pairwise([*starts, count])]

    def outcome(self, index: int) -> float | None:
        """Return what came of the forecast issued at hour `index`; None: not known."""
        then = index + self.hours_ahead
        return self.values[then] if then < len(self.values) else None


def folder_of_recordings() -> Path:
    """Return where the recordings are."""
    return Path(os.environ.get("YUKIMI_RECORDINGS", "../shared/recordings"))


def stations(folder: Path) -> list[Station]:
    """Read the recordings. Raises OSError where there are none."""
    return [_san_juan(folder / "snow"), _grand_mesa(folder / "snow")]


def temperatures(folder: Path) -> list[Series]:
    """Return the temperatures: the snow's surface, and air, which stands in where it crosses 0."""
    san_juan, grand_mesa = stations(folder)
    return [
        Series("snow surface, San Juan", san_juan, san_juan.surface_c, 1, surface_forecaster),
        Series("air, San Juan", san_juan, san_juan.air_c, 1, surface_forecaster),
        Series("air, Grand Mesa", grand_mesa, grand_mesa.air_c, 1, surface_forecaster),
    ]


def snowfalls(folder: Path) -> list[Series]:
    """Return the new snow of both stations, summed up from their depths."""
    return [
        Series(f"new snow, {it.name}", it, fallen_cm(it.depth_cm), 3, new_snow_forecaster, True)
        for it in stations(folder)
    ]


def fallen_cm(depths_cm: Values) -> Values:
    """Return the sum of new snow: how far each snowfall rises above the lowest depth before it.

    A snowfall is over after BREAK_HOURS in which it grew by less than GROWTH_CM.
    """
    fallen: Values = []
    before, lowest, spell = 0.0, float("inf"), [0.0]
    for depth in depths_cm:
        if depth is None:
            fallen.append(None)
            continue
        if is_over(spell):
            before, lowest, spell = before + spell[-1], depth, [0.0]
        if not spell[-1]:
            lowest = min(lowest, depth)
        spell.append(max(spell[-1], depth - lowest))
        fallen.append(before + spell[-1])
    return fallen


def is_over(spell: Sequence[float]) -> bool:
    """Whether new snow, one value an hour, has stopped growing."""
    return len(spell) > BREAK_HOURS and spell[-1] - spell[-1 - BREAK_HOURS] < GROWTH_CM


def _san_juan(folder: Path) -> Station:
    with (folder / "csas_SASP_1hr_2010-2024.csv").open(encoding="ascii", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Year"]]
    coldest, warmest = _column(rows, "LoAir_Min_C"), _column(rows, "LoAir_Max_C")
    return Station(
        "San Juan",
        [
            (
                datetime(int(row["Year"]), 1, 1, tzinfo=UTC)
                + timedelta(days=int(row["DOY"]) - 1, hours=int(row["Hour"]) // 100)
            ).timestamp()
            for row in rows
        ],
        _column(rows, "Sno_IR_C"),
        [
            None if low is None or high is None else (low + high) / 2
            for low, high in zip(coldest, warmest, strict=True)
        ],
        _column(rows, "Sno_Height_M", 100),
    )


def _grand_mesa(folder: Path) -> Station:
    with (folder / "snowex_ME_hourly.csv").open(encoding="ascii", newline="") as file:
        rows = list(csv.DictReader(file))
    return Station(
        "Grand Mesa",
        [datetime.fromisoformat(row["TIMESTAMP"] + "+00:00").timestamp() for row in rows],
        [None] * len(rows),
        _column(rows, "AirTC_10ft_Avg"),
        _column(rows, "SnowDepthFilter(m)", 100),
    )


def _column(rows: Iterable[dict[str, str]], name: str, factor: float = 1.0) -> Values:
    """Return a column; None for an empty field and for the stations' code of a gap, -9999."""
    texts = [row[name] or "-9999" for row in rows]
    return [None if float(text) <= -9999 else float(text) * factor for text in texts]
