"""The durable queue between measuring and sending: one SQLite file.

Invariants:
1. What `append` returned is on the disk: the commit was synced before it returned.
2. Numbers are 1, 2, 3 ... per run and stream, without holes. They are given out inside the
   transaction, so a failed one consumes none; each run is new, so no number ever returns.
3. A record leaves in two ways only: it was acknowledged, or a gap that names its numbers took its
   place in the same transaction. A gap leaves only when acknowledged.
4. For each run the highest number of each stream stays known until a later run has told it.
5. Bodies leave in the order in which they were committed.

An acknowledgement may wait in memory for the next commit: after a crash the record is sent again,
and its key (run, stream, seq) makes that harmless. The file lives in WAL mode with
synchronous=FULL, behind one connection and one lock: a few short transactions a minute.
"""

from __future__ import annotations

import fcntl
import json
import math
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from .clock import HeldBoot, Stamp
from .record import (
    BEFORE_ALL,
    GATEWAY_STREAM,
    Entry,
    Lost,
    Page,
    Parcel,
    Record,
    gap_body,
    with_time,
)

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY, run TEXT UNIQUE, boot_id TEXT, clean INTEGER,
    known_ns INTEGER);
CREATE TABLE produced (run INTEGER, stream TEXT, seq INTEGER, end_ns INTEGER, known_ns INTEGER,
    PRIMARY KEY (run, stream)) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, run INTEGER, stream TEXT, kind TEXT, config TEXT,
    UNIQUE (run, stream, kind, config));
CREATE TABLE record (id INTEGER PRIMARY KEY, series INTEGER, first INTEGER, seq INTEGER,
    start_ns INTEGER, end_ns INTEGER, boot_start_ns INTEGER, boot_end_ns INTEGER, gap TEXT,
    body TEXT);
CREATE INDEX held ON record (id) WHERE boot_end_ns IS NOT NULL;
"""

# Acknowledgements wait for the next commit, but not more of them than this.
ACK_LIMIT = 10_000

# How far back the newest record of a stream is looked for, in entries.
NEWEST_AMONG = 5000

# Free pages are kept for the next outage up to this many, 4 kB each; the others go back in steps,
# and only once most of the file is free: each page that goes back may cost the writing of another.
RECLAIM_PAGES = 256
RECLAIM_AT_ONCE = 512

# How many of the oldest records make room at a time when the spool is full.
EVICT_RECORDS = 500
RECORD_BYTES = 1024  # more than a record takes


class SpoolError(Exception):
    """The spool cannot be read or written; the message names the file and the cause."""


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What an earlier life of the daemon committed in all."""

    run: str
    clean: bool
    produced: dict[str, int]

    def json(self) -> dict[str, object]:
        """Return the contract's `previous` object."""
        return {"run": self.run, "clean": self.clean, "produced": self.produced}


