"""A disk that breaks, seen by a file and by a database on it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hil.faults.disk import FaultyDisk, sweep
from hil.faults.ext4 import Ext4Image, UnavailableError
from hil.faults.ongoing import Heal

WAIT_S = 20.0
ROW_BYTES = 3000


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    try:
        disk = FaultyDisk()
    except UnavailableError as exc:
        pytest.skip(str(exc))
    with disk:
        yield disk


def write(folder: Path, name: str = "file") -> int:
    """Write and sync a file; return the error's number, or 0."""
    try:
        with (folder / name).open("wb", buffering=0) as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
    except OSError as exc:
        return exc.errno or -1
    return 0


@pytest.mark.parametrize(
    ("begin", "number"),
    [
        (lambda disk: disk.fail_io(), errno.EIO),
        (lambda disk: disk.fail_io("sync"), errno.EIO),
        (lambda disk: disk.refuse_writes(), errno.EROFS),
        (lambda disk: disk.fill(), errno.ENOSPC),
        (lambda disk: disk.turn_read_only(), errno.EROFS),
    ],
    ids=["EIO", "EIO at sync", "refused", "full", "read-only by the kernel"],
)
def test_a_write_ends_in_the_faults_own_error_and_healed_in_none(
    disk: FaultyDisk, begin: Callable[[FaultyDisk], Heal], number: int
) -> None:
    assert write(disk.mount_point) == 0
    heal = begin(disk)
    assert write(disk.mount_point, "other") == number
    heal()
    assert write(disk.mount_point, "third") == 0
    assert (disk.mount_point / "file").read_bytes() == bytes(4096)


@contextmanager
def container() -> Iterator[None]:
    """Somebody has a copy of all mounts, as a container that was begun meanwhile."""
    command = ["unshare", "--mount", "--propagation", "private", "cat"]  # ends with its stdin
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"begun\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"begun\n"
        yield


@pytest.mark.parametrize("begin", [FaultyDisk.turn_read_only, FaultyDisk.cut_power])
def test_a_boot_heals_it_although_a_container_still_holds_the_dead_one(
    disk: FaultyDisk, begin: Callable[[FaultyDisk], Heal]
) -> None:
    assert write(disk.mount_point) == 0
    with container():
        heal = begin(disk)
        assert write(disk.mount_point, "other") != 0
        heal()
        assert write(disk.mount_point, "third") == 0
    assert (disk.mount_point / "file").read_bytes() == bytes(4096)


def test_what_is_kept_is_all_there_is_although_a_container_holds_the_disk(tmp_path: Path) -> None:
    image = Ext4Image(tmp_path, keeps_its_word=True)
    try:
        image.make()
    except UnavailableError as exc:
        pytest.skip(str(exc))
    try:
        (image.mount_point / "early").write_bytes(b"not synced")
        assert write(image.mount_point) == 0  # which brings that name to the disk, too
        with container():
            image.save("kept")
            image.go_back("kept")
            assert (image.mount_point / "early").read_bytes() == b"not synced"
    finally:
        image.close()


def test_a_slow_disk_takes_its_time_until_it_is_healed_even_within_a_call(
    disk: FaultyDisk,
) -> None:
    heal = disk.slow(0.2, "sync")
    heal_more = disk.slow(0.3, "sync")
    began_s = time.monotonic()
    assert write(disk.mount_point) == 0
    assert time.monotonic() - began_s >= 0.5
    heal()
    heal_more()
    stuck = disk.slow(3600.0, "sync")
    writer = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.fsync(os.open({str(disk.mount_point)!r}, 0))"]
    )
    with pytest.raises(subprocess.TimeoutExpired):
        writer.wait(0.5)
    stuck()
    assert writer.wait(WAIT_S) == 0


def test_a_database_says_what_is_wrong_keeps_what_it_had_and_goes_on(disk: FaultyDisk) -> None:
    path = disk.mount_point / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE record (body BLOB)")

        def add() -> None:
            database.execute("INSERT INTO record VALUES (zeroblob(?))", (ROW_BYTES,))

        add()
        heal_io, heal_space = disk.fail_io("write"), disk.fill()
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            add()
        heal_io()
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            for _ in range(100):  # the log has some room of its own
                add()
        heal_space()
        before = database.execute("SELECT count(*) FROM record").fetchone()[0]
        add()
    assert kept(path) == before + 1


def kept(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        count: int = database.execute("SELECT count(*) FROM record").fetchone()[0]
        return count


@pytest.mark.parametrize("synchronous", ["FULL", "OFF"])
def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(
    disk: FaultyDisk, synchronous: str
) -> None:
    path = disk.mount_point / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE record (body BLOB)")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute(f"PRAGMA synchronous = {synchronous}")
        for _ in range(5):
            database.execute("INSERT INTO record VALUES (zeroblob(?))", (ROW_BYTES,))
        heal = disk.cut_power()
        with pytest.raises(sqlite3.OperationalError):
            database.execute("INSERT INTO record VALUES (zeroblob(?))", (ROW_BYTES,))
    heal()
    assert (kept(path) == 5) == (synchronous == "FULL")


def test_a_bench_that_was_killed_leaves_no_mount(tmp_path: Path) -> None:
    program = (
        "import time; from hil.faults.disk import FaultyDisk; "
        "disk = FaultyDisk(); disk.slow(9.0); print(disk.mount_point, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as bench:
        assert bench.stdout is not None
        place = bench.stdout.readline().strip()
        if not place:
            pytest.skip("no disks can be broken here")
        assert os.path.ismount(place)
        bench.send_signal(signal.SIGKILL)
    until_s = time.monotonic() + WAIT_S
    while str(Path(place).parent) in Path("/proc/self/mounts").read_text():
        assert time.monotonic() < until_s, "still mounted"
        time.sleep(0.05)
    sweep()
    assert not Path(place).parent.exists()
