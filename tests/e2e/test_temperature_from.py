"""A ranger without a thermometer beside one that has nothing else to do, in a real gateway.

The bus is simulated and lives inside the gateway, so the gateway lives inside the test.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import hil.simulated
from agent.app import Gateway
from agent.plan import load_plan
from agent.wake import Wake
from hil.buses import SimulatedI2c, SimulatedSerial
from hil.devices.bme280 import Bme280Device
from hil.devices.sr50a import Sr50aDevice
from hil.ledger import waiting
from hil.simulated import SimulatedBus

WAIT_S = 60.0
AIR_C = -10.0
DEPTH_CM = 42.0

CONFIG = """
[gateway]
id = "hill-1"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]   # nobody is there
[spool]
path = "SPOOL"
[clock]
trust = "system"
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "snow-1"
driver = "campbell-sr50a"
bus = "bench"
window_s = 4
options = { mount_height_cm = 350.0, temperature_from = "air-1", interval_s = 3.0 }
[[sensors]]
id = "air-1"
driver = "bme280"
bus = "bench"
window_s = 2
"""


class Hill(SimulatedBus):
    """One truth for both devices, whatever the time of the day."""

    def __init__(self, sensors: Any) -> None:
        super().__init__(sensors)
        line, i2c = self.wire("snow-1"), self.wire("air-1")
        assert isinstance(line, SimulatedSerial)
        assert isinstance(i2c, SimulatedI2c)
        ranger, thermometer = line.line.devices[0], i2c.devices[0x76]
        assert isinstance(ranger, Sr50aDevice)
        assert isinstance(thermometer, Bme280Device)
        ranger.depth_cm = lambda _: DEPTH_CM
        ranger.air_c = thermometer.temperature_c = lambda _: AIR_C


@contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    path = folder / "gateway.toml"
    path.write_text(CONFIG.replace("SPOOL", str(folder / "spool.db")), encoding="utf-8")
    gateway = Gateway(load_plan(path))
    wake = Wake()
    thread = threading.Thread(target=gateway.run, args=(wake, lambda: False))
    thread.start()
    try:
        yield gateway
    finally:
        wake.set()
        thread.join()


def records(gateway: Gateway, stream: str) -> list[dict[str, Any]]:
    found = (json.loads(body) for _, body in waiting(gateway.spool))
    return [record for record in found if record["stream"] == stream]


def wait_until(is_so: Callable[[], object], what: str) -> None:
    until_s = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > until_s:
            pytest.fail(f"{what} never came")
        time.sleep(0.1)


@pytest.mark.slow
def test_the_depth_is_true_in_the_cold_by_another_sensors_temperature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hil.simulated, "SimulatedBus", Hill)
    with running(tmp_path) as gateway:

        def measured() -> list[dict[str, Any]]:
            depths = [each["values"].get("depth_cm") for each in records(gateway, "snow-1")]
            return [depth for depth in depths if depth is not None]

        wait_until(lambda: len(measured()) >= 2, "a depth")
        # Without the temperature it would be 35.9 cm.
        for depth in measured():
            assert depth["mean"] == pytest.approx(DEPTH_CM, abs=0.8)
