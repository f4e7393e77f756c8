"""What Prometheus is told: the health message's figures, in the names of its conventions."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from agent import metrics
from agent.metrics import MetricsFile, exposition

HEALTH: dict[str, Any] = {
    "schema": "yukimi.health/1",
    "run": "9f2c1ab04d77aaaa",
    "uptime_s": 61.5,
    "rss_bytes": 70 * 2**20,
    "clock": {"state": "synced", "error_s": 0.02},
    "uplink": {"broker": "mqtts://a:8883", "connected_since": None, "reconnects": 3},
    "spool": {"bytes": 40960, "waiting": 7, "oldest": "2027-01-15T00:10:00.000Z"},
    "produced": {"snow-1": 1041, "gateway": 1},
    "runs": [],
    "sensors": {"snow-1": "ok", "door-1": "silent"},
    "alerts": ["a", "b"],
}
SAMPLE = re.compile(r'^yukimi_[a-z_]+(\{([a-z]+="[^"]*",?)+\})? -?[0-9.e+]+$')


def told(health: dict[str, Any]) -> dict[str, float]:
    lines = exposition(health, gateway="box", version="1.0").splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.match(line) for line in samples), samples
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in samples}


def test_each_figure_has_its_unit_in_its_name_and_keeps_its_value() -> None:
    figures = told(HEALTH)
    assert figures['yukimi_info{gateway="box",run="9f2c1ab04d77aaaa",version="1.0"}'] == 1
    assert figures["yukimi_uptime_seconds"] == 61.5
    assert figures["yukimi_resident_memory_bytes"] == 73400320
    assert figures["yukimi_clock_synced"] == 1
    assert figures["yukimi_uplink_connected"] == 1
    assert figures["yukimi_uplink_reconnects_total"] == 3
    assert figures["yukimi_spool_waiting_records"] == 7
    assert figures["yukimi_spool_oldest_record_timestamp_seconds"] == 1799971800
    assert figures['yukimi_records_produced_total{stream="snow-1"}'] == 1041
    assert figures['yukimi_sensor_state{sensor="door-1",state="silent"}'] == 1
    assert figures['yukimi_sensor_state{sensor="door-1",state="ok"}'] == 0
    assert figures["yukimi_alerts_active"] == 2


def test_each_family_is_described_once_and_stands_together() -> None:
    lines = exposition(HEALTH, gateway="box", version="1.0").splitlines()
    families: list[str] = []
    for line in lines:
        if line.startswith("# TYPE"):
            families.append(line.split()[2])
            kind = "counter" if families[-1].endswith("_total") else "gauge"
            assert line.split()[3] == kind
        elif not line.startswith("#"):
            assert re.split(r"[{ ]", line)[0] == families[-1]
    assert len(families) == len(set(families))
    assert lines == [line.strip() for line in lines]


def test_what_is_not_known_is_absent_and_not_zero() -> None:
    nothing = {
        "clock": {"state": "estimated", "error_s": None},
        "uplink": {"broker": None, "connected_since": None, "reconnects": 0},
        "spool": {"bytes": 0, "waiting": 0, "oldest": None},
    }
    figures = told(HEALTH | nothing)
    assert "yukimi_clock_error_seconds" not in figures
    assert "yukimi_spool_oldest_record_timestamp_seconds" not in figures
    assert figures["yukimi_clock_synced"] == figures["yukimi_uplink_connected"] == 0


def test_a_label_cannot_break_out_of_its_line() -> None:
    text = exposition(HEALTH, gateway='a"} 1\nyukimi_up 1\\', version="1")
    assert r'gateway="a\"} 1\nyukimi_up 1\\"' in text


def test_the_file_is_there_for_everybody_whole_and_goes_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "INTERVAL_S", 0.01)
    path = tmp_path / "later" / "yukimi.prom"
    written = 0

    def text() -> str:
        nonlocal written
        written += 1
        return f"{written}\n" * 10_000

    file = MetricsFile(path, text)
    file.start()
    wait_for(lambda: written > 3)
    path.parent.mkdir()  # a folder that was missing, and comes
    wait_for(path.exists)
    for _ in range(100):
        assert len(set(path.read_text().splitlines())) == 1  # never two of them
    assert path.stat().st_mode & 0o777 == 0o644
    file.stop()
    assert list(path.parent.iterdir()) == []
    said = "".join(capsys.readouterr())
    assert said.count("metrics file cannot be written") == 1
    assert said.count("metrics file can be written again") == 1


def wait_for(is_so: Any) -> None:
    until_s = time.monotonic() + 30.0
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.01)
