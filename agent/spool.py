"""The durable queue between measuring and sending: one SQLite file.

Invariants:
1. What `append` returned is on the disk: the commit was synced before it returned. (Only where
   `is_volatile` says so, because the disk is gone, it is in memory.)
2. Numbers are 1, 2, 3 ... per run and stream, without holes. They are given out inside the
   transaction, so a failed one consumes none; each run is new, so no number ever returns.
3. A record leaves in two ways only: it was acknowledged, or a gap that names its numbers took its
   place in the same transaction. A gap leaves only when acknowledged.
4. For each run the highest number of each stream stays known until a later run has told it.
5. Bodies leave in the order in which they were committed.
6. Nothing that is found in the file stops the gateway: what is damaged is set aside, what can be
   read of it goes on, and the rest is named in gaps (`spoolfile`).

An entry is one record or gap, or one pack: PACK_RECORDS records of one run, kind and
configuration, which waited together and were deflated into the message that they will be. A
backlog is so a tenth of its size, and leaves without being touched again.

An acknowledgement may wait in memory for the next commit: after a crash the record is sent again,
and its key (run, stream, seq) makes that harmless. The file lives in WAL mode with
synchronous=FULL, behind one connection and one lock: a few short transactions a minute.
"""

from __future__ import annotations

import fcntl
import json
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import IO, Any

from .clock import Stamp
from .record import (
    ALERTS_STREAM,
    BEFORE_ALL,
    GATEWAY_STREAM,
    AlertRecord,
    Entry,
    Lost,
    Page,
    Parcel,
    Record,
    Top,
    batch,
    bodies_of,
    deflated,
    gap_body,
    utc_ns,
    with_time,
)
from .spoolfile import (
    INSERT_RECORD,
    RECORD,
    Damage,
    DamagedError,
    check,
    checksum,
    is_damage,
    open_file,
    open_memory,
    replace_damaged,
)

# Acknowledgements wait for the next commit, but not more of them than this, in records.
ACK_LIMIT = 20_000

# How far back the newest record of a stream is looked for, in entries.
NEWEST_AMONG = 5000

# So many records of one run, kind and configuration become one entry. Beyond a few hundred they
# deflate hardly better, and a broker that is slow or strict gets large messages.
PACK_RECORDS = 200
PACK_LOOK = 4000  # entries looked at to find them
PACK_LEVEL = 9  # of zlib: each record is deflated once, a few times an hour

# A page that is handed out is smaller than this, however large the entries are.
PAGE_BYTES = 2**19

# Free pages are kept for the next outage up to this many, 4 kB each; the others go back in steps,
# and only once most of the file is free: each page that goes back may cost the writing of another.
RECLAIM_PAGES = 256
RECLAIM_AT_ONCE = 2048

# How many of the oldest records make room at a time when the spool is full.
EVICT_RECORDS = 500
RECORD_BYTES = 1024  # more than a record takes

MEMORY_BYTES = 8 * 2**20  # in memory, while the disk is gone

# `keep`: what is given up last
KEEP_ALERT, KEEP_START = 1, 2
KEEP = {ALERTS_STREAM: KEEP_ALERT, GATEWAY_STREAM: KEEP_START}