class Spool:
    """Append, peek, acknowledge; safe to call from several threads."""

    def __init__(self, path: Path, *, max_bytes: int, run: str, boot_id: str) -> None:
        """Open or create the file and begin `run`. Raises SpoolError."""
        self._path = path
        self._max_bytes = max_bytes
        # The write-ahead log counts: a small spool has a small one, none more than 1 MiB.
        self._log_bytes = min(2**20, max_bytes // 16)
        self._lock = threading.Lock()
        self._acked: set[int] = set()
        self._series: dict[tuple[str, str, str], int] = {}
        self._keys: dict[int, tuple[str, str, str]] = {}  # series -> run, kind, configuration
        self.evicted = 0  # records replaced by gaps in this run
        self.run = run
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as exc:
            raise SpoolError(f"{path}: cannot be opened: {exc}") from exc
        try:
            self._prepare()
            self.previous = self._find_previous()
            self.known_ns = self._find_known_ns()
            with self._transaction():
                self._forget_old_runs()
                row = self._db.execute(
                    "INSERT INTO run (run, boot_id, clean, known_ns) VALUES (?, ?, 0, ?)",
                    (run, boot_id, self.known_ns),
                )
                self._run_id = row.lastrowid
            self._next_id = 1 + max(0, self._one("SELECT coalesce(max(id), 0) FROM record"))
        except SpoolError:
            self._db.close()
            raise
        except sqlite3.Error as exc:
            self._db.close()
            raise SpoolError(f"{path}: {exc}") from exc
        self._produced: dict[str, int] = {}

    def append(
        self, records: Sequence[Record | Lost], config_id: str, *, hold: bool = False
    ) -> list[Entry]:
        """Commit `records` together, with the acknowledgements that waited; return their entries.

        With `hold`, records whose time is only estimated wait for the clock and have no entry yet.
        Raises SpoolError, and then nothing was committed and no number was used.
        """
        with self._lock:
            produced = dict(self._produced)
            next_id = self._next_id
            series_before = dict(self._series)
            entries, rows = [], []
            try:
                with self._transaction():
                    self._delete_acked()
                    evicted = self._make_room(len(records))
                    for item in records:
                        first = produced.get(item.stream, 0) + 1
                        held = False
                        gap = None
                        boot: tuple[int | None, int | None] = (None, None)
                        if isinstance(item, Lost):
                            seq, gap = first + item.count - 1, item.why
                        else:
                            seq = first
                            held = hold and item.clock.state == "estimated"
                            boot = (item.boot_start_ns, item.boot_end_ns) if held else boot
                        produced[item.stream] = seq
                        names = (item.stream, item.kind, config_id)
                        series = self._series_id(*names)
                        body = item.body(seq)
                        times = (item.start_ns, item.end_ns)
                        rows.append((next_id, series, first, seq, *times, *boot, gap, body))
                        if not held:
                            is_gap = gap is not None
                            entries.append(
                                Entry(next_id, self.run, *names, seq, item.end_ns, body, is_gap)
                            )
                        next_id += 1
                    self._db.executemany(
                        "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
                    )
                    self._db.executemany(
                        "INSERT INTO produced (run, stream, seq) VALUES (?, ?, ?)"
                        " ON CONFLICT DO UPDATE SET seq = excluded.seq",
                        [(self._run_id, s, produced[s]) for s in {r.stream for r in records}],
                    )
                    for item in records:
                        if isinstance(item, Record):
                            self._note_end(self._run_id, item.stream, item.end_ns, item.clock)
            except BaseException as exc:
                self._series = series_before
                self._keys.clear()
                if isinstance(exc, sqlite3.Error):
                    raise SpoolError(f"{self._path}: {exc}") from exc
                raise
            self._acked.clear()
            self.evicted += evicted
            self._produced, self._next_id = produced, next_id
            with suppress(sqlite3.Error):  # what was asked for is done
                self._reclaim()
            return entries

    def peek(
        self,
        *,
        after_id: int = BEFORE_ALL,
        up_to_id: int,
        limit: int,
        parcel_records: int,
        without_kinds: Collection[str] = (),
        without_ids: Collection[int] = (),
    ) -> Page:
        """Pack up to `limit` waiting entries with ids in (after_id, up_to_id], oldest first.

        A parcel holds at most `parcel_records`. Records that wait for the clock are left out.
        Raises SpoolError.
        """
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT id, series, body FROM record WHERE id > ? AND id <= ?"
                " AND boot_end_ns IS NULL ORDER BY id LIMIT ?",
                (after_id, up_to_id, limit),
            ).fetchall()
            open_by_key: dict[tuple[str, str, str], tuple[list[int], list[str]]] = {}
            packed = []
            for row_id, series, body in rows:
                if row_id in self._acked or row_id in without_ids:
                    continue
                key = self._keys.get(series) or self._key_of(series)
                if key[1] in without_kinds:
                    continue
                found = open_by_key.get(key)
                if found is None or len(found[0]) >= parcel_records:
                    found = open_by_key[key] = ([], [])
                    packed.append((key, found))
                found[0].append(row_id)
                found[1].append(body)
            parcels = [Parcel(*key, tuple(ids), tuple(bodies)) for key, (ids, bodies) in packed]
            return Page(parcels, rows[-1][0] if rows else after_id)

    def newest(self) -> tuple[list[Entry], int]:
        """Return the newest waiting record of each stream, and the last id. Raises SpoolError."""
        with self._lock, self._errors():
            last_id = self._next_id - 1
            rows = self._db.execute(
                "SELECT r.id, run.run, s.stream, s.kind, s.config, r.seq, r.end_ns, r.body"
                " FROM record r JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
                " WHERE r.boot_end_ns IS NULL AND r.gap IS NULL AND r.id > ? ORDER BY r.id",
                (last_id - NEWEST_AMONG,),
            )
            by_stream = {row[2]: Entry(*row) for row in rows}
            return [e for e in by_stream.values() if e.id not in self._acked], last_id

    @property
    def last_id(self) -> int:
        """The highest id given out so far."""
        with self._lock:
            return self._next_id - 1

    def acknowledge(self, ids: Iterable[int]) -> None:
        """Note that these entries are done; they leave with the next commit. Raises SpoolError."""
        with self._lock:
            self._acked.update(ids)
            full = len(self._acked) >= ACK_LIMIT
        if full:
            self.settle()

    def reject(self, row_id: int) -> str | None:
        """Put a gap in the place of a record that the broker will never take; return its stream.

        None where it is gone, or is a gap already: that stays, for the next connection. Raises
        SpoolError.
        """
        with self._lock, self._errors(), self._transaction():
            row = self._db.execute(
                "SELECT id, first, seq, start_ns, end_ns, series FROM record"
                " WHERE id = ? AND gap IS NULL",
                (row_id,),
            ).fetchone()
            return None if row is None else self._put_gap([row[:5]], row[5], "rejected")

    def settle(self) -> None:
        """Let the acknowledged entries leave now. Raises SpoolError."""
        with self._lock, self._errors():
            if not self._acked:
                return
            with self._transaction():
                self._delete_acked()
            self._acked.clear()
            self._reclaim()

    def correct(
        self, boot_id: str, utc_ns: Callable[[int], int], stamp: Callable[[int], Stamp]
    ) -> int:
        """Put right the times of records that waited for the clock; return how many.

        `utc_ns` turns an instant of the boot-time clock into UTC, and `stamp` says how it is to be
        taken where the record begins; both hold for the boot `boot_id` only. Raises SpoolError.
        """
        with self._lock, self._errors(), self._transaction():
            rows = self._db.execute(
                "SELECT r.id, run.id, s.stream, r.boot_start_ns, r.boot_end_ns, r.body"
                " FROM record r JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
                " WHERE r.boot_end_ns IS NOT NULL AND run.boot_id = ?",
                (boot_id,),
            ).fetchall()
            for row_id, run_id, stream, boot_start_ns, boot_end_ns, body in rows:
                start_ns, end_ns = utc_ns(boot_start_ns), utc_ns(boot_end_ns)
                clock = stamp(boot_start_ns)
                self._db.execute(
                    "UPDATE record SET start_ns = ?, end_ns = ?, boot_start_ns = NULL,"
                    " boot_end_ns = NULL, body = ? WHERE id = ?",
                    (start_ns, end_ns, with_time(body, start_ns, end_ns, clock), row_id),
                )
                self._note_end(run_id, stream, end_ns, clock)
            return len(rows)

    def release_held(self) -> int:
        """Give up waiting for the clock: records go out as `estimated`. Raises SpoolError."""
        with self._lock, self._errors(), self._transaction():
            cursor = self._db.execute(
                "UPDATE record SET boot_start_ns = NULL, boot_end_ns = NULL"
                " WHERE boot_end_ns IS NOT NULL"
            )
            return cursor.rowcount

    def held(self) -> int:
        """Return how many records wait for the clock. Raises SpoolError."""
        with self._lock, self._errors():
            return self._one("SELECT count(*) FROM record WHERE boot_end_ns IS NOT NULL")

    def held_boots(self) -> list[HeldBoot]:
        """Return the boots whose records wait for the clock, in their order. Raises SpoolError."""
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT b.boot_id, b.first_ns, b.last_ns, run.known_ns,"
                " r.start_ns - r.boot_start_ns"
                " FROM (SELECT run.boot_id, min(r.boot_start_ns) AS first_ns,"
                "  max(r.boot_end_ns) AS last_ns, min(run.id) AS run, max(r.id) AS last_id"
                "  FROM record r JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
                "  WHERE r.boot_end_ns IS NOT NULL GROUP BY run.boot_id) b"
                " JOIN run ON run.id = b.run JOIN record r ON r.id = b.last_id ORDER BY b.run"
            )
            return [HeldBoot(*row) for row in rows]

    def ends(self) -> dict[str, int]:
        """Return to where earlier runs recorded each stream, as far as their time is known.

        Raises SpoolError.
        """
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT stream, max(end_ns) FROM produced"
                " WHERE run <> ? AND end_ns IS NOT NULL GROUP BY stream",
                (self._run_id,),
            )
            return dict(rows.fetchall())

    def produced(self) -> dict[str, int]:
        """Return the highest number of each stream of this run."""
        with self._lock:
            return dict(self._produced)

    def waiting_by_run(self) -> dict[str, int]:
        """Return the number of waiting entries of each run that has any. Raises SpoolError."""
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT run.run, count(*) FROM record r JOIN series s ON s.id = r.series"
                " JOIN run ON run.id = s.run"
                " WHERE r.id NOT IN (SELECT value FROM json_each(?)) GROUP BY run.id",
                (json.dumps(list(self._acked)),),
            )
            return dict(rows.fetchall())

    def oldest_end_ns(self) -> int | None:
        """Return the end of the oldest record whose time is known. Raises SpoolError."""
        with self._lock, self._errors():
            row = self._db.execute(
                "SELECT end_ns FROM record WHERE boot_end_ns IS NULL ORDER BY id LIMIT 1"
            ).fetchone()
            return None if row is None else row[0]

    def bytes(self) -> int:
        """Return the room taken on disk: database, write-ahead log, shared memory.

        Raises SpoolError.
        """
        total = 0
        for suffix in ("", "-wal", "-shm"):
            file = self._path.with_name(self._path.name + suffix)
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise SpoolError(f"{file}: {exc.strerror}") from exc
        return total

    def close(self, *, clean: bool) -> None:
        """Settle and close; `clean` is told by the next run."""
        with self._lock:
            try:
                with self._transaction():
                    self._delete_acked()
                    if clean:
                        self._db.execute("UPDATE run SET clean = 1 WHERE id = ?", (self._run_id,))
            except sqlite3.Error as exc:
                raise SpoolError(f"{self._path}: {exc}") from exc
            finally:
                self._acked.clear()
                self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {self._log_bytes // 4096}")
        self._db.execute(f"PRAGMA journal_size_limit = {self._log_bytes}")
        self._db.execute("PRAGMA busy_timeout = 2000")
        self._db.execute("PRAGMA cache_size = -512")
        version = self._one("PRAGMA user_version")
        if version == 0:
            # executescript commits first, so the script brings its own transaction
            self._db.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
            )
        elif version != SCHEMA_VERSION:
            raise SpoolError(
                f"{self._path}: is of version {version}, this program knows {SCHEMA_VERSION}:"
                " install the version that wrote it, or move the file aside to begin anew"
            )

    def _find_previous(self) -> PreviousRun | None:
        row = self._db.execute(
            "SELECT id, run, clean FROM run"
            " WHERE id IN (SELECT run FROM produced) ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return None
        produced = self._db.execute("SELECT stream, seq FROM produced WHERE run = ?", (row[0],))
        return PreviousRun(row[1], bool(row[2]), dict(produced.fetchall()))

    def _find_known_ns(self) -> int | None:
        """Return UTC that has certainly passed, by the latest run that knew the time."""
        row = self._db.execute(
            "SELECT coalesce((SELECT max(known_ns) FROM produced WHERE run = run.id), known_ns)"
            " FROM run ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return None if row is None else row[0]

    def _note_end(self, run_id: int | None, stream: str, end_ns: int, clock: Stamp) -> None:
        """Remember how far a stream reaches; less the error, that has certainly passed."""
        if clock.state == "estimated":
            return
        known_ns = None if clock.error_s is None else end_ns - math.ceil(clock.error_s * 1e9)
        self._db.execute(
            "UPDATE produced SET end_ns = max(coalesce(end_ns, ?1), ?1),"
            " known_ns = coalesce(max(known_ns, ?2), known_ns, ?2) WHERE run = ?3 AND stream = ?4",
            (end_ns, known_ns, run_id, stream),
        )

    def _forget_old_runs(self) -> None:
        # The previous run stays: if this one dies before it commits, the next must tell of it.
        keep = (
            "SELECT run FROM series WHERE id IN (SELECT DISTINCT series FROM record)"
            " UNION SELECT max(run) FROM produced"
        )
        self._db.execute(f"DELETE FROM produced WHERE run NOT IN ({keep})")  # noqa: S608
        self._db.execute(f"DELETE FROM run WHERE id NOT IN ({keep})")  # noqa: S608
        self._db.execute("DELETE FROM series WHERE id NOT IN (SELECT DISTINCT series FROM record)")

    def _key_of(self, series: int) -> tuple[str, str, str]:
        key: tuple[str, str, str] = self._db.execute(
            "SELECT run.run, s.kind, s.config FROM series s JOIN run ON run.id = s.run"
            " WHERE s.id = ?",
            (series,),
        ).fetchone()
        self._keys[series] = key
        return key

    def _series_id(self, stream: str, kind: str, config_id: str) -> int:
        key = (stream, kind, config_id)
        if key not in self._series:
            self._series[key] = self._series_of_run(self._run_id, *key)
        return self._series[key]

    def _series_of_run(self, run_id: int | None, stream: str, kind: str, config_id: str) -> int:
        values = (run_id, stream, kind, config_id)
        self._db.execute(
            "INSERT OR IGNORE INTO series (run, stream, kind, config) VALUES (?, ?, ?, ?)", values
        )
        return self._one(
            "SELECT id FROM series WHERE run = ? AND stream = ? AND kind = ? AND config = ?",
            *values,
        )

    def _reclaim(self) -> None:
        """Give free pages back to the filesystem once a drain has left many."""
        free = self._one("PRAGMA freelist_count")
        if free > RECLAIM_PAGES and free > self._one("PRAGMA page_count") // 2:
            # `execute` steps a statement without columns once, and that frees a single page
            self._db.executescript(f"PRAGMA incremental_vacuum({RECLAIM_AT_ONCE})")

    def _delete_acked(self) -> None:
        ranges = _ranges(sorted(self._acked))
        self._db.executemany("DELETE FROM record WHERE id BETWEEN ? AND ?", ranges)

    def _make_room(self, records: int) -> int:
        """Replace the oldest records by gaps if `records` more would pass the bound (invariant 3).

        Start records go last. Returns how many records were given up.
        """
        # A quarter stays free for the write-ahead log and for the gaps themselves.
        bound = self._max_bytes * 3 // 4 - records * RECORD_BYTES
        evicted = 0
        while self._used_bytes() >= bound:
            oldest = self._oldest(starts=False) or self._oldest(starts=True)
            if not oldest:
                break
            for series in {row[1] for row in oldest}:
                self._give_up([row[0] for row in oldest if row[1] == series], series)
            evicted += len(oldest)
        return evicted

    def _used_bytes(self) -> int:
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return pages * self._one("PRAGMA page_size")

    def _oldest(self, *, starts: bool) -> list[tuple[int, int]]:
        return self._db.execute(
            "SELECT r.id, r.series FROM record r JOIN series s ON s.id = r.series"
            " WHERE r.gap IS NULL AND (s.stream = ?) = ? ORDER BY r.id LIMIT ?",
            (GATEWAY_STREAM, starts, min(EVICT_RECORDS, self._log_bytes // RECORD_BYTES)),
        ).fetchall()

    def _give_up(self, ids: Sequence[int], series: int) -> None:
        """Put gaps in the place of records of one series, joined to gaps already there."""
        rows = self._db.execute(
            "SELECT id, first, seq, iif(boot_end_ns IS NULL, start_ns, NULL),"
            " iif(boot_end_ns IS NULL, end_ns, NULL) FROM record WHERE series = ?"
            " AND (gap = 'spool_full' OR id IN (SELECT value FROM json_each(?))) ORDER BY first",
            (series, json.dumps(ids)),
        ).fetchall()
        for group in _consecutive(rows):
            if len(group) > 1 or group[0][0] in ids:  # else a gap with nothing new beside it
                self._put_gap(group, series, "spool_full")

    def _put_gap(self, rows: Sequence[tuple[int, ...]], series: int, why: str) -> str:
        """Put one gap in the place of rows (id, first, seq, start_ns, end_ns) of one series."""
        stream = str(
            self._db.execute("SELECT stream FROM series WHERE id = ?", (series,)).fetchone()[0]
        )
        self._db.executemany("DELETE FROM record WHERE id = ?", [(row[0],) for row in rows])
        first, last = rows[0][1], rows[-1][2]
        start_ns = min((row[3] for row in rows if row[3] is not None), default=None)
        end_ns = max((row[4] for row in rows if row[4] is not None), default=None)
        last_id = max(row[0] if row[0] > 0 else row[0] - BEFORE_ALL for row in rows)
        body = gap_body(stream, first, last, why, start_ns, end_ns)
        self._db.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, ?, ?)",
            (BEFORE_ALL + last_id, series, first, last, start_ns, end_ns, why, body),
        )
        return stream

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise SpoolError(f"{self._path}: {exc}") from exc

    def _one(self, query: str, *values: object) -> int:
        return int(self._db.execute(query, values).fetchone()[0])


def claim(path: Path) -> IO[str]:
    """Keep other gateways away from the spool at `path` until what is returned is closed.

    Two would give out the same numbers. Raises SpoolError where another process has it.
    """
    file = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = file.open("a", encoding="utf-8")
    except OSError as exc:
        raise SpoolError(f"{path}: cannot be opened: {exc.strerror}") from exc
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        held.close()
        raise SpoolError(f"{path}: another gateway is running on it; stop that one first") from exc
    return held


def _ranges(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Join ascending ids that follow each other: 1 2 3 7 -> (1, 3) (7, 7)."""
    ranges: list[tuple[int, int]] = []
    first = last = None
    for each in ids:
        if last is None or each != last + 1:
            if first is not None and last is not None:
                ranges.append((first, last))
            first = each
        last = each
    if first is not None and last is not None:
        ranges.append((first, last))
    return ranges


def _consecutive(rows: Iterable[tuple[int, int, int, int, int]]) -> list[list[tuple[int, ...]]]:
    """Group rows (id, first, seq, ...) ordered by `first` whose numbers follow each other."""
    groups: list[list[tuple[int, ...]]] = []
    for row in rows:
        if groups and row[1] == groups[-1][-1][2] + 1:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
