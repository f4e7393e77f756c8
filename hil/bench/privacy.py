"""Does the gateway keep its promise about people: epsilon, measured from outside, and a bound.

    python -m hil bench privacy            # a million windows: six minutes, on two busy cores
    python -m hil bench privacy --quick    # a hundred thousand

Windows pass through a gateway that is whole from the hand-over of observations to the payload as
it is sent (hil/hall.py says what is real in it). In each, a coin for each direction says whether x
or x + 1 persons cross. From all that is heard of the window two things are asked:

- Is every figure that was released at least x + 1? By how much oftener that happens with the one
  crossing more bounds epsilon from below: each share is replaced by its Chernoff bound at alpha
  1e-6, with the Kullback-Leibler divergence. Above 1/4 the promise is broken. Far below it the
  bench would be blind, so that is a failure as well.
- Does anything else tell of the crossing: a word of a record, an alert, a retained state, a log
  line? In the first tenth of the windows that fact is sought which parts the two cases best; on
  the rest its own bound is computed, and must not pass 1/4 either.

Gateways that leak on purpose must be found out: one with an alert on the raw count, one with a log
line (with the sensor's name, and without), one that draws noise twice and tells both figures (their
average is nearer to the truth).

The windows of a hundred sensors close and leave together, all with the same counts, so that a line
without a name is one about a known count too; the noise of each is its own. Facts are looked at one
by one: what only several of them tell together is not found.

The time at which a record leaves is held against the raw count, while every crossing costs the
pipeline a millisecond of work: |r| must stay below what chance gives in 999 of 1000 cases. Without
the fixed offset, and with an offset that grows with the count, it must not.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import structlog

from agent.privacy.sampler import discrete_laplace
from agent.record import Record
from agent.rules import Finding
from drivers.base import Direction

from ..hall import DIRECTIONS, OFFSET_S, POLICY, Hall, Leak, Told
from .figures import Figure, document, table

WRONG = 1
WINDOWS, QUICK_WINDOWS, SPOILED_WINDOWS = 1_000_000, 100_000, 20_000
SENSORS = 100  # their windows close and are committed together
CROSSINGS = 2  # x
LEARNING = 0.1  # of the windows: in these a telling fact is sought
ALPHA = 1e-6
EPSILON = float(POLICY.epsilon)

SAMPLES = 1_000_000
CELL = 50  # expected samples of an outcome, from which it has a cell of its own
CHANCE_Z = 4.75  # one in a million

TIMED_WINDOWS = 5000
BAND_Z = 3.29  # 99.9 %, both sides
CROWD = 200  # in a direction, at most
WORK_S = 0.001  # of the pipeline, for each crossing
OVERSLEEP_S = 0.005  # of the uplink, at most

Say = Callable[[str], None]


# The bound


def least_share(hits: float, n: float, alpha: float = ALPHA) -> float:
    """Return a bound that the true share is below with probability `alpha` at most (Chernoff)."""
    share, reach = hits / n, -math.log(alpha) / n
    low, high = 0.0, share
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(share, middle) > reach else (low, middle)
    return low


def _divergence(share: float, other: float) -> float:
    """Kullback-Leibler, of two coins, in nats."""
    terms = ((share, other), (1 - share, 1 - other))
    return sum(p * math.log(p / q) if q > 0 else math.inf for p, q in terms if p > 0)


@dataclass(slots=True)
class Split:
    """How often something happened with x crossings, and with x + 1."""

    hits: list[float] = field(default_factory=lambda: [0, 0])
    n: list[float] = field(default_factory=lambda: [0, 0])

    def add(self, more: int, happened: bool) -> None:
        """Note one window; `more` is 1 where there was the one crossing more."""
        self.n[more] += 1
        self.hits[more] += happened

    def least_epsilon(self) -> float:
        """Return the epsilon that is certain: it is lower with probability 2 ALPHA at most."""
        rarest = 1 - least_share(self.n[0] - self.hits[0], self.n[0])
        return _log_ratio(least_share(self.hits[1], self.n[1]), rarest)

    def either_way(self) -> float:
        """The same, of whichever is rarer: happening or not, with or without the crossing."""
        misses = [n - hits for n, hits in zip(self.n, self.hits, strict=True)]
        ways = [
            Split(hits[::order], self.n[::order])
            for hits in (self.hits, misses)
            for order in (1, -1)
        ]
        return max(way.least_epsilon() for way in ways)


def _log_ratio(least: float, most: float) -> float:
    return math.log(least / most) if least > most else 0.0


def expected_bound(windows: int, epsilon: float = EPSILON) -> float:
    """Return what the bound of so many windows comes to, where the law is kept exactly.

    Half of the releases of each direction are of either case: as many of each as windows. With
    a = exp(-epsilon), the event has probability 1 / (1 + a) with the crossing and a / (1 + a)
    without.
    """
    a = math.exp(-epsilon)
    return Split([windows * a / (1 + a), windows / (1 + a)], [windows, windows]).least_epsilon()


def least_bound(windows: int) -> float:
    """Return what the bound falls below, by bad luck alone, about once in a million times.

    Each share is then as far from its probability as the bound itself goes.
    """
    return EPSILON - 2 * (EPSILON - expected_bound(windows))


# The whole way


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found out about one gateway."""

    epsilon: float  # certain, by the released figures
    beside: float  # certain, by the fact that tells most
    fact: str  # that one; NOTHING where none tells anything
    windows: int

    @property
    def certain(self) -> float:
        """The epsilon that the gateway has at least."""
        return max(self.epsilon, self.beside)


