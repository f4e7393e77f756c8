"""Networks and brokers that go and come back: nothing is lost, nothing is silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.broker import Mosquitto
from hil.relay import hold_port
from tests.e2e.conftest import Site, need_mosquitto

SHORTENED = {"agent.route.BACKOFF_CAP_S": 1.5}


@pytest.mark.slow
def test_a_broker_killed_three_times_costs_nothing(site: Site) -> None:
    site.configure(backlog_bytes_per_s=1024)
    site.start(SHORTENED)
    for outage in range(1, 4):
        site.wait_records("snow-2", 1)
        # What is on its way when the broker dies is held by the network, unacknowledged: what a
        # broker acknowledged and took into its grave, no gateway could know of.
        site.relay.stall()
        site.wait_grown(3)
        site.broker.kill()
        site.relay.cut()
        site.wait_grown(4)
        site.broker.start()
        site.city.wait_subscribed()
        before = len(site.records("snow-2", lane="backlog"))
        site.relay.resume()
        site.daemon.wait_log("event=connected", times=1 + outage)
        site.wait_until(
            lambda before=before: len(site.records("snow-2", lane="backlog")) > before, "the past"
        )
    assert site.stop() == 0
    report = site.close_account()
    assert len(site.produced) == 1
    # Each outage may bring again what was in flight when it came, at most.
    assert report.duplicates <= 3 * 4
    live, backlog = (
        [record["seq"] for record in site.records("snow-2", lane=lane)]
        for lane in ("live", "backlog")
    )
    assert live == sorted(set(live))
    assert max(live) > max(backlog)


@pytest.mark.parametrize("begins", ["connected", "alone"])
def test_a_broker_that_hangs_up_while_it_starts_is_still_asked_with_mqtt_5(
    site: Site, begins: str
) -> None:
    site.configure()
    if begins == "connected":
        site.start(SHORTENED)
        site.wait_records("snow-2", 1)
    # The relay stands for a proxy: it accepts, finds nobody behind it, and hangs up.
    site.broker.kill()
    connections = site.relay.connections
    if begins == "alone":
        site.start(SHORTENED)
    site.wait_spooled(lambda _: site.relay.connections >= connections + 3, "attempts")
    site.relay.cut()
    site.broker.start()
    site.city.wait_subscribed()
    site.relay.resume()
    site.daemon.wait_log("event=connected", times=2 if begins == "connected" else 1)
    assert site.daemon.said("event=connected", "protocol=5") == site.daemon.said("event=connected")
    assert not site.daemon.said("refuses MQTT 5")
    site.wait_records("snow-2", 1)
    assert site.stop() == 0
    site.close_account()


def test_where_nobody_subscribes_everything_waits_and_flows_when_somebody_does(
    tmp_path: Path,
) -> None:
    need_mosquitto()
    with Site(tmp_path, Mosquitto()) as site:
        site.configure()
        site.start({"agent.outbox.HOLD_S": 1.5})
        for topic in ("live/gateway", "live/snow", "live/people"):
            site.daemon.wait_log("nobody subscribes", topic)
        asked = site.broker.log.count("Received PUBLISH from site-01")
        site.wait_grown(5)
        site.wait_spooled(
            lambda _: site.broker.log.count("Received PUBLISH from site-01") > asked,
            "been asked for again",
        )
        assert (site.spooled().run, "gateway", 1) in site.spooled().waiting
        site.listen()
        for topic in ("live/gateway", "live/snow", "live/people"):
            site.daemon.wait_log("flow again", topic)
        site.wait_records("snow-2", 2)
        for topic in ("live/gateway", "live/snow", "live/people"):
            assert len(site.daemon.said("nobody subscribes", topic)) == 1
        assert site.stop() == 0
        assert site.close_account().duplicates == 0


def test_a_broker_that_is_down_gives_way_to_the_next(site: Site) -> None:
    with hold_port() as nobody:
        down = f"mqtt://127.0.0.1:{nobody.getsockname()[1]}"
        site.configure(brokers=[down, site.url])
        site.start()
        site.wait_records("snow-2", 2)
        assert len(site.daemon.said("not reachable", down, "refused")) == 1
        assert site.daemon.said("event=connected", site.url)
        assert site.stop() == 0
        site.close_account()


def test_a_network_that_swallows_everything_is_noticed_and_left(site: Site) -> None:
    site.configure()
    site.start(SHORTENED | {"agent.outbox.ACK_TIMEOUT_S": 2.0})
    site.wait_records("snow-2", 1)
    site.relay.stall()
    site.daemon.wait_log("connection lost", "does not acknowledge")
    site.wait_grown(2)
    site.relay.resume()
    site.daemon.wait_log("event=connected", times=2)
    site.wait_records("snow-2", 2)
    assert site.stop() == 0
    site.close_account()
    assert site.retained_status()["state"] == "offline"


def test_a_stop_in_an_outage_loses_nothing_and_the_next_run_delivers_it(site: Site) -> None:
    site.configure()
    site.start(SHORTENED)
    site.wait_records("snow-2", 1)
    site.relay.cut()
    site.daemon.wait_log("connection lost")
    site.wait_grown(4)
    assert site.stop() == 0
    left = site.spooled()
    site.relay.resume()
    site.start()
    run = site.wait_new_run().run
    site.wait_until(lambda: run in site.start_records(), "the next start record")
    previous = site.start_records()[run]["previous"]
    assert previous == {"run": left.run, "clean": True, "produced": left.produced}
    assert site.stop() == 0
    site.close_account()


def test_a_gateway_that_starts_without_network_delivers_when_it_comes(site: Site) -> None:
    site.relay.cut()
    site.configure()
    site.start(SHORTENED)
    site.daemon.wait_log("not reachable", "refused")
    site.wait_spooled(lambda spooled: len(spooled.waiting) >= 4, "records")
    site.relay.resume()
    site.wait_records("snow-2", 2)
    assert len(site.daemon.said("not reachable")) == 1
    assert site.stop() == 0
    assert site.close_account().duplicates == 0


@pytest.mark.parametrize("damage", ["cut", "reset"])
def test_cuts_in_quick_succession_cost_nothing(site: Site, damage: str) -> None:
    site.configure()
    site.start(SHORTENED | {"agent.endings.FREE": 100})  # no patience with a line that is so bad
    site.wait_records("snow-2", 1)
    for times in range(2, 8):
        getattr(site.relay, damage)()
        site.relay.resume()
        site.daemon.wait_log("event=connected", times=times)
    site.wait_records("snow-2", 1)
    assert site.stop() == 0
    site.close_account()


def test_a_backlog_larger_than_the_broker_takes_at_once_goes_in_halves(tmp_path: Path) -> None:
    need_mosquitto()
    with Site(tmp_path, Mosquitto(extra=("max_packet_size 2000",))) as site:
        site.configure(compression="none")
        site.relay.cut()
        site.start()
        site.wait_spooled(lambda spooled: len(spooled.waiting) >= 20, "a backlog")
        site.listen()
        site.relay.resume()
        site.wait_records("snow-2", 8, lane="backlog")
        site.wait_records("snow-2", 1)
        # The birth of two sensors is smaller; a third would not be, and cannot be halved.
        assert all(len(heard.payload) <= 2000 for heard in site.heard)
        assert len(site.daemon.said("event=connected")) == 1
        assert site.stop() == 0
        site.close_account()
