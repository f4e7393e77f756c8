"""The virtual Pi: a Debian guest with the bench's devices on its wires; as root."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from agent.cli import OK, UNREACHABLE, WRONG

from .hardware import check_hardware
from .image import Image, image
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
    cut.add_argument("--cuts", type=int, default=10, help="how many (default: 10)")
    cut.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    cut.add_argument("--liar", action="store_true", help="the control: flushes are ignored")
    cut.add_argument("--json", action="store_true", help="print the account on stdout")
    verbs.add_parser("shell", help="boot, and be root on its console; Ctrl-] ends it")
    verbs.add_parser("build", help="build what is not in the cache, and no more")


def run(arguments: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
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


def _powercut(made: Image, arguments: argparse.Namespace) -> int:
    account = cut_power(made, arguments.cuts, _say, liar=arguments.liar, seed=arguments.seed)
    if arguments.json:
        print(json.dumps(account.json()))
    else:
        for name, value in account.json().items():
            print(f"{name:<16} {value}")
    return OK if account.holds else WRONG


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
