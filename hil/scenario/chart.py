"""Charts of a run as SVG: lines over one shared span of time, with what broke behind them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..city.markup import Markup, tag

WIDTH, HEIGHT = 1000, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 24
LANE = 17
POINTS = 700
NICE_H = (0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 96, 168, 24 * 14)


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time, with its reach where there is one; NaN breaks the line."""

    at_s: float
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart; `look` is a class of the style sheet."""

    name: str
    points: Sequence[Point]
    look: str


@dataclass(frozen=True, slots=True)
class Band:
    """A span of time behind the lines, or in a lane of its own."""

    begin_s: float
    end_s: float
    look: str
    name: str = ""


def thinned(points: Sequence[Point]) -> list[Point]:
    """Join neighbours until there are no more than a screen shows; extremes and breaks stay."""
    step = -(-len(points) // POINTS)
    if step < 2:
        return list(points)
    joint = []
    for at in range(0, len(points), step):
        some = [each for each in points[at : at + step] if not math.isnan(each.value)]
        middle_s = points[min(at + step // 2, len(points) - 1)].at_s
        if not some:
            joint.append(Point(middle_s, math.nan))
            continue
        lows = [each.value if math.isnan(each.low) else each.low for each in some]
        highs = [each.value if math.isnan(each.high) else each.high for each in some]
        mean = sum(each.value for each in some) / len(some)
        joint.append(Point(middle_s, mean, min(lows), max(highs)))
    return joint


def chart(
    lines: Sequence[Line], *, lasts_s: float, unit: str, bands: Sequence[Band] = (), name: str
) -> Markup:
    """Draw lines, `bands` behind them."""
    thin = [Line(each.name, thinned(each.points), each.look) for each in lines]
    values = [
        value
        for line in thin
        for point in line.points
        for value in (point.value, point.low, point.high)
        if not math.isnan(value)
    ]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    ticks = _ticks(low, high)
    scale = _Scale(lasts_s, min(low, ticks[0]), max(high, ticks[-1]))
    parts = [*_bands(scale, bands), *_grid(scale, ticks), *_hours(scale, HEIGHT)]
    for line in thin:
        runs = list(_runs(line.points))
        parts += [_reach(scale, run, line.look) for run in runs if not math.isnan(run[0].low)]
        parts += [_path(scale, run, line.look) for run in runs]
    parts.append(tag("text", unit, x=4, y=TOP + 9, class_="tick"))
    return tag(
        "svg",
        tag("title", name),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=name,
    )


def lanes(rows: Sequence[tuple[str, Sequence[Band]]], *, lasts_s: float, name: str) -> Markup:
    """Draw a lane for each name, and in it what was when."""
    height = TOP + LANE * len(rows) + BOTTOM
    scale = _Scale(lasts_s, 0.0, 1.0, left=210)
    parts = list(_hours(scale, height))
    for number, (title, bands) in enumerate(rows):
        y = TOP + LANE * number
        parts.append(tag("text", title, x=202, y=y + 12, class_="lane end"))
        for band in bands:
            x, x2 = scale.x(band.begin_s), scale.x(band.end_s)
            parts.append(
                tag(
                    "rect",
                    tag("title", band.name),
                    x=round(x, 1),
                    y=y + 2,
                    width=round(max(2.5, x2 - x), 1),
                    height=LANE - 5,
                    rx=2,
                    class_=band.look,
                )
            )
    return tag(
        "svg", tag("title", name), *parts, viewBox=f"0 0 {WIDTH} {height}", role="img",
        aria_label=name,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Scale:
    lasts_s: float
    low: float
    high: float
    left: int = LEFT

    def x(self, at_s: float) -> float:
        share = min(1.0, max(0.0, at_s / self.lasts_s))
        return self.left + share * (WIDTH - self.left - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _ticks(low: float, high: float) -> list[float]:
    span = (high - low) or max(abs(high), 1.0) * 0.1
    raw = span / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def _grid(scale: _Scale, ticks: Sequence[float]) -> Iterator[Markup]:
    for value in ticks:
        y = round(scale.y(value), 1)
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        yield tag("text", f"{value:g}", x=LEFT - 6, y=y + 3.5, class_="tick end")


def _hours(scale: _Scale, height: int) -> Iterator[Markup]:
    step_h = next((each for each in NICE_H if scale.lasts_s / 3600 / each <= 13), NICE_H[-1])
    at_h = 0.0
    while at_h * 3600 <= scale.lasts_s:
        x = round(scale.x(at_h * 3600), 1)
        yield tag("line", x1=x, x2=x, y1=TOP, y2=height - BOTTOM, class_="grid")
        shown = f"{at_h / 24:g} d" if step_h >= 24 else f"{at_h:g} h"
        yield tag("text", shown, x=x, y=height - 8, class_="tick middle")
        at_h += step_h


def _bands(scale: _Scale, bands: Sequence[Band]) -> Iterator[Markup]:
    for band in bands:
        x, x2 = scale.x(band.begin_s), scale.x(band.end_s)
        yield tag(
            "rect",
            tag("title", band.name),
            x=round(x, 1),
            y=TOP,
            width=round(max(1.5, x2 - x), 1),
            height=HEIGHT - TOP - BOTTOM,
            class_=f"{band.look} behind",
        )


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Yield the parts of a line between breaks: missing values, and holes in time."""
    run: list[Point] = []
    usual_s = min(
        (b.at_s - a.at_s for a, b in pairwise(points) if b.at_s > a.at_s),
        default=0.0,
    )
    for point in points:
        is_break = math.isnan(point.value)
        if run and (is_break or point.at_s - run[-1].at_s > 4.5 * usual_s):
            yield run
            run = []
        if not is_break:
            run.append(point)
    if run:
        yield run


def _path(scale: _Scale, run: Sequence[Point], look: str) -> Markup:
    if len(run) == 1:
        x, y = round(scale.x(run[0].at_s), 1), round(scale.y(run[0].value), 1)
        return tag("circle", cx=x, cy=y, r=1.6, class_=f"{look} dot")
    places = " ".join(f"{scale.x(p.at_s):.1f},{scale.y(p.value):.1f}" for p in run)
    return tag("polyline", points=places, class_=look)


def _reach(scale: _Scale, run: Sequence[Point], look: str) -> Markup:
    def at(point: Point, value: float) -> str:
        shown = point.value if math.isnan(value) else value
        return f"{scale.x(point.at_s):.1f},{scale.y(shown):.1f}"

    upper = [at(point, point.high) for point in run]
    lower = [at(point, point.low) for point in reversed(run)]
    return tag("polygon", points=" ".join([*upper, *lower]), class_=f"{look} reach")
