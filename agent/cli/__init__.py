"""The command `yukimi`: one file a verb; each parses, calls, prints and returns an exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

# Before anything can import numpy: its threads would cost memory and gain nothing here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

OK, WRONG, USAGE, UNREACHABLE, IO_ERROR, BAD_CONFIG = 0, 1, 2, 69, 74, 78

VERBS = {
    "run": "the daemon: read, aggregate, deliver, until SIGTERM",
    "demo": "the whole thing on this machine, without hardware, broker or network",
    "config": "check a configuration, or print its JSON Schema",
    "drivers": "the device models it can read",
    "scan": "what is plugged in, which device it looks like, how to configure it",
    "read": "read one sensor now, directly; publishes nothing",
    "record": "capture the raw traffic of one sensor to a file",
    "replay": "play a recording through a driver",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="yukimi",
        description="Edge gateway for people counters, road-surface and snow sensors.",
        epilog="Exit codes: 0 done; 1 done, and something is wrong; 2 wrong usage;"
        " 69 not reachable; 74 I/O error; 78 the configuration must be edited.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    # Only the verb in use is imported: `--help` answers at once, on a slow card too.
    wanted = next((word for word in arguments if word in VERBS), None)
    for name, about in VERBS.items():
        verb = verbs.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        if name == wanted:
            module = import_module(f".{name}", __name__)
            module.add_arguments(verb)
            verb.set_defaults(run=module.run)
    parsed = parser.parse_args(arguments)
    if parsed.version:
        from agent import __version__

        print(f"yukimi {__version__}")
        return OK
    if parsed.verb is None:
        parser.print_usage(sys.stderr)
        print("yukimi: name a verb; `yukimi --help` lists them", file=sys.stderr)
        return USAGE
    try:
        code: int = parsed.run(parsed)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return code


def add_config(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option that names the configuration."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration (default: $YUKIMI_CONFIG, else /etc/yukimi/gateway.toml)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option of machine-readable output."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")


def complain(error: object) -> None:
    """Say on stderr what is wrong."""
    print(f"yukimi: {error}", file=sys.stderr)
