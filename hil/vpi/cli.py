"""The virtual Pi: a Debian guest with the bench's devices on its wires; as root."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from agent.cli import OK, UNREACHABLE, WRONG

from .field import FEW, STEPS, Extent, check_field
from .hardware import check_hardware
from .image import Image, fresh_image, image
from .installed import KILLS
from .layers import BuildError
from .powercut import cut_power
from .qmp import MachineError
from .shell import shell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    verbs = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    one = verbs.add_parser("run", help="check the hardware, one step after the other")
    one.add_argument("--json", action="store_true", help="print the findings on stdout")
    cut = verbs.add_parser("powercut", help="cut the power of the whole machine")
    cut.add_argument("--cuts", type=_count, default=10, help="how many (default: 10)")
    cut.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    cut.add_argument("--liar", action="store_true", help="the control: flushes are ignored")
    cut.add_argument("--json", action="store_true", help="print the account on stdout")
    field = verbs.add_parser("field", help="the Debian package: install, hang, kill, update, cut")
    field.add_argument("--only", action="append", choices=STEPS, help="this step (repeatable)")
    field.add_argument(
        "--kills", type=_count, default=KILLS, help="how many (default: %(default)s)"
    )
    field.add_argument(
        "--cuts",
        type=_cuts,
        default="all",
        metavar="all|few|N",
        help="moments to cut of each story",
    )
    field.add_argument("--json", action="store_true", help="print the findings on stdout")
    verbs.add_parser("shell", help="boot, and be root on its console; Ctrl-] ends it")
    verbs.add_parser("build", help="build what is not in the cache, and no more")


def run(arguments: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        if arguments.name == "field":
            return _field(arguments)
        made = image(_say)
        if arguments.name == "run":
            return _run(made, as_json=arguments.json)
        if arguments.name == "powercut":
            return _powercut(made, arguments)
        if arguments.name == "shell":
            shell(made)
    except BuildError as exc:
        _say(f"vpi: {exc}")
        return UNREACHABLE
    except MachineError as exc:
        _say(f"vpi: {exc}")
        return WRONG
    return OK


def _run(made: Image, *, as_json: bool) -> int:
    found = check_hardware(made, _say)
    if as_json:
        print(json.dumps({"schema": "yukimi.vpi/1", "steps": found.steps, **found.evidence}))
    else:
        _say(str(found.evidence["account"]))
    return OK


def _field(arguments: argparse.Namespace) -> int:
    extent = Extent(
        steps=arguments.only or STEPS,
        kills=arguments.kills,
        cuts=arguments.cuts,
    )
    found = check_field(fresh_image(_say), _say, extent)
    if arguments.json:
        print(json.dumps({"schema": "yukimi.vpi-field/1", "steps": found.steps, **found.evidence}))
    else:
        for name, value in found.evidence.items():
            print(f"{name:<20} {json.dumps(value)}")
    return OK


def _powercut(made: Image, arguments: argparse.Namespace) -> int:
    account = cut_power(made, arguments.cuts, _say, liar=arguments.liar, seed=arguments.seed)
    if arguments.json:
        print(json.dumps(account.json()))
    else:
        for name, value in account.json().items():
            print(f"{name:<16} {value}")
    return OK if account.holds else WRONG


def _cuts(text: str) -> int | None:
    named = {"all": None, "few": FEW}
    return named[text] if text in named else _count(text)


def _count(text: str) -> int:
    count = int(text) if text.isdecimal() else 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 1 or more")
    return count


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
