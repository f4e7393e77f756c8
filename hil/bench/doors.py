"""What somebody who has an account on the gateway's machine learns of who passes.

Nothing here is on the wire or on a disk, but for `rss_bytes` of the health message. Linux shows
every user what each thread has spent, how often it was woken, and how much memory there is: this
bench looks, window by window, and holds it against the true number of persons.

Two looks. The real daemon with a radar on a pseudo-terminal, emulated outside its process, is
watched through /proc: CPU time in nanoseconds, wake-ups, resident memory. And the drivers alone,
with the channel behind them, are timed on crowds that are played without waiting; the wire's own
time is taken out, and with it gpiozero's.

A figure `..._persons` is what the true number of persons in a window of 15 minutes is known to
(one standard deviation), by somebody who sees that window's CPU time and knows all else.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random

from agent.channels import PeopleChannel
from agent.privacy.policy import Policy
from drivers.base import Crossing

from ..buses import Pty
from ..demo import now_s
from ..devices import ld2450
from ..rig import Rig
from .figures import Figure, document, table
from .process import Daemon

WINDOW_S = 900.0  # what is published
WATCHED_S = 10.0  # a window of the real daemon, here
WATCHED, PLAYED = 24, 24
PLAYED_S = 300.0
SETTLE_S = 20.0
MOST_PER_MINUTE = 60.0

CONFIG = """\
[gateway]
id = "doors"
[uplink]
brokers = ["mqtt://127.0.0.1:9"]
[spool]
path = "spool.db"
[[sensors]]
id = "walk-1"
driver = "hlk-ld2450"
bus = "{port}"
"""


class Waves(Random):
    """Chance for a crowd that comes and goes: another rate of persons in each stretch of time."""

    def __init__(self, seed: int, stretch_s: float) -> None:
        super().__init__(seed)
        self._stretch_s = stretch_s
        self._now_s = 0.0

    def expovariate(self, lambd: float = 1.0) -> float:
        """Return the time to the next person; the rate asked for is not minded."""
        stretch = int(self._now_s / self._stretch_s)
        per_s = Random(stretch).uniform(0.5, MOST_PER_MINUTE) / 60
        gap_s = super().expovariate(per_s)
        self._now_s += gap_s
        return gap_s


# The real daemon


def spent(pid: int) -> tuple[float, float, float]:
    """Return what every user may see of a process: CPU in us, wake-ups, resident bytes."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    cpu_us = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000
    wakeups = sum(
        int(line.split()[1])
        for task in tasks
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return cpu_us, wakeups, pages * 4096


def watched(windows: int) -> dict[str, float]:
    """Watch the daemon for so many windows; return what they tell of a radar's crowd."""
    dice = Waves(1, WATCHED_S)
    passage = ld2450.Passageway(ld2450._crowd(dice, MOST_PER_MINUTE))
    device = ld2450.Ld2450Device(passage)
    rows: list[tuple[float, float, float]] = []
    persons: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="yukimi-doors-") as folder,
        Pty([device], now_s) as port,
    ):
        config = Path(folder) / "gateway.toml"
        config.write_text(CONFIG.format(port=port.path))
        with Daemon(config) as daemon:
            time.sleep(SETTLE_S)
            before, counted = spent(daemon.pid), len(passage.crossings)
            for _ in range(windows):
                time.sleep(WATCHED_S)
                daemon.check_alive()
                now, crossings = spent(daemon.pid), len(passage.crossings)
                rows.append((now[0] - before[0], now[1] - before[1], now[2]))
                persons.append(crossings - counted)
                before, counted = now, crossings
    cpu_us, wakeups, rss_bytes = (list(column) for column in zip(*rows, strict=True))
    slope_us, noise_us = line(persons, cpu_us)
    more, rest = line(persons, wakeups)
    return {
        "radar_daemon_cpu_us_per_person": slope_us,
        "radar_daemon_cpu_noise_us": noise_us,
        "radar_daemon_persons": known_to(slope_us, noise_us, WATCHED_S),
        "radar_daemon_wakeups_per_window": statistics.mean(wakeups),
        "radar_daemon_wakeups_per_person": more,
        "radar_daemon_wakeups_noise": rest,
        "radar_daemon_rss_grew_bytes": rss_bytes[-1] - rss_bytes[0],
        "radar_daemon_rss_steps": sum(a != b for a, b in pairwise(rss_bytes)),
    }


