"""A machine short of processor and memory: others that take them, or a limit on one process.

Limits are those of control groups, version 2 or 1, and need root. Clocks are in clock.py.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from .ext4 import UnavailableError
from .ongoing import Heal

GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
LEAVE_S = 10.0

_number = count()

# Both end with the bench, however it ends.
_BUSY = """
import os, sys
bench = os.getppid()
os.nice(int(sys.argv[1]))
print("begun", flush=True)
while os.getppid() == bench:
    for _ in range(1_000_000):
        pass
"""
_GREEDY = """
import sys
taken = bytearray(int(sys.argv[1]))
taken[::4096] = bytes(len(taken[::4096])).replace(b"\\0", b"1")
print("begun", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, slots=True)
class _Limit:
    controller: str
    file_v2: str
    file_v1: str


_CPU = _Limit("cpu", "cpu.max", "cpu.cfs_quota_us")
_MEMORY = _Limit("memory", "memory.max", "memory.limit_in_bytes")


def press_cpu(processes: int, *, nice: int = 0) -> Heal:
    """Let so many processes compute without end."""
    return _others(_BUSY, str(nice), processes=processes)


def press_memory(used_bytes: int) -> Heal:
    """Let another process hold so much memory, all of it touched."""
    return _others(_GREEDY, str(used_bytes), processes=1)


def limit_cpu(pid: int, share: float) -> Heal:
    """Give a process no more than this share of one processor. Raises UnavailableError."""
    quota_us = max(1000, round(share * PERIOD_US))
    return _limited(pid, _CPU, f"{quota_us} {PERIOD_US}", str(quota_us))


def limit_memory(pid: int, most_bytes: int) -> Heal:
    """Let the kernel end a process that holds more than this. Raises UnavailableError.

    What it held before counts from when it is touched anew.
    """
    return _limited(pid, _MEMORY, str(most_bytes), str(most_bytes))


def limit_address_space(pid: int, most_bytes: int) -> Heal:
    """Refuse a process more address space than this: its next large wish is a MemoryError."""
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (most_bytes, before[1]))

    def heal() -> None:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_AS, before)

    return heal


def _others(program: str, argument: str, *, processes: int) -> Heal:
    begun = [
        subprocess.Popen(
            [sys.executable, "-c", program, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    for process in begun:
        if process.stdout is not None:
            process.stdout.readline()

    def heal() -> None:
        for process in begun:
            process.kill()
            process.wait()
            for end in (process.stdin, process.stdout):
                if end is not None:
                    end.close()

    return heal


def _limited(pid: int, limit: _Limit, value_v2: str, value_v1: str) -> Heal:
    """Put a process into a group of its own with a limit; healed, back into the one before."""
    root = GROUPS if (GROUPS / "cgroup.controllers").exists() else GROUPS / limit.controller
    is_v2 = root == GROUPS
    key = "0::" if is_v2 else f":{limit.controller}:"
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    home = next((line.split(":", 2)[2] for line in lines if key in line), "/")
    group = root / f"yukimi-{os.getpid()}-{next(_number)}"
    try:
        group.mkdir()
        if is_v2:
            (group / limit.file_v2).write_text(value_v2)
        else:
            (group / limit.file_v1).write_text(value_v1)
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as exc:
        with suppress(OSError):
            group.rmdir()
        raise UnavailableError(f"no control group for {limit.controller}: {exc}") from exc

    def heal() -> None:
        with suppress(ProcessLookupError):
            (root / home.lstrip("/") / "cgroup.procs").write_text(str(pid))
        until_s = time.monotonic() + LEAVE_S
        while group.exists():  # busy while a process that ended leaves it
            with suppress(OSError):
                group.rmdir()
                return
            if time.monotonic() > until_s:
                raise UnavailableError(f"{group}: somebody is in it")
            time.sleep(0.02)

    return heal
