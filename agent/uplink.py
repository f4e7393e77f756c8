"""The thread that talks to the broker: it connects, listens, and comes back.

Everything that happens comes in on one queue: what paho's thread heard, what the pipeline
committed. What is done about it is in parts, all of them on this thread: `Delivery` of records,
`AlarmTopics` and `Presence` for what is retained. They write on one `Session`.
"""

from __future__ import annotations

import json
import math
import queue
import random
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.model import UplinkTable

from . import certificates
from .alarmtopics import AlarmTopics
from .delivery import SPOOL_RETRY_S, Delivery
from .endings import STABLE_S
from .fresh import Fresh
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
    reason,
)
from .logs import logger
from .outbox import Lane, Outbox, Send
from .packetsize import PACKET_TOO_LARGE, PacketSizes
from .presence import Presence, json_text
from .pulse import Pulse
from .record import ALERTS_STREAM, Entry
from .route import Dialect, Route
from .session import Session
from .spool import Spool, SpoolError
from .trust import Standing

if TYPE_CHECKING:
    from paho.mqtt import client as mqtt

log = logger("uplink")

CONNACK_TIMEOUT_S = 5.0
HEALTH_INTERVAL_S = 60.0  # within which renewed certificates are taken, too
HEALTH_LEEWAY_S = 0.2  # it goes along with records, which the thread wakes for first
CERTIFICATES_S = 6 * 3600.0
SUBSCRIBE_RETRY_S = 30.0
FAREWELL_S = 1.0
# Of one step. Three name servers that are silent cost half a minute for each way
# in which a name may be completed, and a restart does not make them talk.
SLACK_S = 300.0
EVENTS_AT_ONCE = 100

