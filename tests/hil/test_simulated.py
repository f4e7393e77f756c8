"""A simulated bus puts the right device on the right wire."""

from __future__ import annotations

from typing import Any

import pytest

import drivers
from drivers.base import Options
from drivers.lufft_umb import LufftUmb
from hil import emulation
from hil.buses import SimulatedI2c, SimulatedPair, SimulatedSerial
from hil.emulation import Emulation
from hil.simulated import SimulatedBus


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns

    def wait(self, time_s: float) -> None:
        self.ns += round(time_s * 1e9)


def options(driver: str, **given: Any) -> tuple[str, Options]:
    return driver, drivers.load(driver).Options.model_validate(given)


def test_devices_with_addresses_share_a_line_and_talkers_have_their_own() -> None:
    bus = SimulatedBus(
        {
            "road-1": options("lufft-umb", model="irs31pro"),
            "snow-1": options("lufft-umb", model="shm31"),
            "snow-2": options("maxbotix-hrxl", mount_height_cm=300.0),
            "snow-3": options("maxbotix-hrxl", mount_height_cm=300.0),
        }
    )
    assert bus.wire("road-1") is bus.wire("snow-1")
    assert len({id(bus.wire(name)) for name in ("road-1", "snow-2", "snow-3")}) == 3


def test_i2c_devices_answer_at_their_addresses() -> None:
    bus = SimulatedBus(
        {
            "hall-1": options("grideye-amg88xx", address=0x68),
            "hall-2": options("grideye-amg88xx", address=0x69),
        }
    )
    wire = bus.wire("hall-1")
    assert isinstance(wire, SimulatedI2c)
    assert wire is bus.wire("hall-2")
    assert wire.devices == {0x68: bus.devices["hall-1"], 0x69: bus.devices["hall-2"]}


def test_a_day_passes_on_it_as_fast_as_its_clock() -> None:
    clock = Clock()
    chosen = options("lufft-umb", model="irs31pro")
    bus = SimulatedBus({"road-1": chosen}, now_ns=clock, wait_s=clock.wait)
    bus.open()
    wire = bus.wire("road-1")
    assert isinstance(wire, SimulatedSerial)
    driver = LufftUmb(wire, chosen[1], clock)  # type: ignore[arg-type]
    driver.open()
    for hour in range(24):
        clock.ns = round(hour * 3600e9)
        assert len(driver.poll()) == len(driver.quantities)


def test_a_sensor_with_two_ports_gets_both(monkeypatch: pytest.MonkeyPatch) -> None:
    single = emulation.load("maxbotix-hrxl")
    twice = Emulation(
        lambda given, seed: (single.build(given, seed), single.build(given, seed + 1)), options={}
    )
    monkeypatch.setattr(emulation, "load", lambda _name: twice)
    bus = SimulatedBus({"radar-1": options("maxbotix-hrxl", mount_height_cm=300.0)})
    wire = bus.wire("radar-1")
    assert isinstance(wire, SimulatedPair)
    assert wire.a is not wire.b
    bus.open()
    assert (wire.a.line.devices, wire.b.line.devices) == (
        (bus.devices["radar-1"][0],),
        (bus.devices["radar-1"][1],),
    )
