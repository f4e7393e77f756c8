"""LinuxSerial over a real pseudo-terminal: what a technician's cable does to it."""

from __future__ import annotations

import errno
import fcntl
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import smbus2

from drivers import buses, nodes
from drivers.base import BusError, LineSettings
from drivers.buses import (
    I2C_ATTEMPTS,
    BusGoneError,
    BusyError,
    LinuxI2c,
    LinuxSerial,
    PairedSerial,
    SerialPair,
)
from hil.buses import Pty


class Parrot:
    """Says back what it hears."""

    def __init__(self) -> None:
        self._to_say = b""

    def hear(self, data: bytes, now_s: float) -> None:
        self._to_say += data

    def speak(self, now_s: float) -> bytes:
        said, self._to_say = self._to_say, b""
        return said


@pytest.fixture
def pty() -> Iterator[Pty]:
    with Pty([Parrot()], time.monotonic) as pty:
        yield pty


@pytest.fixture
def port(pty: Pty) -> Iterator[LinuxSerial]:
    port = LinuxSerial(pty.path, LineSettings(19200))
    port.open()
    yield port
    port.close()


def heard(port: LinuxSerial, length: int) -> bytes:
    collected = b""
    while len(collected) < length and (chunk := port.read(5.0)):
        collected += chunk
    return collected


def test_what_is_written_reaches_the_device_and_its_answer_comes_back(port: LinuxSerial) -> None:
    every_byte = bytes(range(256))
    port.write(every_byte)
    assert heard(port, 256) == every_byte


def test_a_silent_line_gives_nothing_with_and_without_waiting(port: LinuxSerial) -> None:
    assert port.read(0.0) == b""
    assert port.read(0.01) == b""


def test_discarded_input_is_gone(port: LinuxSerial) -> None:
    port.write(b"old")
    assert port.read(5.0)
    port.discard_input()
    port.write(b"new")
    assert heard(port, 3).endswith(b"new")


@pytest.mark.parametrize("baud", [9600, 19200, 115200, 256000])
def test_the_line_is_set_to_the_speed_asked_for(pty: Pty, baud: int) -> None:
    port = LinuxSerial(pty.path, LineSettings(baud))
    port.open()
    assert pty.baud == baud
    port.close()


def test_an_unplugged_device_is_a_bus_error_that_names_the_path(
    pty: Pty, port: LinuxSerial
) -> None:
    pty.unplug()
    for call in (
        lambda: port.read(0.1),
        lambda: port.read(0.0),
        lambda: port.write(b"x"),
        port.discard_input,
    ):
        with pytest.raises(BusError, match=f"^{pty.path}: "):
            call()


def test_a_device_that_comes_back_under_another_number_is_found_by_its_stable_name(
    pty: Pty, port: LinuxSerial
) -> None:
    first = Path(pty.path).resolve()
    pty.unplug()
    with pytest.raises(BusError, match="No such file or directory: is it plugged in"):
        LinuxSerial(pty.path, LineSettings(9600)).open()
    pty.plug()  # the number is taken as long as the host holds the dead one open
    assert Path(pty.path).resolve() != first
    port.close()
    port.open()
    port.write(b"hello")
    assert heard(port, 5) == b"hello"


def test_a_port_held_by_another_says_so(pty: Pty, port: LinuxSerial) -> None:
    with pytest.raises(BusyError, match=r"in use by this program already"):
        LinuxSerial(pty.path, LineSettings(9600)).open()


