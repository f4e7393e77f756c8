"""The city's connection to the broker: a session that stays, and acknowledgements by hand.

Shared subscriptions spread the records over the processes of a group. What a shared subscription
would not bring, retained messages, is subscribed to plainly, by each process.

The session is kept (clean start off, a fixed client id, a long expiry), because Mosquitto gives the
records of a member that died to nobody else: with a session that ends, those in flight and those
queued for it are lost, each of them acknowledged to its gateway; with one that stays they wait.
"""

from __future__ import annotations

import queue
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.link import end_thread

log = structlog.get_logger(part="city")

SHARED = ("+/live/+", "+/backlog/+", "+/alert/+")
PLAIN = ("+/status", "+/alarm/+/+", "+/health")
CONNECT_S = 10.0
KEEPALIVE_S = 60
LOOK_S = 0.5
QUEUE_MESSAGES = 2000  # of which no more than the receive maximum are not acknowledged


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker is, and who we are there."""

    url: str  # mqtt://host:port or mqtts://host:port
    topic_root: str = "yukimi/v1"
    group: str = "city"  # processes of one group share the records
    instance: str = "1"  # each process its own, and the same at every start
    protocol: Literal["5", "3.1.1"] = "5"
    receive_maximum: int = 100  # messages that are not yet in the database
    session_expiry_s: int = 30 * 86400
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    @property
    def client_id(self) -> str:
        """The name of the session."""
        return f"yukimi-city-{self.group}-{self.instance}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port. Raises ValueError."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
            raise ValueError(f"{self.url}: not mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
        return parts.hostname, parts.port or (8883 if parts.scheme == "mqtts" else 1883)

    @property
    def topics(self) -> list[str]:
        """What is subscribed to. MQTT 3.1.1 knows no shared subscriptions: one process there."""
        share = f"$share/{self.group}/" if self.protocol == "5" else ""
        return [f"{share}{self.topic_root}/{each}" for each in SHARED] + [
            f"{self.topic_root}/{each}" for each in PLAIN
        ]


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message, and the connection that may acknowledge it."""

    link: Link
    topic: str
    payload: bytes
    mid: int
    qos: int
    received_utc: str


class Link:
    """One connection. Its messages go onto `inbox`; when it is over, nothing more comes of it.

    An acknowledgement belongs to the connection that brought the message: on a later one, after a
    broker that forgot the session, the same number may be another message's.
    """

    def __init__(self, settings: BrokerSettings, inbox: queue.Queue[Incoming]) -> None:
        self._settings = settings
        self._inbox = inbox
        self._over = threading.Event()
        self.ready = threading.Event()
        self.why = "the broker does not answer"
        self.is_new_session = False
        self.answers: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()  # mid, reason
        self._is_retiring = False
        self._client = self._make()

    @property
    def is_over(self) -> bool:
        """Whether it was lost or closed."""
        return self._over.is_set()

    def open(self, *, retire: bool = False) -> None:
        """Connect and subscribe, or with `retire` unsubscribe. Raises OSError."""
        self._is_retiring = retire
        settings, client = self._settings, self._client
        host, port = settings.address
        if settings.protocol == "5":
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = settings.session_expiry_s
            properties.ReceiveMaximum = settings.receive_maximum
            client.connect(host, port, KEEPALIVE_S, clean_start=False, properties=properties)
        else:
            client.connect(host, port, KEEPALIVE_S)
        client.loop_start()
        if not self.ready.wait(CONNECT_S) or self.is_over:
            self.close()
            raise OSError(self.why)

    def acknowledge(self, message: Incoming) -> None:
        """Tell the broker that a message is in the database."""
        if message.qos and not self.is_over:
            self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: str) -> int | None:
        """Publish a retained message; return its number, None where the connection is over."""
        info = self._client.publish(topic, payload, qos=1, retain=True)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def close(self, *, end_session: bool = False) -> None:
        """Say goodbye; with `end_session` the broker forgets us."""
        self._over.set()
        if end_session and self._settings.protocol == "5":
            properties = Properties(PacketTypes.DISCONNECT)
            properties.SessionExpiryInterval = 0
            self._client.disconnect(properties=properties)
        else:
            self._client.disconnect()
        end_thread(self._client)

    def _make(self) -> mqtt.Client:
        settings = self._settings
        is_mqtt5 = settings.protocol == "5"
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if is_mqtt5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if is_mqtt5 else MQTTProtocolVersion.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_S
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.tls is not None:
            client.tls_set_context(settings.tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    # Everything below runs on paho's thread.

    def _on_connect(
        self, client: mqtt.Client, _user: Any, flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._end(f"the broker refuses us: {reason}")
            return
        self.is_new_session = not flags.session_present
        if self._is_retiring:
            client.unsubscribe(self._settings.topics)
        else:
            client.subscribe([(topic, 1) for topic in self._settings.topics])

    def _on_subscribe(
        self, _client: Any, _user: Any, _mid: int, reasons: list[Any], _properties: Any
    ) -> None:
        refused = [
            f"{topic} ({reason})"
            for topic, reason in zip(self._settings.topics, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            self._end(f"the broker refuses the subscription to {', '.join(refused)}")
        else:
            self.ready.set()

    def _on_unsubscribe(self, *_: Any) -> None:
        self.ready.set()

    def _on_disconnect(
        self, _client: Any, _user: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._end(str(reason))

    def _end(self, why: str) -> None:
        if not self._over.is_set():
            self.why = why
            self._over.set()
        self.ready.set()

    def _on_message(self, _client: Any, _user: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # no broker should pass it on
            topic = "?"
        incoming = Incoming(
            self, topic, bytes(message.payload), message.mid, message.qos, utc_now()
        )
        while not self.is_over:
            try:
                # Without acknowledgements the broker soon stops; QoS 0 it never does.
                self._inbox.put(incoming, timeout=LOOK_S if message.qos else 0.001)
                return
            except queue.Full:
                if not message.qos:  # a health message: the next one says it again
                    return

    def _on_publish(
        self, _client: Any, _user: Any, mid: int, reason: Any, _properties: Any
    ) -> None:
        self.answers.put((mid, reason.value))


class Publisher:
    """Publishes messages, QoS 1, and returns when the broker has acknowledged them."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        if settings.username is not None:
            self._client.username_pw_set(settings.username, settings.password)
        if settings.url.startswith("mqtts:"):
            self._client.tls_set_context(settings.tls or ssl.create_default_context())

    def open(self) -> None:
        """Connect; a connection that is lost is made again. Raises OSError."""
        self._client.connect(*self._settings.address, KEEPALIVE_S)
        self._client.loop_start()

    def publish(self, messages: Iterable[tuple[str, str]]) -> None:
        """Publish topics and payloads. Raises OSError where the broker does not take them."""
        sent = [self._client.publish(topic, payload, qos=1) for topic, payload in messages]
        for info in sent:
            with suppress(RuntimeError):  # while it is not connected
                info.wait_for_publish(CONNECT_S)
            if not info.is_published():
                raise OSError(f"{self._settings.url}: the broker does not acknowledge")

    def close(self) -> None:
        """Say goodbye."""
        self._client.disconnect()
        end_thread(self._client)


def utc_now() -> str:
    """Return the time as it stands in the tables."""
    return utc_text(time.time())


def utc_text(at_s: float) -> str:
    """Return a time, seconds since 1970, as it stands in the tables."""
    instant = datetime.fromtimestamp(at_s, tz=UTC)
    return instant.strftime("%Y-%m-%dT%H:%M:%S.") + f"{instant.microsecond // 1000:03d}Z"
