"""What the page says, in the two languages of its readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Said(NamedTuple):
    """One text."""

    ja: str
    en: str

    def in_(self, language: str) -> str:
        """Return it in a language; Japanese where it is another."""
        return self.en if language == "en" else self.ja


WORDS: Mapping[str, Said] = {
    "title": Said("雪見 — 全ゲートウェイ", "yukimi — all gateways"),
    "other": Said("English", "日本語"),
    "all": Said("← 一覧", "← all gateways"),
    "gateways": Said("ゲートウェイ", "gateways"),
    "online": Said("オンライン", "online"),
    "offline": Said("オフライン", "offline"),
    "alarms": Said("発生中の警報", "alarms now"),
    "open": Said("未着の番号", "numbers to come"),
    "rejected": Said("受理できない電文", "rejected messages"),
    "gateway": Said("ゲートウェイ", "gateway"),
    "place": Said("場所", "place"),
    "state": Said("状態", "state"),
    "heard": Said("最終受信", "last heard"),
    "newest": Said("最新の記録", "newest record"),
    "waiting": Said("送信待ち", "waiting there"),
    "version": Said("版", "version"),
    "no_alarm": Said("警報はありません。", "No alarm."),
    "none": Said("まだ何も届いていません。", "Nothing has come yet."),
    "since": Said("開始", "since"),
    "severity": Said("重大度", "severity"),
    "sensor": Said("センサー", "sensor"),
    "what": Said("内容", "what"),
    "critical": Said("緊急", "critical"),
    "warning": Said("警告", "warning"),
    "info": Said("情報", "info"),
    "today": Said("過去24時間の勘定", "The account of the last 24 hours"),
    "plots": Said("過去24時間", "The last 24 hours"),
    "stream": Said("系列", "stream"),
    "expected": Said("期待", "expected"),
    "delivered": Said("配達", "delivered"),
    "late": Said("遅延", "late"),
    "lost": Said("欠測申告", "in gaps"),
    "missing": Said("欠落", "missing"),
    "covered": Said("被覆", "covered"),
    "p95": Said("遅れ 95 %", "latency 95 %"),
    "stopped": Said("停止(予定)", "stopped"),
    "dead": Said("途絶", "gone without a word"),
    "noise": Said(
        "人数には差分プライバシーのための雑音を加えてあります。帯は 95 % の幅です。",
        "Counts of people carry noise for differential privacy; the band is its 95 % width.",
    ),
    "read_only": Said(
        "この画面は表示専用です。60 秒ごとに更新します。",
        "This page only shows. It is drawn anew every 60 seconds.",
    ),
    "owner": Said("提供者", "owner"),
    "not_found": Said("そのゲートウェイは知りません。", "No such gateway."),
    "away": Said("データベースに接続できません。", "The database cannot be reached."),
}

QUANTITIES: Mapping[str, Said] = {
    "people": Said("人数", "people"),
    "depth_cm": Said("積雪深", "snow depth"),
    "surface_temperature_c": Said("路面温度", "surface temperature"),
    "air_temperature_c": Said("気温", "air temperature"),
    "humidity_percent": Said("湿度", "humidity"),
    "pressure_hpa": Said("気圧", "pressure"),
    "supply_v": Said("電源電圧", "supply voltage"),
    "cpu_temperature_c": Said("CPU 温度", "CPU temperature"),
    "friction": Said("摩擦係数", "friction"),
}

UNITS = (
    ("_cm", "cm"),
    ("_mm", "mm"),
    ("_percent", "%"),
    ("_hpa", "hPa"),
    ("_deg", "°"),
    ("_m_s", "m/s"),
    ("_c", "°C"),
    ("_v", "V"),
    ("_a", "A"),
)


def unit_of(quantity: str) -> str:
    """Return the unit that a name ends in, as people write it."""
    return next((unit for ending, unit in UNITS if quantity.endswith(ending)), "")


def name_of(quantity: str, language: str) -> str:
    """Return what people call a quantity."""
    said = QUANTITIES.get(quantity)
    return said.in_(language) if said else quantity
