"""What the city asks about a road: how slippery it is, and whether black ice must be feared.

Both come of a window's own values, the air around and, for the risk, the windows before. What is
missing is not used; where nothing is left to judge by, there is no value.

slipperiness    1 not very slippery, 2 slippery, 3 very slippery: the levels of Sapporo's forecast
                for pavements, by Hokkaido's classes of winter roads.
black_ice_risk  0 none, 1 possible, 2 likely: is there ice, or will there soon be, that is hard to
                see. docs/road.md has the table with its reasons.

Sources: Hokkaido's classes: Japanese Society of Snow and Ice (an ice plate has 1 mm or more, an ice
film less; black ice is a film). Forecast levels: Winter Life Promotion Council, Sapporo (1 dry,
wet, snow, slush; 2 frozen; 3 polished). [K]: the friction of each (Finland's classes in VTI
meddelande 911A); to what temperature salt melts ice in practice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from drivers.humidity import frost_point_c

from .closed import NO_FACTS, Closed, Facts
from .weather import Surroundings

LOW_FRICTION = 0.2  # below: ice, or polished snow
BARE_FRICTION = 0.45  # from here: no snow or ice grips so well
PLATE_MM = 1.0  # thinner ice is a film
SEEN_MM = 0.05  # five steps of the finest device; less is its noise

MARGIN_C = 0.5  # what a surface thermometer errs near 0 degC
DEPOSIT_SURE_C = 1.0  # what surface and dew point err together
MELTED_C = 2.0  # ice that a device still tells of on a warmer road is going or gone
SALT_HOLDS_C = -9.0  # below, road salt hardly melts anything
AHEAD_S = 3600.0  # a surface that cools goes on like that for so long
TREND_S, TREND_FROM_S, TREND_STEP_S = 3600.0, 1800.0, 60.0
SAME_S = 1.0  # by the clock that does not step a window is some milliseconds longer or shorter
FALL_MAX_C = 5.0  # an hour; faster is no cooling road

HYSTERESIS_C = 0.5
HOLD_S = 1800.0  # a lower risk must last so long before it is told

_SLIPPERINESS = {
    "dry": 1,
    "moist": 1,
    "wet": 1,
    "wet_salt": 1,
    "slush": 1,
    "snow": 1,
    "packed_snow": 2,
    "frost": 2,
}
_LIQUID = frozenset(("moist", "wet", "wet_salt", "slush"))
_WITHOUT_LIQUID = frozenset(("dry", "frost", "ice"))
_UNDER_SNOW = frozenset(("snow", "packed_snow"))  # what lies below is not seen


class Surface(NamedTuple):
    """A road's surface in one window; None is what nobody measured."""

    condition: str | None = None  # the contract's class
    friction: float | None = None
    water_mm: float | None = None
    ice_mm: float | None = None
    snow_mm: float | None = None
    temperature_c: float | None = None
    soon_c: float | None = None  # in an hour, if it goes on cooling; None: as now
    freezing_c: float | None = None  # of what lies on it, as the device tells
    dew_point_c: float | None = None  # of the air, over water

    @property
    def has_ice(self) -> bool:
        """Whether it says that ice lies on it, by its class or its layer."""
        return self.condition == "ice" or _is_seen(self.ice_mm)

    @property
    def is_wet(self) -> bool | None:
        """Whether water lies on it; None where nobody knows."""
        if self.condition in _LIQUID or _is_seen(self.water_mm):
            return True
        known = self.condition in _WITHOUT_LIQUID or self.water_mm is not None
        return False if known else None

    @property
    def melting_c(self) -> float:
        """What freezes on it does so at this temperature, or below 0 degC if nobody tells."""
        return 0.0 if self.freezing_c is None else min(0.0, self.freezing_c)


def slipperiness(road: Surface) -> int | None:
    """Return 1, 2 or 3; None where it cannot be told.

    Friction that low is very slippery whatever lies there. Else the class decides; without one the
    layers do, then friction that only a bare road has.
    """
    if road.condition == "fault":
        return None
    if road.friction is not None and road.friction < LOW_FRICTION:
        return 3
    level = _SLIPPERINESS.get(road.condition or "")
    if level is not None:
        return level
    if road.has_ice:
        # An ice film is what black ice is; of a plate nobody knows whether it is polished.
        return 3 if is_film(road.ice_mm) and road.friction is None else 2
    is_bare = road.friction is not None and road.friction >= BARE_FRICTION
    has_none = None not in (road.ice_mm, road.snow_mm) and not _is_seen(road.snow_mm)
    return 1 if is_bare or has_none else None


