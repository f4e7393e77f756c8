"""A snapshot as one screen of text, and one sensor of it as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from agent.wrong import OF_THE_STREET, wrong_with

from .display import Style, clip, paint, printable, table, wrap
from .language import Text, language, said
from .names import DIRECTIONS, FLAGS, STATE_STYLES, STATES, UNITS

Document = Mapping[str, Any]

UPTIME = Text("up {span}, version {version}, run {run}", "稼働{span} 版{version} ラン{run}")
UPLINK, SPOOL = Text("uplink", "送信先"), Text("spool", "保管")
CLOCK, ALERTS = Text("clock", "時刻"), Text("alerts", "警報")
WRONG = Text("wrong", "異常")
APPLIED = Text(
    "configuration {number}, applied over the file: yukimi config list",
    "ファイルの代わりに適用された設定 {number}（一覧: yukimi config list）",
)
CONNECTED = Text(
    "{broker}, MQTT {protocol}, for {span}, {reconnects} reconnects",
    "{broker} MQTT {protocol} 接続{span} 再接続{reconnects}回",
)
OFFLINE = Text("NOT CONNECTED; next attempt in {span}", "未接続 次の試行まで{span}")
LANES = Text(
    "in flight {flying}; waiting: {alert} alerts, {live} live, {backlog} older; last taken {ago}",
    "送信中{flying} 待ち: 警報{alert} 現在{live} 過去{backlog} 最終受領{ago}",
)
AGO, NEVER = Text("{span} ago", "{span}前"), Text("never", "なし")
ROOM = Text(
    "{waiting} records wait; {size} of {most}; room for {days} days of outage",
    "未送信{waiting}件 {size}/{most} 不通に耐えられる日数 約{days}日",
)
SYNCED = Text(
    "{state}, error at most {error_s:g} s ({source})", "{state} 誤差{error_s:g}秒以内（{source}）"
)
UNBOUNDED = Text("{state} ({source})", "{state}（{source}）")
CLOCK_STATES: Mapping[str, Text] = {
    "synced": Text("synced", "同期済み"),
    "estimated": Text("NOT KNOWN YET", "時刻未確定"),
}
NOBODY = Text("nobody", "確認元なし")
NONE = Text("none", "なし")
HEAD = (
    Text("sensor", "センサー"),
    Text("state", "状態"),
    Text("age", "経過"),
    Text("newest", "最新値"),
)
MORE = Text(
    "... and {count} more; all of them: yukimi status --json",
    "ほか{count}件。すべて表示: yukimi status --json",
)
RELEASED = Text("{figures} to {until} (released figures)", "{figures} {until}まで（公表値）")
NOTHING = Text("nothing yet", "まだありません")


def screen(snapshot: Document, width: int, height: int | None) -> list[str]:
    """Return a snapshot as lines of at most `width` cells, at most `height` of them if given."""
    head = list(_head(snapshot))
    foot = list(_foot(snapshot, width))
    rows = [_row(each, snapshot) for each in _worst_first(snapshot["sensors"])]
    room = len(rows) if height is None else max(3, height - len(head) - len(foot) - 3)
    more = []
    if len(rows) > room:
        more = [said(MORE, count=len(rows) - room + 1)]
        rows = rows[: room - 1]
    lines = [*head, "", *table(rows, [said(each) for each in HEAD], align="llrl"), *more]
    return [clip(line, width) for line in [*lines, *foot]]


def page(sensor: Document, width: int) -> list[str]:
    """Return all that is known of one sensor."""
    state, style = STATES[sensor["state"]], STATE_STYLES[sensor["state"]]
    lines = [
        paint(f"{sensor['id']}  {printable(_label(sensor))}".rstrip(), "head"),
        f"  {sensor['driver']}, {printable(sensor['bus'])}",
        f"  {paint(said(state), style)}" + _since(sensor["since"]),
    ]
    error = sensor["error"]
    if error is not None:
        text = f"{_clock_time(error['time'])} {printable(error['text'] or error['kind'])}"
        lines += wrap(text, width, first="  ", hang="    ")
    if "failed_polls" in sensor:
        rate = sensor.get("rate_hz")
        shown = "-" if rate is None else f"{rate:g}"
        counted = {"failed": sensor["failed_polls"], "errors": sensor["frame_errors"]}
        nominal = f"{sensor.get('nominal_rate_hz', 0):g}"
        lines.append("  " + said(COUNTERS, rate=shown, nominal=nominal, **counted))
    lines += _readings(sensor, width)
    record = sensor["record"]
    lines.append("  " + (said(NO_RECORD) if record is None else _record_head(record)))
    if record is not None:
        rows = [(name, _figure(value)) for name, value in record["values"].items()]
        lines += table(rows, width=width, indent="    ")
    return lines


COUNTERS = Text(
    "{rate} readings a second of {nominal}; {failed} polls failed, {errors} damaged frames",
    "毎秒{rate}回（公称{nominal}回） 失敗{failed}回 破損フレーム{errors}件",
)
NO_RECORD = Text("no record yet", "記録はまだありません")
RECORD = Text("last record, {start} to {end}: {flag}", "直近の記録 {start}～{end}: {flag}")


def _head(snapshot: Document) -> Iterator[str]:
    gateway, uplink, spool = snapshot["gateway"], snapshot["uplink"], snapshot["spool"]
    yield paint(f"{gateway['id']}  {printable(_label(gateway))}".rstrip(), "head")
    yield said(
        UPTIME,
        span=span(gateway["uptime_s"]),
        version=gateway["version"],
        run=gateway["run"],
    )
    if gateway.get("applied") is not None:
        yield said(APPLIED, number=gateway["applied"])
    now = snapshot["time"]
    if uplink["broker"] is None:
        line = said(OFFLINE, span=span(uplink["next_attempt_in_s"] or 0.0))
        shown = paint(line, "bad")
    else:
        shown = said(
            CONNECTED,
            broker=uplink["broker"],
            protocol=uplink["protocol"],
            span=span(_between_s(uplink["connected_since"], now)),
            reconnects=uplink["reconnects"],
        )
    yield from _titled(UPLINK, shown)
    lanes, taken = uplink["lanes"], uplink["acknowledged"]
    waiting = {
        lane: "?" if each["records_waiting"] is None else each["records_waiting"]
        for lane, each in lanes.items()
    }
    flying = sum(each["messages_in_flight"] for each in lanes.values())
    ago = said(NEVER) if taken is None else said(AGO, span=span(_between_s(taken, now)))
    yield from _titled(None, said(LANES, flying=flying, ago=ago, **waiting))
    days = spool["outage_days_left"]
    yield from _titled(
        SPOOL,
        said(
            ROOM,
            waiting="?" if spool["waiting"] is None else spool["waiting"],
            size=_size(spool["bytes"]),
            most=_size(spool["max_bytes"]),
            days="?" if days is None else f"{days:.0f}",
        ),
    )
    yield from _titled(CLOCK, _clock(snapshot["clock"]))


def _foot(snapshot: Document, width: int) -> Iterator[str]:
    street = [each for each in snapshot["alerts"] if each["alert"] in OF_THE_STREET]
    wrong = list(wrong_with(snapshot))
    if street or wrong:
        yield ""
    for alert in street:
        yield from _wrapped(ALERTS, alert["text"][language()], "warn", width)
    for text in wrong:
        yield from _wrapped(WRONG, said(text), "bad", width)


def _wrapped(title: Text, text: str, style: Style, width: int) -> list[str]:
    """Return a sentence on at most two lines."""
    first = f"{said(title)}: "
    return [paint(each, style) for each in wrap(printable(text), width, first=first, hang="  ")][:2]


def _titled(title: Text | None, text: str) -> Iterator[str]:
    from .display import pad

    yield f"{pad('' if title is None else said(title), TITLE_CELLS)}{text}"


TITLE_CELLS = 9


def _worst_first(sensors: list[Document]) -> list[Document]:
    """Put those that do not answer before the others, which stay in their order."""
    return sorted(sensors, key=lambda each: each["state"] not in ("silent", "ignored"))


def _row(sensor: Document, snapshot: Document) -> tuple[str, str, str, str]:
    state, style = STATES[sensor["state"]], STATE_STYLES[sensor["state"]]
    shown, age_s = _newest(sensor, snapshot)
    age = "" if age_s is None else span(age_s)
    return sensor["id"], paint(said(state), style), age, shown


def _newest(sensor: Document, snapshot: Document) -> tuple[str, float | None]:
    """Return a sensor's newest figures, and how old they are."""
    if sensor["kind"] == "people":
        record = sensor["record"]
        if record is None:
            return said(NOTHING), None
        figures = " ".join(
            f"{said(DIRECTIONS[name])} {value['count']}"
            for name, value in record["values"].items()
            if name in DIRECTIONS and isinstance(value, Mapping)
        )
        until = _clock_time(record["end"])
        age_s = _between_s(record["end"], snapshot["time"])
        return said(RELEASED, figures=figures or said(FLAGS["missing"]), until=until), age_s
    readings = sensor.get("readings") or {}
    if not readings:
        return said(NOTHING), None
    shown = ", ".join(f"{name} {_figure(each['value'])}" for name, each in readings.items())
    return shown, min(each["age_s"] for each in readings.values())


