"""A DS18B20 behind Linux's 1-Wire driver, from its own side: what stands in `w1_slave`.

Written from the data sheet and the kernel's driver, with a CRC of its own. A scratchpad is what
the last conversion left in it: one that fails leaves what was there before, 85 degC after power-up.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from ..emulation import Complaint, Emulation

FOLDER = "/sys/bus/w1/devices"
POWER_UP = bytes((0x50, 0x05))
DAY_S = 86400.0


def winter_air_c(now_s: float) -> float:
    """Air over a winter's day: -1 degC in the afternoon, -9 before dawn."""
    return -5.0 - 4.0 * math.cos(2 * math.pi * (now_s / DAY_S - 14.0 / 24.0 - 0.5))


class ThermometerDevice:
    """A FileDevice: one thermometer's folder. The truth is `air_c`."""

    def __init__(
        self,
        name: str,
        air_c: Callable[[float], float] = winter_air_c,
        *,
        noise_c: float = 0.05,
        resolution_bits: int = 12,
        seed: int = 0,
    ) -> None:
        self.name = name
        self.air_c = air_c
        self.is_converting = True  # False: its supply breaks in whenever it measures
        self._noise_c = noise_c
        self._resolution_bits = resolution_bits
        self._seed = seed
        self._held = POWER_UP  # temperature registers
        self._shown = b""  # the last scratchpad that was read well; the kernel's memory
        self._wire = "sound"
        self._is_plugged = True

    def power_cycle(self) -> None:
        """Forget everything."""
        self._held = POWER_UP

    def break_wire(self, how: str) -> None:
        """Make the data wire "noisy", "shorted", "silent", "unpulled", or "sound" again."""
        self._wire = how

    def unplug(self) -> None:
        """Hang no more on the bus."""
        self._is_plugged = False

    def plug(self) -> None:
        """Come back, as after power-up."""
        self._is_plugged = True
        self.power_cycle()

    def files(self, now_s: float) -> Mapping[str, str | OSError]:
        """Return the folder's files; to look at them is to measure, as often as one likes."""
        if not self._is_plugged:
            return {}
        folder = f"{FOLDER}/{self.name}"
        return {f"{folder}/name": self.name + "\n", f"{folder}/w1_slave": self._w1_slave(now_s)}

    def _w1_slave(self, now_s: float) -> str | OSError:
        if self._wire == "silent":
            return OSError(errno.EIO, os.strerror(errno.EIO))
        if self.is_converting:
            self._held = self._converted(now_s)
        read = self._read(now_s)
        is_good = _crc(read[:8]) == read[8]
        if is_good:
            self._shown = read
        second = self._shown or bytes(9)
        milli_c = int.from_bytes(second[:2], "little", signed=True) * 1000 // 16
        verdict = "YES" if is_good else "NO"
        return (
            f"{read.hex(' ')} : crc={_crc(read[:8]):02x} {verdict}\n{second.hex(' ')} t={milli_c}\n"
        )

    def _converted(self, now_s: float) -> bytes:
        noise = Random(f"{self._seed} {now_s:.3f}")
        steps = round(16 * (self.air_c(now_s) + noise.gauss(0.0, self._noise_c)))
        coarse = 1 << (12 - self._resolution_bits)
        return (steps // coarse * coarse % 0x10000).to_bytes(2, "little")

    def _read(self, now_s: float) -> bytes:
        """Return the nine bytes as they come over the wire."""
        held = b"\xff\x07" if self._wire == "unpulled" else self._held
        # A genuine part keeps what is left of its last conversion here; 0C after power-up.
        count_remain = 0x0C if held == POWER_UP else 0x10 - (held[0] & 0x0F)
        configuration = (self._resolution_bits - 9) << 5 | 0x1F
        body = held + bytes((0x4B, 0x46, configuration, 0xFF, count_remain, 0x10))
        whole = bytearray(body + bytes((_crc(body),)))
        if self._wire == "shorted":
            return bytes(9)
        if self._wire == "noisy":
            whole[Random(f"{self._seed} {now_s:.3f}").randrange(9)] ^= 0x10
        return bytes(whole)


def _crc(message: bytes) -> int:
    """CRC-8 of 1-Wire bit by bit, as the chip's shift register does it."""
    register = 0
    for byte in message:
        for bit in range(8):
            feedback = (byte >> bit ^ register) & 1
            register >>= 1
            if feedback:
                register ^= 0b10001100
    return register


def _build(options: Any, seed: int) -> ThermometerDevice:
    return ThermometerDevice(options.id or f"28-0000{seed:08x}", seed=seed)


def _lose_power(device: ThermometerDevice) -> None:
    device.is_converting = False
    device.power_cycle()


EMULATION = Emulation(
    _build,
    options={"id": "28-00000d1efbf6"},
    truth={"air_temperature_c": (-10.0, 0.0)},
    complaints={
        "85 degC after power-up": Complaint(_lose_power, "bus_error"),
        "no pull-up": Complaint(lambda device: device.break_wire("unpulled"), "bus_error"),
        "hotter than it can say": Complaint(
            lambda device: setattr(device, "air_c", lambda _: 127.0), "out_of_range"
        ),
    },
)
