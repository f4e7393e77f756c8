"""`yukimi scan`: what is plugged in, which known device it looks like, and how to configure it."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import TYPE_CHECKING

from config.load import ConfigError, default_path

from . import BAD_CONFIG, OK, USAGE, WRONG, add_config, add_json, complain

if TYPE_CHECKING:
    from agent.scan import Place, Report

DEFAULT_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "--port",
        action="append",
        default=[],
        metavar="PATH",
        help="look at this port or I2C bus only, even if it is configured (repeatable)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=DEFAULT_S,
        metavar="S",
        help=f"how long it may take (default: {DEFAULT_S:g})",
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look, and say what was found."""
    from agent import scan
    from agent.configured import Configured, configured_by

    if arguments.seconds <= 0:
        complain("--seconds must be more than 0")
        return USAGE
    path = arguments.config or default_path()
    configured = Configured()
    if arguments.config is not None or path.exists():
        try:
            configured = configured_by(path)
        except ConfigError as exc:
            complain(exc)
            complain("what is configured cannot be told from this file, and must not be disturbed")
            return BAD_CONFIG
    if configured.warning:
        complain(f"warning: {configured.warning}")
    if not (arguments.json or arguments.port):
        complain(f"looking, for at most {arguments.seconds:g} s")
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
        print("nothing is plugged in: no serial port, no I2C bus, no 1-Wire device, no pins")
    for place in report.places:
        print(_title(place))
        for candidate in place.found:
            print(f"    looks like {candidate.driver}: {candidate.what}")
            print(textwrap.indent(proposal(place, candidate, taken), " " * 8))


def _title(place: Place) -> str:
    name = place.bus
    if place.address is not None:
        name += f" 0x{place.address:02x}"
    if place.node:
        name += f" ({place.node})"
    says = "" if place.state == "found" and place.kind == "serial" else f": {place.says}"
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
