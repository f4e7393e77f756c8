"""Plots of a day as SVG inside the page: a line that breaks where nothing was measured. Pure.

Drawn for a column 360 px wide, so that the letters have their size on a phone and on paper. A gap
is shaded and has no line; each plot tells in words, for who does not see it, what a reader would
take from it: lowest, highest, newest value, and the gaps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from config.text import Language, Text

from .html import html

Span = tuple[float, float]  # from, to; UTC in seconds

WIDTH, HEIGHT = 360, 132
LEFT, RIGHT, TOP, BOTTOM = 40, 6, 8, 20
STRIP_HEIGHT = 44
HOUR_S, QUARTER_S = 3600, 900
GAPS_TOLD = 6

TITLE = Text("{name} in 24 hours", "{name}（24時間）")
VALUES = Text(
    "Lowest {low}, highest {high}, newest {last} at {at}.",
    "最低 {low}、最高 {high}、最新 {last}（{at}）。",
)
COUNTS = Text(
    "{name}: at most {high} in a window, newest {last} at {at}.",
    "{name}: 最多 {high}、最新 {last}（{at}）。",
)
NO_VALUES = Text("No value in these 24 hours.", "この24時間の値はありません。")
NO_GAPS = Text("No gaps.", "欠測なし。")
GAPS = Text(
    "Gaps: {count}, {hours} hours in all: {spans}.", "欠測{count}回、合計{hours}時間: {spans}。"
)
MORE = Text("and {count} more", "ほか{count}回")


@dataclass(frozen=True, slots=True)
class Day:
    """The 24 hours of a plot, in a place's own time."""

    start_s: float  # UTC
    end_s: float
    zone: tzinfo
    language: Language

    def x(self, at_s: float) -> float:
        """Return where an instant is."""
        share = (at_s - self.start_s) / (self.end_s - self.start_s)
        return LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT)

    def clock(self, at_s: float) -> str:
        """Return the time of day."""
        return f"{datetime.fromtimestamp(at_s, tz=UTC).astimezone(self.zone):%H:%M}"

    def say(self, text: Text, **fields: object) -> str:
        """Return a text in the reader's language."""
        return text.of(self.language, **fields)


@dataclass(frozen=True, slots=True)
class Bar:
    """A released count of one window."""

    start_s: float
    end_s: float
    up: int | None
    down: int | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """Means of slots that follow each other; None: nothing was measured."""

    start_s: float  # UTC
    slot_s: float
    values: Sequence[float | None]


def line_plot(plot_id: str, name: str, unit: str, means: Means, day: Day) -> str:
    """Draw means as a line."""
    start_s, slot_s, slots = means.start_s, means.slot_s, means.values
    points = [
        (min(day.end_s, start_s + (at + 0.5) * slot_s), value)
        for at, value in enumerate(slots)
        if value is not None and start_s + (at + 1) * slot_s > day.start_s
    ]
    missing = [
        (max(day.start_s, start_s + at * slot_s), start_s + (at + 1) * slot_s)
        for at, value in enumerate(slots)
        # The slot that is not over yet is no gap.
        if value is None and day.start_s < start_s + (at + 1) * slot_s <= day.end_s
    ]
    gaps = _joined([(day.start_s, start_s), *missing] if start_s > day.start_s else missing)
    told = [day.say(TITLE, name=name), _told(points, unit, day), _gaps_told(gaps, day)]
    if not points:
        return _svg(plot_id, told, _frame(gaps, [], day))
    values = [value for _, value in points]
    ticks = ticks_of(min(values), max(values))
    scale = _Scale(ticks[0], ticks[-1])
    runs: list[str] = []
    before_s = -math.inf
    for at_s, value in points:
        is_next = at_s - before_s < 1.5 * slot_s
        where = f"{day.x(at_s):.1f} {scale.y(value):.1f}"
        if is_next:
            runs[-1] += f"L{where}"
        else:
            runs.append(f"M{where}")
        before_s = at_s
    # A single point would have no length, and be invisible.
    path = "".join(run if "L" in run else f"{run}h1.5" for run in runs)
    marks = [(scale.y(tick), _number(tick)) for tick in ticks]
    return _svg(plot_id, told, _frame(gaps, marks, day) + f'<path class="line" d="{path}"/>')


def bar_plot(
    plot_id: str, name: str, bars: Sequence[Bar], names: tuple[str, str | None], day: Day
) -> str:
    """Draw released counts: one way upwards, the other downwards."""
    known = [bar for bar in bars if bar.end_s > day.start_s and bar.up is not None]
    gaps = _between([(bar.start_s, bar.end_s) for bar in known], day)
    told = [day.say(TITLE, name=name)]
    for which, each in zip(("up", "down"), names, strict=True):
        pairs = [
            (bar.end_s, getattr(bar, which)) for bar in known if getattr(bar, which) is not None
        ]
        if each is not None and pairs:
            at_s, last = pairs[-1]
            high = max(count for _, count in pairs)
            told.append(day.say(COUNTS, name=each, high=high, last=last, at=day.clock(at_s)))
    told += [] if known else [day.say(NO_VALUES)]
    told.append(_gaps_told(gaps, day))
    if not known:
        return _svg(plot_id, told, _frame(gaps, [], day))
    highest = max(bar.up or 0 for bar in known)
    lowest = max((bar.down or 0 for bar in known), default=0) if names[1] is not None else 0
    ticks = ticks_of(-lowest, max(highest, 1))
    scale = _Scale(ticks[0], ticks[-1])
    zero = scale.y(0)
    drawn = []
    for bar in known:
        x = day.x(bar.start_s)
        width = max(0.8, day.x(bar.end_s) - x - 0.6)
        for count, style in ((bar.up, "up"), (-(bar.down or 0), "down")):
            if count:
                y = min(zero, scale.y(count))
                height = abs(zero - scale.y(count))
                drawn.append(
                    f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}"'
                    f' height="{height:.1f}"/>'
                )
    marks = [(scale.y(tick), _number(abs(tick))) for tick in ticks]
    line = f'<path class="zero" d="M{LEFT} {zero:.1f}H{WIDTH - RIGHT}"/>'
    return _svg(plot_id, told, _frame(gaps, marks, day) + "".join(drawn) + line)


