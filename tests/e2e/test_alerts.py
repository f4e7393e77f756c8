"""What a person should know reaches the city as an alert, and its state stands on a topic."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.publish
import pytest

from tests.e2e.conftest import OWN_ROOT, Site


def alerts(site: Site, name: str) -> list[dict[str, Any]]:
    return [each for each in site.records("alerts") if each.get("alert") == name]


def alarms(site: Site) -> dict[str, dict[str, Any]]:
    with site.city.locked() as account:
        return account.alarms("site-01")


def wait_alert(site: Site, name: str, state: str) -> dict[str, Any]:
    site.wait_until(
        lambda: any(each["state"] == state for each in alerts(site, name)), f"{name} {state}"
    )
    return next(each for each in alerts(site, name) if each["state"] == state)


def test_a_refused_configuration_is_an_alarm_until_it_is_put_right(site: Site) -> None:
    path = site.configure(["snow-2"])
    site.start()
    site.wait_records("snow-2", 1)
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace("offset_s", "ofset_s"), encoding="utf-8")
    site.daemon.reload()
    raised = wait_alert(site, "config_refused", "raised")
    assert "ofset_s" in raised["text"]["en"]
    assert raised["sensor"] is None
    site.wait_until(lambda: "alarm/gateway/config_refused" in alarms(site), "the alarm")
    shown = alarms(site)["alarm/gateway/config_refused"]
    assert shown == raised
    path.write_text(right, encoding="utf-8")
    site.daemon.reload()
    cleared = wait_alert(site, "config_refused", "cleared")
    assert cleared["id"] == raised["id"]  # one episode, through a restart
    site.wait_until(lambda: not alarms(site), "no alarm")
    assert site.stop() == 0
    site.check_messages()


def test_an_alarm_that_is_over_is_emptied_on_connecting(site: Site) -> None:
    body = {"stream": "alerts", "seq": 1, "sensor": "snow-9", "alert": "sensor_missing"}
    body |= {"id": "e", "state": "raised", "severity": "warning", "values": {}}
    body |= {"time": "2026-01-01T00:00:00.000Z", "since": "2026-01-01T00:00:00.000Z"}
    body |= {"clock": {"state": "synced", "error_s": 0.1}, "text": {"ja": "x", "en": "x"}}
    paho.mqtt.publish.single(
        f"{OWN_ROOT}alarm/snow-9/sensor_missing",
        json.dumps(body),
        qos=1,
        retain=True,
        hostname=site.broker.host,
        port=site.broker.port,
    )
    site.wait_until(lambda: bool(alarms(site)), "the stale alarm")
    site.configure(["snow-2"])
    site.start()
    site.wait_until(lambda: not alarms(site), "no alarm")
    assert site.stop() == 0


def test_a_damaged_spool_is_told_of_and_the_gateway_measures_on(site: Site) -> None:
    site.configure(["snow-2"])
    site.start()
    site.wait_records("snow-2", 2)
    assert site.stop() == 0
    with site.spool.open("r+b") as file:  # every page but the first
        file.seek(4096)
        file.write(os.urandom(site.spool.stat().st_size - 4096))
    site.start()
    site.wait_records("snow-2", 2)
    raised = wait_alert(site, "spool_damaged", "raised")
    assert raised["severity"] == "critical"
    assert (site.folder / "spool.db.damaged").exists()
    assert site.stop() == 0
    site.check_messages()


@pytest.fixture
def small_disk(site: Site) -> Iterator[Path]:
    """A filesystem of its own for the spool, which a test can fill."""
    if os.geteuid():
        pytest.skip("mounts a filesystem: root only")
    folder = site.folder / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    subprocess.run(mount, check=True)
    site.spool = folder / "spool.db"
    yield folder
    for daemon in site._daemons:
        daemon.kill()
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_records_flow_while_the_disk_is_full_and_are_written_down_when_it_is_not(
    site: Site, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    site.configure(["snow-2"])
    filler.write_bytes(bytes(1_040_000))
    site.start({"agent.writer.REOPEN_S": 1.0})
    site.wait_records("snow-2", 3)  # from memory
    raised = wait_alert(site, "disk_failed", "raised")
    site.relay.cut()
    filler.unlink()
    site.daemon.wait_log("the disk works again")
    site.wait_spooled(lambda spooled: spooled.produced.get("snow-2", 0) >= 5, "what was in memory")
    site.relay.resume()
    site.daemon.wait_log("connected", times=2)
    site.wait_records("snow-2", 2)
    assert raised["id"]
    assert site.stop() == 0
    site.close_account()
