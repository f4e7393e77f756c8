"""The virtual Pi: a Debian guest with the bench's devices on its wires; as root."""

from __future__ import annotations

import argparse
import json
import sys

from agent.cli import OK, UNREACHABLE, WRONG

from .hardware import check_hardware
from .image import image
from .layers import BuildError
from .qmp import MachineError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    verbs = parser.add_subparsers(dest="name", metavar="NAME", required=True)
    one = verbs.add_parser("run", help="build what is missing, boot, check the hardware")
    one.add_argument("--json", action="store_true", help="print the findings as JSON on stdout")
    verbs.add_parser("build", help="build what is missing")


def run(arguments: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    try:
        made = image(_say)
        if arguments.name == "run":
            found = check_hardware(made, _say)
            if arguments.json:
                print(json.dumps({"steps": found.steps, **found.evidence}))
    except BuildError as exc:
        _say(f"vpi: {exc}")
        return UNREACHABLE
    except MachineError as exc:
        _say(f"vpi: {exc}")
        return WRONG
    return OK


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
