"""One gateway of the fleet, without a thread: whoever has many of them calls `step` and `serve`.

It does what `agent.uplink` does, decision by decision, with the uplink's own parts; what it leaves
out (TLS, other brokers, receipts, MQTT 3.1.1, a clash of ids) does not happen here.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from zlib import crc32

from paho.mqtt import client as mqtt

from agent import record
from agent.endings import STABLE_S
from agent.fresh import offset_s
from agent.link import Event, Link, connect, hang_up, publish_properties
from agent.outbox import ALERT_LIMIT, SUCCESS, Outbox, Send
from agent.record import ALERTS_STREAM, Entry
from agent.route import Route
from agent.uplink import CONNACK_TIMEOUT_S, HEALTH_INTERVAL_S
from config.model import UplinkTable

from ..senders.gateway import BEGIN_NS, CONFIG_ID, Key, Sender
from .stock import Stock

LATE_S = 2.0  # a pipeline waits for late readings: no two gateways commit in the same instant
LOOK_S = 10.0  # at least so often each is looked at, for the keep-alive
UNWRITTEN_S = 0.05  # until what the socket did not take is tried again
ALERT_SHARE = 0.1  # of the windows


class Doors(Protocol):
    """Where a gateway's sockets are watched."""

    def opened(self, gateway: Gateway, client: mqtt.Client, sock: Any) -> None:
        """Begin to watch."""

    def closed(self, sock: Any) -> None:
        """Watch no longer."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A CONNECT, in seconds of the fleet's clock."""

    planned_s: float  # when the route wanted it
    sent_s: float  # when it was written


@dataclass(slots=True)
class Tale:
    """What one gateway did."""

    gateway: str
    checks: dict[Key, int] = field(default_factory=dict)  # of each body that it committed
    produced: dict[str, dict[str, int]] = field(default_factory=dict)  # by run
    attempts: list[Attempt] = field(default_factory=list)
    refused: int = 0  # attempts at which nobody was there
    connected_s: list[float] = field(default_factory=list)
    lost_s: list[float] = field(default_factory=list)
    caught_up_s: float | None = None  # connected, and nothing from before the return waits
    held: int = 0  # messages that nobody subscribed to, or that the broker refused
    flying_most: int = 0  # messages of records without an acknowledgement at one time


class NoJitter(random.Random):
    """The control: every wait is as long as it may be, for everybody."""

    def uniform(self, _a: float, b: float) -> float:
        """Return the upper end."""
        return b