HOLD = """
import fcntl, os, sys
node = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
fcntl.flock(node, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_port_held_by_another_program_names_it(pty: Pty) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, pty.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        with pytest.raises(BusyError) as caught:
            LinuxSerial(pty.path, LineSettings(9600)).open()
        other.stdin.close()
    assert "in use by another program: python" in str(caught.value)
    assert f"(process {other.pid})" in str(caught.value)


def test_what_is_no_serial_port_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(BusError):
            LinuxSerial(str(path), LineSettings(9600)).open()
    with pytest.raises(BusError, match="Is a directory: this is not a serial port"):
        LinuxSerial(str(tmp_path), LineSettings(9600)).open()


def test_who_may_not_use_a_port_is_told_which_group_may(
    monkeypatch: pytest.MonkeyPatch, pty: Pty
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", refused)
    group = Path(pty.path).group()
    with pytest.raises(BusError, match=f"Permission denied: only group {group} may use it"):
        LinuxSerial(pty.path, LineSettings(9600)).open()


def test_a_speed_that_the_adapter_silently_does_not_take_is_told(
    monkeypatch: pytest.MonkeyPatch, pty: Pty
) -> None:
    rounded = struct.pack("=4I20s2I", 0, 0, 0, 0, b"", 115200, 115200)
    monkeypatch.setattr("fcntl.ioctl", ioctl_answering(buses._TCGETS2, rounded))
    with pytest.raises(BusError, match="cannot do 256000 baud, only 115200"):
        LinuxSerial(pty.path, LineSettings(256000)).open()
    port = LinuxSerial(pty.path, LineSettings(115200))
    port.open()
    with pytest.raises(BusError, match="cannot do 921600 baud"):
        port.set_baud(921600)
    port.close()


def ioctl_answering(request: int, answer: bytes) -> Callable[..., Any]:
    real = fcntl.ioctl

    def ioctl(node: Any, asked: int, *more: Any) -> Any:
        return answer if asked == request else real(node, asked, *more)

    return ioctl


def test_an_adapter_that_hangs_does_not_hold_its_bus_for_ever(
    monkeypatch: pytest.MonkeyPatch, port: LinuxSerial
) -> None:
    monkeypatch.setattr(buses, "_DRAIN_S", 0.01)
    monkeypatch.setattr("serial.Serial.out_waiting", 5)
    with pytest.raises(BusGoneError, match="does not take what is sent"):
        port.write(b"hello")


def test_two_ports_of_one_sensor_are_opened_together_or_not_at_all(pty: Pty) -> None:
    with Pty([Parrot()], time.monotonic) as second:
        pair = PairedSerial(pty.path, second.path, LineSettings(9600))
        as_driver_sees_it: SerialPair = pair
        pair.open()
        as_driver_sees_it.b.set_baud(19200)
        assert (pty.baud, second.baud) == (9600, 19200)
        as_driver_sees_it.b.write(b"b")
        assert as_driver_sees_it.b.read(5.0) == b"b"
        assert as_driver_sees_it.a.read(0.0) == b""
        pair.close()
        second.unplug()
        with pytest.raises(BusError, match=second.path):
            pair.open()
        with pytest.raises(BusError, match="not open"):
            pair.a.read(0.0)


def test_a_closed_port_is_a_bus_error_and_closes_twice(pty: Pty) -> None:
    port = LinuxSerial(pty.path, LineSettings(9600))
    port.close()
    with pytest.raises(BusError, match="not open"):
        port.read(0.0)
    port.open()
    port.close()
    port.close()


def test_a_missing_i2c_bus_is_a_bus_error_in_the_systems_words(tmp_path: Path) -> None:
    bus = LinuxI2c(str(tmp_path / "i2c-9"))
    with pytest.raises(BusError, match=r"i2c-9: No such file or directory: is I2C switched on"):
        bus.open()
    with pytest.raises(BusError, match="0x68: bus is not open"):
        bus.read(0x68, b"\x80", 2)
    bus.close()


# I2C, with an adapter of the test's own below smbus2


class Adapter:
    """Stands in for smbus2.SMBus: one device that echoes, and the errors that are due."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.transfers: list[list[tuple[int, bool, int]]] = []  # (address, is a read, length)
        self.errors: list[int] = []
        self.is_held = False  # a device holds SCL or SDA low
        self.timeouts_s: list[float] = []

    def smbus(self, _path: str) -> Any:
        node = self._path.open("r+b")
        return SimpleNamespace(fd=node.fileno(), i2c_rdwr=self._rdwr, close=node.close, node=node)

    def ioctl(self, _node: Any, request: int, hundredths: int) -> int:
        assert request == 0x0702  # I2C_TIMEOUT of linux/i2c-dev.h
        self.timeouts_s.append(hundredths / 100)
        return 0

    def free(self) -> None:
        self.is_held = False

    def _rdwr(self, *messages: Any) -> None:
        self.transfers.append([(m.addr, bool(m.flags & 1), m.len) for m in messages])
        if self.is_held:
            raise OSError(errno.ETIMEDOUT, "Connection timed out")
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, "the system's word")
        for message in messages:
            if message.flags & 1:
                for at in range(message.len):
                    message.buf[at] = bytes([(0x40 + at) % 256])


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adapter:
    node = tmp_path / "i2c-1"
    node.touch()
    adapter = Adapter(node)
    monkeypatch.setattr(smbus2, "SMBus", adapter.smbus)
    monkeypatch.setattr("fcntl.ioctl", adapter.ioctl)
    monkeypatch.setattr(nodes, "I2C_DEVICES", tmp_path)
    return adapter


@pytest.fixture
def i2c(adapter: Adapter, tmp_path: Path) -> Iterator[LinuxI2c]:
    bus = LinuxI2c(str(tmp_path / "i2c-1"))
    bus.open()
    yield bus
    bus.close()


