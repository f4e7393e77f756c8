"""One sensor on the screen: values and quality, its day, and what passes on its bus.

Of a sensor that counts people: how it is, and what was released. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.text import Text as Line

from .display import pad, printable, wrap
from .language import Text, said
from .lines import PLOT, Frame, column, fewer, label, line, spark, with_unit
from .names import (
    DIRECTIONS,
    FLAG_STYLES,
    FLAGS,
    QUANTITIES,
    STATE_STYLES,
    STATES,
    ago_text,
    named,
    number_text,
    reasons_text,
)
from .raw import raw_text
from .telling import called, clock, released, summary
from .watched import SPARK_S, Watched

Document = dict[str, Any]

NAME, VALUE, AGE, QUALITY, DAY = 14, 16, 8, 14, 24  # cells of the columns
LEAST_PLOT = 6
RAW_LINES = 8
PEOPLE_LINES = 12  # of a people sensor's screen, without its windows

GONE = Text("NO ANSWER, trying on: {why}", "応答なし（再接続中）: {why}")
SINCE = Text("since {time}", "{time} から")
POLLS = Text(
    "   failed polls {polls}   damaged frames {frames}", "   応答失敗 {polls}   破損 {frames}"
)
RATE = Text("   {rate:g}/s of {nominal:g}/s", "   {rate:g}回/秒（公称{nominal:g}）")
ON = Text("{driver} on {bus}, a record each {window} s", "{driver}（{bus}）、{window}秒ごとに記録")
STATE_, ERROR, RECORD = Text("state", "状態"), Text("error", "エラー"), Text("record", "記録")
QUANTITY, VALUE_, AGE_, QUALITY_, DAY_ = (
    Text("quantity", "測定量"),
    Text("value", "値"),
    Text("age", "経過"),
    Text("quality", "品質"),
    Text("last day", "24時間"),
)
RAW = Text("raw", "生データ")
OF = Text("{n} of {expected}", "{expected}回中{n}回")
WINDOWS = Text("released counts, with noise", "公表値（雑音を加えた人数）")
NOISE = Text("95 % are within {ci} of the true count", "真の人数との差は、95 %の場合に{ci}以内です")
NOT_SHOWN = Text(
    "What the sensor sees of people is shown nowhere here; `yukimi read --consent` shows it to"
    " those who agree.",
    "通行者の様子はここには表示しません。同意した人には `yukimi read --consent` で表示できます。",
)
NO_RAW = Text("nothing was heard yet", "まだ通信がありません")


def closeup(watched: Watched, sensor: Document, now_s: float, frame: Frame) -> Iterable[Line]:
    """Return one sensor in full."""
    state, name = sensor["state"], called(sensor["label"])
    what = said(ON, driver=sensor["driver"], bus=sensor["bus"], window=sensor["window_s"])
    yield line((f"{sensor['id']}  ", "head"), f"{name}  " if name else "", (what, "dim"))
    if watched.why_gone is not None:
        yield line((said(GONE, why=watched.why_gone), "bad"))
    since = f"  {said(SINCE, time=clock(sensor['since']))}" if sensor["since"] else ""
    losses = rate = ""
    if "failed_polls" in sensor:
        losses = said(POLLS, polls=sensor["failed_polls"], frames=sensor["frame_errors"])
    if sensor.get("rate_hz") is not None:
        rate = said(RATE, rate=sensor["rate_hz"], nominal=round(sensor["nominal_rate_hz"], 2))
    shown_state = (named(STATES, state), STATE_STYLES.get(state, ""))
    yield label(STATE_, shown_state, since + losses + rate)
    if sensor["error"] is not None:
        error = sensor["error"]
        yield label(ERROR, f"{clock(error['time'])}  {printable(error['text'] or error['kind'])}")
    if sensor["kind"] == "people":
        yield from _people(watched, sensor, frame)
    else:
        yield from _measured(watched, sensor, now_s, frame)


def _people(watched: Watched, sensor: Document, frame: Frame) -> Iterable[Line]:
    record = sensor["record"]
    if record is not None:
        yield _record(record, "")
    yield Line()
    yield line((said(WINDOWS), "head"))
    found = released(record)
    if found is not None:
        yield line((said(NOISE, ci=found[1]), "dim"))
    windows = (watched.history or {}).get("windows", [])
    for window in reversed(windows[-max(0, frame.lines - PEOPLE_LINES) :]):
        counts = "   ".join(
            f"{named(DIRECTIONS, way)} {pad(number_text(_shown(count)), 5, 'r')}"
            for way, count in window.items()
            if way in DIRECTIONS
        )
        yield line(f"  {clock(window['start'])} - {clock(window['end'])}   {counts}")
    yield Line()
    for text in wrap(said(NOT_SHOWN), frame.columns):
        yield line((text, "dim"))


def _shown(unclamped: int | None) -> int | None:
    """Return a released figure as it is shown: only sums may be negative."""
    return None if unclamped is None else max(0, unclamped)


def _measured(watched: Watched, sensor: Document, now_s: float, frame: Frame) -> Iterable[Line]:
    old_s, day = watched.age_s(now_s), (watched.history or {}).get("means", {})
    yield Line()
    room = max(0, frame.columns - (NAME + VALUE + AGE + QUALITY + 8))
    live_cells, day_cells = room, 0
    if day and room >= DAY + 2 + LEAST_PLOT:
        live_cells, day_cells = room - DAY - 2, DAY
    head = pad(said(QUANTITY), NAME) + "  " + pad(said(VALUE_), VALUE) + "  "
    head += pad(said(AGE_), AGE, "r") + "  " + pad(said(QUALITY_), QUALITY) + "  "
    head += pad(said(DAY_), day_cells) + "  " if day_cells else ""
    yield line((head + said(PLOT, seconds=SPARK_S), "head"))
    for name, reading in sensor.get("readings", {}).items():
        drawn = watched.sparks.get((sensor["id"], name))
        live = spark(drawn.last(live_cells) if drawn is not None else [], frame.blocks)
        long = spark(fewer(day.get(name, []), day_cells), frame.blocks) if day_cells else ""
        why = reasons_text(reading["reasons"])
        yield line(
            column(named(QUANTITIES, name), NAME) + "  ",
            (column(with_unit(reading), VALUE) + "  ", "warn" if why else "head"),
            pad(ago_text(reading["age_s"] + old_s), AGE, "r") + "  ",
            (column(why or said(FLAGS["good"]), QUALITY), "warn" if why else "good"),
            (f"  {pad(long, day_cells)}" if day_cells else "", "dim"),
            (f"  {live}", "good"),
        )
    if sensor["record"] is not None:
        yield Line()
        yield _record(sensor["record"], summary(sensor["record"]["values"]))
    yield Line()
    yield line((said(RAW), "head"))
    if not watched.raw:
        yield line((said(NO_RAW), "dim"))
    for entry in list(watched.raw)[: -RAW_LINES - 1 : -1]:
        yield line(f"  {entry['time'][11:23]}  {printable(raw_text(entry))}")


def _record(record: Document, summary: str) -> Line:
    quality = record["quality"]
    flag, reasons = quality["flag"], reasons_text(quality.get("reasons"))
    return label(
        RECORD,
        f"{clock(record['start'])} - {clock(record['end'])}  ",
        (named(FLAGS, flag), FLAG_STYLES.get(flag, "")),
        f" {reasons}" if reasons else "",
        f"  {said(OF, n=quality.get('n', 0), expected=quality.get('expected', 0))}  {summary}",
    )
