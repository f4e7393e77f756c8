"""A Benewake TF lidar from its own side, over snow or across a way; alone or as one of a pair.

It measures as often as it was told, says its model's codes where it cannot, and keeps what it was
told until it loses power, unless it was told to save. Equal seeds tremble equally.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from math import inf
from random import Random
from typing import Any

from ..emulation import PERSONS_PER_MINUTE, Complaint, Emulation
from .beams import BeamCrowd
from .lufft import winter_snow_cm

# Where nothing comes back, the echo is too strong, the sun blinds it: (distance, strength).
_CODES = {
    "tfmini-s": ((-1, 40), (-2, -1), (-4, 900)),
    "tfmini-plus": ((-1, 40), (-2, -1), (-4, 900)),
    "tf-luna": ((0, 40), (0, -1), (0, -30000)),
    "tfmini": ((0, 10), (0, -1), (0, 10)),
    "tf02": ((0, 10), (0, -1), (0, 10)),
}
_RANGE_CM = {
    "tfmini": 1200.0,
    "tfmini-s": 1200.0,
    "tfmini-plus": 1200.0,
    "tf-luna": 800.0,
    "tf02": 2200.0,
}
_FACTORY_HZ = 100
_BOOT_S = 0.6
_PAUSE_S = 0.01


class TfDevice:
    """One lidar. Powered up when it is first looked at; `distance_cm` takes the time since then.

    `distance_cm` may be infinite: then nothing comes back. `weak_share` of all samples come back
    too weak. `obeys` off, its RXD wire is cut.
    """

    baud = 115200

    def __init__(
        self,
        distance_cm: Callable[[float], float],
        *,
        model: str = "tfmini-plus",
        noise_cm: float = 1.0,
        weak_share: float = 0.0,
        strength: int = 2000,
        obeys: bool = True,
        seed: int = 0,
    ) -> None:
        self.distance_cm = distance_cm
        self.weak_share = weak_share
        self.obeys = obeys and model not in ("tfmini", "tf02")
        self.is_saturated = self.is_blinded = False
        self.rate_hz = _FACTORY_HZ
        self.saves = 0
        self._model = model
        self._noise_cm = noise_cm
        self._strength = strength
        self._random = Random(seed)
        self._in_mm = False
        self._saved = (_FACTORY_HZ, False)
        self._frozen: bytes | None = None
        self._freezes = False
        self._begun_s: float | None = None
        self._next_s = self._booted_s = 0.0
        self._heard = bytearray()
        self._replies: list[tuple[float, bytes]] = []

    def freeze(self) -> None:
        """Repeat the next frame until a reset."""
        self._freezes = True

    def power_cycle(self, now_s: float, *, off_s: float = 0.0) -> None:
        """Lose power for a while, and all that was not saved."""
        self._begin(now_s)
        self.rate_hz, self._in_mm = self._saved
        self._freezes, self._frozen = False, None
        self._next_s = self._booted_s = now_s + off_s + _BOOT_S
        self._heard.clear()
        self._replies.clear()

    def hear(self, data: bytes, now_s: float) -> None:
        """Take commands: 5A, length, id, ..., sum."""
        self._begin(now_s)
        if not self.obeys or now_s < self._booted_s:
            return
        self._heard += data
        while True:
            begin = self._heard.find(b"\x5a")
            if begin < 0:
                self._heard.clear()
                return
            del self._heard[:begin]
            if len(self._heard) < 2:
                return
            length = self._heard[1]
            if not 4 <= length <= 8:
                del self._heard[:1]
                continue
            if len(self._heard) < length:
                return
            whole = bytes(self._heard[:length])
            if sum(whole[:-1]) % 256 != whole[-1]:
                del self._heard[:1]
                continue
            del self._heard[:length]
            self._obey(whole[2], whole[3:-1], now_s)

    def speak(self, now_s: float) -> bytes:
        """Return the answers and frames due by `now_s`."""
        self._begin(now_s)
        said = b""
        while self.rate_hz and self._next_s <= now_s:
            said += self._frame(self._next_s - (self._begun_s or 0.0))
            self._next_s += 1 / self.rate_hz
        due = b"".join(reply for at_s, reply in self._replies if at_s <= now_s)
        self._replies = [each for each in self._replies if each[0] > now_s]
        return said + due

    def _begin(self, now_s: float) -> None:
        if self._begun_s is None:
            self._begun_s = self._next_s = now_s

    def _obey(self, identifier: int, value: bytes, now_s: float) -> None:
        told = value
        if identifier == 0x01:
            told = bytes((3, 2, 1))  # 1.2.3
        elif identifier == 0x02:
            told = b"\x00"
        elif identifier == 0x03:
            self.rate_hz = value[0] + 256 * value[1]
            self._next_s = now_s + 1 / self.rate_hz if self.rate_hz else inf
        elif identifier == 0x05:
            self._in_mm = value == b"\x06"
        elif identifier == 0x11:
            self.saves += 1
            self._saved = (self.rate_hz, self._in_mm)
            told = b"\x00"
        else:
            return
        body = bytes((0x5A, len(told) + 4, identifier)) + told
        self._replies.append((now_s + _PAUSE_S, body + bytes((sum(body) % 256,))))
        if identifier == 0x02:
            replies, self._replies = self._replies, []
            self.power_cycle(now_s)
            self._replies = replies

    def _frame(self, at_s: float) -> bytes:
        # Always as many draws, so that one fault does not change the rest.
        weak = self._random.random() < self.weak_share
        noise_cm = self._random.gauss(0.0, self._noise_cm)
        strength = self._strength + self._random.randint(-20, 20)
        true_cm = self.distance_cm(at_s)
        nothing, too_strong, sun = _CODES[self._model]
        if self.is_blinded:
            distance, strength = sun
        elif self.is_saturated:
            distance, strength = too_strong
        elif weak or true_cm > _RANGE_CM[self._model]:
            distance, strength = nothing
        else:
            distance = round((true_cm + noise_cm) * (10 if self._in_mm else 1))
        third = b"\x00\x00" if self._model == "tfmini" else struct.pack("<H", (25 + 256) * 8)
        body = b"\x59\x59" + struct.pack("<hH", distance, strength & 0xFFFF) + third
        frame = body + bytes((sum(body) % 256,))
        if self._freezes:
            self._frozen = self._frozen or frame
            return self._frozen
        return frame


class Way:
    """A way with a wall opposite two beams; `crowd.passages` is the truth about who came by."""

    def __init__(self, crowd: BeamCrowd, *, wall_cm: float = 400.0, body_cm: float = 150.0) -> None:
        """`crowd` breaks beams 0 and 1, with level 1."""
        self.crowd = crowd
        self._wall_cm = wall_cm
        self._body_cm = body_cm
        self._changes: tuple[deque[tuple[float, int]], ...] = (deque(), deque())
        self._blocked = [0, 0]

    @classmethod
    def with_people(cls, seed: int, persons_per_minute: float, **given: float) -> Way:
        """Return a way on which people come one at a time, for ever, and some turn back."""
        crowd = BeamCrowd(seed, persons_per_minute, 0, 1, blocked_level=1)
        return cls(crowd, **given)

    def beam(self, number: int) -> Callable[[float], float]:
        """Return how far beam 0 or 1 goes, by time; each beam's time never goes back."""

        def far_cm(at_s: float) -> float:
            self._watch(at_s)
            changes = self._changes[number]
            while changes and changes[0][0] <= at_s:
                self._blocked[number] = changes.popleft()[1]
            return self._body_cm if self._blocked[number] else self._wall_cm

        return far_cm

    def _watch(self, until_s: float) -> None:
        for at_s, pin, level in self.crowd.changes(until_s):
            self._changes[pin].append((at_s, level))


