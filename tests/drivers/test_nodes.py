"""What stands beside a device node: its lasting names, and who has it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from drivers import nodes


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /dev with two adapters of one make, and their udev links."""
    folders = (tmp_path / "by-id", tmp_path / "by-path")
    monkeypatch.setattr(nodes, "NAME_FOLDERS", folders)
    monkeypatch.setattr(nodes, "USB_TTYS", tmp_path / "sys")
    for name in ("ttyUSB0", "ttyUSB1"):
        (tmp_path / name).touch()
    for folder in folders:
        folder.mkdir()
    (folders[0] / "usb-FTDI_FT0ABCDE").symlink_to("../ttyUSB0")
    (folders[1] / "pci-usb-0:1.1").symlink_to("../ttyUSB0")
    (folders[1] / "pci-usb-0:1.2").symlink_to("../ttyUSB1")
    return tmp_path


def plug(dev: Path, tty: str, *, serial_number: bool) -> None:
    adapter = dev / "devices" / "1-1"
    (adapter / "1-1:1.0" / tty).mkdir(parents=True)
    if serial_number:
        (adapter / "serial").touch()
    (dev / "sys" / tty).mkdir(parents=True)
    (dev / "sys" / tty / "device").symlink_to(adapter / "1-1:1.0" / tty)


def test_an_adapter_is_called_by_its_own_number(dev: Path) -> None:
    plug(dev, "ttyUSB0", serial_number=True)
    assert nodes.lasting_name(str(dev / "ttyUSB0")) == str(dev / "by-id" / "usb-FTDI_FT0ABCDE")


def test_an_adapter_without_a_number_of_its_own_is_called_by_its_socket(dev: Path) -> None:
    plug(dev, "ttyUSB0", serial_number=False)
    assert nodes.lasting_name(str(dev / "ttyUSB0")) == str(dev / "by-path" / "pci-usb-0:1.1")


def test_what_has_no_name_by_id_is_called_by_its_socket(dev: Path) -> None:
    assert nodes.lasting_name(str(dev / "ttyUSB1")) == str(dev / "by-path" / "pci-usb-0:1.2")


def test_what_is_not_plugged_in_has_no_name(dev: Path) -> None:
    assert nodes.lasting_name(str(dev / "ttyUSB7")) is None


def test_only_names_in_the_order_of_arrival_pass() -> None:
    assert nodes.is_passing("/dev/ttyUSB0")
    assert nodes.is_passing("/dev/ttyACM12")
    assert not nodes.is_passing("/dev/ttyAMA0")
    assert not nodes.is_passing("/dev/serial/by-id/usb-FTDI_ttyUSB0")


def test_who_has_locked_or_only_opened_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.touch()
    assert nodes.holder(str(path)) is None
    with path.open() as held:
        by_opening = nodes.holder(str(path))
        fcntl.flock(held, fcntl.LOCK_EX)
        by_lock = nodes.holder(str(path))
    assert by_opening == by_lock
    assert by_lock is not None
    assert by_lock[0] == os.getpid()


def test_nothing_below_proc_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "PROC", tmp_path / "nowhere")
    assert nodes.holder(str(tmp_path)) is None