UNSUPPORTED_PROTOCOL_VERSION = 0x84
SESSION_TAKEN_OVER = 0x8E
PROTOCOL_ERROR = 0x82  # before there is a connection: what paho makes of something else than MQTT
NO_BROKER = (
    "no broker answers there, but something else: another port, or a network's log-in page"
    " (captive portal)?"
)


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
        self._spool = spool
        self._health = health
        self._utc_ns = utc_ns
        self._boot_s = boot_s
        self._alert = alert
        self._expiry_days = expiry_days
        self._floor_ns = floor_ns
        self._system_errs = system_errs
        self._outages = Outages(boot_s()) if outages is None else outages
        self._command = command
        self._find_file = find_file
        self._standing = Standing(settings, find_file)
        self._certificates_at_s = 0.0
        self._shown: list[certificates.Expiry] = []  # by the broker, at the last connection
        self._events: queue.Queue[Event] = queue.Queue(maxsize=10_000)
        self._stopping = threading.Event()
        self._missed = threading.Event()  # an event found the queue full
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
        root = f"{settings.topic_root}/{gateway_id}"
        self._offset_s = fresh.offset_s
        self._session = Session(root, self._route.broker, settings.protocol)
        self._sizes = PacketSizes()
        self._delivery = Delivery(
            self._session,
            settings=settings,
            gateway_id=gateway_id,
            spool=spool,
            outbox=self._outbox,
            sizes=self._sizes,
            fresh=fresh,
            health=health,
            utc_ns=utc_ns,
            boot_s=boot_s,
            alert=alert,
            left=left,
        )
        self._alarms = AlarmTopics(self._session, fresh, utc_ns, boot_s)
        self._presence = Presence(
            self._session,
            gateway_id=gateway_id,
            spool=spool,
            health=health,
            birth=birth,
            health_message=health_message,
            deflates=settings.compression == "all",
            boot_s=boot_s,
            is_stopping=self._stopping.is_set,
            alert=alert,
        )
        self._never_acks = False
        self._subscribe_at_s: float | None = None
        self._unheard: tuple[str, list[str]] = ("", [])  # what which broker does not let us hear
        self._asked = False  # CONNECT is on its way, and nothing has come back
        self._told_plain: set[str] = set()
        self._told_unreachable: set[tuple[str, str]] = set()  # broker, reason; of this outage
        self._attempt_at_s = 0.0
        self._give_up_at_s = 0.0
        self._health_at_s = 0.0
        self._pump_at_s = 0.0  # not before: the spool could not be read
        self._drain_s = settings.drain_s
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
        session = self._session
        if session.client is None and now_s >= self._attempt_at_s:
            self._connect()
        elif session.client is not None and not session.is_online and now_s >= self._give_up_at_s:
            self._leave("it takes the connection and does not answer")
        elif session.is_online and self._outbox.ack_overdue(now_s):
            self._never_acks = True
            self._alert("no_ack", {"broker": self._route.broker})
            self._leave("the broker accepts messages and does not acknowledge them", vain=True)
        elif session.is_online:
            self._look_around(now_s)
        if self._missed.is_set():
            self._missed.clear()
            self._outbox.rewind(self._spool.last_id)
        self._delivery.tidy(now_s)
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
        self._alarms.show_due(now_s)
        if self._session.endings.is_sound(now_s - (self._health.connected_since_s or now_s)):
            self._tell_sound()
        if self._presence.is_alone_again(now_s):
            self._route.is_alone()
        client = self._session.client
        if self._subscribe_at_s is not None and now_s >= self._subscribe_at_s and client:
            self._subscribe(client)
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
        session = self._session
        return session.client is not None and (
            not session.is_online or self._delivery.is_unanswered
        )

    def wait_s(self) -> float:
        """Return in how long there is something to do even if nothing happens."""
        now_s = self._boot_s()
        if self._session.client is None:
            return max(0.0, self._attempt_at_s - now_s)
        if not self._session.is_online:
            return max(0.0, self._give_up_at_s - now_s)
        alarm_s = self._alarms.next_s
        if now_s < self._pump_at_s:
            return max(0.0, min(self._pump_at_s, alarm_s) - now_s)
        next_s = min(self._health_at_s, alarm_s)
        return max(0.0, min(self._delivery.wait_s(now_s), next_s - now_s))

    def _handle(self, event: Event) -> None:
        if event.name == "heard":
            self._link.heard.taken(event.value[1])
        if event.client is not None and event.client is not self._session.client:
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
            case "subscribed":
                self._on_subscribed(event.value)
            case "committed":
                for entry in event.value:
                    if entry.stream == ALERTS_STREAM and not entry.is_gap:
                        self._alarms.show(json.loads(entry.body), entry.body)
                self._delivery.committed(event.value)
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
        url, session = self._route.broker, self._session
        session.broker, session.protocol = url, self._dialects[url].ask(self._boot_s())
        self._asked = False
        try:
            will = self._presence.will()
            self._standing.begin()
            floor_ns = self._floor_ns()
            if floor_ns is None and self._system_errs():
                floor_ns = self._utc_ns()  # OpenSSL goes by the system's clock
            client = self._link.client(url, session.protocol, will, floor_ns=floor_ns)
            session.client = client
            self._give_up_at_s = self._boot_s() + CONNECT_TIMEOUT_S + CONNACK_TIMEOUT_S
            connect(client, url, session.protocol)
            if floor_ns is not None:
                self._standing.believed(chain_of(client))
            self._asked = True
            self._give_up_at_s = self._boot_s() + CONNACK_TIMEOUT_S
            client.loop_start()
        except (OSError, ValueError) as exc:
            self._leave(reason(exc))

    def _on_connected(self, receive_maximum: int | None, packet_bytes: int | None) -> None:
        session, client = self._session, self._session.client
        if client is None:
            return
        url = session.broker
        if not self._dialects[url].accepted():
            self._ask_again()
            return
        session.is_online = True
        self._sizes.told_bytes = packet_bytes
        self._told_unreachable.clear()
        now_s = self._boot_s()
        self._health.broker = url
        self._health.connected_since_s = now_s
        if self._health.first_connected_s is None:
            self._health.first_connected_s = now_s
        self._health.reconnects += 1
        self._health.protocol = session.protocol
        self._health.next_attempt_s = None
        self._outages.end(now_s)
        self._health_at_s = now_s + 1.0
        if session.protocol != self._settings.protocol and url not in self._told_plain:
            self._told_plain.add(url)
            log.warning(
                "broker refuses MQTT 5, using 3.1.1: whether anybody subscribes cannot be told",
                broker=url,
            )
        session.endings.begin()
        if session.endings.trouble(url) is None:  # else it is told once it holds
            log.info("connected", broker=url, protocol=session.protocol)
        self._shown = list(certificates.of_peer(*peer_of(client, url)))
        self._certificates_at_s = now_s
        self._route.connected(now_s)
        # Before the birth: the retained status then tells who else was here under our id.
        self._subscribe(client)
        self._presence.say_birth()
        try:
            newest, last_id = self._spool.newest()
            self._alarms.forget()
            for alarm in self._spool.alarms():
                self._alarms.show(alarm, json_text(alarm))
        except SpoolError as exc:
            log.error("spool cannot be read", error=str(exc))
            newest, last_id = [], self._spool.last_id
        self._delivery.connected(newest, last_id, receive_maximum, now_s)

    def _subscribe(self, client: mqtt.Client) -> None:
        self._subscribe_at_s = None
        client.subscribe([(f"{self._session.root}/{topic}", 1) for topic in self._wanted()])

    def _wanted(self) -> list[str]:
        """Return what we listen to, below our root."""
        topics = ["status", "alarm/+/+"]
        if self._settings.confirm == "receipt":
            topics.append("receipt/+/+")
        if self._command is not None:
            topics.append("cmd/+/+")
        return topics

    def _on_subscribed(self, refused: list[bool]) -> None:
        broker, (_, known) = self._session.broker, self._unheard
        topics = [topic for topic, is_so in zip(self._wanted(), refused, strict=False) if is_so]
        is_told = self._unheard == (broker, topics)
        self._unheard = (broker, topics)
        if topics:  # an access list, or a cluster that is choosing a leader
            self._subscribe_at_s = self._boot_s() + SUBSCRIBE_RETRY_S
        if topics and not is_told:
            log.warning(
                "the broker does not let us listen: check what this user may subscribe to",
                broker=broker,
                topics=topics,
            )
        elif known and not topics:
            log.info("the broker lets us listen", broker=broker)

    def _on_refused(self, code: Any) -> None:
        self._asked = False  # it answered
        if code.value == UNSUPPORTED_PROTOCOL_VERSION and self._session.protocol == "5":
            self._dialects[self._route.broker].refused(self._boot_s())
            self._ask_again()
        else:
            self._leave(f"the broker refuses us: {code}")

    def _ask_again(self) -> None:
        """Try the same broker at once, with the other version of MQTT."""
        self._drop_client()
        self._attempt_at_s = 0.0

    def _on_lost(self, code: Any) -> None:
        broker, is_online, now_s = self._route.broker, self._session.is_online, self._boot_s()
        value = getattr(code, "value", None)
        why = str(code)
        # Not every broker says why it hangs up on the one who was there first.
        is_supposed = self._presence.is_clashing and why in HUNG_UP
        if is_online and (value == SESSION_TAKEN_OVER or is_supposed):
            self._drop_client()
            wait_s = self._route.clashed()
            self._attempt_at_s = now_s + wait_s
            self._note_failure(now_s, broker, why)
            log.warning("connection lost", broker=broker, reason=why, again_in_s=round(wait_s, 1))
            if value == SESSION_TAKEN_OVER:  # what is only supposed must not prolong the suspicion
                self._presence.clashed()
            return
        since_s = self._health.connected_since_s
        # Who hangs up on what is small, and came before, does not mind the size of records.
        is_about_records = self._session.endings.is_about_records
        self._sizes.hung_up(
            broker,
            largest_bytes=self._delivery.largest_bytes if is_about_records else 0,
            told=value == PACKET_TOO_LARGE,
            soon=since_s is not None and now_s - since_s < STABLE_S,
        )
        if value == PROTOCOL_ERROR and not is_online:
            why = NO_BROKER
        self._leave(CLOSED if why in HUNG_UP else why)

    def _leave(self, why: str, *, vain: bool = False) -> None:
        """End this connection or attempt, and plan the next; `vain`: it did not acknowledge."""
        now_s, broker, was_online = self._boot_s(), self._route.broker, self._session.is_online
        since_s = self._health.connected_since_s
        lasted = since_s is not None and now_s - since_s >= STABLE_S and not vain
        self._drop_client()
        if was_online:
            self._tell_end(broker, why, is_sound=lasted)
        else:
            self._session.endings.unreachable(broker)
            if self._asked:
                self._dialects[broker].silent(now_s)
            if (broker, why) not in self._told_unreachable:
                self._told_unreachable.add((broker, why))
                log.warning("broker not reachable; trying on", broker=broker, reason=why)
        if lasted:
            self._route.lasted()
        # A broker that held us is asked first again.
        wait_s = self._route.failed(turn=not lasted, patience_s=self._session.endings.patience_s)
        self._attempt_at_s = now_s + wait_s
        self._note_failure(now_s, broker, why)

    def _tell_end(self, broker: str, why: str, *, is_sound: bool) -> None:
        """Say that a session ended: each time while that is seldom, then at the edge only."""
        endings = self._session.endings
        before = endings.trouble(broker)
        trouble = None if is_sound else endings.ended(broker, why)
        if before is None or before.reason != why:
            log.warning("connection lost", broker=broker, reason=why)
        if trouble is not None:
            log.error(
                "the broker ends each session soon, or acknowledges nothing: trying less often",
                broker=broker,
                reason=why,
                after=f"{self._session.root}/{trouble.after}" if trouble.after else None,
            )
        self._health.troubles = endings.troubles
        if (now := endings.trouble(broker)) is not None:
            told = {"broker": broker, "reason": now.reason, "topic": now.after or "-"}
            self._alert("cut_short", told)

    def _tell_sound(self) -> None:
        broker = self._route.broker
        if self._session.endings.sound(broker):
            log.info("the broker keeps the session and acknowledges again", broker=broker)
            self._health.troubles = self._session.endings.troubles
            self._alert("cut_short", None)

    def _note_failure(self, now_s: float, broker: str, why: str) -> None:
        """Note, for those who look, why there is no connection."""
        self._health.failure = (now_s, broker, why)
        self._health.next_attempt_s = self._attempt_at_s
        self._outages.begin(now_s, why)

    def _drop_client(self) -> None:
        client, self._session.client = self._session.client, None
        self._session.is_online = False
        self._health.broker = None
        self._health.connected_since_s = None
        self._health.protocol = None
        self._outages.begin(self._boot_s(), "")
        self._delivery.lost()
        if client is not None:
            hang_up(client)

    # What is written and heard

    def _pump(self) -> None:
        if not self._session.is_online:
            return
        now_s = self._boot_s()
        is_minute_over = self._is_minute_over(now_s)
        if is_minute_over:
            self._health_at_s = self._next_minute_s(now_s)
            if lost := self._link.heard.tell_lost():
                log.warning("others write more to us than we take: let go", messages=lost)
            self._presence.pay()
        self._delivery.pump(now_s, self._presence.say_health if is_minute_over else None)

    def _is_minute_over(self, now_s: float) -> bool:
        return now_s >= self._health_at_s - HEALTH_LEEWAY_S

    def _next_minute_s(self, now_s: float) -> float:
        """Return when health is due: in one breath with the records of a minute."""
        into_s = (self._utc_ns() / 1e9 - self._offset_s) % HEALTH_INTERVAL_S
        left_s = HEALTH_INTERVAL_S - into_s
        if left_s < HEALTH_INTERVAL_S / 4:
            left_s += HEALTH_INTERVAL_S
        return now_s + left_s + HEALTH_LEEWAY_S / 2

    def _on_acked(self, mid: int, code: int) -> None:
        if self._never_acks:
            self._never_acks = False
            self._alert("no_ack", None)
        is_record = self._delivery.acked(mid, code)
        self._session.endings.acked(mid, is_record=is_record)
        if not is_record and self._presence.acked(mid, code):
            self._delivery.birth_acked(code)

    def _on_heard(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take what somebody wrote below our own root: us, the city, or one like us."""
        below = topic.removeprefix(f"{self._session.root}/")
        what, _, rest = below.partition("/")
        if what == "status":
            self._presence.heard(payload, retained)
        elif what == "alarm" and payload:
            self._alarms.heard(below)
        elif what == "receipt" and payload:
            self._delivery.heard_receipt(*rest.partition("/")[::2], payload)
        elif what == "cmd" and self._command is not None:
            self._command(rest, payload, retained)

    def _reply(self, below: str, payload: bytes) -> None:
        """Answer a command; offline, whoever asked asks again."""
        if self._session.is_online:
            self._session.publish(below, payload, schema="yukimi.reply/1")

    # Stopping

    def finish(self) -> None:
        """Send what can be sent within `drain_s`, say good-bye if connected."""
        until_s = self._boot_s() + self._drain_s
        self._outbox.drain()
        self._alarms.show_due(math.inf)
        try:
            while self._session.is_online and self._boot_s() < until_s:
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
        self._alarms.show_due(math.inf)  # of what was committed last
        client = self._session.client
        if client is not None and self._session.is_online:
            with suppress(SpoolError):  # its last figures; the good-bye matters more
                self._presence.say_health()
            farewell = self._presence.say_farewell()
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
