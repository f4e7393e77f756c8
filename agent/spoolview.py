"""What waits in a spool, looked at from outside: nothing is changed, and nobody waits for it.

Whoever looks brings a connection that only reads; questions are asked slice by slice, so that a
look at a spool of any size takes little memory and none of them takes long. An entry is shown as it
stands: whether it is whole is for who looks to judge (`is_whole`).
"""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any, NamedTuple, Protocol, Self

from config.text import Text

from .record import ALERTS_STREAM, bodies_of
from .spoolfile import checksum

FROM_THE_FIRST = -(2**63)
SLICE_BYTES = 2**18  # of bodies in a slice, or one entry
SLICE_ENTRIES = 1000
LEDGER_LINES = 500  # in a slice, some 400 bytes each


class Waiting(NamedTuple):
    """One entry as it stands: a record, a gap, or a pack of records that waited together."""

    id: int
    run: str | None  # None: nobody knows any more
    stream: str | None  # "" in a pack
    kind: str | None
    config_id: str | None
    first: int | None
    seq: int | None
    gap: str | None
    is_held: int  # whether it waits for the clock, 1 or 0
    crc: int
    inside: str | None
    body: str | bytes

    @property
    def is_whole(self) -> bool:
        """Whether it is what was written."""
        if None in (self.run, self.stream, self.kind, self.config_id):
            return False
        return checksum(self.body, self.inside) == self.crc

    @property
    def is_alert(self) -> bool:
        """Whether it travels before all others."""
        return self.stream == ALERTS_STREAM

    def bodies(self) -> list[str]:
        """Return the records, or the gap, byte for byte as committed. Raises ValueError."""
        if self.inside is None:
            return [str(self.body)]
        return bodies_of(self.body if isinstance(self.body, bytes) else self.body.encode())

    def spans(self) -> list[tuple[str, int, int]]:
        """Return the numbers it is filed under, stream by stream. Raises ValueError."""
        if self.inside is None:
            if self.first is None or self.seq is None:
                raise ValueError("has no number")
            return [(str(self.stream), self.first, self.seq)]
        try:
            return [(str(s), int(a), int(b)) for s, a, b, *_ in json.loads(self.inside)["spans"]]
        except (KeyError, TypeError) as exc:
            raise ValueError("does not say what is in it") from exc

    def json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        shown = self._asdict()
        if isinstance(self.body, bytes):
            shown["body"] = {"base64": b64encode(self.body).decode()}
        return shown

    @classmethod
    def from_json(cls, shown: dict[str, Any]) -> Self:
        """Take what `json` returned. Raises ValueError, TypeError."""
        body = shown["body"]
        return cls(**shown | {"body": body if isinstance(body, str) else b64decode(body["base64"])})


class Slice(NamedTuple):
    """The next entries that wait, in the order of their ids; none: that was all."""

    entries: list[Waiting]
    moves: int  # how often entries changed their places so far: what was not yet seen may be behind


class LedgerSlice(NamedTuple):
    """The next lines of the ledger, by number and text; none: that was all."""

    rows: list[tuple[int, str]]
    days: int  # that were closed so far, which takes lines away

    def json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return self._asdict()

    @classmethod
    def from_json(cls, shown: dict[str, Any]) -> Self:
        """Take what `json` returned. Raises TypeError."""
        return cls([(n, text) for n, text in shown["rows"]], shown["days"])


class RunFigures(NamedTuple):
    """What waits of one run, and how far its numbers go."""

    run: str
    is_clean: bool  # it ended with a good-bye
    produced: dict[str, int]
    records: int  # that wait, those for the clock among them
    lost: int  # numbers in gaps that wait
    held: int  # records that wait for the clock

    def json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return self._asdict()


class Figures(NamedTuple):
    """How much waits."""

    runs: list[RunFigures]  # oldest first
    oldest_ns: int | None  # UTC: where what waits begins and ends, as far as its time is known
    newest_ns: int | None
    alarms: int  # alerts that are raised

    @property
    def records(self) -> int:
        """All that wait."""
        return sum(run.records for run in self.runs)

    @property
    def lost(self) -> int:
        """All numbers in gaps that wait."""
        return sum(run.lost for run in self.runs)

    @property
    def held(self) -> int:
        """All records that wait for the clock."""
        return sum(run.held for run in self.runs)

    def json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return self._asdict() | {"runs": [run.json() for run in self.runs]}

    @classmethod
    def from_json(cls, shown: dict[str, Any]) -> Self:
        """Take what `json` returned. Raises TypeError."""
        return cls(**shown | {"runs": [RunFigures(**run) for run in shown["runs"]]})


class About(NamedTuple):
    """Which spool it is."""

    is_in_use: bool  # by a gateway, which answers for it
    gateway: str | None  # None: the file alone does not say whose it is
    path: str
    bytes: int  # on disk
    max_bytes: int | None
    why_volatile: str | None  # the disk is gone, and it lives in memory

    def json(self) -> dict[str, Any]:
        """Return what `About(**...)` takes."""
        return self._asdict()


class Ledgers(Protocol):
    """What has a ledger to read."""

    def ledger(self, after_n: int) -> LedgerSlice:
        """Return the ledger's next lines after a number. Raises SpoolError."""
        ...


class Source(Ledgers, Protocol):
    """A spool that can be looked at: a file, or a gateway that runs."""

    @property
    def about(self) -> About:
        """Which spool it is."""

    def slice(self, after_id: int) -> Slice:
        """Return the next entries after an id. Raises SpoolError."""

    def figures(self) -> Figures:
        """Return how much waits. Raises SpoolError."""

    def what_is_wrong(self) -> str | None:
        """Read the whole file; return what is wrong with it. Raises SpoolError."""

    def check_still(self) -> None:
        """Raise SpoolError if what was read is worth nothing, because it changed meanwhile."""


