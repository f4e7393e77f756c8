"""The records as they leave: told to who listens, once the broker has taken them.

So what is said about people is seen here no sooner than by the city. The uplink's thread only puts
what left on a bounded queue for each listener, and nothing at all while there is none; a listener
that does not keep up loses records, and is told how many.
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator

from .answers import Document
from .outbox import Send
from .record import bodies_of

QUEUE_RECORDS = 1000  # a listener
LINES_AT_ONCE = 25
PACE_S = 0.25  # between two times of telling: a backlog that drains must not cost the gateway


class Departures:
    """Who listens; `left` is called by the uplink's thread, everything else by one other."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._listeners: tuple[RecordStream, ...] = ()

    def left(self, send: Send) -> None:
        """Tell of a message that the broker has taken."""
        if self._listeners:
            for listener in self._listeners:
                listener.put(send)
            self._wake()

    def stream(self) -> RecordStream:
        """Begin to listen."""
        stream = RecordStream(self._forget)
        self._listeners = (*self._listeners, stream)
        return stream

    def _forget(self, stream: RecordStream) -> None:
        self._listeners = tuple(each for each in self._listeners if each is not stream)


class RecordStream:
    """The records that leave, for one listener."""

    is_over = False

    def __init__(self, forget: Callable[[RecordStream], None]) -> None:
        self._forget = forget
        self._lock = threading.Lock()
        self._sends: deque[Send] = deque()
        self._records = 0  # in them
        self._dropped = 0
        self._lines: Iterator[Document] | None = None  # of the message that is being told
        self._told_at_s = -math.inf

    def put(self, send: Send) -> None:
        """Take a message that left; never waits."""
        with self._lock:
            self._sends.append(send)
            self._records += send.parcel.records
            while self._records > QUEUE_RECORDS and len(self._sends) > 1:
                records = self._sends.popleft().parcel.records
                self._records -= records
                self._dropped += records

    def lines(self, now_s: float) -> list[Document]:
        """Return some of what left since."""
        if now_s < self.next_s():
            return []
        self._told_at_s = now_s
        lines: list[Document] = []
        while len(lines) < LINES_AT_ONCE:
            line = None if self._lines is None else next(self._lines, None)
            if line is not None:
                lines.append(line)
                continue
            self._lines = None
            send, dropped = self._take()
            if dropped:
                lines.append({"dropped": dropped})
            if send is None:
                break
            self._lines = _documents(send)
        return lines

    def next_s(self) -> float:
        """Return when there is something to tell; what comes meanwhile calls for itself."""
        is_more = self._sends or self._lines is not None
        return self._told_at_s + PACE_S if is_more else math.inf

    def close(self) -> None:
        """Listen no more."""
        self._forget(self)

    def _take(self) -> tuple[Send | None, int]:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            if not self._sends:
                return None, dropped
            send = self._sends.popleft()
            self._records -= send.parcel.records
            return send, dropped


def _documents(send: Send) -> Iterator[Document]:
    parcel = send.parcel
    bodies = parcel.bodies if parcel.payload is None else bodies_of(parcel.payload)
    for body in bodies:
        yield {
            "lane": send.lane,
            "kind": parcel.kind,
            "run": parcel.run,
            "record": json.loads(body),
        }
