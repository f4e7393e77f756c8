"""The gateway that is measured: eight sensors as a city mounts them, their devices and records.

Two count people, two watch the road, two the snow, one the air, one the cabinet. `RealDevices`
answer on pseudo-terminals; `windows` yields the records that the same sensors give, by formulas:
a winter's day with its noise, a crowd with its hours, each sensor with its own place.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from random import Random
from typing import Self

from agent.clock import Stamp
from agent.record import Record, tidy
from agent.spool import Spool
from drivers import road

from ..buses import Pty
from ..demo import now_s
from ..devices.lufft import (
    F32,
    UmbDevice,
    irs31pro,
    shm31,
    winter_condition,
    winter_road_c,
    winter_snow_cm,
)
from ..devices.maxbotix import MaxBotixDevice

GATEWAY = "bench"
STREAMS = 8  # and as many records a window
WINDOW_S = 60
FILL_COMMIT_RECORDS = 400
MINUTE_NS = WINDOW_S * 10**9
CONFIG_ID = "9f2c1ab04d77"

_PEOPLE = {"epsilon": "1/4", "noise_sd": 5.64, "ci95": 12}

# Channels, from their line of the options on.
WEATHER = """\
kind = "weather"
channels = [
    { channel = 100, quantity = "air_temperature_c", unit = "Cel" },
    { channel = 110, quantity = "dew_point_c", unit = "Cel" },
    { channel = 200, quantity = "humidity_percent", unit = "%" },
    { channel = 300, quantity = "pressure_hpa", unit = "hPa" },
]"""
CABINET = """\
kind = "cabinet"
channels = [
    { channel = 100, quantity = "cpu_temperature_c", unit = "Cel" },
    { channel = 400, quantity = "current_a", unit = "A" },
    { channel = 10000, quantity = "supply_v", unit = "V" },
]"""

_SENSORS = """\
[privacy.flow]
window_s = {window_s}
[[buses]]
id = "walkway"
kind = "simulated"
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "walkway"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "walkway"
options = {{ pin_a = 17, pin_b = 27 }}
[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "{rs485}"
options = {{ model = "irs31pro" }}
[[sensors]]
id = "road-2"
driver = "lufft-umb"
bus = "{rs485}"
options = {{ model = "irs31pro", address = 0x1002 }}
[[sensors]]
id = "snow-1"
driver = "lufft-umb"
bus = "{rs485}"
options = {{ model = "shm31" }}
[[sensors]]
id = "snow-2"
driver = "maxbotix-hrxl"
bus = "{ranger}"
options = {{ mount_height_cm = 350.0 }}
[[sensors]]
id = "weather-1"
driver = "lufft-umb"
bus = "{rs485}"
[sensors.options]
address = 0x7001
{weather}
[[sensors]]
id = "cabinet-1"
driver = "lufft-umb"
bus = "{rs485}"
[sensors.options]
address = 0x8001
{cabinet}
"""

# One sensor inside the daemon, where the backlog is what is measured.
_ONE_SENSOR = """\
[[buses]]
id = "post"
kind = "simulated"
[[sensors]]
id = "snow-9"
driver = "maxbotix-hrxl"
bus = "post"
window_s = {window_s}
options = {{ mount_height_cm = 350.0 }}
"""


def write_config(
    folder: Path,
    port: int,
    *,
    gateway: str = GATEWAY,
    uplink: str = "",
    sensors: str | None = None,
    window_s: int = WINDOW_S,
) -> Path:
    """Write a configuration whose spool is `folder`/spool.db; return its path.

    `uplink` are further lines of that table; `sensors` is what `RealDevices` say of theirs.
    """
    text = f"""\
[gateway]
id = "{gateway}"
[uplink]
brokers = ["mqtt://127.0.0.1:{port}"]
{uplink}
[control]
socket = "control.sock"

[spool]
path = "spool.db"
max_bytes = "8GiB"
[clock]
trust = "system"
{sensors or _ONE_SENSOR.format(window_s=window_s)}"""
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return path


class RealDevices:
    """The eight sensors' devices: on two pseudo-terminals, the walkway's inside the daemon."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        line = [
            irs31pro(seed=1),
            irs31pro(0x1002, seed=2),
            shm31(seed=3),
            weather_station(0x7001),
            cabinet(0x8001),
        ]
        self._rs485 = Pty(line, now_s)
        self._ranger = Pty([MaxBotixDevice(winter_snow_cm)], now_s)

    def __enter__(self) -> Self:
        self._stack.enter_context(self._rs485)
        self._stack.enter_context(self._ranger)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def sensors(self) -> str:
        """Return the tables of the configuration that name them."""
        return _SENSORS.format(
            window_s=WINDOW_S,
            rs485=self._rs485.path,
            ranger=self._ranger.path,
            weather=WEATHER,
            cabinet=CABINET,
        )


