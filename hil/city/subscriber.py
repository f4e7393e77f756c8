"""The city's subscriber: hears everything below the topic root and keeps the account of it.

It comes back at once when the broker does, however often; nothing it missed is held against the
broker, only against the account.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from .account import Account, Report
from .payloads import unpack

_RETRY_S = 0.05
_LOOP_S = 0.05
_SESSION_EXPIRY_S = 86400

# topic, payload, the valid records in it
OnMessage = Callable[[str, bytes, list[dict[str, Any]]], None]


class City:
    """A subscriber to TOPIC_ROOT/# with QoS 1 on a thread of its own, from `start` to `close`.

    With `keep_session` the broker keeps messages while it is away and sends again what was not
    acknowledged. `credentials` are user name and password. `on_message` is called on the
    subscriber's thread, after the account was made. With `receipts` it confirms what it has: what
    is in its account counts as durable.
    `also` are the other nodes' addresses where the broker is a cluster: the next one is tried when
    one ends the connection or is not there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        topic_root: str = "yukimi/v1",
        protocol: Literal[5, 311] = 5,
        client_id: str = "city",
        keep_session: bool = False,
        credentials: tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        receipts: bool = False,
        on_message: OnMessage | None = None,
        also: Sequence[tuple[str, int]] = (),
    ) -> None:
        self._addresses = deque([(host, port), *also])  # the first is the present one
        self._topic = f"{topic_root}/#"
        self._is_mqtt5 = protocol == 5
        self._client_id = client_id
        self._keep_session = keep_session
        self._credentials = credentials
        self._tls = tls
        self._receipts = receipts
        self._on_message = on_message
        self._account = Account(topic_root)
        self._changed = threading.Condition()
        self._is_subscribed = False
        self._refusal: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to listen; `wait_subscribed` says when it does."""
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._run, name="city", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Say goodbye to the broker and stop."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            thread.join()

    def wait_subscribed(self, timeout_s: float = 20.0) -> None:
        """Return when the broker has taken the subscription. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_subscribed, timeout_s):
                raise TimeoutError(f"no subscription at {self._addresses[0]}: {self._refusal}")

    def wait_for(self, predicate: Callable[[Account], bool], timeout_s: float) -> bool:
        """Wait until the account is as asked; False if it is not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(self._account), timeout_s)

    @contextmanager
    def locked(self) -> Iterator[Account]:
        """Give the account while no message can change it."""
        with self._changed:
            yield self._account

    def report(self) -> Report:
        """Draw up the account as it stands."""
        with self.locked() as account:
            return account.report()

    def _run(self) -> None:
        client = self._client()
        while not self._stopping.is_set():
            try:
                self._connect(client)
            except OSError as exc:
                self._refusal = str(exc)
                self._addresses.rotate(-1)
                self._stopping.wait(_RETRY_S)
                continue
            while not self._stopping.is_set():
                if client.loop(_LOOP_S) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    break
            self._lose()
            self._addresses.rotate(-1)
            self._stopping.wait(_RETRY_S)
        client.disconnect()

    def _client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if self._is_mqtt5 else not self._keep_session,
            protocol=MQTTProtocolVersion.MQTTv5 if self._is_mqtt5 else MQTTProtocolVersion.MQTTv311,
        )
        if self._credentials is not None:
            client.username_pw_set(*self._credentials)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._heard
        return client

    def _connect(self, client: mqtt.Client) -> None:
        if not self._is_mqtt5:
            client.connect(*self._addresses[0])
            return
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = _SESSION_EXPIRY_S if self._keep_session else 0
        client.connect(
            *self._addresses[0], clean_start=not self._keep_session, properties=properties
        )

    def _connected(
        self, client: mqtt.Client, _user: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
        else:
            client.subscribe(self._topic, qos=1)

    def _subscribed(
        self, _client: Any, _user: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        with self._changed:
            self._is_subscribed = not any(reason.is_failure for reason in reasons)
            self._refusal = ", ".join(str(reason) for reason in reasons)
            self._changed.notify_all()

    def _heard(self, client: mqtt.Client, _user: Any, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        with self._changed:
            records = self._account.take(message.topic, payload, time.time())
            self._changed.notify_all()
        if self._receipts and records:
            self._confirm(client, message.topic, payload, records)
        if self._on_message is not None:
            self._on_message(message.topic, payload, records)

    def _confirm(
        self, client: mqtt.Client, topic: str, payload: bytes, records: list[dict[str, Any]]
    ) -> None:
        """Say up to which number everything is here, of each stream in a message."""
        root = self._topic.removesuffix("#")
        gateway = topic.removeprefix(root).partition("/")[0]
        run = unpack(payload)["run"]
        for stream in sorted({record["stream"] for record in records}):
            through = self._account.held_through(gateway, run, stream)
            client.publish(
                f"{root}{gateway}/receipt/{run}/{stream}",
                json.dumps({"through": through}),
                qos=1,
                retain=True,
            )

    def _lose(self) -> None:
        with self._changed:
            self._is_subscribed = False
            self._changed.notify_all()
