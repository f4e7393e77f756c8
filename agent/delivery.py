"""From the spool to the broker and back: what the outbox picks is sent, what is answered settled.

An acknowledgement may arrive before `publish` has returned, and is matched here, on the one thread
that publishes.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from config.model import UplinkTable

from . import record
from .fresh import Fresh
from .health import UplinkHealth
from .logs import logger
from .outbox import ALERT_LIMIT, Answer, Outbox, Send
from .packetsize import PACKET_TOO_LARGE, PacketSizes
from .record import Entry
from .session import BATCH, Session
from .spool import Spool, SpoolError

log = logger("uplink")

SPOOL_RETRY_S = 5.0

NOT_AUTHORIZED = 0x87
QUOTA_EXCEEDED = 0x97
ENVELOPE_BYTES = 128  # of a PUBLISH beside topic and payload: header, properties


class _Ready(NamedTuple):
    """A message that is packed."""

    send: Send
    payload: bytes
    deflated: bool
    size_bytes: int


class Delivery:
    """Sends what waits, and settles with the spool what the broker or the city answers."""

    def __init__(
        self,
        session: Session,
        *,
        settings: UplinkTable,
        gateway_id: str,
        spool: Spool,
        outbox: Outbox,
        sizes: PacketSizes,
        fresh: Fresh,
        health: UplinkHealth,
        utc_ns: Callable[[], int],
        boot_s: Callable[[], float],
        alert: Callable[[str, Mapping[str, object] | None], None],
        left: Callable[[Send], None],
    ) -> None:
        self._session = session
        self._compress = settings.compression
        self._gateway_id = gateway_id
        self._spool = spool
        self._outbox = outbox
        self._sizes = sizes
        self._fresh = fresh
        self._health = health
        self._utc_ns = utc_ns
        self._boot_s = boot_s
        self._alert = alert
        self._left = left
        self._mids: dict[int, tuple[int, int]] = {}  # paho's message id -> our token, bytes
        self._rejected_streams: set[str] = set()
        self._muted: dict[str, set[str]] = {"no_subscriber": set(), "not_authorised": set()}
        self._pack_at_s = 0.0
        self._look_again_s = math.inf  # the spool could not do what was asked of it

    # Connected, or not

    def connected(
        self, newest: Sequence[Entry], last_id: int, receive_maximum: int | None, now_s: float
    ) -> None:
        """Begin with the newest of each stream, as far as it is still news."""
        utc_ns = self._utc_ns()
        self._outbox.connected(
            [self._due(entry) for entry in newest if self._fresh.is_fresh(entry, utc_ns)],
            now_s,
            last_id=last_id,
            receive_maximum=receive_maximum,
        )

    def lost(self) -> None:
        """Take back what was on its way."""
        self._mids.clear()
        self._outbox.lost()

    @property
    def is_unanswered(self) -> bool:
        """Whether the broker has a message that it has not acknowledged."""
        return bool(self._mids)

    @property
    def largest_bytes(self) -> int:
        """The largest message that is not acknowledged."""
        return max((size for _, size in self._mids.values()), default=0)

    # Out

    def committed(self, entries: Sequence[Entry]) -> None:
        """Take what was just committed."""
        self._outbox.committed(self._due(entry) for entry in entries)

    def tidy(self, now_s: float) -> None:
        """Look again where the spool failed, and pack what has waited long."""
        if now_s >= self._look_again_s:
            self._look_again_s = math.inf
            self._outbox.rewind()
        self._pack(now_s)

    def wait_s(self, now_s: float) -> float:
        """Return in how long there is something to do."""
        return min(self._outbox.wait_s(now_s), self._look_again_s - now_s)

    def _pack(self, now_s: float) -> None:
        """Pack what has waited long; a disk that cannot be written must not keep back the rest."""
        if now_s < self._pack_at_s or not self._spool.is_loose:
            return
        try:
            self._spool.pack(self._outbox.claimed_ids, up_to_id=self._outbox.told_to)
        except SpoolError as exc:
            self._pack_at_s = now_s + SPOOL_RETRY_S
            log.error("spool cannot be packed; trying again", error=str(exc))

    def pump(self, now_s: float, say_too: Callable[[], None] | None = None) -> None:
        """Send what may be sent now, and let `say_too` speak with the last. Raises SpoolError."""
        ready: list[_Ready] = []
        try:
            while (send := self._next(now_s)) is not None:
                if ready and ready[-1].send.lane != send.lane:
                    self._let_go(ready)
                self._prepare(send, ready)
                if send.lane == "alert":  # for nothing that is still to be packed
                    self._let_go(ready)
        finally:
            self._let_go(ready, say_too)

    def _next(self, now_s: float) -> Send | None:
        if self._outbox.wants_alerts():
            claimed_ids = self._outbox.claimed_ids
            waiting = self._spool.alerts(ALERT_LIMIT, claimed_ids)
            self._outbox.take_alerts([self._due(entry) for entry in waiting])
        self._fill()
        return self._outbox.next(now_s)

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

    def _prepare(self, send: Send, ready: list[_Ready]) -> None:
        """Pack a message, and count it as sent; or take it back: it is too large."""
        payload, deflated = self._payload(send)
        size_bytes = len(payload) + len(self._session.root) + 1 + len(send.topic) + ENVELOPE_BYTES
        is_single = send.parcel.records == 1
        if self._sizes.is_too_large(self._session.broker, size_bytes, is_single=is_single):
            self._take_answer(self._outbox.too_large(send), PACKET_TOO_LARGE)
            return
        self._outbox.sent(send, len(payload), self._boot_s())
        ready.append(_Ready(send, payload, deflated, size_bytes))

    def _let_go(self, ready: list[_Ready], say_too: Callable[[], None] | None = None) -> None:
        """Publish what is ready as one."""
        with self._session.together():
            for send, payload, deflated, size_bytes in ready:
                info = self._session.publish(send.topic, payload, schema=BATCH, deflated=deflated)
                self._mids[info.mid] = send.token, size_bytes
            ready.clear()
            if say_too is not None:
                say_too()

    def _payload(self, send: Send) -> tuple[bytes, bool]:
        """Return a message's bytes, and whether they are deflated."""
        parcel, compress = send.parcel, self._compress
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

    def _due(self, entry: Entry) -> tuple[Entry, float]:
        return self._fresh.due(entry, self._utc_ns(), self._boot_s())

    # Back

    def acked(self, mid: int, code: int) -> bool:
        """Take the broker's answer; False where it is to something else than records."""
        sent = self._mids.pop(mid, None)
        if sent is None:
            return False
        answer = self._outbox.answered(sent[0], code, self._boot_s())
        if answer is not None:
            self._take_answer(answer, code)
            if answer.left is not None:
                self._health.acknowledged_s = self._boot_s()
                if answer.left.parcel.run == self._spool.run:
                    self._health.own_acknowledged_s = self._health.acknowledged_s
                self._left(answer.left)
        return True

    def heard_receipt(self, run: str, stream: str, payload: bytes) -> None:
        """Take the city's word that it has a stream's records up to a number."""
        try:
            through = json.loads(payload)["through"]
        except (ValueError, KeyError, TypeError, RecursionError):
            through = None
        if type(through) is not int or through < 0:
            log.warning("a receipt makes no sense and is ignored", run=run, stream=stream)
            return
        self._take_answer(self._outbox.receipt(run, stream, through), 0)

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
            self._tell_muted(answer.topic, code, is_held=answer.held)
            self._log_edge(answer, code)

    def _log_edge(self, answer: Answer, code: int) -> None:
        topic = f"{self._session.root}/{answer.topic}"
        if not answer.held:
            log.info("records flow again", topic=topic)
        elif code < 0x80:
            log.warning(
                "nobody subscribes: records wait here until somebody does",
                topic=topic,
            )
        elif code == QUOTA_EXCEEDED:
            log.error(
                "the broker's quota for us is used up: records wait here; raise it there, or wait",
                topic=topic,
                reason=f"0x{code:02x}",
            )
        else:
            log.error(
                "the broker refuses the message: records wait here; check what this user may"
                " publish",
                topic=topic,
                reason=f"0x{code:02x}",
            )

    def birth_acked(self, code: int) -> None:
        """Say, once, that the broker does not take the birth; it is written again by and by."""
        is_refused = code == NOT_AUTHORIZED
        if is_refused and "status" not in self._muted["not_authorised"]:
            log.error(
                "the broker refuses our status: check what this user may publish",
                topic=f"{self._session.root}/status",
                reason=f"0x{code:02x}",
            )
        self._tell_muted("status", code, is_held=is_refused)

    def _tell_muted(self, topic: str, code: int, *, is_held: bool) -> None:
        """Raise or clear the alerts about topics that are on hold."""
        for name, topics in self._muted.items():
            before = set(topics)
            topics.discard(topic)
            if is_held and name == ("no_subscriber" if code < 0x80 else "not_authorised"):
                topics.add(topic)
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
