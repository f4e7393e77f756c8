"""What grows: with further sensors, with what waits, with the length of an outage.

Sensors are road sensors of 8 channels, asked each 10 s, in gateways that run side by side; memory
over 1, 8, 32 and 64 of them is a line, and its slope is what one costs. Beside them runs one that
idles: a sensor that is asked once a minute.

What waits are the records of eight sensors in windows of 60 s, laid into the spool beforehand: an
hour of an outage, thirty days of it, and a million records, which are 87 days. A daemon starts with
them and no broker to reach, and its memory is compared with one's that has nothing waiting; then it
may send, unpaced (delivery.py). That memory does not grow while a long outage lasts is the
scenario soak-month's to show.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from . import delivery
from .eight import RoadSensors
from .figures import Samples
from .install import Install
from .running import Load, side_by_side
from .site import STREAMS, Stock

ROWS = (1, 8, 32, 64)
ROW_SETTLE_S, ROW_S, IDLE_INTERVAL_S = 10.0, 30.0, 60.0
HOUR, MONTH, MILLION = 60 * STREAMS, 30 * 24 * 60 * STREAMS, 1_000_000  # records that wait
BACKLOG_REPEATS, BACKLOG_SETTLE_S = 2, 3.0


def rows(
    install: Install, repeats: int, seconds: float, say: Callable[[str], None], sizes: Sequence[int]
) -> Samples:
    """Return what gateways of 1 to 64 sensors spend, and one that idles. Raises BenchError."""
    loads = {str(count): Load(partial(RoadSensors, count)) for count in sizes}
    loads["idle"] = Load(partial(RoadSensors, 1, interval_s=IDLE_INTERVAL_S))
    found: Samples = {}
    for _ in range(repeats):
        settle_s, for_s = min(ROW_SETTLE_S, seconds), min(ROW_S, seconds)
        spent = side_by_side(
            install, list(loads.values()), settle_s=settle_s, seconds=for_s, slices=1
        )
        for name, each in zip(loads, spent, strict=True):
            for key, value in (
                ("cpu_percent", each.cpu_percent[0]),
                ("wakeups_per_s", each.wakeups_per_s[0]),
                ("rss_mb", round(each.rss_mb, 1)),
                ("pss_mb", round(each.pss_mb, 1)),
            ):
                found.setdefault(f"{key}_{name}", []).append(value)
        resident_kb = [each.rss_mb * 1024 for each in spent[: len(sizes)]]
        slope = statistics.linear_regression(sizes, resident_kb).slope
        found.setdefault("rss_kb_per_sensor", []).append(round(slope, 1))
        say(f"rows: {slope:.1f} kB a sensor")
    return found


def backlog(say: Callable[[str], None]) -> Samples:
    """Return what an hour, thirty days and a million records cost. Raises BenchError."""
    found: Samples = {}
    with tempfile.TemporaryDirectory(prefix="yukimi-bench-") as name:
        yesterday_ns = time.time_ns() - 86_400 * 10**9
        stock = Stock(Path(name), HOUR, end_ns=yesterday_ns, in_all=MILLION)
        for records, said, keys in (
            (HOUR, "_1h", {"backlog_rss_growth_mb"}),
            (MONTH, "_30d", {"backlog_rss_growth_mb", "drain_records_per_s"}),
            (MILLION, "", {"backlog_rss_growth_mb", "drain_records_per_s", "start_with_backlog_s"}),
        ):
            began_s = time.monotonic()
            stock.grow(records)
            say(f"{records:,} records were made in {time.monotonic() - began_s:.0f} s")
            scale = delivery.Scale(records, BACKLOG_REPEATS, settle_s=BACKLOG_SETTLE_S)
            values = delivery.measure(frozenset(keys), scale, say, stock)
            found |= {f"{key}{said}": [value] for key, value in values.items()}
            found[f"backlog_disk_mb{said}"] = [round(stock.bytes / 2**20, 1)]
    return found
