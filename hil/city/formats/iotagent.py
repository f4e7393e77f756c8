"""FIWARE's IoT Agent for JSON: a record as a measure on its MQTT topic. Pure."""

from __future__ import annotations

import json

from .ngsi import Entity

_OF_THE_ENTITY = ("id", "type", "refDevice", "dateObserved")


def device(entity: Entity) -> str:
    """Return the id under which the agent knows the sensor: GATEWAY-STREAM."""
    return "-".join(str(entity["id"]).split(":")[-2:])


def topic(api_key: str, entity: Entity) -> str:
    """Return where the agent listens."""
    return f"/json/{api_key}/{device(entity)}/attrs"


def payload(entity: Entity) -> str:
    """Return the measures; `TimeInstant` is what the agent takes as their time."""
    until = str(entity["dateObserved"]).rpartition("/")[2]
    measures = {key: value for key, value in entity.items() if key not in _OF_THE_ENTITY}
    return json.dumps({"TimeInstant": until, **measures}, ensure_ascii=False)
