"""A gateway that moves, from bytes to records: where and when they were, without a network.

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

from agent import kernel
from agent.app import Gateway
from agent.clock import Look
from agent.plan import load_plan
from agent.record import utc_ns
from agent.wake import Wake
from drivers.nmea import distance_m
from hil.devices.gnss import ROUND_ODORI
from hil.ledger import waiting

WAIT_S = 60.0
S = 1_000_000_000
OFF_NS = -400 * 86_400 * S  # by which the system clock is wrong

CONFIG = """
[gateway]
id = "patrol-1"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]   # nobody is there
[spool]
path = "spool.db"
[clock]
trust = "kernel"
[privacy.flow]
window_s = 2
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "gps-1"
driver = "nmea-gnss"
bus = "bench"
window_s = 2
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "bench"
window_s = 2
options = { mount_height_cm = 350.0 }
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "bench"
options = { pin_a = 17, pin_b = 27 }
"""


def unsynchronised() -> Look:
    return Look(kernel.boot_ns(), time.time_ns() + OFF_NS, False, None)


@contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    path = folder / "gateway.toml"
    text = CONFIG.replace('path = "spool.db"', f'path = "{folder / "spool.db"}"')
    path.write_text(text, encoding="utf-8")
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
def test_without_a_network_every_record_is_where_and_when_it_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.kernel.look", unsynchronised)
    monkeypatch.setattr("agent.kernel.rtc_s", lambda: None)
    monkeypatch.setattr("agent.pipeline.CLOCK_LOOK_S", 1.0)
    streams = ("gps-1", "snow-1", "door-1")
    began_ns = time.time_ns()

    def synced(stream: str) -> list[dict[str, Any]]:
        found = records(gateway, stream)
        return [each for each in found if each["clock"]["state"] == "synced"]

    with running(tmp_path) as gateway:
        wait_until(lambda: all(len(synced(each)) >= 3 for each in streams), "the time")
        ended_ns = time.time_ns()
        for stream in streams:
            for record in records(gateway, stream):
                assert record["clock"]["state"] in ("corrected", "synced")
                if record["clock"]["error_s"] is None:
                    # The window that the time's coming opened reaches back to when it was not.
                    assert record == synced(stream)[0]
                    continue
                doubt_ns = record["clock"]["error_s"] * S
                assert began_ns - doubt_ns <= utc_ns(record["start"])
                assert utc_ns(record["end"]) <= ended_ns + doubt_ns
            for record in synced(stream)[1:]:
                place = record["values"]["location"]
                here = (place["latitude"], place["longitude"])
                assert distance_m(here, ROUND_ODORI[0]) < 1500.0
                assert place["speed_m_s"] == pytest.approx(10.0, abs=0.01)
                assert place["error_m"] == 3
        assert synced("snow-1")[-1]["values"]["depth_cm"]["n"] > 0
        assert {"towards", "away", "epsilon"} < set(synced("door-1")[-1]["values"])
        assert synced("gps-1")[-1]["values"]["satellites"]["mean"] == 11
        # Before its cold start was over it knew no place, and said so.
        assert records(gateway, "snow-1")[0]["values"]["location"] is None