class Taker(Protocol):
    """Takes all that waits, entry by entry."""

    def begin_again(self) -> None:
        """Entries changed their places: all come once more."""

    def take(self, entry: Waiting) -> Iterator[bytes]:
        """Take one; yield what is to be written because of it."""


class RestlessError(Exception):
    """The spool changed too often while it was looked at."""


PASSES = 20
RESTLESS = Text(
    "the spool changed too often while it was read; try again",
    "読み取り中の変更が続いたため中止しました。もう一度お試しください",
)


def walk(source: Source, taker: Taker) -> Iterator[bytes]:
    """Show a taker all that waits, at least once. Raises SpoolError, RestlessError.

    A running gateway packs what waited long and gives up what is too old: entries then change their
    places, perhaps to where the look had been already, and it begins again.
    """
    after_id, moves = FROM_THE_FIRST, None
    for _ in range(PASSES):
        while True:
            found = source.slice(after_id)
            if moves not in (None, found.moves):
                break
            moves = found.moves
            if not found.entries:
                return
            for entry in found.entries:
                yield from taker.take(entry)
            after_id = found.entries[-1].id
        after_id, moves = FROM_THE_FIRST, None
        taker.begin_again()
    raise RestlessError(RESTLESS)


def ledger_of(source: Ledgers) -> list[tuple[int, str]]:
    """Return all lines of the ledger by number and text. Raises SpoolError, RestlessError."""
    for _ in range(PASSES):
        rows: list[tuple[int, str]] = []
        days = None
        while True:
            found = source.ledger(rows[-1][0] if rows else 0)
            if days not in (None, found.days):
                break
            days = found.days
            if not found.rows:
                return rows
            rows += found.rows
    raise RestlessError(RESTLESS)


def ledger_after(
    database: sqlite3.Connection, after_n: int, _without_ids: Collection[int] = ()
) -> LedgerSlice:
    """Return the ledger's next lines after a number; none of a spool that never had one."""
    is_there = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'ledger'").fetchone()
    if is_there is None:
        return LedgerSlice([], 0)
    rows = database.execute(
        "SELECT n, body FROM ledger WHERE n > ? ORDER BY n LIMIT ?", (after_n, LEDGER_LINES)
    ).fetchall()
    (days,) = database.execute("SELECT count(*) FROM ledger WHERE line = 'day'").fetchone()
    return LedgerSlice([(row[0], str(row[1])) for row in rows], days)


def entries_after(
    database: sqlite3.Connection, after_id: int, without_ids: Collection[int] = ()
) -> list[Waiting]:
    """Return the next entries but those named: about SLICE_BYTES of them, at least one."""
    cursor = database.execute(
        "SELECT r.id, run.run, s.stream, s.kind, s.config, r.first, r.seq, r.gap,"
        " r.boot_end_ns IS NOT NULL, r.crc, r.inside, r.body FROM record r"
        " LEFT JOIN series s ON s.id = r.series LEFT JOIN run ON run.id = s.run"
        " WHERE r.id > ? ORDER BY r.id",
        (after_id,),
    )
    found: list[Waiting] = []
    size_bytes = 0
    with closing(cursor):
        for row in cursor:
            if row[0] in without_ids:
                continue
            entry = Waiting(*row)
            found.append(entry)
            size_bytes += len(entry.body)
            if size_bytes >= SLICE_BYTES or len(found) >= SLICE_ENTRIES:
                break
    return found


def figures_of(database: sqlite3.Connection, without_ids: Collection[int] = ()) -> Figures:
    """Return how much waits, without the entries named."""
    without = json.dumps(list(without_ids))
    produced: dict[int, dict[str, int]] = {}
    for run_id, stream, seq in database.execute("SELECT run, stream, seq FROM produced"):
        produced.setdefault(run_id, {})[stream] = seq
    rows = database.execute(
        "SELECT s.run, sum(w.records), sum(w.lost), sum(w.held), min(w.oldest_ns), max(w.newest_ns)"
        " FROM (SELECT series, sum(iif(gap IS NULL, n, 0)) AS records,"
        " sum(iif(gap IS NULL, 0, seq - first + 1)) AS lost,"
        " count(boot_end_ns) AS held,"
        " min(iif(boot_end_ns IS NULL, start_ns, NULL)) AS oldest_ns,"
        " max(iif(boot_end_ns IS NULL, end_ns, NULL)) AS newest_ns"
        " FROM record WHERE id NOT IN (SELECT value FROM json_each(?)) GROUP BY series) w"
        " JOIN series s ON s.id = w.series GROUP BY s.run",
        (without,),
    ).fetchall()
    waiting = {row[0]: row[1:] for row in rows}
    runs = [
        RunFigures(run, bool(clean), produced.get(run_id, {}), *waiting.get(run_id, (0, 0, 0))[:3])
        for run_id, run, clean in database.execute("SELECT id, run, clean FROM run ORDER BY id")
    ]
    (alarms,) = database.execute("SELECT count(*) FROM alarm").fetchone()
    return Figures(
        runs=runs,
        oldest_ns=min((row[3] for row in waiting.values() if row[3] is not None), default=None),
        newest_ns=max((row[4] for row in waiting.values() if row[4] is not None), default=None),
        alarms=alarms,
    )