_ENTRY = (
    "SELECT r.id, run.run, s.stream, s.kind, s.config, r.seq, r.end_ns, r.body,"
    " r.gap IS NOT NULL FROM record r JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
)


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

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        run: str,
        boot_id: str,
        gateway: str = "",
        pack_records: int = PACK_RECORDS,
    ) -> None:
        """Open or create the file and begin `run`.

        Where the disk does not work, the spool lives in memory until `reopen` finds that it does.
        `gateway` and `pack_records` are those of the messages that packs will be; without a
        gateway the spool is only looked at, and every pack is shown.
        """
        self._path = path
        self._max_bytes = max_bytes
        # The write-ahead log counts: a small spool has a small one, none more than 1 MiB.
        self._log_bytes = min(2**20, max_bytes // 16)
        self._gateway = gateway
        self._pack_records = pack_records
        self._lock = threading.Lock()
        self._acked: set[int] = set()
        self._acked_records = 0
        self._series: dict[tuple[str, str, str], int] = {}
        self._names: dict[int, tuple[str, str, str, str]] = {}  # run, stream, kind, configuration
        self._waiting: Counter[str] | None = None  # by run; None: to be counted
        self._loose = 0  # entries that may be worth packing
        self._packed_to = 0
        self._produced: dict[str, int] = {}
        self.evicted = 0  # records replaced by gaps in this run
        self.damages: list[Damage] = []  # what happened to the file, until somebody takes it
        self.is_volatile = False
        self.why_volatile = ""
        self.run = run
        self._boot_id = boot_id
        self.previous: PreviousRun | None = None
        self._next_id = 0
        self.ended_clean = True  # the life before
        try:
            self._db = self._open()
            self._begin()
        except (OSError, sqlite3.Error, DamagedError) as exc:
            self._turn_volatile(exc)
        self._loose = self._pack_records  # an earlier life may have left some

    def append(
        self, records: Sequence[Record | AlertRecord | Lost], config_id: str, *, hold: bool = False
    ) -> list[Entry]:
        """Commit `records` together, with the acknowledgements that waited; return their entries.

        With `hold`, records whose time is only estimated wait for the clock and have no entry yet;
        alerts do not wait.
        Raises SpoolError, and then nothing was committed and no number was used.
        """
        with self._lock:
            produced = dict(self._produced)
            ends: dict[str, int | None] = {}
            series_before = dict(self._series)
            entries, rows = [], []
            try:
                with self._transaction():
                    self._delete_acked()
                    evicted = self._make_room(len(records))
                    next_id = self._next_id
                    for item in records:
                        first = produced.get(item.stream, 0) + 1
                        held = False
                        gap = None
                        boot: tuple[int | None, int | None] = (None, None)
                        ends.setdefault(item.stream, None)
                        if isinstance(item, Lost):
                            seq, gap = first + item.count - 1, item.why
                        else:
                            seq = first
                            is_estimated = item.clock.state == "estimated"
                            if hold and is_estimated and isinstance(item, Record):
                                held = True
                                boot = (item.boot_start_ns, item.boot_end_ns)
                            if not is_estimated:
                                ends[item.stream] = item.end_ns
                        produced[item.stream] = seq
                        names = (item.stream, item.kind, config_id)
                        series = self._series_id(*names)
                        body = item.body(seq)
                        times = (item.start_ns, item.end_ns)
                        keep = KEEP.get(item.stream)
                        crc = checksum(body)
                        rows.append(
                            (
                                next_id,
                                series,
                                1,
                                first,
                                seq,
                                *times,
                                *boot,
                                gap,
                                keep,
                                crc,
                                None,
                                body,
                            )
                        )
                        if not held:
                            is_gap = gap is not None
                            entries.append(
                                Entry(next_id, self.run, *names, seq, item.end_ns, body, is_gap)
                            )
                        next_id += 1
                    self._db.executemany(INSERT_RECORD, rows)
                    self._note_produced({s: (produced[s], end_ns) for s, end_ns in ends.items()})
            except BaseException as exc:
                self._series = series_before
                self._names.clear()
                self._waiting = None
                if isinstance(exc, sqlite3.Error):
                    raise self._failed(exc) from exc
                raise
            self._forget_acked()
            self.evicted += evicted
            self._produced, self._next_id = produced, next_id
            self._loose += len(rows)
            if self._waiting is not None:
                self._waiting[self.run] += len(rows)
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
        """Pack waiting entries with ids in (after_id, up_to_id] to travel, oldest first.

        At most `limit` entries and PAGE_BYTES are looked at; a parcel holds at most
        `parcel_records`. Alerts, and records that wait for the clock, are left out. Raises
        SpoolError.
        """
        with self._lock, self._errors():
            parcels: list[_Open] = []
            open_by_key: dict[tuple[str, str, str], _Open] = {}
            unfit, damaged = [], []
            size_bytes, seen = 0, after_id
            cursor = self._db.execute(
                "SELECT id, series, n, seq, crc, inside, body FROM record"
                " WHERE id > ? AND id <= ? AND boot_end_ns IS NULL AND keep IS NOT 1"
                " AND series NOT IN (SELECT s.id FROM series s JOIN json_each(?) k"
                " ON s.kind = k.value) ORDER BY id LIMIT ?",
                (after_id, up_to_id, json.dumps(list(without_kinds)), limit),
            )
            with closing(cursor):
                for row_id, series, count, seq, crc, inside, body in cursor:
                    seen = row_id
                    if row_id in self._acked or row_id in without_ids:
                        continue
                    if checksum(body) != crc:
                        damaged.append(row_id)
                        continue
                    size_bytes += len(body)
                    run, stream, kind, config_id = self._names.get(series) or self._name(series)
                    key = (run, kind, config_id)
                    if inside is None:
                        found = open_by_key.get(key)
                        if found is None or len(found.ids) >= parcel_records:
                            found = open_by_key[key] = _Open(key)
                            parcels.append(found)
                        found.ids.append(row_id)
                        found.bodies.append(body)
                        found.tops.append(((stream, seq),))
                    else:
                        about = json.loads(inside)
                        if count > parcel_records or self._gateway not in ("", about["gateway"]):
                            unfit.append(row_id)
                            continue
                        # What comes after it must not join what was opened before it.
                        open_by_key.pop(key, None)
                        tops = tuple((span[0], span[2]) for span in about["spans"])
                        parcels.append(_Open(key, [row_id], [], [tops], body, count))
                    if size_bytes >= PAGE_BYTES:
                        break
            if damaged:
                with self._transaction():
                    self._give_up(damaged, "corrupt")
            return Page([each.parcel() for each in parcels], seen, tuple(unfit))

    def newest(self) -> tuple[list[Entry], int]:
        """Return the newest waiting record of each stream, and the last id. Raises SpoolError."""
        with self._lock, self._errors():
            last_id = self._next_id - 1
            rows = self._db.execute(
                _ENTRY + " WHERE r.id IN (SELECT max(r.id) FROM record r JOIN series s"
                " ON s.id = r.series WHERE r.id > ? AND r.boot_end_ns IS NULL AND r.gap IS NULL"
                " AND r.inside IS NULL AND r.keep IS NOT 1 GROUP BY s.stream) ORDER BY r.id",
                (last_id - NEWEST_AMONG,),
            )
            return [Entry(*row) for row in rows if row[0] not in self._acked], last_id

    def alerts(self, limit: int, without_ids: Collection[int] = ()) -> list[Entry]:
        """Return the oldest waiting alerts, gaps among them. Raises SpoolError."""
        with self._lock, self._errors():
            cursor = self._db.execute(_ENTRY + " WHERE r.keep = ? ORDER BY r.id", (KEEP_ALERT,))
            with closing(cursor):
                waiting = (
                    Entry(*row)
                    for row in cursor
                    if row[0] not in self._acked and row[0] not in without_ids
                )
                return list(islice(waiting, limit))

    def alarms(self) -> list[dict[str, Any]]:
        """Return the newest record of each alert that is raised. Raises SpoolError."""
        with self._lock, self._errors():
            rows = self._db.execute("SELECT body FROM alarm ORDER BY sensor, alert").fetchall()
            return [json.loads(row[0]) for row in rows]

    @property
    def last_id(self) -> int:
        """The highest id given out so far."""
        with self._lock:
            return self._next_id - 1

    def acknowledge(self, ids: Iterable[int], records: int = 1) -> None:
        """Note that these entries are done; they leave with the next commit.

        `records` is how many are in them. Raises SpoolError.
        """
        with self._lock:
            self._acked.update(ids)
            self._acked_records += records
            full = self._acked_records >= ACK_LIMIT or len(self._acked) >= ACK_LIMIT
        if full and not self.is_volatile:
            self.settle()

    def reject(self, row_id: int) -> str | None:
        """Put a gap in the place of a record that the broker will never take; return its stream.

        None where it is gone, or is a gap already: that stays, for the next connection. Raises
        SpoolError.
        """
        with self._lock, self._errors(), self._transaction():
            row = self._db.execute(
                "SELECT s.stream FROM record r JOIN series s ON s.id = r.series"
                " WHERE r.id = ? AND r.gap IS NULL",
                (row_id,),
            ).fetchone()
            if row is None:
                return None
            self._give_up([row_id], "rejected")
            return str(row[0])

    def settle(self) -> None:
        """Let the acknowledged entries leave now. Raises SpoolError."""
        with self._lock, self._errors():
            if not self._acked:
                return
            with self._transaction():
                self._delete_acked()
            self._forget_acked()

    # Packing

    @property
    def is_loose(self) -> bool:
        """Whether `pack` may find something to do."""
        return self._loose >= self._pack_records

    def pack(self, without_ids: Collection[int] = (), *, up_to_id: int | None = None) -> int:
        """Pack what has waited together long enough; return how many records were packed.

        Entries named, those above `up_to_id`, and the newest of each stream, stay as they are: they
        may be on their way. Raises SpoolError.
        """
        with self._lock, self._errors():
            last_id = self._next_id - 1 if up_to_id is None else up_to_id
            groups, stays, seen = self._loose_ones(last_id)
            stays |= set(without_ids)
            packed, left, tail = 0, [], 0
            with self._transaction():
                for (run, kind, config_id), rows in groups.items():
                    least = self._pack_records if run == self.run else self._pack_records // 8
                    # Only neighbours: what stays must not change places with what is packed.
                    for is_fixed, neighbours in groupby(rows, lambda row: row[0] in stays):
                        free = list(neighbours)
                        while not is_fixed and len(free) >= max(2, least):
                            chosen, free = free[: self._pack_records], free[self._pack_records :]
                            self._put_pack(run, kind, config_id, chosen)
                            packed += len(chosen)
                        if run == self.run:
                            left += [row[0] for row in free if row[9] is not None]
                            tail = max(tail, len(free))
            # What is left of earlier runs stays as it is: nothing joins it any more.
            busy = [each for each in without_ids if each > self._packed_to]
            self._packed_to = min([*left, *busy, seen + 1]) - 1
            self._loose = min(tail, self._pack_records - 1)
            return packed

    def unpack(self, ids: Iterable[int]) -> None:
        """Turn packs that cannot travel as they are into single entries. Raises SpoolError."""
        with self._lock, self._errors(), self._transaction():
            for row_id in ids:
                row = self._db.execute(
                    "SELECT series, inside, body FROM record WHERE id = ? AND inside IS NOT NULL",
                    (row_id,),
                ).fetchone()
                if row is None:
                    continue
                try:
                    singles = self._singles(*row)
                except (ValueError, KeyError):
                    self._give_up([row_id], "corrupt")
                    continue
                self._db.execute("DELETE FROM record WHERE id = ?", (row_id,))
                self._db.executemany(INSERT_RECORD, singles)

    def _loose_ones(
        self, last_id: int
    ) -> tuple[dict[tuple[str, str, str], list[tuple[Any, ...]]], set[int], int]:
        """Return the rows by run, kind and configuration; what stays single; the last id.

        Packs are among them, and stay: what is before one must not be packed with what is after.
        """
        rows = self._db.execute(
            "SELECT r.id, run.run, s.kind, s.config, s.stream, r.first, r.seq, r.start_ns,"
            " r.end_ns, iif(r.inside IS NULL, r.body, NULL) FROM record r"
            " JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
            " WHERE r.id > ? AND r.id <= ? AND r.gap IS NULL AND r.keep IS NULL"
            " AND r.boot_end_ns IS NULL ORDER BY r.id LIMIT ?",
            (max(0, self._packed_to), last_id, PACK_LOOK),
        ).fetchall()
        stays = {row[4] or row[0]: row[0] for row in rows}  # each stream's newest, and packs
        groups: dict[tuple[str, str, str], list[tuple[Any, ...]]] = {}
        for row in rows:
            if row[0] not in self._acked:
                groups.setdefault(row[1:4], []).append(row)
        seen = rows[-1][0] if len(rows) == PACK_LOOK else last_id
        return groups, set(stays.values()), seen

    def _put_pack(self, run: str, kind: str, config_id: str, rows: list[tuple[Any, ...]]) -> None:
        # By stream they deflate better; within a stream they keep their order.
        rows = sorted(rows, key=lambda row: (row[4], row[0]))
        payload = deflated(
            batch(self._gateway, run, kind, config_id, (row[9] for row in rows)), PACK_LEVEL
        )
        spans: list[list[Any]] = []
        for row in rows:
            stream, first, seq, start_ns, end_ns = row[4:9]
            if spans and spans[-1][0] == stream and first == spans[-1][2] + 1:
                spans[-1][2], spans[-1][4], spans[-1][5] = seq, end_ns, row[0]
            else:
                spans.append([stream, first, seq, start_ns, end_ns, row[0]])
        ids = [row[0] for row in rows]
        inside = {"gateway": self._gateway, "spans": spans, "ids": ids}
        run_id = self._one("SELECT id FROM run WHERE run = ?", run)
        series = self._series_of_run(run_id, "", kind, config_id)
        times = (min(row[7] for row in rows), max(row[8] for row in rows), None, None)
        text = json.dumps(inside, separators=(",", ":"))
        self._delete(ids)
        self._db.execute(
            INSERT_RECORD,
            (
                min(ids),
                series,
                len(ids),
                None,
                None,
                *times,
                None,
                None,
                checksum(payload),
                text,
                payload,
            ),
        )

    def _singles(self, series: int, inside: str, payload: bytes) -> list[tuple[Any, ...]]:
        """Return the rows that a pack was made of. Raises ValueError or KeyError if damaged."""
        about = json.loads(inside)
        _, _, kind, config_id = self._name(series)
        run_id = self._one("SELECT run FROM series WHERE id = ?", series)
        bodies = bodies_of(payload)
        rows: list[tuple[Any, ...]] = []
        for row_id, body in zip(about["ids"], bodies, strict=True):
            said = json.loads(body)
            own = self._series_of_run(run_id, said["stream"], kind, config_id)
            times = (utc_ns(said["start"]), utc_ns(said["end"]), None, None)
            seq = said["seq"]
            rows.append((row_id, own, 1, seq, seq, *times, None, None, checksum(body), None, body))
        return rows

    # The clock

    def correct(self, boot_id: str, utc_ns: Callable[[int], int], clock: Stamp) -> int:
        """Put right the times of records that waited for the clock; return how many.

        `utc_ns` turns an instant of the boot-time clock into UTC; it holds for records of the boot
        `boot_id` only. Raises SpoolError.
        """
        with self._lock, self._errors(), self._transaction():
            rows = self._db.execute(
                "SELECT r.id, r.boot_start_ns, r.boot_end_ns, r.body FROM record r"
                " JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
                " WHERE r.boot_end_ns IS NOT NULL AND run.boot_id = ?",
                (boot_id,),
            ).fetchall()
            for row_id, boot_start_ns, boot_end_ns, body in rows:
                start_ns, end_ns = utc_ns(boot_start_ns), utc_ns(boot_end_ns)
                body = with_time(body, start_ns, end_ns, clock)
                self._db.execute(
                    "UPDATE record SET start_ns = ?, end_ns = ?, boot_start_ns = NULL,"
                    " boot_end_ns = NULL, crc = ?, body = ? WHERE id = ?",
                    (start_ns, end_ns, checksum(body), body, row_id),
                )
            return len(rows)

    def release_held(self, *, other_boots_than: str | None = None) -> int:
        """Give up waiting for the clock: records go out as `estimated`. Raises SpoolError.

        `other_boots_than` limits it to records of earlier boots, whose clock nobody can ask.
        """
        with self._lock, self._errors(), self._transaction():
            cursor = self._db.execute(
                "UPDATE record SET boot_start_ns = NULL, boot_end_ns = NULL"
                " WHERE boot_end_ns IS NOT NULL AND series IN (SELECT s.id FROM series s"
                " JOIN run ON run.id = s.run WHERE run.boot_id IS NOT ?)",
                (other_boots_than,),
            )
            return cursor.rowcount

    def held(self) -> int:
        """Return how many records wait for the clock. Raises SpoolError."""
        with self._lock, self._errors():
            return self._one("SELECT count(*) FROM record WHERE boot_end_ns IS NOT NULL")

    # What it says of itself

    def produced(self) -> dict[str, int]:
        """Return the highest number of each stream of this run."""
        with self._lock:
            return dict(self._produced)

    def ends(self) -> dict[str, int]:
        """Return the newest end of each stream, of any run, under a known time.

        Raises SpoolError.
        """
        with self._lock, self._errors():
            rows = self._db.execute(
                "SELECT stream, max(end_ns) FROM produced WHERE end_ns IS NOT NULL GROUP BY stream"
            )
            return dict(rows.fetchall())

    def waiting_by_run(self) -> dict[str, int]:
        """Return the number of waiting entries of each run that has any. Raises SpoolError."""
        with self._lock, self._errors():
            if self._waiting is None:
                rows = self._db.execute(
                    "SELECT run.run, sum(n.n) FROM (SELECT series, sum(n) AS n FROM record"
                    " GROUP BY series) n JOIN series s ON s.id = n.series"
                    " JOIN run ON run.id = s.run GROUP BY run.id"
                )
                self._waiting = Counter(dict(rows.fetchall()))
            acked = self._db.execute(
                "SELECT run.run, sum(r.n) FROM record r JOIN series s ON s.id = r.series"
                " JOIN run ON run.id = s.run WHERE r.id IN (SELECT value FROM json_each(?))"
                " GROUP BY run.id",
                (json.dumps(list(self._acked)),),
            )
            left = self._waiting - Counter(dict(acked.fetchall()))
            return {run: count for run, count in left.items() if count > 0}

    def oldest_end_ns(self) -> int | None:
        """Return the end of the oldest record whose time is known. Raises SpoolError."""
        with self._lock, self._errors():
            row: tuple[int] | None = self._db.execute(
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

    # The file

    def check(self, goes_on: Callable[[], bool]) -> bool:
        """Read the whole file and replace it if it is damaged; return whether it was sound.

        For a thread of its own: it takes its time, and `goes_on` says whether to go on. Raises
        SpoolError.
        """
        if self.is_volatile:
            return True
        with self._errors():
            wrong = check(self._path, goes_on)
        if wrong is not None:
            with self._lock, self._errors():
                self._replace(wrong)
        return wrong is None

    def turn_volatile(self, why: Exception) -> None:
        """Give the disk up for now: numbers and records go on in memory."""
        with self._lock:
            if not self.is_volatile:
                self._turn_volatile(why)

    def reopen(self) -> bool:
        """Try to go back to the disk, with what is in memory; tell whether it is there."""
        with self._lock:
            if not self.is_volatile:
                return True
            memory = self._db
            try:
                self._db = self._open()
                try:
                    self._take_over(memory)
                except BaseException:
                    self._db.close()
                    raise
            except (OSError, sqlite3.Error, DamagedError) as exc:
                self._db = memory
                self.why_volatile = str(exc)
                return False
            memory.close()
            self.is_volatile, self.why_volatile = False, ""
            return True

    def close(self, *, clean: bool) -> None:
        """Settle and close; `clean` is told by the next run. Raises SpoolError."""
        with self._lock:
            try:
                with self._transaction():
                    self._delete_acked()
                    if clean:
                        self._db.execute("UPDATE run SET clean = 1 WHERE id = ?", (self._run_id,))
            except sqlite3.Error as exc:
                raise SpoolError(f"{self._path}: {exc}") from exc
            finally:
                self._forget_acked()
                self._db.close()

    def _open(self) -> sqlite3.Connection:
        try:
            return open_file(self._path, self._log_bytes)
        except DamagedError as exc:
            self.damages.append(replace_damaged(self._path, str(exc)))
            return open_file(self._path, self._log_bytes)

    def _begin(self) -> None:
        """Begin the run in a file just opened."""
        row = self._db.execute("SELECT clean FROM run ORDER BY id DESC LIMIT 1").fetchone()
        self.ended_clean = row is None or bool(row[0])
        self.previous = self._find_previous()
        with self._transaction():
            self._forget_old_runs()
            self._run_id = self._begin_run()
        self._next_id = 1 + self._highest_id()

    def _highest_id(self) -> int:
        """Return the highest id in the file; those in gaps' ids and inside packs count."""
        single = self._one("SELECT coalesce(max(id), 0) FROM record")
        in_gap = self._one(
            "SELECT coalesce(max(id), ?) FROM record WHERE id < ?", BEFORE_ALL, BEFORE_ALL // 2
        )
        in_pack = self._one(
            "SELECT coalesce(max(json_extract(span.value, '$[5]')), 0)"
            " FROM record r, json_each(r.inside, '$.spans') span WHERE r.inside IS NOT NULL"
        )
        return max(0, single, in_gap - BEFORE_ALL, in_pack)

    def _begin_run(self) -> int:
        self._db.execute(
            "INSERT OR IGNORE INTO run (run, boot_id, clean) VALUES (?, ?, 0)",
            (self.run, self._boot_id),
        )
        return self._one("SELECT id FROM run WHERE run = ?", self.run)

    def _failed(self, exc: sqlite3.Error) -> SpoolError:
        """Do what can be done about an error, and return what to raise."""
        if is_damage(exc) and not self.is_volatile:
            with suppress(OSError, sqlite3.Error):
                self._replace(str(exc))
        return SpoolError(f"{self._path}: {exc}")

    def _replace(self, why: str) -> None:
        """Replace the file while it is in use; this run goes on in the new one."""
        self._db.close()
        try:
            self.damages.append(replace_damaged(self._path, why, {self.run: self._produced}))
            self._db = open_file(self._path, self._log_bytes)
            self._go_on()
        except (OSError, sqlite3.Error, DamagedError) as exc:
            self._turn_volatile(exc)

    def _turn_volatile(self, why: Exception) -> None:
        with suppress(AttributeError, sqlite3.Error):  # it may never have been open
            self._db.close()
        self.is_volatile, self.why_volatile = True, str(why)
        self._db = open_memory()
        self._go_on()
        if not self._next_id:
            # Above every number in a file that nobody has seen, and unlike an earlier such life's.
            self._next_id = 2**40 + time.time_ns() // 1000 + random.SystemRandom().getrandbits(39)
        self._volatile_from = self._next_id

    def _go_on(self) -> None:
        """Go on with this run in another file."""
        self._forget_file()
        with self._transaction():
            self._run_id = self._begin_run()
            self._note_produced({stream: (seq, None) for stream, seq in self._produced.items()})

    def _take_over(self, memory: sqlite3.Connection) -> None:
        """Write down what is in memory."""
        if self.previous is None and not self._one(
            "SELECT count(*) FROM run WHERE run = ?", self.run
        ):
            self.previous = self._find_previous()
        self._forget_file()
        series = memory.execute("SELECT id, stream, kind, config FROM series").fetchall()
        with self._transaction():
            self._run_id = self._begin_run()
            self._delete_acked()
            known = {row[0]: self._series_of_run(self._run_id, *row[1:]) for row in series}
            rows = memory.execute(f"SELECT {RECORD} FROM record")
            self._db.executemany(INSERT_RECORD, ((row[0], known[row[1]], *row[2:]) for row in rows))
            self._db.executemany(
                "INSERT OR REPLACE INTO alarm VALUES (?, ?, ?)",
                memory.execute("SELECT sensor, alert, body FROM alarm").fetchall(),
            )
            self._note_produced(
                {
                    row[0]: (row[1], row[2])
                    for row in memory.execute("SELECT stream, seq, end_ns FROM produced")
                }
            )
        self._forget_acked()
        self._loose = self._pack_records

    def _forget_file(self) -> None:
        self._series.clear()
        self._names.clear()
        self._waiting = None
        self._packed_to = 0

    def _find_previous(self) -> PreviousRun | None:
        row = self._db.execute(
            "SELECT id, run, clean FROM run WHERE run != ?"
            " AND id IN (SELECT run FROM produced) ORDER BY id DESC LIMIT 1",
            (self.run,),
        ).fetchone()
        if row is None:
            return None
        produced = self._db.execute("SELECT stream, seq FROM produced WHERE run = ?", (row[0],))
        return PreviousRun(row[1], bool(row[2]), dict(produced.fetchall()))

    def _forget_old_runs(self) -> None:
        # The previous run stays: if this one dies before it commits, the next must tell of it.
        keep = (
            "SELECT run FROM series WHERE id IN (SELECT DISTINCT series FROM record)"
            " UNION SELECT max(run) FROM produced"
        )
        self._db.execute(f"DELETE FROM produced WHERE run NOT IN ({keep})")
        self._db.execute(f"DELETE FROM run WHERE id NOT IN ({keep})")
        self._db.execute("DELETE FROM series WHERE id NOT IN (SELECT DISTINCT series FROM record)")

    def _note_produced(self, produced: Mapping[str, tuple[int, int | None]]) -> None:
        """Write down each stream's highest number, and its newest end where that is known."""
        self._db.executemany(
            "INSERT INTO produced VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " seq = max(seq, excluded.seq), end_ns = coalesce(excluded.end_ns, end_ns)",
            [(self._run_id, name, seq, end_ns) for name, (seq, end_ns) in produced.items()],
        )

    def _name(self, series: int) -> tuple[str, str, str, str]:
        if series not in self._names:
            self._names[series] = self._db.execute(
                "SELECT run.run, s.stream, s.kind, s.config FROM series s"
                " JOIN run ON run.id = s.run WHERE s.id = ?",
                (series,),
            ).fetchone()
        return self._names[series]

    def _series_id(self, stream: str, kind: str, config_id: str) -> int:
        key = (stream, kind, config_id)
        if key not in self._series:
            self._series[key] = self._series_of_run(self._run_id, *key)
        return self._series[key]

    def _series_of_run(self, run_id: int, stream: str, kind: str, config_id: str) -> int:
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
        if self._acked:
            self._delete(list(self._acked))

    def _forget_acked(self) -> None:
        # Those of the file wait for the file.
        self._acked = {i for i in self._acked if self.is_volatile and i < self._volatile_from}
        self._acked_records = 0

    def _delete(self, ids: Sequence[int]) -> None:
        gone = self._db.execute(
            "DELETE FROM record WHERE id IN (SELECT value FROM json_each(?)) RETURNING series, n",
            (json.dumps(list(ids)),),
        ).fetchall()
        if self._waiting is not None:
            for series, count in gone:
                self._waiting[self._name(series)[0]] -= count

    # Giving up

    def _make_room(self, records: int) -> int:
        """Replace the oldest records by gaps if `records` more would pass the bound (invariant 3).

        Alerts go after the others, start records last. Returns how many records were given up.
        """
        # A quarter stays free for the write-ahead log and for the gaps themselves.
        limit_bytes = MEMORY_BYTES if self.is_volatile else self._max_bytes
        bound = limit_bytes * 3 // 4 - records * RECORD_BYTES
        evicted = 0
        while self._used_bytes() >= bound:
            oldest = self._oldest("IS NULL") or self._oldest("= 1") or self._oldest("= 2")
            if not oldest:
                break
            evicted += self._give_up(oldest, "disk_failed" if self.is_volatile else "spool_full")
        return evicted

    def _used_bytes(self) -> int:
        pages = self._one("PRAGMA page_count") - self._one("PRAGMA freelist_count")
        return pages * self._one("PRAGMA page_size")

    def _oldest(self, keep: str) -> list[int]:
        limit = min(EVICT_RECORDS, self._log_bytes // RECORD_BYTES)
        rows = self._db.execute(
            "SELECT id, n FROM record"
            f" WHERE gap IS NULL AND keep {keep} AND id > 0 ORDER BY id LIMIT ?",
            (limit,),
        )
        ids, records = [], 0
        for row_id, count in rows:
            ids.append(row_id)
            records += count
            if records >= limit:
                break
        rows.close()
        return ids

    def _give_up(self, ids: Sequence[int], why: str) -> int:
        """Put gaps in the place of entries, joined to gaps already there; return the records."""
        pieces: dict[tuple[str, str], list[_Piece]] = {}
        rows = self._db.execute(
            "SELECT id, series, n, first, seq, iif(boot_end_ns IS NULL, start_ns, NULL),"
            " iif(boot_end_ns IS NULL, end_ns, NULL), inside FROM record"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        ).fetchall()
        for row_id, series, _, first, seq, start_ns, end_ns, inside in rows:
            run, stream, kind, config_id = self._name(series)
            if inside is None:
                found = [_Piece(first, seq, start_ns, end_ns, row_id, kind, config_id)]
                pieces.setdefault((run, stream), []).extend(found)
                continue
            for name, first, seq, start_ns, end_ns, last_id in json.loads(inside)["spans"]:
                piece = _Piece(first, seq, start_ns, end_ns, last_id, kind, config_id)
                pieces.setdefault((run, name), []).append(piece)
        self._delete(ids)
        for (run, stream), new in pieces.items():
            run_id = self._one("SELECT id FROM run WHERE run = ?", run)
            there = self._db.execute(
                "SELECT r.first, r.seq, r.start_ns, r.end_ns, r.id, s.kind, s.config"
                " FROM record r JOIN series s ON s.id = r.series"
                " WHERE r.id < 0 AND r.gap = ? AND s.run = ? AND s.stream = ?",
                (why, run_id, stream),
            ).fetchall()
            old = [_Piece(*row) for row in there]
            for group in _consecutive([*old, *new]):
                if len(group) > 1 or group[0].id > 0:  # else a gap with nothing new beside it
                    self._delete([piece.id for piece in group if piece.id < 0])
                    self._put_gap(run_id, stream, group, why)
        return sum(row[2] for row in rows)

    def _put_gap(self, run_id: int, stream: str, group: Sequence[_Piece], why: str) -> None:
        first, last = group[0].first, group[-1].last
        start_ns = min((p.start_ns for p in group if p.start_ns is not None), default=None)
        end_ns = max((p.end_ns for p in group if p.end_ns is not None), default=None)
        kind = "gateway" if stream == ALERTS_STREAM else group[-1].kind
        series = self._series_of_run(run_id, stream, kind, group[-1].config_id)
        body = gap_body(stream, first, last, why, start_ns, end_ns)
        keep = KEEP_ALERT if stream == ALERTS_STREAM else None
        # An id of its own: an acknowledgement may be on its way for a gap that this one contains.
        numbers = (BEFORE_ALL + self._next_id, series, 1, first, last)
        self._next_id += 1
        times = (start_ns, end_ns, None, None)
        self._db.execute(INSERT_RECORD, (*numbers, *times, why, keep, checksum(body), None, body))
        if self._waiting is not None:
            self._waiting[self._name(series)[0]] += 1

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._waiting = None
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            raise self._failed(exc) from exc
        except OSError as exc:
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


@dataclass(slots=True)
class _Open:
    """A parcel while it is filled."""

    key: tuple[str, str, str]  # run, kind, configuration
    ids: list[int] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    tops: list[tuple[Top, ...]] = field(default_factory=list)
    payload: bytes | None = None
    records: int = 0

    def parcel(self) -> Parcel:
        """Close it."""
        ids, bodies, tops = tuple(self.ids), tuple(self.bodies), tuple(self.tops)
        return Parcel(*self.key, ids, bodies, tops, self.payload, self.records or len(ids))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Numbers of one stream that are given up, or already in a gap (then `id` is below 0)."""

    first: int
    last: int
    start_ns: int | None
    end_ns: int | None
    id: int
    kind: str
    config_id: str


def _consecutive(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    """Group pieces whose numbers follow each other."""
    groups: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.first):
        if groups and piece.first == groups[-1][-1].last + 1:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups
