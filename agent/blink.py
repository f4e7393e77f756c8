"""What a lamp says to somebody without a laptop: a heartbeat when all is well, else a number.

The number is that of the first failure in the order of diagnosis, as `yukimi doctor` counts: 2 a
sensor, 3 the network, 4 the clock, 5 the disk. Pure; time is an argument.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

SENSOR, NETWORK, CLOCK, DISK = 2, 3, 4, 5

# Slow enough to be counted by eye, and for few wake-ups.
FLASH_S, DARK_S, PAUSE_S = 0.25, 0.35, 2.0
BEAT_S, BETWEEN_BEATS_S = 0.1, 1.9

# A connection is sought for so long before anybody calls it missing.
PATIENCE_S = 60.0

Step = tuple[bool, float]  # on or off, and for how long


class Vitals(NamedTuple):
    """What the gateway knows of itself at one instant; nothing in it depends on persons."""

    disk_works: bool
    sensors: Collection[str]  # their states
    is_connected: bool
    time_is_known: bool
    at_s: float  # any clock that does not step


class Blinker:
    """What to blink, as time passes."""

    def __init__(self) -> None:
        self._offline_since_s: float | None = None

    def code(self, vitals: Vitals) -> int | None:
        """Return the number to blink; None when all is well."""
        if vitals.is_connected:
            self._offline_since_s = None
        elif self._offline_since_s is None:
            self._offline_since_s = vitals.at_s
        if not vitals.disk_works:
            return DISK
        if any(state in ("silent", "ignored") for state in vitals.sensors):
            return SENSOR
        if self._offline_since_s is not None:
            # The time may be unknown for that reason: the network comes first.
            is_long = vitals.at_s - self._offline_since_s >= PATIENCE_S
            return NETWORK if is_long else None
        return None if vitals.time_is_known else CLOCK


def pattern(code: int | None) -> list[Step]:
    """Return one round of the lamp."""
    if code is None:
        return [(True, BEAT_S), (False, BETWEEN_BEATS_S)]
    flashes = [(True, FLASH_S), (False, DARK_S)] * code
    return [*flashes[:-1], (False, DARK_S + PAUSE_S)]
