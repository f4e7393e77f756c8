"""What a board's own files tell: power, services, ports, disk, clock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.doctor.order import BY_ID
from agent.doctor.site import Site
from tests.agent.doctor.board import Board

THROTTLED = "/sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


@pytest.mark.parametrize(
    ("bits", "status"), [("0", "PASS"), ("50005", "FAIL"), ("50000", "WARN"), ("80008", "PASS")]
)
def test_under_voltage_fails_now_and_warns_of_the_past(
    board: Board, bits: str, status: str
) -> None:
    board.file(THROTTLED, f"{bits}\n")
    assert board.look("YK-PWR-01").status == status


def test_a_hot_board_is_warned_of(board: Board) -> None:
    board.file("/sys/class/thermal/thermal_zone0/temp", "83100\n")
    assert board.look("YK-PWR-02").status == "WARN"
    board.file("/sys/class/thermal/thermal_zone0/temp", "41000\n")
    assert board.look("YK-PWR-02").status == "PASS"


def test_a_board_that_does_not_say_is_not_accused(board: Board) -> None:
    for name in ("YK-PWR-01", "YK-PWR-02", "YK-DSK-04", "YK-CLK-01", "YK-SVC-01", "YK-SVC-04"):
        assert board.look(name).status == "SKIP", name


@pytest.mark.parametrize(
    ("facts", "check", "status"),
    [
        ("LoadState=loaded\nUnitFileState=enabled\nActiveState=active\n", "YK-SVC-01", "PASS"),
        ("LoadState=loaded\nUnitFileState=disabled\nActiveState=active\n", "YK-SVC-01", "WARN"),
        ("LoadState=not-found\n", "YK-SVC-01", "SKIP"),
        ("LoadState=loaded\nActiveState=active\nNRestarts=0\n", "YK-SVC-02", "PASS"),
        ("LoadState=loaded\nActiveState=active\nNRestarts=9\n", "YK-SVC-02", "WARN"),
        ("LoadState=loaded\nActiveState=failed\nNRestarts=0\n", "YK-SVC-02", "FAIL"),
        ("LoadState=loaded\nActiveState=active\n", "YK-SVC-03", "WARN"),
    ],
)
def test_a_service_is_judged_by_what_systemd_says(
    board: Board, facts: str, check: str, status: str
) -> None:
    board.file("/run/systemd/system/.keep")
    board.programs["show yukimi"] = facts
    assert board.look(check).status == status


@pytest.fixture
def starved(board: Board, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A machine that runs systemd, has swap, and lets systemctl wait."""
    slow = board.folder / "bin" / "systemctl"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr("agent.doctor.site.PROGRAM_S", 0.2)
    board.file("/run/systemd/system/.keep")
    board.file("/dev/watchdog0")
    board.file("/proc/swaps", "Filename Type\n/swapfile file\n")
    return Site(board.config_file, roots=board.roots)


@pytest.mark.parametrize(("check", "status"), [
    ("YK-SVC-01", "WARN"), ("YK-SVC-02", "SKIP"), ("YK-SVC-04", "SKIP"), ("YK-PRV-01", "SKIP"),
])  # fmt: skip
def test_a_starved_machine_is_not_one_without_systemd(
    starved: Site, check: str, status: str
) -> None:
    found = BY_ID[check].look(starved, None)
    assert found.status == status
    assert "systemctl did not answer within 0.2 s" in found.evidence


def test_a_systemd_that_says_nothing_of_the_service_is_no_good_sign(board: Board) -> None:
    board.file("/run/systemd/system/.keep")
    assert board.look("YK-SVC-01").status == "WARN"


@pytest.mark.parametrize(("value", "status"), [("15s", "PASS"), ("0", "WARN"), ("", "WARN")])
def test_a_watchdog_that_nobody_uses_is_warned_of(board: Board, value: str, status: str) -> None:
    board.file("/run/systemd/system/.keep")
    board.file("/dev/watchdog0")
    board.programs["show --property=RuntimeWatchdogUSec"] = f"RuntimeWatchdogUSec={value}\n"
    assert board.look("YK-SVC-04").status == status


def test_modem_manager_is_warned_of_before_it_takes_the_port(board: Board) -> None:
    node = board.file("/dev/ttyUSB0")
    assert board.look("YK-BUS-04", "/dev/ttyUSB0").status == "PASS"
    board.process(702, "ModemManager", "/usr/sbin/ModemManager")
    assert board.look("YK-BUS-04", "/dev/ttyUSB0").status == "WARN"
    board.file("/run/udev/data/c0:0", "E:ID_MM_DEVICE_IGNORE=1\n")
    assert node.stat().st_rdev == 0
    assert board.look("YK-BUS-04", "/dev/ttyUSB0").status == "PASS"


