"""FIWARE: a record as an NGSI-LD entity. Pure.

`CrowdFlowObserved` and `WeatherObserved` are models of smartdatamodels.org. For roads there is
none: `RoadSurfaceObserved` is our own, described in docs/formats.md. An attribute that was not
measured, may not be believed, or is negative where that makes no sense, is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from agent.phenomena.road import FOREIGN, foreign

from .observed import Observed

Entity = dict[str, Any]

# Where the attributes' names are defined; our own of roads mean what docs/formats.md says.
CONTEXTS = {
    "CrowdFlowObserved": "https://raw.githubusercontent.com/smart-data-models/"
    "dataModel.Transportation/master/context.jsonld",
    "WeatherObserved": "https://raw.githubusercontent.com/smart-data-models/"
    "dataModel.Weather/master/context.jsonld",
}
CORE_CONTEXT = "https://uri.etsi.org/ngsi-ld/v1/ngsi-ld-core-context-v1.8.jsonld"

_CLASS_JA = {
    "dry": "乾燥",
    "moist": "湿潤",
    "wet": "湿潤",
    "wet_salt": "湿潤(塩)",
    "slush": "シャーベット",
    "frost": "霜",
    "snow": "新雪・こな雪",
    "packed_snow": "圧雪",
    "ice": "氷板・氷膜",
}


def entity(one: Observed) -> Entity | None:
    """Return a record as an entity in its simplified form; None where there is nothing to say.

    One entity a sensor: the newest record writes over the one before.
    """
    if not one.is_usable or one.place is None:
        return None
    if one.kind == "people":
        name, said = "CrowdFlowObserved", _crowd(one)
    elif one.kind in ("snow", "weather"):
        name, said = "WeatherObserved", _weather(one)
    elif one.kind == "road":
        name, said = "RoadSurfaceObserved", _road(one)
    else:
        return None
    said = {key: value for key, value in said.items() if value is not None}
    if not said:
        return None
    latitude, longitude = one.place
    return {
        "id": f"urn:ngsi-ld:{name}:{one.gateway}:{one.stream}",
        "type": name,
        "dateObserved": f"{one.start_utc}/{one.end_utc}" if one.kind == "people" else one.end_utc,
        "location": {"type": "Point", "coordinates": [longitude, latitude]},
        "dataProvider": one.gateway,
        "refDevice": f"urn:ngsi-ld:Device:{one.gateway}:{one.stream}",
        **({"name": one.label_en} if one.label_en else {}),
        **({"alternateName": one.label_ja} if one.label_ja else {}),
        **({"owner": [one.owner]} if one.owner else {}),
        **({"license": one.licence} if one.licence else {}),
        **said,
    }


def normalized(simplified: Entity) -> Entity:
    """Return an entity as NGSI-LD's normalized form, which every broker takes."""
    whole: Entity = {"id": simplified["id"], "type": simplified["type"]}
    for name, value in simplified.items():
        if name in whole:
            continue
        if name == "location":
            whole[name] = {"type": "GeoProperty", "value": value}
        elif name == "refDevice":
            whole[name] = {"type": "Relationship", "object": value}
        elif name.startswith("dateObserved") and "/" not in value:
            whole[name] = {"type": "Property", "value": {"@type": "DateTime", "@value": value}}
        else:
            whole[name] = {"type": "Property", "value": value}
    own = CONTEXTS.get(simplified["type"])
    whole["@context"] = [own, CORE_CONTEXT] if own else [CORE_CONTEXT]
    return whole


def _crowd(one: Observed) -> Mapping[str, Any]:
    towards, away, total = (_shown(one, way) for way in ("towards", "away", "total"))
    if total is None and towards is not None and away is not None:
        total = towards + away
    if total is None and towards is None and away is None:
        return {}
    return {
        "dateObservedFrom": one.start_utc,
        "dateObservedTo": one.end_utc,
        "peopleCount": total,
        "peopleCountTowards": towards,
        "peopleCountAway": away,
        "unclampedTowards": one.count("towards", "unclamped"),
        "unclampedAway": one.count("away", "unclamped"),
        "unclampedTotal": one.count("total", "unclamped"),
        "directionTowards": one.direction("towards", "en"),
        "directionAway": one.direction("away", "en"),
        "privacyMechanism": "discrete-laplace",
        "privacyEpsilon": _epsilon(one.values.get("epsilon")),
        "privacyUnit": "crossing",
        "noiseStdDev": one.mean("noise_sd"),
        "privacyPolicyHash": one.policy and f"sha256:{one.policy}",
    }


def _shown(one: Observed, way: str) -> int | None:
    count = one.count(way)
    return count if count is not None and count >= 0 else None


def _epsilon(told: object) -> float | None:
    try:
        return float(Fraction(told)) if isinstance(told, str) else None
    except (ValueError, ZeroDivisionError):
        return None


def _weather(one: Observed) -> Mapping[str, Any]:
    humidity = one.mean("humidity_percent")
    return {
        "snowHeight": _not_negative(one.mean("depth_cm")),
        "snowfall1h": _not_negative(one.mean("snowfall_cm")),
        "newSnow": _not_negative(one.mean("new_snow_cm")),
        "temperature": one.mean("air_temperature_c"),
        "relativeHumidity": (
            round(humidity / 100, 4) if humidity is not None and 0 <= humidity <= 100 else None
        ),
        "atmosphericPressure": _not_negative(one.mean("pressure_hpa")),
        "dewPoint": one.mean("dew_point_c"),
    }


def _road(one: Observed) -> Mapping[str, Any]:
    condition = one.mode("condition")
    if condition not in FOREIGN:
        condition = None
    slipperiness = one.mean("slipperiness")
    level = None if slipperiness is None else round(slipperiness)
    said: dict[str, Any] = {
        "condition": condition,
        "slipperiness": level,
        "surfaceTemperature": one.mean("surface_temperature_c"),
        "freezingTemperature": one.mean("freezing_temperature_c"),
        "friction": _not_negative(one.mean("friction")),
        "waterFilm": _not_negative(one.mean("water_film_mm")),
        "iceThickness": _not_negative(one.mean("ice_mm")),
        "snowThickness": _not_negative(one.mean("snow_mm")),
        "blackIceRisk": one.mean("black_ice_risk"),
    }
    if condition is not None:
        codes = foreign(condition, slipperiness=level, ice_mm=one.mean("ice_mm"))
        said["conditionJa"] = _CLASS_JA.get(condition)
        said["ntcipEssSurfaceStatus"] = codes.ntcip
        said["datexConditions"] = list(codes.datex) or None
    return said


def _not_negative(value: float | None) -> float | None:
    return value if value is not None and value >= 0 else None
