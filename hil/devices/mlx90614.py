"""An MLX90614 from its own side: a can on a mast that looks at a road.

Words with a packet error code, two zones of memory, and an EEPROM that must be erased before it
is written and takes its time for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

from ..buses import NackError
from ..emulation import Complaint, Emulation
from .lufft import winter_road_c

_TA, _TOBJ1, _TOBJ2 = 0x06, 0x07, 0x08
_EMISSIVITY = 0x24
_WRITABLE = (0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x2E, 0x2F, 0x39)
_BOOT_S = 0.25
_EEPROM_S = 0.005

Truth = Callable[[float], float]


def pec(message: bytes) -> int:
    """Return the packet error code of SMBus, bit by bit as the chip does it."""
    crc = 0
    for byte in message:
        for bit in range(7, -1, -1):
            out = crc >> 7 ^ byte >> bit & 1
            crc = crc << 1 & 0xFF ^ (0x07 if out else 0)
    return crc


def mast_c(now_s: float) -> float:
    """Return the temperature of a box on a mast, between the air's and what the sun does."""
    return winter_road_c(now_s) + 1.5


class Mlx90614Device:
    """The truth is `surface_c` of a road that emits `road_emissivity`, and `sensor_c`."""

    def __init__(
        self,
        *,
        address: int = 0x5A,
        surface_c: Truth = winter_road_c,
        sensor_c: Truth = mast_c,
        road_emissivity: float = 0.95,
        emissivity: float = 1.0,
        noise_c: float = 0.05,
        seed: int = 0,
    ) -> None:
        self.surface_c = surface_c
        self.sensor_c = sensor_c
        self.road_emissivity = road_emissivity
        self.eeprom_writes = 0  # erasures count: they wear the cells out alike
        self.is_sick = False  # flags every temperature as an error
        self._address = address
        self._noise_c = noise_c
        self._random = Random(seed)
        self._powered_s: float | None = -math.inf  # long ago
        self._command = 0
        self._eeprom = dict.fromkeys(range(0x20, 0x40), 0)
        self._eeprom[_EMISSIVITY] = round(65535 * emissivity)
        self._eeprom |= {0x2E: address, 0x3C: 0x1234, 0x3D: 0xA5A5, 0x3E: 0x0042, 0x3F: 0x9614}
        self._busy_until_s = -math.inf

    @property
    def emissivity(self) -> float:
        """What stands in the EEPROM."""
        return self._eeprom[_EMISSIVITY] / 65535

    def power_cycle(self) -> None:
        """Boot at the next transaction; the EEPROM stays."""
        self._powered_s = None

    def write(self, data: bytes, now_s: float) -> None:
        """Take a command, and the word that is to be written if one follows with its PEC."""
        self._live(now_s)
        self._command = data[0]
        if len(data) == 1:
            return
        if len(data) != 4 or pec(bytes((self._address << 1,)) + data[:3]) != data[3]:
            raise NackError
        if self._command not in _WRITABLE or now_s < self._busy_until_s:
            return
        word = data[1] | data[2] << 8
        # Programming only sets bits; clearing them is what the erasure is for.
        self._eeprom[self._command] = word | self._eeprom[self._command] if word else 0
        self._busy_until_s = now_s + _EEPROM_S
        self.eeprom_writes += 1

    def read(self, length: int, now_s: float) -> bytes:
        """Return the word of the last command, low byte first, its PEC, then a floating line."""
        self._live(now_s)
        word = self._word(now_s)
        head = bytes((self._address << 1, self._command, self._address << 1 | 1))
        body = bytes((word & 0xFF, word >> 8))
        return (body + bytes((pec(head + body),)) + b"\xff" * length)[:length]

    def _live(self, now_s: float) -> None:
        if self._powered_s is None:
            self._powered_s = now_s
        if now_s - self._powered_s < _BOOT_S:
            raise NackError

    def _word(self, now_s: float) -> int:
        if self._command in (_TOBJ1, _TOBJ2):
            return self._ram(self._seen_c(now_s))
        if self._command == _TA:
            return self._ram(self.sensor_c(now_s) + self._random.gauss(0.0, self._noise_c / 2))
        if self._command in self._eeprom:
            return 0 if now_s < self._busy_until_s else self._eeprom[self._command]
        raise NackError

    def _ram(self, temperature_c: float) -> int:
        if self.is_sick or not -273.15 <= temperature_c <= 382.19:
            return 0x8000
        return round((temperature_c + 273.15) * 50)

    def _seen_c(self, now_s: float) -> float:
        """Return what the chip makes of the radiation that comes in."""
        if self._eeprom[_EMISSIVITY] == 0:
            return math.inf
        road = (self.surface_c(now_s) + 273.15) ** 4
        around = (self.sensor_c(now_s) + 273.15) ** 4
        radiation = self.road_emissivity * road + (1 - self.road_emissivity) * around
        seen = (radiation - (1 - self.emissivity) * around) / self.emissivity
        return float(seen**0.25) - 273.15 + self._random.gauss(0.0, self._noise_c)


def _build(options: Any, seed: int) -> Mlx90614Device:
    return Mlx90614Device(address=options.address, road_emissivity=options.emissivity, seed=seed)


def _fall_ill(device: Mlx90614Device) -> None:
    device.is_sick = True


def _overheat(device: Mlx90614Device) -> None:
    device.surface_c = lambda _: 400.0


EMULATION = Emulation(
    _build,
    options={"address": 0x5A, "emissivity": 0.95},
    truth={"surface_temperature_c": (-8.5, 2.5), "sensor_temperature_c": (-7.0, 4.0)},
    measures_after_s=1.0,
    complaints={
        "error flag": Complaint(_fall_ill, "out_of_range"),
        "hotter than it can say": Complaint(_overheat, "out_of_range"),
    },
)
