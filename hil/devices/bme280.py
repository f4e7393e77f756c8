"""A BME280 from its own side: a sample of winter air, and the converter's view of it.

It knows the truth in degC, %RH and Pa and must say numbers that a host compensates back to it, so
it searches them with Bosch's integer formulas, which are other code than the double ones.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from ..buses import NackError
from ..emulation import Complaint, Emulation

_ID, _RESET, _CTRL_HUM, _STATUS, _CTRL_MEAS, _CONFIG = 0xD0, 0xE0, 0xF2, 0xF3, 0xF4, 0xF5
_DATA = 0xF7
_BOOT_S = 0.002
_SKIPPED_20, _SKIPPED_16 = 0x80000, 0x8000

Truth = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Trim:
    """The factory's words."""

    t: tuple[int, int, int]
    p: tuple[int, ...]
    h: tuple[int, int, int, int, int, int]


# Bosch's worked example (BST-BMP280-DS001, 3.12), and plausible words for humidity.
TRIM = Trim(
    (27504, 26435, -1000),
    (36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000),
    (75, 370, 0, 313, 50, 30),
)


def air_c(now_s: float) -> float:
    """Return the air over a winter's day: +1 degC in the afternoon, -6 before dawn."""
    return -2.5 + 3.5 * math.sin(2 * math.pi * (now_s / 86400.0 - 0.33))


def humidity_percent(now_s: float) -> float:
    """Return the relative humidity: damp by night."""
    return 78.0 - 10.0 * math.sin(2 * math.pi * (now_s / 86400.0 - 0.33))


def pressure_pa(now_s: float) -> float:
    """Return the pressure as lows pass by every three days."""
    return 101200.0 + 900.0 * math.sin(2 * math.pi * now_s / 259200.0)


def t_fine_of(adc: int, trim: Trim) -> int:
    """Bosch's 32-bit temperature; (t_fine * 5 + 128) >> 8 is in 0.01 degC."""
    t1, t2, t3 = trim.t
    first = ((adc >> 3) - (t1 << 1)) * t2 >> 11
    second = (((adc >> 4) - t1) * ((adc >> 4) - t1) >> 12) * t3 >> 14
    return first + second


def pressure_of(adc: int, t_fine: int, trim: Trim) -> float:
    """Bosch's 64-bit pressure in Pa."""
    p1, p2, p3, p4, p5, p6, p7, p8, p9 = trim.p
    v1 = t_fine - 128000
    v2 = v1 * v1 * p6 + (v1 * p5 << 17) + (p4 << 35)
    v1 = (v1 * v1 * p3 >> 8) + (v1 * p2 << 12)
    v1 = ((1 << 47) + v1) * p1 >> 33
    if v1 == 0:
        return 0.0
    p = ((1048576 - adc << 31) - v2) * 3125 // v1
    v1 = p9 * (p >> 13) * (p >> 13) >> 25
    v2 = p8 * p >> 19
    return ((p + v1 + v2 >> 8) + (p7 << 4)) / 256


def humidity_of(adc: int, t_fine: int, trim: Trim) -> float:
    """Bosch's 32-bit relative humidity in %."""
    h1, h2, h3, h4, h5, h6 = trim.h
    v = t_fine - 76800
    scale = ((v * h6 >> 10) * ((v * h3 >> 11) + 32768) >> 10) + 2097152
    v = ((adc << 14) - (h4 << 20) - h5 * v + 16384 >> 15) * (scale * h2 + 8192 >> 14)
    v -= ((v >> 15) * (v >> 15) >> 7) * h1 >> 4
    return (min(max(v, 0), 419430400) >> 12) / 1024


def _search(says: Callable[[int], float], wanted: float, limit: int) -> int:
    """Return the first number at which rising `says` reaches `wanted`."""
    low, high = 0, limit
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if says(middle) < wanted else (low, middle)
    return low


