"""What each driver's frame costs: time of the driver's own code, from bytes to observations.

    python -m hil bench decoders              # a table
    python -m hil bench decoders --markdown   # the table of docs/decoders.md
    python -m hil bench decoders --json

Each driver runs on its emulated device in simulated time; the wire's own time is subtracted, so
what is left is what the driver would cost on a real one. `core_percent` is that cost at the rate
at which the device speaks; waking up and the system's calls come on top (docs/cost.md).
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import drivers
from hil import emulation
from hil.rig import Rig

from .figures import document

ROUNDS = 5
WARM_UP_S = 60.0  # simulated: the device's own, and ours to import and to fill caches


@dataclass(frozen=True, slots=True)
class Cost:
    """One driver's cost."""

    driver: str
    frame_us: float  # per frame; GPIO: per edge, files: per reading of them all
    frames_per_s: float
    core_percent: float


def measure(name: str, *, for_s: float = 300.0, rounds: int = ROUNDS) -> Cost:
    """Measure one driver over `for_s` simulated seconds, the median of `rounds`."""
    rig = Rig(name)
    rig.run(WARM_UP_S)
    spent_us, frames = [], []
    for _ in range(rounds):
        frames_before, wire_before_ns = rig.driver.frames, rig.wire_ns
        began_ns = time.process_time_ns()
        rig.run(for_s / rounds)
        spent_ns = time.process_time_ns() - began_ns - (rig.wire_ns - wire_before_ns)
        spent_us.append(spent_ns / 1e3)
        frames.append(rig.driver.frames - frames_before)
    round_s = for_s / rounds
    heard = sum(frames)
    return Cost(
        name,
        sum(spent_us) / heard if heard else float("nan"),
        heard / for_s,
        statistics.median(spent_us) / 1e6 / round_s * 100,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--driver", action="append", metavar="NAME", help="only this (repeatable)")
    parser.add_argument("--markdown", action="store_true", help="print the table of the docs")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    known = [name for name in drivers.names() if name in emulation.emulated()]
    costs = [measure(name) for name in arguments.driver or known]
    if arguments.json:
        print(document({f"{cost.driver}_frame_us": round(cost.frame_us, 2) for cost in costs}))
        return 0
    if arguments.markdown:
        print("| driver | us a frame | frames a second | % of one core |")
        print("|---|---|---|---|")
    for cost in costs:
        frame_us = f"{cost.frame_us:.1f}" if cost.frames_per_s else "-"
        row = (frame_us, f"{cost.frames_per_s:.2f}", f"{cost.core_percent:.3f}")
        if arguments.markdown:
            print(f"| `{cost.driver}` | {' | '.join(row)} |")
        else:
            print(f"{cost.driver:<18} {row[0]:>8} us  {row[1]:>7} /s  {row[2]:>7} %")
    return 0
