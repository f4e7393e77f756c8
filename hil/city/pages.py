"""The city's page: what is there, what is wrong, what is missing. HTML from rows; read only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from . import markup, plot
from .daybook import LATE_S, Day, StreamDay
from .days import read, seconds
from .formats.observed import AHEAD_S, Observed, between, figure
from .markup import Markup, Part, tag
from .rows import Row
from .store import Store
from .wire import utc_text
from .words import WORDS, name_of, unit_of

DAY_S = 86400.0
QUARTER_S = 900.0
REFRESH_S = 60

_OVERVIEW = """
SELECT g.gateway, g.state, g.reason, g.heard_utc, g.label_ja, g.label_en, g.version,
    (SELECT max(each.newest) FROM (
        SELECT (SELECT max(r.end_utc) FROM record AS r
            WHERE r.gateway = s.gateway AND r.stream = s.sensor AND r.end_utc <= ?) AS newest
        FROM sensor AS s WHERE s.gateway = g.gateway) AS each),
    (SELECT sum(s.produced - s.through
            - (SELECT count(*) FROM record AS r WHERE r.gateway = s.gateway AND r.run = s.run
                AND r.stream = s.stream AND r.seq > s.through)
            - (SELECT coalesce(sum(p.seq - p.first + 1), 0) FROM gap AS p
                WHERE p.gateway = s.gateway AND p.run = s.run AND p.stream = s.stream
                AND p.first > s.through))
        FROM stream AS s WHERE s.gateway = g.gateway AND s.produced > s.through),
    (SELECT h.document FROM health AS h WHERE h.gateway = g.gateway)
FROM gateway AS g
"""
_ALARMS = """
SELECT a.gateway, a.sensor, a.severity, a.since_utc, a.text_ja, a.text_en FROM alarm AS a
ORDER BY CASE a.severity WHEN 'critical' THEN 0 WHEN 'warning' THEN 1 ELSE 2 END, a.since_utc
"""
# What a sensor's plot shows; the first that it has.
_SHOWN = {
    "snow": ("depth_cm", "distance_cm"),
    "road": ("surface_temperature_c", "friction", "water_film_mm"),
    "weather": ("air_temperature_c", "humidity_percent", "pressure_hpa"),
    "cabinet": ("supply_v", "cpu_temperature_c", "current_a"),
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks: in which language, where, and when."""

    language: str
    zone: ZoneInfo
    now_s: float

    @property
    def latest(self) -> str:
        """Until when a record can be: what a clock far ahead has dated is not the newest."""
        return utc_text(self.now_s + AHEAD_S)

    def say(self, word: str) -> str:
        """Return a word in their language."""
        return WORDS[word].in_(self.language)

    def head(self, word: str) -> str:
        """Return a word as a heading."""
        said = self.say(word)
        return said[:1].upper() + said[1:]

    def pick(self, japanese: Any, english: Any) -> Any:
        """Return what is said in their language, or in the other."""
        return (english or japanese) if self.language == "en" else (japanese or english)

    def ago(self, at: Any) -> Markup:
        """Say how long ago a time of the database was."""
        if at is None:
            return Markup("–")
        ago_s = max(0.0, self.now_s - seconds(at))
        for size_s, ja, en in ((DAY_S, "日", "d"), (3600, "時間", "h"), (60, "分", "min")):
            if ago_s >= size_s:
                said = f"{ago_s / size_s:.0f} {en if self.language == 'en' else ja}"
                break
        else:
            said = f"{ago_s:.0f} {'s' if self.language == 'en' else '秒'}"
        said = f"{said} ago" if self.language == "en" else f"{said}前"
        return tag("time", said, title=self.clock(at))

    def clock(self, at: Any) -> str:
        """Say when a time of the database was."""
        return f"{datetime.fromtimestamp(seconds(at), self.zone):%Y-%m-%d %H:%M:%S}"


def overview(store: Store, who: Reader) -> str:
    """Return the page of all gateways."""
    gateways = store.query(f"{_OVERVIEW} ORDER BY g.state, g.gateway", (who.latest,))
    alarms = store.query(_ALARMS)
    ((rejected,),) = store.query("SELECT count(*) FROM rejected")
    online = sum(row[1] == "online" for row in gateways)
    missing = sum(_to_come(row[8]) for row in gateways)
    sums: list[tuple[str, int, str | None]] = [
        ("gateways", len(gateways), None),
        ("online", online, "good"),
        ("offline", len(gateways) - online, "bad" if len(gateways) > online else None),
        ("alarms", len(alarms), "warn" if alarms else None),
        ("open", missing, "warn" if missing else None),
        ("rejected", rejected, "bad" if rejected else None),
    ]
    head = ("gateway", "state", "place", "heard", "newest", "waiting", "open", "alarms", "version")
    by_gateway = [row[0] for row in alarms]
    return _page(
        who,
        who.say("title"),
        tag("h1", who.say("title")),
        tag(
            "div",
            *(
                tag("div", tag("b", f"{number:,}", class_=colour), who.say(word))
                for word, number, colour in sums
            ),
            class_="sums",
        ),
        tag("h2", who.head("alarms")),
        _alarm_table(who, alarms, with_gateway=True),
        tag("h2", who.head("gateways")),
        markup.table(
            _heads(who, head),
            [_gateway_row(who, row, by_gateway.count(row[0])) for row in gateways],
        )
        if gateways
        else tag("p", who.say("none"), class_="soft"),
    )


