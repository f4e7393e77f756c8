"""The city's database in one file: SQLite, for a town or a trial. One process writes it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .rows import Row
from .store import RowsRefusedError, Store, StoreAwayError
from .tables import RECORD

BUSY_S = 5.0


class SqliteStore(Store):
    """The file at `path`; to write it a process holds a lock beside it, to read it none is needed.

    Raises StoreAwayError where another process writes it.
    """

    dialect = "sqlite"
    mark = "?"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._lock: int | None = None
        if not read_only:
            self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                os.close(self._lock)
                raise StoreAwayError(
                    f"{path}: another yukimi-city writes it; take PostgreSQL for several"
                ) from exc
        mode = "ro" if read_only else "rwc"
        with _translated():
            self._database = sqlite3.connect(
                f"file:{path}?mode={mode}",
                uri=True,
                timeout=BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            if not read_only:
                self._database.execute("PRAGMA journal_mode = WAL")
            # In WAL less than FULL forgets the last commits in a power cut.
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("PRAGMA cache_size = -32768")  # kB

    def close(self) -> None:
        """Close the file and let another process write it."""
        self._database.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lead(self) -> bool:
        """There is no other."""
        return True

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """Give a cursor whose work is committed at the end."""
        with _translated():
            cursor = self._database.execute("BEGIN IMMEDIATE" if self._lock else "BEGIN")
            try:
                yield cursor
                self._database.execute("COMMIT")
            except BaseException:
                # A full disk has rolled back already.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def _lock_schema(self, cursor: Any) -> None:
        """The transaction is exclusive as it is."""

    def _insert_records(self, cursor: Any, rows: list[Row]) -> int:
        before = self._database.total_changes
        cursor.executemany(_INSERT_RECORD, rows)
        return self._database.total_changes - before


_COLUMNS = ", ".join(f'"{name}"' for name in RECORD)
_PLACES = ", ".join("?" * len(RECORD))
_INSERT_RECORD = f"INSERT OR IGNORE INTO record ({_COLUMNS}) VALUES ({_PLACES})"  # noqa: S608


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as exc:  # full, locked, read-only, not there, I/O
        raise StoreAwayError(f"SQLite: {exc}") from exc
    except sqlite3.Error as exc:
        raise RowsRefusedError(f"SQLite: {exc}") from exc
