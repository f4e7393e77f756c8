"""A record together with what is known of its sensor: what every format begins with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..days import seconds
from ..rows import Row
from ..store import Store
from ..wire import utc_text

FIGURE_MAX = 1e15
AHEAD_S = 60.0  # a gateway's clock may be before ours by so much
KINDS = ("people", "road", "snow", "weather")


@dataclass(frozen=True, slots=True)
class Observed:
    """One record of a sensor whose birth has been seen."""

    gateway: str
    stream: str
    kind: str
    start_s: float
    end_s: float
    flag: str
    values: Mapping[str, Any]
    label_ja: str | None
    label_en: str | None
    place: tuple[float, float] | None  # latitude, longitude; of a moving gateway, its own
    directions: Mapping[str, Any]
    owner: str | None
    licence: str | None
    policy: str | None

    @property
    def start_utc(self) -> str:
        """ISO 8601."""
        return utc_text(self.start_s)

    @property
    def end_utc(self) -> str:
        """ISO 8601."""
        return utc_text(self.end_s)

    def mean(self, quantity: str) -> float | None:
        """Return a quantity's mean, None where there is none that may be believed."""
        value = self.values.get(quantity)
        if isinstance(value, Mapping):
            if value.get("flag") in ("bad", "missing"):
                return None
            value = value.get("mean")
        return figure(value)

    def mode(self, quantity: str) -> str | None:
        """Return a class, None where there is none that may be believed."""
        value = self.values.get(quantity)
        if not isinstance(value, Mapping) or value.get("flag") in ("bad", "missing"):
            return None
        mode = value.get("mode")
        return mode if isinstance(mode, str) else None

    def count(self, way: str, which: str = "count") -> int | None:
        """Return a count of people as it was released; None where there is none."""
        value = self.values.get(way)
        number = value.get(which) if isinstance(value, Mapping) else None
        return number if type(number) is int and figure(number) is not None else None

    def direction(self, way: str, language: str) -> str | None:
        """Return the name of a direction."""
        names = self.directions.get(way)
        name = names.get(language) if isinstance(names, Mapping) else None
        return name if isinstance(name, str) else None

    @property
    def is_usable(self) -> bool:
        """Whether there is anything in it to publish."""
        return self.flag not in ("missing", "bad") and bool(self.values)


def figure(value: Any) -> float | None:
    """Return a number as a float; None where it is none, or larger than anything here can be."""
    is_one = type(value) in (int, float) and abs(value) < FIGURE_MAX
    return float(value) if is_one else None


_WHAT = """
SELECT r.gateway, r.stream, r.kind, r.start_utc, r.end_utc, r.flag, r."values",
    s.label_ja, s.label_en, s.latitude, s.longitude, s.directions, g.owner, g.licence, g.policy
FROM record AS r
JOIN sensor AS s ON s.gateway = r.gateway AND s.sensor = r.stream
JOIN gateway AS g ON g.gateway = r.gateway
"""
_SENSORS = "SELECT gateway, sensor FROM sensor WHERE kind = ? ORDER BY gateway, sensor"


def sensors(store: Store, kind: str, gateway: str | None = None) -> list[tuple[str, str]]:
    """Return gateway and stream of every sensor of a kind."""
    found = [(str(row[0]), str(row[1])) for row in store.query(_SENSORS, (kind,))]
    return [each for each in found if gateway in (None, each[0])]


def between(
    store: Store, gateway: str, stream: str, from_s: float, to_s: float
) -> Iterator[Observed]:
    """Yield a sensor's records that end after `from_s` and not after `to_s`, in order of time."""
    sql = f"{_WHAT} WHERE r.gateway = ? AND r.stream = ? AND r.end_utc > ? AND r.end_utc <= ?"
    rows = store.query(
        f"{sql} ORDER BY r.end_utc, r.run", (gateway, stream, utc_text(from_s), utc_text(to_s))
    )
    return map(_observed, rows)


def newest(store: Store, gateway: str, stream: str, now_s: float) -> Observed | None:
    """Return a sensor's newest record; what a clock far ahead has dated is not the present."""
    sql = f"{_WHAT} WHERE r.gateway = ? AND r.stream = ? AND r.end_utc <= ?"
    latest = utc_text(now_s + AHEAD_S)
    rows = store.query(f"{sql} ORDER BY r.end_utc DESC LIMIT 1", (gateway, stream, latest))
    return _observed(rows[0]) if rows else None


def _observed(row: Row) -> Observed:
    gateway, stream, kind, start, end, flag, values, *more = row
    label_ja, label_en, latitude, longitude, directions, owner, licence, policy = more
    values = _json(values)
    if "location" in values:  # it moves: where it stands at home says nothing
        here = values["location"]
        known = here if isinstance(here, Mapping) else {}
        latitude, longitude = known.get("latitude"), known.get("longitude")
    at = figure(latitude), figure(longitude)
    place = None if at[0] is None or at[1] is None else (at[0], at[1])
    return Observed(
        gateway,
        stream,
        kind,
        _seconds(start),
        _seconds(end),
        flag,
        values,
        label_ja,
        label_en,
        place,
        _json(directions),
        owner,
        licence,
        policy,
    )


def _seconds(value: str | datetime) -> float:
    return seconds(value)


def _json(value: Any) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(value) if isinstance(value, str) else value
    return document
