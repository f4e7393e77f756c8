"""`yukimi drivers [NAME]`: what it can read, and how each device is wired and set."""

from __future__ import annotations

import argparse
import json
import textwrap

import drivers
from config.load import nearest
from drivers.base import Driver

from . import OK, USAGE, WRONG, add_json, complain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one driver, in full")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the drivers, or describe one."""
    from agent import driver_pages

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
        described = [driver_pages.described(driver) for driver in found.values()]
        print(json.dumps({"schema": "yukimi.drivers/1", "drivers": described}, ensure_ascii=False))
    elif arguments.name is not None:
        for driver in found.values():
            _print_page(driver)
    else:
        width = max(map(len, found), default=0)
        for name, driver in found.items():
            spec = driver.spec
            print(f"{name:<{width}}  {spec.kind:<8} {spec.bus:<6} {spec.title}")
    return code


def _print_page(driver: type[Driver]) -> None:
    from agent import driver_pages

    print(f"{driver.spec.name}: {driver.spec.title}")
    for label, text in driver_pages.wrapped(driver):
        head, hang = f"  {label:<9} ", " " * 14
        print(textwrap.fill(text, width=96, initial_indent=head, subsequent_indent=hang))
    print("  example")
    print(textwrap.indent(driver_pages.example(driver.spec), " " * 12), end="")
