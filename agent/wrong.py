"""What is wrong with a gateway, by its snapshot: what a person must look after, one sentence each.

That a road is slippery is told by the gateway, and is nothing wrong with it. Pure, and imports next
to nothing: `yukimi status` ends with 1 by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from config.text import Text

# Alerts that tell of the street, not of the gateway.
OF_THE_STREET = frozenset(
    ("snow_dispatch", "snow_forecast", "freezing", "freezing_forecast", "slippery", "crowding")
)
LITTLE_ROOM_DAYS = 3.0

REFUSED = Text(
    "the configuration that is wanted is wrong; an earlier one runs: {problem}",
    "指定された設定に誤りがあり、以前の設定で運転中です: {problem}",
)
OFFLINE = Text(
    "no connection to a broker: {reason}",
    "ブローカーに接続できていません: {reason}",
)
NOT_YET = Text("not tried yet", "まだ接続を試みていません")
NOBODY = Text(
    "nobody subscribes to {topics}: records wait until somebody does",
    "{topics}の受信者がいないため、記録を保留しています",
)
FORBIDDEN = Text(
    "the broker does not let us publish on {topics}: check what this user may",
    "ブローカーが{topics}への送信を許可していません。権限をご確認ください",
)
CUT_SHORT = Text(
    "{broker} ends each session soon, or acknowledges nothing ({reason}), last after a message to"
    " {topic}: check what this user may publish",
    "{broker}が接続をすぐに切るか、受信確認を返しません（{reason}、直前の送信先: {topic}）。"
    "権限をご確認ください",
)
CLONE = Text(
    "another gateway uses this id: give each its own [gateway] id",
    "同じIDのゲートウェイがほかにあります。[gateway] idを別々にしてください",
)
VOLATILE = Text(
    "the disk does not work, records are in memory only: {why}",
    "記憶媒体が使えないため、記録はメモリーにしかありません: {why}",
)
UNREADABLE = Text("the spool cannot be read: {why}", "保管中の記録を読み出せません: {why}")
FULL = Text(
    "the spool is nearly full: {days:g} days, then the oldest records are given up",
    "記録を保管できるのはあと{days:g}日分です。超えると古い記録から失われます",
)
CLOCK = Text("the clock is not to be trusted: {why}", "時刻を信頼できません: {why}")
SILENT = Text("{sensor} does not answer: {why}", "{sensor}が応答しません: {why}")
STALLED = Text('the thread "{name}" makes no progress', "スレッド「{name}」の処理が進んでいません")
UNKNOWN = Text("reason unknown", "原因不明")


def wrong_with(snapshot: Mapping[str, Any]) -> Iterator[Text]:
    """Yield what is wrong, the most important first."""
    uplink, spool = snapshot["uplink"], snapshot["spool"]
    for problem in snapshot["gateway"]["refused"]:
        yield REFUSED.filled(problem=problem)
    if spool["volatile"]:
        yield VOLATILE.filled(why=spool["why_volatile"])
    elif spool["error"]:
        yield UNREADABLE.filled(why=spool["error"])
    if uplink["broker"] is None:
        failure = uplink["failure"]
        yield OFFLINE.filled(reason=NOT_YET if failure is None else failure["reason"])
    for topics, text in (
        (uplink["nobody_subscribes"], NOBODY),
        (uplink["not_authorised"], FORBIDDEN),
    ):
        if topics:
            yield text.filled(topics=topics)
    for each in uplink["cut_short"]:
        topic = each["after"] or "-"
        yield CUT_SHORT.filled(broker=each["broker"], reason=each["reason"], topic=topic)
    if uplink["clone_seen"]:
        yield CLONE
    if spool["outage_days_left"] is not None and spool["outage_days_left"] < LITTLE_ROOM_DAYS:
        yield FULL.filled(days=spool["outage_days_left"])
    if snapshot["clock"]["trouble"]:
        yield CLOCK.filled(why=snapshot["clock"]["trouble"])
    yield from _of_sensors(snapshot)
    for thread in snapshot["threads"]:
        if thread["hung"] or not thread["alive"]:
            yield STALLED.filled(name=thread["name"])


def _of_sensors(snapshot: Mapping[str, Any]) -> Iterator[Text]:
    silent = set()
    for sensor in snapshot["sensors"]:
        if sensor["state"] in ("silent", "ignored"):
            silent.add(sensor["id"])
            error = sensor["error"]
            why = UNKNOWN if error is None or error["text"] is None else error["text"]
            yield SILENT.filled(sensor=sensor["id"], why=why)
    for alert in snapshot["alerts"]:
        is_said = alert["sensor"] in silent or alert["sensor"] is None
        if alert["alert"] not in OF_THE_STREET and not is_said:
            yield Text(alert["text"]["en"], alert["text"]["ja"])
