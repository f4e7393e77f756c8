"""A machine that is short of processor and memory, seen by a process on it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.faults.ext4 import UnavailableError
from hil.faults.machine import (
    GROUPS,
    limit_address_space,
    limit_cpu,
    limit_memory,
    press_cpu,
    press_memory,
)

MIB = 2**20
WAIT_S = 60.0

# Takes so many MiB for each line it reads, and says how it went.
_EATER = """
import sys
held = []
for line in sys.stdin:
    try:
        held.append(bytearray(b"1" * (int(line) * 2**20)))
        print("taken", flush=True)
    except MemoryError:
        print("refused", flush=True)
"""


class Eater:
    """A process that takes memory when it is told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _EATER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def take(self, mib: int) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{mib}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip() or "killed"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def eater() -> Iterator[Eater]:
    eater = Eater()
    yield eater
    eater.close()


def groups() -> set[str]:
    return {path.name for path in GROUPS.glob(f"**/yukimi-{os.getpid()}-*")}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_refused_wish_is_a_memory_error_and_healed_it_is_granted(eater: Eater) -> None:
    assert eater.take(8) == "taken"
    heal = limit_address_space(eater.pid, 64 * MIB)
    assert eater.take(256) == "refused"
    heal()
    assert eater.take(256) == "taken"
    assert resource.prlimit(eater.pid, resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize("is_healed", [False, True])
def test_who_holds_more_than_the_limit_is_ended_by_the_kernel(
    eater: Eater, is_healed: bool
) -> None:
    assert eater.take(1) == "taken"
    try:
        heal = limit_memory(eater.pid, 48 * MIB)
    except UnavailableError as exc:
        pytest.skip(str(exc))
    assert groups()
    if is_healed:
        heal()
    assert eater.take(200) == ("taken" if is_healed else "killed")
    eater.close()
    heal()
    assert not groups()


def test_a_limited_process_gets_its_share_and_healed_more_than_that() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            heal = limit_cpu(busy.pid, 0.05)
        except UnavailableError as exc:
            busy.kill()
            pytest.skip(str(exc))
        began_s, used_s = time.monotonic(), cpu_s(busy.pid)
        time.sleep(1.5)
        took_s = time.monotonic() - began_s
        assert cpu_s(busy.pid) - used_s < 0.05 * took_s + 0.1
        heal()
        used_s = cpu_s(busy.pid)
        until_s = time.monotonic() + WAIT_S
        while cpu_s(busy.pid) - used_s < 0.5:  # would take 10 s of its share
            assert time.monotonic() < until_s
            time.sleep(0.05)
        busy.kill()
    assert not groups()


def test_others_take_processor_and_memory_until_they_are_healed() -> None:
    def children() -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        ]

    before = children()
    heals = [press_cpu(2, nice=10), press_memory(64 * MIB)]
    others = [pid for pid in children() if pid not in before]
    assert len(others) == 3
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)  # these tests may be nice themselves
    busy = [pid for pid in others if os.getpriority(os.PRIO_PROCESS, pid) == nice]
    assert len(busy) == 2
    until_s = time.monotonic() + WAIT_S
    while min(map(cpu_s, busy)) < 0.1:
        assert time.monotonic() < until_s
        time.sleep(0.05)
    greedy = next(pid for pid in others if pid not in busy)
    resident = int(Path(f"/proc/{greedy}/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
    assert resident >= 64 * MIB
    for heal in heals:
        heal()
    assert [pid for pid in children() if pid not in before] == []
