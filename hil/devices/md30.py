"""A Vaisala MD30 from its own side: a unit on a patrol vehicle that answers what it is asked.

Written from the interface's description, not from the driver, with a CRC of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import Any

from ..emulation import Complaint, Emulation
from .lufft import winter_road_c

VERSION = b"D"
UNKNOWN_MESSAGE = 2
ANALYSES_PER_S = 40  # the example of the maker's client counts so
BOOT_S = 2.0
PAUSE_S = 0.2  # a longer one inside a message means that the rest will not come
PRODUCT = (
    ("Product Name", "MD30"),
    ("Serial Number", "R2730011"),
    ("SW Version", "1.1.0"),
)

DRY, WET, FROST, ICE = 1, 3, 5, 7
GRIP = {DRY: 0.82, WET: 0.65, FROST: 0.45, ICE: 0.2}


def winter_state(surface_c: float) -> int:
    """Return Vaisala's code for a road that was wet: ice, frost at the edge, else wet."""
    if surface_c < -2.0:
        return ICE
    return FROST if surface_c < 0.0 else WET


class Md30Device:
    """The truth is `surface_c`, and `winter_state` of it unless `state` is set.

    `warnings`, `errors` (bit masks) and `error_code` are what it complains about.
    """

    def __init__(
        self,
        *,
        unit: int = 1,
        surface_c: Callable[[float], float] = winter_road_c,
        turnaround_s: float = 0.02,
        seed: int = 0,
    ) -> None:
        self.unit = unit
        self.surface_c = surface_c
        self.state: int | None = None
        self.warnings = self.errors = self.error_code = 0
        self.product = list(PRODUCT)
        self.parameters = {0x13: bytes((unit,)), 0x30: b"\0", 0x31: b"\0"}
        self.turnaround_s = turnaround_s
        self.is_frozen = False
        self._frozen_report = b""
        self._random = Random(seed)
        self._powered_s: float | None = None
        self._stream_s = 0.0  # interval; 0 = no stream
        self._next_stream_s = 0.0
        self._streamed_to = (0, 0)
        self._heard = b""
        self._heard_s = 0.0
        self._answers: list[tuple[float, bytes]] = []

    def power_cycle(self, now_s: float) -> None:
        """Lose everything but what is in its memory, and boot."""
        self._powered_s = now_s
        self._stream_s = 0.0
        self._heard = b""
        self._answers = []

    def hear(self, data: bytes, now_s: float) -> None:
        """Take the host's bytes, and answer whole messages for this unit."""
        self._power_up(now_s)
        if now_s - self._heard_s > PAUSE_S:
            self._heard = b""
        self._heard_s = now_s
        self._heard += data
        while (start := self._heard.find(b"\xab")) >= 0:
            self._heard = self._heard[start:]
            if len(self._heard) < 7:
                return
            size = 9 + int.from_bytes(self._heard[5:7], "little")
            if size > 132:
                self._heard = self._heard[1:]
                continue
            if len(self._heard) < size:
                return
            message = self._heard[:size]
            if _crc(message[1:-2]) != message[-2:]:
                self._heard = self._heard[1:]
                continue
            self._heard = self._heard[size:]
            if message[2] == self.unit and not self._is_booting(now_s):
                self._answer(message, now_s)
        self._heard = b""

    def speak(self, now_s: float) -> bytes:
        """Return the answers whose time has come, and the stream."""
        self._power_up(now_s)
        while self._stream_s and self._next_stream_s <= now_s:
            receiver, number = self._streamed_to
            self._answers.append(
                (self._next_stream_s, self._message(receiver, 0x20, number, self._report(now_s)))
            )
            self._streamed_to = (receiver, (number + 1) % 256)
            self._next_stream_s += self._stream_s
        due = [answer for at_s, answer in self._answers if at_s <= now_s]
        self._answers = [(at_s, answer) for at_s, answer in self._answers if at_s > now_s]
        return b"".join(due)

    def _power_up(self, now_s: float) -> None:
        if self._powered_s is None:
            self._powered_s = now_s - BOOT_S  # it was powered with the vehicle, before us

    def _is_booting(self, now_s: float) -> bool:
        return self._powered_s is not None and now_s - self._powered_s < BOOT_S

    def _answer(self, message: bytes, now_s: float) -> None:
        sender, kind, number, data = message[1], message[3], message[4], message[7:-2]
        code, said = self.error_code, b""
        match kind:
            case 0x20 if len(data) == 2:
                self._stream_s = int.from_bytes(data, "little") / 1000.0
                self._next_stream_s = now_s + self._stream_s
                self._streamed_to = (sender, (number + 1) % 256)
                said = self._report(now_s)
            case 0x11:
                texts = [text.encode() for pair in self.product for text in pair]
                said = bytes((len(self.product),))
                said += b"".join(bytes((len(text),)) + text for text in texts)
            case 0x40 if data in {key.to_bytes(2, "little") for key in self.parameters}:
                said = data + self.parameters[int.from_bytes(data, "little")]
            case _:
                code = UNKNOWN_MESSAGE
        answer = self._message(sender, kind, number, b"" if code else said, code)
        self._answers.append((now_s + self.turnaround_s, answer))

    def _message(self, to: int, kind: int, number: int, data: bytes, code: int = 0) -> bytes:
        data = VERSION + bytes((code,)) + data
        checked = bytes((self.unit, to, kind, number)) + len(data).to_bytes(2, "little") + data
        return b"\xab" + checked + _crc(checked)

    def _report(self, now_s: float) -> bytes:
        if self.is_frozen and self._frozen_report:
            return self._frozen_report
        true_c = self.surface_c(now_s)
        state = winter_state(true_c) if self.state is None else self.state
        count = int((now_s - (self._powered_s or 0.0)) * ANALYSES_PER_S) % 65536
        air_c = true_c + 3.0
        report = struct.pack("<3H", count, self.warnings, self.errors)
        report += struct.pack("<4f", air_c, 80.0, air_c - 3.0, air_c - 3.0)
        report += struct.pack("<f2B", true_c + self._random.gauss(0.0, 0.05), state, state % 100)
        icy = state % 100 == ICE
        report += struct.pack(
            "<4f", GRIP.get(state % 100, 0.3), 0.0 if icy else 0.35, 0.4 if icy else 0.0, 0.0
        )
        self._frozen_report = report + struct.pack("<2I", 0, 0)
        return self._frozen_report