def _build(options: Any, seed: int) -> TfDevice:
    height_cm = options.mount_height_cm or 350.0
    return TfDevice(
        lambda at_s: float(height_cm - winter_snow_cm(at_s)), model=options.model, seed=seed
    )


def _build_pair(options: Any, seed: int) -> tuple[TfDevice, TfDevice]:
    way = Way.with_people(seed, PERSONS_PER_MINUTE)
    a, b = (
        TfDevice(way.beam(number), model=options.model, seed=seed + number) for number in (0, 1)
    )
    return a, b


def _set(device: TfDevice, name: str) -> None:
    setattr(device, name, True)


def _send_away(device: TfDevice) -> None:
    device.distance_cm = lambda _: inf


EMULATION = Emulation(
    _build,
    options={"model": "tf-luna", "mount_height_cm": 350.0},
    truth={"distance_cm": (305.0, 325.0), "depth_cm": (25.0, 45.0)},
    measures_after_s=3.0,
    complaints={
        "nothing comes back": Complaint(_send_away, "weak_signal"),
        "too strong": Complaint(lambda device: _set(device, "is_saturated"), "out_of_range"),
        "sunlight": Complaint(lambda device: _set(device, "is_blinded"), "weak_signal"),
    },
    freeze=TfDevice.freeze,
)
PAIR = Emulation(
    _build_pair,
    options={"model": "tfmini-s", "port_b": "/dev/ttyUSB1"},
    measures_after_s=13.0,
    freeze=lambda pair: [device.freeze() for device in pair],
)
