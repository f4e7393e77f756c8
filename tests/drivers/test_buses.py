"""LinuxSerial over a real pseudo-terminal: what a technician's cable does to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from smbus2 import i2c_msg

from drivers.base import BusError, LineSettings
from drivers.buses import LinuxI2c, LinuxSerial
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
    first = Path(pty.path).readlink()
    pty.unplug()
    with pytest.raises(BusError, match=r"No such file or directory$"):
        LinuxSerial(pty.path, LineSettings(9600)).open()
    pty.plug()  # the number is taken as long as the host holds the dead one open
    assert Path(pty.path).readlink() != first
    port.close()
    port.open()
    port.write(b"hello")
    assert heard(port, 5) == b"hello"


def test_a_port_held_by_another_says_so(pty: Pty, port: LinuxSerial) -> None:
    with pytest.raises(BusError, match=r"in use by another program$"):
        LinuxSerial(pty.path, LineSettings(9600)).open()


def test_what_is_no_terminal_is_a_bus_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BusError):
        LinuxSerial(str(tmp_path / "file"), LineSettings(9600)).open()


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
    with pytest.raises(BusError, match=r"i2c-9: No such file or directory$"):
        bus.open()
    with pytest.raises(BusError, match="0x68: bus is not open"):
        bus.read(0x68, b"\x80", 2)
    bus.close()


class Kernel:
    """What smbus2 would hand to the kernel, and bytes that count up in return."""

    transfers: list[list[tuple[int, int, bytes]]]

    def __init__(self, path: str) -> None:
        Kernel.transfers = []

    def i2c_rdwr(self, *messages: i2c_msg) -> None:
        self.transfers.append([(m.addr, m.flags & 1, bytes(m)) for m in messages])
        for message in messages:
            if message.flags & 1:
                for at in range(message.len):
                    message.buf[at] = at + 1

    def close(self) -> None:
        pass


def test_an_i2c_read_writes_what_is_asked_first_and_nothing_if_nothing_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smbus2.SMBus", Kernel)
    bus = LinuxI2c("/dev/i2c-1")
    bus.open()
    assert bus.read(0x5A, b"\x07", 3) == b"\x01\x02\x03"
    bus.write(0x0A, b"\x4c")
    assert bus.read(0x0A, b"", 2) == b"\x01\x02"
    assert Kernel.transfers == [
        [(0x5A, 0, b"\x07"), (0x5A, 1, bytes(3))],
        [(0x0A, 0, b"\x4c")],
        [(0x0A, 1, bytes(2))],
    ]
    bus.close()
