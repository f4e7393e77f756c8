"""An INA219 from its own side: a lead battery, a shunt, and what the chip makes of them.

Word registers behind a pointer that stays where it is put: this chip counts no address up. An
INA3221, which answers at the same address, is here too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from ..buses import NackError
from ..emulation import Complaint, Emulation

_CONFIG, _SHUNT, _BUS, _POWER, _CURRENT, _CALIBRATION = range(6)
_POWER_UP_CONFIG = 0x399F
_BOOT_S = 0.001
_CONVERSION_S = 0.017

Truth = Callable[[float], float]


def battery_v(now_s: float) -> float:
    """Return the voltage of a 12 V lead battery that the sun charges by day."""
    return 12.9 + 0.6 * math.sin(2 * math.pi * now_s / 86400.0)


def load_a(now_s: float) -> float:
    """Return what a gateway draws, its modem sending now and then."""
    return 0.45 + (0.2 if now_s % 60.0 < 5.0 else 0.0)


class Ina219Device:
    """The registers of an INA219. The truth is `voltage_v` and `current_a`, functions of time."""

    def __init__(
        self,
        *,
        shunt_ohm: float = 0.1,
        voltage_v: Truth = battery_v,
        current_a: Truth = load_a,
        noise_steps: float = 0.7,
        seed: int = 0,
    ) -> None:
        self.voltage_v = voltage_v
        self.current_a = current_a
        self._shunt_ohm = shunt_ohm
        self._noise_steps = noise_steps
        self._random = Random(seed)
        self._is_stopped = False
        self._forget()
        self._powered_s: float | None = -math.inf  # long ago

    def power_cycle(self) -> None:
        """Lose everything, and boot at the next transaction."""
        self._forget()
        self._powered_s = None

    def _forget(self) -> None:
        self._pointer = 0
        self._registers = [_POWER_UP_CONFIG, 0, 0, 0, 0, 0]
        self._converted_s = -math.inf  # when the newest conversion ended
        self._mode_since_s = -math.inf

    def stop_converting(self) -> None:
        """Convert no more, as a chip does whose oscillator died."""
        self._is_stopped = True

    def write(self, data: bytes, now_s: float) -> None:
        """Set the pointer, and a register if two bytes follow."""
        self._live(now_s)
        self._pointer = data[0]
        if len(data) != 3:
            return
        value = data[1] * 256 + data[2]
        if self._pointer == _CONFIG:
            if value & 0x8000:
                self._registers = [_POWER_UP_CONFIG, 0, 0, 0, 0, 0]
            else:
                self._registers[_CONFIG] = value
            self._registers[_BUS] &= ~0b10
            self._mode_since_s = now_s
        elif self._pointer == _CALIBRATION:
            self._registers[_CALIBRATION] = value & 0xFFFE

    def read(self, length: int, now_s: float) -> bytes:
        """Return the register at the pointer, its high byte first, again and again."""
        self._live(now_s)
        if self._pointer > _CALIBRATION:
            return b"\xff" * length  # nothing pulls the line down
        word = self._registers[self._pointer]
        if self._pointer == _POWER:
            self._registers[_BUS] &= ~0b10
        return (word.to_bytes(2, "big") * (length // 2 + 1))[:length]

    def _live(self, now_s: float) -> None:
        if self._powered_s is None:
            self._powered_s = self._mode_since_s = now_s
            raise NackError
        if now_s - self._powered_s < _BOOT_S:
            raise NackError
        started_s = max(self._mode_since_s, self._converted_s)
        if not self._is_stopped and now_s - started_s >= _CONVERSION_S:
            self._convert(now_s)

    def _convert(self, now_s: float) -> None:
        self._converted_s = now_s
        shunt_limit = 4000 << (self._registers[_CONFIG] >> 11 & 0b11)
        shunt_v = self.current_a(now_s) * self._shunt_ohm
        shunt = round(shunt_v / 1e-5 + self._random.gauss(0.0, self._noise_steps))
        shunt = min(max(shunt, -shunt_limit), shunt_limit)
        bus_limit = 8000 if self._registers[_CONFIG] >> 13 & 1 else 4000
        bus = round(self.voltage_v(now_s) / 0.004 + self._random.gauss(0.0, self._noise_steps))
        bus = min(max(bus, 0), bus_limit)
        current = int(shunt * self._registers[_CALIBRATION] / 4096)
        power = int(abs(current) * bus / 5000)
        overflow = not -0x8000 <= current <= 0x7FFF or power > 0xFFFF
        self._registers[_SHUNT] = shunt & 0xFFFF
        self._registers[_BUS] = bus << 3 | 0b10 | overflow
        self._registers[_CURRENT] = current & 0xFFFF
        self._registers[_POWER] = power & 0xFFFF


class Ina3221Device:
    """The registers of an INA3221 that tell it apart."""

    def __init__(self) -> None:
        self._registers = {0x00: 0x7127, 0xFE: 0x5449, 0xFF: 0x3220}
        self._pointer = 0

    def write(self, data: bytes, now_s: float) -> None:
        """Set the pointer, and a register if two bytes follow."""
        self._pointer = data[0]
        if len(data) == 3 and self._pointer < 0xFE:
            self._registers[self._pointer] = data[1] * 256 + data[2]

    def read(self, length: int, now_s: float) -> bytes:
        """Return the register at the pointer, its high byte first."""
        return (self._registers.get(self._pointer, 0).to_bytes(2, "big") * length)[:length]


def _overload(device: Ina219Device) -> None:
    device.current_a = lambda _: 1e4


def _lightning(device: Ina219Device) -> None:
    device.voltage_v = lambda _: 60.0


EMULATION = Emulation(
    lambda options, seed: Ina219Device(shunt_ohm=options.shunt_ohm, seed=seed),
    options={"address": 0x40},
    truth={"supply_v": (12.2, 13.6), "current_a": (0.43, 0.67)},
    measures_after_s=2.0,
    complaints={
        "more current than the range": Complaint(_overload, "out_of_range"),
        "more voltage than the range": Complaint(_lightning, "out_of_range"),
        "no conversion": Complaint(Ina219Device.stop_converting, "stuck"),
    },
)
