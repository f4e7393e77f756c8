"""What the pipeline costs: its thread's CPU time for 8 to 64 sensors at their real rates.

Ten minutes of observations are made beforehand by the real drivers on their emulated devices, and
are then played through the real pipeline (windows, aggregates, quality, release with noise,
records, commits to a spool on disk) as fast as it takes them, by a clock that goes with them. Its
thread's CPU time, user and system, by the time that was played is its share of one core. It is
woken for each hand-over, as by a collector; the collectors' own threads and the drivers come on top
(docs/decoders.md, docs/cost.md).

Eight sensors are those of a city's site, and a lidar beside them, so that "8 sensors" is the load
of nine: a thermal array (10 polls a second), a light-beam pair (2), two road sensors and a laser
snow gauge (one each 10 s), an ultrasonic snow gauge (6.7 frames a second), a lidar (a burst of 100
frames each second), a weather sensor (1) and the cabinet's own (one each 10 s). Twice as many
sensors are twice that, each set a little later than the one before.

cpu_percent_N                 of one core, with N sensors: the least of the rounds, for what others
                              on the machine add to it is not the pipeline's.
cpu_percent_per_sensor        the slope of the straight line through these, by least squares.
growth_ratio                  what a sensor costs among the most, by what it costs among the fewest:
                              1 where the cost grows in proportion, less where there is a base.
linear_residual_percent       the largest distance from that line, in percent of the largest figure.
"""

from __future__ import annotations

import argparse
import gc
import logging
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import structlog

from agent.alerts import AlertBook
from agent.channels import Channel, MeasuredChannel, PeopleChannel
from agent.clock import Clock, Look
from agent.collector import HAND_ON_S, Collected
from agent.phenomena.choice import phenomenon_of
from agent.phenomena.weather import Surroundings
from agent.pipeline import Pipeline
from agent.privacy.ledger import Terms
from agent.privacy.policy import Policy
from agent.rules import Rules, Subject
from agent.sensor import directions_of, kind_of
from agent.spool import Spool
from config.model import AlertsTable
from drivers.base import Driver, Observation

from ..rig import Rig
from .figures import Figure, document, table

WRONG = 1
SET = 8  # sensors by name; the lidar comes on top
SIZES = (8, 16, 32, 64)
PLAYED_S, QUICK_PLAYED_S = 600.0, 120.0
ROUNDS = 3
WARM_UP_S = 60.0
SHIFT_S = 0.037  # between two sets, so that they do not speak at once
QUARTER_NS = 900 * 10**9
POLICY = Policy(900, Fraction(1, 4))

SITE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "hall": ("grideye-amg88xx", {}),
    "door": ("beam-pair", {}),
    "road-a": ("lufft-umb", {}),
    "road-b": ("lufft-umb", {}),
    "snow-laser": ("lufft-umb", {"model": "shm31"}),
    "snow-sonic": ("maxbotix-hrxl", {}),
    "snow-lidar": ("benewake-tf", {"model": "tfmini", "frame_rate_hz": 100}),
    "weather": ("bme280", {}),
    "cabinet": ("pi-health", {}),
}

