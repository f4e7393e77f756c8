"""The disk is gone, or full, or the file goes bad under the daemon: it measures on, and says so."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from agent.spool import Spool, SpoolError
from agent.spoolfile import PAGE_SIZE, DamagedError, open_file
from tests.agent.spools import CONFIG, STREAMS, held, opened, record

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool.db"


def minutes(spool: Spool, numbers: range) -> None:
    for minute in numbers:
        spool.append([record(stream, minute) for stream in STREAMS], CONFIG)


def seqs(spool: Spool, stream: str = "snow-1") -> list[int]:
    return sorted(key[2] for key in held(spool).keys if key[1] == stream)


def test_without_a_folder_to_write_in_it_lives_in_memory_until_there_is_one(path: Path) -> None:
    path.parent.write_text("in its place")
    spool = opened(path, "one")
    assert spool.is_volatile
    assert spool.why_volatile
    minutes(spool, range(10))
    assert not spool.reopen()
    path.parent.unlink()
    minutes(spool, range(10, 15))
    assert spool.reopen()
    assert not spool.is_volatile
    minutes(spool, range(15, 20))
    assert seqs(spool) == list(range(1, 21))
    spool.close(clean=True)
    again = opened(path, "two")
    assert seqs(again) == list(range(1, 21))
    assert again.previous is not None
    assert again.previous.produced["snow-1"] == 20
    again.close(clean=True)


def test_what_earlier_runs_left_is_found_when_the_disk_comes_back(path: Path) -> None:
    first = opened(path, "one")
    minutes(first, range(5))
    first.close(clean=False)
    hidden = path.parent.with_name("hidden")
    path.parent.rename(hidden)
    path.parent.write_text("in its place")
    second = opened(path, "two")
    assert second.previous is None
    minutes(second, range(5))
    path.parent.unlink()
    hidden.rename(path.parent)
    assert second.reopen()
    assert second.previous is not None
    assert (second.previous.run, second.previous.produced["snow-1"]) == ("one", 5)
    assert not second.ended_clean
    assert len(held(second).keys) == 10 * len(STREAMS)
    second.close(clean=True)


def test_what_is_acknowledged_while_the_disk_is_gone_leaves_it_when_it_is_back(path: Path) -> None:
    spool = opened(path, "one")
    on_disk = spool.append([record("snow-1", minute) for minute in range(4)], CONFIG)
    spool.turn_volatile(OSError("gone"))
    in_memory = spool.append([record("snow-1", minute) for minute in range(4, 8)], CONFIG)
    spool.acknowledge([on_disk[0].id, in_memory[0].id])
    minutes(spool, range(8, 9))
    spool.settle()
    spool.acknowledge([on_disk[1].id, in_memory[1].id])
    assert spool.reopen()
    assert seqs(spool) == [3, 4, 7, 8, 9]
    spool.close(clean=True)
    again = opened(path, "two")
    assert seqs(again) == [3, 4, 7, 8, 9]
    again.close(clean=True)


def test_memory_is_bounded_and_what_does_not_fit_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.spool.MEMORY_BYTES", 2**20)
    path.parent.write_text("in its place")
    spool = opened(path, "one")
    for minute in range(2000):
        spool.append([record("snow-1", minute, padding=300)], CONFIG)
    assert spool._shelf.used_bytes() <= 2**20
    path.parent.unlink()
    assert spool.reopen()
    found = held(spool)
    assert set(found.gaps.values()) == {"disk_failed"}
    assert seqs(spool) == list(range(1, 2001))
    assert len(found.bodies) > 300
    spool.close(clean=True)


def test_closing_is_the_last_chance_of_what_is_in_memory(path: Path) -> None:
    spool = opened(path, "one")
    spool.turn_volatile(OSError("gone"))
    minutes(spool, range(3))
    spool.close(clean=True)
    again = opened(path, "two")
    assert seqs(again) == [1, 2, 3]
    again.close(clean=True)


def test_a_file_that_vanished_meanwhile_is_named_as_lost(path: Path) -> None:
    spool = opened(path, "one")
    minutes(spool, range(5))
    spool.turn_volatile(OSError("gone"))
    minutes(spool, range(5, 8))
    shutil.rmtree(path.parent)
    assert spool.reopen()
    assert {seq for _, s, seq in held(spool).gaps if s == "snow-1"} == {1, 2, 3, 4, 5}
    assert seqs(spool) == list(range(1, 9))
    spool.close(clean=True)


def test_a_file_that_went_bad_meanwhile_is_named_as_lost_too(path: Path) -> None:
    spool = opened(path, "one")
    minutes(spool, range(5))
    spool.turn_volatile(OSError("gone"))
    minutes(spool, range(5, 8))
    path.write_bytes(os.urandom(100_000))
    assert spool.reopen()
    assert seqs(spool) == list(range(1, 9))
    assert spool.damages
    spool.close(clean=True)


@pytest.mark.parametrize("page", range(1, 14))
def test_a_file_that_is_destroyed_under_it_costs_no_number(path: Path, page: int) -> None:
    spool = opened(path, "one")
    minutes(spool, range(60))
    spool.pack()
    spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    spool._db.execute("PRAGMA shrink_memory")
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE_SIZE)
        file.write(os.urandom(PAGE_SIZE))
    for minute in range(60, 70):
        for _ in range(3):
            try:
                spool.append([record(stream, minute) for stream in STREAMS], CONFIG)
                break
            except SpoolError:
                continue
        else:
            pytest.fail("it does not recover")
    with suppress(SpoolError):  # it may have been found already
        spool.check(lambda: True)
    assert spool.damages or page == 2  # nobody reads which page belongs to which
    assert not spool.is_volatile
    assert seqs(spool) == list(range(1, 71))
    spool.close(clean=True)


def test_a_check_finds_a_flipped_bit_that_sqlite_cannot_see(path: Path) -> None:
    spool = opened(path, "one")
    minutes(spool, range(5))
    assert spool.check(lambda: True)
    assert spool.damages == []
    spool._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    sound = b'"stream":"snow-1","seq":3,"start":"2026'
    flipped = content.replace(sound, sound[:-1] + b"\xb6")  # everywhere: some of it is old
    assert flipped != content
    with path.open("r+b") as file:
        file.write(flipped)
    spool._db.execute("PRAGMA shrink_memory")
    assert not spool.check(lambda: True)
    [damage] = spool.damages
    assert damage.lost == 1
    assert held(spool).gaps == {("one", "snow-1", 3): "corrupt"}
    minutes(spool, range(5, 6))
    assert seqs(spool) == [1, 2, 3, 4, 5, 6]
    assert spool.check(lambda: True)
    spool.close(clean=True)


def test_a_check_stops_when_it_is_told_to(path: Path) -> None:
    spool = opened(path, "one")
    minutes(spool, range(500))
    spool._db.execute("UPDATE record SET body = 'x' WHERE id = 1990")
    assert spool.check(lambda: False)
    assert spool.damages == []
    assert not spool.check(lambda: True)
    spool.close(clean=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 1 MiB, and read-only when told to be."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a filesystem of our own needs root")
    yield where
    subprocess.run(["umount", "--lazy", str(where)], check=True)


def test_a_full_disk_is_an_error_and_then_memory_and_then_the_disk_again(small_disk: Path) -> None:
    path = small_disk / "spool.db"
    (small_disk / "ballast").write_bytes(bytes(500_000))
    spool = opened(path, "one")
    appended = 0
    with pytest.raises(SpoolError, match="full"):
        for _ in range(5000):
            spool.append([record("snow-1", appended)], CONFIG)
            appended += 1
    spool.turn_volatile(OSError("full"))
    for minute in range(appended, appended + 50):
        spool.append([record("snow-1", minute)], CONFIG)
    assert not spool.reopen() or spool.bytes() < 2**20
    (small_disk / "ballast").unlink()
    assert spool.reopen()
    assert seqs(spool) == list(range(1, appended + 51))
    spool.close(clean=True)


@pytest.mark.parametrize("is_allocated", [True, False])
def test_what_others_fill_the_disk_with_does_not_take_the_room_of_the_log(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, is_allocated: bool
) -> None:
    if not is_allocated:  # then it takes it
        monkeypatch.setattr("os.posix_fallocate", lambda *_: None)
    spool = opened(small_disk / "spool.db", "one", max_bytes=4 * 2**20)
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))
    appended = 0
    with suppress(SpoolError):
        for minute in range(12):  # of some 10 kB each in a log of 256
            spool.append([record(s, minute, padding=800) for s in STREAMS], CONFIG)
            appended += 1
    assert (appended == 12) == is_allocated
    (small_disk / "ballast").unlink()
    spool.close(clean=True)


def test_a_disk_that_turns_read_only_and_back(small_disk: Path) -> None:
    path = small_disk / "spool.db"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    spool = opened(path, "one")
    assert spool.is_volatile
    minutes(spool, range(3))
    assert not spool.reopen()
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert spool.reopen()
    assert seqs(spool) == [1, 2, 3]
    spool.close(clean=True)


def test_a_disk_that_is_full_at_the_start_is_no_reason_not_to_measure(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(2**20 - 8192))
    spool = opened(small_disk / "spool.db", "one")
    assert spool.is_volatile
    minutes(spool, range(3))
    (small_disk / "ballast").unlink()
    assert spool.reopen()
    assert spool.damages == []
    assert seqs(spool) == [1, 2, 3]
    spool.close(clean=True)


EIO = """
import sys, time
from pathlib import Path
from tests.agent.spools import opened, record, CONFIG
spool = opened(Path(sys.argv[1]), "one")
for minute in range(20):
    spool.append([record("snow-1", minute)], CONFIG)
print(spool.is_volatile, spool.last_id >= 2**40, flush=True)
"""


def test_a_disk_that_only_errs_is_left_at_the_start(path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace: apt install strace")
    done = subprocess.run(
        [
            *("strace", "-f", "-o", "/dev/null", "-P", str(path)),
            *("-e", "trace=openat", "-e", "inject=openat:error=EIO"),
            *(sys.executable, "-c", EIO, str(path)),
        ],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.split() == ["True", "True"]


def test_a_file_that_could_not_be_begun_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # as on a full disk: no byte more
    try:
        with pytest.raises(sqlite3.OperationalError):
            open_file(path, 2**16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    open_file(path, 2**16).close()
    path.write_bytes(b"")
    with pytest.raises(DamagedError, match="is empty"):  # one that somebody emptied is
        open_file(path, 2**16)
