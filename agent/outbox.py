"""What to send next: the delivery state machine, without I/O, clock or thread.

Two lanes share one in-flight window. `live/KIND` carries what was committed while connected, each
record when it is due; `backlog/KIND` carries everything else in the spool, oldest first, paced in
bytes. Nothing is done until the broker says that it has it *for somebody*: an acknowledgement that
names no subscriber holds its topic, and the topic alone. A topic begins with one message in flight
and opens when that is acknowledged, so that a deaf city is asked with one message, not sixteen.

Losing the connection forgets all this: the spool still has every record, and the next connection
begins from it.
"""

from __future__ import annotations

import random
from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal

from .record import BEFORE_ALL, Entry, Page, Parcel

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
PAYLOAD_FORMAT_INVALID = 0x99

HOLD_S = 30.0  # until a topic that nobody takes, or the broker refuses, is tried again
ACK_TIMEOUT_S = 30.0  # a broker that accepts and never acknowledges is left
PAGE_ENTRIES = 1000  # of the spool at a look; some pages are in memory at most
LIVE_LIMIT = 2000  # live entries in memory; beyond it they wait in the spool as backlog

BACKOFF_FIRST_S = 0.5
BACKOFF_CAP_S = 5.0

# A broker that did not know MQTT 5 is asked again after this.
PLAIN_FOR_S = 3600.0