class Stock:
    """A spool with a backlog in it, made once and copied for each measurement.

    Records go in through `Spool.append` in the order in which a gateway commits them, many windows
    a commit: what is stored is the same, and it is there in seconds. One of `in_all` records can
    grow up to that; each time is a life of the gateway for itself.
    """

    def __init__(self, folder: Path, records: int, *, end_ns: int, in_all: int = 0) -> None:
        self.records = 0
        self._coming = windows(max(records, in_all), end_ns=end_ns)
        self._path = folder / "stock.db"
        self.grow(records)

    def grow(self, records: int) -> None:
        """Let there be so many."""
        self.run = secrets.token_hex(8)
        spool = Spool(self._path, max_bytes=2**40, run=self.run, boot_id="", gateway=GATEWAY)
        coming = islice(self._coming, records - self.records)
        while batch := list(islice(coming, FILL_COMMIT_RECORDS)):
            spool.append(batch, CONFIG_ID)
            spool.pack()
        self.records = records
        self.produced = spool.produced()
        spool.close(clean=True)
        self.bytes = self._path.stat().st_size

    def put(self, folder: Path) -> None:
        """Lay a copy into `folder` as spool.db, on the disk."""
        for old in folder.glob("spool.db*"):
            old.unlink()
        copy = folder / "spool.db"
        shutil.copyfile(self._path, copy)
        with copy.open("rb+") as file:  # its way to the disk is not the gateway's to pay
            os.fsync(file.fileno())


