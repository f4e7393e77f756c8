"""Devices that go and come back: each is missed alone, and found again without help."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import hil.simulated
from agent.app import Gateway
from agent.plan import load_plan
from agent.wake import Wake
from hil.buses import SimulatedI2c
from hil.simulated import SimulatedBus
from tests.e2e.conftest import Site

SHORTENED = {"agent.collector.RETRY_CAP_S": 1.0}


def flags(site: Site, stream: str) -> list[str]:
    return [record["quality"]["flag"] for record in site.records(stream)]


def wait_flag(site: Site, stream: str, flag: str) -> None:
    """Wait until the latest record of a stream bears `flag`."""
    site.wait_until(lambda: flags(site, stream)[-1:] == [flag], f"{stream} being {flag}")


@pytest.mark.slow
def test_an_unplugged_adapter_is_missed_alone_and_comes_back_by_itself(site: Site) -> None:
    # Asked once a second: a machine that is late by one must not make its neighbour look missing.
    site.configure(("door-1", "snow-1", "snow-2"), window_s=3)
    site.start(SHORTENED)
    wait_flag(site, "snow-2", "good")
    site.post.unplug()
    others_before = len(site.records("snow-1"))
    wait_flag(site, "snow-2", "missing")
    lost = site.records("snow-2")[-1]
    assert lost["quality"]["reasons"] == ["bus_error"]
    assert lost["quality"]["n"] == 0
    assert lost["values"]["depth_cm"] is None
    site.wait_until(lambda: len(site.records("snow-1")) >= others_before + 2, "the neighbour")
    assert "missing" not in flags(site, "snow-1")[others_before:]
    site.post.plug()
    site.daemon.wait_log("sensor is back", "snow-2")
    wait_flag(site, "snow-2", "good")
    assert len(site.daemon.said("is silent", "snow-2")) == 1
    assert len(site.daemon.said("is back", "snow-2")) == 1
    assert not site.daemon.said("is silent", "snow-1")
    assert site.stop() == 0
    site.close_account()


@pytest.mark.slow
def test_of_two_devices_on_a_line_a_dead_one_does_not_silence_the_other(site: Site) -> None:
    site.configure(("road-1", "snow-1"), window_s=2)
    site.start(SHORTENED)
    site.daemon.wait_log("sensor measures", "road-1")
    site.daemon.wait_log("sensor measures", "snow-1")
    site.mast.line.silence(site.mast.line.devices[1])
    wait_flag(site, "snow-1", "missing")
    wait_flag(site, "road-1", "good")
    site.mast.line.heal()
    site.daemon.wait_log("sensor is back", "snow-1")
    wait_flag(site, "snow-1", "good")
    assert not site.daemon.said("is silent", "road-1")
    assert site.stop() == 0
    site.close_account()


def test_a_daemon_that_starts_without_its_device_finds_it_later(site: Site) -> None:
    site.post.unplug()
    site.configure()
    site.start(SHORTENED)
    wait_flag(site, "snow-2", "missing")
    wait_flag(site, "door-1", "good")
    site.post.plug()
    wait_flag(site, "snow-2", "good")
    assert site.stop() == 0
    site.close_account()


@pytest.mark.slow
def test_a_silent_i2c_device_is_missed_alone_and_comes_back_by_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The simulated bus lives inside the gateway, so this gateway lives inside the test."""
    buses: list[SimulatedBus] = []

    class Reachable(SimulatedBus):
        def __init__(self, sensors: Any) -> None:
            super().__init__(sensors)
            buses.append(self)

    monkeypatch.setattr(hil.simulated, "SimulatedBus", Reachable)
    for name, value in SHORTENED.items():
        monkeypatch.setattr(name, value)
    gateway = Gateway(load_plan(site.configure(("hall-1", "door-1", "snow-2"), window_s=2)))
    run = gateway.spool.run
    wake = Wake()
    thread = threading.Thread(target=gateway.run, args=(wake, lambda: False))
    thread.start()
    try:
        wait_flag(site, "hall-1", "good")
        i2c = buses[0].wire("hall-1")
        assert isinstance(i2c, SimulatedI2c)
        i2c.nack(0x69)
        wait_flag(site, "hall-1", "missing")
        lost = site.records("hall-1")[-1]
        assert lost["quality"]["reasons"] == ["bus_error"]
        assert lost["values"]["towards"] is None
        assert lost["values"]["away"] is None
        others_before = len(site.records("door-1"))
        site.wait_until(lambda: len(site.records("door-1")) >= others_before + 2, "the door")
        i2c.heal()
        wait_flag(site, "hall-1", "good")
        assert "missing" not in flags(site, "door-1")[1:]
        assert "missing" not in flags(site, "snow-2")[1:]
    finally:
        wake.set()
        thread.join()
    site.produced[run] = site.spooled().produced
    site.close_account()
