"""The thread that talks to the broker: the outbox decides, paho moves bytes.

Everything that happens comes in on one queue: what paho's thread heard, what the pipeline
committed. An acknowledgement may arrive before `publish` has returned, and is matched here, on the
one thread that publishes.
"""

from __future__ import annotations

import json
import math
import queue
import random
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paho.mqtt import client as mqtt
from paho.mqtt.properties import Properties

from config.model import UplinkTable

from . import certificates, record
from .alerts import alarm_topic
from .health import UplinkHealth
from .history import Outages
from .link import (
    CLOSED,
    CONNECT_TIMEOUT_S,
    HUNG_UP,
    Event,
    Link,
    answers,
    chain_of,
    connect,
    hang_up,
    peer_of,
    publish_properties,
    reason,
    together,
)
from .logs import logger
from .outbox import ALERT_LIMIT, Answer, Lane, Outbox, Send
from .pulse import Pulse
from .record import ALERTS_STREAM, Entry
from .route import Dialect, Protocol, Route
from .spool import Spool, SpoolError
from .trust import Standing

log = logger("uplink")

CONNACK_TIMEOUT_S = 5.0
HEALTH_INTERVAL_S = 60.0  # within which renewed certificates are taken, too
HEALTH_LEEWAY_S = 0.2  # it goes along with records, which the thread wakes for first
CERTIFICATES_S = 6 * 3600.0
SPOOL_RETRY_S = 5.0
SUBSCRIBE_RETRY_S = 30.0
BIRTH_AGAIN_S = 1.0  # between two births because of somebody else's word
FAREWELL_S = 1.0
# Of one step. Three name servers that are silent cost half a minute for each way
# in which a name may be completed, and a restart does not make them talk.
SLACK_S = 300.0
# A connection that held for this long was a good one; before, it may be somebody with our own id.
STABLE_S = 10.0

# Without a clash for so long, the other one is taken to be gone.
ALONE_AFTER_S = 600.0
# A broker that hangs up so often on large messages, and says no reason, gets smaller ones.
HANG_UPS = 3
LEAST_LEARNT_BYTES = 4096
EVENTS_AT_ONCE = 100

UNSUPPORTED_PROTOCOL_VERSION = 0x84
SESSION_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97
PROTOCOL_ERROR = 0x82  # before there is a connection: what paho makes of something else than MQTT
NO_BROKER = (
    "no broker answers there, but something else: another port, or a network's log-in page"
    " (captive portal)?"
)
ENVELOPE_BYTES = 128  # of a PUBLISH beside topic and payload: header, properties


@dataclass(frozen=True, slots=True)
class Fresh:
    """When an entry is live: due at once, or a fixed time after its window's end."""

    offset_s: float
    window_s: Mapping[str, int]  # by stream; the gateway's own leaves at once
    people: frozenset[str] = frozenset()  # the streams whose alerts wait as well


