"""A device that floods its line, or answers everything with ones: a poll ends, and is bounded."""

from __future__ import annotations

from typing import Any

import pytest

import drivers
from drivers.base import BusError, FrameError, Reading
from hil import emulation
from hil.buses import SimulatedI2c
from hil.rig import Now

POLLS = 4
# In the test's own time; what a real flood costs is measured in tests/e2e/test_hostile_bus.py.
BYTES_PER_S = 80_000
AT_ONCE = 4096  # what Linux keeps of a terminal's input
# A poll may wait for an answer, and an opening for a device that starts; neither may last.
LONGEST_S = 10.0


class Flood:
    """A serial port on which there is always more."""

    def __init__(self, now: Now, said: bytes) -> None:
        self.now = now
        self.read_bytes = 0
        self._said = said

    def read(self, timeout_s: float) -> bytes:
        self.now.advance(AT_ONCE / BYTES_PER_S)
        self.read_bytes += AT_ONCE
        begin = self.read_bytes % len(self._said)
        return (self._said[begin:] + self._said * (AT_ONCE // len(self._said) + 1))[:AT_ONCE]

    def write(self, data: bytes) -> None:
        self.now.advance(len(data) / BYTES_PER_S)

    def discard_input(self) -> None:
        """Do nothing: it is full again at once."""

    def set_baud(self, baud: int) -> None:
        """Do nothing: noise is noise."""


class Ones:
    """An I2C device that is not there, on a bus with strong pull-ups and a bad switch."""

    def __init__(self) -> None:
        self.transfers = 0

    def write(self, data: bytes, now_s: float) -> None:
        self.transfers += 1

    def read(self, length: int, now_s: float) -> bytes:
        self.transfers += 1
        return b"\xff" * length


def names(bus: str) -> list[str]:
    return [name for name in emulation.emulated() if drivers.load(name).spec.bus == bus]


def built(name: str, wire: Any, now: Now) -> Any:
    build: Any = drivers.load(name)
    return build(wire, build.Options.model_validate(emulation.load(name).options), now.ns)


def polled(driver: Any, now: Now) -> tuple[list[Any], float]:
    """Poll as a collector would; return what was said, and how long the longest call took."""
    said: list[Any] = []
    longest_s, is_open = 0.0, False
    for _ in range(POLLS):
        began_s = now.s
        try:
            if not is_open:
                driver.open()
                is_open = True
            said += driver.poll()
        except (BusError, FrameError):
            is_open = False
            driver.close()
        longest_s = max(longest_s, now.s - began_s)
        now.advance(driver.interval_s)
    return said, longest_s


@pytest.mark.parametrize("name", names("serial"))
@pytest.mark.parametrize(
    "said",
    [bytes(range(256)) * 3 + b"\r\n$!R", b"R", b"\x59", b"\xaa\xff\x03\x00", b"R0670\r"],
    ids=["noise", "an endless line", "half a header", "a header", "frames"],
)
def test_a_flooded_line_costs_a_bounded_time_and_a_bounded_number_of_values(
    name: str, said: bytes
) -> None:
    now = Now()
    ports = [Flood(now, said), Flood(now, said)]
    pair = type("Pair", (), {"a": ports[0], "b": ports[1]})()
    wire = pair if name == "benewake-tf-pair" else ports[0]
    values, longest_s = polled(built(name, wire, now), now)
    assert longest_s <= LONGEST_S
    read_bytes = sum(port.read_bytes for port in ports)
    assert read_bytes <= (LONGEST_S * BYTES_PER_S + AT_ONCE) * POLLS
    # No frame is shorter than six bytes; each gives two quantities, depth and distance.
    assert len(values) <= read_bytes / 6 * 2 + POLLS


@pytest.mark.parametrize("name", names("i2c"))
def test_a_device_that_answers_with_ones_measures_nothing_that_looks_good(name: str) -> None:
    now = Now()
    ones = Ones()
    driver: Any = drivers.load(name)
    options = driver.Options.model_validate(emulation.load(name).options)
    address = getattr(options, "address", None) or driver.spec.addresses[0]
    bus = SimulatedI2c({address: ones}, now, wait_s=now.advance)
    bus.open()
    values, longest_s = polled(built(name, bus, now), now)
    assert longest_s <= LONGEST_S
    assert 0 < ones.transfers <= POLLS * 200
    good = [each for each in values if isinstance(each, Reading) and not each.reasons]
    assert good == []
