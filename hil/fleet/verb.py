"""A city's gateways on one broker: the outage of all, the return of all, and the account.

Many gateways with the product's own outbox, route, client and encoder share two processes; their
sensors are simulated. Each has eight, with windows of `--window` seconds. In the middle of the time
all are cut off at once, and Mosquitto is killed and started again. Measured: how far the jitter
spreads the return, how long it takes until all have caught up, what the broker spends on it, and
whether each record of each gateway is at the city as it was committed.

Then the control: the same fleet without jitter, for a shorter time. It must come back within one
second, else the bench could not have seen it. `--control` breaks the fleet itself: the exit code is
then 1. `--speed 5` lets the fleet's clock, by which all is decided, run five times as fast.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

from ..bench.figures import Figure, table
from ..bench.process import BenchError
from ..broker import MOSQUITTO, BrokerError
from .crew import Control
from .descriptors import TooFewDescriptorsError
from .figures import FIGURES, SHARE_MOST, measured
from .picture import document, html
from .trial import Plan, live

OK, WRONG, USAGE, UNREACHABLE = 0, 1, 2, 69
OUTAGE_SHARE = 0.2  # of the time
LEAST_S = 30.0  # of the time, in all
START_S = 10.0  # within which all connect first, at most
SHORTER_S = 60.0  # each part of the control, at most

CONTROL = Figure("no_jitter_peak_share", "the control's", SHARE_MOST, at_least=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--gateways", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0, help="in all (default: 10)")
    parser.add_argument("--outage", type=float, help="seconds (default: a fifth of the time)")
    parser.add_argument("--window", type=int, default=60, help="of each sensor, s (default: 60)")
    parser.add_argument("--speed", type=float, default=1.0, help="of the fleet's clock")
    parser.add_argument("--processes", type=int, default=2, help="that the gateways share")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", choices=get_args(Control), help="break the fleet itself")
    parser.add_argument("--alone", action="store_true", help="without the control that follows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="figures and courses")
    parser.add_argument("--html", type=Path, metavar="FILE", help="a page with plots")


def run(arguments: argparse.Namespace) -> int:
    """Let it live; print the table; 1 where a target is missed."""
    wrong = _wrong(arguments)
    if wrong is not None:
        print(f"fleet: {wrong}", file=sys.stderr)
        return USAGE
    if not Path(MOSQUITTO).exists():
        print(f"fleet: no {MOSQUITTO}: apt install mosquitto", file=sys.stderr)
        return UNREACHABLE
    try:
        return _measure(arguments, _plan(arguments))
    except (TooFewDescriptorsError, BrokerError, BenchError) as exc:
        print(f"fleet: {exc}", file=sys.stderr)
        return UNREACHABLE


def _wrong(arguments: argparse.Namespace) -> str | None:
    """Say what cannot be lived through, before ten minutes have passed."""
    whole_s = 60 * arguments.minutes
    if arguments.gateways < 1:
        return "--gateways must be at least 1"
    if not 1 <= arguments.processes <= arguments.gateways:
        return f"--processes must be 1 to {arguments.gateways}: each has a gateway at least"
    if not 0 < arguments.speed < math.inf:
        return "--speed must be more than 0"
    if arguments.window < 1:
        return "--window must be at least 1 s"
    if not LEAST_S <= whole_s < math.inf:
        return f"--minutes must be at least {LEAST_S / 60:g}"
    if arguments.outage is not None and not 0 < arguments.outage < whole_s - LEAST_S / 2:
        return f"--outage must leave {LEAST_S / 2:g} s of the time before and after it"
    for file in filter(None, (arguments.json, arguments.html)):
        try:
            file.open("a").close()
        except OSError as exc:
            return f"{file}: {exc.strerror}"
    return None


def _plan(arguments: argparse.Namespace) -> Plan:
    whole_s = 60 * arguments.minutes
    outage_s = OUTAGE_SHARE * whole_s if arguments.outage is None else arguments.outage
    part_s = (whole_s - outage_s) / 2
    return Plan(
        arguments.gateways,
        part_s,
        outage_s,
        part_s,
        min(START_S, part_s / 4),
        arguments.window,
        arguments.speed,
        arguments.processes,
        arguments.seed,
        arguments.control,
    )


def _measure(arguments: argparse.Namespace, plan: Plan) -> int:
    outcome = live(plan, _say)
    figures = measured(outcome)
    judged: tuple[Figure, ...] = FIGURES
    if not (arguments.alone or plan.control):
        _say("the control: the same without jitter")
        figures[CONTROL.key] = _control(plan, _say)
        judged = (*FIGURES, CONTROL)
    if arguments.json:
        arguments.json.write_text(document(outcome, figures), encoding="utf-8")
    if arguments.html:
        arguments.html.write_text(html(outcome, figures), encoding="utf-8")
    print("\n".join(table(judged, figures)))
    for difference in outcome.differences[:10]:
        print(difference)
    holds = all(one.holds(figures[one.key]) for one in judged if one.key in figures)
    return OK if holds else WRONG


def _control(plan: Plan, say: Callable[[str], None]) -> float:
    shorter = replace(
        plan,
        calm_s=min(SHORTER_S, plan.calm_s),
        outage_s=min(SHORTER_S, plan.outage_s),
        after_s=min(SHORTER_S / 2, plan.after_s),
        control="no-jitter",
    )
    return measured(live(shorter, say))["connects_peak_share"]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
