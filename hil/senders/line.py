"""One connection of a simulated gateway, driven by the sender's own thread."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

if TYPE_CHECKING:
    from .gateway import Entry, Sender

INFLIGHT = 16
NOBODY_SUBSCRIBES = 0x10


class Line:
    """One connection of a sender, driven by its own thread."""

    def __init__(self, sender: Sender, cut_after: int | None) -> None:
        self._sender = sender
        self._left = cut_after
        self._is_online = False
        self._is_lost = False
        self._flying: dict[int, list[Entry]] = {}
        self._acked: list[tuple[int, int]] = []
        client = self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=sender.gateway,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.on_connect = self._connected
        client.on_disconnect = self._lost
        client.on_publish = self._published
        client.on_message = self._heard

    def deliver(self, until_s: float) -> bool:
        """Send what waits until then; True when nothing waits any more. Raises OSError."""
        sender = self._sender
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0
        self._client.connect(*sender.address, clean_start=True, properties=properties)
        while not self._is_online and time.monotonic() < until_s and not self._is_lost:
            self._client.loop(0.05)
        if not self._is_online:
            return False
        if sender.confirm == "receipt":
            self._client.subscribe(f"{sender.root}/receipt/+/+", qos=1)
        self._write(f"{sender.root}/status", sender.birth(), retain=True)
        self._write(f"{sender.root}/health", sender.health(), qos=0)
        while sender.waiting and time.monotonic() < until_s and not self._is_lost:
            round_until_s = time.monotonic() + sender.receipt_timeout_s
            if not self._send_all(until_s):
                return False
            while sender.waiting and time.monotonic() < min(round_until_s, until_s):
                self._turn()
                if self._is_lost or sender.confirm == "broker":
                    break  # nobody subscribes: try again
        return not sender.waiting

    def close(self) -> None:
        """Say goodbye, if there is anybody."""
        with suppress(OSError):
            self._client.disconnect()

    def _send_all(self, until_s: float) -> bool:
        messages = self._sender.messages()
        is_over = False
        while not is_over or self._flying:
            while not is_over and len(self._flying) < INFLIGHT:
                message = next(messages, None)
                if message is None:
                    is_over = True
                    break
                topic, payload, entries = message
                self._flying[self._client.publish(topic, payload, qos=1).mid] = entries
                if self._left is not None:
                    self._left -= 1
                    if self._left < 0:
                        self._tear()
                        return False
            self._turn()
            if self._is_lost or time.monotonic() > until_s:
                return False
        return True

    def _tear(self) -> None:
        """End the connection as a power cut does: nothing is said."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._is_lost = True

    def _turn(self) -> None:
        if self._client.loop(0.02) != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._is_lost = True
        acked, self._acked = self._acked, []
        for mid, code in acked:
            entries = self._flying.pop(mid, None)
            if entries and code < NOBODY_SUBSCRIBES and self._sender.confirm == "broker":
                self._sender.done(entries)

    def _write(self, topic: str, document: object, *, qos: int = 1, retain: bool = False) -> None:
        self._client.publish(topic, json.dumps(document, ensure_ascii=False), qos, retain)

    def _connected(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        self._is_online = not reason.is_failure

    def _lost(self, *_: Any) -> None:
        self._is_lost = True

    def _published(self, _c: Any, _u: Any, mid: int, reason: Any, _p: Any) -> None:
        self._acked.append((mid, reason.value))

    def _heard(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        if message.payload:
            run, stream = message.topic.split("/")[-2:]
            self._sender.receipt(run, stream, json.loads(message.payload)["through"])