def _gateway_row(who: Reader, row: Row, alarms: int) -> list[Part]:
    gateway, state, reason, heard, label_ja, label_en, version, newest, to_come, health = row
    spool = _json(health).get("spool") if health is not None else None
    waiting = spool.get("waiting") if isinstance(spool, dict) else None
    to_come = _to_come(to_come)
    return [
        _link(who, gateway),
        _state(who, state, reason),
        tag("td", who.pick(label_ja, label_en), class_="text"),
        who.ago(heard),
        who.ago(newest),
        waiting if isinstance(waiting, int) else None,
        tag("td", f"{to_come:,}", class_="n warn") if to_come else 0,
        tag("td", f"{alarms}", class_="n warn") if alarms else 0,
        version,
    ]


def _to_come(told: Any) -> int:
    """Return how many numbers a gateway has given that are not here; late gaps may overlap."""
    return max(0, int(told or 0))


def one_gateway(store: Store, gateway: str, who: Reader) -> str | None:
    """Return the page of one gateway; None if there is none."""
    rows = store.query(f"{_OVERVIEW} WHERE g.gateway = ?", (who.latest, gateway))
    if not rows:
        return None
    _, state, reason, heard, label_ja, label_en, version, *_ = rows[0]
    ((owner, licence, run),) = store.query(
        "SELECT owner, licence, run FROM gateway WHERE gateway = ?", (gateway,)
    )
    alarms = [row for row in store.query(_ALARMS) if row[0] == gateway]
    day = Day(who.now_s - DAY_S, who.now_s)
    # What has just closed is still on its way; a quarter of an hour holds whole windows.
    until_s = (who.now_s - LATE_S) // QUARTER_S * QUARTER_S
    settled = Day(until_s - DAY_S, until_s)
    facts = [f"{who.say('version')} {version}", run, owner, licence]
    title = str(who.pick(label_ja, label_en) or gateway)
    return _page(
        who,
        title,
        tag("p", tag("a", who.say("all"), href=f"/?lang={who.language}")),
        tag("h1", title, " ", tag("small", gateway)),
        tag("p", _state(who, state, reason), " · ", who.say("heard"), " ", who.ago(heard)),
        tag("p", " · ".join(str(fact) for fact in facts if fact), class_="soft"),
        tag("h2", who.head("alarms")),
        _alarm_table(who, alarms, with_gateway=False),
        tag("h2", who.say("today")),
        _account(who, read(store, gateway, settled)),
        tag("h2", who.say("plots")),
        _plots(store, gateway, day, who),
        tag("p", who.say("noise"), class_="soft"),
    )


def message(who: Reader, word: str) -> str:
    """Return a page that says one thing."""
    return _page(who, who.say("title"), tag("h1", who.say(word)), tag("p", _back(who)))


def _back(who: Reader) -> Markup:
    return tag("a", who.say("all"), href=f"/?lang={who.language}")


def _page(who: Reader, title: str, *parts: Part) -> str:
    other = "ja" if who.language == "en" else "en"
    language = tag(
        "p",
        tag("a", who.say("other"), href=f"?lang={other}", hreflang=other),
        class_="corner",
    )
    foot = tag("p", who.say("read_only"), class_="soft")
    return markup.page(title, language, *parts, foot, language=who.language, refresh_s=REFRESH_S)


def _link(who: Reader, gateway: str) -> Markup:
    return tag("a", gateway, href=f"/gateway/{quote(gateway, safe='')}?lang={who.language}")


def _state(who: Reader, state: str, reason: str | None) -> Markup:
    if state == "online":
        return tag("span", f"● {who.say('online')}", class_="good")
    if reason == "stopped":
        return tag("span", f"○ {who.say('stopped')}", class_="soft")
    return tag("span", f"▲ {who.say('dead')}", class_="bad")


