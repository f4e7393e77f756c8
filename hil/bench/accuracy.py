"""What a released figure is worth: recorded pedestrians, with the noise of the default policy.

    python -m hil bench accuracy

Hourly counts of four places in Melbourne, 2015 and 2016 (City of Melbourne, CC BY 4.0; the
recordings are in the folder that YUKIMI_RECORDINGS names). They say nothing of quarters of an hour:
each person is put into one of the four by a fair die, so windows here are as even as a crowd that
pays no heed to each other can be, and real ones less. The error of a figure does not depend on the
count, so only what is relative to it does on this rule.

Every window is released by the gateway's own sampler, as one count. An hour is the sum of its four
`unclamped` figures, a day that of its 96; only days without a gap count. The theory beside it is
the exact law, added up.
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.privacy.policy import Policy
from agent.privacy.sampler import noise_sd

from ..hall import POLICY
from .figures import document
from .winters import folder_of_recordings

MISUSED = 2
FILE = "people_counts/melbourne_pedestrian_hourly_2015-2016.csv"
HOURS, QUARTERS = 24, 4
SPANS = {"window": 1, "hour": QUARTERS, "day": HOURS * QUARTERS}  # in windows
REACH = 200  # beyond it an outcome has a probability of e^-50
WITHIN = 0.1  # of the true count
SURE = 0.95
STEP = 1.25  # between two flows that are looked at
LOOKED_AT = {"window": 12, "hour": 150}  # figures that an operator asks about

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Span:
    """How far the figures of one length are off, measured and by theory."""

    name: str
    n: int
    mean: float
    sd: float
    sd_theory: float
    half: int  # 95 of 100 are at most so far off, by theory
    within_half: float  # measured
    clamped_mean: float  # where `count` is added up
    from_flow: int  # the smallest true count at which it is within a tenth, by theory
    within_tenth: float  # measured, from there to a quarter more; NaN: nothing recorded there
    before_tenth: float  # from a quarter less to there


def read(path: Path, seed: int = 1) -> dict[str, Counts]:
    """Return true counts by window, shape (days, 96), of each sensor's whole days."""
    days: dict[tuple[str, str], dict[int, int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            day = days.setdefault((row["Sensor"], row["Date"]), {})
            day[int(row["Time"])] = int(row["Count"])
    die = np.random.default_rng(seed)  # of the split, not of the release
    places: dict[str, list[Counts]] = {}
    for (sensor, _), hours in days.items():
        if len(hours) == HOURS:
            split = [die.multinomial(hours[hour], [1 / QUARTERS] * QUARTERS) for hour in range(24)]
            places.setdefault(sensor, []).append(np.concatenate(split))
    return {sensor: np.array(whole) for sensor, whole in places.items()}


def released(true: Counts, policy: Policy = POLICY) -> Counts:
    """Return the `unclamped` figure of every window, drawn as the gateway does."""
    figures = []
    for count in true.flat:
        total: Any = policy.release({"total": int(count)})["total"]
        figures.append(total["unclamped"])
    return np.array(figures).reshape(true.shape)


def law(windows: int, epsilon: float = float(POLICY.epsilon)) -> npt.NDArray[np.float64]:
    """Return the probabilities of the noise of so many windows together, zero in the middle."""
    a = math.exp(-epsilon)
    one = (1 - a) / (1 + a) * a ** np.abs(np.arange(-REACH, REACH + 1))
    total = np.ones(1)
    for _ in range(windows):
        total = np.convolve(total, one)
    return total


def half_of(windows: int, sure: float = SURE) -> int:
    """Return the smallest k with P[|noise of so many windows| <= k] >= `sure`."""
    chances = law(windows)
    middle = len(chances) // 2
    within = chances[middle] + 2 * np.concatenate(([0.0], np.cumsum(chances[middle + 1 :])))
    return int(np.argmax(within >= sure))


def summed(counts: Counts, windows: int) -> Counts:
    """Add up so many windows at a time, within each day."""
    sums: Counts = counts.reshape(-1, windows).sum(axis=1)
    return sums


def span(name: str, true: Counts, figures: Counts) -> Span:
    """Compare the figures of one length with the truth."""
    windows = SPANS[name]
    truth = summed(true, windows)
    off = summed(figures, windows) - truth
    clamped_off = summed(np.maximum(figures, 0), windows) - truth
    half = half_of(windows)
    from_flow = math.ceil(half / WITHIN)

    def share(low: float, high: float) -> float:
        chosen = (truth >= low) & (truth < high)
        return (
            float(np.mean(np.abs(off[chosen]) <= WITHIN * truth[chosen]))
            if chosen.any()
            else math.nan
        )

    return Span(
        name,
        len(truth),
        float(off.mean()),
        float(off.std()),
        noise_sd(POLICY.epsilon) * math.sqrt(windows),
        half,
        float(np.mean(np.abs(off) <= half)),
        float(clamped_off.mean()),
        from_flow,
        share(from_flow, from_flow * STEP),
        share(from_flow / STEP, from_flow),
    )


def behind(figure: int, name: str, true: Counts, figures: Counts) -> tuple[int, int, int]:
    """Return how often a figure came, and between which true counts 95 of 100 of these were."""
    truth, seen = summed(true, SPANS[name]), summed(figures, SPANS[name])
    chosen = truth[seen == figure]
    if not len(chosen):
        return 0, 0, 0
    low, high = np.quantile(chosen, [(1 - SURE) / 2, (1 + SURE) / 2])
    return len(chosen), int(low), int(high)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 2 without recordings."""
    path = folder_of_recordings() / FILE
    if not path.exists():
        print(f"no {path}: set YUKIMI_RECORDINGS", file=sys.stderr)
        return MISUSED
    true = np.concatenate(list(read(path).values()))
    figures = released(true)
    spans = [span(name, true, figures) for name in SPANS]
    if arguments.json:
        print(document({f"{each.name}_sd": round(each.sd, 3) for each in spans}))
        return 0
    for each in spans:
        print(
            f"{each.name:<6} n {each.n:>7,}  mean {each.mean:+.3f}  sd {each.sd:.2f}"
            f" (theory {each.sd_theory:.2f})  +-{each.half}: {each.within_half:.2%}"
            f"  clamped mean {each.clamped_mean:+.2f}"
            f"  within 10 % from {each.from_flow:,}: {each.within_tenth:.1%}"
            f" (below: {each.before_tenth:.1%})"
        )
    for name, figure in LOOKED_AT.items():
        n, low, high = behind(figure, name, true, figures)
        print(f"a figure of {figure} in a {name}: {n} times; truly {low} to {high}")
    return 0
