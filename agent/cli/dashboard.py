"""One screen of a running gateway: from what is known to lines, pure.

Lines are laid out by cells, so that columns stand below each other in any language. What changes
often is short, and plots end their lines. Of people sensors there is what was released, no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group
from rich.text import Text as Line

from .closeup import GONE, closeup
from .display import LEAST_CELLS, pad, printable, wrap
from .language import Text, said
from .lines import LABEL, PLOT, Frame, column, cut, label, line, mib, spark, with_unit
from .names import (
    CLOCK_STATES,
    FLAG_STYLES,
    LANES,
    QUANTITIES,
    SEVERITIES,
    SEVERITY_STYLES,
    STATE_STYLES,
    STATES,
    ago_text,
    named,
    number_text,
    reasons_text,
)
from .telling import called, clock, counts_text, record_words, released, seconds
from .watched import SPARK_S, Watched, first_quantity

Document = dict[str, Any]

ID, STATE, VALUE, AGE = 13, 10, 25, 8  # cells of the columns of sensors
LEAST_VALUE = 12
ALERTS_SHOWN, ALERT_LINES = 3, 2
LEAST_SENSORS, LEAST_RECORDS = 3, 3
ROOMY_LINES = 20  # of a screen on which alerts have more than one line

ASKING = Text("asking the gateway", "ゲートウェイに問い合わせています")
UP = Text("up {time}", "稼働 {time}")
UPLINK, LANES_, SPOOL, CLOCK = (
    Text("uplink", "送信先"),
    Text("lanes", "送信列"),
    Text("spool", "保管"),
    Text("clock", "時刻"),
)
CONNECTED = Text("connected: {broker}", "接続中: {broker}")
TAKEN = Text(", last taken {age} ago", "、最終受領 {age}前")
NOT_CONNECTED = Text("NOT CONNECTED", "未接続")
NEXT = Text(", next try in {seconds:.0f} s", "、{seconds:.0f}秒後に再試行")
MUTED = Text(", nobody subscribes to {count} topics", "、受信者のない宛先 {count}件")
REFUSED = Text(", {count} topics not permitted", "、許可のない宛先 {count}件")
LANE = Text("{lane} {waiting}", "{lane} {waiting}件")
IN_FLIGHT = Text(" (+{sent} in flight)", "（送信中{sent}）")
WAITING = Text("{used} of {most}, {waiting} waiting", "{used} / {most}、未送信 {waiting}件")
OLDEST = Text(", oldest {time}", "、最古 {time}")
DAYS = Text(", room for {days:.0f} days", "、残り約{days:.0f}日分")
VOLATILE = Text("IN MEMORY ONLY, {waiting} waiting", "メモリー上のみ、未送信 {waiting}件")
ERROR_S = Text(", within {error} s", "、誤差 {error} 秒以内")
BY = Text(" ({source})", "（{source}）")
SENSOR, STATE_, VALUE_, AGE_ = (
    Text("sensor", "センサー"),
    Text("state", "状態"),
    Text("value", "値"),
    Text("age", "経過"),
)
ALERTS = Text("alerts: {count}", "警報: {count}件")
NO_ALERTS = Text("alerts: none", "警報: なし")
RECORDS = Text("records as they leave", "送信された記録")
DROPPED = Text(" ({count} not shown)", "（ほか{count}件）")
NOT_YET = Text("nothing released yet", "公表値はまだありません")
KEYS = Text(
    "up/down choose   Enter or 1-9 look into   q quit", "↑↓ 選択   Enter・1-9 詳細   q 終了"
)
KEYS_IN = Text(
    "Esc or left back   up/down other sensor   q quit", "Esc・← 戻る   ↑↓ 別のセンサー   q 終了"
)


def screen(watched: Watched, now_s: float, frame: Frame) -> Group:
    """Return what is to be seen now, in lines of at most `frame.columns` cells."""
    if watched.snapshot is None:
        lines = [line(("yukimi", "head")), line((said(watched.why_gone or ASKING), "warn"))]
        keys = KEYS
    elif watched.into is not None and watched.sensor is not None:
        lines, keys = list(closeup(watched, watched.sensor, now_s, frame)), KEYS_IN
    else:
        lines, keys = list(_overview(watched, now_s, frame)), KEYS
    lines = lines[: frame.lines - 1]
    lines += [Line()] * (frame.lines - 1 - len(lines))
    return Group(*(cut(each, frame.columns) for each in [*lines, line((said(keys), "dim"))]))


def _overview(watched: Watched, now_s: float, frame: Frame) -> Iterable[Line]:
    """Return all of it: first what a sensor's line is worth, then alerts, then records."""
    snapshot = watched.snapshot or {}
    head = list(_head(watched, snapshot, now_s))
    alerts = list(_alerts(snapshot["alerts"][:ALERTS_SHOWN], frame))
    room = frame.lines - 1 - len(head) - 1  # for sensors and what is below
    sensors_room = max(LEAST_SENSORS, room - 1 - len(alerts) - 1 - LEAST_RECORDS)
    sensors = list(_sensors(watched, now_s, frame, sensors_room))
    yield from head
    yield from sensors
    count = len(snapshot["alerts"])
    yield line((said(ALERTS, count=count) if count else said(NO_ALERTS), "head"))
    yield from alerts
    dropped = said(DROPPED, count=watched.dropped) if watched.dropped else ""
    yield line((said(RECORDS) + dropped, "head"))
    room -= len(sensors) - 1 + 1 + len(alerts) + 1
    newest = list(watched.records)[-room:] if room > 0 else []
    for event in reversed(newest):
        begin, text, style = record_words(event)
        yield line(begin, (text, style))


