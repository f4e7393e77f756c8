"""A broker that means harm costs a gateway neither its life, nor its memory, nor a record."""

from __future__ import annotations

import pytest

from hil.faults.hostile import HostileBroker, Way
from tests.e2e.conftest import GATEWAY, Site

GROWTH_KB = 24_576
CONNECTIONS = 8


@pytest.mark.parametrize("way", ["garbage", "endless packet", "flood", "drops each word"])
def test_it_lives_through_it_and_delivers_everything_afterwards(site: Site, way: Way) -> None:
    topic = f"yukimi/v1/{GATEWAY}/status"
    with HostileBroker(site.broker.port, topic) as hostile:
        hostile.way = "honest"  # the negative control: through it everything arrives
        site.configure(brokers=[f"mqtt://127.0.0.1:{hostile.port}"])
        site.start({"agent.route.BACKOFF_CAP_S": 0.5, "agent.uplink.CONNACK_TIMEOUT_S": 1.0})
        site.wait_records("snow-2", 2)
        before_kb = site.rss_kb()
        hostile.way = way
        site.kill()
        site.start({"agent.route.BACKOFF_CAP_S": 0.5, "agent.uplink.CONNACK_TIMEOUT_S": 1.0})
        wanted = hostile.connections + (1 if way == "flood" else CONNECTIONS)
        site.wait_spooled(
            lambda _: (
                hostile.connections >= wanted and (way != "flood" or hostile.sent_bytes > 8_000_000)
            ),
            "what it suffers",
        )
        assert site.rss_kb() - before_kb < GROWTH_KB
        run = site.spooled().run
        hostile.way = "honest"
        site.wait_records("snow-2", 2, lane="live")
        assert site.spooled().run == run  # it lived through it
        assert site.stop() == 0
    site.close_account()