Lane = Literal["live", "backlog"]
Protocol = Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True)
class Send:
    """A message to publish now: entries of one run, kind and configuration."""

    token: int
    lane: Lane
    parcel: Parcel
    items: tuple[Entry, ...] = ()  # of the live lane: where they go if they must come back

    @property
    def kind(self) -> str:
        """The kind of its entries."""
        return self.parcel.kind

    @property
    def topic(self) -> str:
        """The topic below the gateway's own root."""
        return f"{self.lane}/{self.parcel.kind}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What an acknowledgement meant."""

    topic: str
    done: tuple[int, ...] = ()  # ids that may leave the spool
    rejected: int | None = None  # the id of an entry that the broker takes not even alone
    held: bool = False  # the topic is put on hold
    edge: bool = False  # and was not before; or it flows again


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What the outbox wants to see of the spool."""

    after_id: int
    up_to_id: int
    limit: int
    parcel_records: int
    without_kinds: tuple[str, ...]
    without_ids: frozenset[int]


@dataclass(order=True, slots=True)
class _Live:
    id: int
    due_s: float = field(compare=False)
    entry: Entry = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Flight:
    send: Send
    sent_s: float


class Outbox:
    """Lanes, window, pacing and holds of one connection after another."""

    def __init__(
        self,
        *,
        inflight: int,
        batch_records: int,
        backlog_bytes_per_s: float,
        require_subscriber: bool,
    ) -> None:
        self._inflight_limit = inflight
        self._batch_records = batch_records
        self._rate_bytes_per_s = backlog_bytes_per_s
        self._require_subscriber = require_subscriber
        self._draining = False
        self._token = 0
        self._connected = False
        self._muted: set[str] = set()  # topics on hold before, told once
        self._went_live: dict[str, int] = {}  # the last id of each stream: live never goes back
        self._forget(0.0)

    def _forget(self, now_s: float) -> None:
        self._window = self._inflight_limit
        self._flights: dict[int, _Flight] = {}
        self._live: dict[str, list[_Live]] = {}
        self._busy: set[int] = set()  # ids in a live lane or in flight
        self._page: deque[Parcel] = deque()
        self._halves: deque[tuple[Lane, Parcel, tuple[Entry, ...]]] = deque()  # of rejected ones
        self._cursor = BEFORE_ALL
        self._horizon = 0  # ids above it are told of by `committed`, up to it found in the spool
        self._exhausted = False
        self._holds: dict[str, float] = {}
        self._proven: set[str] = set()
        self._allowance_bytes = self._rate_bytes_per_s
        self._refilled_s = now_s

    # What happens to it

    def connected(
        self,
        newest: Iterable[tuple[Entry, float]],
        now_s: float,
        *,
        last_id: int,
        receive_maximum: int | None = None,
    ) -> None:
        """Begin a connection; `newest` are the entries still fresh enough to go live.

        `last_id` is the highest id in the spool: what is told of later has a higher one.
        `receive_maximum` is the broker's own limit of messages in flight, where it names one.
        """
        self._forget(now_s)
        self._window = min(self._inflight_limit, receive_maximum or self._inflight_limit)
        self._connected = True
        self._horizon = last_id
        for entry, due_s in newest:
            if entry.id >= self._went_live.get(entry.stream, 0):
                self._put_live(_Live(entry.id, due_s, entry))

    def lost(self) -> None:
        """End a connection: whatever was in flight is in the spool and will be sent again."""
        self._connected = False
        self._forget(0.0)

    def committed(self, entries: Iterable[tuple[Entry, float]]) -> None:
        """Take entries just committed, each with the time at which it may leave."""
        if not self._connected:
            return
        told_to = self._horizon
        for entry, due_s in entries:
            told_to = max(told_to, entry.id)
            if entry.id > self._horizon:
                self._put_live(_Live(entry.id, due_s, entry))
        while sum(map(len, self._live.values())) > LIVE_LIMIT:
            fullest = max(self._live, key=lambda kind: len(self._live[kind]))
            self._busy.difference_update(item.id for item in self._live.pop(fullest))
            self.rewind(told_to)

    def rewind(self, last_id: int = 0) -> None:
        """Look at the spool from its beginning again, up to `last_id`: there is more to send."""
        self._horizon = max(self._horizon, last_id)
        self._page.clear()
        self._cursor = BEFORE_ALL
        self._exhausted = False

    def take_page(self, page: Page) -> None:
        """Take the part of the spool that `wants_page` asked for."""
        self._page.extend(page.parcels)
        self._exhausted = page.scanned_to == self._cursor
        self._cursor = page.scanned_to

    def sent(self, send: Send, size_bytes: int, now_s: float) -> None:
        """Note that a message left."""
        self._flights[send.token] = _Flight(send, now_s)
        if send.lane == "backlog":
            self._allowance_bytes -= size_bytes

    def answered(self, token: int, code: int, now_s: float) -> Answer | None:
        """Take an acknowledgement's reason code; None if nobody waits for it."""
        flight = self._flights.pop(token, None)
        if flight is None:
            return None
        send = flight.send
        nobody = code == NO_MATCHING_SUBSCRIBERS and self._require_subscriber
        if code < 0x80 and not nobody:
            ids = send.parcel.ids
            self._busy.difference_update(ids)
            self._proven.add(send.topic)
            if self._holds.pop(send.topic, None) is not None and send.lane == "backlog":
                self.rewind()
            edge = send.topic in self._muted
            self._muted.discard(send.topic)
            return Answer(send.topic, done=ids, edge=edge)
        if code == PAYLOAD_FORMAT_INVALID:
            return self._rejected(send)
        self._put_back(send)
        self._proven.discard(send.topic)
        self._holds[send.topic] = now_s + HOLD_S
        edge = send.topic not in self._muted
        self._muted.add(send.topic)
        return Answer(send.topic, held=True, edge=edge)

    def too_large(self, send: Send) -> Answer:
        """Take back a message that is larger than the broker takes: it goes in halves."""
        return self._rejected(send)

    def drain(self) -> None:
        """Stopping: nothing waits for its time or its turn any more."""
        self._draining = True

    # What it wants

    def wants_page(self, now_s: float) -> PageRequest | None:
        """Say what it wants to see of the spool, if anything."""
        if not self._connected:
            return None
        self._lift_holds(now_s)
        if self._exhausted or len(self._page) >= self._window:
            return None
        held = tuple(topic.partition("/")[2] for topic in self._holds if topic[0] == "b")
        return PageRequest(
            self._cursor,
            self._horizon,
            PAGE_ENTRIES,
            self._batch_records,
            held,
            frozenset(self._busy),
        )

    def next(self, now_s: float) -> Send | None:
        """Return what to send now, or None: the window is full, or nothing is due."""
        if not self._connected or len(self._flights) >= self._window:
            return None
        self._lift_holds(now_s)
        return self._next_half() or self._next_live(now_s) or self._next_backlog(now_s)

    def wait_s(self, now_s: float) -> float:
        """Return how long nothing will change by time alone, at most HOLD_S."""
        times = [now_s + HOLD_S]
        if self._connected:
            times += [flight.sent_s + ACK_TIMEOUT_S for flight in self._flights.values()]
            times += self._holds.values()
            if len(self._flights) < self._window:
                times += [
                    min(item.due_s for item in items)
                    for kind, items in self._live.items()
                    if items and self._open(f"live/{kind}")
                ]
                if self._page and self._allowance_bytes <= 0:
                    times.append(
                        self._refilled_s + (1 - self._allowance_bytes) / self._rate_bytes_per_s
                    )
        return max(0.0, min(times) - now_s)

    def ack_overdue(self, now_s: float) -> bool:
        """Tell whether the broker has left a message without an answer for too long."""
        return any(now_s >= flight.sent_s + ACK_TIMEOUT_S for flight in self._flights.values())

    @property
    def is_quiet(self) -> bool:
        """Whether no answer is awaited: while draining, what could leave has then left."""
        return not self._flights

    # How it decides

    def _next_half(self) -> Send | None:
        for index, (lane, parcel, items) in enumerate(self._halves):
            if self._open(f"{lane}/{parcel.kind}"):
                del self._halves[index]
                return self._message(lane, parcel, items)
        return None

    def _rejected(self, send: Send) -> Answer:
        """Halve what the broker rejects, until the one entry is found that it means."""
        parcel, items = send.parcel, send.items
        middle = len(parcel.ids) // 2
        if middle == 0:
            self._busy.discard(parcel.ids[0])
            return Answer(send.topic, rejected=parcel.ids[0])
        for part in (slice(None, middle), slice(middle, None)):
            half = replace(parcel, ids=parcel.ids[part], bodies=parcel.bodies[part])
            self._halves.append((send.lane, half, items[part]))
        return Answer(send.topic)

    def _next_live(self, now_s: float) -> Send | None:
        for kind, items in self._live.items():
            if not items or not self._open(f"live/{kind}"):
                continue
            due = [item for item in items if self._draining or item.due_s <= now_s]
            if due:
                chosen = _alike((item.entry for item in due), self._batch_records)
                ids = tuple(entry.id for entry in chosen)
                self._live[kind] = [item for item in items if item.id not in ids]
                self._went_live.update({entry.stream: entry.id for entry in chosen})
                first, bodies = chosen[0], tuple(entry.body for entry in chosen)
                parcel = Parcel(first.run, kind, first.config_id, ids, bodies)
                return self._message("live", parcel, tuple(chosen))
        return None

    def _next_backlog(self, now_s: float) -> Send | None:
        self._refill(now_s)
        if self._allowance_bytes <= 0 and not self._draining:
            return None
        for index, parcel in enumerate(self._page):
            if self._open(f"backlog/{parcel.kind}"):
                del self._page[index]
                self._busy.update(parcel.ids)
                return self._message("backlog", parcel)
        return None

    def _message(self, lane: Lane, parcel: Parcel, items: tuple[Entry, ...] = ()) -> Send:
        self._token += 1
        return Send(self._token, lane, parcel, items)

    def _open(self, topic: str) -> bool:
        if topic in self._holds:
            return False
        return topic in self._proven or not any(
            flight.send.topic == topic for flight in self._flights.values()
        )

    def _put_live(self, item: _Live) -> None:
        self._busy.add(item.id)
        insort(self._live.setdefault(item.entry.kind, []), item)

    def _put_back(self, send: Send) -> None:
        if send.lane == "live":
            for entry in send.items:
                self._put_live(_Live(entry.id, 0.0, entry))
            return
        # The spool has them; they are read again when the hold is lifted.
        self._busy.difference_update(send.parcel.ids)
        self._page = deque(parcel for parcel in self._page if parcel.kind != send.kind)

    def _lift_holds(self, now_s: float) -> None:
        over = [topic for topic, until_s in self._holds.items() if now_s >= until_s]
        for topic in over:
            del self._holds[topic]
        if any(topic.startswith("backlog/") for topic in over):
            self.rewind()

    def _refill(self, now_s: float) -> None:
        earned = (now_s - self._refilled_s) * self._rate_bytes_per_s
        self._allowance_bytes = min(self._rate_bytes_per_s, self._allowance_bytes + earned)
        self._refilled_s = now_s