def _alerts(alerts: Iterable[Document], frame: Frame) -> Iterable[Line]:
    """Return alerts, each on as many lines as there may be of it."""
    for alert in alerts:
        severity, since = alert["severity"], f"{clock(alert['since'])} "
        text = printable(said(Text(alert["text"]["en"], alert["text"]["ja"])))
        lines = wrap(text, max(LEAST_CELLS, frame.columns - LABEL - len(since)))
        most = ALERT_LINES if frame.lines >= ROOMY_LINES else 1
        if len(lines) > most:
            lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
        style = SEVERITY_STYLES.get(severity, "")
        yield line((column(named(SEVERITIES, severity), LABEL), style), since, lines[0])
        for each in lines[1:]:
            yield line(" " * (LABEL + len(since)), each)


def _head(watched: Watched, snapshot: Document, now_s: float) -> Iterable[Line]:
    gateway, age_s = snapshot["gateway"], watched.age_s(now_s)
    name = called(gateway["label"])
    up = said(UP, time=ago_text(gateway["uptime_s"] + age_s))
    yield line(
        ("yukimi  ", "head"),
        (f"{gateway['id']}  ", "head"),
        f"{name}  " if name else "",
        f"{clock(snapshot['time'])} UTC  {up}  ",
        (gateway["version"], "dim"),
    )
    if watched.why_gone is not None:
        yield line((said(GONE, why=watched.why_gone), "bad"))
    yield label(UPLINK, *_uplink(snapshot["uplink"], snapshot["time"]))
    lanes = (
        said(
            LANE,
            lane=named(LANES, lane),
            waiting=number_text(each["records_waiting"]),
        )
        + (said(IN_FLIGHT, sent=sent) if (sent := each["messages_in_flight"]) else "")
        for lane, each in snapshot["uplink"]["lanes"].items()
    )
    yield label(LANES_, "   ".join(lanes))
    yield label(SPOOL, *_spool(snapshot["spool"]))
    yield label(CLOCK, *_time(snapshot["clock"]))


def _uplink(uplink: Document, time: str) -> Iterable[tuple[str, str]]:
    if uplink["broker"] is None:
        failure, next_s = uplink["failure"], uplink["next_attempt_in_s"]
        yield said(NOT_CONNECTED), "bad"
        yield (said(NEXT, seconds=next_s) if next_s is not None else ""), ""
        yield (f": {printable(failure['reason'])}" if failure else ""), ""
        return
    yield said(CONNECTED, broker=uplink["broker"]), "good"
    if uplink["acknowledged"] is not None:
        yield said(TAKEN, age=ago_text(seconds(time) - seconds(uplink["acknowledged"]))), ""
    for text, topics in (
        (MUTED, uplink["nobody_subscribes"]),
        (REFUSED, uplink["not_authorised"]),
    ):
        if topics:
            yield said(text, count=len(topics)), "warn"


