"""`yukimi scan`: what is plugged in, which known device it looks like, and how to configure it."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from config.load import ConfigError, default_path

from . import BAD_CONFIG, OK, USAGE, WRONG, add_config, add_json, complain
from .display import printable
from .language import Text, said
from .parsing import Example

if TYPE_CHECKING:
    from agent.scan import Place, Report

DEFAULT_S = 30.0

EXAMPLES: tuple[Example, ...] = (
    (
        "yukimi scan",
        Text("everything but what is configured", "設定済みの機器を除き、すべてを調べます"),
    ),
    (
        "yukimi scan --port /dev/ttyUSB0 --port /dev/i2c-1 --seconds 20",
        Text("two places only", "2か所だけを調べます"),
    ),
)

PORT = Text(
    "look at this port or I2C bus only, even if it is configured (repeatable)",
    "このポートまたはI2Cバスだけを、設定済みでも調べます（複数指定可）",
)
HOW_LONG = Text(
    "how long it may take (default: {default:g})", "調べる時間の上限、秒（省略時は{default:g}）"
)
NOT_POSITIVE = Text("--seconds must be more than 0", "--seconds は0より大きい値にしてください")
NOT_TOLD = Text(
    "what is configured cannot be told from this file, and must not be disturbed",
    "この設定では使用中の機器が分からず、測定を妨げるおそれがあるため、調べません",
)
WARNING = Text("warning: {what}", "注意: {what}")
LOOKING = Text("looking, for at most {seconds:g} s", "調べています（最長{seconds:g}秒）")
NOTHING = Text(
    "nothing is plugged in: no serial port, no I2C bus, no 1-Wire device, no pins",
    "接続されている機器がありません（シリアルポート、I2Cバス、1-Wire機器、端子のいずれもなし）",
)
LOOKS_LIKE = Text("looks like {driver}: {what}", "{driver} と思われます: {what}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "--port",
        action="append",
        default=[],
        metavar="PATH",
        help=said(PORT),
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=DEFAULT_S,
        metavar="S",
        help=said(HOW_LONG, default=DEFAULT_S),
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look, and say what was found."""
    from agent import scan
    from agent.configured import Configured, configured_by

    if arguments.seconds <= 0:
        complain(NOT_POSITIVE)
        return USAGE
    path = arguments.config or default_path()
    configured = Configured()
    if arguments.config is not None or path.exists():
        try:
            configured = configured_by(path)
        except ConfigError as exc:
            complain(exc)
            complain(NOT_TOLD)
            return BAD_CONFIG
    if configured.warning:
        complain(WARNING.filled(what=configured.warning))
    if not (arguments.json or arguments.port):
        complain(LOOKING.filled(seconds=arguments.seconds))
    report = scan.scan(scan.Machine(), configured, seconds=arguments.seconds, only=arguments.port)
    if arguments.json:
        _print_json(report, configured.ids)
    else:
        _print(report, configured.ids)
    for problem in report.problems:
        complain(problem)
    return WRONG if report.problems else OK


def _print(report: Report, taken: set[str]) -> None:
    from agent.propose import proposal

    if not report.places:
        print(said(NOTHING))
    for place in report.places:
        print(_title(place))
        for candidate in place.found:
            what = printable(said(candidate.what))
            print("    " + said(LOOKS_LIKE, driver=candidate.driver, what=what))
            for line in said(proposal(place, candidate, taken)).splitlines():
                print(f"{'':8}{line}".rstrip())
            print()


def _title(place: Place) -> str:
    name = place.bus
    if place.address is not None:
        name += f" 0x{place.address:02x}"
    if place.node:
        name += f" ({place.node})"
    says = "" if place.state == "found" and place.kind == "serial" else f": {said(place.says)}"
    return f"{name}{says}"


def _print_json(report: Report, taken: set[str]) -> None:
    from agent.propose import proposal

    places = [
        {
            "kind": place.kind,
            "bus": place.bus,
            "node": place.node or None,
            "address": place.address,
            "state": place.state,
            "says": place.says,
            "found": [
                {
                    "driver": candidate.driver,
                    "what": candidate.what,
                    "options": dict(candidate.options),
                    "baud": candidate.baud,
                    "config": proposal(place, candidate, taken),
                }
                for candidate in place.found
            ],
        }
        for place in report.places
    ]
    document = {"schema": "yukimi.scan/1", "places": places, "problems": report.problems}
    print(json.dumps(document, ensure_ascii=False))
