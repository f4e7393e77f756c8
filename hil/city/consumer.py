"""The consumer: messages from the broker go into the database, and only then are acknowledged.

    broker -> inbox (at most the receive maximum) -> rows -> commit -> PUBACK, receipt

It may be killed at any moment: what was not acknowledged comes again, and what is in the database
already stays as it is. While the database is away nothing is acknowledged, so the broker stops at
the receive maximum and keeps the rest.
"""

from __future__ import annotations

import queue
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import structlog

from agent.wake import Wake

from .messages import take
from .receipts import Receipts
from .rows import Rows
from .store import RowsRefusedError, Store, StoreAwayError
from .wire import LOOK_S, QUEUE_MESSAGES, BrokerSettings, Incoming, Link

log = structlog.get_logger(part="city")

BATCH_MESSAGES = 100
BATCH_BYTES = 32 * 1024 * 1024  # of one transaction, inflated
BACKOFF_S = (0.2, 15.0)  # first and longest
QUIET_S = 3.0  # without a message for so long, a queue that retires is empty
TELL_S = 60.0
LOSSES, LOSSES_S = 4, 120.0  # so many connections lost in so long a time: something is wrong


@dataclass(slots=True)
class Counts:
    """What one life of the process has seen."""

    messages: int = 0
    records: int = 0  # with those that had come before
    new: int = 0
    rejected: int = 0


