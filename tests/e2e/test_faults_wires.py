"""Wires that break under a running gateway; its simulated bus lives inside it, so it lives here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import drivers
import hil.simulated
from agent.app import Gateway
from agent.plan import load_plan
from hil import emulation
from hil.buses import SimulatedI2c
from hil.pins import SimulatedPins
from hil.simulated import SimulatedBus
from tests.e2e.conftest import WAIT_S, Site

SHORTENED = {"agent.collector.RETRY_FIRST_S": 0.2, "agent.collector.RETRY_CAP_S": 0.5}


@pytest.fixture
def bus(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedBus]:
    """The bus of a gateway that runs in this process."""
    buses: list[SimulatedBus] = []

    class Reachable(SimulatedBus):
        def __init__(self, sensors: Any) -> None:
            super().__init__(sensors)
            buses.append(self)

    monkeypatch.setattr(hil.simulated, "SimulatedBus", Reachable)
    for name, value in SHORTENED.items():
        monkeypatch.setattr(name, value)
    gateway = Gateway(load_plan(site.configure(("hall-1", "door-1"), window_s=2)))
    run = gateway.spool.run
    wake = threading.Event()
    thread = threading.Thread(target=gateway.run, args=(wake, lambda: False))
    thread.start()
    try:
        site.wait_records("hall-1", 1)
        yield buses[0]
    finally:
        wake.set()
        thread.join(WAIT_S)
    site.produced[run] = site.spooled().produced
    site.close_account()


def wait_flag(site: Site, stream: str, flag: str) -> dict[str, Any]:
    """Wait for a record with this flag that is not here yet."""
    known = len(site.records(stream))
    site.wait_until(
        lambda: any(r["quality"]["flag"] == flag for r in site.records(stream)[known:]),
        f"{stream} {flag}",
    )
    return next(r for r in site.records(stream)[known:] if r["quality"]["flag"] == flag)


@pytest.mark.slow
def test_wires_that_break_are_missed_alone_and_come_back_by_themselves(
    site: Site, bus: SimulatedBus
) -> None:
    wait_flag(site, "hall-1", "good")  # the control
    i2c, pins = bus.wire("hall-1"), bus.wire("door-1")
    assert isinstance(i2c, SimulatedI2c)
    assert isinstance(pins, SimulatedPins)
    own = emulation.load("grideye-amg88xx")
    options = drivers.load("grideye-amg88xx").Options.model_validate(own.options)
    other = own.build(options, 99)

    heal = i2c.stretch(0x69)
    lost = wait_flag(site, "hall-1", "missing")
    assert lost["quality"]["reasons"] == ["bus_error"]
    heal()
    wait_flag(site, "hall-1", "good")

    # Two arrays at one address are a picture of nobody; what counts is that nothing breaks.
    heal = i2c.clash(0x69, other)
    heal_pins = pins.bounce(6, 0.004)
    wait_flag(site, "door-1", "good")
    heal()
    heal_pins()
    wait_flag(site, "hall-1", "good")

    heal = pins.glitch(17, per_s=200.0)
    site.wait_records("door-1", 1)
    heal()
    wait_flag(site, "door-1", "good")
