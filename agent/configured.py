"""What a configuration names, as far as it can be read: ports and addresses not to be disturbed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.load import ConfigError, read
from config.text import Text
from drivers.base import Options

from .plan import Plan, plan_of

LEFT_ALONE = Text(
    "{problem}; buses it names are left alone as a whole",
    "{problem}。設定にあるバスは全体を調べません",
)
EVERY_ADDRESS = range(0x80)
_ADDRESS = re.compile(r"i2c address (0x[0-9a-f]{2})")


@dataclass(slots=True)
class Configured:
    """What belongs to somebody already; real paths, since a device has many names."""

    ports: dict[str, str] = field(default_factory=dict)  # path -> sensor
    addresses: dict[str, dict[int, str]] = field(default_factory=dict)  # path -> address -> sensor
    w1: dict[str, str] = field(default_factory=dict)  # thermometer, "" for any -> sensor
    ids: set[str] = field(default_factory=set)
    warning: str = ""  # why more than necessary is spared


def configured_by(path: Path) -> Configured:
    """Read what `path` names. Raises ConfigError where there is no making sense of the file.

    A configuration that is not yet right is no reason not to look: it is then taken as it is
    written, and an I2C bus that it names is spared as a whole.
    """
    document, origins = read(path)
    found = Configured()
    try:
        plan = plan_of(document, path, origins)
    except ConfigError as exc:
        _as_written(document, found)
        found.warning = LEFT_ALONE.filled(problem=exc.problems[0].text)
    else:
        _as_planned(plan, found)
    return found


def _as_planned(plan: Plan, found: Configured) -> None:
    for bus in plan.loaded.config.buses:
        found.ids.add(bus.id)
        if bus.kind == "serial" and bus.port:
            found.ports[os.path.realpath(bus.port)] = bus.id
    for sensor in plan.sensors:
        name, bus_path = sensor.table.id, sensor.bus.path
        found.ids.add(name)
        match sensor.bus.kind:
            case "serial":
                for each in filter(None, (bus_path, sensor.options.second_port())):
                    found.ports[os.path.realpath(each)] = name
            case "i2c" if bus_path:
                spared = found.addresses.setdefault(os.path.realpath(bus_path), {})
                spared.update(dict.fromkeys(_addresses(sensor.options), name))
            case "w1":
                found.w1[getattr(sensor.options, "id", None) or ""] = name
            case _:
                pass


def _addresses(options: Options) -> Iterable[int]:
    claimed = [int(said[1], 16) for claim in options.claims() if (said := _ADDRESS.match(claim))]
    return claimed or EVERY_ADDRESS  # who does not say where it is may be anywhere


def _as_written(document: Mapping[str, Any], found: Configured) -> None:
    paths: dict[str, str] = {}
    for table in _tables(document, "buses"):
        found.ids.add(str(table.get("id")))
        if isinstance(table.get("port"), str):
            paths[table["port"]] = str(table.get("id"))
    for table in _tables(document, "sensors"):
        name, options = str(table.get("id")), table.get("options")
        found.ids.add(name)
        for each in (table.get("bus"), *(options.values() if isinstance(options, dict) else ())):
            if isinstance(each, str) and each.startswith("/dev/"):
                paths[each] = name
        if table.get("bus") == "w1":
            found.w1[""] = name
    for path, name in paths.items():
        node = os.path.realpath(path)
        found.ports[node] = name
        found.addresses[node] = dict.fromkeys(EVERY_ADDRESS, name)


def _tables(document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    tables = document.get(key)
    found = tables if isinstance(tables, list) else []
    return [table for table in found if isinstance(table, dict)]
