"""A broker and a city in memory: the uplink's far side, for tests that try any order of events.

`Client` stands in for paho's, so that the real uplink runs against this without a network, a thread
or a clock. The world does nothing by itself: a test says what happens when. What it holds against
the uplink is told with AssertionError, at the moment at which it is sent.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
PAYLOAD_FORMAT_INVALID = 0x99
LANES = ("alert", "live", "backlog")

Key = tuple[str, str, int]  # run, stream, number


@dataclass(slots=True)
class Flight:
    """A message that the broker has received and not yet answered."""

    mid: int
    topic: str  # below the gateway's root
    size_bytes: int
    run: str
    bodies: list[dict[str, Any]]

    @property
    def keys(self) -> list[Key]:
        """Every number in it."""
        return [
            (self.run, body["stream"], seq)
            for body in self.bodies
            for seq in range(body.get("first", body["seq"]), body["seq"] + 1)
        ]

    @property
    def record_keys(self) -> list[Key]:
        """The numbers of the records in it: gaps do not count."""
        return [
            (self.run, body["stream"], body["seq"]) for body in self.bodies if "gap" not in body
        ]


@dataclass(slots=True)
class City:
    """Holds what it was given: at first in memory, and durably once it commits."""

    durable: dict[Key, str] = field(default_factory=dict)  # "" or why it is lost
    memory: dict[Key, str] = field(default_factory=dict)
    bodies: dict[Key, dict[str, Any]] = field(default_factory=dict)
    inbox: list[Flight] = field(default_factory=list)
    receipts: dict[tuple[str, str], int] = field(default_factory=dict)  # retained by the broker
    on_way: list[tuple[str, str, int]] = field(default_factory=list)

    def take(self) -> None:
        """Take what the broker has for it into memory."""
        for flight in self.inbox:
            for body in flight.bodies:
                for seq in range(body.get("first", body["seq"]), body["seq"] + 1):
                    key = (flight.run, body["stream"], seq)
                    # What came wins over a gap.
                    why = body.get("gap", "")
                    self.memory[key] = "" if self.durable.get(key, why) == "" else why
                    if not why:
                        _expect(self.bodies.setdefault(key, body) == body, "a sent record changed")
        self.inbox.clear()

    def commit(self) -> None:
        """Hold what is in memory durably, and write the receipts."""
        self.durable |= self.memory
        for run, stream in dict.fromkeys((run, stream) for run, stream, _ in self.memory):
            through = 0
            while (run, stream, through + 1) in self.durable:
                through += 1
            self.receipts[run, stream] = through
            self.on_way.append((run, stream, through))
        self.memory.clear()

    def crash(self) -> None:
        """Lose what was not committed."""
        self.memory.clear()


class World:
    """Brokers that share one city."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.city = City()
        self.clients: list[Client] = []
        self.down: set[str] = set()  # hosts
        self.refused: dict[str, int] = {}  # topic -> reason code
        self.receive_maximum: int | None = None
        self.packet_bytes: int | None = None
        self.inflight = 0  # what the uplink allows itself
        self.flights: dict[int, Flight] = {}
        self.window = 0
        self.on_send: Callable[[Flight], None] = lambda _flight: None
        self.auto = False  # answer each message at once

    @property
    def session(self) -> Client | None:
        """The client that is connected now."""
        return next((client for client in self.clients[-1:] if client.is_connected), None)

    @property
    def host(self) -> str:
        """Whose client it is."""
        return "" if self.session is None else self.session.host

    def new_client(self) -> Client:
        """Make what the uplink takes for paho's client."""
        self.clients.append(Client(self))
        del self.clients[:-3]
        return self.clients[-1]

    def answers(self, url: str) -> bool:
        """Tell whether a broker accepts connections."""
        return all(f"//{host}" not in url for host in self.down)

    def accept(self, client: Client) -> None:
        """Take a client in: all that was on its way before is gone."""
        self.flights.clear()
        self.window = min(self.inflight, self.receive_maximum or self.inflight)
        client.is_connected = True
        limits = SimpleNamespace(
            ReceiveMaximum=self.receive_maximum, MaximumPacketSize=self.packet_bytes
        )
        client.on_connect(client, None, None, _code(PacketTypes.CONNACK, SUCCESS), limits)

    def lose(self, code: int) -> None:
        """End the connection; what was in flight is lost."""
        client = self.session
        if client is not None:
            client.is_connected = False
            self.flights.clear()
            client.on_disconnect(client, None, None, _code(PacketTypes.DISCONNECT, code), None)

    def receive(self, client: Client, mid: int, topic: str, payload: bytes) -> None:
        """Receive a message of records."""
        text = zlib.decompress(payload) if payload[:1] == b"\x78" else payload
        batch = json.loads(text)
        flight = Flight(mid, topic, len(payload), batch["run"], batch["records"])
        _expect(batch["gateway"] == self.root.rpartition("/")[2], "of another gateway")
        _expect(batch["kind"] == topic.partition("/")[2], "on the topic of another kind")
        self.flights[mid] = flight
        _expect(len(self.flights) <= self.window, f"too many in flight: {self.flights}")
        self.on_send(flight)
        if self.auto:
            self.answer(mid)

    def code_of(self, flight: Flight) -> int:
        """Say how a broker answers a message."""
        if any(body.get("values", {}).get("poison") for body in flight.bodies):
            return PAYLOAD_FORMAT_INVALID
        return self.refused.get(flight.topic, SUCCESS)

    def answer(self, mid: int, *, is_heard: bool = True) -> None:
        """Answer a message, and give it to the city if it is taken."""
        flight, client = self.flights.pop(mid), self.session
        code = self.code_of(flight)
        if code == SUCCESS:
            self.city.inbox.append(flight)
        if client is not None:
            client.codes[mid] = code
        if client is not None and is_heard:
            client.on_publish(client, None, mid, _code(PacketTypes.PUBACK, code), None)

    def power_cut(self) -> None:
        """The gateway's: nobody is connected any more, and nobody hears of it."""
        for client in self.clients:
            client.is_connected = False
        self.flights.clear()

    def answer_twice(self, mid: int, *, is_old: bool) -> None:
        """Acknowledge what nobody waits for, or through a client of an earlier connection."""
        client = self.clients[0] if is_old and self.clients else self.session
        if client is not None and mid in client.codes:
            client.on_publish(client, None, mid, _code(PacketTypes.PUBACK, client.codes[mid]), None)

    def tell_receipts(self) -> None:
        """Give the receipts on their way to whoever is connected."""
        for run, stream, through in self.city.on_way:
            self.tell_receipt(run, stream, json.dumps({"through": through}).encode())
        self.city.on_way.clear()

    def tell_receipt(
        self, run: str, stream: str, payload: bytes, *, retained: bool = False
    ) -> None:
        """Give a receipt to the client, if it listens."""
        client = self.session
        if client is not None and client.hears_receipts:
            topic = f"{self.root}/receipt/{run}/{stream}"
            message = SimpleNamespace(topic=topic, payload=payload, retain=retained)
            client.on_message(client, None, message)


