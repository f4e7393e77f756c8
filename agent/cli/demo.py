"""`yukimi demo`: the whole thing on one machine, as a tour."""

from __future__ import annotations

import argparse

from . import UNREACHABLE, add_config, add_json, complain
from .language import Text, said
from .parsing import Example

LEAST_SECONDS = 20

EXAMPLES: tuple[Example, ...] = (
    ("yukimi demo", Text("the tour, of 40 seconds", "40秒の実演です")),
    (
        "yukimi demo --seconds 20 --json",
        Text("a short one, as an account for programs", "短い実演の結果をJSONで出力します"),
    ),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument(
        "--seconds",
        type=int,
        default=40,
        metavar="N",
        help=said(
            Text(
                f"how long it lasts, at least {LEAST_SECONDS} (default: 40)",
                f"実演の秒数、{LEAST_SECONDS}以上（省略時は40）",
            )
        ),
    )
    add_config(parser)  # as every verb; it is not looked at
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 1 if a record is missing at the end."""
    try:
        from hil.demo import demo
    except ImportError as exc:
        what = Text(
            "the demo needs the bench: pip install 'yukimi[hil]' ({missing} is missing)",
            "実演には試験装置一式が必要です: pip install 'yukimi[hil]'（{missing} がありません）",
        )
        complain(what.filled(missing=exc.name))
        return UNREACHABLE
    return demo(max(LEAST_SECONDS, arguments.seconds), as_json=arguments.json)