def black_ice_risk(road: Surface) -> int | None:
    """Return 0, 1 or 2 for one window alone; None where too little is known.

    Needs the surface's temperature, and either whether it is wet or iced, or the dew point.
    """
    if road.temperature_c is None or road.condition == "fault":
        return None
    cold_c = road.temperature_c
    soon_c = cold_c if road.soon_c is None else min(cold_c, road.soon_c)
    risks = (_by_water(road, cold_c, soon_c), _by_air(road, cold_c, soon_c), _by_ice(road, cold_c))
    return max((risk for risk in risks if risk is not None), default=None)


def _by_water(road: Surface, cold_c: float, soon_c: float) -> int | None:
    if not road.is_wet:
        return None if road.is_wet is None else 0
    likely_c = possible_c = road.melting_c
    if road.condition == "wet_salt" and road.freezing_c is None:  # brine of unknown strength
        likely_c = SALT_HOLDS_C
    if cold_c <= likely_c:
        return 2
    return 1 if soon_c <= possible_c + MARGIN_C else 0


def _by_air(road: Surface, cold_c: float, soon_c: float) -> int | None:
    if road.dew_point_c is None or road.condition in _UNDER_SNOW:
        return None
    melting_c = road.melting_c if road.is_wet else 0.0  # on brine no frost lasts
    deposit_c = frost_point_c(road.dew_point_c)
    if cold_c <= min(deposit_c - DEPOSIT_SURE_C, melting_c):
        return 2
    return 1 if cold_c <= deposit_c and soon_c <= melting_c else 0


def _by_ice(road: Surface, cold_c: float) -> int | None:
    if road.condition in _UNDER_SNOW:
        return None
    if road.has_ice:
        level = 1 if road.ice_mm is not None and road.ice_mm >= PLATE_MM else 2  # a plate is seen
    elif road.condition == "frost":
        level = 2 if _is_seen(road.water_mm) else 1  # white, until traffic wets and polishes it
    else:
        return None
    if cold_c > road.melting_c:
        level = level - 1 if cold_c <= MELTED_C else 0
    return level


def is_film(ice_mm: float | None) -> bool:
    """Tell whether an ice layer is there, and too thin for a plate."""
    return ice_mm is not None and SEEN_MM <= ice_mm < PLATE_MM


def _is_seen(layer_mm: float | None) -> bool:
    return layer_mm is not None and layer_mm >= SEEN_MM


