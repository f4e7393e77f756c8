"""What the running gateway says of itself, as the checks need it; nothing where none answers.

The document is that of `yukimi status --json`. It is another process's, perhaps another version's:
what is not there, or of another type, is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .site import Site

if TYPE_CHECKING:
    from agent.plan import PlannedSensor

Document = Mapping[str, Any]
_NOTHING: Document = {}


def part(site: Site, name: str) -> Document:
    """Return one part of the document."""
    found = (site.daemon or _NOTHING).get(name)
    return found if isinstance(found, Mapping) else _NOTHING


def of_sensor(site: Site, sensor: PlannedSensor) -> Document:
    """Return what is said of a sensor."""
    return next((e for e in _listed(site, "sensors") if e.get("id") == sensor.table.id), _NOTHING)


def readings(site: Site, sensor: PlannedSensor) -> Document:
    """Return the newest readings of a sensor, by quantity."""
    found = of_sensor(site, sensor).get("readings")
    return found if isinstance(found, Mapping) else _NOTHING


def alerts(site: Site) -> set[str]:
    """Return the names of the gateway's own alerts that are raised."""
    return {
        str(each.get("alert"))
        for each in _listed(site, "alerts")
        if each.get("sensor") is None and each.get("state") != "cleared"
    }


def is_connected(site: Site, url: str) -> bool:
    """Tell whether the gateway is connected to this broker now."""
    uplink = part(site, "uplink")
    return uplink.get("broker") == url and uplink.get("connected_since") is not None


def is_connected_elsewhere(site: Site, url: str) -> bool:
    """Tell whether the gateway is connected to another of its brokers."""
    uplink = part(site, "uplink")
    return uplink.get("connected_since") is not None and uplink.get("broker") != url


def topics(site: Site, name: str) -> list[str]:
    """Return topics that are on hold: `nobody_subscribes` or `not_authorised`."""
    found = part(site, "uplink").get(name)
    return [str(each) for each in found] if isinstance(found, list) else []


def cut_short(site: Site, url: str) -> Document | None:
    """Return how sessions with this broker end, where they end soon."""
    found = part(site, "uplink").get("cut_short")
    said = [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []
    return next((each for each in said if each.get("broker") == url), None)


def _listed(site: Site, name: str) -> list[Document]:
    found = (site.daemon or _NOTHING).get(name)
    return [e for e in found if isinstance(e, Mapping)] if isinstance(found, list) else []
