"""How many instructions a gateway takes: the same on every machine of a kind, however busy it is.

Counted by valgrind's callgrind, in which it runs some fifty times slower: Python, its libraries and
ours, but not the kernel.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from .eight import EightOutside
from .figures import Samples
from .install import Install
from .process import BenchError
from .running import Load, gateway

PATIENCE_S = 180.0
SETTLE_S, SECONDS = 15.0, 30.0


def measure(install: Install, say: Callable[[str], None]) -> Samples:
    """Return the figures, or none where there is no valgrind. Raises BenchError."""
    if shutil.which("valgrind") is None:
        say("instruction counts are not available: apt install valgrind")
        return {}
    under = ("valgrind", "-q", "--tool=callgrind", "--callgrind-out-file=callgrind.out")
    with gateway(install, Load(EightOutside), under) as running:
        running.birth(PATIENCE_S)
        folder, pid = running.syncs.parent, running.daemon.pid
        starting = _counted(pid, folder, 1)
        time.sleep(SETTLE_S)
        _counted(pid, folder, 2)
        began_s = time.monotonic()
        time.sleep(SECONDS)
        per_s = _counted(pid, folder, 3) / (time.monotonic() - began_s)
        running.daemon.check_alive()
    return {
        "instructions_start_millions": [round(starting / 1e6)],
        "instructions_per_s_millions": [round(per_s / 1e6, 2)],
    }


def _counted(pid: int, folder: Path, part: int) -> int:
    """Return what was counted since the last time, or since the start."""
    subprocess.run(
        ["callgrind_control", "--dump", str(pid)], cwd=folder, check=True, capture_output=True
    )
    for line in (folder / f"callgrind.out.{part}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("totals", "summary"):
            return int(value)
    raise BenchError("callgrind said no total")
