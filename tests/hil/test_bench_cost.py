"""The cost bench: a tiny run has every figure that is asked for. No figure is judged."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from hil.__main__ import main
from hil.bench import cost, growth, report, rivals
from hil.bench.eight import SENSORS, EightOutside, RoadSensors
from hil.bench.figures import Figure
from hil.bench.install import Install
from hil.bench.noise import disquiet
from hil.broker import MOSQUITTO

ASKED_FOR = {
    "rss_mb": 52,
    "rss_kb_per_sensor": 100,
    "cpu_percent": 1.0,
    "wakeups_per_s": 30,
    "start_s": 0.6,
    "threads_extra": 5,
    "disk_mb_per_hour": 1.5,
    "wire_kb_per_hour": 350,
    "wire_kb_per_hour_deflate": 200,
    "venv_mb": 110,
}


def test_the_eight_are_eight() -> None:
    with EightOutside() as devices:
        assert devices.sensors().count("[[sensors]]") == SENSORS


def test_a_row_has_sixteen_sensors_a_line() -> None:
    with RoadSensors(17) as row:
        buses = [line for line in row.sensors().splitlines() if line.startswith("bus")]
    assert sorted(buses.count(bus) for bus in set(buses)) == [1, 16]


def test_every_target_is_judged() -> None:
    targets = {figure.key: figure.target for figure in cost.FIGURES}
    assert targets.items() >= (ASKED_FOR | {"rss_ratio_to_thingsboard": 0.85}).items()
    assert len(targets) == len(cost.FIGURES)


def test_a_tiny_run_gives_every_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = "" if os.geteuid() == 0 else "not root"
    if not Path(MOSQUITTO).exists():
        missing = f"no {MOSQUITTO}: apt install mosquitto"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    monkeypatch.setattr(cost, "install", lambda: Install(Path(sys.prefix)))
    monkeypatch.setattr(cost, "STARTS_EACH", 1)
    monkeypatch.setattr(growth, "ROWS", (1, 2))
    page = tmp_path / "cost.md"
    short = ["--seconds", "1", "--repeats", "1"]
    main(["bench", "--own", "--json", "--markdown", str(page), *short])
    printed, said = capsys.readouterr()
    assert printed, said  # or why it could not be measured
    document = json.loads(printed)
    assert document.keys() == {"figures", "peers"}
    assert document["figures"].keys() >= ASKED_FOR.keys()
    assert document["peers"] == {}
    assert document["figures"]["rss_mb"] > 0
    assert document["figures"]["start_s"] > 0
    assert all(f"`{key}`" in page.read_text() for key in ASKED_FOR)


QUIET = {
    "machine_load_before": [0.1],
    "machine_steal_percent": [0.0],
    "machine_noise_percent": [3.0],
    "machine_ms_before": [2.0, 2.1],
    "machine_ms_after": [2.1, 2.2],
}


def outcome(peak: list[float], rivals_found: dict[str, dict[str, list[float]]]) -> report.Outcome:
    figures = (Figure("peak_mb", "resident", 52, peers="others 61"), Figure("absent_s", "", 1))
    return report.Outcome(figures, QUIET | {"peak_mb": peak}, rivals_found, 240.0, 900.0)


def test_the_median_is_judged_and_the_spread_is_shown() -> None:
    passing, missing = outcome([50, 48, 60], {}), outcome([50, 58, 60], {})
    assert (passing.holds, missing.holds) == (True, False)
    assert "| resident | `peak_mb` | 50 | 48 to 60 (3) | at most 52 | pass |" in report.markdown(
        passing
    )
    assert "MISS" in "\n".join(report.text(missing))
    assert "absent" not in report.markdown(passing)


def test_each_rival_is_a_row_and_its_settings_are_named() -> None:
    for name in rivals.SETTINGS:
        found = {key: [1.0, 2.0] for key, _ in report.COLUMNS}
        page = report.markdown(outcome([50], {name: found}))
        assert f"| {name} |" in page
        assert f"- {name}: {rivals.SETTINGS[name]}" in page


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"machine_load_before": [2.5]}, "load was 2.5"),
        ({"machine_steal_percent": [4.0]}, "4.0 % to others"),
        ({"machine_ms_after": [3.0]}, "2.05 ms before and 3.00 ms after"),
    ],
)
def test_a_busy_machine_is_told_of(change: dict[str, list[float]], said: str) -> None:
    assert said in disquiet(QUIET | change)
    assert bool(said) == bool(disquiet(QUIET | change))
