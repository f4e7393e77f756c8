"""Where the gateway runs its own word counts; nobody asks twice, nobody logs in beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.doctor.order import BY_ID
from agent.doctor.session import Session
from tests.agent.doctor.board import Board


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def silent(kind: str, text: str, **more: Any) -> Mapping[str, Any]:
    return {"state": "silent", "error": {"kind": kind, "text": text}} | more


def test_a_sensor_that_the_gateway_does_not_hear_is_dead(board: Board) -> None:
    board.gateway_says({"snow-1": silent("bus_error", "no byte for 12 s")})
    found = board.look("YK-SEN-01", "snow-1")
    assert found.status == "FAIL"
    assert "no byte for 12 s" in found.evidence
    assert board.look("YK-SEN-01", "road-1").status == "PASS"


def test_another_device_in_its_place_is_a_clash_and_not_a_dead_sensor(board: Board) -> None:
    board.gateway_says({"air-1": silent("other_device", "0x76: BMP280 answers")})
    assert board.look("YK-SEN-01", "air-1").status == "PASS"
    found = board.look("YK-SEN-02", "air-1")
    assert found.status == "FAIL"
    assert "BMP280" in found.evidence


def test_a_wire_held_low_is_the_buses_fault_not_its_sensors(board: Board) -> None:
    stuck = silent("bus_error", "i2c-1 0x76: timed out: a device holds the bus; check the pull-ups")
    board.gateway_says({"air-1": stuck, "road-1": stuck})
    results = board.run("YK-BUS-06", "YK-SEN-01")
    assert results["YK-BUS-06 /dev/i2c-1"].done.status == "FAIL"
    assert results["YK-SEN-01 air-1"].cause == "YK-BUS-06"
    assert results["YK-SEN-01 snow-1"].done.status == "PASS"


def test_the_words_of_a_held_bus_are_the_adapters_own() -> None:
    import errno

    from agent.doctor.ports import HELD_LOW
    from drivers.buses import _meaning

    assert HELD_LOW in _meaning(OSError(errno.ETIMEDOUT, "Connection timed out"))


def test_bytes_without_frames_lead_to_the_search_that_needs_the_port(board: Board) -> None:
    board.gateway_says({"snow-1": {"state": "starting", "frame_errors": 240, "readings": {}}})
    found = board.look("YK-SEN-04", "snow-1")
    assert found.status == "FAIL"
    assert found.next is not None
    assert "systemctl stop yukimi" in found.next


@pytest.mark.parametrize(("rate_hz", "status"), [(6.1, "PASS"), (2.0, "WARN"), (None, "PASS")])
def test_a_sensor_that_measures_too_seldom_is_looked_at(
    board: Board, rate_hz: float | None, status: str
) -> None:
    board.gateway_says({"snow-1": {"rate_hz": rate_hz, "nominal_rate_hz": 6.0, "frame_errors": 3}})
    assert board.look("YK-SEN-04", "snow-1").status == status


def test_an_obstructed_view_and_a_wrong_height_are_told_by_readings(board: Board) -> None:
    def readings(value: float | None, *reasons: str) -> Mapping[str, Any]:
        both = {"value": value, "reasons": list(reasons)}
        return {"readings": {"distance_cm": both}}

    board.gateway_says({"snow-1": readings(None, "obstructed")})
    assert board.look("YK-SEN-05", "snow-1").status == "FAIL"
    board.gateway_says({"snow-1": readings(410.0)})
    assert board.look("YK-SEN-05", "snow-1").status == "PASS"
    assert board.look("YK-SEN-07", "snow-1").status == "FAIL"
    board.gateway_says({"snow-1": readings(310.0)})
    assert board.look("YK-SEN-07", "snow-1").status == "PASS"


def test_snow_in_warm_air_is_doubted(board: Board) -> None:
    air = {"readings": {"air_temperature_c": {"value": 21.0, "reasons": []}}}
    snow = {"readings": {"distance_cm": {"value": 290.0, "reasons": []}}}
    board.gateway_says({"snow-1": snow, "air-1": air})
    assert board.look("YK-SEN-07", "snow-1").status == "WARN"


def test_a_configuration_that_is_valid_and_was_refused_is_told(board: Board) -> None:
    board.gateway_says({})
    assert board.look("YK-CFG-03").status == "PASS"
    board.gateway_says({}, gateway={"config": "000000000000", "refused": ["spool.path: taken"]})
    found = board.look("YK-CFG-03")
    assert found.status == "FAIL"
    assert "spool.path: taken" in found.evidence
    board.gateway_says({}, gateway={"config": "000000000000", "refused": []})
    assert board.look("YK-CFG-03").status == "WARN"


def test_another_version_that_still_runs_is_told(board: Board) -> None:
    board.gateway_says({}, gateway={"version": "0.0.1"})
    found = board.look("YK-SVC-03")
    assert found.status == "WARN"
    assert "0.0.1" in found.evidence


def test_nobody_logs_in_while_the_gateway_is_connected(board: Board) -> None:
    here, other = "mqtt://127.0.0.1:1", "mqtt://127.0.0.1:2"  # nobody listens at either
    board.gateway_says({}, uplink={"broker": here, "connected_since": "2027-01-15T00:00:00.000Z"})
    for name in ("YK-NET-05", "YK-MQ-01", "YK-MQ-02", "YK-MQ-03", "YK-MQ-04"):
        assert board.look(name, here).status == "PASS", name
    for name in ("YK-MQ-01", "YK-MQ-02", "YK-MQ-03", "YK-MQ-04"):
        assert board.look(name, other).status == "SKIP", name


@pytest.mark.parametrize(("runs", "status"), [(True, "SKIP"), (False, "WARN")])
def test_a_gateway_that_may_not_be_asked_is_not_taken_for_another(
    board: Board, *, runs: bool, status: str
) -> None:
    url = "mqtt://127.0.0.1:1"
    if runs:
        board.process(7, "python3", "python3 /usr/bin/yukimi run")
    site = board.site()
    site.once(f"mqtt {url}", lambda: Session(status=b'{"state": "online", "run": "17"}'))
    assert BY_ID["YK-MQ-05"].look(site, url).status == status


def test_topics_on_hold_are_named(board: Board) -> None:
    url = "mqtt://127.0.0.1:1"
    uplink = {
        "broker": url,
        "connected_since": "2027-01-15T00:00:00.000Z",
        "nobody_subscribes": ["live/snow"],
        "not_authorised": ["alert/gateway"],
    }
    board.gateway_says({}, uplink=uplink)
    assert "live/snow" in board.look("YK-MQ-04", url).evidence
    assert "alert/gateway" in board.look("YK-MQ-03", url).evidence


@pytest.mark.parametrize("broker", ["mqtt://127.0.0.1:1", "mqtt://127.0.0.1:2"])
def test_a_broker_that_ends_each_session_is_told_of_with_the_topic(
    board: Board, broker: str
) -> None:
    cut = {"broker": "mqtt://127.0.0.1:1", "reason": "Not authorized", "after": "health"}
    uplink = {"broker": broker, "connected_since": "2027-01-15T00:00:00.000Z", "cut_short": [cut]}
    board.gateway_says({}, uplink=uplink)
    found = board.look("YK-MQ-03", broker)
    is_it = broker == cut["broker"]
    assert found.status == ("FAIL" if is_it else "PASS")  # the other is the control
    assert ("Not authorized" in found.evidence and "health" in found.evidence) == is_it


def test_what_a_gateway_of_another_version_says_is_no_reason_to_fall_over(board: Board) -> None:
    board.says = {"gateway": "me", "sensors": {"snow-1": 1}, "uplink": [], "spool": None}
    for name, subject in (
        ("YK-SEN-01", "snow-1"),
        ("YK-SEN-04", "snow-1"),
        ("YK-SEN-06", "snow-1"),
        ("YK-SVC-03", ""),
        ("YK-CFG-03", ""),
        ("YK-SPL-01", ""),
    ):
        assert board.look(name, subject).status in ("PASS", "SKIP", "WARN"), name


def test_a_time_that_a_receiver_told_the_gateway_needs_no_network(board: Board) -> None:
    board.file("/etc/systemd/timesyncd.conf", "[Time]\nNTP=127.0.0.1#1\n")  # nobody there
    board.look_at_the_clock(synchronised=False)
    assert board.look("YK-CLK-03").status == "WARN"
    board.gateway_says({}, clock={"state": "synced", "source": "gnss", "error_s": 1.0})
    assert board.look("YK-CLK-03").status == "PASS"


@pytest.mark.parametrize(("uid", "said"), [(4242, "chown yukimi: "), (0, "replace the card")])
def test_a_spool_that_is_not_the_services_is_no_dying_card(
    board: Board, uid: int, said: str
) -> None:
    spool = board.folder / "spool.db"
    spool.touch(mode=0o600)
    own = spool.stat().st_uid
    board.file("/etc/passwd", f"yukimi:x:{own + uid}:{own + uid}::/:/bin/false\n")
    board.gateway_says({}, spool={"volatile": True})
    found = board.look("YK-SPL-01")
    assert found.status == "FAIL"
    assert found.next is not None
    assert said in found.next


def test_records_that_live_in_memory_only_are_told(board: Board) -> None:
    board.gateway_says({}, spool={"volatile": True})
    assert board.look("YK-SPL-01").status == "FAIL"
    board.gateway_says({}, spool={"volatile": False})
    (board.folder / "spool.db").write_bytes(b"torn, if it were copied now")
    assert board.look("YK-SPL-01").status == "PASS"
    board.says = None
    assert board.look("YK-SPL-01").status == "FAIL"
    board.process(41, "yukimi", "/opt/yukimi/bin/yukimi run --config /etc/yukimi/gateway.toml")
    assert board.look("YK-SPL-01").status == "SKIP"  # it runs, and does not answer
