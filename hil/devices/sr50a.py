"""A Campbell SR50A or SR50AT from its own side: asked, it measures for a second and answers.

It knows only how long the echo took. An SR50A calculates with the speed of sound at 0 degC; an
SR50AT, while it is set to say its temperature, with that of its own thermometer. A temperature
that somebody sends makes either calculate with that until it is switched off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from ..emulation import Complaint, Emulation
from .bme280 import air_c as winter_air_c
from .lufft import winter_snow_cm

TURNAROUND_S = (0.6, 1.0)  # of a measurement; a question for information is answered at once
INFORMATION_S = 0.05
LONGEST_LINE_BYTES = 32

_DISTANCE = {"m": ("%.3f", 1.0), "cm": ("%06.2f", 100.0), "mm": ("%04d", 1000.0)}
_NO_ECHO = {"m": "0.000", "cm": "000.00", "mm": "-999"}


class Sr50aDevice:
    """Hangs `mount_height_cm` over the ground and measures down to the top of `depth_cm`.

    The truth is `depth_cm` and the air, `air_c`. The shares say how often a snowflake answers in
    place of the ground, how many of those give a good echo, and how often nothing answers. Equal
    seeds speak equally.
    """

    def __init__(
        self,
        depth_cm: Callable[[float], float],
        *,
        air_c: Callable[[float], float] = winter_air_c,
        mount_height_cm: float = 350.0,
        address: str = "33",
        units: str = "m",
        fields: Sequence[str] = ("quality", "diagnostics"),
        has_thermometer: bool = False,
        noise_mm: float = 1.0,
        snowflake_share: float = 0.0,
        good_flake_share: float = 0.0,
        no_echo_share: float = 0.0,
        boot_s: float = 0.0,
        turnaround_s: tuple[float, float] = TURNAROUND_S,
        serial: str = "01234",
        seed: int = 0,
    ) -> None:
        self.depth_cm = depth_cm
        self.air_c = air_c
        self.snowflake_share = snowflake_share
        self.good_flake_share = good_flake_share
        self.no_echo_share = no_echo_share
        self.thermometer_works = has_thermometer
        self.diagnostics = "11111"
        self.turnaround_s = turnaround_s
        self.asked = 0  # questions for a measurement
        self._mount_height_cm = mount_height_cm
        self._address = address
        self._units = units
        self._fields = tuple(fields)
        self._noise_mm = noise_mm
        self._boot_s = boot_s
        self._serial = serial
        self._random = Random(seed)
        self._flakes = Random(seed + 1)
        self._powered_s: float | None = None
        self._told_c: float | None = None
        self._line = b""
        self._answers: list[tuple[float, str]] = []

    def power_cycle(self) -> None:
        """Be switched off and on again, at the next word."""
        self._powered_s = self._told_c = None
        self._line = b""
        self._answers.clear()

    def hear(self, data: bytes, now_s: float) -> None:
        """Take what is said on the line, and answer what is asked of this address."""
        if not self._is_up(now_s):
            return
        *lines, rest = (self._line + data).split(b"\r")
        self._line = rest[-LONGEST_LINE_BYTES:]
        for line in lines:
            # Others may have spoken before on the same line.
            asked = re.search(r"([pPiItT])(..)(;[-+.\d]{1,8})?$", line.decode("latin-1"))
            if asked is None or asked[2].upper() != self._address:
                continue
            command, value = asked[1].lower(), asked[3]
            if command == "p" and value is None:
                self.asked += 1
                done_s = now_s + self._random.uniform(*self.turnaround_s)
                self._answers.append((done_s, self._measurement(done_s)))
            elif command == "i" and value is None:
                information = f"{self._address};{self._serial};1.0;1.7;0A1B2;3C4D5"
                self._answers.append((now_s + INFORMATION_S, information))
            elif command == "t" and value is not None:
                self._told_c = float(value[1:])

    def speak(self, now_s: float) -> bytes:
        """Return the answers whose time has come."""
        if not self._is_up(now_s):
            return b""
        due = [answer for at_s, answer in self._answers if at_s <= now_s]
        self._answers = [(at_s, answer) for at_s, answer in self._answers if at_s > now_s]
        return b"".join(map(_frame, due))

    def _is_up(self, now_s: float) -> bool:
        if self._powered_s is None:
            self._powered_s = now_s
        return now_s - self._powered_s >= self._boot_s

    def _measurement(self, at_s: float) -> str:
        # Always the same draws, so that switching one fault on does not change the rest.
        is_flake = self._random.random() < self.snowflake_share
        is_lost = self._random.random() < self.no_echo_share
        noise_m = self._random.gauss(0.0, self._noise_mm) / 1000.0
        height = self._random.uniform(0.1, 0.9)  # of a flake
        good, poor = self._random.randint(152, 200), self._random.randint(310, 600)
        true_m = (self._mount_height_cm - self.depth_cm(at_s)) / 100.0
        if is_flake:
            true_m = 0.5 + height * max(0.0, true_m - 0.5)
        air_k = self.air_c(at_s) + 273.15
        told_c = self._own_c(at_s) if self._own_c(at_s) is not None else self._told_c
        assumed_k = 273.15 if told_c is None else told_c + 273.15
        shown_m: float = (true_m + noise_m) * (assumed_k / air_k) ** 0.5
        is_lost = is_lost or not 0.4 <= true_m <= 10.5
        form, per_metre = _DISTANCE[self._units]
        said = [_NO_ECHO[self._units] if is_lost else form % round(shown_m * per_metre, 6)]
        if "quality" in self._fields:
            is_poor = is_flake and self._flakes.random() >= self.good_flake_share
            quality = 0 if is_lost else poor if is_poor else good
            said.append(f"{quality:03d}")
        if "temperature" in self._fields:
            own_c = self._own_c(at_s)
            said.append("-999.00" if own_c is None else f"{own_c:05.2f}")
        if "diagnostics" in self._fields:
            said.append(self.diagnostics)
        return ";".join((self._address, *said))

    def _own_c(self, at_s: float) -> float | None:
        """Return what its thermometer says, where it has one and uses it."""
        if not self.thermometer_works or "temperature" not in self._fields:
            return None
        return self.air_c(at_s)


def _frame(text: str) -> bytes:
    """Wrap a text: STX, the text, the checksum over all that is sent besides it, CR, LF, ETX."""
    head = b"\x02" + text.encode("ascii") + b";"
    total = 0
    for byte in head + b"\r\n\x03":
        total = (total + byte) % 256
    return head + b"%02X" % ((256 - total) % 256) + b"\r\n\x03"


def _build(options: Any, seed: int) -> Sr50aDevice:
    return Sr50aDevice(
        winter_snow_cm,
        mount_height_cm=options.mount_height_cm,
        address=options.target,
        units=options.units,
        fields=options.extras,
        has_thermometer=options.model == "sr50at",
        seed=seed,
    )


def _always(fault: str) -> Callable[[Sr50aDevice], object]:
    return lambda device: setattr(device, fault, 1.0)


EMULATION = Emulation(
    _build,
    options={"model": "sr50at", "mount_height_cm": 350.0},
    truth={"distance_cm": (305.0, 325.0), "depth_cm": (25.0, 45.0)},
    complaints={
        "no echo": Complaint(_always("no_echo_share"), "weak_signal"),
        "falling snow": Complaint(_always("snowflake_share"), "weak_signal"),
        "thermometer lost": Complaint(
            lambda device: setattr(device, "thermometer_works", False), "uncalibrated"
        ),
        "memory damaged": Complaint(
            lambda device: setattr(device, "diagnostics", "01111"), "bus_error"
        ),
    },
)