def strip(plot_id: str, told: Sequence[str], spans: Sequence[Span], known: Span, day: Day) -> str:
    """Draw a day as a strip: good where it is known, and not within `spans`."""
    y, height = 6, 16
    drawn = [
        _rect("unknown", (day.start_s, day.end_s), y, height, day),
        _rect("good", known, y, height, day),
        *(_rect("bad", span, y, height, day) for span in spans),
    ]
    hours = _hours(day, STRIP_HEIGHT - BOTTOM)
    return _svg(plot_id, told, "".join(drawn) + hours, STRIP_HEIGHT)


def ticks_of(low: float, high: float) -> list[float]:
    """Return round numbers, three to six, that enclose low..high."""
    if high - low < 1e-6 * max(1.0, abs(low)):
        margin = max(0.5, abs(low) * 0.05)
        # What is never below zero is not drawn as if it could be.
        low, high = (max(0.0, low - margin) if low >= 0 else low - margin), high + margin
    rough = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(at * step, 12) for at in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _svg(plot_id: str, told: Sequence[str], inside: str, height: int = HEIGHT) -> str:
    title, *rest = told
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img"'
        f' aria-labelledby="{plot_id}-t" aria-describedby="{plot_id}-d">'
        f'<title id="{plot_id}-t">{html(title)}</title>'
        f'<desc id="{plot_id}-d">{html(" ".join(rest))}</desc>{inside}</svg>'
    )


def _frame(gaps: Sequence[Span], marks: Sequence[tuple[float, str]], day: Day) -> str:
    """Draw what is behind a plot: gaps, lines of the scale, hours."""
    height = HEIGHT - BOTTOM - TOP
    parts = [_rect("gap", gap, TOP, height, day) for gap in gaps]
    for y, label in marks:
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="y" x="{LEFT - 5}" y="{y + 3.5:.1f}">{html(label)}</text>')
    return "".join(parts) + _hours(day, HEIGHT - BOTTOM)


def _hours(day: Day, base: float) -> str:
    parts = [f'<path class="axis" d="M{LEFT} {base}H{WIDTH - RIGHT}"/>']
    at_s = math.ceil(day.start_s / QUARTER_S) * QUARTER_S  # not all zones begin hours together
    while at_s <= day.end_s:
        local = datetime.fromtimestamp(at_s, tz=UTC).astimezone(day.zone)
        if local.minute == 0 and local.hour % 6 == 0:
            x = day.x(at_s)
            parts.append(f'<path class="axis" d="M{x:.1f} {base}v4"/>')
            parts.append(f'<text class="x" x="{x:.1f}" y="{base + 15}">{local:%H}:00</text>')
        at_s += QUARTER_S
    return "".join(parts)


def _rect(style: str, span: Span, y: float, height: float, day: Day) -> str:
    x = day.x(span[0])
    width = max(0.8, day.x(span[1]) - x)
    return f'<rect class="{style}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}"/>'


def _told(points: Sequence[tuple[float, float]], unit: str, day: Day) -> str:
    if not points:
        return day.say(NO_VALUES)
    values = [value for _, value in points]
    shown = {
        "low": with_unit(min(values), unit),
        "high": with_unit(max(values), unit),
        "last": with_unit(values[-1], unit),
    }
    return day.say(VALUES, at=day.clock(points[-1][0]), **shown)


def _gaps_told(gaps: Sequence[Span], day: Day) -> str:
    if not gaps:
        return day.say(NO_GAPS)
    spans = [f"{day.clock(start)}-{day.clock(end)}" for start, end in gaps[:GAPS_TOLD]]
    if len(gaps) > GAPS_TOLD:
        spans.append(day.say(MORE, count=len(gaps) - GAPS_TOLD))
    hours = f"{sum(end - start for start, end in gaps) / HOUR_S:.1f}"
    separator = "、" if day.language == "ja" else ", "
    return day.say(GAPS, count=len(gaps), hours=hours, spans=separator.join(spans))


def with_unit(value: float, unit: str) -> str:
    """Return a value as it is read aloud."""
    number = _number(float(f"{value:.4g}"))
    return f"{number} {unit}" if unit and unit != "%" else f"{number}{unit}"


def _number(value: float) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}") if text != "-0" else "0"


def _joined(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for start, end in spans:
        if found and start <= found[-1][1] + 1:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _between(covered: Sequence[Span], day: Day) -> list[Span]:
    """Return what of the day is not covered; what is not yet over is no gap."""
    found, at_s = [], day.start_s
    for start, end in sorted(covered):
        if start > at_s + 1:
            found.append((at_s, start))
        at_s = max(at_s, end)
    if not covered:
        return [(day.start_s, day.end_s)]
    longest_s = max(end - start for start, end in covered)
    if day.end_s - at_s > 2 * longest_s:
        found.append((at_s, day.end_s))
    return found
