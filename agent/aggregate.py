"""A window's readings -> statistics.

Numbers become mean, min, max, standard deviation and median; classes become their shares. What the
tests of `qc.py` reject is left out of them and counted by reason, never silently dropped.
"""

from __future__ import annotations

import math
import statistics
from array import array
from collections import Counter
from collections.abc import Mapping

from drivers.base import Alive, Crossing, Fix, Observation, Quantity, Reading, Reason, Trouble

from .qc import NOTHING_FOUND, Judge, Verdict
from .record import tidy

# From so many samples on, the exact arithmetic of `statistics` takes time and gives nothing: no
# more than two digits are told. In numpy a window of 6000 would be 2 ms faster, once a minute, for
# 14 MB of memory: a gateway whose sensors do not need it never loads it.
MANY = 300

# 100 readings a second for an hour: the fastest device in the longest window.
MAX_SAMPLES = 360_000


class Measured:
    """What a window of a measuring sensor gathers: samples by quantity, and why others failed.

    Beside them the latest fix, and how many there were: where the gateway was at the window's end.
    """

    __slots__ = (
        *("after", "classes", "failed", "fix", "fixes"),
        *("numbers", "times_s", "troubles", "verdicts"),
    )

    def __init__(self, quantities: Mapping[str, Quantity]) -> None:
        self.numbers = {name: array("d") for name, q in quantities.items() if not q.is_class}
        self.times_s = {name: array("d") for name in self.numbers}  # boot time of each sample
        self.verdicts: dict[str, Verdict] = {}
        self.after: Measured | None = None  # the window that follows, once it has begun
        self.classes: dict[str, Counter[str]] = {
            name: Counter() for name, q in quantities.items() if q.is_class
        }
        self.failed: dict[str, Counter[Reason]] = {name: Counter() for name in quantities}
        self.troubles: Counter[Reason] = Counter()
        self.fix: Fix | None = None
        self.fixes = 0

    def add(self, observation: Observation) -> None:
        """Take a reading, or note why there is none."""
        match observation:
            case Reading(quantity=name, value=float() | int() as value) if (
                name in self.numbers and math.isfinite(value)
            ):
                if len(self.numbers[name]) < MAX_SAMPLES:
                    self.numbers[name].append(value)
                    self.times_s[name].append(observation.at_boot_ns / 1e9)
            case Reading(quantity=name, value=str() as value) if name in self.classes:
                self.classes[name][value] += 1
            case Reading(quantity=name, reasons=reasons) if name in self.failed:
                self.failed[name].update(reasons)
            case Trouble(reason=reason):
                self.troubles[reason] += 1
            case Fix():
                self.fix = later(self.fix, observation)
                self.fixes += 1
            case Reading() | Crossing() | Alive():
                pass  # not a quantity of this sensor

    def sift(self, judges: Mapping[str, Judge]) -> None:
        """Take out what the tests reject. Once, and in the order of the windows."""
        for name, judge in judges.items():
            following = None if self.after is None else self.after.first(name)
            self.numbers[name], self.verdicts[name] = judge.sift(
                self.times_s[name], self.numbers[name], following
            )

    def first(self, quantity: str) -> tuple[float, float] | None:
        """Return the time and the value of a number's first sample, before it is sifted."""
        numbers = self.numbers[quantity]
        return (self.times_s[quantity][0], numbers[0]) if numbers else None

    def verdict(self, quantity: str) -> Verdict:
        """Return what the tests found about a quantity."""
        return self.verdicts.get(quantity, NOTHING_FOUND)

    def n(self, quantity: str) -> int:
        """Return the number of valid samples of a quantity."""
        if quantity in self.numbers:
            return len(self.numbers[quantity])
        return self.classes[quantity].total()

    def heard_of(self) -> list[str]:
        """Return the quantities that the device spoke of, well or ill.

        What it never mentions while it answers for others, this device does not measure.
        """
        return [
            name
            for name in self.failed
            if self.n(name) or self.failed[name] or self.verdict(name).rejected
        ]

    def value(self, quantity: str) -> dict[str, object] | None:
        """Return the contract's object for a quantity; None where nothing valid was measured."""
        if self.n(quantity) == 0:
            return None
        if quantity in self.numbers:
            value = summarise(self.numbers[quantity])
            rejected = self.verdict(quantity).rejected
            return value | {"rejected": dict(rejected)} if rejected else value
        return shares(self.classes[quantity])


def later(before: Fix | None, fix: Fix) -> Fix:
    """Return the later one of two fixes."""
    return fix if before is None or fix.at_boot_ns >= before.at_boot_ns else before


def summarise(samples: array[float]) -> dict[str, object]:
    """Summarise samples of shape (n,), n >= 1, all finite, in the quantity's unit.

    `sd` is the sample's (n - 1), None for a single sample.
    """
    n = len(samples)
    sd: float | None
    mean, low, high = statistics.fmean(samples), min(samples), max(samples)
    if n >= MANY:
        sd = math.sqrt(sum((each - mean) * (each - mean) for each in samples) / (n - 1))
    else:
        sd = statistics.stdev(samples, mean) if n > 1 else None
    median = statistics.median(samples)
    return {
        "mean": tidy(mean),
        "min": tidy(low),
        "max": tidy(high),
        # Of equal samples some dust would be left. Of n samples no more digits are known anyway.
        "sd": None if sd is None else 0 if low == high else float(f"{sd:.2g}"),
        "median": tidy(median),
        "n": n,
    }


def shares(counts: Counter[str]) -> dict[str, object]:
    """Return a class's mode and the share of each value seen, most frequent first."""
    n = counts.total()
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {
        "mode": ranked[0][0],
        "share": {name: tidy(round(count / n, 3)) for name, count in ranked},
        "n": n,
    }
