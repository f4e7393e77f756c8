"""The alert rules: which conditions hold, by what a sensor said and by what its records say.

A rule with a threshold raises at it and is over only beyond a second one, so that noise around the
first makes no noise here; between the two nothing is said, and the episode stays what it was. How
long a condition must have been gone is the book's matter (`alerts`). Rules about people see
released figures only: they read the same record that leaves.

What happens at an instant (a door, the mains, the supply) is told by single readings, at once. All
else is told by closed windows: a single echo calls no plough.

A sensor in maintenance says nothing new, and what was said of it stays until it works again. A
value that is missing says neither that a condition holds nor that it is over.

Pure: time is in the records and readings.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from config.model import AlertsTable
from drivers.base import Reading

from .phenomena.closed import NO_FACTS, Facts
from .record import Record, Severity

# Of readings; each by one name, whatever the driver.
DOOR, POWER, THROTTLED, SUPPLY = "open", "power_ok", "throttled", "supply_v"
TOLD_AT_ONCE = frozenset((DOOR, POWER, THROTTLED, SUPPLY))

# A dispatch is over with its storm: then there is none, or another one with less than this share.
STORM_OVER = 0.5
# A crowd is over below this share of the threshold, and by more than the noise can be.
CROWD_OVER = 0.9
NOISE_SDS = 3.0
STEP_CM = 5.0  # further snow that is news
# A class has no second threshold: it is over once nothing was seen of it for so long.
CALM_S = 1800.0
CALM = "not "

CONDITION_NAMES: Mapping[str, Mapping[str, str]] = {
    "dry": {"ja": "乾燥", "en": "dry"},
    "moist": {"ja": "湿潤", "en": "moist"},
    "wet": {"ja": "湿潤", "en": "wet"},
    "wet_salt": {"ja": "湿潤（塩分あり）", "en": "wet with salt"},
    "slush": {"ja": "シャーベット", "en": "slush"},
    "frost": {"ja": "霜", "en": "frost"},
    "snow": {"ja": "新雪", "en": "snow"},
    "packed_snow": {"ja": "圧雪", "en": "packed snow"},
    "ice": {"ja": "氷板・氷膜", "en": "ice"},
    "unknown": {"ja": "不明", "en": "unknown"},
    "fault": {"ja": "不明", "en": "unknown"},
}

# Which kind of sensor a rule looks at, and what it must measure one of; all others at any.
_SURFACE = frozenset(("surface_temperature_c",))
_SNOW = frozenset(("depth_cm",))
_LOOKS_AT: Mapping[str, tuple[str | None, frozenset[str]]] = {
    "snow_dispatch": ("snow", _SNOW),
    "snow_forecast": ("snow", _SNOW),
    "freezing": ("road", _SURFACE),
    "freezing_forecast": ("road", _SURFACE),
    "slippery": ("road", frozenset(("condition", "friction", "ice_mm", *_SURFACE))),
    "crowding": ("people", frozenset()),
    "cabinet_door": (None, frozenset((DOOR,))),
    "power_fail": (None, frozenset((POWER,))),
}

Key = tuple[str | None, str]  # sensor, None for the gateway's own; name of the rule


class Subject(NamedTuple):
    """What a rule must know of a sensor beside its records."""

    kind: str
    place: Mapping[str, str]  # its label, by language; its id where there is none
    quantities: frozenset[str] = frozenset()
    in_maintenance: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition that holds, or does not any more."""

    name: str
    sensor: str | None
    kind: str
    is_there: bool
    values: Mapping[str, object] = field(default_factory=dict)
    severity: Severity | None = None  # None: the rule's own
    at_ns: int | None = None  # UTC, where it is not now

    @property
    def key(self) -> Key:
        """Whose episode it is."""
        return self.sensor, self.name


