"""A disk that fails under a running gateway: what was measured meanwhile arrives, or is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hil.faults.disk import FaultyDisk
from hil.faults.ext4 import UnavailableError
from hil.faults.ongoing import Heal
from tests.e2e.conftest import Site


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    try:
        disk = FaultyDisk()
    except UnavailableError as exc:
        pytest.skip(str(exc))
    with disk:
        yield disk


@pytest.fixture
def site(site: Site, disk: FaultyDisk) -> Site:
    site.spool = disk.mount_point / "spool.db"
    site.configure(("snow-2",))
    return site


@pytest.mark.slow
def test_a_disk_that_fails_for_a_while_is_told_of_and_costs_no_record(
    site: Site, disk: FaultyDisk
) -> None:
    faults: dict[str, Callable[[], Heal]] = {
        "EIO": disk.fail_io,
        "EIO at sync": lambda: disk.fail_io("sync"),
        "EIO now and then": lambda: disk.fail_io("write", share=0.5),
        "EROFS": disk.refuse_writes,
    }
    site.start({"agent.writer.COMMIT_RETRY_S": 0.5})
    for done, begin in enumerate(faults.values()):
        site.wait_records("snow-2", 1)
        told = len(site.daemon.said("level=error", "spool"))
        heal = begin()
        site.daemon.wait_log("level=error", "spool", times=told + 1)
        heal()
        site.daemon.wait_log("spool can be written again", times=1 + done)
    site.wait_records("snow-2", 2)
    # A slow disk is no error: records are late, and nothing else.
    told = len(site.daemon.said("level=error"))
    heal = disk.slow(0.3)
    site.wait_records("snow-2", 2)
    heal()
    site.wait_records("snow-2", 2)
    assert len(site.daemon.said("level=error")) == told
    assert site.stop() == 0
    site.close_account()


@pytest.mark.slow
def test_a_disk_that_others_fill_leaves_the_log_its_room_and_is_then_told_of(
    site: Site, disk: FaultyDisk
) -> None:
    config = site.configure(("snow-2",))
    text = config.read_text(encoding="utf-8")
    small = text.replace("[spool]\n", '[spool]\nmax_bytes = "2MiB"\n')  # and so is its log
    assert small != text
    config.write_text(small, encoding="utf-8")
    site.start({"agent.writer.COMMIT_RETRY_S": 0.5})
    site.wait_records("snow-2", 1)
    heal = disk.fill()
    site.wait_records("snow-2", 3)
    assert not site.daemon.said("level=error")
    site.daemon.wait_log("level=error", "spool", "full")
    heal()
    site.daemon.wait_log("spool can be written again")
    site.wait_records("snow-2", 2)
    assert site.stop() == 0
    site.close_account()


def test_a_disk_that_the_kernel_made_read_only_is_told_of_and_the_next_boot_goes_on(
    site: Site, disk: FaultyDisk
) -> None:
    site.start()
    site.wait_records("snow-2", 2)
    heal = disk.turn_read_only()
    site.daemon.wait_log("level=error", "spool")
    site.kill()
    heal()
    site.start()
    site.wait_new_run()
    site.wait_records("snow-2", 2)
    assert site.stop() == 0
    site.close_account()


def test_a_gateway_that_starts_on_a_full_disk_begins_in_memory_and_moves_when_there_is_room(
    site: Site, disk: FaultyDisk
) -> None:
    heal = disk.fill()
    site.start({"agent.writer.REOPEN_S": 1.0})
    site.daemon.wait_log("level=error", "records are in memory only", "full")
    site.wait_records("snow-2", 2)
    heal()
    site.daemon.wait_log("the disk works again")
    site.wait_records("snow-2", 2)
    assert not site.daemon.said("damaged")
    assert site.stop() == 0
    site.close_account()