def _readings(sensor: Document, width: int) -> list[str]:
    rows = [
        (
            name,
            _figure(each["value"]),
            UNITS.get(each["unit"], each["unit"]),
            span(each["age_s"]),
            " ".join(each["reasons"]),
        )
        for name, each in (sensor.get("readings") or {}).items()
    ]
    return table(rows, align="lrlrl", width=width, indent="    ")


def _record_head(record: Document) -> str:
    quality = record["quality"]
    flag = said(FLAGS[quality["flag"]])
    reasons = " ".join(quality.get("reasons", ()))
    shown = f"{flag} ({reasons})" if reasons else flag
    start, end = _clock_time(record["start"]), _clock_time(record["end"])
    return said(RECORD, start=start, end=end, flag=shown)


def _figure(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool() | str():
            return printable(value)
        case int() | float():
            return f"{value:.6g}"
        case {"mean": int() | float() as mean}:
            return f"{mean:.6g}"
        case {"mode": mode}:
            return printable(mode)
        case {"count": count, "unclamped": unclamped}:
            return f"{count} ({unclamped})"
        case {"latitude": float() as latitude, "longitude": float() as longitude}:
            return f"{latitude:.5f} {longitude:.5f}"
        case Mapping():
            return " ".join(f"{name} {_figure(each)}" for name, each in value.items())
        case _:
            return printable(value)


def _clock(clock: Document) -> str:
    state = CLOCK_STATES.get(clock["state"], Text(clock["state"], clock["state"]))
    source = clock["source"] or NOBODY
    if clock["error_s"] is None:
        return said(UNBOUNDED, state=state, source=source)
    return said(SYNCED, state=state, source=source, error_s=clock["error_s"])


def _label(named: Document) -> str:
    label = named["label"] or {}
    return str(label.get(language()) or next(iter(label.values()), ""))


def _since(since: str | None) -> str:
    return "" if since is None else f" ({said(SINCE, time=_clock_time(since))})"


SINCE = Text("since {time}", "{time}から")


def span(seconds: float) -> str:
    """Say how long something lasts, in two figures at most."""
    whole = round(seconds)
    if seconds < 10:
        return said(SECONDS, s=f"{max(0.0, seconds):.1f}")
    if whole < 120:
        return said(SECONDS, s=whole)
    if whole < 7200:
        return said(MINUTES, m=whole // 60)
    if whole < 172_800:
        return said(HOURS, h=whole // 3600)
    return said(DAYS, d=whole // 86_400)


SECONDS, MINUTES = Text("{s} s", "{s}秒"), Text("{m} min", "{m}分")
HOURS, DAYS = Text("{h} h", "{h}時間"), Text("{d} d", "{d}日")


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} B"


def _instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def _between_s(earlier: str, later: str) -> float:
    return (_instant(later) - _instant(earlier)).total_seconds()


def _clock_time(text: str) -> str:
    """Return a time of day here, to the nearest second, with its date if that is not today's.

    Windows end at whole seconds; the gateway's clock, and so its word for them, moves about that.
    """
    nearest = _instant(text) + timedelta(seconds=0.5)
    here, now = nearest.astimezone(), datetime.now(UTC).astimezone()
    return f"{here:%H:%M:%S}" if here.date() == now.date() else f"{here:%Y-%m-%d %H:%M:%S}"
