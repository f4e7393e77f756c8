"""`yukimi doctor` as a technician runs it: the real command line, in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import lastgood
from agent.doctor.order import CHECKS
from tests.e2e.conftest import PROJECT, Site

DOCTOR = [sys.executable, "-m", "agent", "doctor"]
WAIT_S = 120.0
SENSORS = ("door-1", "hall-1")  # on simulated buses: the bench itself holds its terminals open


def doctor(
    *arguments: str, prefix: tuple[str, ...] = (), language: str = "C.UTF-8"
) -> subprocess.CompletedProcess[str]:
    path = f"{PROJECT}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.run(
        [*prefix, *DOCTOR, *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
        env=os.environ | {"PYTHONPATH": path, "LC_ALL": language},
    )


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["schema"] == "yukimi.doctor/1"
    return found


def status(found: dict[str, Any], check: str) -> set[str]:
    return {each["status"] for each in found["checks"] if each["id"] == check}


def test_a_sound_gateway_that_runs_is_told_so(site: Site) -> None:
    config = site.configure(SENSORS)
    site.start()
    site.wait_records("door-1", 1)
    done = doctor("--config", str(config), "--json")
    found = document(done)
    assert done.returncode == 0, found
    assert found["first"] is None
    assert status(found, "YK-SVC-03") == {"PASS"}
    assert status(found, "YK-SEN-01") == {"PASS"}
    assert status(found, "YK-MQ-01") == {"PASS"}
    assert site.stop() == 0


def test_a_broker_that_is_gone_is_named_and_the_exit_code_says_so(site: Site) -> None:
    config = site.configure(SENSORS)
    site.relay.cut()
    done = doctor("--config", str(config))
    assert done.returncode == 1
    assert "First to put right: YK-NET-04" in done.stdout
    assert "yukimi doctor --explain YK-NET-04" in done.stdout
    assert done.stderr == "" or os.geteuid() != 0
    done = doctor("--config", str(config), language="ja_JP.UTF-8")
    assert "最初の対処: YK-NET-04" in done.stdout


def test_an_invalid_configuration_is_the_finding_not_the_end(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[uplink]\nbrokers = ["mqtt://localhost"]\n[[sensors]]\nid = "a"\n')
    done = doctor("--config", str(config), "--json")
    assert done.returncode == 1
    found = document(done)
    assert found["first"] == "YK-CFG-02"
    assert found["blinks"] == 6
    assert status(found, "YK-CLK-02") == {"PASS"}  # what does not hang on it is checked
    assert status(found, "YK-SEN-01") == {"SKIP"}


def test_what_its_parts_would_log_is_not_in_its_answer(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    spool = tmp_path / "spool.db"
    config.write_text(f'[uplink]\nbrokers = 7\n[spool]\npath = "{spool}"\n')
    lastgood.file_for(config, spool).write_text("damaged")  # which is logged by who finds it
    assert document(doctor("--config", str(config), "--json"))["first"] == "YK-CFG-02"


def test_without_any_network_the_way_out_is_named(site: Site) -> None:
    """In a namespace with no interface but a loopback that is down: no packet leaves."""
    alone = ("unshare", "--net", "--map-root-user")
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    config = site.configure(SENSORS, brokers=["mqtts://broker.example:8883"])
    done = doctor("--config", str(config), "--json", prefix=alone)
    assert done.returncode == 1, done.stderr
    found = document(done)
    assert found["first"] == "YK-NET-01"
    assert status(found, "YK-NET-02") == {"SKIP"}
    assert status(found, "YK-SEN-01") == {"PASS"}


def test_a_page_is_explained_without_network_or_configuration() -> None:
    for language, words in (("C.UTF-8", "What to do"), ("ja_JP.UTF-8", "対処")):
        done = doctor("--explain", "yk-sen-04", language=language)
        assert done.returncode == 0
        assert "YK-SEN-04" in done.stdout
        assert words in done.stdout
    assert json.loads(doctor("--explain", "YK-SEN-04", "--json").stdout)["needs"] == ["YK-SEN-03"]


def test_an_unknown_page_is_a_wrong_usage_and_a_near_one_is_named() -> None:
    done = doctor("--explain", "YK-NET-0")
    assert done.returncode == 2
    assert "YK-NET-0" in done.stderr
    assert any(check.id in done.stderr for check in CHECKS)