def windows(records: int, *, end_ns: int) -> Iterator[Record]:
    """Yield `records` records, a window of eight at a time; the last window ends at `end_ns`."""
    count = -(-records // STREAMS)
    last_ns = end_ns // MINUTE_NS * MINUTE_NS
    rng = Random(7)
    left = records
    for index in range(count):
        window = _window(last_ns - (count - 1 - index) * MINUTE_NS, rng)
        yield from window[:left]
        left -= len(window)


def _window(end_ns: int, rng: Random) -> list[Record]:
    at_s = end_ns / 1e9
    clock = Stamp("synced", round(0.008 + at_s % 1024 * 0.0005, 6))  # as NTP's bound grows
    hours = at_s % 86400 / 3600
    air_c = winter_road_c(at_s) + 1.0
    crowd = 12 * max(0.0, math.sin(math.pi * (hours - 5) / 19)) if hours > 5 else 0.3

    def record(stream: str, kind: str, n: int, expected: int, values: dict[str, object]) -> Record:
        start_ns = end_ns - MINUTE_NS
        quality = {"flag": "good", "n": n, "expected": expected}
        return Record(stream, kind, start_ns, end_ns, start_ns, end_ns, clock, quality, values)

    return [
        record("hall-1", "people", 60, 60, _flow(crowd, rng)),
        record("door-1", "people", 60, 60, _flow(crowd / 3, rng)),
        record("road-1", "road", 6, 6, _road(winter_road_c(at_s), rng)),
        record("road-2", "road", 6, 6, _road(winter_road_c(at_s) + 0.8, rng)),
        record("snow-1", "snow", 6, 6, {"depth_cm": _stats(winter_snow_cm(at_s), 0.1, 6, rng)}),
        record("snow-2", "snow", 60, 60, _ranged(winter_snow_cm(at_s) + 4.0, rng)),
        record(
            "weather-1",
            "weather",
            6,
            6,
            {
                "air_temperature_c": _stats(air_c, 0.06, 6, rng),
                "dew_point_c": _stats(air_c - 3.1, 0.08, 6, rng),
                "humidity_percent": _stats(79.0 - air_c, 0.4, 6, rng),
                "pressure_hpa": _stats(1012 + 9 * math.sin(at_s / 2e5), 0.03, 6, rng),
            },
        ),
        record(
            "cabinet-1",
            "cabinet",
            6,
            6,
            {
                "cpu_temperature_c": _stats(air_c + 31, 0.5, 6, rng),
                "current_a": _stats(0.61, 0.02, 6, rng),
                "supply_v": _stats(24.1, 0.02, 6, rng),
            },
        ),
    ]


def _flow(per_minute: float, rng: Random) -> dict[str, object]:
    values: dict[str, object] = {}
    for way in ("towards", "away"):
        # The difference of two geometric draws is discrete Laplace; exactness is not needed here.
        noise = int(rng.expovariate(0.25)) - int(rng.expovariate(0.25))
        unclamped = round(rng.gauss(per_minute, math.sqrt(per_minute))) + noise
        values[way] = {"count": max(0, unclamped), "unclamped": unclamped}
    return values | _PEOPLE


def _road(surface_c: float, rng: Random) -> dict[str, object]:
    code = winter_condition(surface_c)
    icy = code == 35
    return {
        "surface_temperature_c": _stats(surface_c, 0.05, 6, rng),
        "condition": _class(road.lufft(code)),
        "water_film_mm": _steady(0.0 if icy else 0.35),
        "ice_mm": _steady(0.4 if icy else 0.0),
        "snow_mm": _steady(0.0),
        "friction": _steady(0.2 if icy else 0.65),
        "freezing_temperature_c": _steady(-1.5),
        "condition_code": _class(str(code)),
    }


def _ranged(depth_cm: float, rng: Random) -> dict[str, object]:
    distance = _stats(350.0 - depth_cm, 0.15, 60, rng)
    return {"distance_cm": distance, "depth_cm": _stats(depth_cm, 0.15, 60, rng)}


def _stats(truth: float, noise: float, n: int, rng: Random) -> dict[str, object]:
    """Return what `n` samples around `truth` come to, drawn as such and not sample by sample."""
    mean = truth + rng.gauss(0.0, noise / math.sqrt(n))
    reach = noise * (1.3 if n < 10 else 2.3)
    return {
        "mean": tidy(mean),
        "min": tidy(mean - reach * rng.uniform(0.6, 1.4)),
        "max": tidy(mean + reach * rng.uniform(0.6, 1.4)),
        "sd": tidy(noise * rng.uniform(0.6, 1.4)),
        "median": tidy(mean + rng.gauss(0.0, noise / math.sqrt(n))),
        "n": n,
    }


def _steady(value: float) -> dict[str, object]:
    return {"mean": value, "min": value, "max": value, "sd": 0.0, "median": value, "n": 6}


def _class(name: str) -> dict[str, object]:
    return {"mode": name, "share": {name: 1.0}, "n": 6}


def weather_station(address: int) -> UmbDevice:
    """Return a weather station with four channels."""
    noise = Random(4)
    return UmbDevice(
        address,
        {
            100: (F32, lambda s: winter_road_c(s) + 1.0 + noise.gauss(0.0, 0.06)),
            110: (F32, lambda s: winter_road_c(s) - 2.1 + noise.gauss(0.0, 0.08)),
            200: (F32, lambda s: 78.0 - winter_road_c(s) + noise.gauss(0.0, 0.4)),
            300: (F32, lambda _: 1012.0 + noise.gauss(0.0, 0.03)),
        },
        name="weather station",
    )


def cabinet(address: int) -> UmbDevice:
    """Return what a cabinet tells of itself, in three channels."""
    noise = Random(5)
    return UmbDevice(
        address,
        {
            100: (F32, lambda s: winter_road_c(s) + 32.0 + noise.gauss(0.0, 0.5)),
            400: (F32, lambda _: 0.61 + noise.gauss(0.0, 0.02)),
            10000: (F32, lambda _: 24.1 + noise.gauss(0.0, 0.02)),
        },
        name="cabinet",
    )
