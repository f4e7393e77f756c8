"""`yukimi drivers [NAME]`: what it can read, and how each device is wired and set."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence

import drivers
from config.load import nearest
from drivers.base import Driver, describe

from . import OK, USAGE, WRONG, add_json, complain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one driver, in full")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the drivers, or describe one."""
    names = drivers.names()
    if arguments.name is not None:
        if arguments.name not in names:
            complain(f'unknown driver "{arguments.name}"' + nearest(arguments.name, names))
            return USAGE
        names = [arguments.name]
    found: dict[str, type[Driver]] = {}
    code = OK
    for name in names:
        try:
            found[name] = drivers.load(name)
        except ImportError as exc:
            complain(f"{name}: a library is missing: {exc}")
            code = WRONG
    if arguments.json:
        described = [_described(driver) for driver in found.values()]
        print(json.dumps({"schema": "yukimi.drivers/1", "drivers": described}, ensure_ascii=False))
    elif arguments.name is not None:
        for driver in found.values():
            _print_page(driver)
    else:
        width = max(map(len, found), default=0)
        for name, driver in found.items():
            spec = driver.spec
            print(f"{name:<{width}}  {spec.kind:<7} {spec.bus:<6} {spec.title}")
    return code


def _described(driver: type[Driver]) -> dict[str, object]:
    spec = driver.spec
    return {
        "name": spec.name,
        "title": spec.title,
        "kind": spec.kind,
        "bus": spec.bus,
        "directions": list(spec.directions),
        "quantities": [
            {"name": q.name, "unit": q.unit, "means": q.means, "classes": list(q.classes)}
            for q in spec.quantities
        ],
        "options": [
            {"name": name, "type": kind, "default": default, "means": means}
            for name, kind, default, means in describe(driver.Options)
        ],
        "wiring": list(spec.wiring),
        "evidence": spec.evidence,
        "evidence_note": spec.evidence_note,
        "source": spec.source,
    }


def _print_page(driver: type[Driver]) -> None:
    spec = driver.spec
    print(f"{spec.name}: {spec.title}")
    line = spec.line
    bus: str = spec.bus
    if line is not None:
        bus += f", {line.baud} {line.data_bits}{line.parity}{line.stop_bits}"
        bus += ", several devices on a line" if spec.shares_bus else ""
    print(f"  kind      {spec.kind}\n  bus       {bus}")
    if spec.directions:
        print(f"  counts    {_counted(spec.directions)}, published with noise only")
    for quantity in spec.quantities:
        print(f"  measures  {quantity.name} [{quantity.unit}]: {quantity.means}")
    for name, kind, default, means in describe(driver.Options):
        shown = default if default == "required" else json.dumps(default)
        _print_wrapped("option", f"{name} ({kind}, {shown}): {means}")
    for sentence in spec.wiring:
        _print_wrapped("wiring", sentence)
    _print_wrapped("evidence", f"{spec.evidence}: {spec.evidence_note}")
    _print_wrapped("source", spec.source)


def _counted(directions: Sequence[str]) -> str:
    """Name what is counted: both ways, or, where there is no telling them apart, the total."""
    ways = " and ".join(name for name in directions if name != "total")
    return ", or ".join(filter(None, (ways, "total" if "total" in directions else "")))


def _print_wrapped(label: str, text: str) -> None:
    print(
        textwrap.fill(text, width=96, initial_indent=f"  {label:<9} ", subsequent_indent=" " * 14)
    )
