"""A run as one HTML file that needs nothing but itself, to be read in a minute. Pure.

First whether it holds, then what broke when and what was said about it, then each quantity as it
was delivered over what really happened, then what it cost the gateway. In both languages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from ..city.markup import Markup, tag
from ..city.markup import page as whole_page
from .book import QUARTER_S, AlertHeard, Book, Measure
from .chart import Band, Line, Point, chart, lanes
from .judge import GOOD, MIB, Ran, Verdict
from .load import Loaded
from .series import Truth
from .spans import said

TRUTH_POINTS = 600
LINES_SHOWN = 120
LOOKS = {
    "serial": "wire", "i2c": "wire", "gpio": "wire", "network": "net", "broker": "net",
    "disk": "disk", "clock": "clock", "power": "power", "machine": "machine",
}  # fmt: skip

STYLE = """
body{max-width:70rem}.sums{gap:.5rem}.sums div{min-width:7.6rem;padding:.5rem .7rem}
header{border-left:.5rem solid var(--tone);padding:.1rem 0 .1rem 1rem}
header h1{font-size:1.7rem;margin:0}header h1 small{font-size:1.05rem;font-weight:400}
.holds{--tone:var(--good)}.fails{--tone:var(--bad)}.tone{color:var(--tone)}
figure{margin:0 0 .9rem;padding:.6rem .8rem .2rem}
figcaption{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;align-items:baseline}
figcaption small{font-weight:400}
.truth{fill:none;stroke:var(--soft);stroke-width:4;opacity:.45}
.told{fill:none;stroke:var(--plot);stroke-width:1.5;stroke-linejoin:round}
.told.reach{fill:var(--plot);stroke:none;opacity:.18}.told.dot{fill:var(--plot)}
.other{fill:none;stroke:var(--second);stroke-width:1.5}.other.reach{fill:var(--second);stroke:none;
opacity:.18}.truth.reach{fill:var(--soft);stroke:none;opacity:.12}.truth.dot{fill:var(--soft)}
.net{fill:#c0392b}.wire{fill:#b9770e}.power{fill:#6c3483}.clock{fill:#117a65}.disk{fill:#784212}
.machine{fill:#2e4053}.away{fill:#95a5a6}.alert{fill:#d35400}.alert.info{fill:#2874a6}
.alert.critical{fill:#a93226}.behind{opacity:.13}.lane{font-size:11px;fill:var(--ink)}
td.ok{color:var(--good);font-weight:700}td.no{color:var(--bad);font-weight:700}
.key{display:inline-block;width:1.4em;height:.34em;border-radius:2px;vertical-align:middle;
margin-right:.35em}.k-truth{background:var(--soft);opacity:.6}.k-told{background:var(--plot)}
.k-other{background:var(--second)}
.k-net{background:#c0392b}.k-wire{background:#b9770e}.k-power{background:#6c3483}
.k-clock{background:#117a65}.k-disk{background:#784212}.k-away{background:#95a5a6}
pre{font-size:.8rem;overflow-x:auto;background:var(--band);padding:.7rem;border-radius:.5rem}
td:nth-child(-n+3){white-space:normal}
"""


def page(loaded: Loaded, verdicts: Sequence[Verdict], ran: Ran, book: Book) -> str:
    """Return the whole report."""
    scenario, lasts_s = loaded.scenario, loaded.scenario.lasts
    holds = all(each.holds for each in verdicts)
    parts = [
        tag("style", Markup(STYLE)),
        _head(loaded, holds=holds),
        _sums(ran),
        *(tag("p", note, class_="warn") for note in book.notes),
        tag("h2", "Expectations / 期待する結果"),
        _verdicts(verdicts),
        tag("h2", "What happened / 経過"),
        tag("figure", lanes(_lanes(loaded, book), lasts_s=lasts_s, name="timeline")),
        tag("h2", "Truth and what the city was told / 真値と配信された値"),
        _key(),
        *_streams(loaded, book),
        *_crowds(loaded, book),
        tag("h2", "The gateway / 装置の状態"),
        *_gateway(loaded, book.measures()),
        *_log(book),
    ]
    title = f"{scenario.title.en} / {scenario.title.ja}"
    return whole_page(title, *parts, language="en")


def _head(loaded: Loaded, *, holds: bool) -> Markup:
    scenario = loaded.scenario
    word = "PASS 合格" if holds else "FAIL 不合格"
    return tag(
        "header",
        tag("h1", scenario.title.en, " ", tag("small", scenario.title.ja)),
        tag("p", scenario.summary.en, " ", tag("span", scenario.summary.ja, class_="soft")),
        tag("p", tag("b", word, class_="tone"), f" — {loaded.name}, seed {loaded.setting.seed}"),
        class_="holds" if holds else "fails",
    )


def _sums(ran: Ran) -> Markup:
    report = ran.report
    figures = (
        ("simulated 模擬時間", said(round(ran.played_s))),
        ("took 所要時間", said(round(ran.took_s, 1))),
        ("speed 倍速", f"{ran.played_s / max(ran.took_s, 1e-9):,.0f}×"),
        ("produced 作成", f"{report.produced:,}"),
        ("delivered 配信", f"{report.delivered:,}"),
        ("in gaps 欠測", f"{report.lost:,}"),
        ("missing 不明", f"{report.missing:,}"),
        ("lives 起動回数", str(ran.lives)),
    )
    boxes = [tag("div", tag("b", figure), tag("small", name)) for name, figure in figures]
    return tag("div", *boxes, class_="sums")


def _verdicts(verdicts: Sequence[Verdict]) -> Markup:
    rows = [
        tag(
            "tr",
            tag("td", each.what),
            tag("td", each.wanted),
            tag("td", each.measured),
            tag("td", "PASS" if each.holds else "FAIL", class_="ok" if each.holds else "no"),
        )
        for each in verdicts
    ]
    head = ("expectation 項目", "wanted 基準", "measured 実測", "")
    table = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", each) for each in head))),
        tag("tbody", *rows),
    )
    return tag("div", table, class_="wide")


def _lanes(loaded: Loaded, book: Book) -> list[tuple[str, list[Band]]]:
    lasts_s = loaded.scenario.lasts
    rows: dict[str, list[Band]] = {}
    for episode in loaded.episodes():
        fault = episode.fault
        name = f"{fault.verb} {fault.target or ''}".strip()
        given = ", ".join(f"{key} {value}" for key, value in fault.parameters().items())
        end_s = min(lasts_s, episode.end_s)
        shown = f"{name} {given} ({said(round(episode.begin_s))} – {said(round(end_s))})"
        rows.setdefault(name, []).append(Band(episode.begin_s, end_s, LOOKS[fault.acts], shown))
    found = list(rows.items())
    if book.outages:
        away = [
            Band(begin_s, end_s, "away", f"no broker for {said(round(end_s - begin_s))}")
            for begin_s, end_s in book.outages
        ]
        found.append(("no connection", away))
    return found + _alert_lanes(book.alerts, lasts_s)


def _alert_lanes(alerts: Sequence[AlertHeard], lasts_s: float) -> list[tuple[str, list[Band]]]:
    found = []

    def key(each: AlertHeard) -> tuple[str, str]:
        return each.name, each.sensor or ""

    for (name, sensor), heard in groupby(sorted(alerts, key=key), key):
        bands: list[Band] = []
        since: AlertHeard | None = None
        for each in sorted(heard, key=lambda alert: alert.at_s):
            if each.state == "cleared":
                if since is not None:
                    bands.append(_alert_band(since, each.at_s))
                since = None
            elif since is None:
                since = each
        if since is not None:
            bands.append(_alert_band(since, lasts_s))
        found.append((f"! {name} {sensor}".strip(), bands))
    return found


def _alert_band(since: AlertHeard, end_s: float) -> Band:
    text = f"{since.text['en']} / {since.text['ja']}"
    return Band(since.at_s, end_s, f"alert {since.severity}", text)


def _key() -> Markup:
    names = (
        ("truth", "truth 真値"), ("told", "delivered 配信値"), ("net", "network, broker 回線"),
        ("wire", "wires 配線"), ("power", "power 電源"), ("clock", "clock 時計"),
        ("disk", "disk 記憶媒体"), ("away", "no connection 接続なし"),
    )  # fmt: skip
    keys = [tag("span", tag("i", class_=f"key k-{look}"), name) for look, name in names]
    return tag("p", *keys, class_="legend")


def _bands(loaded: Loaded, book: Book, sensor: str | None) -> list[Band]:
    """Return what bears on a sensor: what broke on its own wires, and what everybody suffers."""
    lasts_s = loaded.scenario.lasts
    wires = {each.table.id: each.bus.name for each in loaded.plan.sensors}
    found = [
        Band(each.begin_s, min(lasts_s, each.end_s), LOOKS[each.fault.acts], each.fault.verb)
        for each in loaded.episodes()
        if each.fault.target is None or wires[each.fault.target] == wires.get(sensor or "")
    ]
    return found + [Band(begin_s, end_s, "away", "") for begin_s, end_s in book.outages]


def _streams(loaded: Loaded, book: Book) -> Iterator[Markup]:
    truths = loaded.truths()
    for sensor in loaded.plan.sensors:
        name = sensor.table.id
        for quantity, truth in truths.get(name, {}).items():
            rows = list(book.rows(name, quantity, "median"))
            if not rows:
                continue
            points = [
                Point(
                    (row.start_s + row.end_s) / 2,
                    row.value if row.flag in GOOD else math.nan,
                    row.low if row.flag in GOOD else math.nan,
                    row.high if row.flag in GOOD else math.nan,
                )
                for row in sorted(rows)
            ]
            lines = [
                Line("truth", _sampled(truth, loaded.scenario.lasts), "truth"),
                Line("delivered", points, "told"),
            ]
            unit = quantity.rpartition("_")[2]
            caption = f"{name} · {quantity}"
            yield _figure(loaded, book, name, caption, sensor.table.driver, lines, unit)


def _figure(
    loaded: Loaded, book: Book, sensor: str | None, caption: str, small: str,
    lines: Sequence[Line], unit: str,
) -> Markup:  # fmt: skip
    drawn = chart(
        lines,
        lasts_s=loaded.scenario.lasts,
        unit=unit,
        bands=_bands(loaded, book, sensor),
        name=caption,
    )
    return tag("figure", tag("figcaption", caption, tag("small", small, class_="soft")), drawn)


def _sampled(truth: Truth, lasts_s: float) -> list[Point]:
    points = []
    for step in range(TRUTH_POINTS + 1):
        at_s = lasts_s * step / TRUTH_POINTS
        value = truth(at_s)
        points.append(Point(at_s, float(value)) if isinstance(value, int | float) else None)
    return [each for each in points if each is not None]


def _crowds(loaded: Loaded, book: Book) -> Iterator[Markup]:
    for sensor, crowd in book.crowds.items():
        last = round(loaded.scenario.lasts / QUARTER_S)
        for way in sorted({way for way, _ in crowd.released}):
            ways = ("towards", "away") if way == "total" else (way,)
            middle_s = [QUARTER_S * (quarter + 0.5) for quarter in range(last)]
            true = [
                Point(at_s, float(sum(crowd.true[each, quarter] for each in ways)))
                for quarter, at_s in enumerate(middle_s)
            ]
            told = [
                Point(
                    at_s,
                    float(crowd.released.get((way, quarter), math.nan)),
                    crowd.released.get((way, quarter), math.nan) - 2 * crowd.noise_sd,
                    crowd.released.get((way, quarter), math.nan) + 2 * crowd.noise_sd,
                )
                for quarter, at_s in enumerate(middle_s)
            ]
            lines = [Line("truth", true, "truth"), Line("released", told, "told")]
            small = "people in a quarter of an hour, with its noise (95 %)"
            yield _figure(loaded, book, sensor, f"{sensor} · {way}", small, lines, "persons")


def _gateway(loaded: Loaded, measures: Sequence[Measure]) -> Iterator[Markup]:
    book_bands = [
        Band(each.begin_s, min(loaded.scenario.lasts, each.end_s), LOOKS[each.fault.acts])
        for each in loaded.episodes()
        if each.fault.target is None
    ]

    def line(name: str, look: str, values: Sequence[float]) -> Line:
        points = [Point(m.at_s, value) for m, value in zip(measures, values, strict=True)]
        return Line(name, points, look)

    spool = [line("spool", "told", [each.spool_bytes / MIB for each in measures])]
    waiting = [line("waiting", "other", [each.waiting for each in measures])]
    memory = [line("memory", "told", [each.rss_bytes / MIB for each in measures])]
    for caption, small, lines, unit in (
        ("records waiting / 送信待ち", "in the spool", waiting, "records"),
        ("spool / 保存領域", "its own figure", spool, "MiB"),
        ("memory / メモリー", "gateway and bench in one process", memory, "MiB"),
    ):
        drawn = chart(
            lines, lasts_s=loaded.scenario.lasts, unit=unit, bands=book_bands, name=caption
        )
        head = tag("figcaption", caption, tag("small", small, class_="soft"))
        yield tag("figure", head, drawn)


def _log(book: Book) -> Iterator[Markup]:
    shown = [each for each in book.lines if each.level != "info"][:LINES_SHOWN]
    text = "\n".join(f"{said(round(each.at_s)):>12}  {each.level:<8} {each.text}" for each in shown)
    counts = ", ".join(f"{count} {level}" for level, count in sorted(book.line_counts.items()))
    yield tag(
        "details",
        tag("summary", f"The gateway's log / ログ: {counts}"),
        tag("pre", text or "nothing but information"),
    )
