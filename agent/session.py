"""The connection to a broker, for those who write on it: it is there, or it is not."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .endings import Endings
from .link import publish_properties, together
from .route import Protocol

if TYPE_CHECKING:
    from paho.mqtt import client as mqtt

BATCH = "yukimi.batch/1"


@dataclass(slots=True)
class Session:
    """Who is asked or connected, and how. The uplink alone changes it, on its thread."""

    root: str  # of the gateway's topics
    broker: str
    protocol: Protocol
    client: mqtt.Client | None = None
    is_online: bool = False  # the broker has accepted us
    endings: Endings = field(default_factory=Endings)

    def publish(
        self,
        below: str,
        payload: str | bytes,
        *,
        schema: str | None = None,
        deflated: bool = False,
        qos: int = 1,
        retain: bool = False,
    ) -> mqtt.MQTTMessageInfo:
        """Publish below the gateway's root. There must be a connection."""
        if self.client is None:
            raise RuntimeError("nothing is published while there is no connection")
        properties = None
        if schema is not None and self.protocol == "5":  # MQTT 3.1.1 has no place for it
            properties = publish_properties(schema, deflated)
        info = self.client.publish(
            f"{self.root}/{below}", payload, qos=qos, retain=retain, properties=properties
        )
        self.endings.said(below, info.mid if qos else None, is_record=schema == BATCH)
        return info

    def together(self) -> AbstractContextManager[None]:
        """Let what is published meanwhile leave as one. There must be a connection."""
        if self.client is None:
            raise RuntimeError("nothing is published while there is no connection")
        return together(self.client)
