"""Worse than a cut: portals, lines that go dead without a word, brokers that never say yes.

Whatever happens between gateway and city, the account closes, the log says what is wrong, and
the gateway recovers by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil.broker import Mosquitto
from hil.faults.mqtt import QUOTA_EXCEEDED, MqttFaults
from hil.faults.ongoing import Heal
from tests.e2e.conftest import Site, Spooled, need_mosquitto

SHORTENED = {
    "agent.route.BACKOFF_CAP_S": 1.5,
    "agent.outbox.HOLD_S": 1.5,
    "agent.outbox.ACK_TIMEOUT_S": 2.0,
}


@pytest.fixture
def mqtt() -> MqttFaults:
    return MqttFaults()


@pytest.fixture
def site(tmp_path: Path, mqtt: MqttFaults) -> Iterator[Site]:
    need_mosquitto()
    with Site(tmp_path, Mosquitto(), new_meddler=mqtt.new_meddler) as site:
        site.listen()
        yield site


def is_delivered(spooled: Spooled) -> bool:
    """Tell whether nothing waits but what was acknowledged last: it leaves with the next commit."""
    return len(spooled.waiting) <= 2 and not any(each[1] == "alerts" for each in spooled.waiting)


@pytest.mark.slow
def test_whatever_happens_on_the_way_is_told_healed_and_costs_no_record(
    site: Site, mqtt: MqttFaults
) -> None:
    def refuse_logins() -> Heal:
        heal = mqtt.refuse_logins()
        site.relay.reset()
        return heal

    def wear() -> Heal:
        for wearing, much in ((site.relay.lose, 0.3), (site.relay.delay, 0.3)):
            wearing(much)
        site.relay.throttle(150.0)
        return site.relay.heal

    faults: dict[str, tuple[Callable[[], Heal], tuple[str, ...]]] = {
        "a captive portal": (site.relay.portal, ("not reachable", "no broker answers")),
        "no acknowledgement": (mqtt.never_acknowledge, ("lost", "does not acknowledge")),
        "no quota left": (
            lambda: mqtt.refuse_messages(QUOTA_EXCEEDED),
            ("quota for us is used up", "live/snow"),
        ),
        "no login": (refuse_logins, ("not reachable", "authori")),
        "a narrow and lossy line": (wear, ("connection lost",)),
    }
    site.configure(("snow-2",))
    site.start(SHORTENED)
    for name, (begin, words) in faults.items():
        site.wait_records("snow-2", 1)
        site.wait_spooled(is_delivered, f"nothing left before {name}")
        told = len(site.daemon.said(*words))
        heal = begin()
        site.daemon.wait_log(*words, times=told + 1)
        site.wait_grown(2)
        heal()
    site.wait_records("snow-2", 2)
    site.wait_spooled(is_delivered, "nothing left")
    # Strangers on the way are no reason to speak an older MQTT.
    assert site.daemon.said("event=connected", "protocol=5") == site.daemon.said("event=connected")
    assert mqtt.swallowed > 0
    assert site.stop() == 0
    site.close_account()


def test_a_connection_that_died_without_a_word_is_left_for_a_new_one(site: Site) -> None:
    site.configure(("snow-2",))
    site.start(SHORTENED)
    site.wait_records("snow-2", 1)
    assert not site.daemon.said("connection lost")  # the control
    heal = site.relay.vanish()
    site.daemon.wait_log("connection lost", "does not acknowledge")
    site.daemon.wait_log("event=connected", times=2)  # nothing is healed yet
    site.wait_records("snow-2", 2)
    heal()
    site.wait_records("snow-2", 2)
    assert len(site.daemon.said("event=connected")) == 2
    assert site.stop() == 0
    site.close_account()
