"""The air around: what any sensor of the gateway last told, for those that measure something else.

All sensors of a gateway are taken to be in the same air. A dew point that a device tells itself
goes before one computed here from the latest temperature and humidity, which may come from two
devices and then errs as far as these differ: 1 degC for each degree between them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from drivers.base import AIR_TEMPERATURE, Observation, Reading
from drivers.humidity import dew_point_c

AGE_MAX_S = 900.0
HUMIDITY, DEW_POINT = "humidity_percent", "dew_point_c"
OF_THE_AIR = frozenset((AIR_TEMPERATURE, HUMIDITY, DEW_POINT))


class _Told(NamedTuple):
    value: float
    at_boot_ns: int


class Surroundings:
    """The latest air temperature, humidity and dew point, each with its time.

    What is asked for an instant is None when nobody told it in the 15 minutes before.
    """

    def __init__(self) -> None:
        self._latest: dict[str, _Told] = {}

    def hear(self, observation: Observation) -> None:
        """Take what a sensor said; only valid readings of the air count."""
        match observation:
            case Reading(quantity=name, value=float() | int() as value, reasons=()) if (
                name in OF_THE_AIR and math.isfinite(value)
            ):
                before = self._latest.get(name)
                if before is None or observation.at_boot_ns >= before.at_boot_ns:
                    self._latest[name] = _Told(float(value), observation.at_boot_ns)

    def air_temperature_c(self, at_boot_ns: int) -> float | None:
        """Return the air's temperature in degC at an instant."""
        return self._at(AIR_TEMPERATURE, at_boot_ns)

    def humidity_percent(self, at_boot_ns: int) -> float | None:
        """Return the relative humidity over water in % at an instant."""
        return self._at(HUMIDITY, at_boot_ns)

    def dew_point_c(self, at_boot_ns: int) -> float | None:
        """Return the dew point over water in degC at an instant: told, else computed."""
        told = self._at(DEW_POINT, at_boot_ns)
        if told is not None:
            return told
        air_c, percent = self._at(AIR_TEMPERATURE, at_boot_ns), self._at(HUMIDITY, at_boot_ns)
        return None if air_c is None or percent is None else dew_point_c(air_c, percent)

    def _at(self, name: str, at_boot_ns: int) -> float | None:
        told = self._latest.get(name)
        if told is None or at_boot_ns - told.at_boot_ns > AGE_MAX_S * 1e9:
            return None
        return told.value
