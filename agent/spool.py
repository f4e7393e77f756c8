"""The durable queue between measuring and sending: one SQLite file.

Invariants:
1. What `append` returned is on the disk: the commit was synced before it returned. (Only where
   `is_volatile` says so, because the disk is gone, it is in memory.)
2. Numbers are 1, 2, 3 ... per run and stream, without holes. They are given out inside the
   transaction, so a failed one consumes none; each run is new, so no number ever returns.
3. A record leaves in two ways only: it was acknowledged, or a gap that names its numbers took its
   place in the same transaction. A gap leaves only when acknowledged. (Only where so many runs
   came and went that their gaps alone fill the spool, the oldest go unnamed; `damages` says so.)
4. For each run the highest number of each stream stays known until a later run has told it.
5. Bodies leave in the order in which they were committed.
6. Nothing that is found in the file stops the gateway: what is damaged is set aside, what can be
   read of it goes on, and the rest is named in gaps (`salvage`).
7. A record that releases a window of people is committed together with the ledger's line about it,
   and the window was reserved before (`reserve`): on the disk, or not at all.
8. Database, log and shared memory together never take more than `max_bytes`, from 2 MiB on and
   for commits of up to 500 records.

The tables are on a `Shelf`; the lock, the transactions, and the way from the disk into memory and
back are the `Storage`'s. An entry is one record or gap, or one pack: PACK_RECORDS records of one
run, kind and configuration, which waited together and were deflated into the message that they
will be. A backlog is so a tenth of its size, and leaves without being touched again.

An acknowledgement may wait in memory for the next commit: after a crash the record is sent again,
and its key (run, stream, seq) makes that harmless. The file lives in WAL mode with
synchronous=FULL, behind one connection and one lock: a few short transactions a minute.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import closing, suppress
from itertools import islice
from typing import Any, NamedTuple

from . import held
from .clock import HeldBoot, Stamp
from .page import OpenPage
from .privacy.ledger import Claim
from .record import BEFORE_ALL, AlertRecord, Entry, Lost, Page, Record
from .salvage import Damage
from .shelf import (
    EVICT_RECORDS,
    KEEP,
    KEEP_ALERT,
    PACK_RECORDS,
    ROW_BYTES,
    End,
    PreviousRun,
    end_of,
)
from .spoolfile import PAGE_SIZE, RECORD, Row, SpoolError, checksum, claim
from .storage import Attempt, Storage

__all__ = ["PACK_RECORDS", "Damage", "PreviousRun", "Spool", "SpoolError", "claim"]

# Acknowledgements wait for the next commit, but not more of them than this, in records.
ACK_LIMIT = 20_000

# How far back the newest record of a stream is looked for, in entries.
NEWEST_AMONG = 5000

# A page that is handed out is smaller than this, or one entry.
PAGE_BYTES = 2**19

PACK_LOG_BYTES = 2**17  # what a pack may take of the log

MEMORY_BYTES = 8 * 2**20  # in memory, while the disk is gone

_ENTRY = (
    "SELECT r.id, run.run, s.stream, s.kind, s.config, r.seq, r.end_ns, r.body,"
    " r.gap IS NOT NULL, r.crc"
    " FROM record r JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
)


class Figures(NamedTuple):
    """What waits, and how much room it takes."""

    waiting_by_run: dict[str, int]
    oldest_end_ns: int | None
    used_bytes: int  # of `room_bytes`, beyond which the oldest are given up
    room_bytes: int


class Spool(Storage):
    """Append, peek, acknowledge; safe to call from several threads."""

    def append(
        self, records: Sequence[Record | AlertRecord | Lost], config_id: str, *, hold: bool = False
    ) -> list[Entry]:
        """Commit `records` together, with the acknowledgements that waited; return their entries.

        With `hold`, records whose time is only estimated wait for the clock and have no entry yet.
        Raises SpoolError, and then no number was used. Where the disk failed, the commit may be
        found on it all the same: nothing else is ever said under its numbers.
        """
        with self._lock, self._errors():
            if self._in_doubt:
                records = self._without_doubt(records)
            with self._transaction():
                self._shelf.delete(self._acked)
                rows, produced, ends = self._numbered(records, config_id, hold)
                evicted = self._make_room(rows)
                self._shelf.insert(rows)
                released = self._settle(records, rows)
                numbers = {record.stream: produced[record.stream] for record in records}
                self._shelf.note_produced(self._run_id, numbers, self._next_id - 1)
                self._shelf.note_ends(self._run_id, ends)
                self._attempt = Attempt(produced, released)
                entries = [self._entry(row) for row in rows if row.boot_end_ns is None]
            self._forget_acked()
            self.evicted += evicted
            self._produced, self._known_id = produced, self._next_id - 1
            with suppress(sqlite3.Error):  # what was asked for is done
                self._reclaim()
            return entries

    def _without_doubt(
        self, records: Iterable[Record | AlertRecord | Lost]
    ) -> list[Record | AlertRecord | Lost]:
        """Put a gap in the place of each window whose release failed, and may be on the disk.

        Should this life end before the disk is back, the next one finds the release there and
        sends it: under the same number nothing else may be said before. What is no release is the
        same when it is tried again.
        """
        produced = dict(self._produced)
        said: list[Record | AlertRecord | Lost] = []
        for item in records:
            count = item.count if isinstance(item, Lost) else 1
            seq = produced[item.stream] = produced.get(item.stream, 0) + count
            is_in_doubt = (item.stream, seq) in self._in_doubt
            if is_in_doubt and isinstance(item, Record) and item.settles is not None:
                self._unsaid.add(item.settles.name)
                said.append(Lost.of(item, "disk_failed"))
            else:
                said.append(item)
        return said

    def _numbered(
        self, records: Iterable[Record | AlertRecord | Lost], config_id: str, hold: bool
    ) -> tuple[list[Row], dict[str, int], list[tuple[str, End]]]:
        """Return rows with their numbers; the highest number of each stream, and known ends."""
        produced = dict(self._produced)
        ends: list[tuple[str, End]] = []
        rows = []
        for item in records:
            stream = item.stream
            first = seq = produced.get(stream, 0) + 1
            gap = None
            boot: tuple[int | None, int | None] = (None, None)
            if isinstance(item, Lost):
                seq, gap = first + item.count - 1, item.why
            elif item.clock.state != "estimated":
                ends.append((stream, end_of(item.end_ns, item.clock)))
            elif hold and isinstance(item, Record) and self._is_of_this_boot(item):
                boot = (item.boot_start_ns, item.boot_end_ns)
            produced[stream] = seq
            series = self._shelf.series(self._run_id, stream, item.kind, config_id)
            body = item.body(seq)
            if isinstance(item, AlertRecord):
                self._shelf.set_alarm(item, body)
            place = (self._new_id(), series, 1, first, seq, item.start_ns, item.end_ns)
            rows.append(Row(*place, *boot, gap, KEEP.get(stream), checksum(body), None, body))
        return rows, produced, ends

    def _is_of_this_boot(self, record: Record) -> bool:
        """Whether this boot's clock can put it right: what an earlier life burned may be older."""
        return record.settles is None or record.settles.boot_id in ("", self._boot_id)

    def _entry(self, row: Row) -> Entry:
        seq, body = row.seq or 0, str(row.body)
        return Entry(
            row.id, *self._shelf.names(row.series), seq, row.end_ns, body, row.gap is not None
        )

    # People

    def reserve(self, claims: Sequence[Claim]) -> list[Claim]:
        """Write down that these windows are about to be released; return them with their lines.

        Raises SpoolError where that is not on the disk: then nothing may be released.
        """
        with self._lock, self._errors():
            if self._terms is None:
                raise SpoolError(f"{self._path}: opened without terms, nothing can be released")
            if self.is_volatile:
                raise SpoolError(f"{self._path}: no disk: {self.why_volatile}")
            with self._transaction():
                reserved = self._book.reserve(claims, self._damaged)
            self._damaged = ""
            return reserved

    def has_reserved(self, claim: Claim) -> bool:
        """Tell whether a window may still be released. Raises SpoolError.

        Not while there is no disk, nor where its reservation was lost with a damaged file.
        """
        with self._lock, self._errors():
            return self._has_reserved(claim)

    def _has_reserved(self, claim: Claim) -> bool:
        return not self.is_volatile and self._book.has_reserved(claim)

    def _settle(
        self, records: Iterable[Record | AlertRecord | Lost], rows: Iterable[Row]
    ) -> list[tuple[str, int]]:
        """Write down what these say of people; return the streams and numbers of releases."""
        released: list[tuple[str, int]] = []
        if self._terms is None:
            return released
        for item, row in zip(records, rows, strict=True):
            if not isinstance(item, Record) or item.settles is None:
                continue
            seq = row.seq or 0
            if item.is_burned:
                self._book.settle(item.settles, seq, None)
                continue
            if not self._has_reserved(item.settles):
                raise SpoolError(f"{self._path}: has no reservation to release a window on")
            self._book.settle(item.settles, seq, dict(item.values))
            released.append((item.stream, seq))
        return released

    def begin_ledger(self, at_ns: int) -> None:
        """Write the first lines of this life at the UTC time `at_ns`. Raises SpoolError."""
        with self._lock, self._errors():
            if not self.is_volatile:  # else with the first window that can be reserved
                with self._transaction():
                    self._book.open(at_ns, self._damaged)
                self._damaged = ""

    def unsettled(self) -> list[Claim]:
        """Return what earlier lives reserved, and neither released nor burned. Raises SpoolError.

        And what this one did, and could say nothing of while there was no disk. While there is
        none nobody knows, and nothing is returned.
        """
        with self._lock, self._errors():
            return [] if self.is_volatile else self._book.unsettled(self._unsaid)

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
            page = OpenPage(after_id, parcel_records, self._gateway)
            cursor = self._db.execute(
                f"SELECT {RECORD} FROM record"
                " WHERE id > ? AND id <= ? AND boot_end_ns IS NULL AND keep IS NOT 1"
                " AND series NOT IN (SELECT s.id FROM series s JOIN json_each(?) k"
                " ON s.kind = k.value) ORDER BY id LIMIT ?",
                (after_id, up_to_id, json.dumps(list(without_kinds)), limit),
            )
            with closing(cursor):
                for row in map(Row._make, cursor):
                    is_wanted = row.id not in self._acked and row.id not in without_ids
                    page.look(row, self._shelf.names(row.series) if is_wanted else None)
                    if page.size_bytes >= PAGE_BYTES:
                        break
            self._give_up_damaged(page.damaged)
            return page.close()

    def newest(self) -> tuple[list[Entry], int]:
        """Return the newest waiting record of each stream, and the last id. Raises SpoolError."""
        with self._lock, self._errors():
            last_id = self._next_id - 1
            rows = self._db.execute(
                _ENTRY + " WHERE r.id IN (SELECT max(r.id) FROM record r JOIN series s"
                " ON s.id = r.series WHERE r.id > ? AND r.boot_end_ns IS NULL AND r.gap IS NULL"
                " AND r.inside IS NULL AND r.keep IS NOT 1 GROUP BY s.stream) ORDER BY r.id",
                (last_id - NEWEST_AMONG,),
            ).fetchall()
            return self._sound(rows), last_id

    def alerts(self, limit: int, without_ids: Collection[int] = ()) -> list[Entry]:
        """Return the oldest waiting alerts but those named, gaps among them. Raises SpoolError."""
        with self._lock, self._errors():
            cursor = self._db.execute(_ENTRY + " WHERE r.keep = ? ORDER BY r.id", (KEEP_ALERT,))
            with closing(cursor):
                free = (row for row in cursor if row[0] not in without_ids)
                rows = list(islice(free, limit + len(self._acked)))
            return self._sound(rows)[:limit]

    def _sound(self, rows: Iterable[tuple[Any, ...]]) -> list[Entry]:
        """Return the entries that still wait; damaged ones are given up."""
        waiting = [(Entry(*row), crc) for *row, crc in rows if row[0] not in self._acked]
        self._give_up_damaged([e.id for e, crc in waiting if checksum(e.body) != crc])
        return [entry for entry, crc in waiting if checksum(entry.body) == crc]

    def _give_up_damaged(self, ids: Sequence[int]) -> None:
        if ids:
            with self._transaction():
                lost = self._shelf.give_up(ids, "corrupt")
            why = f"{len(ids)} entries are not what was written"
            self.damages.append(Damage(why, "", 0, lost))

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
            self._shelf.give_up([row_id], "rejected")
            return str(row[0])

    def settle(self) -> None:
        """Let the acknowledged entries leave now. Raises SpoolError."""
        with self._lock, self._errors():
            if not self._acked:
                return
            with self._transaction():
                self._shelf.delete(self._acked)
            self._forget_acked()

    # Packing

    @property
    def is_loose(self) -> bool:
        """Whether `pack` may find something to do."""
        return self._shelf.is_loose

    def pack(self, without_ids: Collection[int] = (), *, up_to_id: int | None = None) -> int:
        """Pack what has waited together long enough; return how many records were packed.

        Entries named, those above `up_to_id`, and the newest of each stream, stay as they are: they
        may be on their way. Raises SpoolError.
        """
        with self._lock, self._errors():
            packed = 0
            try:
                busy = {*without_ids, *self._acked}
                last_id = self._next_id - 1 if up_to_id is None else up_to_id
                chosen = self._shelf.worth_packing(self.run, last_id, busy)
                # Together they share the pages that they leave; but the log must stay short.
                together = max(1, self._log_bytes // PACK_LOG_BYTES)
                for at in range(0, len(chosen), together):
                    with self._transaction():
                        packed += sum(map(self._shelf.pack, chosen[at : at + together]))
            except BaseException:
                self._shelf.look_again()
                raise
            return packed

    def unpack(self, ids: Iterable[int]) -> None:
        """Turn packs that cannot travel as they are into single entries. Raises SpoolError."""
        with self._lock, self._errors(), self._transaction():
            self._shelf.unpack(ids)

    # The clock

    def correct(
        self, boot_id: str, utc_ns: Callable[[int], int], stamp: Callable[[int], Stamp]
    ) -> int:
        """Put right the times of records that waited for the clock; return how many.

        `utc_ns` turns an instant of the boot-time clock into UTC, and `stamp` says how it is to be
        taken where the record begins; both hold for the boot `boot_id` only. Raises SpoolError.
        """
        with self._lock, self._errors(), self._transaction():
            return held.correct(self._db, self._shelf, boot_id, utc_ns, stamp)

    def release_held(self) -> int:
        """Give up waiting for the clock: records go out as `estimated`. Raises SpoolError."""
        with self._lock, self._errors(), self._transaction():
            return held.release(self._db)

    def held(self) -> int:
        """Return how many records wait for the clock. Raises SpoolError."""
        with self._lock, self._errors():
            return self._one("SELECT count(*) FROM record WHERE boot_end_ns IS NOT NULL")

    def held_boots(self) -> list[HeldBoot]:
        """Return the boots whose records wait for the clock, in their order. Raises SpoolError."""
        with self._lock, self._errors():
            return held.boots(self._db)

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

    # What it says of itself

    def produced(self) -> dict[str, int]:
        """Return the highest number of each stream of this run."""
        with self._lock:
            return dict(self._produced)

    def waiting_by_run(self) -> dict[str, int]:
        """Return the number of waiting records of each run that has any. Raises SpoolError."""
        with self._lock, self._errors():
            return self._shelf.waiting_by_run(self._acked)

    def oldest_end_ns(self) -> int | None:
        """Return the end of the oldest entry whose time is known. Raises SpoolError."""
        with self._lock, self._errors():
            return self._oldest_end_ns()

    def _oldest_end_ns(self) -> int | None:
        # What is acknowledged is there until the next commit, and waits no more.
        cursor = self._db.execute(
            "SELECT id, end_ns FROM record WHERE boot_end_ns IS NULL AND end_ns IS NOT NULL"
            " ORDER BY id"
        )
        with closing(cursor):
            return next((end_ns for row_id, end_ns in cursor if row_id not in self._acked), None)

    def figures(self, patience_s: float) -> Figures | None:
        """Return what there is to say at once; None if the lock is not free within `patience_s`.

        Raises SpoolError.
        """
        if not self._lock.acquire(timeout=patience_s):
            return None
        try:
            with self._errors():
                return Figures(
                    self._shelf.waiting_by_run(self._acked),
                    self._oldest_end_ns(),
                    self._shelf.used_bytes(),
                    MEMORY_BYTES if self.is_volatile else self._room_bytes,
                )
        finally:
            self._lock.release()

    def _make_room(self, rows: Iterable[Row]) -> int:
        """Make room for rows; return how many records were given up for it (invariant 3)."""
        needed_bytes = sum(map(_room_of, rows))
        room_bytes = MEMORY_BYTES if self.is_volatile else self._room_bytes
        why = "disk_failed" if self.is_volatile else "spool_full"
        at_once = min(EVICT_RECORDS, self._log_bytes // 1024)
        evicted, unnamed = self._shelf.make_room(needed_bytes, room_bytes, why, at_once)
        if unnamed:
            self.damages.append(Damage("full of gaps: the oldest go unnamed", "", 0, unnamed))
        return evicted


def _room_of(row: Row) -> int:
    """Return what a row may take, in bytes: few of them share a page evenly."""
    pages = -(-(ROW_BYTES + len(str(row.body).encode())) // PAGE_SIZE)
    return pages * PAGE_SIZE
