"""The spool at the mercy of its disk: each system call it makes fails, or is its last."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("spool_faults.py")
ROOT = PROGRAM.parents[2]
AT_A_TIME = 2 * (os.cpu_count() or 1)

CHANGING = (
    *("mkdir", "openat", "pwrite64", "ftruncate"),
    *("fallocate", "fdatasync", "fsync", "unlink", "rename"),
)
GROWING = CHANGING[:5]
ASKING = ("newfstatat", "pread64", "fchown", "close")
LOCKING = ("fcntl",)  # in the kernel's memory: no disk makes them fail
OWN = ("link",)  # the scenario's

Job = tuple[str | None, str | None]  # a system call, and what strace does to it
Answer = dict[str, Any]


def answers(jobs: Iterable[Job], *how: str) -> list[tuple[Job, Answer]]:
    """Live the scenario once for each job, several at a time."""
    jobs = list(jobs)
    shares = [jobs[number::AT_A_TIME] for number in range(AT_A_TIME)]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        done = pool.map(lambda share: answers_in_turn(share, *how), shares)
        return [pair for share in done for pair in share]


def troubles(
    jobs: list[Job], *how: str, survived: bool = False, met: bool = True
) -> dict[Job, list[str]]:
    """Name what went wrong under these faults, if they were met at all."""
    found: dict[Job, list[str]] = {}
    for job, answer in answers(jobs, *how):
        wrong = list(answer["findings"])
        if answer["met"] != met:
            wrong.append("the fault was not met" if met else "the fault was met")
        if survived and not answer["survived"]:
            wrong.append("the spool did not recover")
        if wrong:
            found[job] = wrong
    return found


def answers_in_turn(jobs: list[Job], *how: str) -> list[tuple[Job, Answer]]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *how],
        input="".join(json.dumps(job) + "\n" for job in jobs),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return list(zip(jobs, map(json.loads, done.stdout.splitlines()), strict=True))


def at_each(calls: dict[str, int], fault: str, only: Iterable[str], step: int = 1) -> list[Job]:
    """Name the fault at each of these calls that the scenario makes, or at every `step`th."""
    return [
        (call, f"{fault}:when={number}")
        for call in only
        for number in range(1, calls[call] + 1, step)
    ]


@pytest.fixture(scope="module")
def calls() -> dict[str, int]:
    """How often the scenario makes each system call on the spool's files, without a fault."""
    if shutil.which("strace") is None:
        reason = "no strace: apt install strace"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    [(_, answer)] = answers_in_turn([(None, None)])
    assert answer["findings"] == []
    assert answer["survived"]
    assert answer["evicted"] > 0
    counted: dict[str, int] = answer["calls"]
    return counted


def test_the_scenario_makes_every_kind_of_call(calls: dict[str, int]) -> None:
    assert calls.keys() <= {*ASKING, *CHANGING, *LOCKING, *OWN}
    assert {*CHANGING, "pread64"} <= calls.keys()


def test_a_call_that_fails_once_is_a_spool_error_and_then_all_goes_on(
    calls: dict[str, int],
) -> None:
    jobs = at_each(calls, "error=EIO", CHANGING, 2) + at_each(calls, "error=EIO", ASKING, 5)
    assert troubles(jobs, survived=True) == {}


def test_a_disk_that_is_full_for_a_moment_costs_nothing(calls: dict[str, int]) -> None:
    assert troubles(at_each(calls, "error=ENOSPC", GROWING, 7), survived=True) == {}


@pytest.mark.parametrize("call", ["fdatasync", "ftruncate", "openat", "pread64", "pwrite64"])
def test_a_disk_that_fails_from_some_call_on_keeps_what_was_committed(
    call: str, calls: dict[str, int]
) -> None:
    numbers = range(1, calls[call] + 1, 9)
    assert troubles([(call, f"error=EIO:when={number}+") for number in numbers]) == {}


def test_what_is_said_from_memory_is_not_said_otherwise_by_a_commit_that_had_failed(
    calls: dict[str, int],
) -> None:
    numbers = range(1, calls["fdatasync"] + 1, 2)
    jobs: list[Job] = [("fdatasync", f"error=EIO:when={number}+") for number in numbers]
    assert troubles(jobs, "--dies") == {}


def test_a_kill_at_any_change_keeps_what_was_committed(calls: dict[str, int]) -> None:
    # Between two changes a kill leaves the same files.
    assert troubles(at_each(calls, "signal=KILL", CHANGING)) == {}


def test_a_fault_after_the_last_call_is_never_met(calls: dict[str, int]) -> None:
    jobs: list[Job] = [(call, f"error=EIO:when={calls[call] + 1}") for call in CHANGING]
    assert troubles(jobs, survived=True, met=False) == {}


def test_a_release_that_is_written_down_after_its_record_is_found_by_a_kill(
    calls: dict[str, int],
) -> None:
    jobs = at_each(calls, "signal=KILL", ("fdatasync", "pwrite64"), 3)
    found = [
        wrong
        for _, answer in answers_in_turn(jobs, "--split")
        for wrong in answer["findings"]
        if "no line releases them" in wrong
    ]
    assert found
