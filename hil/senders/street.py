"""What a simulated gateway's sensors measure, and how its birth certificate names them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from agent.record import tidy

SENSORS: dict[str, tuple[str, int]] = {  # kind, window_s
    "hall-1": ("people", 900),
    "road-1": ("road", 60),
    "snow-1": ("snow", 60),
    "air-1": ("weather", 60),
}

# A gateway of docs/scale.md.
EIGHT_KINDS = ("people", "people", "road", "road", "snow", "snow", "weather", "weather")


def eight_sensors(window_s: int) -> dict[str, tuple[str, int]]:
    """Return eight sensors of one window, as `SENSORS` names them."""
    return {f"{kind}-{at}": (kind, window_s) for at, kind in enumerate(EIGHT_KINDS, start=1)}


def _stats(mean: float, reach: float) -> dict[str, object]:
    low, mean, high = (tidy(each) for each in (mean - reach, mean, mean + reach))
    return {"mean": mean, "min": low, "max": high, "sd": 0.1, "median": mean, "n": 60}


def _people(random: Random) -> dict[str, object]:
    values: dict[str, object] = {}
    for way in ("towards", "away"):
        unclamped = random.randint(-6, 160)
        values[way] = {"count": max(0, unclamped), "unclamped": unclamped}
    return values | {"epsilon": "1/4", "noise_sd": 5.64, "ci95": 12}


def _road(random: Random) -> dict[str, object]:
    return {
        "surface_temperature_c": _stats(random.uniform(-8.0, 2.0), 0.2),
        "condition": {"mode": "packed_snow", "share": {"packed_snow": 0.9, "ice": 0.1}, "n": 60},
        "slipperiness": 2,
        "friction": _stats(random.uniform(0.2, 0.6), 0.05),
    }


def _snow(random: Random) -> dict[str, object]:
    return {"depth_cm": _stats(random.uniform(20.0, 80.0), 0.3), "snowfall_cm": 1.5}


def _weather(random: Random) -> dict[str, object]:
    return {
        "air_temperature_c": _stats(random.uniform(-12.0, 2.0), 0.2),
        "humidity_percent": _stats(random.uniform(50.0, 95.0), 1.0),
        "pressure_hpa": _stats(random.uniform(990.0, 1025.0), 0.1),
    }


VALUES: dict[str, Callable[[Random], dict[str, object]]] = {
    "people": _people,
    "road": _road,
    "snow": _snow,
    "weather": _weather,
}
LABELS = {
    "people": ("人流", "flow"),
    "road": ("路面", "road"),
    "snow": ("積雪", "snow"),
    "weather": ("気象", "air"),
}
UNITS = {
    "people": {"towards": {"unit": "{person}"}, "away": {"unit": "{person}"}},
    "road": {"surface_temperature_c": {"unit": "Cel"}, "friction": {"unit": "1"}},
    "snow": {"depth_cm": {"unit": "cm"}},
    "weather": {
        "air_temperature_c": {"unit": "Cel"},
        "humidity_percent": {"unit": "%"},
        "pressure_hpa": {"unit": "hPa"},
    },
}
DIRECTIONS = {
    "directions": {
        "towards": {"ja": "大通方面", "en": "to Odori"},
        "away": {"ja": "札幌駅方面", "en": "to Sapporo Station"},
    }
}