class Bme280Device:
    """The registers of a BME280, or of a BMP280 (`chip_id` 58h). The truth is three functions."""

    def __init__(
        self,
        *,
        chip_id: int = 0x60,
        temperature_c: Truth = air_c,
        humidity_percent: Truth = humidity_percent,
        pressure_pa: Truth = pressure_pa,
        trim: Trim = TRIM,
        noise_steps: float = 1.5,
        seed: int = 0,
    ) -> None:
        self.temperature_c = temperature_c
        self.humidity_percent = humidity_percent
        self.pressure_pa = pressure_pa
        self.conversions = 0
        self.is_skipping = False  # says "skipped" whatever its settings
        self.is_frozen = False  # converts for ever
        self._chip_id = chip_id
        self._trim = trim
        self._noise_steps = noise_steps
        self._random = Random(seed)
        self._powered_s: float | None = -math.inf  # long ago
        self._forget()

    @property
    def _has_humidity(self) -> bool:
        return self._chip_id == 0x60

    def power_cycle(self) -> None:
        """Lose settings and values, and boot at the next transaction."""
        self._forget()
        self._powered_s = None

    def write(self, data: bytes, now_s: float) -> None:
        """Set the pointer; further bytes are a value, then pairs of register and value."""
        self._live(now_s)
        self._pointer = data[0]
        if len(data) % 2 == 0:
            for at in range(0, len(data), 2):
                self._set(data[at], data[at + 1], now_s)

    def read(self, length: int, now_s: float) -> bytes:
        """Return registers from the pointer on."""
        self._live(now_s)
        first = self._pointer
        self._pointer = (first + length) % 256
        return bytes(self._registers[(first + at) % 256] for at in range(length))

    def _forget(self) -> None:
        self._registers = bytearray(256)
        self._pointer = 0
        self._until_s: float | None = None  # when the conversion under way ends
        self._humidity_setting = 0  # in force since the last write to F4
        registers, trim = self._registers, self._trim
        registers[_ID] = self._chip_id
        registers[0x88:0xA0] = struct.pack("<H2hH8h", *trim.t, *trim.p)
        registers[_DATA : _DATA + 8] = bytes((0x80, 0, 0, 0x80, 0, 0, 0x80, 0))
        if self._has_humidity:
            h1, h2, h3, h4, h5, h6 = trim.h
            registers[0xA1] = h1
            registers[0xE1:0xE4] = struct.pack("<hB", h2, h3)
            registers[0xE4] = h4 >> 4 & 0xFF
            registers[0xE5] = h4 & 0x0F | (h5 & 0x0F) << 4
            registers[0xE6] = h5 >> 4 & 0xFF
            registers[0xE7] = h6 & 0xFF
        else:
            registers[_DATA + 6 : _DATA + 8] = bytes(2)

    def _live(self, now_s: float) -> None:
        if self._powered_s is None:
            self._powered_s = now_s
        if now_s - self._powered_s < _BOOT_S:
            raise NackError
        if self._until_s is None or self.is_frozen:
            return
        if now_s >= self._until_s:
            self._until_s = None
            self._convert(now_s)

    def _set(self, register: int, value: int, now_s: float) -> None:
        if register == _RESET and value == 0xB6:
            self.power_cycle()
            self._powered_s = now_s
        elif register == _CONFIG and self._registers[_CTRL_MEAS] & 0b11 != 0b11:
            self._registers[_CONFIG] = value & 0xFD
        elif register == _CTRL_HUM and self._has_humidity:
            self._registers[_CTRL_HUM] = value & 0b111
        elif register == _CTRL_MEAS:
            self._registers[_CTRL_MEAS] = value
            self._humidity_setting = self._registers[_CTRL_HUM]
            if value & 0b11 in (0b01, 0b10):
                settings = (value >> 5, value >> 2 & 0b111, self._humidity_setting)
                samples = sum(1 << setting - 1 for setting in settings if setting)
                self._until_s = now_s + 0.00125 + 0.0023 * samples + 0.000575 * 2
                self._registers[_STATUS] |= 0b1000

    def _convert(self, now_s: float) -> None:
        self.conversions += 1
        settings = self._registers[_CTRL_MEAS]
        self._registers[_STATUS] &= ~0b1000
        self._registers[_CTRL_MEAS] &= ~0b11
        trim = self._trim
        temperature, pressure, humidity = _SKIPPED_20, _SKIPPED_20, _SKIPPED_16
        if settings >> 5 and not self.is_skipping:
            wanted = self.temperature_c(now_s) * 5120
            exact = _search(lambda adc: t_fine_of(adc, trim), wanted, 0xFFFFF)
            temperature = self._coarse(exact)
            t_fine = t_fine_of(temperature, trim)
            if settings >> 2 & 0b111:
                pascal = self.pressure_pa(now_s)
                exact = _search(lambda adc: -pressure_of(adc, t_fine, trim), -pascal, 0xFFFFF)
                pressure = self._coarse(exact)
            if self._humidity_setting:
                percent = self.humidity_percent(now_s)
                exact = _search(lambda adc: humidity_of(adc, t_fine, trim), percent, 0xFFFF)
                humidity = min(max(exact + self._noise(), 0), 0xFFFF)
        registers = self._registers
        registers[_DATA : _DATA + 3] = (pressure << 4).to_bytes(3, "big")
        registers[_DATA + 3 : _DATA + 6] = (temperature << 4).to_bytes(3, "big")
        if self._has_humidity:
            registers[_DATA + 6 : _DATA + 8] = humidity.to_bytes(2, "big")

    def _coarse(self, exact: int) -> int:
        """Return a number as one sample gives it: 16 bits of 20, and noise in the last."""
        return min(max((exact + 8 >> 4) + self._noise(), 0), 0xFFFF) << 4

    def _noise(self) -> int:
        return round(self._random.gauss(0.0, self._noise_steps))


def _build(options: Any, seed: int) -> Bme280Device:
    return Bme280Device(chip_id=0x60 if options.chip == "bme280" else 0x58, seed=seed)


def _skip(device: Bme280Device) -> None:
    device.is_skipping = True


EMULATION = Emulation(
    _build,
    options={"address": 0x76},
    truth={
        "air_temperature_c": (-6.2, 1.2),
        "humidity_percent": (67.5, 88.5),
        "pressure_hpa": (1002.5, 1021.5),
        "dew_point_c": (-8.0, -3.0),
    },
    measures_after_s=2.0,
    complaints={"skipped": Complaint(_skip, "out_of_range")},
)
