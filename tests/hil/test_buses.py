from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from drivers.base import BusError
from drivers.buses import I2cBus, SerialPort
from hil.buses import Pty, SerialLine, SimulatedI2c, SimulatedSerial


class Now:
    """A clock that only goes when it is told to."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s

    def advance(self, by_s: float) -> None:
        self.s += by_s


class Answerer:
    """Answers anything after a second, and remembers what it heard."""

    def __init__(self, answer: bytes = b"yes") -> None:
        self.heard = b""
        self._answer = answer
        self._due_s: float | None = None

    def hear(self, data: bytes, now_s: float) -> None:
        self.heard += data
        if data == b"?":
            self._due_s = now_s + 1.0

    def speak(self, now_s: float) -> bytes:
        if self._due_s is None or now_s < self._due_s:
            return b""
        self._due_s = None
        return self._answer


class Registers:
    """An I2C device: a pointer and 256 bytes."""

    def __init__(self) -> None:
        self._bytes = bytearray(range(256))
        self._at = 0

    def write(self, data: bytes, now_s: float) -> None:
        self._at = data[0]
        self._bytes[self._at : self._at + len(data) - 1] = data[1:]

    def read(self, length: int, now_s: float) -> bytes:
        return bytes(self._bytes[self._at : self._at + length])


def test_on_one_line_everybody_hears_everybody() -> None:
    one, other = Answerer(b"one"), Answerer(b"two")
    line = SerialLine([one, other])
    assert line.carry(b"?", 0.0) == b""
    assert line.carry(b"", 1.0) == b"onetwo"
    assert one.heard == b"?two"
    assert other.heard == b"?one"


def test_an_echoing_adapter_gives_the_host_its_own_words_first() -> None:
    line = SerialLine([Answerer()], echo=True)
    assert line.carry(b"?", 0.0) == b"?"
    assert line.carry(b"", 1.0) == b"yes"


def test_a_silenced_device_neither_hears_nor_is_heard_and_the_other_goes_on() -> None:
    one, other = Answerer(b"one"), Answerer(b"two")
    line = SerialLine([one, other])
    line.silence(one)
    line.carry(b"?", 0.0)
    assert line.carry(b"", 1.0) == b"two"
    assert one.heard == b""
    line.heal()
    line.carry(b"?", 2.0)
    assert line.carry(b"", 3.0) == b"onetwo"


def test_a_garbled_line_changes_bytes_but_not_their_number_and_equal_seeds_alike() -> None:
    def spoken(seed: int) -> bytes:
        line = SerialLine([Answerer(bytes(1000))], seed=seed)
        line.carry(b"?", 0.0)
        line.garble(0.1)
        return line.carry(b"", 1.0)

    assert len(spoken(1)) == 1000
    assert 50 < sum(byte != 0 for byte in spoken(1)) < 200
    assert spoken(1) == spoken(1) != spoken(2)


def test_in_simulated_time_a_long_wait_takes_none() -> None:
    now = Now()
    port = SimulatedSerial([Answerer()], now, wait_s=now.advance)
    as_driver_sees_it: SerialPort = port
    port.open()
    as_driver_sees_it.write(b"?")
    assert as_driver_sees_it.read(0.5) == b""
    assert as_driver_sees_it.read(3600.0) == b"yes"
    assert now.s < 2.0
    port.close()


def test_a_simulated_port_is_gone_while_unplugged_and_must_be_opened_again() -> None:
    now = Now()
    port = SimulatedSerial([Answerer()], now, wait_s=now.advance, path="sim")
    with pytest.raises(BusError, match="sim: port is not open"):
        port.read(0.0)
    port.open()
    port.unplug()
    with pytest.raises(BusError, match="sim: Input/output error"):
        port.write(b"?")
    with pytest.raises(BusError, match="sim: No such file"):
        port.open()
    port.plug()
    with pytest.raises(BusError):
        port.read(0.0)
    port.open()
    assert port.read(0.0) == b""


def test_i2c_registers_are_written_and_read_at_their_address() -> None:
    bus = SimulatedI2c({0x68: Registers()}, Now())
    as_driver_sees_it: I2cBus = bus
    bus.open()
    assert as_driver_sees_it.read(0x68, b"\x10", 3) == b"\x10\x11\x12"
    as_driver_sees_it.write(0x68, b"\x11\xaa")
    assert as_driver_sees_it.read(0x68, b"\x10", 3) == b"\x10\xaa\x12"
    bus.close()
    with pytest.raises(BusError, match="not open"):
        bus.read(0x68, b"", 1)


def test_an_i2c_address_without_device_or_refusing_is_linuxs_remote_io_error() -> None:
    bus = SimulatedI2c({0x68: Registers(), 0x69: Registers()}, Now(), path="i2c-sim")
    bus.open()
    with pytest.raises(BusError, match=r"^i2c-sim 0x40: Remote I/O error$"):
        bus.read(0x40, b"\x00", 1)
    bus.nack(0x68)
    with pytest.raises(BusError, match="0x68: Remote I/O error"):
        bus.write(0x68, b"\x00")
    assert bus.read(0x69, b"\x05", 1) == b"\x05"
    bus.heal()
    assert bus.read(0x68, b"\x05", 1) == b"\x05"


def test_a_stuck_i2c_bus_stops_everybody() -> None:
    bus = SimulatedI2c({0x68: Registers()}, Now())
    bus.open()
    bus.stick()
    with pytest.raises(BusError, match="timed out"):
        bus.read(0x68, b"\x05", 1)
    bus.heal()
    assert bus.read(0x68, b"\x05", 1) == b"\x05"


def test_a_pty_leaves_no_thread_no_link_and_plugs_and_unplugs_as_often_as_asked() -> None:
    threads = threading.active_count()
    with Pty([Answerer()], time.monotonic) as pty:
        pty.plug()
        assert Path(pty.path).exists()
        pty.unplug()
        pty.unplug()
        assert not Path(pty.path).is_symlink()
        with pytest.raises(BusError):
            _ = pty.baud
        pty.plug()
        assert Path(pty.path).exists()
    assert not Path(pty.path).parent.exists()
    assert threading.active_count() == threads