def test_a_read_is_one_transfer_with_a_repeated_start(adapter: Adapter, i2c: LinuxI2c) -> None:
    assert i2c.read(0x69, b"\x80", 3) == b"\x40\x41\x42"
    i2c.write(0x69, b"\x00\x01")
    assert adapter.transfers == [[(0x69, False, 1), (0x69, True, 3)], [(0x69, False, 2)]]


def test_a_read_of_a_device_without_registers_writes_nothing(
    adapter: Adapter, i2c: LinuxI2c
) -> None:
    assert i2c.read(0x0A, b"", 2) == b"\x40\x41"
    assert adapter.transfers == [[(0x0A, True, 2)]]


@pytest.mark.parametrize("number", [errno.EREMOTEIO, errno.ENXIO, errno.EIO, errno.EAGAIN])
def test_what_is_refused_for_a_moment_is_asked_again_at_once(
    adapter: Adapter, i2c: LinuxI2c, number: int
) -> None:
    adapter.errors = [number] * (I2C_ATTEMPTS - 1)
    assert i2c.read(0x69, b"\x80", 1) == b"\x40"
    adapter.transfers.clear()
    adapter.errors = [number] * I2C_ATTEMPTS
    with pytest.raises(BusError, match=r"i2c-1 0x69: the system's word"):
        i2c.read(0x69, b"\x80", 1)
    assert len(adapter.transfers) == I2C_ATTEMPTS == 3


def test_a_stuck_bus_is_asked_once(adapter: Adapter, i2c: LinuxI2c) -> None:
    adapter.is_held = True
    with pytest.raises(BusError, match="timed out: a device holds the bus"):
        i2c.write(0x69, b"\x00")
    assert len(adapter.transfers) == 1


def test_an_adapter_that_is_gone_takes_all_its_devices_with_it(
    adapter: Adapter, i2c: LinuxI2c
) -> None:
    adapter.errors = [errno.ENODEV]
    with pytest.raises(BusGoneError):
        i2c.write(0x69, b"\x00")


def test_nine_clocks_free_a_stuck_bus_when_it_is_opened_again(
    adapter: Adapter, tmp_path: Path
) -> None:
    bus = LinuxI2c(str(tmp_path / "i2c-1"), unstick=adapter.free)
    bus.open()
    adapter.is_held = True
    with pytest.raises(BusError):
        bus.read(0x69, b"\x80", 1)
    bus.close()
    bus.open()
    assert bus.read(0x69, b"\x80", 1) == b"\x40"
    bus.close()


def test_an_i2c_bus_that_cannot_be_freed_is_not_left_half_open(tmp_path: Path) -> None:
    def unstick() -> None:
        raise BusError("pin 17 (BCM): in use")

    (tmp_path / "i2c-1").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smbus2, "SMBus", Adapter(tmp_path / "i2c-1").smbus)
        bus = LinuxI2c(str(tmp_path / "i2c-1"), unstick=unstick)
        for _ in range(2):  # the lock is free again
            with pytest.raises(BusError, match="pin 17"):
                bus.open()


def test_a_device_is_waited_for_as_long_as_its_bytes_may_take_and_the_kernel_gets_its_own_back(
    adapter: Adapter, i2c: LinuxI2c
) -> None:
    i2c.read(0x69, b"\x80", 2)
    i2c.read(0x69, b"\x80", 2)
    i2c.read(0x33, b"\x04\x00", 1664)
    i2c.close()
    short_s, long_s, at_the_end_s = adapter.timeouts_s
    assert short_s == 0.1
    assert 1664 * 9 / 10_000 < long_s < 4
    assert at_the_end_s == 1.0


def test_an_adapter_that_cannot_be_told_a_time_out_is_used_as_it_is(
    adapter: Adapter, i2c: LinuxI2c, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(*_: Any) -> int:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    assert i2c.read(0x69, b"\x80", 1) == b"\x40"


def test_a_second_user_of_an_i2c_bus_is_refused(i2c: LinuxI2c, tmp_path: Path) -> None:
    second = LinuxI2c(str(tmp_path / "i2c-1"))
    with pytest.raises(BusyError, match="in use by this program already"):
        second.open()
    i2c.close()
    second.open()
    second.close()


def test_an_address_that_the_kernel_uses_is_refused_before_it_is_touched(
    adapter: Adapter, i2c: LinuxI2c, tmp_path: Path
) -> None:
    (tmp_path / "1-0068").mkdir()
    (tmp_path / "1-0068" / "driver").symlink_to("../../../../bus/i2c/drivers/rtc-ds1307")
    (tmp_path / "1-0050").mkdir()  # made by hand, and nobody has taken it
    with pytest.raises(BusError, match="0x68: the kernel's driver rtc-ds1307 has this address"):
        i2c.read(0x68, b"\x00", 1)
    assert adapter.transfers == []
    assert i2c.read(0x50, b"\x00", 1) == b"\x40"