class Gateway:
    """One of many. Times are seconds of the fleet's clock; it stands at 0 at `BEGIN_NS`."""

    def __init__(
        self,
        sender: Sender,
        settings: UplinkTable,
        *,
        rng: random.Random,
        start_s: float,
        window_s: int,
        doors: Doors,
        clock: Callable[[], float],
        forgets: bool = False,
    ) -> None:
        """Connect first at `start_s`. One that `forgets` loses a record: a control."""
        self.tale = Tale(sender.gateway)
        self._sender = sender
        self._settings = settings
        self._window_s = window_s
        self._doors = doors
        self._clock = clock
        self._forgets = forgets
        self._random = random.Random(sender.gateway)
        self._offset_s = offset_s(sender.gateway, None)
        self._late_s = self._random.uniform(0.0, LATE_S)
        self._events: deque[Event] = deque()
        self._link = Link(settings, sender.gateway, Path, self._events.append)
        self._route = Route(settings.brokers, rng)
        self._outbox = Outbox(
            inflight=settings.inflight,
            batch_records=settings.batch_records,
            backlog_bytes_per_s=settings.backlog_bytes_per_s,
            require_subscriber=settings.require_subscriber,
        )
        self._stock = Stock(sender.gateway, CONFIG_ID)
        self._client: mqtt.Client | None = None
        self._since_s: float | None = None  # connected since
        self._tokens: dict[int, int] = {}  # by paho's message id
        self._attempt_at_s = start_s
        self._give_up_at_s = 0.0
        self._health_at_s = 0.0
        self._closes_at_s = float(window_s)
        self._measures = True
        self._owed_id: int | None = None
        sender.begin_run()
        self._commit(0.0)

    # What whoever has it asks and tells

    @property
    def is_empty(self) -> bool:
        """Whether everything was delivered."""
        return not self._stock

    def next_s(self, now_s: float) -> float:
        """Return when it must be looked at again."""
        times = [now_s + LOOK_S]
        if self._measures:
            times.append(self._closes_at_s + self._late_s)
        if self._client is None:
            times.append(self._attempt_at_s)
        elif self._since_s is None:
            times.append(self._give_up_at_s)
        else:
            times += [self._health_at_s, now_s + self._outbox.wait_s(now_s)]
        if self._client is not None and self._client.want_write():
            times.append(now_s + UNWRITTEN_S)
        return min(times)

    def rest(self) -> None:
        """Measure no more; go on delivering."""
        self._measures = False

    def way_is_open(self, now_s: float) -> None:
        """From now on it can be caught up with what waits."""
        self._owed_id = self._stock.last_id
        self._look_whether_caught_up(now_s)

    def serve(self, client: mqtt.Client, now_s: float) -> None:
        """Read what came for one of its clients."""
        client.loop_read()
        self._handle_events(now_s)

    def step(self, now_s: float) -> None:
        """Do what time alone asks for."""
        while self._measures and now_s >= self._closes_at_s + self._late_s:
            self._measure(now_s)
        if self._client is None and now_s >= self._attempt_at_s:
            self._connect(now_s)
        elif self._client is not None and self._is_silent(now_s):
            self._leave(now_s)
        if self._client is not None:
            self._client.loop_misc()
            if self._client is not None and self._client.want_write():
                self._client.loop_write()
        self._handle_events(now_s)

    def _is_silent(self, now_s: float) -> bool:
        """Tell whether the broker owes an answer for too long."""
        if self._since_s is None:
            return now_s >= self._give_up_at_s
        return self._outbox.ack_overdue(now_s)

    def finished(self) -> Tale:
        """Return what it did."""
        truth = self._sender.truth
        self.tale.checks = {key: crc32(body.encode()) for key, body in truth.bodies.items()}
        self.tale.produced = truth.produced
        return self.tale

    # Measuring

    def _measure(self, now_s: float) -> None:
        self._sender.close_windows(BEGIN_NS + round(self._closes_at_s * 1e9))
        if self._random.random() < ALERT_SHARE:
            self._sender.raise_alert()
        self._closes_at_s += self._window_s
        self._commit(now_s)

    def _commit(self, now_s: float) -> None:
        committed, self._sender.waiting = self._sender.waiting, []
        if self._forgets and len(committed) > 1:
            self._forgets = False
            committed.pop()
        entries = self._stock.append(committed, self._sender.now_ns)
        self._outbox.committed(self._due(entry, now_s) for entry in entries)

    def _due(self, entry: Entry, now_s: float) -> tuple[Entry, float]:
        if entry.stream in (ALERTS_STREAM, record.GATEWAY_STREAM):
            return entry, 0.0
        return entry, now_s + min(self._offset_s, self._offset_s - self._ago_s(entry, now_s))

    def _ago_s(self, entry: Entry, now_s: float) -> float:
        return now_s - ((entry.end_ns or BEGIN_NS) - BEGIN_NS) / 1e9

    # Connecting

    def _connect(self, now_s: float) -> None:
        url = self._route.broker
        will = {
            "schema": "yukimi.status/1",
            "state": "offline",
            "gateway": self._sender.gateway,
            "run": self._sender.run,
        }
        client = self._link.client(url, "5", (f"{self._sender.root}/status", json.dumps(will)))
        client.on_socket_open = lambda _c, _u, sock: self._doors.opened(self, client, sock)
        client.on_socket_close = lambda _c, _u, sock: self._doors.closed(sock)
        self._client = client
        self._give_up_at_s = now_s + CONNACK_TIMEOUT_S
        try:
            connect(client, url, "5")
        except OSError:
            self.tale.refused += 1
            self._leave(now_s)
        else:
            self.tale.attempts.append(Attempt(self._attempt_at_s, self._clock()))

    def _leave(self, now_s: float) -> None:
        client, self._client = self._client, None
        if self._since_s is not None:
            self.tale.lost_s.append(now_s)
        lasted = self._since_s is not None and now_s - self._since_s >= STABLE_S
        self._since_s = None
        self._tokens.clear()
        self._outbox.lost()
        if client is not None:
            hang_up(client)
        if lasted:
            self._route.lasted()
        self._attempt_at_s = now_s + self._route.failed(turn=not lasted)

    def _on_connected(self, client: mqtt.Client, receive_maximum: int | None, now_s: float) -> None:
        self._since_s = now_s
        self.tale.connected_s.append(now_s)
        self._health_at_s = now_s + 1.0
        self._route.connected(now_s)
        root = self._sender.root
        client.subscribe([(f"{root}/status", 1), (f"{root}/alarm/+/+", 1)])
        self._write_birth(client)
        fresh_s = 2 * self._window_s + self._offset_s
        newest = [each for each in self._stock.newest() if self._ago_s(each, now_s) < fresh_s]
        self._outbox.connected(
            [self._due(entry, now_s) for entry in newest],
            now_s,
            last_id=self._stock.last_id,
            receive_maximum=receive_maximum,
        )
        self._look_whether_caught_up(now_s)

    def _write_birth(self, client: mqtt.Client) -> None:
        properties = publish_properties("yukimi.status/1", False)
        birth = json.dumps(self._sender.birth(), ensure_ascii=False)
        client.publish(f"{self._sender.root}/status", birth, 1, True, properties)

    # Delivering

    def _handle_events(self, now_s: float) -> None:
        while self._events:
            event = self._events.popleft()
            if event.client is not self._client or event.client is None:
                continue
            match event.name:
                case "connected":
                    self._on_connected(event.client, event.value[0], now_s)
                case "refused" | "lost":
                    self._leave(now_s)
                case "acked":
                    mid, code = event.value
                    self._on_acked(mid, code, now_s)
                case "heard":
                    self._on_heard(event.client, *event.value)
        if self._client is not None and self._since_s is not None:
            self._pump(self._client, now_s)

    def _on_heard(self, client: mqtt.Client, topic: str, payload: bytes, is_retained: bool) -> None:
        is_status = topic.endswith("/status") and not is_retained
        if is_status and json.loads(payload)["state"] == "offline":
            self._write_birth(client)

    def _on_acked(self, mid: int, code: int, now_s: float) -> None:
        token = self._tokens.pop(mid, None)
        answer = None if token is None else self._outbox.answered(token, code, now_s)
        if answer is not None:
            self.tale.held += code != SUCCESS
            self._stock.acknowledge(answer.done)
            self._look_whether_caught_up(now_s)

    def _look_whether_caught_up(self, now_s: float) -> None:
        if self._owed_id is None or self._since_s is None:
            return
        oldest_id = self._stock.oldest_id
        if oldest_id is None or oldest_id > self._owed_id:
            self._owed_id = None
            self.tale.caught_up_s = now_s

    def _pump(self, client: mqtt.Client, now_s: float) -> None:
        if now_s >= self._health_at_s:
            self._health_at_s = now_s + HEALTH_INTERVAL_S
            self._write_health(client)
        while True:
            if self._outbox.wants_alerts():
                waiting = self._stock.alerts(ALERT_LIMIT, self._outbox.claimed_ids)
                self._outbox.take_alerts([(entry, 0.0) for entry in waiting])
            while (request := self._outbox.wants_page(now_s)) is not None:
                self._outbox.take_page(self._stock.peek(request))
            send = self._outbox.next(now_s)
            if send is None:
                return
            self._publish(client, send, now_s)

    def _publish(self, client: mqtt.Client, send: Send, now_s: float) -> None:
        parcel, is_backlog = send.parcel, send.lane == "backlog"
        payload = record.batch(
            self._sender.gateway, parcel.run, parcel.kind, parcel.config_id, parcel.bodies
        )
        if is_backlog:
            payload = record.deflated(payload)
        properties = publish_properties("yukimi.batch/1", is_backlog)
        topic = f"{self._sender.root}/{send.topic}"
        self._tokens[client.publish(topic, payload, 1, properties=properties).mid] = send.token
        self._outbox.sent(send, len(payload), now_s)
        self.tale.flying_most = max(self.tale.flying_most, len(self._tokens))

    def _write_health(self, client: mqtt.Client) -> None:
        health = self._sender.health()
        health["spool"]["waiting"] = len(self._stock)
        client.publish(f"{self._sender.root}/health", json.dumps(health), qos=0)
