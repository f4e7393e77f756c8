"""One sensor's part of a report: what it is, how it is, its last day. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config.text import Text

from ..record import utc_ns
from ..rules import CONDITION_NAMES
from . import names, words
from .facts import Document, SensorFacts
from .html import Html, joined, tag
from .plots import Bar, Day, Means, bar_plot, line_plot, with_unit

At = Callable[[object], str]
Pairs = Callable[[Sequence[tuple[Text, object]]], Html]


@dataclass(slots=True)
class Budget:
    """What plots may still weigh, so that the file stays small whatever is configured."""

    left_bytes: int

    def takes(self, drawn: Html) -> bool:
        """Whether there is room; then it is taken."""
        size_bytes = len(drawn.encode())
        if size_bytes > self.left_bytes:
            return False
        self.left_bytes -= size_bytes
        return True


def sensor_section(
    sensor: SensorFacts, plot_id: str, name: str, day: Day, budget: Budget, *, at: At, pairs: Pairs
) -> Html:
    """Return a sensor's part."""
    plots, left_out = (
        _people(sensor, plot_id, day) if sensor.counts_people else _lines(sensor, plot_id, day),
        [],
    )
    drawn = []
    for title, plot in plots:
        if budget.takes(plot):
            drawn.append(plot)
        else:
            left_out.append(title)
    state = (sensor.now or {}).get("state")
    style = {"ok": "good", "silent": "bad", "ignored": "bad"}.get(str(state), "plain")
    shown = names.STATES.get(str(state))
    badge = tag("span", day.say(shown), class_=f"tag {style}") if shown is not None else ""
    separator = "、" if day.language == "ja" else ", "
    return joined(
        tag("h3", name, " ", badge),
        tag("p", _what(sensor, day), class_="soft"),
        tag("div", *drawn, class_="plots") if drawn else "",
        tag("p", day.say(words.NO_ROOM, names=separator.join(left_out)), class_="soft")
        if left_out
        else "",
        tag("p", _about_people(sensor, day), class_="soft")
        if sensor.counts_people and sensor.now
        else "",
        tag("p", day.say(words.NOT_YET), class_="soft") if sensor.now and not plots else "",
        pairs(_pairs(sensor, day, at)),
    )


def _what(sensor: SensorFacts, day: Day) -> str:
    """Say what it is and where."""
    kind = names.KINDS.get(sensor.kind, Text(sensor.kind, sensor.kind))
    said = [day.say(kind), sensor.driver, sensor.bus]
    if sensor.window_s is not None:
        said.append(day.say(words.EVERY, seconds=sensor.window_s))
    return " · ".join(said)


def _pairs(sensor: SensorFacts, day: Day, at: At) -> list[tuple[Text, object]]:
    now = sensor.now or {}
    record, error = now.get("record"), now.get("error")
    found: list[tuple[Text, object]] = []
    if record:
        found.append((words.LAST, f"{at(record.get('end'))}  {_values(sensor, record, day)}"))
        flag = str((record.get("quality") or {}).get("flag"))
        reasons = (record.get("quality") or {}).get("reasons") or ()
        said = day.say(words.QUALITIES.get(flag, Text(flag, flag)))
        found.append((words.QUALITY, f"{said} {' '.join(map(str, reasons))}".strip()))
    if error:
        text = error.get("text") or error.get("kind")
        found.append((words.TROUBLE, f"{at(error.get('time'))}  {str(text)[:400]}"))
    return found


def _class(name: str, value: str, day: Day) -> str:
    if name == "condition" and value in CONDITION_NAMES:
        return CONDITION_NAMES[value][day.language]
    found = names.GROUND.get(value) if name == "ground" else None
    return day.say(found) if found is not None else value.replace("_", " ")


def _values(sensor: SensorFacts, record: Document, day: Day) -> str:
    """Return a record's values on a line."""
    said = []
    for name, value in (record.get("values") or {}).items():
        if name.startswith("forecast_"):
            continue
        if isinstance(value, dict):
            value = value.get("mean", value.get("mode", value.get("count")))
        if value is None or isinstance(value, dict | list):
            continue
        unit = names.unit(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        shown = with_unit(float(value), unit) if is_number else _class(name, str(value), day)
        label = (
            _way(sensor, name, day) if name in names.DIRECTIONS else day.say(names.quantity(name))
        )
        if name not in ("epsilon", "noise_sd", "ci95"):
            said.append(f"{label} {shown}")
    return ("、" if day.language == "ja" else ", ").join(said[:12])


def _lines(sensor: SensorFacts, plot_id: str, day: Day) -> list[tuple[str, Html]]:
    history = sensor.history or {}
    found = []
    for index, (name, values) in enumerate((history.get("means") or {}).items()):
        means = Means(utc_ns(history["start"]) / 1e9, history["slot_s"], values)
        unit, title = names.unit(name), day.say(names.quantity(name))
        drawn = Html(line_plot(f"{plot_id}-{index}", title, unit, means, day))
        caption = tag("figcaption", tag("b", title), f" {unit}" if unit else "")
        found.append((title, tag("figure", caption, drawn)))
    return found


def _people(sensor: SensorFacts, plot_id: str, day: Day) -> list[tuple[str, Html]]:
    windows = (sensor.history or {}).get("windows")
    if not windows:
        return []
    ways = [way for way in ("towards", "away", "total") if any(way in each for each in windows)]
    bars = [
        Bar(
            utc_ns(each["start"]) / 1e9,
            utc_ns(each["end"]) / 1e9,
            *(_shown(each.get(way)) for way in ways[:2]),
        )
        for each in windows
    ]
    labels = [_way(sensor, way, day) for way in ways]
    title = day.say(words.COUNTED)
    both = (labels[0], labels[1] if len(labels) > 1 else None)
    drawn = Html(bar_plot(plot_id, title, bars, both, day))
    keys = [
        joined(tag("span", class_=f"key {style}"), f"{arrow} {label} ")
        for style, arrow, label in zip(("up", "down"), "↑↓", labels, strict=False)
    ]
    return [(title, tag("figure", tag("figcaption", tag("b", title), " ", *keys), drawn))]


def _shown(count: object) -> int | None:
    return max(0, count) if isinstance(count, int) else None


def _way(sensor: SensorFacts, way: str, day: Day) -> str:
    told = sensor.directions.get(way)
    if isinstance(told, dict):
        other = "en" if day.language == "ja" else "ja"
        name = told.get(day.language) or told.get(other)
        if name:
            return str(name)
    return day.say(names.DIRECTIONS[way])


def _about_people(sensor: SensorFacts, day: Day) -> str:
    """Say what the figures are, and their sum: unclamped ones add up without bias."""
    values = ((sensor.now or {}).get("record") or {}).get("values") or {}
    ci95 = values.get("ci95")
    noise = ""
    if ci95 is not None:
        noise = day.say(words.NOISE, ci95=ci95, epsilon=values.get("epsilon"))
    said = day.say(words.PEOPLE, noise=noise)
    windows = (sensor.history or {}).get("windows") or ()
    ways = [way for way in ("towards", "away", "total") if any(way in each for each in windows)]
    sums = []
    for way in ways:
        known = [each[way] for each in windows if isinstance(each.get(way), int)]
        margin = ""
        if known and isinstance(values.get("noise_sd"), int | float):
            margin = f" ±{1.96 * values['noise_sd'] * len(known) ** 0.5:.0f}"
        sums.append(f"{_way(sensor, way, day)} {sum(known):,}{margin}")
    if sums:
        separator = "、" if day.language == "ja" else ", "
        said += " " + day.say(words.DAY_SUM, sums=separator.join(sums))
    return said
