"""A MaxBotix snow ranger from its own side: it talks all the time, and listens to nobody."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from ..emulation import Complaint, Emulation
from .bme280 import air_c as winter_air_c
from .lufft import winter_snow_cm

NO_TARGET_MM = {5: 5000, 10: 9999}
BANNER = b"MB7374 HRXL-MaxSonar-WRS\rPN:MB7374\rCopyright 2011-2015\rMaxBotix Inc.\rTempI\r"


class MaxBotixDevice:
    """Hangs `mount_height_cm` over the ground and measures down to the top of `depth_cm`.

    The truth is `depth_cm` itself. The shares say how often nothing comes back, how often a
    snowflake answers in place of the surface, and how often a 0xFF slips in before a frame. It
    knows how long the echo took, and calculates with the speed of sound by its own thermometer,
    which the sun and its own warmth make wrong by `thermometer_error_c`. Equal seeds speak equally.
    """

    def __init__(
        self,
        depth_cm: Callable[[float], float],
        *,
        mount_height_cm: float = 350.0,
        range_m: int = 5,
        min_mm: int = 500,
        noise_mm: float = 2.0,
        air_c: Callable[[float], float] = winter_air_c,
        thermometer_error_c: Callable[[float], float] = lambda _: 0.0,
        no_target_share: float = 0.0,
        snowflake_share: float = 0.0,
        rogue_share: float = 0.0,
        rate_hz: float = 6.7,
        seed: int = 0,
    ) -> None:
        self.depth_cm = depth_cm
        self._mount_height_cm = mount_height_cm
        self._no_target_mm = NO_TARGET_MM[range_m]
        self._min_mm = min_mm
        self._noise_mm = noise_mm
        self._air_c = air_c
        self._thermometer_error_c = thermometer_error_c
        self.no_target_share = no_target_share
        self.snowflake_share = snowflake_share
        self._rogue_share = rogue_share
        self._rate_hz = rate_hz
        self._random = Random(seed)
        self._flakes = Random(seed + 1)
        self._powered_s: float | None = None
        self._said = 0  # frames since power-up

    def hear(self, data: bytes, now_s: float) -> None:
        """Hear nothing: there is no wire to it."""

    def speak(self, now_s: float) -> bytes:
        """Return the banner at power-up, then every frame due by `now_s`."""
        said = b""
        if self._powered_s is None:
            self._powered_s = now_s
            said = BANNER
        while (at_s := self._powered_s + (self._said + 1) / self._rate_hz) <= now_s:
            said += self._frame(at_s)
            self._said += 1
        return said

    def miss(self, now_s: float) -> None:
        """Go on until `now_s` with nobody there to hear it."""
        if self._powered_s is None:
            self._powered_s = now_s
        self._said = max(self._said, int((now_s - self._powered_s) * self._rate_hz))

    def _frame(self, at_s: float) -> bytes:
        # Always three draws, so that switching one fault on does not change the rest.
        no_target = self._random.random() < self.no_target_share
        rogue = self._random.random() < self._rogue_share
        noise_mm = self._random.gauss(0.0, self._noise_mm)
        true_mm = 10 * (self._mount_height_cm - self.depth_cm(at_s))
        if self.snowflake_share and self._flakes.random() < self.snowflake_share:
            true_mm = self._flakes.uniform(self._min_mm, 0.9 * true_mm)
        error_c = self._thermometer_error_c(at_s)
        if error_c:
            true_mm *= (1 + error_c / (self._air_c(at_s) + 273.15)) ** 0.5
        distance_mm = round(true_mm + noise_mm)
        shown_mm = min(max(distance_mm, self._min_mm), self._no_target_mm)
        if no_target:
            shown_mm = self._no_target_mm
        return (b"\xff" if rogue else b"") + b"R%04d\r" % shown_mm


def _build(options: Any, seed: int) -> MaxBotixDevice:
    return MaxBotixDevice(
        winter_snow_cm,
        mount_height_cm=options.mount_height_cm,
        range_m=options.range_m,
        min_mm=round(10 * options.min_cm),
        seed=seed,
    )


def _hold(device: MaxBotixDevice, depth_cm: float) -> None:
    device.depth_cm = lambda _: depth_cm


EMULATION = Emulation(
    _build,
    options={"mount_height_cm": 350.0},
    truth={"distance_cm": (305.0, 325.0), "depth_cm": (25.0, 45.0)},
    complaints={
        "no target": Complaint(lambda device: _hold(device, -1000.0), "weak_signal"),
        "too close": Complaint(lambda device: _hold(device, 340.0), "obstructed"),
    },
)