# The drivers alone


def played(name: str, windows: int) -> dict[str, float]:
    """Play crowds through a driver and the channel behind it; return what its CPU time tells."""
    rig = Rig(name)
    if name == "beam-pair":
        rig.device._random = Waves(2, PLAYED_S)
    else:
        rig.device.passage = ld2450.Passageway(ld2450._crowd(Waves(2, PLAYED_S), MOST_PER_MINUTE))
    channel = PeopleChannel(
        "walk-1",
        policy=Policy(round(PLAYED_S), Fraction(1, 4)),
        directions=("towards", "away"),
        now_ns=rig.now.ns(),
    )
    rig.run(30.0)
    persons: list[float] = []
    cpu_us: list[float] = []
    for _ in range(windows):
        began_ns, wire_ns = time.thread_time_ns(), rig.wire_ns
        seen = rig.run(PLAYED_S)
        for each in seen:
            channel.add(each, each.at_boot_ns, now_ns=rig.now.ns())
        spent_ns = time.thread_time_ns() - began_ns - (rig.wire_ns - wire_ns)
        cpu_us.append(spent_ns / 1000)
        persons.append(sum(isinstance(each, Crossing) for each in seen))
        channel._windower.flush(rig.now.ns(), "partial")
    slope_us, noise_us = line(persons, cpu_us)
    key = "radar" if name == "hlk-ld2450" else "beams"
    return {
        f"{key}_driver_cpu_us_per_person": slope_us,
        f"{key}_driver_cpu_noise_us": noise_us,
        f"{key}_driver_persons": known_to(slope_us, noise_us, PLAYED_S),
    }


def line(persons: Sequence[float], spent_: Sequence[float]) -> tuple[float, float]:
    """Return the slope of a straight line through what was spent, and what is left beside it."""
    slope, start = statistics.linear_regression(persons, spent_)
    left = [y - slope * x - start for x, y in zip(persons, spent_, strict=True)]
    return slope, math.sqrt(sum(each**2 for each in left) / (len(left) - 2))


def known_to(slope_us: float, noise_us: float, window_s: float) -> float:
    """Return to how many persons a published window's CPU time tells how many there were."""
    return noise_us * math.sqrt(WINDOW_S / window_s) / abs(slope_us)


# The bench


FIGURES = (
    Figure("radar_daemon_cpu_us_per_person", "the real daemon, by /proc"),
    Figure("radar_daemon_cpu_noise_us", f"beside the line, in {WATCHED_S:g} s"),
    Figure("radar_daemon_persons", "known to"),
    Figure("radar_daemon_wakeups_per_window", "of all threads"),
    Figure("radar_daemon_wakeups_per_person", "of all threads"),
    Figure("radar_daemon_wakeups_noise", "beside the line"),
    Figure("radar_daemon_rss_grew_bytes", "from the first window to the last"),
    Figure("radar_daemon_rss_steps", "windows in which it changed"),
    Figure("radar_driver_cpu_us_per_person", "driver and channel alone"),
    Figure("radar_driver_cpu_noise_us", f"beside the line, in {PLAYED_S:g} s"),
    Figure("radar_driver_persons", "known to"),
    Figure("beams_driver_cpu_us_per_person", "driver and channel alone"),
    Figure("beams_driver_cpu_noise_us", f"beside the line, in {PLAYED_S:g} s"),
    Figure("beams_driver_persons", "known to"),
)


def measure(
    windows: int, to_play: int, say: Callable[[str], None] = lambda _: None
) -> dict[str, float]:
    """Return every figure."""
    say(f"watching a daemon for {SETTLE_S + windows * WATCHED_S:.0f} s")
    values = watched(windows)
    for name in ("hlk-ld2450", "beam-pair"):
        say(f"playing crowds through {name}")
        values |= played(name, to_play)
    return values


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")
    parser.add_argument("--windows", type=int, default=WATCHED, help="of the daemon, 10 s each")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    values = measure(arguments.windows, PLAYED, lambda text: print(text, file=sys.stderr))
    print(document(values) if arguments.json else "\n".join(table(FIGURES, values)))
    return 0
