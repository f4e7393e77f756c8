"""What the city is told of recorded winters, beside the truth.

    python -m hil bench snow                # every winter, every minute: some ten minutes
    python -m hil bench snow --every-s 600  # a minute in ten
    python -m hil bench snow --json

Two recorded series, 864 hours in all, drive simulated ultrasonic gauges; their bytes go through the
real driver, aggregate and snow (hil/winter.py says how). The recordings are those of the tests, in
the folder that YUKIMI_RECORDINGS names. A figure is the worst over the series. The controls leave
one thing out: each must miss what it is for.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hil.winter import SERIES, Account, Setup, Truth, Winter, live, read

from .figures import Figure, document, table

FIGURES = (
    Figure("maxbotix_depth_rms_cm", "depth, of what is told without a doubt", 1.0),
    Figure("maxbotix_snowfall_rms_cm", "an hour's snowfall", 0.5),
    Figure("maxbotix_hours_known", "share of the hours that have a true snowfall", 0.95, True),
    Figure("maxbotix_rejected_share", "of the echoes, as flakes"),
    Figure("maxbotix_snowfall_sum_ratio", "all hours that are known, told to true"),
    Figure("sr50a_depth_rms_cm", "the same for the gauge that is told the air's temperature", 1.0),
    Figure("sr50a_snowfall_rms_cm", "an hour's snowfall", 0.5),
    Figure("sr50a_hours_known", "share of the hours that have a true snowfall", 0.95, True),
    Figure("sr50a_rejected_share", "of the echoes, as flakes"),
    Figure("sr50a_snowfall_sum_ratio", "all hours that are known, told to true"),
    Figure("ploughed_depth_rms_cm", "an SR50A over a street that is ploughed", 1.0),
    Figure("ploughed_snowfall_rms_cm", "an hour's snowfall there", 0.5),
    Figure("ploughed_hours_known", "share of the hours", 0.95, True),
    Figure("clearings", "how often it was ploughed"),
    Figure("clearings_missed", "not seen within half an hour", 0.0),
    Figure("clearings_invented", "seen, where the ground is neither ploughed nor bare", 0.0),
    Figure("no_rejection_depth_rms_cm", "control: MaxBotix, all echoes believed", 1.0, True),
    Figure("no_rejection_hours_known", "control: what is left of the hours", 0.95),
    Figure("uncorrected_depth_rms_cm", "control: SR50A, sound as at 0 degC", 1.0, True),
    Figure("twice_corrected_depth_rms_cm", "control: SR50A, corrected twice", 1.0, True),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument(
        "--every-s", type=int, default=60, help="simulate a minute in so many seconds (60)"
    )
    parser.add_argument("--passers", type=int, default=20, help="persons below, a winter (20)")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print. Return 1 if a figure misses its target, 2 without recordings."""
    folder = Path(os.environ.get("YUKIMI_RECORDINGS", "../shared/recordings")) / "snow"
    if not folder.is_dir():
        print(f"no recordings at {folder}: set YUKIMI_RECORDINGS")
        return 2
    winters = [read(folder / name) for name in SERIES]
    values: dict[str, float] = {}
    for key, value, is_least in measure(winters, arguments.every_s, arguments.passers):
        worst = min if is_least else max
        values[key] = worst(value, values.get(key, value))
    if arguments.json:
        print(document({key: round(value, 3) for key, value in values.items()}))
    else:
        print("\n".join(table(FIGURES, values)))
    return 0 if all(each.holds(values[each.key]) for each in FIGURES) else 1


def measure(winters: list[Winter], every_s: int, passers: int) -> Iterator[tuple[str, float, bool]]:
    """Yield (figure, value, whether the least is the worst) of each winter."""
    for winter in winters:
        truth = Truth(winter)
        setups = {
            "maxbotix": Setup("maxbotix-hrxl", every_s=every_s, passers=passers),
            "sr50a": Setup("campbell-sr50a", every_s=every_s, passers=passers),
        }
        for name, setup in setups.items():
            account = live(truth, setup)
            yield from _common(name, account)
            yield f"{name}_rejected_share", account.rejected / account.samples, False
            pairs = [(t, s) for t, s in account.snowfall_cm() if t is not None and s is not None]
            ratio = sum(said for _, said in pairs) / sum(true for true, _ in pairs)
            yield f"{name}_snowfall_sum_ratio", ratio, False
        yield from _ploughed(winter)
        blind = live(truth, replace(setups["maxbotix"], rejects=False, every_s=max(600, every_s)))
        yield "no_rejection_depth_rms_cm", blind.depth_rms_cm(), True
        yield "no_rejection_hours_known", blind.hours_known(), False
        deaf = live(truth, replace(setups["sr50a"], correction="none"))
        yield "uncorrected_depth_rms_cm", deaf.believed_rms_cm(), True
        twice = live(truth, replace(setups["sr50a"], correction="twice"))
        yield "twice_corrected_depth_rms_cm", twice.believed_rms_cm(), True


def _common(name: str, account: Account) -> Iterator[tuple[str, float, bool]]:
    yield f"{name}_depth_rms_cm", account.believed_rms_cm(), False
    yield f"{name}_snowfall_rms_cm", account.snowfall_rms_cm(), False
    yield f"{name}_hours_known", account.hours_known(), True


def _ploughed(winter: Winter) -> Iterator[tuple[str, float, bool]]:
    truth = Truth(winter, ploughed=True)
    account = live(truth, Setup("campbell-sr50a"))
    yield from _common("ploughed", account)
    seen_s = account.clearings_s()
    missed = [at_s for at_s in truth.clearings_s if not _is_near(at_s, seen_s)]
    invented = [
        each
        for each in seen_s
        if not any(0 < each - at_s <= 1800 for at_s in truth.clearings_s)
        and (truth.depth_cm(each) or 0.0) >= 2.0
    ]
    yield "clearings", len(truth.clearings_s), False
    yield "clearings_missed", len(missed), False
    yield "clearings_invented", len(invented), False


def _is_near(at_s: float, seen_s: list[float]) -> bool:
    return any(at_s < each <= at_s + 1800 for each in seen_s)
