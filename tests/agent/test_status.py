"""What `yukimi status` says of a snapshot: one screen, in both languages, and what is wrong."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.cli.display import cells
from agent.cli.statuspage import page, screen, span
from agent.wrong import wrong_with

TIME = "2027-01-15T00:10:05.000Z"
STAMP = {"start": "2027-01-15T00:09:00.000Z", "end": "2027-01-15T00:10:00.000Z"}
GOOD = {"flag": "good", "n": 60, "expected": 60}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def sensor(name: str, **more: Any) -> dict[str, Any]:
    depth = {"value": 42.5, "unit": "cm", "age_s": 0.4, "reasons": []}
    return {
        "id": name,
        "driver": "maxbotix-hrxl",
        "kind": "snow",
        "bus": "/dev/ttyS1",
        "window_s": 60,
        "label": {"ja": "北3条 積雪", "en": "N3 snow"},
        "state": "ok",
        "since": "2027-01-14T00:00:00.000Z",
        "error": None,
        "record": {**STAMP, "quality": GOOD, "values": {"depth_cm": {"mean": 42.1, "n": 60}}},
        "failed_polls": 0,
        "frame_errors": 2,
        "readings": {"depth_cm": depth},
        "rate_hz": 5.9,
        "nominal_rate_hz": 6.0,
    } | more


def people(name: str) -> dict[str, Any]:
    figures = {"towards": {"count": 12, "unclamped": 12}, "away": {"count": 0, "unclamped": -3}}
    whole = sensor(name, kind="people", driver="hlk-ld2450", directions={})
    for key in ("failed_polls", "frame_errors", "readings", "rate_hz", "nominal_rate_hz"):
        del whole[key]
    return whole | {"record": {**STAMP, "quality": GOOD, "values": figures | {"epsilon": "1/4"}}}


@pytest.fixture
def snapshot() -> dict[str, Any]:
    lane = {"messages_in_flight": 0, "records_waiting": 0}
    return {
        "schema": "yukimi.status/1",
        "state": "running",
        "time": TIME,
        "gateway": {
            "id": "chikaho-03",
            "label": {"ja": "チ・カ・ホ 北3条", "en": "Chi-Ka-Ho N3"},
            "run": "a172276046317631",
            "version": "0.1.0",
            "uptime_s": 100_000.0,
            "refused": [],
        },
        "uplink": {
            "broker": "mqtts://broker-a.example:8883",
            "protocol": "5",
            "connected_since": "2027-01-14T22:00:00.000Z",
            "reconnects": 3,
            "failure": None,
            "next_attempt_in_s": None,
            "lanes": {"alert": lane, "live": lane, "backlog": lane},
            "acknowledged": "2027-01-15T00:10:03.000Z",
            "nobody_subscribes": [],
            "not_authorised": [],
            "cut_short": [],
            "clone_seen": None,
        },
        "spool": {
            "bytes": 22_016,
            "max_bytes": 2**29,
            "waiting": 0,
            "outage_days_left": 555.0,
            "volatile": False,
            "why_volatile": None,
            "error": None,
        },
        "clock": {"state": "synced", "error_s": 0.02, "source": "kernel", "trouble": None},
        "alerts": [],
        "sensors": [people("hall-1"), *(sensor(f"snow-{n}") for n in range(1, 8))],
        "threads": [{"name": "pipeline", "alive": True, "hung": False, "beat_age_s": 0.1}],
    }


def test_nothing_is_wrong_with_a_gateway_that_is_well(snapshot: dict[str, Any]) -> None:
    assert list(wrong_with(snapshot)) == []


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("gateway.refused", ["gateway.toml: x"], "the configuration that is wanted is wrong"),
        ("uplink.broker", None, "no connection to a broker: not tried yet"),
        ("uplink.nobody_subscribes", ["live/snow"], "nobody subscribes to live/snow"),
        ("uplink.not_authorised", ["live/snow"], "does not let us publish on live/snow"),
        (
            "uplink.cut_short",
            [{"broker": "mqtt://a", "reason": "closed", "after": "health"}],
            "last after a message to health",
        ),
        ("uplink.clone_seen", TIME, "another gateway uses this id"),
        ("spool.volatile", True, "records are in memory only"),
        ("spool.error", "disk I/O error", "cannot be read: disk I/O error"),
        ("spool.outage_days_left", 1.5, "nearly full: 1.5 days"),
        ("clock.trouble", "time unknown", "not to be trusted: time unknown"),
        ("threads", [{"name": "uplink", "alive": True, "hung": True}], '"uplink"'),
        ("threads", [{"name": "bus w1", "alive": False, "hung": False}], '"bus w1"'),
    ],
)
def test_each_thing_that_is_wrong_is_one_sentence(
    snapshot: dict[str, Any], where: str, value: object, said: str
) -> None:
    part, _, key = where.partition(".")
    if key:
        snapshot[part][key] = value
    else:
        snapshot[part] = value
    (text,) = wrong_with(snapshot)
    assert said in text
    assert text.ja != text.en


def test_a_silent_sensor_is_said_once_with_its_reason(snapshot: dict[str, Any]) -> None:
    error = {"time": TIME, "kind": "bus_error", "text": "Remote I/O error"}
    snapshot["sensors"][1] |= {"state": "silent", "error": error}
    snapshot["alerts"] = [alert("sensor_missing", "snow-1")]
    (text,) = wrong_with(snapshot)
    assert text == "snow-1 does not answer: Remote I/O error"


def test_a_slippery_road_is_nothing_wrong_and_an_open_door_is(snapshot: dict[str, Any]) -> None:
    snapshot["alerts"] = [alert("slippery", "snow-1"), alert("cabinet_door", "snow-2")]
    assert list(wrong_with(snapshot)) == ["cabinet_door!"]
    assert "slippery!" in "\n".join(screen(snapshot, 80, 24))


def alert(name: str, sensor_id: str | None) -> dict[str, Any]:
    text = {"ja": f"{name}です", "en": f"{name}!"}
    return {"alert": name, "sensor": sensor_id, "severity": "warning", "text": text}


@pytest.mark.parametrize("locale", ["C.UTF-8", "ja_JP.UTF-8"])
def test_all_of_it_is_one_screen(
    snapshot: dict[str, Any], locale: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    monkeypatch.setenv("TERM", "xterm")
    long = alert("slippery", "snow-1")
    long["text"] = dict.fromkeys(("ja", "en"), "路面 " * 60)
    snapshot["alerts"] = [long, alert("cabinet_door", "snow-2")]
    for count in (1, 8, 40):
        crowded = copy.deepcopy(snapshot)
        crowded["sensors"] = [sensor(f"snow-{n}") for n in range(count)]
        crowded["sensors"][-1]["state"] = "silent"
        lines = screen(crowded, 80, 24)
        assert len(lines) < 24  # the prompt has a line too
        assert max(map(cells, lines)) <= 80
        shown = "\n".join(lines)
        assert f"snow-{count - 1}" in shown  # who does not answer is never left out
        assert ("40" in shown or "--json" in shown) is (count == 40)


def test_without_a_terminal_nothing_is_left_out(snapshot: dict[str, Any]) -> None:
    snapshot["sensors"] = [sensor(f"snow-{n}") for n in range(40)]
    assert "snow-39" in "\n".join(screen(snapshot, 96, None))


def test_of_people_the_released_figures_are_shown_as_such(snapshot: dict[str, Any]) -> None:
    (line,) = [each for each in screen(snapshot, 96, None) if each.startswith("hall-1")]
    assert "towards 12 away 0 to " in line
    assert "(released figures)" in line


def test_one_sensor_is_told_in_full() -> None:
    error = {"time": TIME, "kind": "bus_error", "text": "Remote I/O error"}
    shown = "\n".join(page(sensor("snow-1", error=error), 80))
    for part in ("N3 snow", "/dev/ttyS1", "5.9 readings a second of 6", "2 damaged frames"):
        assert part in shown
    assert "Remote I/O error" in shown
    assert "42.5" in shown
    assert "42.1" in shown
    hall = "\n".join(page(people("hall-1"), 80))
    assert "readings" not in hall
    assert "0 (-3)" in hall


def test_a_window_ends_when_it_ends_whatever_the_clock_is_told_since() -> None:
    record = sensor("snow-1")["record"] | {"end": "2027-01-15T00:10:59.999Z"}
    assert ":11:00: " in "\n".join(page(sensor("snow-1", record=record), 80))


@pytest.mark.parametrize("content", [b"\xff", b"id = ", b""])
def test_nothing_is_said_of_a_configuration_that_says_nothing(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.toml").write_bytes(content)
    assert main(["status", "--config", str(tmp_path / "gateway.toml")]) == 69
    said = capsys.readouterr()
    assert said.out == ""
    assert "codec" not in said.err


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0.4 s"),
        (42, "42 s"),
        (600, "10 min"),
        (10_000, "2 h"),
        (400_000, "4 d"),
        (-1, "0.0 s"),
    ],
)
def test_a_span_is_said_in_the_unit_that_fits(seconds: float, said: str) -> None:
    assert span(seconds) == said
