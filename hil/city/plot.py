"""A stream's last day as a picture: SVG put together here, nothing runs in the browser. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from .markup import Markup, joined, tag

WIDTH, HEIGHT = 420, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24
POINTS_MAX = 400
TICKS = 4
COLOURS = ("var(--plot)", "var(--second)")


@dataclass(frozen=True, slots=True)
class Point:
    """A window's value, with the reach of it where there is one."""

    start_s: float
    end_s: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One line; a line is broken where windows are missing."""

    name: str
    points: Sequence[Point]


def svg(
    series: Sequence[Series], *, unit: str, from_s: float, to_s: float, zone: ZoneInfo
) -> Markup:
    """Draw lines over a span of time; the band around a line is low..high."""
    lines = [[_thinned(run) for run in _runs(each.points)] for each in series]
    points = [point for runs in lines for run in runs for point in run]
    if not points:
        return joined([])
    low = min(point.value if point.low is None else point.low for point in points)
    high = max(point.value if point.high is None else point.high for point in points)
    ticks = _ticks(low, high)
    scale = _Scale(from_s, to_s, min(low, ticks[0]), max(high, ticks[-1]))
    parts: list[Markup] = [*_grid(scale, ticks), *_hours(scale, zone)]
    for colour, runs in zip(COLOURS, lines, strict=False):
        parts += [_band(scale, run, colour) for run in runs if run[0].low is not None]
        parts += [_line(scale, run, colour) for run in runs]
    parts.append(tag("text", unit, x=2, y=TOP + 2, class_="tick"))
    said = f"{series[0].name} {unit}"
    return tag(
        "svg",
        tag("title", said),
        *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=said,
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    from_s: float
    to_s: float
    low: float
    high: float

    def x(self, at_s: float) -> float:
        share = (at_s - self.from_s) / (self.to_s - self.from_s)
        return round(LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Join neighbours until the line has no more points than a screen shows; extremes stay."""
    step = -(-len(points) // POINTS_MAX)
    if step < 2:
        return points
    joint = []
    for at in range(0, len(points), step):
        some = points[at : at + step]
        lows = [point.value if point.low is None else point.low for point in some]
        highs = [point.value if point.high is None else point.high for point in some]
        mean = sum(point.value for point in some) / len(some)
        joint.append(Point(some[0].start_s, some[-1].end_s, mean, min(lows), max(highs)))
    return joint


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers that span low..high."""
    span, size = high - low, max(abs(low), abs(high), 1e-6)
    if span < 1e-12 * size:  # as good as one value
        span = 0.1 * max(abs(high), 1.0)
    raw = span / TICKS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _grid(scale: _Scale, ticks: Sequence[float]) -> Iterator[Markup]:
    for value in ticks:
        y = scale.y(value)
        yield tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        yield tag("text", f"{value:g}", x=LEFT - 5, y=y + 3.5, class_="tick end")


def _hours(scale: _Scale, zone: ZoneInfo) -> Iterator[Markup]:
    at = datetime.fromtimestamp(scale.from_s, zone).replace(minute=0, second=0, microsecond=0)
    while at.timestamp() <= scale.to_s:
        if at.hour % 6 == 0 and at.timestamp() >= scale.from_s:
            x = scale.x(at.timestamp())
            yield tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid")
            name = f"{at:%m/%d}" if at.hour == 0 else f"{at:%H:%M}"
            yield tag("text", name, x=x, y=HEIGHT - 8, class_="tick middle")
        at += timedelta(hours=1)


def _runs(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Yield the parts of a line between holes: where a whole window and more is missing."""
    run: list[Point] = []
    for point in points:
        if run and point.start_s - run[-1].end_s > 1.5 * (point.end_s - point.start_s):
            yield run
            run = []
        run.append(point)
    if run:
        yield run


def _line(scale: _Scale, run: Sequence[Point], colour: str) -> Markup:
    places = [(scale.x((point.start_s + point.end_s) / 2), scale.y(point.value)) for point in run]
    if len(places) == 1:
        return tag("circle", cx=places[0][0], cy=places[0][1], r=2, fill=colour)
    path = " ".join(f"{x},{y}" for x, y in places)
    return tag("polyline", points=path, stroke=colour, class_="line")


def _band(scale: _Scale, run: Sequence[Point], colour: str) -> Markup:
    def edge(value: float | None, point: Point) -> str:
        at_s = (point.start_s + point.end_s) / 2
        return f"{scale.x(at_s)},{scale.y(point.value if value is None else value)}"

    upper = [edge(point.high, point) for point in run]
    lower = [edge(point.low, point) for point in reversed(run)]
    return tag("polygon", points=" ".join([*upper, *lower]), fill=colour, class_="band")
