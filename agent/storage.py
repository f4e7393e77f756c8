"""What a spool lives in: its file, another one where that is damaged, memory while there is none.

Nothing that is found in the file stops the gateway, and nothing that a disk does: numbers and
records go on, and what is in memory goes back to the disk when there is one. Whoever has the lock
has the connection.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from .privacy.book import Book
from .privacy.ledger import Line, Name, Terms
from .salvage import Damage, finish_salvage, replace_damaged
from .shelf import PACK_RECORDS, PreviousRun, Shelf
from .spoolfile import (
    INSERT_RECORD,
    PAGE_SIZE,
    READ_ERRORS,
    RECORD,
    DamagedError,
    SpoolError,
    beside,
    check,
    connect,
    is_damage,
    open_file,
    open_memory,
)

# Free pages are kept for the next outage up to this many, 1 kB each; the others go back in steps,
# and only once most of the file is free: each page that goes back may cost the writing of another.
RECLAIM_PAGES = 1024
RECLAIM_AT_ONCE = 8192

# Beside the tables there must be room for the log: a commit of 500 records that also evicts 500
# takes some 900 kB of it.
LOG_ROOM_BYTES = 17 * 2**16

T = TypeVar("T")


class Attempt(NamedTuple):
    """A commit that has not succeeded yet; where it failed it may be on the disk all the same."""

    produced: Mapping[str, int]  # the highest number of each stream, with it
    released: Collection[tuple[str, int]]  # streams and numbers of windows of people


NO_ATTEMPT = Attempt({}, ())


class Storage:
    """A run's connection, and what must be known to go on in another file."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        run: str,
        boot_id: str,
        gateway: str = "",
        pack_records: int = PACK_RECORDS,
        terms: Terms | None = None,
    ) -> None:
        """Open or create the file and begin `run`.

        Where the disk does not work, the spool lives in memory until `reopen` finds that it does.
        `gateway` and `pack_records` are those of the messages that packs will be; without a
        gateway the spool is only looked at, and every pack is shown. Without `terms` nothing can
        be said about people.
        """
        self._path = path
        # The write-ahead log counts: a small spool has a small one, none more than 1 MiB.
        self._log_bytes = min(2**20, max_bytes // 16)
        reserve_bytes = min(max_bytes // 2, max(max_bytes // 4, LOG_ROOM_BYTES))
        self._room_bytes = max_bytes - reserve_bytes
        self._reclaim_pages = min(RECLAIM_AT_ONCE, reserve_bytes // 4 // PAGE_SIZE)
        self._gateway = gateway
        self._pack_records = pack_records
        self._terms = terms
        self._damaged = ""  # what happened to the ledger's file, until the ledger says so
        self._lock = threading.Lock()
        self._acked: set[int] = set()
        self._acked_records = 0
        self._produced: dict[str, int] = {}
        self._on_disk: dict[str, int] = {}  # of `_produced`, when the disk was left
        self._known_id = 0  # the last id that was given out when a commit last succeeded
        self._on_disk_id = 0  # the same, when the disk was left
        self._attempt = NO_ATTEMPT
        self._in_doubt: Collection[tuple[str, int]] = ()  # released so, when the disk was left
        self._unsaid: set[Name] = set()  # windows of which nothing could be said because of that
        self.evicted = 0  # records replaced by gaps in this run
        self.damages: list[Damage] = []  # what happened to the file, until somebody takes it
        self.is_volatile = False
        self.why_volatile = ""
        self.run = run
        self._boot_id = boot_id
        self.previous: PreviousRun | None = None
        self.known_ns: int | None = None  # UTC that has certainly passed
        self._next_id = 0
        self._moves = 0  # how often entries took the place of others
        self.ended_clean = True  # the life before
        try:
            self._open_and(self._begin)
        except (OSError, DamagedError, *READ_ERRORS) as exc:
            self._turn_volatile(exc)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    def bytes(self) -> int:
        """Return the room taken on disk: database, write-ahead log, shared memory.

        Raises SpoolError.
        """
        total = 0
        for suffix in ("", "-wal", "-shm"):
            file = beside(self._path, suffix)
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise SpoolError(f"{file}: {exc.strerror}") from exc
        return total

    def look(self, question: Callable[[sqlite3.Connection, Collection[int]], T]) -> tuple[T, int]:
        """Ask for what waits; return the answer, and how often entries changed their places.

        The question gets a connection that reads, and the ids of entries that are done and not yet
        gone. It reads what is there now, however long that takes: nothing waits for it, but where
        the spool is in memory. Raises SpoolError.
        """
        try:
            with self._lock:
                done, moves = frozenset(self._acked), self._moves
                if self.is_volatile:
                    return question(self._db, done), moves
                reader = connect(self._path, "ro")
                try:
                    reader.execute("PRAGMA cache_size = -512")
                    reader.execute("BEGIN")
                    reader.execute("SELECT 1 FROM run LIMIT 1").fetchone()  # this is "now"
                except BaseException:
                    reader.close()
                    raise
            with closing(reader):
                return question(reader, done), moves
        except (OSError, *READ_ERRORS) as exc:  # who only looks mends nothing
            raise SpoolError(f"{self._path}: {exc}") from exc

    # From the disk into memory, and back

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
            return self._reopen()

    def close(self, *, clean: bool) -> None:
        """Settle and close; `clean` is told by the next run. Raises SpoolError."""
        with self._lock:
            self._reopen()  # the last chance of what is in memory
            try:
                with self._transaction():
                    self._shelf.delete(self._acked)
                    if clean:
                        self._db.execute("UPDATE run SET clean = 1 WHERE id = ?", (self._run_id,))
            except sqlite3.Error as exc:
                raise SpoolError(f"{self._path}: {exc}") from exc
            finally:
                self._forget_acked()
                self._db.close()

    def _open(self) -> sqlite3.Connection:
        """Open the file, or what can be saved of it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        finish_salvage(self._path)
        try:
            if self._on_disk and not self._path.exists():
                raise DamagedError("is gone")
            return open_file(self._path, self._log_bytes)
        except DamagedError as exc:
            self._set_aside(str(exc))
            return open_file(self._path, self._log_bytes)

    def _set_aside(self, why: str) -> None:
        known = {self.run: self._on_disk if self.is_volatile else self._produced}
        if self.previous is not None:
            known[self.previous.run] = self.previous.produced
        self.damages.append(replace_damaged(self._path, why, known))
        self._damaged = why

    def _open_and(self, step: Callable[[], None]) -> None:
        """Open the file and take a step in it; if that shows that it is damaged, in a new one."""
        self._use(self._open())
        try:
            step()
        except (DamagedError, *READ_ERRORS) as exc:
            self._db.close()
            if not is_damage(exc):
                raise
            self._set_aside(str(exc))
            self._use(self._open())
            step()

    def _use(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._moves += 1
        self._shelf = Shelf(database, self._gateway, self._pack_records, self._new_id, self._moved)
        self._book = Book(
            database, self._terms, self._boot_id, self.run, room_bytes=self._room_bytes // 8
        )

    def _moved(self) -> None:
        self._moves += 1

    def _begin(self) -> None:
        """Begin the run in a file just opened."""
        self._find_previous()
        with self._transaction():
            self._shelf.forget_old_runs()
            self._run_id = self._shelf.begin_run(self.run, self._boot_id, self.known_ns)
        self._next_id = 1
        self._pass_by()

    def _pass_by(self) -> None:
        """Give out no id that the file has already: while it was damaged, not all were seen."""
        highest_id = self._shelf.highest_id()
        if highest_id:
            self._next_id = max(self._next_id, highest_id + 1)

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _find_previous(self) -> None:
        row = self._db.execute("SELECT clean FROM run ORDER BY id DESC LIMIT 1").fetchone()
        self.ended_clean = row is None or bool(row[0])
        self.previous = self._shelf.previous(self.run)
        self.known_ns = self._shelf.known_ns()

    def _failed(self, exc: Exception) -> SpoolError:
        """Do what can be done about an error, and return what to raise."""
        if is_damage(exc) and not self.is_volatile:
            self._replace(str(exc))
        return SpoolError(f"{self._path}: {exc}")

    def _replace(self, why: str) -> None:
        """Replace the file while it is in use; this run goes on in the new one."""
        self._db.close()
        try:
            self._set_aside(why)
            self._open_and(self._go_on)
        except (OSError, DamagedError, *READ_ERRORS) as exc:
            self._turn_volatile(exc)

    def _turn_volatile(self, why: Exception) -> None:
        with suppress(AttributeError, sqlite3.Error):  # it may never have been open
            self._db.close()
        self.is_volatile, self.why_volatile = True, str(why)
        self._on_disk, self._on_disk_id = dict(self._produced), self._known_id
        self._in_doubt = self._attempt.released
        self._use(open_memory())
        self._go_on()
        if not self._next_id:
            # Above every number in a file that nobody has seen, and unlike an earlier such life's.
            self._next_id = 2**40 + time.time_ns() // 1000 + random.SystemRandom().getrandbits(39)
        self._volatile_from = self._next_id

    def _go_on(self) -> None:
        """Go on with this run in another file."""
        with self._transaction():
            self._run_id = self._shelf.begin_run(self.run, self._boot_id, self.known_ns)
            self._take_back(self._known_id, self._produced, self._attempt.produced)
            self._shelf.note_produced(self._run_id, self._produced, max(0, self._next_id - 1))
        self._pass_by()

    def _reopen(self) -> bool:
        if not self.is_volatile:
            return True
        memory, shelf, book, run_id = self._db, self._shelf, self._book, self._run_id
        try:
            self._open_and(lambda: self._take_over(memory, book.lines()))
        except (OSError, DamagedError, *READ_ERRORS) as exc:
            self._db, self._shelf, self._book, self._run_id = memory, shelf, book, run_id
            self.why_volatile = str(exc)
            return False
        memory.close()
        self.is_volatile, self.why_volatile, self._in_doubt = False, "", ()
        self._forget_acked()
        return True

    def _take_over(self, memory: sqlite3.Connection, lines: Sequence[Line]) -> None:
        """Write down what is in memory; `lines` are of its ledger."""
        if not self._shelf.one("SELECT count(*) FROM run WHERE run = ?", self.run):
            self._find_previous()
        series = memory.execute("SELECT id, stream, kind, config FROM series").fetchall()
        produced = memory.execute("SELECT stream, seq, end_ns, known_ns FROM produced").fetchall()
        with self._transaction():
            self._run_id = self._shelf.begin_run(self.run, self._boot_id, self.known_ns)
            self._take_back(self._on_disk_id, self._on_disk, self._produced)
            known = {row[0]: self._shelf.series(self._run_id, *row[1:]) for row in series}
            rows = memory.execute(f"SELECT {RECORD} FROM record")
            self._db.executemany(INSERT_RECORD, ((row[0], known[row[1]], *row[2:]) for row in rows))
            self._shelf.delete(self._acked)
            self._db.executemany(
                "INSERT OR REPLACE INTO alarm VALUES (?, ?, ?)",
                memory.execute("SELECT sensor, alert, body FROM alarm").fetchall(),
            )
            numbers = {row[0]: row[1] for row in produced}
            self._shelf.note_produced(self._run_id, numbers, self._next_id - 1)
            ends = [(stream, (end, known)) for stream, _, end, known in produced if end is not None]
            self._shelf.note_ends(self._run_id, ends)
            self._book.adopt(lines)

    def _take_back(
        self, known_id: int, known: Mapping[str, int], given_out: Mapping[str, int]
    ) -> None:
        """Undo a commit that failed, and is on the disk all the same.

        Nobody was told of it. What is beyond the numbers `known`, up to those `given_out`, went
        into memory meanwhile, or will be tried again.
        """
        rows = self._db.execute(
            "SELECT r.id, s.stream, r.first FROM record r JOIN series s ON s.id = r.series"
            " WHERE r.id > ? AND s.run = ? AND r.inside IS NULL",
            (known_id, self._run_id),
        )
        self._shelf.delete(
            row_id
            for row_id, stream, first in rows.fetchall()
            if known.get(stream, 0) < first <= given_out.get(stream, 0)
        )
        self._book.take_back(known)

    def _reclaim(self) -> None:
        """Give free pages back to the filesystem once a drain has left many."""
        free = self._shelf.one("PRAGMA freelist_count")
        if free > RECLAIM_PAGES and free > self._shelf.one("PRAGMA page_count") // 2:
            # `execute` steps a statement without columns once, and that frees a single page
            self._db.executescript(f"PRAGMA incremental_vacuum({self._reclaim_pages})")

    def _forget_acked(self) -> None:
        # Those of the file wait for the file.
        self._acked = {i for i in self._acked if self.is_volatile and i < self._volatile_from}
        self._acked_records = 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
            self._attempt = NO_ATTEMPT
        except BaseException:
            self._shelf.forget()
            self._book.forget()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (DamagedError, *READ_ERRORS) as exc:
            raise self._failed(exc) from exc
        except OSError as exc:
            raise SpoolError(f"{self._path}: {exc}") from exc

    def _one(self, query: str, *values: object) -> int:
        return self._shelf.one(query, *values)