FIGURES = (
    Figure("cpu_percent_8", "of one core", 2.0),
    Figure("cpu_percent_16", "of one core"),
    Figure("cpu_percent_32", "of one core", 6.0),
    Figure("cpu_percent_64", "of one core"),
    Figure("cpu_percent_per_sensor", "slope of the line"),
    Figure("growth_ratio", "a sensor among the most by one among the fewest"),
    Figure("linear_residual_percent", "off the line, of the largest", 10.0),
    Figure("observations_per_s_8", "into the pipeline"),
    Figure("polls_per_s_8", "hand-overs by collectors"),
    Figure("records_8", "committed in a round"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """One sensor, and what its driver brought: (boot time of the hand-over, observations)."""

    driver: Driver
    polls: Sequence[tuple[int, Collected]]


def source(sensor_id: str, for_s: float, *, seed: int) -> Source:
    """Let a driver read its emulated device for a while, and keep what the collector hands on."""
    name, options = SITE[sensor_id]
    rig = Rig(name, seed=seed, **options)
    rig.run(WARM_UP_S)
    polls = []
    until_s = rig.now.s + for_s
    every_s = HAND_ON_S if rig.driver.spec.kind == "people" else 0.0
    while rig.now.s < until_s:
        brought = rig.run(max(every_s, rig.driver.interval_s))
        rig.heard.clear()
        if brought or every_s:
            came_ns = max((each.at_boot_ns for each in brought), default=rig.now.ns())
            polls.append((came_ns, Collected(sensor_id, brought)))
    return Source(rig.driver, polls)


class Played(queue.Queue[Collected | None]):
    """The pipeline's inbox, and the clock: it moves on when the pipeline waits for what is next.

    `feed` belongs to a thread of its own, as a collector does, so that the pipeline sleeps and is
    woken for every hand-over.
    """

    def __init__(self, begin_ns: int) -> None:
        super().__init__()
        self._asked = threading.Semaphore(0)
        self.now_ns = begin_ns

    def get(self, block: bool = True, timeout: float | None = None) -> Collected | None:
        """Wait for the next hand-over; how long the pipeline would wait has no meaning here."""
        self._asked.release()
        return super().get()

    def feed(self, polls: Sequence[tuple[int, Collected]]) -> None:
        """Hand over one after the other, each when the one before is done with."""
        for came_ns, collected in polls:
            self._asked.acquire()
            self.now_ns = came_ns
            self.put_nowait(collected)
        self._asked.acquire()


@dataclass(frozen=True, slots=True)
class Round:
    """What one playing of one site came to."""

    cpu_s: float
    played_s: float
    polls: int
    observations: int
    records: int

    @property
    def cpu_percent(self) -> float:
        """The share of one core."""
        return 100 * self.cpu_s / self.played_s


def play(sources: Mapping[str, Source], sets: int, path: Path) -> Round:
    """Play `sets` times what the sources brought through a pipeline whose spool is at `path`."""
    polls = merged(sources, sets)
    begin_ns = min(each.at_boot_ns for _, collected in polls for each in collected.observations)
    end_ns = polls[-1][0]
    # A quarter of an hour ends in the middle, so that people's windows are released, too.
    ahead_ns = QUARTER_NS * 2_000_000 - (begin_ns + end_ns) // 2
    inbox = Played(begin_ns)

    def look() -> Look:
        return Look(inbox.now_ns, inbox.now_ns + ahead_ns, True, 0.01)

    clock = Clock(look(), trust_system=False)
    terms = Terms(POLICY, "Asia/Tokyo", "bench")
    spool = Spool(path, max_bytes=2**29, run="bench", boot_id="", gateway="bench", terms=terms)
    committed: list[int] = []
    surroundings = Surroundings()
    pipeline = Pipeline(
        {
            f"{name}-{at}": _channel(
                f"{name}-{at}", each.driver, clock.utc_ns(begin_ns), surroundings
            )
            for at in range(sets)
            for name, each in sources.items()
        },
        inbox,
        spool,
        config_id="9f2c1ab04d77",
        clock=clock,
        look=look,
        boot_id="",
        clock_wait_over=lambda: True,
        committed=lambda entries: committed.append(len(entries)),
        rewind=lambda: None,
        book=AlertBook([], lambda: "episode"),
        rules=Rules(
            AlertsTable(),
            {
                f"{name}-{at}": Subject(kind_of(each.driver), {"ja": name, "en": name})
                for at in range(sets)
                for name, each in sources.items()
            },
        ),
        surroundings=surroundings,
        of_the_air={f"weather-{at}" for at in range(sets)},
    )
    cpu_ns: list[int] = []

    def run() -> None:
        began_ns = time.thread_time_ns()
        pipeline.run()
        cpu_ns.append(time.thread_time_ns() - began_ns)

    gc.collect()
    gc.freeze()  # what is to be played is the bench's: no collection should look through it
    thread = threading.Thread(target=run, name="pipeline")
    thread.start()
    inbox.feed(polls)
    pipeline.stop()
    thread.join()
    gc.unfreeze()
    spool.close(clean=True)
    return Round(
        cpu_ns[0] / 1e9,
        (end_ns - begin_ns) / 1e9,
        len(polls),
        sum(len(collected.observations) for _, collected in polls),
        sum(committed),
    )


def merged(sources: Mapping[str, Source], sets: int) -> list[tuple[int, Collected]]:
    """Return what all sensors of all sets bring, in the order of its coming."""
    polls = []
    for at in range(sets):
        by_ns = round(at * SHIFT_S * 1e9)
        for name, each in sources.items():
            for came_ns, collected in each.polls:
                moved = [_later(observation, by_ns) for observation in collected.observations]
                polls.append((came_ns + by_ns, Collected(f"{name}-{at}", moved)))
    return sorted(polls, key=lambda poll: poll[0])


def _later(observation: Observation, by_ns: int) -> Observation:
    at_boot_ns = observation.at_boot_ns + by_ns
    if isinstance(observation, tuple):
        return observation._replace(at_boot_ns=at_boot_ns)
    return replace(observation, at_boot_ns=at_boot_ns)


def _channel(stream: str, driver: Driver, now_ns: int, surroundings: Surroundings) -> Channel[Any]:
    if driver.spec.kind == "people":
        return PeopleChannel(stream, policy=POLICY, directions=directions_of(driver), now_ns=now_ns)
    return MeasuredChannel(
        stream,
        kind_of(driver),
        window_s=60,
        rate_hz=driver.rate_hz,
        quantities=driver.quantities,
        now_ns=now_ns,
        phenomenon=phenomenon_of(kind_of(driver), driver.quantities, surroundings, moves=False),
    )


def measure(
    played_s: float = PLAYED_S, *, sizes: Sequence[int] = SIZES, rounds: int = ROUNDS
) -> dict[str, float]:
    """Play every size and return the figures."""
    sources = {name: source(name, played_s, seed=seed) for seed, name in enumerate(SITE, start=1)}
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="yukimi-bench-") as folder:
        for size in sizes:
            played = [
                play(sources, size // SET, Path(folder) / f"{size}-{at}.db") for at in range(rounds)
            ]
            values[f"cpu_percent_{size}"] = min(each.cpu_percent for each in played)
            if size == SET:
                values["observations_per_s_8"] = played[0].observations / played[0].played_s
                values["polls_per_s_8"] = played[0].polls / played[0].played_s
                values["records_8"] = played[0].records
    return values | growth({size: values[f"cpu_percent_{size}"] for size in sizes})


def growth(percents: Mapping[int, float]) -> dict[str, float]:
    """Return how the share of a core grows with the number of sensors: three sizes or more."""
    sizes, shares = list(percents), list(percents.values())
    slope, base = statistics.linear_regression(sizes, shares)
    off = max(abs(share - base - slope * size) for size, share in percents.items())
    few, many = min(sizes), max(sizes)
    return {
        "cpu_percent_per_sensor": slope,
        "growth_ratio": (percents[many] / many) / (percents[few] / few),
        "linear_residual_percent": 100 * off / max(shares),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="two minutes played, once")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if a figure misses its target."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    values = measure(QUICK_PLAYED_S, rounds=1) if arguments.quick else measure()
    print(document(values) if arguments.json else "\n".join(table(FIGURES, values)))
    return 0 if all(each.holds(values[each.key]) for each in FIGURES) else WRONG
