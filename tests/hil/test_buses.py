from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from drivers.base import BusError
from drivers.buses import INPUT_LIMIT_BYTES, I2cBus, SerialPair, SerialPort
from hil.buses import Pty, SerialLine, SimulatedI2c, SimulatedPair, SimulatedSerial


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


def said(line: SerialLine) -> bytes:
    line.carry(b"?", 0.0)
    return line.carry(b"", 1.0)


def test_a_line_that_drops_loses_some_bytes_and_keeps_the_others_in_order() -> None:
    line = SerialLine([Answerer(bytes(range(256)))])
    line.drop(0.5)
    kept = said(line) or said(line)  # the question itself may be lost
    assert 64 < len(kept) < 192
    assert list(kept) == sorted(kept)


def test_a_line_that_duplicates_says_everything_twice() -> None:
    line = SerialLine([Answerer(b"yes")])
    line.duplicate(1.0)
    assert said(line) == b"yesyes"


def test_a_line_that_delays_keeps_the_order() -> None:
    line = SerialLine([Answerer(b"one"), Answerer(b"two")])
    line.delay(0.5)
    assert said(line) == b""
    assert line.carry(b"", 1.4) == b""
    line.heal()
    line.carry(b"?", 1.4)
    assert line.carry(b"", 2.4) == b"onetwoonetwo"


def test_bytes_take_their_time_on_a_paced_line() -> None:
    now = Now()
    port = SimulatedSerial([Answerer(bytes(96))], now, wait_s=now.advance, paced=True, baud=9600)
    port.open()
    port.write(b"?")
    asked_s = now.s
    assert asked_s == pytest.approx(1 / 960)
    assert len(port.read(5.0)) == 96
    assert now.s - asked_s == pytest.approx(1.0 + 0.1, abs=0.01)


def test_a_host_that_does_not_read_finds_what_came_first() -> None:
    now = Now()
    port = SimulatedSerial([Answerer(b"1" * 40_000)], now, wait_s=now.advance)
    port.open()
    for second in range(5):
        port.write(b"?")
        now.s = second + 1.0
        port.write(b"")
    assert len(port.read(0.0)) == INPUT_LIMIT_BYTES


def test_the_two_ports_of_a_pair_are_two() -> None:
    now = Now()
    ports = [SimulatedSerial([Answerer(name)], now, wait_s=now.advance) for name in (b"a", b"b")]
    pair = SimulatedPair(*ports)
    as_driver_sees_it: SerialPair = pair
    pair.open()
    as_driver_sees_it.b.write(b"?")
    assert as_driver_sees_it.a.read(2.0) == b""
    assert as_driver_sees_it.b.read(0.0) == b"b"
    pair.close()
    with pytest.raises(BusError, match="not open"):
        pair.a.read(0.0)


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


def registers() -> SimulatedI2c:
    bus = SimulatedI2c({0x68: Registers(), 0x69: Registers()}, Now())
    bus.open()
    return bus


def test_a_plain_read_goes_on_where_the_pointer_stands() -> None:
    bus = registers()
    bus.write(0x68, b"\x05")
    assert bus.read(0x68, b"", 2) == b"\x05\x06"


def test_one_transfer_is_refused_and_the_next_is_not() -> None:
    bus = registers()
    bus.nack_once(2)
    assert bus.read(0x68, b"\x05", 1) == b"\x05"
    with pytest.raises(BusError, match="0x69: Remote I/O error"):
        bus.read(0x69, b"\x05", 1)
    assert bus.read(0x69, b"\x05", 1) == b"\x05"


def test_one_read_has_one_wrong_bit() -> None:
    bus = registers()
    bus.flip(2, bit=9)
    assert [bus.read(0x68, b"\x04", 2) for _ in range(3)] == [
        b"\x04\x05",
        b"\x04\x07",
        b"\x04\x05",
    ]


@pytest.mark.parametrize(("clocks", "is_freed"), [(9, True), (3, True), (None, False)])
def test_a_stuck_bus_may_be_freed_by_nine_clocks_at_its_opening(
    clocks: int | None, is_freed: bool
) -> None:
    bus = SimulatedI2c({0x68: Registers()}, Now(), scl_pin=True)
    bus.open()
    bus.stick(clocks)
    with pytest.raises(BusError, match="timed out"):
        bus.read(0x68, b"\x05", 1)
    bus.close()
    bus.open()
    if is_freed:
        assert bus.read(0x68, b"\x05", 1) == b"\x05"
    else:
        with pytest.raises(BusError, match="timed out"):
            bus.read(0x68, b"\x05", 1)


def test_a_transfer_takes_its_time_on_the_wire() -> None:
    now = Now()
    bus = SimulatedI2c({0x68: Registers()}, now, wait_s=now.advance, clock_hz=100_000)
    bus.open()
    bus.read(0x68, b"\x00", 128)
    assert 0.0115 < now.s < 0.0125


def test_a_pty_leaves_no_thread_no_link_and_plugs_and_unplugs_as_often_as_asked() -> None:
    before = set(threading.enumerate())
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
    assert set(threading.enumerate()) <= before
