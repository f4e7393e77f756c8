"""A TMP117 from its own side, written from the data sheet and not from the driver."""

from __future__ import annotations

import math
import struct
from random import Random
from typing import Any

from hil.buses import I2cDevice
from hil.emulation import Complaint, Emulation

FIRST_CONVERSION_S = 0.125  # eight averages; one more each second afterwards
DAY_S = 86400.0


class Device(I2cDevice):
    """Registers of two bytes, and a winter's day around them. Powered by the first look at it."""

    def __init__(self, seed: int) -> None:
        self.is_unmeasured = False
        self._noise = Random(seed)
        self._pointer = 0
        self._powered_s: float | None = None
        self._conversions = 0
        self._code = -0x8000

    def write(self, data: bytes, now_s: float) -> None:
        """Set the pointer; what follows is for registers that nobody here writes."""
        self._pass_time(now_s)
        self._pointer = data[0]

    def read(self, length: int, now_s: float) -> bytes:
        """Say the register under the pointer."""
        self._pass_time(now_s)
        temperature = -0x8000 if self.is_unmeasured else self._code
        said = {0x00: temperature, 0x01: 0x0220, 0x0F: 0x0117}.get(self._pointer, 0)
        return struct.pack(">h", said)[:length].ljust(length, b"\xff")

    def _pass_time(self, now_s: float) -> None:
        if self._powered_s is None:
            self._powered_s = now_s
        due = math.floor(now_s - self._powered_s - FIRST_CONVERSION_S) + 1
        if due > self._conversions:
            self._conversions = due
            air_c = -4.0 + 5.0 * math.sin(2 * math.pi * now_s / DAY_S)
            self._code = round((air_c + self._noise.gauss(0.0, 0.02)) * 128)


def _forget(device: Device) -> None:
    device.is_unmeasured = True


def _build(_: Any, seed: int) -> Device:
    return Device(seed)


EMULATION = Emulation(
    _build,
    options={"address": 0x49},
    truth={"air_temperature_c": (-9.5, 1.5)},
    measures_after_s=1.0,
    complaints={"not measured yet": Complaint(_forget, "warmup")},
)
