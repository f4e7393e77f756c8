"""Sensors are tested while the gateway runs: it is asked, and nothing is taken away from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.conftest import CONTROL_SOCKET, POST_DEPTH_CM, Site


@pytest.fixture
def running(site: Site) -> Site:
    site.configure(("hall-1", "snow-2"), window_s=2)
    site.start()
    site.wait_online()
    site.wait_until((site.folder / CONTROL_SOCKET).exists, "the control socket")
    return site


def commission(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    config = ("--config", str(site.folder / "gateway.toml"))
    return subprocess.run(
        [sys.executable, "-m", "agent", "commission", *arguments, *config],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )


def commissioned(site: Site) -> dict[str, Any]:
    """What the newest birth says of tests."""
    births = [status for status in site.statuses() if status["state"] == "online"]
    return {each["id"]: each.get("commissioned") for each in births[-1]["sensors"]}


def test_a_running_gateway_is_asked_and_its_next_birth_names_the_test(running: Site) -> None:
    said = commission(running, "snow-2", "--depth", f"{POST_DEPTH_CM:g}", "-n", "8", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["measured"]["through"] == "gateway"
    assert document["measured"]["n"] == 8
    assert commissioned(running)["snow-2"] is None
    running.daemon.reload()
    running.wait_until(lambda: commissioned(running)["snow-2"] is not None, "the new birth")
    tested = {"date": document["date"], "record": document["record"]}
    assert commissioned(running) == {"hall-1": None, "snow-2": tested}
    assert running.stop() == 0
    running.check_messages()


def test_people_are_not_counted_through_a_running_gateway(running: Site) -> None:
    said = commission(running, "hall-1", "--consent")
    assert said.returncode == 69
    assert "systemctl stop yukimi" in said.stderr
    assert not (running.folder / "commissioned").exists()


def test_a_configuration_that_does_not_run_yet_is_not_tested(running: Site) -> None:
    config = running.folder / "gateway.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("350.0", "351.0"), encoding="utf-8")
    said = commission(running, "snow-2", "--depth", f"{POST_DEPTH_CM:g}")
    assert said.returncode == 69
    assert "systemctl reload yukimi" in said.stderr
