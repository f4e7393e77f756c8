"""What changed between two snapshots, a line each: for who watches without a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .display import printable
from .language import Text, said
from .names import CLOCK_STATES, SEVERITIES, STATES, named

Document = dict[str, Any]

RUNS = Text(
    "gateway {id} runs, version {version}", "ゲートウェイ {id} は稼働中です（版 {version}）"
)
RELOADED = Text("configuration {config}", "設定 {config}")
CONNECTED = Text("connected: {broker}", "接続しました: {broker}")
LOST = Text("not connected", "接続していません")
CLOCK = Text("clock {state}", "時刻 {state}")
VOLATILE = Text("records are kept in memory only", "記録をメモリー上にのみ保持しています")
ON_DISK = Text("records are kept on disk", "記録を記憶媒体に保存しています")
SENSOR = Text("{sensor} {state}", "{sensor} {state}")
RAISED = Text("{severity} {text}", "{severity} {text}")
OVER = Text("over: {text}", "解消: {text}")
GIVEN_UP = Text(
    "{count} records given up for lack of space", "空き不足で{count}件の記録を削除しました"
)


def changes(before: Document | None, now: Document) -> Iterator[str]:
    """Yield what is different, each with its time; before the first snapshot everything is."""
    at = now["time"][11:19]
    for text in _changes(before, now):
        yield f"{at}  {text}"


def _changes(before: Document | None, now: Document) -> Iterator[str]:
    was = before or {}
    gateway, old = now["gateway"], was.get("gateway", {})
    if gateway["run"] != old.get("run"):
        yield said(RUNS, id=gateway["id"], version=gateway["version"])
    if gateway["config"] != old.get("config"):
        yield said(RELOADED, config=gateway["config"])
    broker = now["uplink"]["broker"]
    if before is None or broker != was["uplink"]["broker"]:
        yield said(CONNECTED, broker=broker) if broker else f"{said(LOST)}{_why(now['uplink'])}"
    state = now["clock"]["state"]
    if before is None or state != was["clock"]["state"]:
        yield said(CLOCK, state=named(CLOCK_STATES, state))
    yield from _spool(was.get("spool"), now["spool"])
    yield from _sensors(was.get("sensors", []), now["sensors"])
    yield from _alerts(was.get("alerts", []), now["alerts"])


def _spool(before: Document | None, now: Document) -> Iterator[str]:
    was_volatile = before is not None and before["volatile"]
    if now["volatile"] != was_volatile:
        yield said(VOLATILE if now["volatile"] else ON_DISK)
    given_up = now["given_up"] - (before["given_up"] if before is not None else 0)
    if given_up > 0:
        yield said(GIVEN_UP, count=given_up)


def _sensors(before: list[Document], now: list[Document]) -> Iterator[str]:
    states = {sensor["id"]: sensor["state"] for sensor in before}
    for sensor in now:
        if sensor["state"] == states.get(sensor["id"]):
            continue
        error = sensor["error"] if sensor["state"] in ("silent", "ignored") else None
        why = f": {printable(error['text'] or error['kind'])}" if error is not None else ""
        state = named(STATES, sensor["state"])
        yield said(SENSOR, sensor=sensor["id"], state=state) + why


def _alerts(before: list[Document], now: list[Document]) -> Iterator[str]:
    known, present = ({alert["id"]: alert for alert in each} for each in (before, now))
    for key, alert in present.items():
        if key not in known or known[key]["text"] != alert["text"]:
            severity = named(SEVERITIES, alert["severity"])
            yield said(RAISED, severity=severity, text=alert["text"])
    for key, alert in known.items():
        if key not in present:
            yield said(OVER, text=alert["text"])


def _why(uplink: Document) -> str:
    failure = uplink["failure"]
    return f": {printable(failure['reason'])}" if failure is not None else ""
