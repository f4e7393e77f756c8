"""How a scenario is fitted to the virtual Pi's wires; no machine is started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.record import utc_text
from config.load import load as load_config
from hil.scenario.load import load, path_of
from hil.vpi.image import Image
from hil.vpi.stage import NotHereError, VpiStage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[VpiStage]:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    image = Image(tmp_path / "vmlinux", tmp_path / "initramfs", disk)
    loaded = load(path_of("storm-day"), on="vpi")
    with VpiStage(loaded, image, tmp_path, real_s=240.0) as stage:
        yield stage


def test_the_gateways_configuration_names_the_wires_of_this_machine(
    stage: VpiStage, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(stage._config(), encoding="utf-8")
    sensors = {each.id: each for each in load_config(path).config.sensors}
    assert sensors.keys() == {"snow-2", "road-1"}
    adapters = {sensors["snow-2"].bus, sensors["road-1"].bus}
    assert len(adapters) == 2
    assert all(bus.startswith("/dev/serial/by-id/usb-") for bus in adapters)


def test_a_sensor_on_wires_that_it_does_not_have_is_left_out_and_named(stage: VpiStage) -> None:
    assert any("air-1, board, snow-1" in note for note in stage.book.notes)


def test_a_sensor_that_takes_the_air_from_one_that_is_left_out_is_left_out_too(
    stage: VpiStage,
) -> None:
    assert "snow-1" not in stage._config()


def test_what_is_measured_after_the_scenarios_end_is_not_judged(stage: VpiStage) -> None:
    def record(at_s: float) -> dict[str, Any]:
        begin_ns = stage._began_ns + round(at_s * 1e9)
        return {
            "stream": "snow-2",
            "start": utc_text(begin_ns),
            "end": utc_text(begin_ns + 10_000_000_000),
            "clock": {"state": "synced"},
            "quality": {"flag": "good"},
            "values": {"depth_cm": {"mean": 30.0, "median": 30.0, "min": 30.0, "max": 30.0}},
        }

    stage._take_records([record(60.0), record(235.0)])
    (row,) = stage.book.rows("snow-2", "depth_cm")
    assert row.start_s == pytest.approx(60.0 * stage.speed, abs=1.0)


def test_what_it_cannot_break_is_refused_and_not_pretended(stage: VpiStage) -> None:
    with pytest.raises(NotHereError):
        _ = stage.clock


def test_a_device_measures_the_scenarios_truth_at_the_scenarios_pace(stage: VpiStage) -> None:
    gauge = stage.devices("snow-2")[0]
    began_s = stage._began_s
    assert gauge.depth_cm(began_s) == pytest.approx(22.0)
    assert gauge.depth_cm(began_s + 240.0) == pytest.approx(40.0)
    assert gauge.depth_cm(began_s + 90.0) == pytest.approx(22.0 + 19.0 * 0.5)  # at the ninth hour