class Road:
    """A road sensor's windows, in order: adds `slipperiness` and `black_ice_risk`.

    The risk rises at once. It falls when the surface is so much warmer that noise does not undo it
    the next minute, and has been for a while. That while begins anew with a restart, and covers the
    half hour in which there is no trend. A gateway that `moves` sees another road in each window:
    it has neither trend nor memory.
    """

    def __init__(self, surroundings: Surroundings, *, moves: bool = False) -> None:
        self._surroundings = surroundings
        self._moves = moves
        self._trend = Trend()
        self._risk = 0
        self._is_restored = False
        self._justified_ns: int | None = None  # when the risk told was last what a window said

    @property
    def facts(self) -> Facts:
        """What the alert rules need beyond the record: nothing."""
        return NO_FACTS

    def derive(self, closed: Closed) -> dict[str, object]:
        """Return those of the two values that can be told."""
        road = self._surface(closed)
        values: dict[str, object] = {}
        level = slipperiness(road)
        if level is not None:
            values["slipperiness"] = level
        risk = self._steady(road, closed.boot_end_ns)
        if risk is not None:
            values["black_ice_risk"] = risk
        return values

    def state(self) -> dict[str, Any]:
        """Return the risk that was told last."""
        return {"black_ice_risk": self._risk}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from the risk that was told last. Raises ValueError."""
        risk = state.get("black_ice_risk")
        if type(risk) is not int or risk not in (0, 1, 2):
            raise ValueError(f"a black ice risk of {risk!r}")
        self._risk = risk
        self._is_restored = True

    def _surface(self, closed: Closed) -> Surface:
        temperature_c = closed.number("surface_temperature_c")
        dew_c = closed.number("dew_point_c")
        if dew_c is None:
            dew_c = self._surroundings.dew_point_c(closed.boot_end_ns)
        soon_c = None
        if temperature_c is not None and not self._moves:
            fall_c_per_s = self._trend.add(temperature_c, closed.boot_end_ns)
            soon_c = temperature_c - fall_c_per_s * AHEAD_S
        return Surface(
            condition=closed.mode("condition"),
            friction=closed.number("friction"),
            water_mm=closed.number("water_film_mm"),
            ice_mm=closed.number("ice_mm"),
            snow_mm=closed.number("snow_mm"),
            temperature_c=temperature_c,
            soon_c=soon_c,
            freezing_c=closed.number("freezing_temperature_c"),
            dew_point_c=dew_c,
        )

    def _steady(self, road: Surface, at_ns: int) -> int | None:
        risk = black_ice_risk(road)
        if risk is None or self._moves:
            return risk
        if self._is_restored:
            self._is_restored, self._justified_ns = False, at_ns
        if risk < self._risk:
            risk = max(risk, min(self._risk, black_ice_risk(_cooler(road)) or 0))
        if risk >= self._risk:
            self._justified_ns = at_ns
        elif self._justified_ns is not None and at_ns - self._justified_ns < HOLD_S * 1e9:
            return self._risk
        self._risk = risk
        return risk


def _cooler(road: Surface) -> Surface:
    cold_c = (road.temperature_c or 0.0) - HYSTERESIS_C
    soon_c = None if road.soon_c is None else road.soon_c - HYSTERESIS_C
    return road._replace(temperature_c=cold_c, soon_c=soon_c)


class Trend:
    """How fast a surface cools, by a straight line through the last hour's medians."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque()  # seconds, degC

    def add(self, temperature_c: float, at_ns: int) -> float:
        """Take a window's temperature; return the fall in degC a second, 0 where it does not fall.

        Less than half an hour is no trend. Windows of less than a minute are taken once a minute.
        """
        at_s = at_ns / 1e9
        points = self._points
        if not points or at_s - points[-1][0] >= TREND_STEP_S - SAME_S:
            points.append((at_s, temperature_c))
        while points[0][0] < at_s - TREND_S - SAME_S:
            points.popleft()
        if at_s - points[0][0] < TREND_FROM_S - SAME_S:
            return 0.0
        n = len(points)
        mean_s = sum(each[0] for each in points) / n
        mean_c = sum(each[1] for each in points) / n
        spread = sum((each[0] - mean_s) ** 2 for each in points)
        slope = sum((s - mean_s) * (c - mean_c) for s, c in points) / spread if spread else 0.0
        return min(max(0.0, -slope), FALL_MAX_C / 3600)


class Foreign(NamedTuple):
    """A state of the road in other people's codes."""

    ntcip: int  # NTCIP 1204 essSurfaceStatus
    datex: tuple[str, ...]  # DATEX II weather-related road conditions; empty: it has no word


# NTCIP cannot tell packed snow from slush, so these lose what our classes say.
FOREIGN: Mapping[str, Foreign] = {
    "dry": Foreign(3, ("dry",)),
    "moist": Foreign(4, ("moist",)),
    "wet": Foreign(5, ("wet",)),
    "wet_salt": Foreign(6, ("wet",)),
    "slush": Foreign(9, ("slushOnRoad",)),
    "frost": Foreign(13, ()),
    "snow": Foreign(9, ("looseSnow",)),
    "packed_snow": Foreign(9, ("packedSnow",)),
    "ice": Foreign(7, ("ice",)),
    "unknown": Foreign(1, ()),
    "fault": Foreign(2, ()),
}


def foreign(
    condition: str, *, slipperiness: int | None = None, ice_mm: float | None = None
) -> Foreign:
    """Return the foreign codes of a class, as closely as they can tell it."""
    if condition == "packed_snow" and slipperiness == 3:
        return Foreign(7, ("packedSnow", "slipperyRoad"))
    if condition == "ice" and is_film(ice_mm):
        return Foreign(7, ("blackIce",))
    return FOREIGN[condition]
