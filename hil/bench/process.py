"""What Linux counts for a process, and the daemon as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

STOP_S = 60.0
_CPUCLOCK_SCHED = 2  # clock_getres(2) says how a process's clock is numbered


class BenchError(Exception):
    """A measurement could not be made; the message says what did not happen."""


def counters(pid: int) -> dict[str, float]:
    """Return what a process has spent since its start: cpu_s, written_bytes, wakeups."""
    proc = Path(f"/proc/{pid}")
    written = next(
        int(line.split()[1])
        for line in (proc / "io").read_text().splitlines()
        if line.startswith("write_bytes")
    )
    wakeups = sum(
        int(line.split()[1])
        for task in (proc / "task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
    return {
        # Its own clock, to the nanosecond: /proc counts in hundredths of a second.
        "cpu_s": time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED),
        "written_bytes": written,
        "wakeups": wakeups,
    }


def memory_kb(pid: int, name: str) -> int:
    """Return the sum of `name` (Rss, Pss ...) over all of a process's memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


@dataclass(frozen=True, slots=True)
class Rates:
    """What a process spends a second."""

    cpu_s: float
    written_bytes: float
    wakeups: float


def rates(
    pids: Sequence[int],
    seconds: float,
    slices: int,
    pass_time: Callable[[float], object] = time.sleep,
) -> list[list[Rates]]:
    """Return, for each process, what it spends in each of `slices` equal parts of `seconds`."""
    found: list[list[Rates]] = [[] for _ in pids]
    seen = [(time.monotonic(), counters(pid)) for pid in pids]
    for _ in range(slices):
        pass_time(seconds / slices)
        for at, pid in enumerate(pids):
            began_s, before = seen[at]
            seen[at] = now_s, now = time.monotonic(), counters(pid)
            spent = {name: (now[name] - before[name]) / (now_s - began_s) for name in now}
            found[at].append(Rates(**spent))
    return found


class Daemon:
    """`yukimi run` with `config`, from its start to its end; its log is beside its configuration.

    `program` runs in place of the daemon and is given its arguments; `python` is another
    environment's interpreter, and runs what is installed there. `under` is what it runs under, and
    becomes: strace -D, valgrind.
    """

    def __init__(
        self,
        config: Path,
        program: tuple[str, ...] = ("-m", "agent"),
        *,
        python: str = sys.executable,
        under: tuple[str, ...] = (),
    ) -> None:
        self._log_file = config.with_suffix(".log")
        command = [*under, python, *program, "run", "--config", str(config)]
        environment = dict(os.environ)
        if python != sys.executable:
            environment.pop("PYTHONPATH", None)
        self.started_s = time.monotonic()
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=config.parent, stderr=log, env=environment
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def check_alive(self) -> None:
        """Raise BenchError with the end of its log if it has ended by itself."""
        if self._process.poll() is not None:
            said = self._log_file.read_text(encoding="utf-8")[-2000:]
            raise BenchError(f"the daemon ended with {self._process.returncode}:\n{said}")

    def kill(self) -> None:
        """SIGKILL; does nothing if it has ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for a clean end. Raises BenchError."""
        self.check_alive()
        self._process.send_signal(signal.SIGTERM)
        if self._process.wait(STOP_S) != 0:
            raise BenchError(f"the daemon stopped with {self._process.returncode}")
