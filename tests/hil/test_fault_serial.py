"""Faults of serial lines, as a host at the other end and real drivers see them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

import pytest

from drivers.base import BusError, LineSettings, Reading
from drivers.buses import INPUT_LIMIT_BYTES, LinuxSerial
from hil.buses import Pty, SerialLine, SimulatedSerial
from hil.rig import Now, Rig

WAIT_S = 20.0


class Talker:
    """Says a byte a second, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard = b""
        self._next_s = 1

    def hear(self, data: bytes, now_s: float) -> None:
        self.heard += data

    def speak(self, now_s: float) -> bytes:
        due = range(self._next_s, int(now_s) + 1)
        self._next_s = int(now_s) + 1
        return bytes(each % 256 for each in due)


def test_what_a_stall_holds_back_comes_all_at_once_in_both_directions() -> None:
    talker = Talker()
    line = SerialLine([talker])
    heal = line.stall()
    assert [line.carry(b"?", second) for second in (1.0, 2.0, 3.0)] == [b"", b"", b""]
    assert talker.heard == b""
    heal()
    assert line.carry(b"", 4.0) == b"\x01\x02\x03\x04"
    assert talker.heard == b"???"
    assert line.carry(b"!", 5.0) == b"\x05"


def test_a_stall_may_lose_what_comes_meanwhile_and_nothing_after_it() -> None:
    talker = Talker()
    line = SerialLine([talker])
    heal = line.stall(lose=True)
    assert line.carry(b"?", 3.0) == b""
    heal()
    assert line.carry(b"!", 5.0) == b"\x04\x05"
    assert talker.heard == b"!"


def test_a_long_stall_holds_no_more_than_a_kernel_would() -> None:
    line = SerialLine([Talker()])
    heal = line.stall()
    line.carry(b"", 2.0 * INPUT_LIMIT_BYTES)
    heal()
    assert len(line.carry(b"", 2.0 * INPUT_LIMIT_BYTES)) == INPUT_LIMIT_BYTES


def test_a_flood_brings_its_rate_of_rubbish_beside_what_devices_say() -> None:
    line = SerialLine([Talker()])
    heal = line.flood(1000.0)
    line.carry(b"", 0.0)
    heard = [len(line.carry(b"", 0.5 * step)) for step in range(1, 21)]
    assert sum(heard) == 10 * 1000 + 10
    heal()
    assert line.carry(b"", 12.0) == b"\x0b\x0c"


def test_faults_on_one_line_add_up_and_each_heals_by_itself() -> None:
    line = SerialLine([Talker()])
    line.dice = Random(5)
    heal_loss = line.drop(1.0)
    heal_delay = line.delay(2.0)
    assert line.carry(b"", 1.0) == b""
    heal_loss()
    heal_loss()
    assert line.carry(b"", 2.0) == b""  # late, not lost
    assert line.carry(b"", 4.0) == b"\x02"
    heal_delay()
    assert line.carry(b"", 5.0) == b""  # never before what was said earlier
    assert line.carry(b"", 6.0) == b"\x03\x04\x05\x06"


def test_two_chances_of_loss_are_more_than_one() -> None:
    def kept(*shares: float) -> int:
        line = SerialLine([Talker()], seed=3)
        for share in shares:
            line.drop(share)
        return len(line.carry(b"", 1000.0))

    assert 450 < kept(0.5) < 550
    assert 200 < kept(0.5, 0.5) < 300
    assert kept() == 1000


def test_devices_at_another_speed_are_garbage_until_the_host_takes_theirs() -> None:
    now = Now(0.0)
    port = SimulatedSerial([Talker()], now, wait_s=now.advance, baud=9600)
    port.open()
    heal = port.line.mistune(19200)
    now.s = 100.0
    garbage = port.read(0.0)
    assert len(garbage) == 50  # one bit for two
    assert garbage != bytes(range(1, 101))[:50]
    port.set_baud(19200)
    now.s = 102.0
    assert port.read(0.0) == b"\x65\x66"
    heal()
    now.s = 103.0
    assert port.read(0.0) == b"\x67"


@pytest.mark.parametrize("verb", ["stall", "flood", "mistune"])
def test_a_driver_measures_before_not_meanwhile_and_again_afterwards(verb: str) -> None:
    rig = Rig("lufft-umb", interval_s=1.0)
    line = rig.wires[0].line
    begin = {
        "stall": line.stall,
        "flood": lambda: line.flood(1e6),
        "mistune": lambda: line.mistune(57600),
    }[verb]

    def measured() -> int:
        return sum(isinstance(seen, Reading) for seen in rig.run(20.0))

    assert measured() > 50
    assert rig.failures == 0  # the control
    heal = begin()
    assert measured() == 0
    assert rig.failures > 5
    heal()
    rig.run(5.0)
    failures = rig.failures
    assert measured() > 50
    assert rig.failures == failures


def read_something(port: LinuxSerial) -> bytes:
    until_s = time.monotonic() + WAIT_S
    while not (heard := port.read(0.1)):
        assert time.monotonic() < until_s, "it never said anything"
    return heard


def test_a_terminal_that_is_plugged_in_again_has_another_kernel_name_and_the_same_id() -> None:
    class Chatter(Talker):
        def speak(self, now_s: float) -> bytes:
            return b"snow"

    with Pty([Chatter()], time.monotonic) as pty:
        first = Path(pty.kernel_path)
        assert first.name == "ttyUSB0"
        line = LineSettings(9600)
        by_id, by_name = LinuxSerial(pty.path, line), LinuxSerial(str(first), line)
        by_id.open()
        assert read_something(by_id)
        pty.unplug()
        with pytest.raises(BusError):
            read_something(by_id)
        by_id.close()
        pty.plug("ttyUSB1")
        assert Path(pty.kernel_path).name == "ttyUSB1"
        assert os.path.realpath(pty.path) == os.path.realpath(pty.kernel_path)
        with pytest.raises(BusError, match="ttyUSB0: No such file"):
            by_name.open()
        by_id.open()
        assert read_something(by_id)
        by_id.close()


def test_a_simulated_port_may_come_back_under_another_name() -> None:
    now = Now(0.0)
    port = SimulatedSerial([Talker()], now, wait_s=now.advance, path="ttyUSB0")
    port.open()
    port.unplug()
    with pytest.raises(BusError, match="ttyUSB0: Input/output error"):
        port.read(0.0)
    port.plug("ttyUSB1")
    with pytest.raises(BusError, match="ttyUSB1: port is not open"):
        port.read(0.0)
    port.open()
    now.s = 1.0
    assert port.read(0.0)[-1:] == b"\x01"


@pytest.mark.parametrize("verb", ["stall", "flood", "garble"])
def test_on_a_real_terminal_a_fault_is_heard_and_heals(verb: str) -> None:
    class Steady(Talker):
        def speak(self, now_s: float) -> bytes:
            return b"\x55"

    with Pty([Steady()], time.monotonic) as pty:
        port = LinuxSerial(pty.path, LineSettings(9600))
        port.open()
        assert set(read_something(port)) == {0x55}
        heal = {
            "stall": pty.line.stall,
            "flood": lambda: pty.line.flood(1e6),
            "garble": lambda: pty.line.garble(1.0),
        }[verb]()
        until_s = time.monotonic() + WAIT_S
        while (
            (heard := port.read(0.1))
            if verb == "stall"
            else not set(heard := port.read(1)) - {0x55}
        ):
            assert time.monotonic() < until_s, heard
        heal()
        until_s = time.monotonic() + WAIT_S
        while set(heard := port.read(1.0)) != {0x55}:
            assert time.monotonic() < until_s, heard
        port.close()
