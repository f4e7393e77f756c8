"""One sensor of the plan with its driver: what the other parts are told of it.

Its kind, what it counts or measures, its part of the birth certificate, its name in an alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from config.model import Location, Text
from drivers.base import Direction, Driver, HearsTemperature

from .pipeline import HearTemperature
from .plan import PlannedSensor
from .rules import Subject
from .snapshot import Seen


def birth_of(
    sensor: PlannedSensor, driver: Driver, test: Mapping[str, str] | None
) -> dict[str, object]:
    """Return its part of the birth certificate; `test` is how it was commissioned."""
    table, directions = sensor.table, directions_of(driver)
    units = units_of(driver)
    birth: dict[str, object] = {
        "id": table.id,
        "driver": table.driver,
        "kind": kind_of(driver),
        "window_s": sensor.window_s,
        "quantities": {name: {"unit": unit} for name, unit in units.items()},
        "location": place_json(table.location),
        "label": text_json(table.label),
    }
    if directions:
        birth["directions"] = named_directions(sensor, driver)
    if test is not None:
        birth["commissioned"] = test
    return birth


def seen_of(sensor: PlannedSensor, driver: Driver) -> Seen:
    """Return what who looks on is told of it."""
    table = sensor.table
    return Seen(
        table.id,
        table.driver,
        kind_of(driver),
        sensor.bus.name,
        sensor.window_s,
        text_json(table.label),
        named_directions(sensor, driver),
        units_of(driver),
        driver.rate_hz,
    )


def named_directions(sensor: PlannedSensor, driver: Driver) -> dict[str, dict[str, str] | None]:
    """Return what a people sensor counts, each with its name for people."""
    return {
        name: text_json(getattr(sensor.table.directions, name, None))
        for name in directions_of(driver)
    }


def units_of(driver: Driver) -> dict[str, str]:
    """Return the unit of each quantity, and of each direction."""
    units = {name: q.unit for name, q in driver.quantities.items()}
    return units | dict.fromkeys(directions_of(driver), "{person}")


def subject_of(sensor: PlannedSensor, driver: Driver) -> Subject:
    """Return what alerts call it, and what they may hang on."""
    table = sensor.table
    label = table.label or Text()
    names = {"ja": label.ja or label.en or table.id, "en": label.en or label.ja or table.id}
    return Subject(kind_of(driver), names, frozenset(driver.quantities), table.maintenance)


def kind_of(driver: Driver) -> str:
    """Return the kind of a driver's records: its model's, unless its options choose."""
    kind: str = getattr(driver, "kind", driver.spec.kind)
    return kind


def temperature_listeners(
    pairs: Iterable[tuple[PlannedSensor, Driver]],
) -> dict[str, list[HearTemperature]]:
    """Return who wants to be told the air temperature of each sensor."""
    found: dict[str, list[HearTemperature]] = {}
    for sensor, driver in pairs:
        source = sensor.options.listens_to()
        if source is not None and isinstance(driver, HearsTemperature):
            found.setdefault(source, []).append(driver.hear_temperature)
    return found


def directions_of(driver: Driver) -> tuple[Direction, ...]:
    """Return what a people sensor counts: its model's ways, unless its options choose of them."""
    directions: tuple[Direction, ...] = getattr(driver, "directions", driver.spec.directions)
    return directions


def text_json(text: Text | None) -> dict[str, str] | None:
    """Return a text by language, as in JSON; None where there is none."""
    return None if text is None else text.model_dump(exclude_none=True)


def place_json(place: Location | None) -> dict[str, float] | None:
    """Return a place as in JSON."""
    return None if place is None else place.model_dump()