class Rules:
    """The rules of one gateway; `active` are the episodes that an earlier life left open."""

    def __init__(
        self,
        settings: AlertsTable,
        subjects: Mapping[str, Subject],
        active: Collection[Key] = (),
    ) -> None:
        self._settings = settings
        self._subjects = subjects
        self._there: set[Key] = {key for key in active if key[0] in subjects}
        self._since_ns: dict[Key, int] = {}  # of what must last before it is said
        self.at_work: set[str] = set()  # sensors at which somebody works just now

    def may_speak_of(self, sensor: str, name: str) -> bool:
        """Tell whether an open episode can still be ended: by a rule, of what a sensor measures."""
        rule, subject = getattr(self._settings, name, None), self._subjects.get(sensor)
        if rule is None or subject is None or not rule.enabled:
            return False
        if name == "undervoltage" and THROTTLED not in subject.quantities:
            return SUPPLY in subject.quantities and rule.supply_v is not None
        kind, quantities = _LOOKS_AT.get(name, (None, frozenset()))
        return kind in (None, subject.kind) and bool(
            not quantities or quantities & subject.quantities
        )

    # What sensors say

    def hear(self, sensor: str, reading: Reading) -> Finding | None:
        """Return what a single reading tells, if a rule looks at its quantity."""
        if reading.value is None or reading.quantity not in TOLD_AT_ONCE:
            return None
        match reading.quantity:
            case "open":
                return self._at_once("cabinet_door", sensor, reading.value == "yes")
            case "power_ok":
                return self._at_once("power_fail", sensor, reading.value == "no")
            case "throttled":
                return self._at_once("undervoltage", sensor, reading.value == "under_voltage")
            case _:
                return self._supply(sensor, float(reading.value))

    def _at_once(self, name: str, sensor: str, is_there: bool) -> Finding | None:
        return self._found(name, sensor, is_there, {})

    def _supply(self, sensor: str, supply_v: float) -> Finding | None:
        rule = self._settings.undervoltage
        if rule.supply_v is None:
            return None
        is_there = self._is_below(
            (sensor, "undervoltage"), supply_v, rule.supply_v, rule.hysteresis_v
        )
        return self._found("undervoltage", sensor, is_there, {"supply_v": round(supply_v, 2)})

    # What records say

    def look(self, record: Record, facts: Facts = NO_FACTS) -> Iterator[Finding]:
        """Yield what a closed window tells; `facts` are those of its sensor's phenomenon."""
        yield from _some(self._missing(record), self._obstructed(record))
        match record.kind:
            case "snow":
                yield from _some(self._dispatch(record, facts), self._snow_forecast(record, facts))
            case "road":
                yield from _some(
                    self._freezing(record), self._freezing_forecast(record), self._slippery(record)
                )
            case "people":
                yield from _some(self._crowding(record))

    def _missing(self, record: Record) -> Finding | None:
        name, quality = "sensor_missing", record.quality
        reasons = _reasons(quality)
        if quality["flag"] == "not_evaluated" or "burned" in reasons:
            return None
        # By the best of its values: one that never comes is no sensor that is gone. What warms up
        # or is being served is there, and what cannot see is told of below.
        if quality["n"] or reasons & {"warmup", "maintenance"} or self._cannot_see(record):
            return self._over(name, record)
        if self._lasts(name, record, self._settings.sensor_missing.after_s):
            return self._found(name, record.stream, True, {"reasons": sorted(reasons)})
        return None

    def _obstructed(self, record: Record) -> Finding | None:
        name = "sensor_obstructed"
        if self._cannot_see(record):
            if self._lasts(name, record, self._settings.sensor_obstructed.after_s):
                return self._found(name, record.stream, True, {})
            return None
        # One that says nothing at all does not say that its view is free.
        return self._over(name, record) if record.quality["n"] else None

    def _cannot_see(self, record: Record) -> bool:
        """Tell whether something stands before a sensor; of people it is nobody's business."""
        if record.kind == "people" or record.quality["flag"] not in ("bad", "missing"):
            return False
        marked = _reasons(record.quality).union(*map(_reasons, _objects(record.values)))
        has_lens = record.kind in ("snow", "road") and not record.quality["n"]
        return "obstructed" in marked or (has_lens and "weak_signal" in marked)

    def _dispatch(self, record: Record, facts: Facts) -> Finding | None:
        rule, storm_cm = self._settings.snow_dispatch, facts.storm_cm
        if storm_cm is None:
            return None
        name = "snow_dispatch"
        over_cm = STORM_OVER * rule.new_snow_cm
        is_there = self._between(
            (record.stream, name), storm_cm >= rule.new_snow_cm, storm_cm < over_cm
        )
        values = {
            "new_snow_cm": round(storm_cm, 1),
            "threshold_cm": rule.new_snow_cm,
            "depth_cm": _number(record, "depth_cm"),
            "steps": int(storm_cm / STEP_CM),
        }
        return self._found(name, record.stream, is_there, values)

    def _snow_forecast(self, record: Record, facts: Facts) -> Finding | None:
        name, threshold_cm = "snow_forecast", self._settings.snow_dispatch.new_snow_cm
        forecast = record.values.get("forecast_new_snow_cm")
        new_cm, storm_cm = record.values.get("new_snow_cm"), facts.storm_cm
        if storm_cm is None or not isinstance(new_cm, int | float):
            return None
        if storm_cm >= threshold_cm or not isinstance(forecast, Mapping):
            # Nothing is expected any more where it has come, or where nothing can be expected.
            return self._over(name, record)
        end = "value" if self._settings.snow_forecast.when == "expected" else "high"
        expected_cm = storm_cm + float(forecast[end]) - new_cm
        is_there = self._between(
            (record.stream, name),
            expected_cm >= threshold_cm,
            expected_cm < 0.8 * threshold_cm,
        )
        values = {
            "expected_cm": round(expected_cm, 1),
            "threshold_cm": threshold_cm,
            "forecast": forecast,
        }
        return self._found(name, record.stream, is_there, values)

    def _freezing(self, record: Record) -> Finding | None:
        rule, surface_c = self._settings.freezing, _number(record, "surface_temperature_c")
        if surface_c is None:
            return None
        key = (record.stream, "freezing")
        is_there = self._is_below(key, surface_c, rule.surface_temperature_c, rule.hysteresis_k)
        values = {"surface_temperature_c": round(surface_c, 1)}
        return self._found("freezing", record.stream, is_there, values)

    def _freezing_forecast(self, record: Record) -> Finding | None:
        name, rule = "freezing_forecast", self._settings.freezing_forecast
        forecast = record.values.get("forecast_surface_temperature_c")
        surface_c = _number(record, "surface_temperature_c")
        if surface_c is None:
            return None
        if not isinstance(forecast, Mapping) or surface_c <= rule.surface_temperature_c:
            return self._over(name, record)
        expected_c = float(forecast["value" if rule.when == "expected" else "low"])
        is_there = self._is_below(
            (record.stream, name), expected_c, rule.surface_temperature_c, rule.hysteresis_k
        )
        values = {
            "surface_temperature_c": round(surface_c, 1),
            "expected_c": round(expected_c, 1),
            "forecast": forecast,
        }
        return self._found(name, record.stream, is_there, values)

    def _slippery(self, record: Record) -> Finding | None:
        rule, values = self._settings.slippery, record.values
        grade, risk = values.get("slipperiness"), values.get("black_ice_risk")
        if not isinstance(grade, int) and not isinstance(risk, int):
            return None
        is_slippery = isinstance(grade, int) and grade >= rule.slipperiness
        may_be_ice = isinstance(risk, int) and risk >= rule.black_ice_risk
        is_there = self._steady("slippery", record, is_slippery or may_be_ice, rule.after_s)
        condition = values.get("condition")
        mode = condition["mode"] if isinstance(condition, Mapping) else "unknown"
        told: dict[str, object] = {
            "condition": mode,
            "condition_name": CONDITION_NAMES.get(mode, CONDITION_NAMES["unknown"]),
            "slipperiness": grade,
            "black_ice_risk": risk,
            "surface_temperature_c": _number(record, "surface_temperature_c"),
        }
        return self._found("slippery", record.stream, is_there, told)

    def _crowding(self, record: Record) -> Finding | None:
        rule = self._settings.crowding
        counts = [
            each["unclamped"]
            for each in record.values.values()
            if isinstance(each, Mapping) and "unclamped" in each
        ]
        noise_sd = record.values.get("noise_sd")
        if not counts or not isinstance(noise_sd, int | float):
            return None
        if record.quality["flag"] not in ("good", "suspect"):
            return None
        noise = NOISE_SDS * noise_sd * math.sqrt(len(counts))
        persons = sum(counts)
        # In a part of a window fewer people pass.
        is_whole = record.quality["flag"] == "good" and not _reasons(record.quality)
        is_there = self._between(
            (record.stream, "crowding"),
            persons >= rule.persons,
            is_whole and persons < CROWD_OVER * rule.persons - noise,
        )
        values = {"persons": max(0, persons), "threshold": rule.persons}
        # A moment that tells of nobody.
        return self._found("crowding", record.stream, is_there, values, at_ns=record.end_ns)

    # How a condition holds

    def _is_below(self, key: Key, value: float, limit: float, hysteresis: float) -> bool | None:
        return self._between(key, value <= limit, value > limit + hysteresis)

    def _between(self, key: Key, begins: bool, is_over: bool) -> bool | None:
        """Tell whether it holds; None: between both, and nothing was there before."""
        if begins:
            return True
        return False if is_over else (True if key in self._there else None)

    def _lasts(self, name: str, record: Record, after_s: float) -> bool:
        """Tell whether what this window shows has lasted for long enough, or was said before."""
        key = (record.stream, name)
        since_ns = self._since_ns.setdefault(key, record.boot_start_ns)  # UTC may be set meanwhile
        return key in self._there or record.boot_end_ns - since_ns >= after_s * 1e9

    def _steady(self, name: str, record: Record, is_so: bool, after_s: float) -> bool | None:
        """Tell whether what may change with every window has held, or has been over, for long."""
        if is_so:
            self._since_ns.pop((record.stream, CALM + name), None)
            return True if self._lasts(name, record, after_s) else None
        self._since_ns.pop((record.stream, name), None)
        return False if self._lasts(CALM + name, record, CALM_S) else None

    def _over(self, name: str, record: Record) -> Finding | None:
        self._since_ns.pop((record.stream, name), None)
        return self._found(name, record.stream, False, {})

    def _found(
        self,
        name: str,
        sensor: str,
        is_there: bool | None,
        values: Mapping[str, object],
        *,
        at_ns: int | None = None,
    ) -> Finding | None:
        """Return the finding, unless nobody wants it or there is nothing to say."""
        key = (sensor, name)
        subject = self._subjects.get(sensor)
        if subject is None or not getattr(self._settings, name).enabled:
            return None
        if subject.in_maintenance or sensor in self.at_work:
            return None
        if is_there is None or (not is_there and key not in self._there):
            return None
        if not is_there:
            self._there.discard(key)
            return Finding(name, sensor, subject.kind, False, at_ns=at_ns)
        self._there.add(key)
        told = {"place": dict(subject.place), **values}
        return Finding(name, sensor, subject.kind, True, told, at_ns=at_ns)


def _some(*findings: Finding | None) -> Iterator[Finding]:
    return (finding for finding in findings if finding is not None)


def _reasons(mark: Mapping[str, Any]) -> set[str]:
    return set(mark.get("reasons", ()))


def _objects(values: Mapping[str, object]) -> Iterator[Mapping[str, Any]]:
    return (value for value in values.values() if isinstance(value, Mapping))


def _number(record: Record, quantity: str) -> float | None:
    """Return the median of a quantity that may be believed; None where there is none."""
    value = record.values.get(quantity)
    if not isinstance(value, Mapping):
        return None
    flag = value.get("flag", record.quality["flag"])
    return float(value["median"]) if flag in ("good", "suspect") else None
