"""One short conversation with a broker, in the gateway's name and under another client id.

It is held only while the gateway itself is not connected, so that it can throw nobody out, even
where a broker knows its clients by their user name only. It has no last will, subscribes to the
gateway's own topics, which the gateway may, and publishes one thing: an empty message that is not
retained, on `alarm/gateway/doctor`. By the contract an empty alarm means that nothing is raised;
no alert has this name, so nothing changes for anybody who hears it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import way
from .site import Site

if TYPE_CHECKING:
    from paho.mqtt.client import Client

ALARM = "alarm/gateway/doctor"
STEP_S = 0.05
NOBODY = 0x10  # MQTT 5: no matching subscribers
OLD_PROTOCOL = (1, 0x84)
FAILURE = 0x80


@dataclass(slots=True)
class Session:
    """How it went."""

    has_greeted: bool = False  # something that speaks MQTT is there
    protocol: str = ""
    refused: int | None = None  # the CONNACK's code
    refused_words: str = ""
    error: str = ""  # why there was no answer at all
    published: int | None = None  # the PUBACK's code; None: none came
    subscribed: int | None = None  # the SUBACK's code
    round_trip_s: float | None = None
    status: bytes | None = None  # what the broker keeps of the gateway

    @property
    def is_accepted(self) -> bool:
        """Whether the broker took us."""
        return self.has_greeted and self.refused is None


def session(site: Site, url: str) -> Session:
    """Hold the conversation; once."""
    return site.once(f"mqtt {url}", lambda: _session(site, url))


def _session(site: Site, url: str) -> Session:
    plan = site.plan
    if plan is None:
        return Session(error="nothing is configured")
    wanted = plan.loaded.config.uplink.protocol
    first = _talk(site, url, wanted)
    # A broker that knows 3.1.1 only says so, or says nothing at all.
    is_old = first.refused in OLD_PROTOCOL or not first.has_greeted
    if wanted == "5" and is_old:
        second = _talk(site, url, "3.1.1")
        return second if second.has_greeted else first
    return first


def _talk(site: Site, url: str, protocol: str) -> Session:
    told = Session(protocol=protocol)
    try:
        client = _client(site, url, protocol)
    except (OSError, ValueError) as exc:
        told.error = str(exc)
        return told
    try:
        _converse(site, url, client, told)
    except (OSError, ValueError) as exc:
        told.error = told.error or str(exc)
    finally:
        client.disconnect()
        client.loop(STEP_S)
    return told


def _client(site: Site, url: str, protocol: str) -> Client:
    from paho.mqtt import client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    from agent.link import BoundedClient
    from agent.tls import tls_context
    from agent.trust import password

    from .trusted import floor_ns

    assert site.plan is not None  # noqa: S101  (seen before)
    loaded = site.plan.loaded
    uplink = loaded.config.uplink
    client = BoundedClient(
        CallbackAPIVersion.VERSION2,
        client_id=f"{loaded.config.gateway.id}-doctor",
        clean_session=None if protocol == "5" else True,
        protocol=mqtt.MQTTv5 if protocol == "5" else mqtt.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = site.budget.connect_s
    if uplink.username is not None:
        client.username_pw_set(uplink.username, password(uplink, loaded.file))
    if way.target(url).is_tls:
        client.tls_set_context(tls_context(uplink.tls, loaded.file, floor_ns=floor_ns(site)))
    return client


def _converse(site: Site, url: str, client: Client, told: Session) -> None:
    to = way.target(url)
    assert site.plan is not None  # noqa: S101  (seen before)
    config = site.plan.loaded.config
    root = f"{config.uplink.topic_root}/{config.gateway.id}"
    alarm = f"{root}/{ALARM}"
    heard: dict[str, Any] = {}
    sent_s = 0.0

    def on_message(_c: Client, _u: Any, message: Any) -> None:
        if message.topic == alarm:
            heard["alarm"] = time.monotonic()
        elif message.retain:
            heard["status"] = message.payload

    client.on_connect = lambda _c, _u, _f, code, _p: heard.setdefault("connack", code)
    client.on_publish = lambda _c, _u, _m, code, _p: heard.update(puback=code.value)
    client.on_subscribe = lambda _c, _u, _m, codes, _p: heard.update(suback=codes)
    client.on_message = on_message
    until_s = 0.0

    def wait(name: str) -> bool:
        while name not in heard and time.monotonic() < until_s:
            if client.loop(STEP_S) != 0:
                client.loop(STEP_S)  # what came before the end
                break
        return name in heard

    client.connect(to.host, to.port, keepalive=30)
    until_s = time.monotonic() + site.budget.answer_s
    if not wait("connack"):
        told.error = "it takes the connection and does not answer"
        return
    told.has_greeted = True
    until_s = time.monotonic() + site.budget.answer_s
    code = heard["connack"]
    if code.is_failure:
        told.refused, told.refused_words = code.value, str(code)
        return
    client.publish(alarm, b"", qos=1, retain=False)
    told.published = heard["puback"] if wait("puback") else None
    client.subscribe([(alarm, 1), (f"{root}/status", 1)])
    if not wait("suback"):
        return
    told.subscribed = max(each.value for each in heard["suback"])
    if told.subscribed >= FAILURE or told.published is None or told.published >= FAILURE:
        return
    sent_s = time.monotonic()
    client.publish(alarm, b"", qos=1, retain=False)
    if wait("alarm"):
        told.round_trip_s = heard["alarm"] - sent_s
    told.status = heard.get("status")
