"""An adapter that is pulled out and comes back under another number, over real terminals."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.collector import Collector, Station
from agent.health import Health
from agent.inbox import Inbox
from drivers.buses import LinuxSerial
from drivers.gpio import boot_ns
from drivers.lufft_umb import LufftUmb, LufftUmbOptions
from hil.buses import Pty
from hil.devices.lufft import irs31pro, shm31

WAIT_S = 60.0


def wait_until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until_s, "it never happened"
        time.sleep(0.01)


class Site:
    """Two devices on one RS-485 adapter, and the thread that asks them."""

    def __init__(self) -> None:
        self.pty = Pty([irs31pro(turnaround_s=(0, 0)), shm31(turnaround_s=(0, 0))], time.monotonic)
        self.health = Health()
        self._stopping = threading.Event()
        line = LufftUmb.spec.line
        assert line is not None
        bus = LinuxSerial(self.pty.path, line)
        stations = []
        for model in ("irs31pro", "shm31"):
            options = LufftUmbOptions(model=model, interval_s=1.0, timeout_s=0.2)
            driver = LufftUmb(bus, options, boot_ns)
            driver.interval_s = 0.05
            stations.append(Station(model, driver, "retry", self.health.sensor(model)))
        collector = Collector(
            "rs485",
            bus,
            stations,
            Inbox(100_000),
            health=self.health,
            boot_ns=boot_ns,
            stopping=self._stopping,
        )
        self._thread = threading.Thread(target=collector.run)

    def start(self) -> None:
        self.pty.plug()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.pty.close()

    def all_are(self, state: str) -> Callable[[], bool]:
        return lambda: set(self.health.states().values()) == {state}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("agent.collector.RETRY_FIRST_S", 0.05)
    monkeypatch.setattr("agent.collector.RETRY_CAP_S", 0.2)
    monkeypatch.setattr("agent.collector.QUICK_RETRY_S", 0.02)
    site = Site()
    site.start()
    yield site
    site.stop()


def test_an_adapter_that_comes_back_under_another_number_is_found_by_itself(site: Site) -> None:
    wait_until(site.all_are("ok"))
    number = Path(site.pty.path).resolve()
    dead = os.open(number, os.O_RDWR | os.O_NOCTTY)  # the number stays taken
    try:
        site.pty.unplug()
        wait_until(site.all_are("silent"))
        site.pty.plug()
        assert Path(site.pty.path).resolve() != number
        wait_until(site.all_are("ok"))
    finally:
        os.close(dead)


def test_a_dead_address_is_missed_alone_and_comes_back_by_itself(site: Site) -> None:
    wait_until(site.all_are("ok"))
    site.pty.line.silence(site.pty.line.devices[0])
    wait_until(lambda: site.health.states() == {"irs31pro": "silent", "shm31": "ok"})
    assert site.health.sensor("shm31").failed_polls == 0
    site.pty.line.heal()
    wait_until(site.all_are("ok"))
    assert site.health.sensor("shm31").failed_polls == 0
