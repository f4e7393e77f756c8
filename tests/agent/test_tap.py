"""A tap: everything that passes on a bus is noted, and nothing is changed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from agent.tap import Tap, TappedFiles, TappedI2c, TappedPair, TappedPins, TappedSerial, errno_name
from drivers.base import BusError
from drivers.files import LinuxFiles
from drivers.gpio import Edge


class Clock:
    def __init__(self) -> None:
        self.ns = 5_000_000_000

    def __call__(self) -> int:
        return self.ns


class Wire:
    """A device on any wire, which answers the same for ever, or fails."""

    fails: OSError | None = None

    def _answer(self) -> bytes:
        if self.fails is not None:
            raise BusError("gone") from self.fails
        return b"\x01\x02"

    def read(self, *_: object) -> Any:
        return self._answer()

    def write(self, *_: object) -> None:
        self._answer()

    def set_baud(self, baud: int) -> None:
        self._answer()

    def discard_input(self) -> None:
        pass


class Pins:
    """Two pins, of which one moved."""

    def watch(self, pins: object, *, pull: str) -> Pins:
        return self

    def level(self, pin: int) -> int:
        return pin % 2

    def edges(self) -> list[Edge]:
        return [Edge(17, 0, 5_500_000_000)]

    def close(self) -> None:
        pass


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def noted() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def tap(clock: Clock, noted: list[dict[str, Any]]) -> Tap:
    return Tap(clock, noted.append)


def test_i2c_transactions_are_noted_as_they_went(
    tap: Tap, clock: Clock, noted: list[dict[str, Any]]
) -> None:
    wire = Wire()
    bus = TappedI2c(wire, tap)
    bus.write(0x69, b"\x00\x00")
    clock.ns += 250_000_000
    assert bus.read(0x69, b"\x80", 2) == b"\x01\x02"
    wire.fails = OSError(errno.EREMOTEIO, "Remote I/O error")
    for call in (lambda: bus.read(0x69, b"", 2), lambda: bus.write(0x69, b"\x07")):
        with pytest.raises(BusError, match="gone"):
            call()
    assert noted == [
        {"t_s": 0.0, "address": 0x69, "write": "0000"},
        {"t_s": 0.25, "address": 0x69, "write": "80", "read": "0102"},
        {"t_s": 0.25, "address": 0x69, "write": "", "error": "EREMOTEIO"},
        {"t_s": 0.25, "address": 0x69, "write": "07", "error": "EREMOTEIO"},
    ]


def test_serial_bytes_are_noted_both_ways_and_an_error_by_its_name(
    tap: Tap, noted: list[dict[str, Any]]
) -> None:
    wire = Wire()
    port = TappedSerial(wire, tap)
    port.write(b"?")
    port.set_baud(115200)
    assert port.read(0.1) == b"\x01\x02"
    wire.fails = OSError(errno.EIO, "")
    with pytest.raises(BusError):
        port.read(0.1)
    assert noted == [
        {"t_s": 0.0, "tx": "3f"},
        {"t_s": 0.0, "baud": 115200},
        {"t_s": 0.0, "rx": "0102"},
        {"t_s": 0.0, "error": "EIO"},
    ]


def test_the_second_port_of_a_pair_says_that_it_is(tap: Tap, noted: list[dict[str, Any]]) -> None:
    class Two:
        a: Any = Wire()
        b: Any = Wire()

    pair = TappedPair(Two(), tap)
    pair.a.read(0)
    pair.b.read(0)
    pair.b.write(b"\xff")
    assert [entry.get("port") for entry in noted] == [None, "b", "b"]


def test_a_silent_port_leaves_no_trace(tap: Tap, noted: list[dict[str, Any]]) -> None:
    class Silent(Wire):
        def read(self, *_: object) -> bytes:
            return b""

    assert TappedSerial(Silent(), tap).read(0.1) == b""
    assert noted == []


def test_pins_are_noted_as_they_stood_and_as_they_moved(
    tap: Tap, noted: list[dict[str, Any]]
) -> None:
    watch = TappedPins(Pins(), tap).watch((17, 27), pull="up")
    assert watch.edges() == [Edge(17, 0, 5_500_000_000)]
    assert noted == [
        {"t_s": 0.0, "pin": 17, "level": 1, "edge": False},
        {"t_s": 0.0, "pin": 27, "level": 1, "edge": False},
        {"t_s": 0.5, "pin": 17, "level": 0},
    ]


def test_files_are_noted_with_their_text_or_their_error(
    tap: Tap, noted: list[dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "temp").write_text("42\n", encoding="ascii")
    files = TappedFiles(LinuxFiles(tmp_path), tap)
    assert files.names("/sys") == ["temp"]
    assert files.read("/sys/temp") == "42\n"
    with pytest.raises(BusError):
        files.read("/sys/none")
    assert noted == [
        {"t_s": 0.0, "path": "/sys", "names": ["temp"]},
        {"t_s": 0.0, "path": "/sys/temp", "text": "42\n"},
        {"t_s": 0.0, "path": "/sys/none", "error": "ENOENT"},
    ]


def test_an_error_without_a_number_is_eio() -> None:
    assert errno_name(BusError("somehow")) == "EIO"


def test_no_time_is_earlier_than_it_was(
    tap: Tap, clock: Clock, noted: list[dict[str, Any]]
) -> None:
    clock.ns += 1
    TappedI2c(Wire(), tap).write(0x10, b"")
    assert noted[0]["t_s"] == 1e-6
