"""A report and a tarball of a gateway that runs, with people before its sensors."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.agent.report.reading import Reader
from tests.agent.report.test_page import references
from tests.e2e.conftest import WAIT_S, Site

SENSORS = ("hall-1", "door-1", "snow-2")
PASSWORD = "a-planted-password"


def yukimi(site: Site, *arguments: object) -> None:
    config = ["--config", str(site.folder / "gateway.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments), *config],
        capture_output=True,
        text=True,
        timeout=4 * WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def busy(site: Site) -> Site:
    """A gateway that has seen an outage and counts people; windows of a second."""
    (site.folder / "broker-password").touch(mode=0o600)
    (site.folder / "broker-password").write_text(PASSWORD, encoding="utf-8")
    site.configure(SENSORS, username="site-01", password_file="broker-password")
    site.start({"agent.route.BACKOFF_CAP_S": 1.5})
    site.wait_records("snow-2", 3)
    site.relay.cut()
    site.wait_grown(5)
    site.relay.resume()
    site.daemon.wait_log("event=connected", times=2)
    site.wait_records("door-1", 3)
    return site


def test_a_report_of_a_running_gateway_shows_its_day(busy: Site) -> None:
    file = busy.folder / "report.html"
    yukimi(busy, "diag", "report", "-o", file, "--lang", "en")
    html = file.read_text(encoding="utf-8")
    reader = Reader(html)
    assert references(html) == []
    titles = [svg.children[0].text for svg in reader.all("svg")]
    assert "Snow depth in 24 hours" in titles
    assert titles.count("People counted in 24 hours") == 2
    assert "Connection in 24 hours" in titles
    assert "Bench" in html  # its name
    assert PASSWORD not in html
    told = {svg.children[0].text: svg.children[1].text for svg in reader.all("svg")}
    assert "Lowest 6" in told["Snow depth in 24 hours"]  # 67 cm lie under the post
    assert "Gaps: " in told["Snow depth in 24 hours"]  # nothing was measured before the start
    # Before the first connection and while the network was cut, as far as the strip goes.
    assert "no connection" in html


def test_a_tarball_of_a_running_gateway_has_its_state_and_nothing_of_persons(busy: Site) -> None:
    file = busy.folder / "ticket.tar.gz"
    yukimi(busy, "diag", "collect", "-o", file)
    with tarfile.open(file) as tar:
        parts = {
            member.name.rpartition("/")[2]: stream.read()
            for member in tar
            if (stream := tar.extractfile(member)) is not None
        }
    assert not any(PASSWORD.encode() in content for content in parts.values())
    status: dict[str, Any] = json.loads(parts["status.json"])
    assert status["gateway"]["id"] == "site-01"
    people = [sensor for sensor in status["sensors"] if sensor["kind"] == "people"]
    assert len(people) == 2
    for sensor in people:
        # State, health and released figures: no readings, no rate, no counter.
        assert sensor.keys() <= {
            *("id", "driver", "kind", "bus", "window_s", "label", "directions"),
            *("state", "since", "error", "record"),
        }
    assert json.loads(parts["spool.json"])["from"] == "gateway"


def test_a_report_costs_the_gateway_no_record(busy: Site) -> None:
    for number in range(3):
        yukimi(busy, "diag", "report", "-o", Path(busy.folder / f"report-{number}.html"))
    assert busy.stop() == 0
    busy.close_account()
