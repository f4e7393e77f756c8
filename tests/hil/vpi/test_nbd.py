"""The disk whose cache is lost with the power: by itself, and through a stranger's client."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.vpi.nbd import BLOCK_BYTES, NbdServer, VolatileDisk

SIZE_BYTES = 64 * BLOCK_BYTES


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"i" * SIZE_BYTES)
    return path


@pytest.fixture
def disk(image: Path) -> Iterator[VolatileDisk]:
    disk = VolatileDisk(image)
    yield disk
    disk.close()


def test_what_was_not_flushed_is_gone_after_a_cut(disk: VolatileDisk) -> None:
    disk.write(0, b"a" * BLOCK_BYTES)
    disk.flush()
    disk.write(0, b"b" * BLOCK_BYTES)
    assert disk.read(0, 1) == b"b"
    assert disk.cut() == 1
    assert disk.read(0, 1) == b"a"


def test_a_forced_write_stays_and_those_before_it_need_not(disk: VolatileDisk) -> None:
    disk.write(0, b"a" * BLOCK_BYTES)
    disk.write(BLOCK_BYTES, b"b" * BLOCK_BYTES, through=True)
    disk.cut()
    assert disk.read(BLOCK_BYTES - 1, 2) == b"ib"


def test_a_write_smaller_than_a_block_leaves_the_rest_of_it(disk: VolatileDisk) -> None:
    disk.write(BLOCK_BYTES - 512, b"x" * 1024)
    assert disk.read(BLOCK_BYTES - 513, 1026) == b"i" + b"x" * 1024 + b"i"


def test_some_of_what_was_not_flushed_may_survive_in_no_order(image: Path) -> None:
    disk = VolatileDisk(image, seed=1)
    for number in range(64):
        disk.write(number * BLOCK_BYTES, b"n" * BLOCK_BYTES)
    lost = disk.cut(survives=0.5)
    left = [disk.read(number * BLOCK_BYTES, 1) == b"n" for number in range(64)]
    disk.close()
    assert 0 < lost < 64
    assert left.count(True) == 64 - lost


def test_a_liar_says_that_it_flushed_and_loses_all_the_same(image: Path) -> None:
    disk = VolatileDisk(image, liar=True)
    disk.write(0, b"a" * BLOCK_BYTES, through=True)
    disk.flush()
    assert disk.read(0, 1) == b"a"
    disk.cut()
    assert disk.read(0, 1) == b"i"
    disk.close()


def test_the_image_is_never_written_to(disk: VolatileDisk, image: Path) -> None:
    disk.write(0, b"a" * SIZE_BYTES)
    disk.flush()
    assert image.read_bytes() == b"i" * SIZE_BYTES


def test_qemus_client_finds_what_it_flushed_and_not_what_it_did_not(
    disk: VolatileDisk, tmp_path: Path
) -> None:
    if shutil.which("qemu-io") is None:
        if os.environ.get("CI"):
            pytest.fail("no qemu-io: apt install qemu-utils")
        pytest.skip("no qemu-io: apt install qemu-utils")
    socket = tmp_path / "socket"

    def client(*commands: str) -> int:
        spoken = [part for command in commands for part in ("-c", command)]
        url = f"nbd+unix:///?socket={socket}"
        command = ["qemu-io", "-f", "raw", "-t", "none", *spoken, url]
        return subprocess.run(command, capture_output=True, check=False, timeout=120).returncode

    with NbdServer(socket, disk) as server:
        # It would flush when it ends in order.
        flushed = ("write -P 0x61 0 8k", "flush", "write -f -P 0x63 16k 4k")
        assert client(*flushed, "write -P 0x62 4k 4k", "abort") < 0
        assert client("read -P 0x62 4k 4k", "abort") < 0
        server.cut()
        assert client("read -P 0x61 0 8k", "read -P 0x63 16k 4k") == 0
        assert client("read -P 0x62 4k 4k") != 0


def test_it_returns_to_a_moment_with_what_was_flushed_then_and_what_was_not(
    disk: VolatileDisk,
) -> None:
    disk.write(0, b"a" * BLOCK_BYTES)
    disk.flush()
    disk.write(BLOCK_BYTES, b"b" * BLOCK_BYTES)
    moment = disk.moment()
    disk.write(0, b"c" * 2 * BLOCK_BYTES)
    disk.flush()
    disk.return_to(moment)
    assert disk.read(BLOCK_BYTES - 1, 2) == b"ab"
    disk.cut()
    assert disk.read(BLOCK_BYTES - 1, 2) == b"ai"