class Consumer:
    """Writes what comes into `store`, until stopped; `run` is the body of a thread."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: Store,
        *,
        receipts: bool = True,
    ) -> None:
        self._settings = settings
        self._store = store
        self._prefix = f"{settings.topic_root}/"
        self._inbox: queue.Queue[Incoming] = queue.Queue(QUEUE_MESSAGES)
        self._receipts = Receipts(store, settings.topic_root, publish=receipts)
        self._link: Link | None = None
        self._stopping = Wake()  # by a signal
        self._is_store_away = False
        self._forgets_alarms = False
        self._losses: list[float] = []  # when connections were lost, of late
        self._told_away = ""
        self._tell_at_s = time.monotonic() + TELL_S
        self.total = Counts()
        self._told = Counts()

    def stop(self) -> None:
        """Finish what is in hand and end."""
        self._stopping.set()

    def run(self) -> None:
        """Consume until stopped."""
        pause = _Backoff()
        while not self._stopping.is_set():
            if not self._connect(pause):
                continue
            self._step()
        if self._link is not None:
            self._link.close()
        self._tell("stopped", self.total)

    def retire(self) -> None:
        """Leave the group for good: take over what waits for this process, then end its session."""
        link = self._link = Link(self._settings, self._inbox)
        link.open(retire=True)
        quiet_since_s = time.monotonic()
        while time.monotonic() - quiet_since_s < QUIET_S and not self._stopping.is_set():
            if self._step():
                quiet_since_s = time.monotonic()
            if link.is_over:
                raise OSError(link.why)
        # If we were stopped there may be more: then the session stays.
        link.close(end_session=not self._stopping.is_set())

    def _connect(self, pause: _Backoff) -> bool:
        if self._link is not None and not self._link.is_over:
            return True
        if self._link is not None:
            self._lose(self._link)
            self._link = None
        self._clear_inbox()  # what is in it comes again
        link = Link(self._settings, self._inbox)
        try:
            link.open()
        except OSError as exc:
            if self._told_away != str(exc):
                self._told_away = str(exc)
                log.warning("no connection to the broker; trying on", reason=str(exc))
            self._stopping.wait(pause.next_s())
            return False
        self._told_away = ""
        pause.reset()
        self._link = link
        log.info("connected", broker=self._settings.url, client_id=self._settings.client_id)
        if link.is_new_session:
            # Of what was published meanwhile this process has got nothing.
            log.warning("the broker has no session of ours: a new one begins now")
            self._forgets_alarms = True
        return True

    def _lose(self, link: Link) -> None:
        """Let go of a connection; wait the longer, the more were lost of late.

        Two processes of one name would else throw each other out as fast as they can connect.
        """
        log.warning("connection to the broker lost", reason=link.why)
        link.close()
        now_s = time.monotonic()
        self._losses = [at_s for at_s in self._losses if now_s - at_s < LOSSES_S] + [now_s]
        if len(self._losses) == LOSSES:
            log.warning(
                "connections do not last: does another process use this --instance?",
                client_id=self._settings.client_id,
            )
        pause = _Backoff()
        for _ in self._losses[1:]:
            pause.next_s()
        if len(self._losses) > 1:
            self._stopping.wait(pause.next_s())

    def _clear_inbox(self) -> None:
        while True:
            try:
                self._inbox.get_nowait()
            except queue.Empty:
                return

    def _step(self) -> bool:
        """Write what is there; tell whether there was anything."""
        messages: list[Incoming] = []
        try:
            if self._forgets_alarms:
                # The broker tells those that there are; those that ended it cannot tell.
                self._store.forget_alarms()
                self._forgets_alarms = False
            messages = self._gather()
            if messages:
                self._keep(messages)
            if self._link is not None and not self._link.is_over:
                self._receipts.tend(self._link)
        except StoreAwayError as exc:
            self._store_is_away(exc)
            self._stopping.wait(LOOK_S)
        self._tell_now_and_then()
        return bool(messages)

    def _gather(self) -> list[Incoming]:
        """Take what is there, up to a transaction's worth; wait a little for the first."""
        messages: list[Incoming] = []
        try:
            while len(messages) < BATCH_MESSAGES:
                message = self._inbox.get(timeout=0.0 if messages else LOOK_S)
                if message.link is self._link:
                    messages.append(message)
        except queue.Empty:
            pass
        return messages

    def _keep(self, messages: list[Incoming]) -> None:
        """Write messages, however long that takes, and acknowledge them."""
        for portion, rows in self._portions(messages):
            try:
                is_written = self._write(rows)
            except RowsRefusedError as exc:
                self._divide(portion, exc)
            else:
                if not is_written:
                    return
                self._acknowledge(portion)

    def _portions(self, messages: list[Incoming]) -> Iterator[tuple[list[Incoming], Rows]]:
        """Turn messages into rows, as many at a time as memory should hold inflated."""
        portion, rows = list[Incoming](), Rows()
        for message in messages:
            below = message.topic.removeprefix(self._prefix)
            take(rows, message.topic, below, message.payload, message.received_utc)
            portion.append(message)
            if rows.size_bytes > BATCH_BYTES:
                yield portion, rows
                portion, rows = [], Rows()
        if portion:
            yield portion, rows

    def _divide(self, messages: list[Incoming], exc: RowsRefusedError) -> None:
        """Find the message that the database refuses, and keep it among the rejected."""
        half = len(messages) // 2
        if half:
            self._keep(messages[:half])
            self._keep(messages[half:])
            return
        (message,) = messages
        rows = Rows()
        rows.reject(message.topic, message.payload, str(exc), message.received_utc)
        log.error("the database refuses a message", topic=message.topic, reason=str(exc))
        if self._write(rows):
            self._acknowledge(messages)

    def _write(self, rows: Rows) -> bool:
        """Write until the database has it; False if we are stopped, or what came comes again."""
        pause = _Backoff()
        while True:
            try:
                new = self._store.write(rows)
            except StoreAwayError as exc:
                self._store_is_away(exc)
                self._stopping.wait(pause.next_s())
                if self._stopping.is_set() or self._link is None or self._link.is_over:
                    return False
            else:
                break
        if self._is_store_away:
            self._is_store_away = False
            log.info("the database takes rows again")
        self.total.records += len(rows.records)
        self.total.new += new
        self.total.rejected += len(rows.rejected)
        return True

    def _store_is_away(self, exc: StoreAwayError) -> None:
        if not self._is_store_away:
            self._is_store_away = True
            log.error("the database cannot write; nothing is acknowledged", reason=str(exc))

    def _acknowledge(self, messages: list[Incoming]) -> None:
        self.total.messages += len(messages)
        for message in messages:
            message.link.acknowledge(message)

    def _tell_now_and_then(self) -> None:
        if time.monotonic() < self._tell_at_s:
            return
        self._tell_at_s = time.monotonic() + TELL_S
        if self.total != self._told:
            self._tell("so far in this life", self.total)
            self._told = replace(self.total)

    def _tell(self, event: str, counts: Counts) -> None:
        log.info(event, **asdict(counts), receipts=self._receipts.published)


class _Backoff:
    """Longer and longer pauses, with jitter: processes must not come back in step."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_S[0]

    def next_s(self) -> float:
        """Return how long to wait now."""
        pause_s = self._next_s
        self._next_s = min(BACKOFF_S[1], 2 * pause_s)
        return pause_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the shortest."""
        self._next_s = BACKOFF_S[0]