def _crc(message: bytes) -> bytes:
    """CRC-16/IBM-3740 bit by bit, as it goes over the line."""
    crc = 0xFFFF
    for byte in message:
        for bit in range(7, -1, -1):
            differs = (crc >> 15) ^ (byte >> bit & 1)
            crc = crc << 1 & 0xFFFF
            if differs:
                crc ^= 0x1021
    return crc.to_bytes(2, "little")


def _build(options: Any, seed: int) -> Md30Device:
    return Md30Device(unit=options.unit, seed=seed)


def _sets(name: str, value: int) -> Callable[[Md30Device], object]:
    return lambda device: setattr(device, name, value)


EMULATION = Emulation(
    _build,
    options={"interval_s": 1.0},
    truth={
        "surface_temperature_c": (-8.5, 2.5),
        "condition": frozenset(("ice", "frost", "wet")),
        "friction": (0.15, 0.85),
        "water_film_mm": (0.0, 0.4),
        "ice_mm": (0.0, 0.5),
        "snow_mm": (0.0, 0.1),
        "air_temperature_c": (-5.5, 5.5),
        "humidity_percent": (79.0, 81.0),
        "dew_point_c": (-8.5, 2.5),
    },
    complaints={
        "warning bits": Complaint(_sets("warnings", 0x7FF), "weak_signal"),
        "error bits": Complaint(_sets("errors", 0x7FF), "weak_signal"),
        "error code": Complaint(_sets("error_code", 3), "frame_error"),
    },
    freeze=_sets("is_frozen", True),  # its answers bear the number of their question
)
