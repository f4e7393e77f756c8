"""`yukimi demo`: the whole thing on one machine, as a tour."""

from __future__ import annotations

import argparse

from . import UNREACHABLE, add_json, complain

LEAST_SECONDS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "--seconds",
        type=int,
        default=40,
        metavar="N",
        help=f"how long it lasts, at least {LEAST_SECONDS} (default: 40)",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 1 if a record is missing at the end."""
    try:
        from hil.demo import demo
    except ImportError as exc:
        complain(f"the demo needs the bench: pip install 'yukimi[hil]' ({exc.name} is missing)")
        return UNREACHABLE
    return demo(max(LEAST_SECONDS, arguments.seconds), as_json=arguments.json)
