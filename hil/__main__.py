"""`python -m hil`: the bench from the command line; `run` plays scenarios, `bench` measures."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from .bench import BENCHES, cost
from .cabinets import table
from .fleet import verb
from .mutants import verb as mutants
from .scenario import cli as scenarios
from .vpi import cli as vpi


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m hil", description="The bench.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    bench = verbs.add_parser(
        "bench",
        help="measure; without a name, what a gateway costs",
        description=cost.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cost.add_arguments(bench)
    bench.set_defaults(run=cost.run)
    names = bench.add_subparsers(dest="name", metavar="NAME")
    for name, about in BENCHES.items():
        module = import_module(f".bench.{name}", __package__)
        one = names.add_parser(
            name,
            help=about,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    played = verbs.add_parser(
        "run",
        help="play a scenario: a day or a month of a gateway, what breaks, what must hold",
        description=scenarios.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scenarios.add_arguments(played)
    played.set_defaults(run=scenarios.run, name="run")
    broken = verbs.add_parser(
        "cabinets", help="break cabinets, and see what the doctor makes of it"
    )
    table.add_arguments(broken)
    broken.set_defaults(run=table.run, name="cabinets")
    virtual = verbs.add_parser("vpi", help="a virtual Pi under qemu, with the bench on its wires")
    vpi.add_arguments(virtual)
    virtual.set_defaults(run=vpi.run)
    planted = verbs.add_parser("mutants", help="plant defects, and see which test notices them")
    mutants.add_arguments(planted)
    planted.set_defaults(run=mutants.run, name="mutants")
    fleet = verbs.add_parser("fleet", help="a city's gateways lose their broker, and come back")
    verb.add_arguments(fleet)
    fleet.set_defaults(run=verb.run, name="fleet")
    parsed = parser.parse_args(arguments)
    code: int = parsed.run(parsed)
    return code


if __name__ == "__main__":
    # What a bench has started ends with it.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    sys.exit(main())
