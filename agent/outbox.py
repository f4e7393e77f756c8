"""What to send next: the delivery state machine, without I/O, clock or thread.

Three lanes share one in-flight window. `alert/KIND` carries alerts, `live/KIND` what was committed
while connected, each record when it is due; `backlog/KIND` carries everything else in the spool,
oldest first, paced in bytes, and never takes the whole window: the present finds room at once.

Nothing is done until the broker says that it has it *for somebody*: an acknowledgement that names
no subscriber holds its topic, and the topic alone. A topic begins with one message in flight and
opens when that is acknowledged, so that a deaf city is asked with one message, not sixteen. Where
receipts are asked for, not the broker's word frees the spool but the city's, and what stays without
it is sent again.

Losing the connection forgets what was in flight: the spool still has every record, and the next
connection begins from it.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, NamedTuple, get_args

from .receipts import Receipts
from .record import ALERTS_STREAM, BEFORE_ALL, Entry, Page, Parcel

SUCCESS = 0x00
NO_MATCHING_SUBSCRIBERS = 0x10
PAYLOAD_FORMAT_INVALID = 0x99

HOLD_S = 30.0  # until a topic that nobody takes, or the broker refuses, is tried again
ACK_TIMEOUT_S = 30.0  # a broker that accepts and never acknowledges is left
PAGE_ENTRIES = 1000  # of the spool at a look; some pages are in memory at most
LIVE_LIMIT = 2000  # live entries in memory; beyond it they wait in the spool as backlog
ALERT_LIMIT = 500  # alerts in memory, and as many at a look; the others wait in the spool

# Entries sent, and without the city's receipt: beyond so many the backlog waits for the city.
UNRECEIPTED_LIMIT = 5000
# The city's receipts are retained: those of what it has already come within this after connecting.
RECEIPTS_COME_S = 2.0

Lane = Literal["alert", "live", "backlog"]


class Send(NamedTuple):
    """A message to publish now: entries of one run, kind and configuration."""

    token: int
    lane: Lane
    parcel: Parcel
    items: tuple[Entry, ...] = ()  # of the other lanes: where they go if they must come back

    @property
    def kind(self) -> str:
        """The kind of its entries."""
        return self.parcel.kind

    @property
    def topic(self) -> str:
        """The topic below the gateway's own root."""
        return f"{self.lane}/{self.parcel.kind}"


class Answer(NamedTuple):
    """What an acknowledgement meant."""

    topic: str
    done: tuple[int, ...] = ()  # ids that may leave the spool
    records: int = 0  # how many records are in them
    unfit: tuple[int, ...] = ()  # ids of packs that must be taken apart
    rejected: int | None = None  # the id of an entry that the broker takes not even alone
    held: bool = False  # the topic is put on hold
    edge: bool = False  # and was not before; or it flows again
    left: Send | None = None  # what the broker has taken


class PageRequest(NamedTuple):
    """What the outbox wants to see of the spool."""

    after_id: int
    up_to_id: int
    limit: int
    parcel_records: int
    without_kinds: tuple[str, ...]
    without_ids: Collection[int]


@dataclass(order=True, slots=True)
class _Prompt:
    """An entry of the alert or live lane."""

    id: int
    due_s: float = field(compare=False)
    entry: Entry = field(compare=False)


class _Flight(NamedTuple):
    send: Send
    sent_s: float


