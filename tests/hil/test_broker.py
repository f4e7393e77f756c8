"""Both brokers: what is published arrives, and after an end they are back where they were."""

from __future__ import annotations

import os
import queue
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as mqtt
import pytest
import trustme
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from hil.broker import MOSQUITTO, Broker, BrokerError, EmbeddedBroker, Mosquitto, Tls, start_broker

V311 = MQTTProtocolVersion.MQTTv311
V5 = MQTTProtocolVersion.MQTTv5


def need_mosquitto() -> None:
    if not Path(MOSQUITTO).exists():
        reason = f"no {MOSQUITTO}: apt install mosquitto"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if request.param == "mosquitto":
        need_mosquitto()
    made: Broker = Mosquitto() if request.param == "mosquitto" else EmbeddedBroker()
    with made as broker:
        yield broker


class Client:
    """A paho client on its own thread; what happens to it is on a queue."""

    def __init__(
        self,
        broker: Broker,
        *,
        protocol: MQTTProtocolVersion = V311,
        set_up: Callable[[mqtt.Client], Any] = lambda client: None,
    ) -> None:
        self.happened: queue.Queue[tuple[str, Any]] = queue.Queue()
        put = self.happened.put
        self.paho = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self.paho.on_connect = lambda c, u, flags, reason, p: put(("connected", reason))
        self.paho.on_disconnect = lambda c, u, flags, reason, p: put(("disconnected", reason))
        self.paho.on_subscribe = lambda c, u, mid, reasons, p: put(("subscribed", reasons))
        self.paho.on_publish = lambda c, u, mid, reason, p: put(("acknowledged", reason))
        self.paho.on_message = lambda c, u, m: put(("message", (m.topic, m.payload)))
        set_up(self.paho)
        self.paho.connect(broker.host, broker.port)
        self.paho.loop_start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def wait(self, kind: str) -> Any:
        while True:
            happened, detail = self.happened.get(timeout=60)
            if happened == kind:
                return detail


def reason_of(ack: ReasonCode) -> int:
    return int(ack.value)


def round_trip(broker: Broker) -> None:
    with Client(broker) as city, Client(broker) as gateway:
        city.wait("connected")
        city.paho.subscribe("yukimi/#", qos=1)
        city.wait("subscribed")
        gateway.wait("connected")
        gateway.paho.publish("yukimi/a", b"42", qos=1)
        assert reason_of(gateway.wait("acknowledged")) == 0
        assert city.wait("message") == ("yukimi/a", b"42")


def test_what_is_published_arrives(broker: Broker) -> None:
    round_trip(broker)


def test_a_killed_broker_tears_its_clients_off_and_comes_back_on_its_port(broker: Broker) -> None:
    port = broker.port
    with Client(broker) as client:
        client.wait("connected")
        broker.kill()
        client.wait("disconnected")
        with pytest.raises(ConnectionRefusedError):
            mqtt.Client(CallbackAPIVersion.VERSION2).connect(broker.host, broker.port)
        broker.start()
        client.wait("connected")
    assert broker.port == port
    round_trip(broker)


def test_a_stopped_broker_comes_back_and_two_starts_are_one(broker: Broker) -> None:
    broker.stop()
    broker.stop()
    broker.start()
    broker.start()
    round_trip(broker)


def test_a_broker_is_found_on_every_machine() -> None:
    broker = start_broker()
    try:
        round_trip(broker)
    finally:
        broker.close()


def test_the_embedded_broker_refuses_mqtt_5_in_so_many_words() -> None:
    with EmbeddedBroker() as broker, Client(broker, protocol=V5) as client:
        reason = client.wait("connected")
        assert reason.is_failure
        assert reason.getName() == "Unsupported protocol version"
        client.wait("disconnected")


def test_mosquitto_says_under_mqtt_5_that_nobody_subscribes() -> None:
    need_mosquitto()
    with Mosquitto() as broker, Client(broker, protocol=V5) as client:
        client.wait("connected")
        client.paho.publish("yukimi/nobody", b"1", qos=1)
        assert reason_of(client.wait("acknowledged")) == 0x10
        client.paho.subscribe("yukimi/#", qos=1)
        client.wait("subscribed")
        client.paho.publish("yukimi/somebody", b"1", qos=1)
        assert reason_of(client.wait("acknowledged")) == 0


def test_with_persistence_a_retained_message_survives_a_stop() -> None:
    need_mosquitto()
    with Mosquitto(persistence=True) as broker:
        with Client(broker) as gateway:
            gateway.wait("connected")
            gateway.paho.publish("yukimi/status", b"online", qos=1, retain=True)
            gateway.wait("acknowledged")
        broker.stop()
        broker.start()
        with Client(broker) as city:
            city.wait("connected")
            city.paho.subscribe("yukimi/#", qos=1)
            assert city.wait("message") == ("yukimi/status", b"online")


def test_without_a_password_nobody_comes_in(tmp_path: Path) -> None:
    need_mosquitto()
    passwords = tmp_path / "passwords"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", str(passwords), "gw", "secret"],
        check=True,
        capture_output=True,
    )
    with Mosquitto(password_file=passwords) as broker:
        with Client(broker) as client:
            assert client.wait("connected").is_failure
        set_up = lambda paho: paho.username_pw_set("gw", "secret")  # noqa: E731
        with Client(broker, set_up=set_up) as client:
            assert not client.wait("connected").is_failure


def test_with_tls_a_client_needs_a_certificate_of_the_same_authority(tmp_path: Path) -> None:
    need_mosquitto()
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    tls = Tls(tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key", True)
    authority.cert_pem.write_to_path(tls.ca_file)
    server.cert_chain_pems[0].write_to_path(tls.cert_file)
    server.private_key_pem.write_to_path(tls.key_file)

    def trusting(*, with_certificate: bool) -> Callable[[mqtt.Client], None]:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if with_certificate:
            authority.issue_cert("gw.example").configure_cert(context)
        return lambda paho: paho.tls_set_context(context)

    with Mosquitto(tls=tls) as broker:
        with Client(broker, set_up=trusting(with_certificate=True)) as client:
            assert not client.wait("connected").is_failure
        with Client(broker, set_up=trusting(with_certificate=False)) as client:
            client.wait("disconnected")


def test_a_broker_that_cannot_start_says_why() -> None:
    need_mosquitto()
    broker = Mosquitto(extra=("nonsense true",))
    with pytest.raises(BrokerError, match="nonsense"):
        broker.start()
    assert "nonsense" in broker.log
    broker.close()


def test_a_reload_takes_what_the_configuration_names_as_it_is_now(tmp_path: Path) -> None:
    need_mosquitto()
    acl = tmp_path / "acl"
    acl.write_text("topic readwrite #\n")
    with (
        Mosquitto(extra=(f"acl_file {acl}",)) as broker,
        Client(broker, protocol=V5) as client,
    ):
        client.wait("connected")
        for access, code in (("readwrite", 0x10), ("read", 0x87), ("readwrite", 0x10)):
            acl.write_text(f"topic {access} #\n")
            broker.reload()
            client.paho.publish("a/b", b"1", qos=1)
            assert reason_of(client.wait("acknowledged")) == code


def test_a_broker_that_ended_by_itself_is_noticed_and_one_that_was_killed_is_not() -> None:
    need_mosquitto()
    with Mosquitto() as broker:
        broker.check()
        process = broker._process
        assert process is not None
        process.kill()
        process.wait()
        with pytest.raises(BrokerError, match="exit code -9"):
            broker.check()
        broker.kill()
        broker.check()
