"""What stands on `status`: the birth while it lives, the good-bye or the will when it does not."""

from __future__ import annotations

import json
import time

import paho.mqtt.publish
import pytest

from tests.e2e.conftest import OWN_ROOT, Site


def states(site: Site) -> list[str]:
    return [status["state"] for status in site.statuses()]


def test_an_offline_that_somebody_else_wrote_is_overwritten(site: Site) -> None:
    site.configure()
    site.start()
    # By the time of its first health it has subscribed to its own status.
    site.wait_until(lambda: any(m.topic == "health" for m in site.heard), "health")
    birth = site.retained_status()
    written = {"schema": "yukimi.status/1", "state": "offline", "gateway": "site-01", "run": "old"}
    paho.mqtt.publish.single(
        f"{OWN_ROOT}status",
        json.dumps(written),
        qos=1,
        retain=True,
        hostname=site.broker.host,
        port=site.broker.port,
    )
    site.wait_until(lambda: states(site)[-2:] == ["offline", "online"], "the birth again")
    again = site.retained_status()
    assert again["state"] == "online"
    assert again["run"] == birth["run"]
    site.daemon.wait_log("writing the birth again")
    assert len(site.daemon.said("writing the birth again")) == 1
    assert site.stop() == 0
    site.close_account()


def test_a_killed_daemons_will_appears(site: Site) -> None:
    site.configure(protocol="3.1.1")  # where the will is not delayed
    site.start()
    site.wait_online()
    spooled = site.kill()
    site.wait_until(lambda: states(site)[-1] == "offline", "the will")
    assert site.retained_status() == {
        "schema": "yukimi.status/1",
        "state": "offline",
        "gateway": "site-01",
        "run": spooled.run,
    }


def test_with_mqtt_5_the_will_waits_and_a_new_life_overwrites_it(site: Site) -> None:
    site.configure()
    site.start({"agent.link.WILL_DELAY_S": 3})
    site.wait_online()
    before_s = time.time()
    spooled = site.kill()
    site.wait_until(lambda: states(site)[-1] == "offline", "the will")
    will = next(m for m in reversed(site.heard) if m.topic == "status")
    assert will.at_s - before_s > 2.0  # the broker counts whole seconds
    assert will.document["run"] == spooled.run
    site.start()
    site.wait_online()
    assert site.retained_status()["state"] == "online"
    site.kill()
    site.start()  # before the will's time has come
    site.wait_online()
    assert site.retained_status()["run"] == site.spooled().run
    assert site.stop() == 0
    site.close_account()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_clean_stop_leaves_no_will_behind_and_a_restart_is_no_surprise(
    site: Site, protocol: str
) -> None:
    site.configure(protocol=protocol)
    for _ in range(2):
        site.start()
        site.wait_online()
        assert site.stop() == 0
        site.wait_until(lambda: states(site)[-1] == "offline", "the good-bye")
        assert site.retained_status()["reason"] == "stopped"
        assert not site.daemon.said("writing the birth again")
    assert states(site) == ["online", "offline"] * 2
    goodbyes = [line for line in site.broker.log.splitlines() if "Client site-01 " in line]
    assert goodbyes
    assert all(line.endswith("Client site-01 disconnected.") for line in goodbyes)
    site.close_account()