class Uplink:
    """Deliver what the spool holds; `run` is the body of its thread."""

    def __init__(
        self,
        settings: UplinkTable,
        *,
        gateway_id: str,
        spool: Spool,
        fresh: Fresh,
        health: UplinkHealth,
        birth: Callable[[], dict[str, object]],
        health_message: Callable[[], dict[str, object]],
        find_file: Callable[[str], Path],
        utc_ns: Callable[[], int],
        boot_s: Callable[[], float],
        alert: Callable[[str, Mapping[str, object] | None], None] = lambda _name, _values: None,
        expiry_days: int | None = None,
        floor_ns: Callable[[], int | None] = lambda: None,
        system_errs: Callable[[], bool] = lambda: False,
        outages: Outages | None = None,
        left: Callable[[Send], None] = lambda _send: None,
        command: Callable[[str, bytes, bool], None] | None = None,
    ) -> None:
        """`alert` is told of what a person should know: a name and values, None when it is over.

        A certificate that ends within `expiry_days` is such a thing. `floor_ns` tells, while the
        time of day is not known, UTC that has certainly passed; `system_errs`, while it is, whether
        the system's clock says something else. `left` is told of each message that
        the broker has taken, and must neither raise nor wait; nor must `command`, which is told
        what comes on `cmd/`: the rest of the topic, the payload, and whether it was retained.
        """
        self._settings = settings
        self._gateway_id = gateway_id
        self._root = f"{settings.topic_root}/{gateway_id}"
        self._spool = spool
        self._fresh = fresh
        self._health = health
        self._birth = birth
        self._health_message = health_message
        self._utc_ns = utc_ns
        self._boot_s = boot_s
        self._alert = alert
        self._expiry_days = expiry_days
        self._floor_ns = floor_ns
        self._system_errs = system_errs
        self._outages = Outages(boot_s()) if outages is None else outages
        self._left = left
        self._command = command
        self._find_file = find_file
        self._standing = Standing(settings, find_file)
        self._certificates_at_s = 0.0
        self._shown: list[certificates.Expiry] = []  # by the broker, at the last connection
        self._events: queue.Queue[Event] = queue.Queue(maxsize=10_000)
        self._outbox = Outbox(
            inflight=settings.inflight,
            batch_records=settings.batch_records,
            backlog_bytes_per_s=settings.backlog_bytes_per_s,
            require_subscriber=settings.require_subscriber,
            receipt_timeout_s=(
                settings.receipt_timeout_s if settings.confirm == "receipt" else None
            ),
        )
        self._route = Route(settings.brokers, random.SystemRandom())  # jitter must differ by box
        self._dialects = {url: Dialect(settings.protocol) for url in settings.brokers}
        self._link = Link(settings, gateway_id, find_file, self._put)
        self._client: mqtt.Client | None = None
        self._protocol: Protocol = settings.protocol
        self._online = False
        self._packet_bytes: int | None = None  # the largest the broker says it takes
        self._learnt_bytes: dict[str, int] = {}  # by broker: the largest that it let pass
        self._hang_ups: Counter[str] = Counter()
        self._clashed_at_s: float | None = None
        self._subscribe_at_s: float | None = None
        self._births = 0
        self._birth_mid: int | None = None
        self._birth_is_owed = False  # the broker refused it, or it was asked for too often
        self._birth_again_at_s = 0.0
        self._never_acks = False
        self._rejected_streams: set[str] = set()
        self._alarms: dict[str, str] = {}  # topic below our root -> newest record
        self._alarms_later: list[tuple[float, Mapping[str, Any], str]] = []  # when, what; in order
        self._muted: dict[str, set[str]] = {"no_subscriber": set(), "not_authorised": set()}
        self._asked = False  # CONNECT is on its way, and nothing has come back
        self._told_plain: set[str] = set()
        self._told_unreachable: set[tuple[str, str]] = set()  # broker, reason; of this outage
        self._attempt_at_s = 0.0
        self._give_up_at_s = 0.0
        self._health_at_s = 0.0
        self._pack_at_s = 0.0
        self._pump_at_s = 0.0  # not before: the spool could not be read
        self._look_again_s = math.inf  # the spool could not do what was asked of it
        self._mids: dict[int, tuple[int, int]] = {}  # paho's message id -> our token, bytes
        self._drain_s = settings.drain_s
        self._stopping = threading.Event()
        self._missed = threading.Event()  # an event found the queue full
        self.pulse = Pulse(SLACK_S, boot_s())

    # Called by other threads

    def committed(self, entries: list[Entry]) -> None:
        """Tell of entries just committed. Never blocks: what is not told of goes as backlog."""
        self._put(Event("committed", value=entries))

    def rewind(self) -> None:
        """Tell that records which waited for the clock may go now."""
        # The caller alone commits: what is on the disk by now was told of before this event.
        self._put(Event("rewind", value=self._spool.last_id))

    def reply(self, below: str, payload: bytes) -> None:
        """Answer a command, from any thread: topic below the gateway's root, payload."""
        self._put(Event("reply", None, (below, payload)))

    def stop(self, drain_s: float | None = None) -> None:
        """Begin to stop: send what can be sent within `drain_s`, say good-bye, end the thread."""
        if drain_s is not None:
            self._drain_s = drain_s
        self._stopping.set()
        self._put(Event("stop"))

    def lanes(self) -> dict[Lane, tuple[int, int]]:
        """Return messages in flight and records waiting in memory, by lane."""
        return self._outbox.lanes()

    # The thread

    def run(self) -> None:
        """Connect, deliver, reconnect, until stopped."""
        while not self._stopping.is_set():
            self.step()
        self.finish()

    def step(self, patience_s: float | None = None) -> None:
        """Do what it is time for, then take what happens within `patience_s`, else `wait_s`."""
        now_s = self._boot_s()
        if self._client is None and now_s >= self._attempt_at_s:
            self._connect()
        elif self._client is not None and not self._online and now_s >= self._give_up_at_s:
            self._leave("it takes the connection and does not answer")
        elif self._online and self._outbox.ack_overdue(now_s):
            self._never_acks = True
            self._alert("no_ack", {"broker": self._route.broker})
            self._leave("the broker accepts messages and does not acknowledge them")
        elif self._online:
            self._look_around(now_s)
        if self._missed.is_set():
            self._missed.clear()
            self._outbox.rewind(self._spool.last_id)
        if now_s >= self._look_again_s:
            self._look_again_s = math.inf
            self._outbox.rewind()
        self._pack(now_s)
        if now_s >= self._certificates_at_s:
            self._certificates_at_s = now_s + CERTIFICATES_S
            self._look_at_certificates()
        try:
            if now_s >= self._pump_at_s:
                self._pump()
        except SpoolError as exc:
            self._pump_at_s = now_s + SPOOL_RETRY_S
            log.error("spool cannot be read; trying again", error=str(exc))
        try:
            wait_s = self.wait_s() if patience_s is None else patience_s
            self.pulse.beat(self._boot_s(), wait_s)
            self._handle(self._events.get(timeout=wait_s))
            for _ in range(EVENTS_AT_ONCE):
                self._handle(self._events.get_nowait())
        except queue.Empty:
            return

    def _pack(self, now_s: float) -> None:
        """Pack what has waited long; a disk that cannot be written must not keep back the rest."""
        if now_s < self._pack_at_s or not self._spool.is_loose:
            return
        try:
            self._spool.pack(self._outbox.claimed_ids, up_to_id=self._outbox.told_to)
        except SpoolError as exc:
            self._pack_at_s = now_s + SPOOL_RETRY_S
            log.error("spool cannot be packed; trying again", error=str(exc))

    def _look_at_certificates(self) -> None:
        """Say in time which certificate must be renewed; also while nobody can be reached."""
        if self._expiry_days is None:
            return
        if self._floor_ns() is not None:  # the time is not known; nor, then, how long they last
            self._certificates_at_s = self._boot_s() + HEALTH_INTERVAL_S
            return
        found = [*certificates.of_files(self._settings.tls, self._find_file), *self._shown]
        told = certificates.about_to_end(found, self._utc_ns(), self._expiry_days)
        self._alert("certificate_expiring", told)

    def _look_around(self, now_s: float) -> None:
        """Do what time alone asks for while connected."""
        self._show_alarms(now_s)
        if self._clashed_at_s is not None and now_s - self._clashed_at_s > ALONE_AFTER_S:
            self._clashed_at_s = self._health.clash_s = None
            self._route.is_alone()
            self._alert("id_clash", None)
        if self._subscribe_at_s is not None and now_s >= self._subscribe_at_s and self._client:
            self._subscribe(self._client)
        if self._is_minute_over(now_s):
            self._look_at_standing(now_s)
        if self._route.may_return(now_s) and answers(self._route.first):
            log.info("the first broker answers again: going back to it", broker=self._route.first)
            # No good-bye: where the brokers are one cluster, the will is called off in time.
            self._drop_client()
            self._route.go_back()
            self._attempt_at_s = now_s

    def _look_at_standing(self, now_s: float) -> None:
        """Take renewed certificates; leave a broker that was believed without a clock wrongly."""
        standing, known_bad = self._standing, self._standing.why_unusable
        if self._floor_ns() is None and standing.is_refuted(self._utc_ns()):
            self._leave("certificate not accepted: now that the time is known, it is not valid")
        elif standing.is_renewed():
            log.info(
                "certificates or password renewed: connecting with them", broker=self._route.broker
            )
            self._drop_client()
            self._attempt_at_s = now_s
        elif standing.why_unusable not in (None, known_bad):
            log.warning(
                "certificates or password changed and cannot be used; the connection goes on",
                reason=standing.why_unusable,
            )

    @property
    def has_news(self) -> bool:
        """Whether something happened that was not looked at yet."""
        return not self._events.empty()

    @property
    def awaits_broker(self) -> bool:
        """Whether a broker that answers has something to say: to a connection, or a message."""
        return self._client is not None and (not self._online or bool(self._mids))

    def wait_s(self) -> float:
        """Return in how long there is something to do even if nothing happens."""
        now_s = self._boot_s()
        if self._client is None:
            return max(0.0, self._attempt_at_s - now_s)
        if not self._online:
            return max(0.0, self._give_up_at_s - now_s)
        alarm_s = self._alarms_later[0][0] if self._alarms_later else math.inf
        if now_s < self._pump_at_s:
            return max(0.0, min(self._pump_at_s, alarm_s) - now_s)
        next_s = min(self._health_at_s, self._look_again_s, alarm_s)
        return max(0.0, min(self._outbox.wait_s(now_s), next_s - now_s))

    def _handle(self, event: Event) -> None:
        if event.name == "heard":
            self._link.heard.taken(event.value[1])
        if event.client is not None and event.client is not self._client:
            return
        match event.name:
            case "connected":
                self._on_connected(*event.value)
            case "refused":
                self._on_refused(event.value)
            case "lost":
                self._on_lost(event.value)
            case "acked":
                mid, code = event.value
                self._on_acked(mid, code)
            case "heard":
                self._on_heard(*event.value)
            case "deaf":  # a cluster that is choosing a leader, or an access list
                self._subscribe_at_s = self._boot_s() + SUBSCRIBE_RETRY_S
            case "committed":
                for entry in event.value:
                    if entry.stream == ALERTS_STREAM and not entry.is_gap:
                        self._show_alarm(json.loads(entry.body), entry.body)
                self._outbox.committed(self._due(entry) for entry in event.value)
            case "rewind":
                self._outbox.rewind(event.value)
            case "reply":
                self._reply(*event.value)
            case "stop":
                pass  # seen in `run`

    def _put(self, event: Event) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:
            self._missed.set()

    # Connecting

    def _connect(self) -> None:
        url = self._route.broker
        self._protocol = self._dialects[url].ask(self._boot_s())
        self._asked = False
        try:
            will = (f"{self._root}/status", self._offline())
            self._standing.begin()
            floor_ns = self._floor_ns()
            if floor_ns is None and self._system_errs():
                floor_ns = self._utc_ns()  # OpenSSL goes by the system's clock
            client = self._client = self._link.client(url, self._protocol, will, floor_ns=floor_ns)
            self._give_up_at_s = self._boot_s() + CONNECT_TIMEOUT_S + CONNACK_TIMEOUT_S
            connect(client, url, self._protocol)
            if floor_ns is not None:
                self._standing.believed(chain_of(client))
            self._asked = True
            self._give_up_at_s = self._boot_s() + CONNACK_TIMEOUT_S
            client.loop_start()
        except (OSError, ValueError) as exc:
            self._leave(reason(exc))

    def _on_connected(self, receive_maximum: int | None, packet_bytes: int | None) -> None:
        client = self._client
        if client is None:
            return
        url = self._route.broker
        if not self._dialects[url].accepted():
            self._ask_again()
            return
        self._online = True
        self._packet_bytes = packet_bytes
        self._told_unreachable.clear()
        now_s = self._boot_s()
        self._health.broker = url
        self._health.connected_since_s = now_s
        if self._health.first_connected_s is None:
            self._health.first_connected_s = now_s
        self._health.reconnects += 1
        self._health.protocol = self._protocol
        self._health.next_attempt_s = None
        self._outages.end(now_s)
        self._health_at_s = now_s + 1.0
        if self._protocol != self._settings.protocol and url not in self._told_plain:
            self._told_plain.add(url)
            log.warning(
                "broker refuses MQTT 5, using 3.1.1: whether anybody subscribes cannot be told",
                broker=url,
            )
        log.info("connected", broker=url, protocol=self._protocol)
        self._shown = list(certificates.of_peer(*peer_of(client, url)))
        self._certificates_at_s = now_s
        self._route.connected(now_s)
        # Before the birth: the retained status then tells who else was here under our id.
        self._subscribe(client)
        self._write_birth()
        try:
            newest, last_id = self._spool.newest()
            self._alarms.clear()
            self._alarms_later.clear()
            for alarm in self._spool.alarms():
                self._show_alarm(alarm, _json(alarm))
        except SpoolError as exc:
            log.error("spool cannot be read", error=str(exc))
            newest, last_id = [], self._spool.last_id
        self._outbox.connected(
            [self._due(entry) for entry in newest if self._is_fresh(entry)],
            now_s,
            last_id=last_id,
            receive_maximum=receive_maximum,
        )

    def _subscribe(self, client: mqtt.Client) -> None:
        topics = ["status", "alarm/+/+"]
        if self._settings.confirm == "receipt":
            topics.append("receipt/+/+")
        if self._command is not None:
            topics.append("cmd/+/+")
        self._subscribe_at_s = None
        client.subscribe([(f"{self._root}/{topic}", 1) for topic in topics])

    def _on_refused(self, code: Any) -> None:
        self._asked = False  # it answered
        if code.value == UNSUPPORTED_PROTOCOL_VERSION and self._protocol == "5":
            self._dialects[self._route.broker].refused(self._boot_s())
            self._ask_again()
        else:
            self._leave(f"the broker refuses us: {code}")

    def _ask_again(self) -> None:
        """Try the same broker at once, with the other version of MQTT."""
        self._drop_client()
        self._attempt_at_s = 0.0

    def _on_lost(self, code: Any) -> None:
        broker, now_s = self._route.broker, self._boot_s()
        value = getattr(code, "value", None)
        why = str(code)
        # Not every broker says why it hangs up on the one who was there first.
        is_supposed = self._clashed_at_s is not None and why in HUNG_UP
        if self._online and (value == SESSION_TAKEN_OVER or is_supposed):
            self._drop_client()
            wait_s = self._route.clashed()
            self._attempt_at_s = now_s + wait_s
            self._note_failure(now_s, broker, why)
            log.warning("connection lost", broker=broker, reason=why, again_in_s=round(wait_s, 1))
            if value == SESSION_TAKEN_OVER:  # what is only supposed must not prolong the suspicion
                self._clashed()
            return
        self._learn_size(broker, told=value == PACKET_TOO_LARGE, now_s=now_s)
        if value == PROTOCOL_ERROR and not self._online:
            why = NO_BROKER
        self._leave(CLOSED if why in HUNG_UP else why)

    def _clashed(self) -> None:
        """Say that somebody else connects under our id."""
        self._clashed_at_s = self._health.clash_s = self._boot_s()
        log.warning(
            "another gateway uses our id: give each its own [gateway] id",
            id=self._gateway_id,
            broker=self._route.broker,
        )
        self._alert("id_clash", {"id": self._gateway_id})

    def _learn_size(self, broker: str, *, told: bool, now_s: float) -> None:
        """Send smaller messages to a broker that hangs up on large ones."""
        since_s = self._health.connected_since_s
        largest = max((size for _, size in self._mids.values()), default=0)
        soon = since_s is not None and now_s - since_s < STABLE_S
        if not told and not (soon and largest > LEAST_LEARNT_BYTES):
            del self._hang_ups[broker]
            return
        self._hang_ups[broker] += 1
        if told or self._hang_ups[broker] >= HANG_UPS:
            del self._hang_ups[broker]
            self._learnt_bytes[broker] = max(LEAST_LEARNT_BYTES, largest // 2)
            log.warning(
                "broker hangs up on large messages: sending smaller ones",
                broker=broker,
                at_most_bytes=self._learnt_bytes[broker],
            )

    def _leave(self, why: str) -> None:
        """End this connection or attempt, and plan the next."""
        now_s, broker, was_online = self._boot_s(), self._route.broker, self._online
        since_s = self._health.connected_since_s
        lasted = since_s is not None and now_s - since_s >= STABLE_S
        self._drop_client()
        if was_online:
            log.warning("connection lost", broker=broker, reason=why)
        else:
            if self._asked:
                self._dialects[broker].silent(now_s)
            if (broker, why) not in self._told_unreachable:
                self._told_unreachable.add((broker, why))
                log.warning("broker not reachable; trying on", broker=broker, reason=why)
        if lasted:
            self._route.lasted()
        # A broker that held us is asked first again.
        self._attempt_at_s = now_s + self._route.failed(turn=not lasted)
        self._note_failure(now_s, broker, why)

    def _note_failure(self, now_s: float, broker: str, why: str) -> None:
        """Note, for those who look, why there is no connection."""
        self._health.failure = (now_s, broker, why)
        self._health.next_attempt_s = self._attempt_at_s
        self._outages.begin(now_s, why)

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        self._online = False
        self._health.broker = None
        self._health.connected_since_s = None
        self._health.protocol = None
        self._outages.begin(self._boot_s(), "")
        self._mids.clear()
        self._outbox.lost()
        if client is not None:
            hang_up(client)

    # Delivering

    def _pump(self) -> None:
        client = self._client
        if client is None or not self._online:
            return
        now_s = self._boot_s()
        health_too = self._is_minute_over(now_s)
        if health_too:
            self._health_at_s = self._next_minute_s(now_s)
            if lost := self._link.heard.tell_lost():
                log.warning("others write more to us than we take: let go", messages=lost)
            if self._birth_is_owed:
                self._write_birth()
        ready: list[tuple[Send, bytes, bool]] = []
        try:
            while (send := self._next(now_s)) is not None:
                if ready and ready[-1][0].lane != send.lane:
                    self._let_go(client, ready)
                self._prepare(send, ready)
                if send.lane == "alert":  # for nothing that is still to be packed
                    self._let_go(client, ready)
        finally:
            self._let_go(client, ready, health_too=health_too)

    def _next(self, now_s: float) -> Send | None:
        if self._outbox.wants_alerts():
            claimed_ids = self._outbox.claimed_ids
            waiting = self._spool.alerts(ALERT_LIMIT, claimed_ids)
            self._outbox.take_alerts([self._due(entry) for entry in waiting])
        self._fill()
        return self._outbox.next(now_s)

    def _is_minute_over(self, now_s: float) -> bool:
        return now_s >= self._health_at_s - HEALTH_LEEWAY_S

    def _next_minute_s(self, now_s: float) -> float:
        """Return when health is due: in one breath with the records of a minute."""
        into_s = (self._utc_ns() / 1e9 - self._fresh.offset_s) % HEALTH_INTERVAL_S
        left_s = HEALTH_INTERVAL_S - into_s
        if left_s < HEALTH_INTERVAL_S / 4:
            left_s += HEALTH_INTERVAL_S
        return now_s + left_s + HEALTH_LEEWAY_S / 2

    def _fill(self) -> None:
        while (request := self._outbox.wants_page(self._boot_s())) is not None:
            page = self._spool.peek(
                after_id=request.after_id,
                up_to_id=request.up_to_id,
                limit=request.limit,
                parcel_records=request.parcel_records,
                without_kinds=request.without_kinds,
                without_ids=request.without_ids,
            )
            answer = self._outbox.take_page(page)
            if answer is not None:
                self._take_answer(answer, 0)

    def _prepare(self, send: Send, ready: list[tuple[Send, bytes, bool]]) -> None:
        """Pack a message, and count it as sent; or take it back: it is too large."""
        payload, deflate = self._payload(send)
        size_bytes = self._size_bytes(send, payload)
        learnt_bytes = self._learnt_bytes.get(self._route.broker)
        is_single = send.parcel.records == 1
        if (self._packet_bytes and size_bytes > self._packet_bytes) or (
            # Only supposed: never a reason to give a record up.
            learnt_bytes and size_bytes > learnt_bytes and not is_single
        ):
            self._take_answer(self._outbox.too_large(send), PACKET_TOO_LARGE)
            return
        self._outbox.sent(send, len(payload), self._boot_s())
        ready.append((send, payload, deflate))

    def _let_go(
        self,
        client: mqtt.Client,
        ready: list[tuple[Send, bytes, bool]],
        *,
        health_too: bool = False,
    ) -> None:
        """Publish what is ready as one."""
        with together(client):
            for send, payload, deflate in ready:
                properties = self._properties("yukimi.batch/1", deflated=deflate)
                topic = f"{self._root}/{send.topic}"
                info = client.publish(topic, payload, qos=1, properties=properties)
                self._mids[info.mid] = send.token, self._size_bytes(send, payload)
            ready.clear()
            if health_too:
                self._write_health(client)

    def _size_bytes(self, send: Send, payload: bytes) -> int:
        return len(payload) + len(self._root) + 1 + len(send.topic) + ENVELOPE_BYTES

    def _payload(self, send: Send) -> tuple[bytes, bool]:
        """Return a message's bytes, and whether they are deflated."""
        parcel, compress = send.parcel, self._settings.compression
        if parcel.payload is not None:
            if compress == "none":
                return zlib.decompress(parcel.payload), False
            return parcel.payload, True
        payload = record.batch(
            self._gateway_id, parcel.run, parcel.kind, parcel.config_id, parcel.bodies
        )
        if compress == "all" or (compress == "backlog" and send.lane == "backlog"):
            return record.deflated(payload), True
        return payload, False

    def _on_acked(self, mid: int, code: int) -> None:
        if self._never_acks:
            self._never_acks = False
            self._alert("no_ack", None)
        sent = self._mids.pop(mid, None)
        if sent is None:  # the birth's, or an alarm's
            if mid == self._birth_mid:
                self._birth_is_owed = code >= 0x80
            return
        answer = self._outbox.answered(sent[0], code, self._boot_s())
        if answer is not None:
            self._take_answer(answer, code)
            if answer.left is not None:
                self._health.acknowledged_s = self._boot_s()
                if answer.left.parcel.run == self._spool.run:
                    self._health.own_acknowledged_s = self._health.acknowledged_s
                self._left(answer.left)

    def _take_answer(self, answer: Answer, code: int) -> None:
        try:
            self._spool.acknowledge(answer.done, answer.records)
            if answer.unfit:
                self._spool.unpack(answer.unfit)
                self._outbox.rewind()
            if answer.rejected is not None:
                self._give_up(answer.rejected)
        except SpoolError as exc:
            # They stay noted and leave with a later commit; at worst they are sent again. What
            # could not be taken apart or given up is looked at again.
            self._look_again_s = self._boot_s() + SPOOL_RETRY_S
            log.error("acknowledged records cannot be removed yet", error=str(exc))
        if answer.edge:
            self._tell_muted(answer, code)
        if answer.edge and answer.held and code < 0x80:
            log.warning(
                "nobody subscribes: records wait here until somebody does",
                topic=f"{self._root}/{answer.topic}",
            )
        elif answer.edge and answer.held and code == QUOTA_EXCEEDED:
            log.error(
                "the broker's quota for us is used up: records wait here; raise it there, or wait",
                topic=f"{self._root}/{answer.topic}",
                reason=f"0x{code:02x}",
            )
        elif answer.edge and answer.held:
            log.error(
                "the broker refuses the message: records wait here; check what this user may"
                " publish",
                topic=f"{self._root}/{answer.topic}",
                reason=f"0x{code:02x}",
            )
        elif answer.edge:
            log.info("records flow again", topic=f"{self._root}/{answer.topic}")

    def _tell_muted(self, answer: Answer, code: int) -> None:
        """Raise or clear the alerts about topics that are on hold."""
        for name, topics in self._muted.items():
            before = set(topics)
            topics.discard(answer.topic)
            if answer.held and name == ("no_subscriber" if code < 0x80 else "not_authorised"):
                topics.add(answer.topic)
            if topics != before:
                self._health.muted = {why: sorted(each) for why, each in self._muted.items()}
                self._alert(name, {"topics": sorted(topics)} if topics else None)

    def _give_up(self, row_id: int) -> None:
        stream = self._spool.reject(row_id)
        log.error("the broker rejects a record even alone: a gap names it", stream=stream)
        if stream is not None:
            self._rejected_streams.add(stream)
            self._alert("rejected", {"streams": sorted(self._rejected_streams)})
            self._alert("rejected", None)  # it happened; the alert stays in sight for its hold
            self._outbox.rewind()

    def _due(self, entry: Entry) -> tuple[Entry, float]:
        # What is said about people leaves at a fixed time after the window, in whatever record.
        is_about_people = entry.stream == ALERTS_STREAM and entry.kind == "people"
        is_timed = is_about_people or entry.stream in self._fresh.window_s
        if not is_timed or entry.end_ns is None:
            return entry, 0.0
        ago_s = (self._utc_ns() - entry.end_ns) / 1e9
        # A clock that steps must not hold a record back for longer than the offset itself.
        return entry, self._boot_s() + min(self._fresh.offset_s, self._fresh.offset_s - ago_s)

    def _is_fresh(self, entry: Entry) -> bool:
        if entry.end_ns is None:
            return False
        window_s = self._fresh.window_s.get(entry.stream, 60)
        ago_s = (self._utc_ns() - entry.end_ns) / 1e9
        return 0 <= ago_s < 2 * window_s + self._fresh.offset_s

    # Status

    def _offline(self, reason: str | None = None) -> str:
        status = {
            "schema": "yukimi.status/1",
            "state": "offline",
            "gateway": self._gateway_id,
            "run": self._spool.run,
        }
        return _json(status if reason is None else {**status, "reason": reason})

    def _write_birth(self) -> None:
        if self._client is not None:
            self._births += 1
            self._birth_mid = self._write_status(self._client, _json(self._birth())).mid

    def _write_status(self, client: mqtt.Client, payload: str) -> mqtt.MQTTMessageInfo:
        properties = self._properties("yukimi.status/1")
        return client.publish(
            f"{self._root}/status", payload, qos=1, retain=True, properties=properties
        )

    def _write_health(self, client: mqtt.Client) -> None:
        deflate = self._settings.compression == "all"
        properties = self._properties("yukimi.health/1", deflated=deflate)
        plain = _json(self._health_message()).encode()
        payload = record.deflated(plain) if deflate else plain
        client.publish(f"{self._root}/health", payload, qos=0, properties=properties)

    def _properties(self, schema: str, *, deflated: bool = False) -> Properties | None:
        """Say what a payload is; MQTT 3.1.1 has no place for it."""
        return None if self._protocol != "5" else publish_properties(schema, deflated)

    def _on_heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take what somebody wrote below our own root: us, the city, or one like us."""
        below = topic.removeprefix(f"{self._root}/")
        what, _, rest = below.partition("/")
        if what == "status":
            self._on_own_status(payload, retained)
        elif what == "alarm" and payload and not self._is_shown(below):
            self._empty_alarm(*rest.partition("/")[::2])
        elif what == "receipt" and payload:
            self._on_receipt(*rest.partition("/")[::2], payload)
        elif what == "cmd" and self._command is not None:
            self._command(rest, payload, retained)

    def _reply(self, below: str, payload: bytes) -> None:
        """Answer a command; offline, whoever asked asks again."""
        if self._client is not None and self._online:
            properties = self._properties("yukimi.reply/1")
            self._client.publish(f"{self._root}/{below}", payload, qos=1, properties=properties)

    def _empty_alarm(self, sensor: str, name: str) -> None:
        """Empty the topic of an alert that is over since; one about people at its time only."""
        over = {"sensor": sensor, "alert": name, "state": "cleared"}
        if sensor in self._fresh.people:
            self._show_later(self._boot_s() + self._fresh.offset_s, over, "")
        else:
            self._set_alarm(over, "")

    def _on_receipt(self, run: str, stream: str, payload: bytes) -> None:
        try:
            through = json.loads(payload)["through"]
        except (ValueError, KeyError, TypeError):
            through = None
        if type(through) is not int or through < 0:
            log.warning("a receipt makes no sense and is ignored", run=run, stream=stream)
            return
        self._take_answer(self._outbox.receipt(run, stream, through), 0)

    def _show_alarm(self, alert: Mapping[str, Any], body: str) -> None:
        """Show an alert's state, at the time at which its record may leave."""
        due_s = 0.0
        if alert["sensor"] in self._fresh.people:
            ago_s = (self._utc_ns() - record.utc_ns(alert["time"])) / 1e9
            due_s = self._boot_s() + self._fresh.offset_s - max(0.0, ago_s)
        if due_s <= self._boot_s() or not self._online:  # offline, nobody sees it
            self._set_alarm(alert, body)
        else:
            self._show_later(due_s, alert, body)

    def _show_later(self, due_s: float, alert: Mapping[str, Any], body: str) -> None:
        self._alarms_later.append((due_s, alert, body))
        self._alarms_later.sort(key=lambda each: each[0])  # stable: one after the other stays so

    def _show_alarms(self, until_s: float) -> None:
        while self._alarms_later and self._alarms_later[0][0] <= until_s:
            self._set_alarm(*self._alarms_later.pop(0)[1:])

    def _is_shown(self, below: str) -> bool:
        """Tell whether an alert has a state to show, now or in a moment."""
        later = (alarm_topic(alert["sensor"], alert["alert"]) for _, alert, _ in self._alarms_later)
        return below in self._alarms or below in later

    def _set_alarm(self, alert: Mapping[str, Any], body: str) -> None:
        """Show the present state of an alert on its retained topic."""
        below = alarm_topic(alert["sensor"], alert["alert"])
        is_over = alert["state"] == "cleared"
        if is_over:
            self._alarms.pop(below, None)
        else:
            self._alarms[below] = body
        if self._client is not None and self._online:
            self._client.publish(
                f"{self._root}/{below}", b"" if is_over else body, qos=1, retain=True
            )

    def _on_own_status(self, payload: bytes, retained: bool) -> None:
        try:
            status = json.loads(payload)
        except ValueError:
            status = {}
        run = status.get("run") if isinstance(status, dict) else None
        previous = self._spool.previous
        own_runs = (self._spool.run, previous.run if previous else None, None)
        if self._births > 1 and run not in own_runs:
            # In this life we have said who is here, and somebody has written over it.
            self._clashed()
        if retained:
            return  # from before our birth
        online = isinstance(status, dict) and status.get("state") == "online"
        if not online and not self._stopping.is_set():
            now_s = self._boot_s()
            if now_s < self._birth_again_at_s:  # whoever says it all the time gets no flood back
                self._birth_is_owed = True
                return
            self._birth_again_at_s = now_s + BIRTH_AGAIN_S
            log.info("we are said to be offline while we are connected: writing the birth again")
            self._write_birth()

    # Stopping

    def finish(self) -> None:
        """Send what can be sent within `drain_s`, say good-bye if connected."""
        until_s = self._boot_s() + self._drain_s
        self._outbox.drain()
        self._show_alarms(math.inf)
        try:
            while self._online and self._boot_s() < until_s:
                self._pump()
                # The pipeline's last commit may still be on the queue, behind what the broker said.
                if self._outbox.is_quiet and self._events.empty():
                    break
                try:
                    self._handle(self._events.get(timeout=max(0.0, until_s - self._boot_s())))
                except queue.Empty:
                    break
        except SpoolError as exc:
            log.error("spool cannot be read while stopping", error=str(exc))
        self._show_alarms(math.inf)  # of what was committed last
        client = self._client
        if client is not None and self._online:
            with suppress(SpoolError):  # its last figures; the good-bye matters more
                self._write_health(client)
            farewell = self._write_status(client, self._offline("stopped"))
            # If the connection goes in this very moment, the will speaks for us.
            with suppress(RuntimeError, ValueError):
                farewell.wait_for_publish(timeout=FAREWELL_S)
            client.disconnect()
            self._wait_until_closed()
        self._drop_client()

    def _wait_until_closed(self) -> None:
        """Let the DISCONNECT leave: without it the broker would publish the will."""
        until_s = self._boot_s() + FAREWELL_S
        while (left_s := until_s - self._boot_s()) > 0:
            try:
                if self._events.get(timeout=left_s).name == "lost":
                    return
            except queue.Empty:
                return


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
