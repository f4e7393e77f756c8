"""Eight sensors whose devices all answer from outside the daemon, and rows of as many as wanted.

| sensor | device | rate |
|---|---|---|
| hall-1 | LD2450, a radar that counts people | 10 frames a second |
| road-1, road-2 | IRS31Pro, 8 channels each | asked each 10 s |
| snow-1 | SHM31, a laser snow gauge | asked each 10 s |
| snow-2 | MaxBotix, an ultrasonic snow gauge | 6.7 frames a second |
| snow-3 | TFmini, a lidar | 100 frames a second |
| weather-1 | a weather station of 4 channels | asked each 10 s |
| cabinet-1 | the cabinet's own, 3 channels | asked each 10 s |

All are on pseudo-terminals, five of them on one RS-485 line: four buses. Windows are of 60 s;
people are counted by quarters of an hour: of real ones nothing shorter is released. Thermal arrays
speak I2C and light beams move pins, neither of which has an outside on a machine without them:
those are in site.py, emulated inside the daemon, and what they cost is told apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

import drivers

from .. import emulation
from ..buses import Pty
from ..demo import now_s
from ..devices.lufft import irs31pro, shm31, winter_snow_cm
from ..devices.maxbotix import MaxBotixDevice
from .site import CABINET, WEATHER, cabinet, weather_station

SENSORS = 8
BUSES = 4
SENSORS_ON_A_LINE = 16
WIDEST_INTERVAL_S = 10.0

RADAR: tuple[str, Mapping[str, Any]] = ("hlk-ld2450", {"line_y_mm": 1500})
LIDAR: tuple[str, Mapping[str, Any]] = (
    "benewake-tf",
    {"model": "tfmini", "frame_rate_hz": 100, "mount_height_cm": 350.0},
)


class EightOutside:
    """The devices of the eight sensors, in this process; the daemon is another."""

    def __init__(self) -> None:
        line = [
            irs31pro(seed=1),
            irs31pro(0x1002, seed=2),
            shm31(seed=3),
            weather_station(0x7001),
            cabinet(0x8001),
        ]
        self._rs485 = Pty(line, now_s)
        self._ranger = Pty([MaxBotixDevice(winter_snow_cm)], now_s)
        self._lidar, self._radar = (_talker(*each) for each in (LIDAR, RADAR))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for each in (self._rs485, self._ranger, self._lidar, self._radar):
            self._stack.enter_context(each)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def sensors(self) -> str:
        """Return the tables of the configuration that name them."""
        rs485 = self._rs485.path
        return "".join(
            (
                _sensor("hall-1", RADAR[0], self._radar.path, _inline(RADAR[1])),
                _sensor("road-1", "lufft-umb", rs485, 'model = "irs31pro"'),
                _sensor("road-2", "lufft-umb", rs485, 'model = "irs31pro"\naddress = 0x1002'),
                _sensor("snow-1", "lufft-umb", rs485, 'model = "shm31"'),
                _sensor("snow-2", "maxbotix-hrxl", self._ranger.path, "mount_height_cm = 350.0"),
                _sensor("snow-3", LIDAR[0], self._lidar.path, _inline(LIDAR[1])),
                _sensor("weather-1", "lufft-umb", rs485, f"address = 0x7001\n{WEATHER}"),
                _sensor("cabinet-1", "lufft-umb", rs485, f"address = 0x8001\n{CABINET}"),
            )
        )


class RoadSensors:
    """So many road sensors of 8 channels each, sixteen on a line, all asked each `interval_s`."""

    def __init__(self, count: int, *, interval_s: float = WIDEST_INTERVAL_S) -> None:
        self._interval_s = interval_s
        addresses = [0x1001 + at for at in range(count)]
        self._lines = {
            Pty([irs31pro(address, seed=address) for address in row], now_s): row
            for row in (
                addresses[at : at + SENSORS_ON_A_LINE] for at in range(0, count, SENSORS_ON_A_LINE)
            )
        }
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for line in self._lines:
            self._stack.enter_context(line)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def sensors(self) -> str:
        """Return the tables of the configuration that name them."""
        return "".join(
            _sensor(
                f"road-{address - 0x1000}",
                "lufft-umb",
                line.path,
                f'model = "irs31pro"\naddress = {address}\ninterval_s = {self._interval_s}',
            )
            for line, addresses in self._lines.items()
            for address in addresses
        )


def _talker(driver: str, options: Mapping[str, Any]) -> Pty:
    """Return the device behind `driver` on a line of its own."""
    parsed = drivers.load(driver).Options.model_validate(options)
    return Pty([emulation.load(driver).build(parsed, 1)], now_s)


def _sensor(name: str, driver: str, bus: str, options: str) -> str:
    return (
        f'[[sensors]]\nid = "{name}"\ndriver = "{driver}"\nbus = "{bus}"\n'
        f"[sensors.options]\n{options}\n"
    )


def _inline(options: Mapping[str, Any]) -> str:
    quoted = {k: f'"{v}"' if isinstance(v, str) else v for k, v in options.items()}
    return "\n".join(f"{key} = {value}" for key, value in quoted.items())
