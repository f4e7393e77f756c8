"""Lufft's UMB devices from their own side: what stands on the mast and answers.

Written from the protocol's description, not from the driver, with a CRC of its own: where both
agree, neither copied the other's mistake.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from ..emulation import Complaint, Emulation

OK, UNKNOWN_COMMAND, WRONG_PARAMETER, WRONG_COMMAND_VERSION = 0x00, 0x10, 0x11, 0x13
INVALID_CHANNEL, BUSY = 0x24, 0x28

U8, U16, S16, F32 = 0x10, 0x12, 0x13, 0x16
_PACK = {
    0x10: "<B",
    0x11: "<b",
    0x12: "<H",
    0x13: "<h",
    0x14: "<I",
    0x15: "<i",
    0x16: "<f",
    0x17: "<d",
}

TURNAROUND_S = (0.030, 0.175)  # the shortest and longest seen on a real line
LONGEST_FRAME_BYTES = 255
PAUSE_S = 0.05  # a longer one inside a message means that the rest will not come
DAY_S = 86400.0

Source = Callable[[float], float]  # a channel's raw value at a time in seconds


class UmbDevice:
    """Any UMB device: channels with a type and a source of values, and its manners.

    `channel_status` and `status` are what it complains about: set them to make it fail in-band.
    """

    def __init__(
        self,
        address: int,
        channels: Mapping[int, tuple[int, Source]],
        *,
        name: str = "UMB device",
        busy_s: float = 0.0,
        turnaround_s: tuple[float, float] = TURNAROUND_S,
        seed: int = 0,
    ) -> None:
        self.address = address
        self.channels = dict(channels)
        self.channel_status: dict[int, int] = {}
        self.status = OK
        self._name = name
        self._busy_s = busy_s
        self._turnaround_s = turnaround_s
        self._random = Random(seed)
        self._powered_s: float | None = None
        self._heard = b""
        self._heard_s = -math.inf
        self._answers: list[tuple[float, bytes]] = []

    def hear(self, data: bytes, now_s: float) -> None:
        """Listen to the line, and answer what is asked of this address."""
        self._power_up(now_s)
        if now_s - self._heard_s > PAUSE_S:
            self._heard = b""
        self._heard_s = now_s
        self._heard += data
        while (start := self._heard.find(b"\x01\x10")) >= 0:
            self._heard = self._heard[start:]
            if len(self._heard) < 8:
                break
            end = 12 + self._heard[6]
            if end > LONGEST_FRAME_BYTES or self._heard[7] != 0x02:
                self._heard = self._heard[1:]
                continue
            if len(self._heard) < end:
                break
            message, self._heard = self._heard[:end], self._heard[end:]
            if message[-1] != 0x04 or _crc(message[:-3]) != message[-3:-1]:
                self._heard = message[1:] + self._heard
                continue
            if int.from_bytes(message[2:4], "little") == self.address:
                self._answer(message, now_s)
        if b"\x01\x10" not in self._heard:
            self._heard = self._heard[-1:]

    def speak(self, now_s: float) -> bytes:
        """Return the answers whose time has come."""
        self._power_up(now_s)
        due = [answer for at_s, answer in self._answers if at_s <= now_s]
        self._answers = [(at_s, answer) for at_s, answer in self._answers if at_s > now_s]
        return b"".join(due)

    def _power_up(self, now_s: float) -> None:
        if self._powered_s is None:
            self._powered_s = now_s

    def _answer(self, message: bytes, now_s: float) -> None:
        sender, command, version = message[4:6], message[8], message[9]
        if version != 0x10:
            payload = bytes((WRONG_COMMAND_VERSION,))
        else:
            payload = self._payload(command, message[10:-4], now_s)
        body = bytes((command, version)) + payload
        head = b"\x01\x10" + sender + self.address.to_bytes(2, "little") + bytes((len(body),))
        answer = head + b"\x02" + body + b"\x03"
        after_s = self._random.uniform(*self._turnaround_s)
        self._answers.append((now_s + after_s, answer + _crc(answer) + b"\x04"))

    def _payload(self, command: int, asked: bytes, now_s: float) -> bytes:
        match command:
            case 0x20:
                return bytes((OK, 10, 23))  # hardware 1.0, software 2.3
            case 0x23 if len(asked) == 2:
                return self._channel(int.from_bytes(asked, "little"), now_s)
            case 0x26:
                return bytes((OK, self._status(now_s)))
            case 0x2D if asked:
                return self._device_info(asked)
            case 0x2F if asked and 0 < asked[0] <= 20 and len(asked) == 1 + 2 * asked[0]:
                if self._status(now_s):
                    return bytes((self._status(now_s),))
                said = [
                    self._channel(each, now_s) for (each,) in struct.iter_unpack("<H", asked[1:])
                ]
                return bytes((OK, len(said))) + b"".join(bytes((len(e),)) + e for e in said)
            case 0x23 | 0x2D | 0x2F:
                return bytes((WRONG_PARAMETER,))
        return bytes((UNKNOWN_COMMAND,))

    def _status(self, now_s: float) -> int:
        if self._powered_s is not None and now_s - self._powered_s < self._busy_s:
            return BUSY
        return self.status

    def _channel(self, channel: int, now_s: float) -> bytes:
        """Return status, channel and, where the status is fine, type and value."""
        number = channel.to_bytes(2, "little")
        if channel not in self.channels:
            return bytes((INVALID_CHANNEL,)) + number
        status = self._status(now_s) or self.channel_status.get(channel, OK)
        if status:
            return bytes((status,)) + number
        kind, source = self.channels[channel]
        value = source(now_s)
        packed = struct.pack(_PACK[kind], value if kind in (0x16, 0x17) else round(value))
        return bytes((OK,)) + number + bytes((kind,)) + packed

    def _device_info(self, asked: bytes) -> bytes:
        match asked[0]:
            case 0x10:
                return bytes((OK, 0x10)) + self._name.encode("latin-1")[:40].ljust(40, b"\0")
            case 0x15:
                return struct.pack("<BBHB", OK, 0x15, len(self.channels), 1)
            case 0x16:
                numbers = sorted(self.channels)
                return struct.pack(f"<4B{len(numbers)}H", OK, 0x16, 0, len(numbers), *numbers)
        return bytes((WRONG_PARAMETER,))


def _crc(message: bytes) -> bytes:
    """CRC-16/MCRF4XX bit by bit, as it goes over the line."""
    crc = 0xFFFF
    for byte in message:
        for bit in range(8):
            differs = (crc ^ (byte >> bit)) & 1
            crc >>= 1
            if differs:
                crc ^= 0x8408
    return crc.to_bytes(2, "little")


def winter_road_c(now_s: float) -> float:
    """Road surface over a winter's day: +2 degC in the afternoon, -8 before dawn."""
    return -3.0 - 5.0 * math.cos(2 * math.pi * (now_s / DAY_S - 14.0 / 24.0 - 0.5))