def _spool(spool: Document) -> Iterable[tuple[str, str]]:
    waiting = number_text(spool["waiting"])
    if spool["volatile"]:
        yield said(VOLATILE, waiting=waiting), "bad"
        return
    used, most = mib(spool["bytes"]), mib(spool["max_bytes"])
    yield said(WAITING, used=used, most=most, waiting=waiting), ""
    if spool["waiting"] and spool["oldest"] is not None:
        yield said(OLDEST, time=clock(spool["oldest"])), ""
    if spool["outage_days_left"] is not None:
        yield said(DAYS, days=spool["outage_days_left"]), ""
    if spool["error"]:
        yield f" {printable(spool['error'])}", "bad"


def _time(clock: Document) -> Iterable[tuple[str, str]]:
    is_known = clock["state"] != "estimated"
    yield named(CLOCK_STATES, clock["state"]), "good" if is_known else "warn"
    if clock["error_s"] is not None:
        yield said(ERROR_S, error=clock["error_s"]), ""
    if clock["source"]:
        yield said(BY, source=clock["source"]), ""
    if clock["trouble"]:
        yield f" {printable(clock['trouble'])}", "warn"


def _sensors(watched: Watched, now_s: float, frame: Frame, room: int) -> Iterable[Line]:
    """Return the head and as many sensors as there is room for, the chosen one among them."""
    sensors = watched.sensors
    yield line(
        ("    " + pad(said(SENSOR), ID) + "  " + pad(said(STATE_), STATE), "head"),
        (
            "  " + pad(said(VALUE_), _value_cells(frame)) + "  " + pad(said(AGE_), AGE, "r") + "  ",
            "head",
        ),
        (said(PLOT, seconds=SPARK_S), "head"),
    )
    first = max(0, min(watched.chosen - room // 2, len(sensors) - room))
    for index in range(first, min(first + room, len(sensors))):
        yield _sensor_line(watched, index, now_s, frame)


def _value_cells(frame: Frame) -> int:
    """Return how wide the values may be: they are what a narrow screen gives up last."""
    return max(LEAST_VALUE, min(VALUE, frame.columns - (4 + ID + 2 + STATE + 2 + 2 + AGE)))


def _sensor_line(watched: Watched, index: int, now_s: float, frame: Frame) -> Line:
    sensor = watched.sensors[index]
    is_chosen = index == watched.chosen
    state, old_s = sensor["state"], watched.age_s(now_s)
    value, age_s, flag, plotted = _value(sensor, watched)
    number = f"{index + 1}" if index < 9 else " "
    value_cells = _value_cells(frame)
    columns = frame.columns - (4 + ID + 2 + STATE + 2 + value_cells + 2 + AGE + 2)
    plot = spark(plotted[-max(0, columns) :] if columns > 0 else [], frame.blocks)
    age = "" if age_s is None else ago_text(age_s + old_s)
    return line(
        (f"{'>' if is_chosen else ' '} {number} ", "head" if is_chosen else "dim"),
        (column(sensor["id"], ID) + "  ", "head" if is_chosen else ""),
        (column(named(STATES, state), STATE) + "  ", STATE_STYLES.get(state, "")),
        (column(value, value_cells) + "  ", "" if flag in ("good", None) else FLAG_STYLES[flag]),
        pad(age, AGE, "r") + "  ",
        (plot, "good"),
    )


def _value(
    sensor: Document, watched: Watched
) -> tuple[str, float | None, str | None, Sequence[float | None]]:
    """Return what a line says of a sensor: text, age, the record's flag, and what is plotted."""
    record = sensor["record"]
    flag = None if record is None else record["quality"]["flag"]
    flag = flag if flag in FLAG_STYLES else None
    if sensor["kind"] == "people":
        found = released(record)
        if found is None or record is None:
            return said(NOT_YET), None, flag, []
        now = seconds((watched.snapshot or {})["time"])
        return counts_text(*found), now - seconds(record["end"]), flag, []
    readings = sensor.get("readings", {})
    name = first_quantity(readings)
    if name is None:
        return "-", None, flag, []
    reading = readings[name]
    value = f"{named(QUANTITIES, name)} {with_unit(reading)}"
    if reading["reasons"]:
        value = f"{value} ({reasons_text(reading['reasons'])})"
    drawn = watched.sparks.get((sensor["id"], name))
    return value, reading["age_s"], flag, drawn.last(1000) if drawn is not None else []
