"""What this machine does besides: a figure in seconds is worth as much as the machine is quiet."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

from .figures import Samples

ROUNDS, WORK = 50, 200_000
QUIET_LOAD, QUIET_PERCENT = 0.5, 10.0


class Machine:
    """Looked at before a measurement begins, and when it is over."""

    def __init__(self) -> None:
        self._load_before = os.getloadavg()[0]
        self._before_ms = _same_work_ms()
        self._ticks = _ticks()

    def over(self) -> Samples:
        """Return the load that was there before, and how the same work took before and after.

        `machine_noise_percent` is how much longer it took at its slowest than at its median;
        `machine_steal_percent` is what the host gave to others in between.
        """
        after_ms = _same_work_ms()
        spent = [now - before for now, before in zip(_ticks(), self._ticks, strict=True)]
        slowest = max(max(each) / statistics.median(each) for each in (self._before_ms, after_ms))
        return {
            "machine_load_before": [round(self._load_before, 2)],
            "machine_steal_percent": [round(100 * spent[7] / max(1, sum(spent[:8])), 2)],
            "machine_noise_percent": [round(100 * (slowest - 1), 1)],
            "machine_ms_before": [round(each, 3) for each in self._before_ms],
            "machine_ms_after": [round(each, 3) for each in after_ms],
        }


def disquiet(found: Samples) -> str:
    """Say why the machine was not quiet; nothing where it was."""
    before, after = (statistics.median(found[f"machine_ms_{at}"]) for at in ("before", "after"))
    said = []
    if found["machine_load_before"][0] > QUIET_LOAD:
        said.append(f"the load was {found['machine_load_before'][0]} before it began")
    if found["machine_steal_percent"][0] > 1.0:
        said.append(f"the host gave {found['machine_steal_percent'][0]} % to others")
    if abs(after / before - 1) > QUIET_PERCENT / 100:
        said.append(f"the same work took {before:.2f} ms before and {after:.2f} ms after")
    return "; ".join(said)


def _same_work_ms() -> list[float]:
    took_ms = []
    for _ in range(ROUNDS):
        began_ns = time.perf_counter_ns()
        sum(range(WORK))
        took_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
    return took_ms


def _ticks() -> list[int]:
    """Return user, nice, system, idle, iowait, irq, softirq, steal ... of the machine: proc(5)."""
    with Path("/proc/stat").open() as file:
        return [int(each) for each in file.readline().split()[1:]]