def _alarm_table(who: Reader, alarms: Sequence[Row], *, with_gateway: bool) -> Markup:
    if not alarms:
        return tag("p", who.say("no_alarm"), class_="soft")
    colours = {"critical": "bad", "warning": "warn"}
    words = ["severity", "gateway", "sensor", "what", "since"]
    rows: list[list[Part]] = []
    for gateway, sensor, severity, since, text_ja, text_en in alarms:
        known = severity if severity in WORDS else "info"
        said = tag("span", who.say(known), class_=colours.get(severity))
        what = tag("td", who.pick(text_ja, text_en), class_="text")
        rows.append([said, _link(who, gateway), sensor, what, who.ago(since)])
    if not with_gateway:
        words.remove("gateway")
        for row in rows:
            del row[1]
    return markup.table(_heads(who, words), rows)


# Columns of figures, whose names stand to the right too.
_FIGURES = frozenset(
    ("waiting", "open", "alarms", "expected", "delivered", "late", "lost", "missing", "covered")
) | {"p95"}


def _heads(who: Reader, words: Sequence[str]) -> list[Part]:
    return [
        tag("th", who.head(word), class_="n") if word in _FIGURES else who.head(word)
        for word in words
    ]


def _account(who: Reader, days: Sequence[StreamDay]) -> Markup:
    head = ("stream", "expected", "delivered", "late", "lost", "missing", "covered", "p95")
    rows: list[list[Part]] = []
    for each in days:
        lost = sum(each.lost.values())
        p95_s = each.latency_s.get("p95")
        rows.append(
            [
                each.stream,
                each.expected,
                each.delivered,
                tag("td", f"{each.late:,}", class_="n warn") if each.late else 0,
                tag("td", f"{lost:,}", class_="n warn") if lost else 0,
                tag("td", f"{each.missing:,}", class_="n bad") if each.missing else 0,
                _figure(None if each.covered_percent is None else f"{each.covered_percent:.1f} %"),
                _figure(None if p95_s is None else f"{p95_s:,.1f} s"),
            ]
        )
    return markup.table(_heads(who, head), rows)


def _figure(said: str | None) -> Markup:
    return tag("td", said, class_="n")


def _plots(store: Store, gateway: str, day: Day, who: Reader) -> Markup:
    sensors = store.query(
        "SELECT sensor, kind, label_ja, label_en FROM sensor WHERE gateway = ? ORDER BY sensor",
        (gateway,),
    )
    figures = []
    for sensor, kind, label_ja, label_en in sensors:
        records = list(between(store, gateway, sensor, day.from_s, day.to_s))
        series, quantity = _series(kind, records, who)
        unit = unit_of(quantity)
        drawn = plot.svg(series, unit=unit, from_s=day.from_s, to_s=day.to_s, zone=who.zone)
        newest = [f"{each.points[-1].value:.4g} {unit}" for each in series if each.points]
        figures.append(
            tag(
                "figure",
                tag(
                    "figcaption",
                    who.pick(label_ja, label_en) or sensor,
                    " ",
                    tag("small", f"{sensor} · {name_of(quantity, who.language)}"),
                ),
                drawn if newest else tag("p", who.say("none"), class_="soft"),
                _legend(series, newest),
            )
        )
    return tag("div", *figures, class_="plots")


def _legend(series: Sequence[plot.Series], newest: Sequence[str]) -> Markup:
    marks = []
    for number, (each, value) in enumerate(zip(series, newest, strict=False)):
        marks.append(tag("span", f"━ {each.name} {value}", class_=f"key{number}"))
    return tag("p", *marks, class_="legend")


def _series(kind: str, records: Sequence[Observed], who: Reader) -> tuple[list[plot.Series], str]:
    if kind == "people":
        return [
            _flow(way, records, who) for way in ("towards", "away", "total") if _has(way, records)
        ], "people"
    wanted = _SHOWN.get(kind, ()) + tuple(records[-1].values if records else ())
    for quantity in wanted:
        points = [point for one in records if (point := _point(one, quantity)) is not None]
        if points:
            return [plot.Series("", points)], quantity
    return [], wanted[0] if wanted else kind


def _has(way: str, records: Sequence[Observed]) -> bool:
    return any(one.count(way) is not None for one in records)


def _flow(way: str, records: Sequence[Observed], who: Reader) -> plot.Series:
    name = next((found for one in records if (found := one.direction(way, who.language))), way)
    points = []
    for one in records:
        count, reach = one.count(way), one.mean("ci95")
        if count is not None:
            low = None if reach is None else max(0.0, count - reach)
            high = None if reach is None else count + reach
            points.append(plot.Point(one.start_s, one.end_s, count, low, high))
    return plot.Series(name, points)


def _point(one: Observed, quantity: str) -> plot.Point | None:
    mean = one.mean(quantity)
    if mean is None or not one.is_usable:
        return None
    found = one.values.get(quantity)
    whole: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    low, high = whole.get("min"), whole.get("max")
    return plot.Point(one.start_s, one.end_s, mean, figure(low), figure(high))


def _json(value: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return document