def winter_snow_cm(now_s: float) -> float:
    """Snow depth: 10 cm fall in each day's first five hours, and settle until the next day."""
    hour = now_s % DAY_S / 3600.0
    return 30.0 + (2.0 * hour if hour < 5.0 else 10.0 * (24.0 - hour) / 19.0)


def winter_condition(surface_c: float) -> int:
    """Return the code of channel 900 for a road that was wet: ice, frost at the edge, else wet."""
    if surface_c < -2.0:
        return 35
    return 45 if surface_c < 0.0 else 20


def irs31pro(
    address: int = 0x1001,
    *,
    surface_c: Source = winter_road_c,
    noise_c: float = 0.05,
    busy_s: float = 0.0,
    turnaround_s: tuple[float, float] = TURNAROUND_S,
    seed: int = 0,
) -> UmbDevice:
    """A road sensor. The truth is `surface_c`, and `winter_condition` of it."""
    noise = Random(seed)

    def measured_c(now_s: float) -> float:
        return surface_c(now_s) + noise.gauss(0.0, noise_c)

    def is_icy(now_s: float) -> bool:
        return winter_condition(surface_c(now_s)) == 35

    channels: dict[int, tuple[int, Source]] = {
        101: (F32, measured_c),
        151: (F32, lambda _: -1.5),
        900: (U8, lambda now_s: winter_condition(surface_c(now_s))),
        1049: (S16, lambda now_s: 10 * measured_c(now_s)),
        1072: (U16, lambda now_s: 0 if is_icy(now_s) else 35),
        1075: (U8, lambda _: 0),
        1076: (U16, lambda now_s: 40 if is_icy(now_s) else 0),
        1077: (U8, lambda now_s: 20 if is_icy(now_s) else 65),
        10000: (F32, lambda _: 24.1),
    }
    return UmbDevice(
        address, channels, name="IRS31Pro", busy_s=busy_s, turnaround_s=turnaround_s, seed=seed
    )


def shm31(
    address: int = 0xB001,
    *,
    depth_cm: Source = winter_snow_cm,
    noise_cm: float = 0.1,
    busy_s: float = 0.0,
    turnaround_s: tuple[float, float] = TURNAROUND_S,
    seed: int = 0,
) -> UmbDevice:
    """A laser snow gauge. The truth is `depth_cm`."""
    noise = Random(seed)
    channels: dict[int, tuple[int, Source]] = {
        604: (F32, lambda now_s: depth_cm(now_s) + noise.gauss(0.0, noise_cm)),
        4000: (U16, lambda _: 0),
        10000: (F32, lambda _: 23.8),
    }
    return UmbDevice(
        address, channels, name="SHM31", busy_s=busy_s, turnaround_s=turnaround_s, seed=seed
    )


def _build(options: Any, seed: int) -> UmbDevice:
    make = shm31 if options.model == "shm31" else irs31pro
    return make(options.target, seed=seed)


def _says(status: int) -> Callable[[UmbDevice], object]:
    return lambda device: setattr(device, "status", status)


EMULATION = Emulation(
    _build,
    options={"model": "irs31pro"},
    truth={
        "surface_temperature_c": (-8.5, 2.5),
        "condition": frozenset(("ice", "frost", "wet")),
        "friction": (0.0, 1.0),
    },
    complaints={
        "busy": Complaint(_says(BUSY), "warmup"),
        "could not measure": Complaint(_says(0x55), "weak_signal"),
        "low voltage": Complaint(_says(0x29), "bus_error"),
    },
)
