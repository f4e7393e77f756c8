"""A spool whose gateway does not run, read without changing a byte of it.

After a kill the newest commits are in the write-ahead log only. SQLite's own way to read them would
write beside the file, and perhaps fold the log into it. Here the file is opened for reading only,
without any lock, with the index of the log in memory; without a log, as one that cannot change.
Whether it did change meanwhile, because the gateway was started, is looked at afterwards: then what
was read is worth nothing (`check_still`). Nobody is ever kept waiting.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from config.text import Text

from .spoolfile import READ_ERRORS, SCHEMA_VERSION, SpoolError, beside, is_damage
from .spoolview import About, Figures, LedgerSlice, Slice, entries_after, figures_of, ledger_after

CHANGED = Text(
    "{path}: changed while it was read: a gateway runs on it; ask again",
    "{path}: 読み取り中に変更されました。ゲートウェイが稼働中です。もう一度お試しください",
)
CANNOT = Text("{path}: cannot be read: {why}", "{path}: 読み取れません: {why}")
DAMAGED = Text(
    "{path}: damaged: {why}; start the gateway: it saves what can be read, names the rest in gaps,"
    " and keeps the damaged file beside as {name}.damaged",
    "{path}: 破損しています: {why}。ゲートウェイを起動すると、読み取れる記録を救出し、残りは"
    "欠測として通知します。破損したファイルは {name}.damaged として残ります",
)
NO_SPOOL = Text(
    "it is no spool of version {known}, but of {version}",
    "版{known}の保存ファイルではありません（版{version}）",
)


class ChangedError(SpoolError):
    """The file changed while it was read."""


class UnusableError(SpoolError):
    """The file is damaged; the message says what to do."""


class RestingSpool:
    """A spool's file, opened for reading only."""

    def __init__(
        self, path: Path, *, gateway: str | None = None, max_bytes: int | None = None
    ) -> None:
        """Open it. Raises FileNotFoundError where there is none, SpoolError."""
        self._path = path
        self._before = self._state()
        size_bytes = sum(size for _, size, _ in self._before)
        self.about = About(False, gateway, str(path), size_bytes, max_bytes, None)
        try:
            with path.open("rb"):
                pass
            self._db = self._connect()
        except FileNotFoundError:
            raise
        except (OSError, *READ_ERRORS) as exc:
            raise self._error(exc) from exc
        try:
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise self._unusable(NO_SPOOL.filled(known=SCHEMA_VERSION, version=version))
        except READ_ERRORS as exc:
            self.close()
            raise self._error(exc) from exc
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Leave it."""
        with suppress(sqlite3.Error):
            self._db.close()

    def slice(self, after_id: int) -> Slice:
        """Return the next entries after an id. Raises SpoolError."""
        try:
            return Slice(entries_after(self._db, after_id), 0)
        except READ_ERRORS as exc:
            raise self._error(exc) from exc

    def figures(self) -> Figures:
        """Return how much waits. Raises SpoolError."""
        try:
            return figures_of(self._db)
        except READ_ERRORS as exc:
            raise self._error(exc) from exc

    def ledger(self, after_n: int) -> LedgerSlice:
        """Return the ledger's next lines after a number. Raises SpoolError."""
        try:
            return ledger_after(self._db, after_n)
        except READ_ERRORS as exc:
            raise self._error(exc) from exc

    def what_is_wrong(self) -> str | None:
        """Read the whole file; return what is wrong with it. Raises SpoolError."""
        try:
            answer = str(self._db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except READ_ERRORS as exc:
            if is_damage(exc):
                return str(exc)
            raise self._error(exc) from exc
        return None if answer == "ok" else answer

    def check_still(self) -> None:
        """Raise ChangedError if the file is no more what it was when it was opened."""
        if self._state() != self._before:
            raise ChangedError(CHANGED.filled(path=self._path))

    def _connect(self) -> sqlite3.Connection:
        place = f"file:{quote(str(self._path.absolute()))}?mode=ro"
        log = beside(self._path, "-wal")
        # The log is passed over in a file "that cannot change", and made anew in any other.
        has_log = log.exists() and log.stat().st_size > 0
        place += "&vfs=unix-none" if has_log else "&immutable=1"
        database = sqlite3.connect(place, isolation_level=None, uri=True)
        database.text_factory = lambda raw: raw.decode(errors="replace")
        # Before anything is read: the log's index is then in memory.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA cache_size = -512")
        return database

    def _state(self) -> list[tuple[int, int, int]]:
        found = []
        for suffix in ("", "-wal"):
            with suppress(OSError):
                status = beside(self._path, suffix).stat()
                found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found

    def _error(self, exc: Exception) -> SpoolError:
        if self._state() != self._before:
            return ChangedError(CHANGED.filled(path=self._path))
        if is_damage(exc):
            return self._unusable(str(exc))
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        return SpoolError(CANNOT.filled(path=self._path, why=why))

    def _unusable(self, why: str) -> UnusableError:
        return UnusableError(DAMAGED.filled(path=self._path, why=why, name=self._path.name))
