"""A topic that an access list denies is named: whether it is refused, or answered by hanging up."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.broker import Mosquitto
from hil.faults.hostile import HostileBroker
from tests.e2e.conftest import GATEWAY, Site, need_mosquitto

LANES = "".join(
    f"topic readwrite yukimi/v1/+/{below}\n"
    for below in ("live/+", "backlog/+", "alert/+", "alarm/+/+", "health")
)


@pytest.mark.parametrize("right", ["read", "readwrite"])
def test_a_status_that_mosquitto_denies_is_named_once(tmp_path: Path, right: str) -> None:
    need_mosquitto()
    acl = tmp_path / "acl"
    acl.write_text(f"{LANES}topic {right} yukimi/v1/+/status\n")
    acl.chmod(0o644)
    folder = tmp_path / "site"
    folder.mkdir()
    with Site(folder, Mosquitto(extra=(f"acl_file {acl}",))) as site:
        site.listen()
        site.configure()
        site.start({"agent.uplink.HEALTH_INTERVAL_S": 1.0})  # the birth is tried again as often
        site.wait_records("snow-2", 2)
        if right == "read":
            site.wait_until(lambda: bool(topics(site)), "an alert that names the topic")
            assert topics(site) == [["status"]]
        site.wait_records("snow-2", 6)
        said = site.daemon.said("the broker refuses our status")
        assert len(said) == (right == "read")  # the control is the same list with the right
        assert bool(topics(site)) == (right == "read")
        assert site.stop() == 0


def topics(site: Site) -> list[list[str]]:
    """What each episode says; a record may come twice."""
    alerts = site.records("alerts", lane="alert")
    told = {each["id"]: each for each in alerts if each["alert"] == "not_authorised"}
    return [each["values"]["topics"] for each in told.values()]


def test_a_broker_that_hangs_up_is_tried_less_often_and_the_gateway_says_after_what(
    site: Site,
) -> None:
    topic = f"yukimi/v1/{GATEWAY}/status"
    with HostileBroker(site.broker.port, topic) as hostile:
        site.configure(brokers=[f"mqtt://127.0.0.1:{hostile.port}"])
        hostile.way = "drops each word"
        site.start({"agent.route.BACKOFF_CAP_S": 0.2})
        site.daemon.wait_log("the broker ends each session soon", f"after={topic}")
        hostile.way = "honest"
        site.daemon.wait_log("the broker keeps the session and acknowledges again")
        assert len(site.daemon.said("the broker ends each session soon")) == 1
        assert site.stop() == 0
    site.close_account()
