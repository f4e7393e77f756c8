"""What Linux counts for a process, and the daemon as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

STOP_S = 60.0


class BenchError(Exception):
    """A measurement could not be made; the message says what did not happen."""


def counters(pid: int) -> dict[str, float]:
    """Return what a process has spent since its start: cpu_s, written_bytes, wakeups."""
    proc = Path(f"/proc/{pid}")
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])  # utime, stime: proc(5)
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
        "cpu_s": ticks / os.sysconf("SC_CLK_TCK"),
        "written_bytes": written,
        "wakeups": wakeups,
    }


def memory_kb(pid: int, name: str) -> int:
    """Return the sum of `name` (Rss, Pss ...) over all of a process's memory."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


class Daemon:
    """`yukimi run` with `config`, from its start to its end; its log is beside its configuration.

    `program` runs in place of the daemon and is given its arguments; `python` is another
    environment's interpreter, and runs what is installed there.
    """

    def __init__(
        self,
        config: Path,
        program: tuple[str, ...] = ("-m", "agent"),
        *,
        python: str = sys.executable,
    ) -> None:
        self._log_file = config.with_suffix(".log")
        command = [python, *program, "run", "--config", str(config)]
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
