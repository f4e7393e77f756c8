"""A DS3231 clock from its own side: what sits at 0x68 in many a gateway, beside the sensors.

Written from its data sheet: 19 registers of time in BCD, alarms, control, status and temperature.
`harmed` tells whether somebody took it for another device and wrote to it.
"""

from __future__ import annotations

import datetime as dt

ADDRESS = 0x68
_REGISTERS = 0x13
_TIME = 0x00
_CONTROL, _STATUS, _TEMPERATURE = 0x0E, 0x0F, 0x11


class Ds3231Device:
    """The clock's registers. It shows `start` at time 0, in 24 hours."""

    def __init__(
        self,
        start: dt.datetime = dt.datetime(2027, 1, 15, 8, 59, 30, tzinfo=dt.UTC),
        *,
        temperature_c: float = 25.25,
        has_lost_power: bool = False,
    ) -> None:
        self.written: list[bytes] = []  # all that changes something: register, values
        self._start = start
        self._registers = bytearray(_REGISTERS)
        self._registers[_CONTROL] = 0x1C
        self._registers[_STATUS] = 0x88 if has_lost_power else 0x08
        quarters = round(temperature_c * 4)
        self._registers[_TEMPERATURE : _TEMPERATURE + 2] = bytes(
            (quarters >> 2 & 0xFF, (quarters & 3) << 6)
        )
        self._pointer = 0

    @property
    def harmed(self) -> bool:
        """Whether anything was written to it but a register to read from."""
        return bool(self.written)

    def write(self, data: bytes, now_s: float) -> None:
        """Set the register pointer to the first byte, and write the others from there."""
        self._pointer = data[0] % _REGISTERS
        if len(data) > 1:
            self.written.append(data)
        for value in data[1:]:
            self._registers[self._pointer] = value
            self._pointer = (self._pointer + 1) % _REGISTERS

    def read(self, length: int, now_s: float) -> bytes:
        """Return registers from the pointer on; after the last comes the first."""
        self._show(self._start + dt.timedelta(seconds=now_s))
        first = self._pointer
        self._pointer = (first + length) % _REGISTERS
        return bytes(self._registers[(first + i) % _REGISTERS] for i in range(length))

    def _show(self, now: dt.datetime) -> None:
        if any(register < 7 for register, *_ in self.written):
            return  # somebody has set it, and it shows their time
        weekday = now.isoweekday()
        fields = (now.second, now.minute, now.hour, weekday, now.day, now.month, now.year % 100)
        for register, number in enumerate(fields, start=_TIME):
            self._registers[register] = number // 10 << 4 | number % 10
