"""The cost bench: a tiny run has every figure that is asked for. No figure is judged."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from hil.__main__ import main
from hil.bench import cost
from hil.bench.eight import SENSORS, EightOutside, RoadSensors
from hil.bench.install import Install
from hil.broker import MOSQUITTO

ASKED_FOR = {
    "rss_mb",
    "rss_kb_per_sensor",
    "cpu_percent",
    "wakeups_per_s",
    "start_s",
    "threads_extra",
    "disk_mb_per_hour",
    "wire_kb_per_hour",
    "wire_kb_per_hour_deflate",
    "venv_mb",
}


def test_the_eight_are_eight() -> None:
    with EightOutside() as devices:
        assert devices.sensors().count("[[sensors]]") == SENSORS


def test_a_row_has_sixteen_sensors_a_line() -> None:
    with RoadSensors(17) as row:
        buses = [line for line in row.sensors().splitlines() if line.startswith("bus")]
    assert sorted(buses.count(bus) for bus in set(buses)) == [1, 16]


def test_every_target_is_judged() -> None:
    judged = {figure.key for figure in cost.FIGURES if figure.target is not None}
    assert judged == ASKED_FOR | {"rss_ratio_to_thingsboard"}


def test_a_tiny_run_gives_every_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = "" if os.geteuid() == 0 else "not root"
    if not Path(MOSQUITTO).exists():
        missing = f"no {MOSQUITTO}: apt install mosquitto"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    monkeypatch.setattr(cost, "install", lambda: Install(Path(sys.prefix)))
    monkeypatch.setattr(cost, "ROWS", (1, 2))
    main(["bench", "--own", "--json", "--seconds", "1", "--repeats", "1"])
    document = json.loads(capsys.readouterr().out)
    assert document["figures"].keys() >= ASKED_FOR
    assert document["peers"] == {}
    assert document["figures"]["rss_mb"] > 0
    assert document["figures"]["start_s"] > 0
