"""A broker that misbehaves, seen from a real client that publishes with QoS 1."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hil.faults.broker import FaultyBroker
from hil.faults.mqtt import QUOTA_EXCEEDED, MqttFaults
from tests.e2e.conftest import need_mosquitto

WAIT_S = 20.0
SOON_S = 0.4  # nothing comes of itself, however long one waits

OK, NOBODY_SUBSCRIBES, NOT_AUTHORISED = 0x00, 0x10, 0x87


class Client:
    """Publishes, and notes what it is answered."""

    def __init__(self, host: str, port: int, *, protocol: int = mqtt.MQTTv5) -> None:
        self.logins = queue.Queue[int]()
        self.answers = queue.Queue[int]()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.on_connect = lambda _c, _u, _f, code, _p: self.logins.put(code.value)
        self._client.on_publish = lambda _c, _u, _m, code, _p: self.answers.put(code.value)
        self._client.connect(host, port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, text: str = "snow") -> None:
        self._client.publish("yukimi/test", text, qos=1)

    def answer(self) -> int:
        self.publish()
        code = self.answers.get(timeout=WAIT_S)
        return OK if code == NOBODY_SUBSCRIBES else code


class Ear:
    """The city's ear, at the broker itself."""

    def __init__(self, broker: FaultyBroker) -> None:
        self.heard = queue.Queue[str]()
        subscribed = queue.Queue[Any]()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.on_message = lambda _c, _u, message: self.heard.put(message.payload.decode())
        self.client.on_subscribe = lambda *told: subscribed.put(told)
        self.client.on_connect = lambda client, *_: client.subscribe("yukimi/#", qos=1)
        self.client.connect(broker.broker.host, broker.broker.port)
        self.client.loop_start()
        subscribed.get(timeout=WAIT_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker() -> Iterator[FaultyBroker]:
    need_mosquitto()
    with FaultyBroker() as broker:
        yield broker


@pytest.fixture
def ear(broker: FaultyBroker) -> Iterator[Ear]:
    ear = Ear(broker)
    yield ear
    ear.close()


def nothing(told: queue.Queue[Any]) -> bool:
    try:
        told.get(timeout=SOON_S)
    except queue.Empty:
        return True
    return False


def test_what_is_never_acknowledged_has_arrived_all_the_same(
    broker: FaultyBroker, ear: Ear
) -> None:
    with Client(broker.host, broker.port) as client:
        assert client.answer() == OK  # the control
        assert ear.heard.get(timeout=WAIT_S) == "snow"
        heal = broker.never_acknowledge()
        client.publish("ice")
        assert ear.heard.get(timeout=WAIT_S) == "ice"
        assert nothing(client.answers)
        assert broker.mqtt.swallowed == 1
        heal()
        assert client.answer() == OK


def test_a_message_over_quota_is_refused_and_does_not_arrive(
    broker: FaultyBroker, ear: Ear
) -> None:
    with Client(broker.host, broker.port) as client:
        heal = broker.refuse_messages(QUOTA_EXCEEDED)
        assert client.answer() == QUOTA_EXCEEDED
        assert nothing(ear.heard)
        heal()
        assert client.answer() == OK
        assert ear.heard.get(timeout=WAIT_S) == "snow"


def test_before_mqtt_5_a_message_cannot_be_refused(broker: FaultyBroker) -> None:
    with Client(broker.host, broker.port, protocol=mqtt.MQTTv311) as client:
        broker.refuse_messages(QUOTA_EXCEEDED)
        assert client.answer() == OK
        assert broker.mqtt.refused == 0


def test_mosquitto_itself_refuses_by_its_access_list_and_two_refusals_are_one(
    broker: FaultyBroker, ear: Ear
) -> None:
    with Client(broker.host, broker.port) as client:
        assert client.answer() == OK
        assert ear.heard.get(timeout=WAIT_S) == "snow"
        heal_one, heal_other = broker.refuse(), broker.refuse()
        assert client.answer() == NOT_AUTHORISED
        heal_one()
        assert client.answer() == NOT_AUTHORISED
        assert nothing(ear.heard)
        heal_other()
        assert client.answer() == OK
        assert ear.heard.get(timeout=WAIT_S) == "snow"


@pytest.mark.parametrize(
    ("protocol", "code"), [(mqtt.MQTTv5, 0x87), (mqtt.MQTTv311, 0x87)], ids=["5", "3.1.1"]
)
def test_a_login_is_refused_and_who_is_in_stays_in(
    broker: FaultyBroker, protocol: int, code: int
) -> None:
    with Client(broker.host, broker.port, protocol=protocol) as inside:
        assert inside.answer() == OK
        heal = broker.refuse_logins()
        with Client(broker.host, broker.port, protocol=protocol) as outside:
            assert outside.logins.get(timeout=WAIT_S) == code  # as paho tells it
        assert inside.answer() == OK
        heal()
        with Client(broker.host, broker.port, protocol=protocol) as outside:
            assert outside.logins.get(timeout=WAIT_S) == OK


def test_a_broker_that_was_killed_comes_back_where_it_was(broker: FaultyBroker) -> None:
    with Client(broker.host, broker.port) as client:
        assert client.answer() == OK
    heal = broker.kill()
    with pytest.raises(OSError, match=r"."), Client(broker.broker.host, broker.broker.port):
        pass
    heal()
    with Client(broker.host, broker.port) as client:
        assert client.answer() == OK


def test_heal_undoes_everything_at_once(broker: FaultyBroker) -> None:
    broker.refuse()
    broker.never_acknowledge()
    broker.refuse_logins()
    broker.throttle(10)
    broker.kill()
    broker.heal()
    with Client(broker.host, broker.port) as client:
        assert client.answer() == OK


def test_packets_pass_unchanged_however_they_are_cut() -> None:
    packets = b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00" + b"\x30\x80\x01" + bytes(128)
    for size in (1, 2, 3, len(packets)):
        meddle = MqttFaults().new_meddler()
        onward = b""
        for begin in range(0, len(packets), size):
            said, back = meddle(True, packets[begin : begin + size])
            onward += said
            assert back == b""
        assert onward == packets