def test_a_log_in_is_seen_by_its_command_line_without_rights_to_its_files(board: Board) -> None:
    board.file("/dev/ttyUSB0")
    board.process(611, "agetty", "/sbin/agetty -o -p -- \\u --keep-baud 115200 ttyUSB0 vt220")
    found = board.look("YK-BUS-03", "/dev/ttyUSB0")
    assert found.status == "FAIL"
    assert found.next is not None
    assert "serial-getty@ttyUSB0" in found.next
    board.process(611, "agetty", "/sbin/agetty -o -p -- \\u --noclear tty1 linux")
    assert board.look("YK-BUS-03", "/dev/ttyUSB0").status == "PASS"


def test_a_port_that_is_not_there_is_told_with_those_that_are(board: Board) -> None:
    board.file("/dev/serial/by-id/usb-FTDI_FT232R_A10K-if00-port0")
    found = board.look("YK-BUS-01", "/dev/ttyUSB0")
    assert found.status == "FAIL"
    assert found.next is not None
    assert "usb-FTDI_FT232R_A10K" in found.next


def test_a_bus_that_works_and_is_not_in_config_txt_is_a_warning(board: Board) -> None:
    board.file("/sys/firmware/devicetree/base/model", "Raspberry Pi 4 Model B\0")
    board.file("/boot/firmware/config.txt", "enable_uart=1\n")
    board.file("/dev/i2c-1")
    assert board.look("YK-PI-01", "/dev/i2c-1").status == "WARN"


@pytest.mark.parametrize(
    ("model", "line", "status"),
    [
        ("Raspberry Pi 4 Model B", "dtparam=i2c_arm=on", "WARN"),
        ("Raspberry Pi 4 Model B", "dtparam=i2c_arm=on,i2c_arm_baudrate=50000", "PASS"),
        ("Raspberry Pi 5 Model B", "dtparam=i2c_arm=on", "PASS"),
        ("", "dtparam=i2c_arm=on", "PASS"),
    ],
)
def test_a_stretching_sensor_on_a_fast_old_controller_is_warned_of(
    board: Board, model: str, line: str, status: str
) -> None:
    board.file("/sys/firmware/devicetree/base/model", f"{model}\0")
    board.file("/boot/firmware/config.txt", f"{line}\n")
    assert board.look("YK-PI-05", "/dev/i2c-1").status == status


def test_swap_on_a_disk_is_warned_of_where_people_are_counted(board: Board) -> None:
    head = "Filename\tType\tSize\tUsed\tPriority\n"
    board.file("/proc/swaps", f"{head}/dev/zram0 partition 1 0 100\n")
    assert board.look("YK-PRV-01").status == "PASS"
    board.file("/proc/swaps", f"{head}/var/swap file 102396 0 -2\n")
    assert board.look("YK-PRV-01").status == "WARN"
    board.file("/run/systemd/system/.keep")
    board.programs["show yukimi"] = "MemorySwapMax=0\n"
    assert board.look("YK-PRV-01").status == "PASS"


def test_a_damaged_spool_that_was_replaced_is_still_told(board: Board) -> None:
    (board.folder / "spool.db.damaged").touch()
    assert board.look("YK-SPL-01").status == "WARN"


def test_a_file_system_that_has_counted_errors_is_warned_of(board: Board) -> None:
    board.file("/sys/fs/ext4/mmcblk0p2/errors_count", "0\n")
    assert board.look("YK-DSK-01").status == "PASS"
    board.file("/sys/fs/ext4/mmcblk0p2/errors_count", "3\n")
    assert board.look("YK-DSK-01").status == "WARN"


def test_a_clock_chip_that_is_configured_and_does_not_answer_has_failed(board: Board) -> None:
    board.file("/boot/firmware/config.txt", "dtoverlay=i2c-rtc,ds3231\n")
    assert board.look("YK-CLK-01").status == "FAIL"


def test_time_servers_are_those_of_the_machine(board: Board) -> None:
    from agent.doctor.clock import DEFAULT_SERVERS, servers

    assert servers(board.site()) == list(DEFAULT_SERVERS)
    board.file("/etc/systemd/timesyncd.conf", "[Time]\n#NTP=no.example\nNTP=a.example b.example\n")
    board.file("/etc/chrony/chrony.conf", "pool c.example iburst\nserver d.example\n")
    assert servers(board.site()) == ["a.example", "b.example", "c.example", "d.example"]