class Outbox:
    """Lanes, window, pacing, holds and receipts of one connection after another."""

    def __init__(
        self,
        *,
        inflight: int,
        batch_records: int,
        backlog_bytes_per_s: float,
        require_subscriber: bool,
        receipt_timeout_s: float | None = None,
    ) -> None:
        """Begin unconnected; `receipt_timeout_s` None: the broker's word is enough."""
        self._inflight_limit = inflight
        self._batch_records = batch_records
        self._rate_bytes_per_s = backlog_bytes_per_s
        self._require_subscriber = require_subscriber
        self._receipts = Receipts(receipt_timeout_s)
        self._draining = False
        self._token = 0
        self._connected = False
        self._muted: set[str] = set()  # topics on hold before, told once
        self._went_live: dict[str, int] = {}  # the last id of each stream: live never goes back
        self._forget(0.0)

    def _forget(self, now_s: float) -> None:
        self._window = self._inflight_limit
        self._flights: dict[int, _Flight] = {}
        self._prompt: dict[str, list[_Prompt]] = {}  # by topic
        self._more_alerts = True  # the spool may have some that are not in memory
        self._busy: set[int] = set()  # ids in a prompt lane or in flight
        self._page: deque[Parcel] = deque()
        self._halves: deque[tuple[Lane, Parcel, tuple[Entry, ...]]] = deque()  # of rejected ones
        self._cursor = BEFORE_ALL
        self._horizon = 0  # ids up to it were told of, or are found in the spool
        # By stream and kind, in which order holds: when the last one told of may leave.
        self._due_s: dict[tuple[str, str], float] = {}
        self._exhausted = False
        self._holds: dict[str, float] = {}
        self._proven: set[str] = set()
        self._allowance_bytes = self._rate_bytes_per_s
        self._refilled_s = now_s
        self._backlog_from_s = now_s + (RECEIPTS_COME_S if self._receipts.wanted else 0.0)

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
            is_new = entry.id >= self._went_live.get(entry.stream, 0)
            if is_new and entry.id not in self._receipts.ids:
                self._put_due(entry, due_s)

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
            is_alert = entry.stream == ALERTS_STREAM
            if is_alert and (self._more_alerts or self._waiting("alert/") >= ALERT_LIMIT):
                self._more_alerts = True  # it comes from the spool, behind those before it
            elif entry.id > self._horizon:
                self._put_due(entry, due_s)
        self._horizon = told_to  # from here on the spool may show them, if they come back
        while (fullest := self._fullest("live/")) and self._waiting("live/") > LIVE_LIMIT:
            self._busy.difference_update(item.id for item in self._prompt.pop(fullest))
            self.rewind()

    def rewind(self, last_id: int = 0) -> None:
        """Look at the spool from its beginning again, up to `last_id`: there is more to send."""
        self._horizon = max(self._horizon, last_id)
        self._page.clear()
        self._cursor = BEFORE_ALL
        self._exhausted = False
        self._more_alerts = True

    def take_page(self, page: Page) -> Answer | None:
        """Take the part of the spool that `wants_page` asked for.

        Returns what the city has already said that it holds, and which packs must be taken apart.
        """
        self._exhausted = page.scanned_to == self._cursor
        self._cursor = page.scanned_to
        done: list[int] = []
        records = 0
        for parcel in page.parcels:
            left = self._receipts.uncovered(parcel)
            if left is not parcel:
                kept = () if left is None else left.ids
                done += [each for each in parcel.ids if each not in kept]
                records += parcel.records - (0 if left is None else left.records)
            if left is not None:
                self._page.append(left)
        if not done and not page.unfit:
            return None
        return Answer("", done=tuple(done), records=records, unfit=page.unfit)

    def take_alerts(self, entries: Sequence[tuple[Entry, float]]) -> None:
        """Take the oldest alerts in the spool that are not claimed, as `wants_alerts` asked."""
        for entry, due_s in entries:
            self._put_due(entry, due_s)
        self._more_alerts = len(entries) >= ALERT_LIMIT

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
            parcel = send.parcel
            self._busy.difference_update(parcel.ids)
            self._proven.add(send.topic)
            if self._holds.pop(send.topic, None) is not None and send.lane == "backlog":
                self.rewind()
            edge = send.topic in self._muted
            self._muted.discard(send.topic)
            if not self._receipts.wanted:
                done, records = parcel.ids, parcel.records
            else:
                done, records = self._receipts.wait_for(parcel, now_s)
            return Answer(send.topic, done=done, records=records, edge=edge, left=send)
        if code == PAYLOAD_FORMAT_INVALID:
            return self._rejected(send)
        self._put_back(send)
        self._proven.discard(send.topic)
        self._holds[send.topic] = now_s + HOLD_S
        edge = send.topic not in self._muted
        self._muted.add(send.topic)
        return Answer(send.topic, held=True, edge=edge)

    def receipt(self, run: str, stream: str, through: int) -> Answer:
        """Take the city's word: it holds all numbers of a stream up to `through`."""
        done, records = self._receipts.came(run, stream, through)
        return Answer("", done=done, records=records)

    def too_large(self, send: Send) -> Answer:
        """Take back a message that is larger than the broker takes: it goes in halves."""
        return self._rejected(send)

    def drain(self) -> None:
        """Stopping: nothing waits for its time or its turn any more."""
        self._draining = True

    # What it wants

    def wants_alerts(self) -> bool:
        """Say whether it wants to see the alerts in the spool."""
        return self._connected and self._more_alerts and self._waiting("alert/") < ALERT_LIMIT

    def wants_page(self, now_s: float) -> PageRequest | None:
        """Say what it wants to see of the spool, if anything."""
        if not self._connected or (now_s < self._backlog_from_s and not self._draining):
            return None
        self._lift_holds(now_s)
        if self._receipts.expire(now_s):
            self.rewind()
        if self._exhausted or len(self._page) >= self._window:
            return None
        held = tuple(topic.partition("/")[2] for topic in self._holds if topic[0] == "b")
        return PageRequest(
            self._cursor,
            self._horizon,
            PAGE_ENTRIES,
            self._batch_records,
            held,
            self._busy | self._receipts.ids,
        )

    def next(self, now_s: float) -> Send | None:
        """Return what to send now, or None: the window is full, or nothing is due."""
        if not self._connected or len(self._flights) >= self._window:
            return None
        self._lift_holds(now_s)
        return (
            self._next_half("alert")
            or self._next_prompt("alert/", now_s)
            or self._next_half("live")
            or self._next_prompt("live/", now_s)
            or self._next_backlog(now_s)
        )

    def wait_s(self, now_s: float) -> float:
        """Return how long nothing will change by time alone, at most HOLD_S."""
        times = [now_s + HOLD_S]
        if self._connected:
            times += [flight.sent_s + ACK_TIMEOUT_S for flight in self._flights.values()]
            times += self._holds.values()
            times += self._receipts.next_expiry()
            if now_s < self._backlog_from_s:
                times.append(self._backlog_from_s)
            if len(self._flights) < self._window:
                times += [
                    min(item.due_s for item in items)
                    for topic, items in self._prompt.items()
                    if items and self._open(topic)
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

    @property
    def claimed_ids(self) -> Collection[int]:
        """The entries that must stay as they are: in memory, in flight, or without a receipt."""
        paged = (row_id for parcel in self._page for row_id in parcel.ids)
        return self._busy | self._receipts.ids | set(paged)

    @property
    def told_to(self) -> int | None:
        """Up to which id all that is committed was told of; None while it does not matter."""
        return self._horizon if self._connected else None

    def lanes(self) -> dict[Lane, tuple[int, int]]:
        """Return messages in flight and records waiting in memory by lane; any thread may ask.

        What waits in the spool for the backlog lane is not among them.
        """
        flying = Counter(flight.send.lane for flight in list(self._flights.values()))
        waiting: Counter[Lane] = Counter()
        for topic, items in list(self._prompt.items()):
            waiting["alert" if topic.startswith("alert/") else "live"] += len(items)
        lanes: tuple[Lane, ...] = get_args(Lane)
        return {lane: (flying[lane], waiting[lane]) for lane in lanes}

    # How it decides

    def _next_half(self, lane: Lane) -> Send | None:
        for index, (own, parcel, items) in enumerate(self._halves):
            if own == lane and self._open(f"{lane}/{parcel.kind}"):
                del self._halves[index]
                return self._message(lane, parcel, items)
        return None

    def _rejected(self, send: Send) -> Answer:
        """Halve what the broker rejects, until the one entry is found that it means."""
        parcel, items = send.parcel, send.items
        if parcel.payload is not None:
            self._busy.difference_update(parcel.ids)
            return Answer(send.topic, unfit=parcel.ids)
        middle = len(parcel.ids) // 2
        if middle == 0:
            self._busy.discard(parcel.ids[0])
            return Answer(send.topic, rejected=parcel.ids[0])
        # To the front, the older half first: what is newer must not pass it.
        for part in (slice(middle, None), slice(None, middle)):
            places = range(*part.indices(len(parcel.ids)))
            self._halves.appendleft((send.lane, parcel.part(places), items[part]))
        return Answer(send.topic)

    def _next_prompt(self, lane: str, now_s: float) -> Send | None:
        for topic, items in self._prompt.items():
            if not items or not topic.startswith(lane) or not self._open(topic):
                continue
            due = [item for item in items if self._draining or item.due_s <= now_s]
            if due:
                chosen = _alike((item.entry for item in due), self._batch_records)
                ids = tuple(entry.id for entry in chosen)
                self._prompt[topic] = [item for item in items if item.id not in ids]
                self._went_live.update({entry.stream: entry.id for entry in chosen})
                first, bodies = chosen[0], tuple(entry.body for entry in chosen)
                tops = tuple(((entry.stream, entry.seq),) for entry in chosen)
                parcel = Parcel(
                    first.run, first.kind, first.config_id, ids, bodies, tops, records=len(ids)
                )
                return self._message(_lane(first), parcel, tuple(chosen))
        return None

    def _next_backlog(self, now_s: float) -> Send | None:
        self._refill(now_s)
        # A quarter of the window stays free for what is newer; there it is not waited for.
        in_flight = sum(flight.send.lane == "backlog" for flight in self._flights.values())
        if in_flight >= max(1, self._window - self._window // 4):
            return None
        if not self._draining and (
            self._allowance_bytes <= 0 or len(self._receipts.ids) >= UNRECEIPTED_LIMIT
        ):
            return None
        half = self._next_half("backlog")
        if half is not None:
            return half
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

    def _put_due(self, entry: Entry, due_s: float) -> None:
        # Where the clock steps, a later record may be due before an earlier one.
        lane = (entry.stream, entry.kind)
        due_s = max(due_s, self._due_s.get(lane, due_s))
        self._due_s[lane] = due_s
        self._put_prompt(_Prompt(entry.id, due_s, entry))

    def _put_prompt(self, item: _Prompt) -> None:
        self._busy.add(item.id)
        topic = f"{_lane(item.entry)}/{item.entry.kind}"
        insort(self._prompt.setdefault(topic, []), item)

    def _waiting(self, lane: str) -> int:
        return sum(len(items) for topic, items in self._prompt.items() if topic.startswith(lane))

    def _fullest(self, lane: str) -> str | None:
        topics = [topic for topic in self._prompt if topic.startswith(lane)]
        return max(topics, key=lambda topic: len(self._prompt[topic]), default=None)

    def _put_back(self, send: Send) -> None:
        back = [(send.parcel, send.items)]
        others: deque[tuple[Lane, Parcel, tuple[Entry, ...]]] = deque()
        for lane, parcel, items in self._halves:
            if f"{lane}/{parcel.kind}" == send.topic:
                back.append((parcel, items))  # it is newer, and must not pass what comes back
            else:
                others.append((lane, parcel, items))
        self._halves = others
        if send.lane != "backlog":
            for _, items in back:
                for entry in items:
                    self._put_prompt(_Prompt(entry.id, 0.0, entry))
            return
        # The spool has them; they are read again when the hold is lifted.
        for parcel, _ in back:
            self._busy.difference_update(parcel.ids)
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


def _lane(entry: Entry) -> Lane:
    return "alert" if entry.stream == ALERTS_STREAM else "live"


def _alike(entries: Iterator[Entry], limit: int) -> list[Entry]:
    """Take up to `limit` entries that share the first one's run and configuration."""
    first = next(entries)
    same = (e for e in entries if (e.run, e.config_id) == (first.run, first.config_id))
    return [first, *islice(same, limit - 1)]