def _alike(entries: Iterator[Entry], limit: int) -> list[Entry]:
    """Take up to `limit` entries that share the first one's run and configuration."""
    first = next(entries)
    same = (e for e in entries if (e.run, e.config_id) == (first.run, first.config_id))
    return [first, *islice(same, limit - 1)]


class Route:
    """Which broker to try next, and when: each in turn, with full jitter up to a cap.

    A city's gateways lose the broker together; the jitter keeps them from coming back together.
    """

    def __init__(self, brokers: Sequence[str], rng: random.Random) -> None:
        self._brokers = list(brokers)
        self._rng = rng
        self._index = 0
        self._failures = 0

    @property
    def broker(self) -> str:
        """The URL to try."""
        return self._brokers[self._index]

    def lasted(self) -> None:
        """A connection held for a while: the next failure is the first again."""
        self._failures = 0

    def failed(self, *, turn: bool = True) -> float:
        """Return how many seconds to wait; with `turn` the next broker is tried then."""
        if turn:
            self._index = (self._index + 1) % len(self._brokers)
        ceiling_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        return self._rng.uniform(0.1 * ceiling_s, ceiling_s)


class Dialect:
    """Which version of MQTT to ask a broker with.

    One that refuses 5 in words is asked with 3.1.1. One that says nothing at all to 5 may be old,
    or may only be starting behind a proxy: if it then takes 3.1.1, it is left once and asked with 5
    again. 3.1.1 costs the knowledge whether anybody subscribes, so it must not be a mistake.
    """

    def __init__(self, wanted: Protocol) -> None:
        self._wanted: Protocol = wanted
        self._state: Literal["wanted", "trying", "doubting", "plain"] = "wanted"
        self._plain_since_s = 0.0

    def ask(self, now_s: float) -> Protocol:
        """Return the version to ask with; an old broker may have been upgraded meanwhile."""
        if self._state == "plain" and now_s - self._plain_since_s > PLAIN_FOR_S:
            self._state = "wanted"
        return "3.1.1" if self._state in ("trying", "plain") else self._wanted

    def refused(self, now_s: float) -> None:
        """It said that it does not know 5."""
        self._state, self._plain_since_s = "plain", now_s

    def silent(self, now_s: float) -> None:
        """It took the connection and did not answer."""
        if self._wanted != "5" or self._state == "plain":
            return
        if self._state == "doubting":
            self.refused(now_s)
        else:
            self._state = "trying" if self._state == "wanted" else "wanted"

    def accepted(self) -> bool:
        """It took us; False where it must be left and asked again."""
        if self._state == "trying":
            self._state = "doubting"
            return False
        if self._state == "doubting":
            self._state = "wanted"
        return True