class Client:
    """What the uplink uses of paho's client."""

    on_connect: Callable[..., None]
    on_disconnect: Callable[..., None]
    on_publish: Callable[..., None]
    on_message: Callable[..., None]
    connect_timeout: float

    def __init__(self, world: World) -> None:
        self._world = world
        self._mid = 0
        self.host = ""
        self.is_connected = False
        self.hears_receipts = False
        self.codes: dict[int, int] = {}  # the answers so far

    def connect(self, host: str, _port: int, _keepalive: int, **_options: Any) -> None:
        """Raise OSError where nobody is."""
        if host in self._world.down:
            raise OSError("nobody there")
        self.host = host

    def loop_start(self) -> None:
        """Where paho starts its thread, the broker accepts."""
        self._world.accept(self)

    def loop_stop(self) -> None:
        """Where paho ends its thread, the connection ends."""
        self.is_connected = False

    def socket(self) -> None:
        """There is none."""

    def max_inflight_messages_set(self, _limit: int) -> None:
        """Paho's own limit: not ours."""

    def will_set(self, *_args: Any, **_options: Any) -> None:
        """Nobody reads it here."""

    def together(self) -> AbstractContextManager[None]:
        """Each message arrives for itself here, as ever."""
        return nullcontext()

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Listen; what is retained comes at once."""
        self.hears_receipts = any("/receipt/" in topic for topic, _ in topics)
        for (run, stream), through in self._world.city.receipts.items():
            payload = json.dumps({"through": through}).encode()
            self._world.tell_receipt(run, stream, payload, retained=True)

    def publish(
        self, topic: str, payload: str | bytes, qos: int = 0, **_options: Any
    ) -> SimpleNamespace:
        """Send; into a connection that ended unnoticed nothing gets through."""
        self._mid += 1
        mid = self._mid
        below = topic.removeprefix(f"{self._world.root}/")
        if self.is_connected and below.partition("/")[0] in LANES and isinstance(payload, bytes):
            _expect(qos == 1, "records leave with QoS 1")
            self._world.receive(self, mid, below, payload)
        elif self.is_connected and qos:
            self.on_publish(self, None, mid, _code(PacketTypes.PUBACK, SUCCESS), None)
        return SimpleNamespace(mid=mid, wait_for_publish=lambda timeout: None)

    def disconnect(self) -> None:
        """Leave in order."""
        self.is_connected = False
        self.on_disconnect(self, None, None, _code(PacketTypes.DISCONNECT, SUCCESS), None)


def _code(packet: int, value: int) -> ReasonCode:
    return ReasonCode(packet, identifier=value)


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise AssertionError(otherwise)
