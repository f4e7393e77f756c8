"""What a window costs: gathering its samples, judging them, and its statistics.

    python -m hil bench quality              # a table
    python -m hil bench quality --markdown   # the table of docs/quality.md
    python -m hil bench quality --json

One quantity with every test on (the air's limits, and a plateau in which it hovers), over windows
of a minute. Each figure is the process's own time a window, the least of several rounds: the
machine is shared. `found` are windows with a spike in each, which are taken apart by sample.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.aggregate import Measured
from agent.qc import Judge
from drivers.base import Quantity, Reading
from drivers.limits import AIR_C

from .figures import document

WINDOW_S = 60
QUANTITIES = 32 * 5
SAMPLES = (6, 60, 600, 6000)
ROUNDS = 5
ROUND_SAMPLES = 30_000

# The noise of a quiet night stays within the tolerance, the spike is one whatever the rate.
LIMITS = AIR_C._replace(rate_per_s=100.0, flat_tolerance=1.0)
AIR = Quantity("air_temperature_c", "Cel", "air", limits=LIMITS)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one quantity's window of so many samples costs."""

    samples: int
    gather_us: float
    judge_us: float
    judge_found_us: float
    summarise_us: float

    @property
    def core_percent(self) -> float:
        """All of it, for so many quantities that each close a window a minute."""
        judge_us = max(self.judge_us, self.judge_found_us)
        spent_us = self.gather_us + judge_us + self.summarise_us
        return spent_us * QUANTITIES / 1e6 / WINDOW_S * 100


def measure(samples: int) -> Cost:
    """Measure windows of so many samples."""
    count = max(ROUND_SAMPLES // samples, 2)
    quiet, found = (_series(count, samples, spikes) for spikes in (False, True))
    gathered = [[_gathered(window) for window in series] for series in (quiet, found)]
    name = AIR.name

    def judge(tallies: list[Measured]) -> None:
        own = Judge(LIMITS, WINDOW_S / samples)
        for tally in tallies:
            own.sift(tally.times_s[name], tally.numbers[name])

    return Cost(
        samples,
        _us(lambda: [_gathered(window) for window in quiet], count),
        _us(lambda: judge(gathered[0]), count),
        _us(lambda: judge(gathered[1]), count),
        _us(lambda: [tally.value(name) for tally in gathered[0]], count),
    )


def _series(count: int, samples: int, has_spikes: bool) -> list[list[Reading]]:
    noise = random.Random(samples)
    step_ns = WINDOW_S * 10**9 // samples
    windows = []
    for window in range(count):
        values = [5.0 + noise.uniform(0.0, 0.9) for _ in range(samples)]
        if has_spikes:
            values[samples // 2] += 20.0
        first = window * samples
        windows.append(
            [Reading(AIR.name, value, (first + at) * step_ns) for at, value in enumerate(values)]
        )
    return windows


def _gathered(window: list[Reading]) -> Measured:
    tally = Measured({AIR.name: AIR})
    for reading in window:
        tally.add(reading)
    return tally


def _us(work: Callable[[], object], windows: int) -> float:
    spent_ns = []
    for _ in range(ROUNDS):
        began_ns = time.process_time_ns()
        work()
        spent_ns.append(time.process_time_ns() - began_ns)
    return min(spent_ns) / 1e3 / windows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--markdown", action="store_true", help="print the table of the docs")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    costs = [measure(samples) for samples in SAMPLES]
    if arguments.json:
        print(document({f"judge_{cost.samples}_us": round(cost.judge_us, 1) for cost in costs}))
        return 0
    head = (
        *("samples", "gather, us", "judge, us", "judge with a spike, us", "statistics, us"),
        f"{QUANTITIES} quantities a minute, % of one core",
    )
    rows: list[tuple[str, ...]] = [head]
    if arguments.markdown:
        rows.append(tuple("---" for _ in head))
    for cost in costs:
        spent = (cost.gather_us, cost.judge_us, cost.judge_found_us, cost.summarise_us)
        said = (f"{each:.0f}" for each in spent)
        rows.append((str(cost.samples), *said, f"{cost.core_percent:.2f}"))
    for row in rows:
        if arguments.markdown:
            print(f"| {' | '.join(row)} |")
        else:
            print("  ".join(f"{cell:>{len(title)}}" for cell, title in zip(row, head, strict=True)))
    return 0
