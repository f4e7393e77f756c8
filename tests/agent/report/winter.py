"""Facts of a gateway on a winter's day, with a bit of everything, for reports to be made of."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from agent.record import utc_text
from agent.report.facts import Facts, Outage, SensorFacts

ZONE = ZoneInfo("Asia/Tokyo")
MADE_S = datetime(2027, 1, 15, 8, 30, tzinfo=UTC).timestamp()
SLOTS, WINDOWS = 288, 96
DAY_S = 86_400

Gaps = Sequence[tuple[float, float]]  # hours ago
Document = Mapping[str, Any]


def ago(hours: float) -> str:
    """The time so many hours before the report was made."""
    return utc_text(round((MADE_S - hours * 3600) * 1e9))


def means(of_slot: Callable[[int], float], gaps: Gaps = ()) -> list[float | None]:
    """A day of a quantity; nothing in the gaps."""

    def is_gap(slot: int) -> bool:
        hours = 24 - slot / 12
        return any(begin >= hours > end for begin, end in gaps)

    return [None if is_gap(slot) else round(of_slot(slot), 3) for slot in range(SLOTS)]


def day(**quantities: list[float | None]) -> Document:
    return {"slot_s": 300, "start": ago(24), "means": quantities}


def windows(chance: random.Random, missing: range) -> Document:
    """A day of released figures, some of them negative."""
    found = []
    for index in range(WINDOWS):
        start_s = MADE_S - DAY_S + index * 900
        hour = datetime.fromtimestamp(start_s, tz=ZONE).hour
        rush = 180 * math.exp(-((hour - 8.3) ** 2) / 3) + 150 * math.exp(-((hour - 18) ** 2) / 5)
        base = rush + (40 if 7 < hour < 22 else 0)
        none = index in missing
        found.append(
            {
                "start": utc_text(round(start_s * 1e9)),
                "end": utc_text(round((start_s + 900) * 1e9)),
                "towards": None if none else round(base + chance.gauss(0, 5.6)),
                "away": None if none else round(base * 0.8 + chance.gauss(0, 5.6)),
            }
        )
    return {"windows": found}


def mean(value: float) -> Document:
    return {"mean": value, "min": value, "max": value, "sd": 0, "median": value, "n": 60}


def now(name: str, kind: str, state: str = "ok", **more: Any) -> dict[str, Any]:
    return {"id": name, "kind": kind, "state": state, "since": ago(20), "error": None} | more


def record(**values: Any) -> Document:
    quality = {"flag": "good", "n": 60, "expected": 60}
    return {"start": ago(0.02), "end": ago(0.003), "quality": quality, "values": values}


def sensors() -> list[SensorFacts]:
    chance = random.Random(1)
    walk = [0.0]
    for _ in range(SLOTS):
        walk.append(walk[-1] + chance.gauss(0, 0.12))

    def snow_cm(slot: int) -> float:
        return 42.0 + 0.06 * min(max(slot - 100, 0), 140) - 0.02 * max(slot - 240, 0)

    def air_c(slot: int) -> float:
        return -6 + 3 * math.sin(slot / 45) + walk[slot]

    power_cut, silent = (9.5, 8.2), (2.2, 0.0)
    released = {"towards": {"count": 118, "unclamped": 118}, "away": {"count": 0, "unclamped": -4}}
    return [
        SensorFacts(
            *("hall-1", "people", "grideye-amg88xx", "/dev/i2c-1", 900),
            {"ja": "北改札側", "en": "North gate"},
            {
                "towards": {"ja": "大通方面", "en": "Odori"},
                "away": {"ja": "札幌駅方面", "en": "Sapporo Station"},
            },
            now(
                "hall-1",
                "people",
                record=record(**released, epsilon="1/4", noise_sd=5.64, ci95=12),
            ),
            windows(chance, range(40, 44)),
        ),
        SensorFacts(
            *("snow-1", "snow", "lufft-umb", "/dev/ttyUSB0", 60),
            {"ja": "北3条 積雪", "en": "N3 snow"},
            now=now(
                "snow-1",
                "snow",
                record=record(
                    depth_cm=mean(49.4),
                    snowfall_cm=2.1,
                    ground={"mode": "snow", "share": {"snow": 1}, "n": 60},
                ),
            ),
            history=day(
                depth_cm=means(lambda slot: snow_cm(slot) + chance.gauss(0, 0.1), [power_cut]),
                snowfall_cm=means(lambda slot: 1.2 * (100 < slot < 240), [power_cut]),
            ),
        ),
        SensorFacts(
            *("road-1", "road", "lufft-umb", "/dev/ttyUSB0", 60),
            {"ja": "北3条 路面", "en": "N3 road"},
            now=now(
                "road-1",
                "road",
                record=record(
                    surface_temperature_c=mean(-4.2),
                    condition={"mode": "packed_snow", "share": {"packed_snow": 1}, "n": 60},
                    friction=mean(0.28),
                ),
            ),
            history=day(
                surface_temperature_c=means(lambda slot: air_c(slot) + 2, [power_cut]),
                friction=means(lambda slot: 0.45 - 0.17 * (slot > 110), [power_cut]),
                water_film_mm=means(lambda _: 0.0),
            ),
        ),
        SensorFacts(
            *("air-1", "weather", "bme280", "/dev/i2c-1", 60),
            {"ja": "収納箱脇 気象", "en": "Air by the cabinet"},
            now=now(
                "air-1",
                "weather",
                "silent",
                error={
                    "time": ago(2.2),
                    "kind": "bus_error",
                    "text": "i2c-1 0x76: Remote I/O error",
                },
                record=None,
            ),
            history=day(
                air_temperature_c=means(air_c, [silent]),
                humidity_percent=means(lambda slot: 80 + 8 * math.cos(slot / 40), [silent]),
                pressure_hpa=means(lambda slot: 1004 + slot * 0.02, [silent]),
            ),
        ),
        SensorFacts(
            *("box-1", "cabinet", "pi-health", "system", 60),
            now=now("box-1", "cabinet", record=record(cpu_temperature_c=mean(38.2), throttled=0)),
            history=day(cpu_temperature_c=means(lambda slot: 38 + 3 * math.sin(slot / 30))),
        ),
    ]


def alerts() -> list[Document]:
    return [
        {
            "id": "0a",
            "sensor": "snow-1",
            "alert": "snow_dispatch",
            "severity": "warning",
            "since": ago(5.2),
            "text": {
                "ja": "北3条 積雪で、降り続いた雪が10.2 cmに達しました（出動の目安 10 cm）。",
                "en": "N3 snow: 10.2 cm of snow have fallen without a break.",
            },
        },
        {
            "id": "0b",
            "sensor": "air-1",
            "alert": "sensor_missing",
            "severity": "warning",
            "since": ago(2.0),
            "text": {
                "ja": "収納箱脇 気象のセンサーからデータが届いていません。",
                "en": "Air by the cabinet: the sensor gives no data.",
            },
        },
    ]


def running() -> dict[str, Any]:
    return {
        "gateway": {
            "id": "chikaho-03",
            "run": "7f3e9a1c5b2d4e60",
            "version": "0.4",
            "config": "9f2c1ab04d77",
            "policy": "c2" * 32,
            "since": ago(20),
            "uptime_s": 72_000,
            "refused": [],
        },
        "uplink": {"broker": "mqtts://broker-a.example:8883", "connected_since": ago(1.1)},
        "clock": {"state": "synced", "error_s": 0.0213},
        "alerts": alerts(),
        "resources": {"rss_bytes": 47_000_000, "cpu_s": 812.4, "fds": 31, "threads": 9},
    }


CHECKS: list[Document] = [
    {
        "id": "bus.answers",
        "subject": "air-1",
        "status": "FAIL",
        "title": {"ja": "センサーの応答", "en": "The sensor answers"},
        "evidence": {"ja": "応答がありません", "en": "nobody answers at i2c-1 0x76"},
        "next": {"ja": "配線を確認してください", "en": "check its wiring and power"},
    },
    {
        "id": "clock.sync",
        "status": "PASS",
        "title": {"ja": "時刻同期", "en": "Clock"},
        "evidence": {"ja": "誤差0.02秒", "en": "within 0.02 s"},
    },
    {
        "id": "disk.life",
        "status": "WARN",
        "title": {"ja": "記憶媒体の寿命", "en": "Life of the card"},
        "evidence": {"ja": "残り12%", "en": "12 % left"},
        "next": {"ja": "交換を計画してください", "en": "plan to replace it"},
    },
    {
        "id": "clock.rtc",
        "status": "SKIP",
        "title": {"ja": "時計用電池", "en": "RTC battery"},
        "evidence": {"ja": "RTCがありません", "en": "there is no RTC"},
    },
]


def facts() -> Facts:
    """All of it."""
    return Facts(
        made_s=MADE_S,
        gateway="chikaho-03",
        label={"ja": "チ・カ・ホ 北3条", "en": "Chi-Ka-Ho N3"},
        location={"latitude": 43.064, "longitude": 141.351},
        owner="City of Sapporo",
        licence="CC-BY-4.0",
        zone=ZONE,
        running=running(),
        sensors=sensors(),
        remembers_since=ago(20),
        outages=[
            Outage(ago(14.3), ago(13.1), "connection refused"),
            Outage(ago(4), ago(3.6), "timed out"),
            Outage(ago(1.5), ago(1.1), "no route to host"),
        ],
        edges=[
            {
                "time": ago(hours),
                "sensor": sensor,
                "alert": alert,
                "state": state,
                "severity": "warning",
            }
            for hours, sensor, alert, state in (
                (11.0, None, "clock_untrusted", "raised"),
                (10.6, None, "clock_untrusted", "cleared"),
                (5.2, "snow-1", "snow_dispatch", "raised"),
                (2.0, "air-1", "sensor_missing", "raised"),
            )
        ],
        spool={
            "path": "/var/lib/yukimi/spool.db",
            "bytes": 1_830_000,
            "max_bytes": 512 * 2**20,
            "waiting": 1284,
            "held": 0,
            "lost": 12,
            "oldest": ago(1.5),
        },
        configuration={
            "gateway": {"id": "chikaho-03", "timezone": "Asia/Tokyo"},
            "uplink": {"brokers": ["mqtts://broker-a.example:8883"], "username": "chikaho-03"},
            "sensors": [{"id": "snow-1", "driver": "lufft-umb", "bus": "/dev/ttyUSB0"}],
        },
        configuration_id="9f2c1ab04d77",
        checks=CHECKS,
        versions={"yukimi": "0.4", "Python": "3.11.7", "SQLite": "3.40.1", "pydantic": "2.9.2"},
    )
