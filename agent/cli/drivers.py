"""`yukimi drivers [NAME]`: what it can read, and how each device is wired and set."""

from __future__ import annotations

import argparse
import json
import sys

import drivers
from config.load import nearest
from drivers.base import Driver

from . import OK, USAGE, WRONG, add_config, add_json, complain
from .display import line_cells, table, wrap
from .language import Text, said
from .parsing import Example

EXAMPLES: tuple[Example, ...] = (
    ("yukimi drivers", Text("all of them", "全機種の一覧です")),
    (
        "yukimi drivers campbell-sr50a",
        Text(
            "one: wiring, options, quirks, and lines for the configuration",
            "1機種の配線・設定項目・注意点・設定例です",
        ),
    ),
)

NAME = Text("one driver, in full", "詳しく表示するドライバー名")
HEAD = (
    Text("driver", "ドライバー"),
    Text("kind", "種別"),
    Text("bus", "バス"),
    Text("device", "機器"),
)
UNKNOWN = Text('unknown driver "{name}"', "「{name}」というドライバーはありません")
NO_LIBRARY = Text(
    "{name}: a library is missing: {error}", "{name}: 必要なライブラリーがありません: {error}"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("name", nargs="?", metavar="NAME", help=said(NAME))
    add_config(parser)  # as every verb; it is not looked at
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List the drivers, or describe one."""
    from agent import driver_pages

    names = drivers.names()
    if arguments.name is not None:
        if arguments.name not in names:
            complain(UNKNOWN.filled(name=arguments.name) + nearest(arguments.name, names))
            return USAGE
        names = [arguments.name]
    found: dict[str, type[Driver]] = {}
    code = OK
    for name in names:
        try:
            found[name] = drivers.load(name)
        except ImportError as exc:
            complain(NO_LIBRARY.filled(name=name, error=exc))
            code = WRONG
    if arguments.json:
        described = [driver_pages.described(driver) for driver in found.values()]
        print(json.dumps({"schema": "yukimi.drivers/1", "drivers": described}, ensure_ascii=False))
    elif arguments.name is not None:
        for driver in found.values():
            _print_page(driver)
    else:
        specs = [(name, driver.spec) for name, driver in found.items()]
        rows = [(name, spec.kind, spec.bus, spec.title) for name, spec in specs]
        width = line_cells() if sys.stdout.isatty() else None  # for grep a driver is a line
        print("\n".join(table(rows, head=[said(each) for each in HEAD], width=width)))
    return code


def _print_page(driver: type[Driver]) -> None:
    from agent import driver_pages

    print(f"{driver.spec.name}: {driver.spec.title}")
    for label, text in driver_pages.wrapped(driver):
        first, hang = f"  {label:<9} ", " " * 14
        print("\n".join(wrap(text, line_cells(), first=first, hang=hang)))
    print("  example")
    for line in driver_pages.example(driver.spec).splitlines():
        print(f"{'':12}{line}".rstrip())
