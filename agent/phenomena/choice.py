"""Which phenomena a sensor's windows show: by the kind of its records, and what it measures."""

from __future__ import annotations

from collections.abc import Collection

from .closed import Phenomenon
from .forecast import new_snow_forecaster, surface_forecaster
from .foresight import Foresight
from .road import Road
from .snow import DEPTH, Snow
from .weather import Surroundings

SURFACE = "surface_temperature_c"


def phenomenon_of(
    kind: str, quantities: Collection[str], surroundings: Surroundings, *, moves: bool
) -> Phenomenon | None:
    """Return what is computed from such a sensor's windows; None where it is nothing.

    A gateway that `moves` sees another place in each window: it forecasts none.
    """
    if kind == "snow" and DEPTH in quantities:
        snow = Snow()
        return snow if moves else Foresight(snow, "new_snow_cm", new_snow_forecaster())
    if kind == "road":
        road = Road(surroundings, moves=moves)
        has_forecast = SURFACE in quantities and not moves
        return Foresight(road, SURFACE, surface_forecaster()) if has_forecast else road
    return None
