"""What a running gateway answers by itself: its state, its sensors, its last day, what leaves.

Others add their own questions to `Replies.answers`. All of it runs on the control socket's thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from config.text import Text

from . import __version__
from .answers import Answer, Answers, Arguments, AskError, Document, Stream, number_of, text_of
from .departures import Departures, RecordStream
from .ear import Ear
from .history import History
from .latest import Latest
from .snapshot import Snapshot

SNAPSHOT_S = 1.0  # between two in `watch`
SHARED_S = 0.5  # a snapshot may be so old: many who watch cost little more than one
READ_LOOK_S = 0.1
READ_MOST = 1000

NO_SUCH_SENSOR = Text(
    'no sensor "{name}"; there are: {known}',
    "センサー「{name}」はありません。設定されているもの: {known}",
)
NAME_SHOWN = 64


class Replies:
    """The answers of one life of the gateway."""

    def __init__(
        self,
        snapshot: Snapshot,
        history: History,
        departures: Departures,
        *,
        latest: Mapping[str, Latest],
        ears: Mapping[str, Ear],
        boot_s: Callable[[], float],
        utc: Callable[[float], str],
    ) -> None:
        """Take what is looked at; `latest` and `ears` are of sensors that count no people."""
        self._snapshot = snapshot
        self._history = history
        self._departures = departures
        self._latest = latest
        self._ears = ears
        self._boot_s = boot_s
        self._utc = utc  # of an instant of the boot-time clock, ns
        self._shared: Document = {}
        self._shared_s = -math.inf
        self.answers = Answers()
        own: dict[str, Answer] = {
            "ping": self._ping,
            "status": self._status,
            "sensor": self._sensor,
            "spool": self._spool,
            "history": self._of_the_day,
            "records": self._records,
            "watch": self._watch,
            "read": self._read,
        }
        for name, answer in own.items():
            self.answers.add(name, answer)

    def _ping(self, _arguments: Arguments) -> Document:
        return {"version": __version__, "asks": self.answers.names}

    def _status(self, _arguments: Arguments) -> Document:
        return self._snapshot.document()

    def _spool(self, _arguments: Arguments) -> Document:
        return {"spool": self._snapshot.spool(self._boot_s())}

    def _sensor(self, arguments: Arguments) -> Document:
        """One sensor; of those that count no people, the bytes that passed while it is asked."""
        document = self._known(arguments)
        ear = self._ears.get(document["id"])
        if ear is None:
            return {"sensor": document}
        ear.listen()
        return {"sensor": document, "raw": self.timed(ear, 0)[0]}

    def _of_the_day(self, arguments: Arguments) -> Document:
        now_s = self._boot_s()
        if "sensor" in arguments:
            name = self._known(arguments)["id"]
            return {"sensor": name, "history": self._history.sensor(name, now_s, self._utc)}
        return {
            "outages": self._history.outages_document(now_s, self._utc),
            "alerts": self._history.alert_edges(now_s, self._utc),
        }

    def _records(self, _arguments: Arguments) -> Stream:
        return self._departures.stream()

    def _watch(self, _arguments: Arguments) -> Stream:
        return _Watch(self._departures.stream(), self._recent)

    def _read(self, arguments: Arguments) -> Document | Stream:
        """The next readings of a sensor, with their bytes; of one of people, how it is."""
        count = number_of(arguments, "n", 1, 1, READ_MOST)
        document = self._known(arguments)
        latest = self._latest.get(document["id"])
        if latest is None:
            return {"sensor": document}
        return _Read(self, document, latest, self._ears.get(document["id"]), count)

    def known(self, name: str) -> Document:
        """Return a sensor's part of the snapshot. Raises AskError."""
        document = self._snapshot.sensor(name)
        if document is None:
            known = ", ".join(self._snapshot.sensor_ids)
            raise AskError(
                "no_such_sensor", NO_SUCH_SENSOR.filled(name=name[:NAME_SHOWN], known=known)
            )
        return document

    def _known(self, arguments: Arguments) -> Document:
        return self.known(text_of(arguments, "sensor"))

    def timed(
        self, ear: Ear, after: int, until_ns: int | None = None
    ) -> tuple[list[Document], int]:
        """Return what was heard after a number, with its time; and the last number."""
        chunks, last = ear.heard(after, until_ns)
        return [{"time": self._utc(at_ns), **entry} for at_ns, entry in chunks], last

    def _recent(self, now_s: float) -> Document:
        if now_s - self._shared_s >= SHARED_S:
            self._shared, self._shared_s = self._snapshot.document(), now_s
        return self._shared


class _Watch:
    """A snapshot each second, and the records as they leave."""

    is_over = False

    def __init__(self, records: RecordStream, snapshot: Callable[[float], Document]) -> None:
        self._records = records
        self._snapshot = snapshot
        self._snapshot_at_s = -math.inf

    def lines(self, now_s: float) -> list[Document]:
        lines = self._records.lines(now_s)
        if now_s >= self._snapshot_at_s:
            self._snapshot_at_s = now_s + SNAPSHOT_S
            lines.append({"snapshot": self._snapshot(now_s)})
        return lines

    def next_s(self) -> float:
        return min(self._snapshot_at_s, self._records.next_s())

    def close(self) -> None:
        self._records.close()


class _Read:
    """A measuring sensor's next readings, each time that it was heard."""

    def __init__(
        self, replies: Replies, sensor: Document, latest: Latest, ear: Ear | None, count: int
    ) -> None:
        self._replies = replies
        self._sensor: Document | None = sensor
        self._id: str = sensor["id"]
        self._latest = latest
        self._ear = ear
        self._left = count
        self._heard = latest.heard
        self._number = 0
        self._since_ns = 0
        self._look_at_s = -math.inf
        if ear is not None:
            self._since_ns = ear.listen()
            self._number = ear.heard()[1]

    @property
    def is_over(self) -> bool:
        return self._left <= 0

    def lines(self, now_s: float) -> list[Document]:
        self._look_at_s = now_s + READ_LOOK_S
        if self._sensor is not None:  # at once, whether it is heard or not
            document, self._sensor = self._sensor, None
            return [{"sensor": document}]
        if self._latest.heard == self._heard:
            return []
        self._heard = self._latest.heard
        raw: list[Document] = []
        if self._ear is not None:
            self._ear.listen()
            began_ns, ended_ns = self._latest.poll_ns
            # The next poll may be on its way by now: its bytes are the next reading's.
            raw, self._number = self._replies.timed(self._ear, self._number, ended_ns)
            if began_ns <= self._since_ns:
                return []  # it was on its way when we began to listen
        self._left -= 1
        return [{"readings": self._replies.known(self._id)["readings"], "raw": raw}]

    def next_s(self) -> float:
        return self._look_at_s

    def close(self) -> None:
        pass
