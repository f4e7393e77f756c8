"""Many gateways and a city, all of them struck again and again: the database equals the truth."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.broker import Mosquitto
from hil.city.databases import opened
from hil.far_end import FarEnd
from hil.postgres import Postgres
from hil.senders.trial import Fleet, hold
from tests.hil.city.conftest import (
    ACK_BEFORE_COMMIT,
    count,
    deliver,
    hold_against,
    sender,
    url_of,
    wait_until,
)


@pytest.mark.slow
def test_fifty_gateways_and_two_processes_struck_at_random_end_in_the_truth(
    broker: Mosquitto,
) -> None:
    with Postgres(options=("fsync=off",)) as server:

        def crash() -> None:
            server.kill()
            server.start()

        with (
            FarEnd(url_of(broker), server.url, instance="1") as first,
            FarEnd(url_of(broker), server.url, instance="2") as second,
        ):
            first.wait_connected()
            second.wait_connected()
            fleet = Fleet(broker.host, broker.port, gateways=50, rounds=3, seed=1)
            found = hold(fleet, [first, second], server.url, seed=1, strikes=10, mishaps=[crash])
            assert not found, "\n".join(found)


@pytest.mark.slow
def test_six_gateways_and_a_file_struck_at_random_end_in_the_truth(
    broker: Mosquitto, tmp_path: Path
) -> None:
    database = f"sqlite:{tmp_path}/city.db"
    with FarEnd(url_of(broker), database) as city:
        city.wait_connected()
        fleet = Fleet(broker.host, broker.port, gateways=6, rounds=6, seed=2)
        found = hold(fleet, [city], database, seed=2, strikes=8)
        assert not found, "\n".join(found)


@pytest.mark.slow
def test_a_city_that_acknowledges_before_it_commits_is_found_out(
    broker: Mosquitto, tmp_path: Path
) -> None:
    """By chance it may be killed with nothing in hand; not three times eight times."""
    for seed in (2, 3, 4):
        database = f"sqlite:{tmp_path}/city-{seed}.db"
        more = ("--instance", f"{seed}")
        with FarEnd(url_of(broker), database, fault=ACK_BEFORE_COMMIT, more=more) as city:
            city.wait_connected()
            fleet = Fleet(broker.host, broker.port, gateways=6, rounds=6, seed=seed)
            found = hold(fleet, [city], database, seed=seed, strikes=8, settle_s=4.0)
            if any("are missing" in problem for problem in found):
                return
            city.stop()
            city.start("--retire")
            city.wait_end()
    pytest.fail("it lost nothing")


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a file system that is soon full, as root, where PostgreSQL's user may go too."""
    folder = Path(tempfile.mkdtemp(prefix="yukimi-disk-"))
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0777", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("only root may mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Take the rest of a disk, to the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def test_a_full_disk_under_sqlite_delays_and_loses_nothing(broker: Mosquitto) -> None:
    with small_disk("4m") as disk:
        database = f"sqlite:{disk}/city.db"
        with FarEnd(url_of(broker), database) as city:
            city.wait_connected()
            patient = sender(broker, "patient", confirm="receipt")
            deliver(patient, city)
            ballast = fill(disk)
            trusting = sender(broker, "trusting", seed=2)
            for one in (patient, trusting):
                one.measure(200)
            patient.deliver(3.0)
            deliver(trusting, city)  # the broker keeps it
            city.wait_log("the database cannot write", "full")
            assert patient.waiting
            ballast.unlink()
            deliver(patient, city)
            with opened(database, read_only=True) as reader:
                whole = len(patient.truth.bodies) + len(trusting.truth.bodies)
                wait_until(lambda: count(reader) == whole, "all records", city)
                for one in (patient, trusting):
                    hold_against(reader, one.gateway, one.truth)


@pytest.mark.slow
def test_a_full_disk_under_postgresql_delays_and_loses_nothing(broker: Mosquitto) -> None:
    small_log = ("min_wal_size=32MB", "max_wal_size=48MB", "fsync=off")
    with (
        small_disk("128m") as disk,
        Postgres(folder=disk, options=small_log) as server,
        FarEnd(url_of(broker), server.url) as city,
    ):
        city.wait_connected()
        patient = sender(broker, "patient", confirm="receipt")
        deliver(patient, city)
        ballast = fill(disk)
        trusting = sender(broker, "trusting", seed=2)
        for one in (patient, trusting):
            one.measure(400)
        patient.deliver(3.0)
        deliver(trusting, city)
        city.wait_log("the database cannot write")
        ballast.unlink()
        server.start()  # where it could not even write its log it has given up
        deliver(patient, city)
        with opened(server.url, read_only=True) as reader:
            whole = len(patient.truth.bodies) + len(trusting.truth.bodies)
            wait_until(lambda: count(reader) == whole, "all records", city)
            for one in (patient, trusting):
                hold_against(reader, one.gateway, one.truth)