Place = tuple[str, str]  # whose facts, a sensor's own or nobody's; direction
NOTHING = ""  # a fact that is in no window


class Auditor:
    """Somebody who hears all that leaves, and knows what he would like to find out."""

    def __init__(self, crossings: int) -> None:
        """`crossings` is x."""
        self._crossings = crossings
        self._figures = Split()
        self._sought: dict[Place, dict[str, Split]] = {}
        self._telling: dict[Place, tuple[str, Split]] = {}

    def hear(self, told: Told, more: Mapping[Direction, int], *, is_learning: bool) -> None:
        """Take what was told of a window; `more` is 1 where it was the case of x + 1."""
        said = [("own", facts) for facts in told.own.values()] + [("", told.common)]
        for direction, bit in more.items():
            for released in told.figures.values():
                self._figures.add(bit, min(released[direction]) > self._crossings)
            for whose, facts in said:
                place = (whose, direction)
                if is_learning:
                    _count(self._sought.setdefault(place, {NOTHING: Split()}), bit, facts)
                    continue
                if place not in self._telling:
                    fact = _most_telling(self._sought.get(place, {}))
                    self._telling[place] = (fact, Split())
                fact, split = self._telling[place]
                split.add(bit, fact in facts)

    def finding(self, windows: int) -> Audit:
        """Return what is certain after so many windows."""
        bounds = [(split.either_way(), fact) for fact, split in self._telling.values()]
        beside, fact = max(bounds)
        return Audit(self._figures.least_epsilon(), beside, fact if beside else NOTHING, windows)


