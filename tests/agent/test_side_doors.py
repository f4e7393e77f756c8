"""Nothing that is asked, told or logged tells of people before their window is released."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent.app import Gateway
from agent.collector import Collected
from agent.health import SensorError
from agent.kernel import boot_ns, look
from agent.plan import load_plan
from agent.spool import SpoolError
from drivers.base import Alive, Crossing, Observation, Reading
from tests.agent.stations import Station

CONFIG = """
[gateway]
id = "site-01"
[uplink]
brokers = ["mqtt://127.0.0.1:1"]
[spool]
path = "{folder}/spool.db"
[clock]
trust = "system"
[[buses]]
id = "sim"
kind = "simulated"
[[sensors]]
id = "hall-1"
driver = "hlk-ld2450"
bus = "sim"
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "sim"
options = {{ pin_a = 17, pin_b = 27 }}
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "sim"
options = {{ mount_height_cm = 350.0 }}
"""
# What goes on by itself, whoever passes.
MOVES = ("time", "uptime_s", "resources", "rss_bytes", "age_s", "bytes", "beat_age_s", "since")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway that is wired, and whose threads do not run."""
    file = tmp_path / "gateway.toml"
    file.write_text(CONFIG.format(folder=tmp_path), encoding="utf-8")
    gateway = Gateway(load_plan(file))
    with closing(gateway._claim):
        yield gateway
        with suppress(SpoolError):
            gateway.spool.close(clean=False)


def everything(gateway: Gateway) -> str:
    """Return all that can be asked or is told, without what moves by itself."""
    answers: list[Any] = [gateway.answers.ask(name, {}) for name in ("status", "history", "spool")]
    for sensor in ("hall-1", "door-1", "snow-1"):
        answers += [gateway.answers.ask(name, {"sensor": sensor}) for name in ("sensor", "history")]
    answers += [gateway.answers.ask("read", {"sensor": each}) for each in ("hall-1", "door-1")]
    answers += [gateway.health_message(), gateway.birth()]
    return json.dumps([still(each) for each in answers], indent=1)


def still(answer: Any) -> Any:
    match answer:
        case dict():
            return {name: still(each) for name, each in answer.items() if name not in MOVES}
        case list():
            return [still(each) for each in answer]
        case _:
            return answer


def tell(gateway: Gateway, sensor: str, *observations: Observation) -> None:
    gateway.pipeline._take(Collected(sensor, observations), look())


def test_a_crowd_changes_no_answer(gateway: Gateway) -> None:
    nobody = everything(gateway)
    for _ in range(200):
        now_ns = boot_ns()
        for sensor in ("hall-1", "door-1"):
            tell(gateway, sensor, Alive(now_ns), Crossing("towards", now_ns))
    assert everything(gateway) == nobody


def test_control_what_is_measured_changes_the_answers(gateway: Gateway) -> None:
    """The negative control: the same look finds a single reading."""
    nothing = everything(gateway)
    tell(gateway, "snow-1", Reading("depth_cm", 12.0, boot_ns()))
    assert everything(gateway) != nothing


def test_damaged_frames_of_a_people_sensor_are_not_told_and_others_are(gateway: Gateway) -> None:
    nothing = everything(gateway)
    error = SensorError(boot_ns() / 1e9, "frame_error", "aaff0300 makes no sense")
    for sensor in ("hall-1", "snow-1"):
        health = gateway.health.sensor(sensor)
        health.error = error
        health.frame_errors += 7
        health.failed_polls += 7
        if sensor == "hall-1":
            assert everything(gateway) == nothing
    assert everything(gateway) != nothing
    # Silent it is told that it is, as the log has it, and of the frames nothing.
    health = gateway.health.sensor("hall-1")
    health.state = "silent"
    shown: Any = gateway.answers.ask("sensor", {"sensor": "hall-1"})
    assert shown["sensor"]["error"]["kind"] == "frame_error"
    assert "aaff" not in json.dumps(shown)


def test_nobody_listens_in_on_the_wire_of_a_people_sensor(gateway: Gateway) -> None:
    assert set(gateway._ears) == {"snow-1"}
    assert set(gateway._latest) == {"snow-1"}


def logged(folder: Path, crossings: int) -> list[dict[str, Any]]:
    """Return what is logged while a window of people closes and is released, without its times."""
    folder.mkdir()
    station = Station(folder / "spool.db")
    with capture_logs() as lines:
        station.pipeline.announce()
        for _ in range(crossings):
            crossing = Crossing("towards", station.boot_ns)
            station.says("door-1", Alive(station.boot_ns), crossing)
        station.says("door-1", Alive(station.boot_ns))
        station.passes(until_s=903)
        (released,) = station.records("door-1")
        station.stops()
        station.ends()
    assert released["values"]["towards"] is not None
    return [dict(line) for line in lines]


def test_a_crowd_leaves_no_trace_in_the_log(tmp_path: Path) -> None:
    assert logged(tmp_path / "crowd", 50) == logged(tmp_path / "nobody", 0)