def audit(
    windows: int,
    *,
    sensors: int = SENSORS,
    crossings: int = CROSSINGS,
    crowd: int = 2000,
    leak: Leak | None = None,
    seed: int = 1,
) -> Audit:
    """Let windows pass a gateway, and find out what they tell."""
    coins = Random(seed)
    rounds = -(-windows // sensors)
    auditor = Auditor(crossings)
    with (
        tempfile.TemporaryDirectory(dir=_memory()) as folder,
        Hall(Path(folder), sensors=sensors, crowd=crowd, leak=leak) as hall,
    ):
        for at in range(rounds):
            more = {direction: coins.getrandbits(1) for direction in DIRECTIONS}
            told = hall.window({each: crossings + bit for each, bit in more.items()})
            auditor.hear(told, more, is_learning=at < LEARNING * rounds)
    return auditor.finding(rounds * sensors)


def _count(sought: dict[str, Split], bit: int, facts: set[str]) -> None:
    """Count facts; under NOTHING the windows."""
    sought[NOTHING].n[bit] += 1
    for fact in facts:
        sought.setdefault(fact, Split()).hits[bit] += 1


def _most_telling(sought: dict[str, Split]) -> str:
    """Return the fact whose share differs most between the two cases."""
    n = sought[NOTHING].n if sought else [0, 0]
    if not all(n):
        return NOTHING
    return max(
        sought, key=lambda fact: abs(sought[fact].hits[0] / n[0] - sought[fact].hits[1] / n[1])
    )


def _memory() -> str | None:
    """Return a folder in memory, where there is one: a sync there costs nothing."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  (a folder of our own in it)


# Gateways that leak


def alert_on_raw(hall: Hall, counts: dict[str, int], record: Record) -> None:
    """Raise an alert when too many crossed, by the raw count."""
    is_there = sum(counts.values()) > 2 * CROSSINGS
    values = {"place": {"ja": "x", "en": "x"}, "persons": 0, "threshold": 0}
    finding = Finding("crowding", record.stream, "people", is_there, values, at_ns=record.end_ns)
    hall.pipeline._tell_finding(finding, record.end_ns)


def log_raw(hall: Hall, counts: dict[str, int], record: Record) -> None:
    """Write the raw count into the log, at a level that nobody reads."""
    structlog.get_logger().debug(
        "window closed", sensor=record.stream, at_ns=record.end_ns, **counts
    )


def log_raw_unnamed(hall: Hall, counts: dict[str, int], record: Record) -> None:
    """Write it without saying whose it is."""
    structlog.get_logger().debug("counts taken", counts=counts)


def draw_twice(hall: Hall, counts: dict[str, int], record: Record) -> None:
    """Release the window again, as a retry would that kept the counts and not the record."""
    again = replace(record, values=POLICY.release(counts), settles=None)
    hall.pipeline._writer.add([again])


def offset_by_count(hall: Hall, counts: dict[str, int], record: Record) -> None:
    """Let the record wait for 50 us longer for each crossing."""
    offset_s = OFFSET_S + 5e-5 * sum(counts.values())
    delivery = hall.uplink._delivery
    delivery._fresh = delivery._fresh._replace(offset_s=offset_s)


# The sampler


def misfit_z(seen: Counter[int], epsilon: float = EPSILON) -> float:
    """Return chi-square of samples against the exact law, as a standard normal's value.

    Wilson and Hilferty: the cube root of chi-square over its degrees is nearly normal.
    """
    samples, a = seen.total(), math.exp(-epsilon)
    expected = {0: (1 - a) / (1 + a) * samples}
    for x in range(1, 1000):
        expected[x] = expected[-x] = expected[0] * a**x
    cells = [(seen[x], count) for x, count in expected.items() if count >= CELL]
    inside = sum(count for count, _ in cells), sum(count for _, count in cells)
    cells.append((samples - inside[0], samples - inside[1]))
    degrees = len(cells) - 1
    chi2 = sum((count - law) ** 2 / law for count, law in cells)
    spread = 2 / (9 * degrees)
    cube_root: float = (chi2 / degrees) ** (1 / 3)
    return (cube_root - (1 - spread)) / math.sqrt(spread)


def sampled(samples: int) -> dict[str, float]:
    """Draw with the system's randomness; return the misfit and the speed by CPU time."""
    began_s = time.process_time()
    seen = Counter(discrete_laplace(POLICY.epsilon) for _ in range(samples))
    spent_s = time.process_time() - began_s
    return {"sampler_misfit_z": misfit_z(seen), "sampler_per_s": round(samples / spent_s)}


# The time


def timing(
    windows: int = TIMED_WINDOWS,
    *,
    is_timed: bool = True,
    offset_s: float = OFFSET_S,
    leak: Leak | None = None,
    seed: int = 1,
) -> float:
    """Return |r| of publication time and raw count, in units of the 99.9 % band of chance."""
    crowd = Random(seed)
    counts: list[float] = []
    left_s: list[float] = []
    with (
        tempfile.TemporaryDirectory(dir=_memory()) as folder,
        Hall(
            Path(folder), leak=leak, is_timed=is_timed, offset_s=offset_s,
            oversleep_s=lambda: crowd.uniform(0, OVERSLEEP_S),
        ) as hall,
    ):  # fmt: skip
        for _ in range(windows):
            count = {direction: crowd.randint(0, CROWD) for direction in DIRECTIONS}
            persons = sum(count.values())
            told = hall.window(count, late_s=WORK_S * persons)
            counts.append(persons)
            left_s += told.left_s.values()
    return abs(correlation(counts, left_s)) / (BAND_Z / math.sqrt(windows))


def correlation(counts: Sequence[float], left_s: Sequence[float]) -> float:
    """Return r; 0 where the time never changes."""
    return 0.0 if len(set(left_s)) == 1 else statistics.correlation(counts, left_s)


# The bench


def figures(windows: int) -> tuple[Figure, ...]:
    """Return the figures and their targets, for so many windows."""
    return (
        Figure("epsilon", "certain, by the released figures", EPSILON),
        Figure("epsilon_seen", "the same: below, the bench is blind", least_bound(windows), True),
        Figure("epsilon_beside", "certain, by anything else that is told", EPSILON),
        Figure("epsilon_alert_on_raw", "a gateway that leaks is found", EPSILON, True),
        Figure("epsilon_log_raw", "a gateway that leaks is found", EPSILON, True),
        Figure("epsilon_log_raw_unnamed", "a gateway that leaks is found", EPSILON, True),
        Figure("epsilon_draw_twice", "a gateway that leaks is found", EPSILON, True),
        Figure("timing_r_of_band", "|r| of time and count, by the 99.9 % band", 1.0),
        Figure("timing_r_at_once_of_band", "without the offset", 1.0, True),
        Figure("timing_r_offset_by_count_of_band", "50 us a crossing", 1.0, True),
        Figure("sampler_misfit_z", "chi-square against the law, as a normal's z", CHANCE_Z),
        Figure("sampler_per_s", "samples of a second of CPU time", 30_000, True),
        Figure("windows", "through the whole way"),
        Figure("windows_per_s", "by the clock on the wall"),
    )


LEAKS = (alert_on_raw, log_raw, log_raw_unnamed, draw_twice)


def measure(windows: int, say: Say = lambda _: None) -> dict[str, float]:
    """Return every figure."""
    began_s = time.monotonic()
    honest = audit(windows)
    took_s = time.monotonic() - began_s
    say(f"{honest.windows} windows; told beside the figures: {honest.fact or 'nothing'}")
    values: dict[str, float] = {
        "epsilon": honest.epsilon,
        "epsilon_seen": honest.epsilon,
        "epsilon_beside": honest.beside,
    }
    for leak in LEAKS:
        found = audit(min(windows, SPOILED_WINDOWS), leak=leak)
        values[f"epsilon_{leak.__name__}"] = found.certain
        say(f"{leak.__name__}: by {found.fact or 'the figures'}")
    timed = TIMED_WINDOWS
    values["timing_r_of_band"] = timing(timed)
    values["timing_r_at_once_of_band"] = timing(timed, is_timed=False)
    values["timing_r_offset_by_count_of_band"] = timing(timed, leak=offset_by_count)
    values |= sampled(SAMPLES)
    return values | {"windows": honest.windows, "windows_per_s": honest.windows / took_s}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")
    parser.add_argument("--quick", action="store_true", help="a tenth of the windows")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a figure misses its target."""
    windows = QUICK_WINDOWS if arguments.quick else WINDOWS
    values = measure(windows, lambda line: print(line, file=sys.stderr))
    rows = figures(windows)
    print(document(values) if arguments.json else "\n".join(table(rows, values)))
    return 0 if all(figure.holds(values[figure.key]) for figure in rows) else WRONG
