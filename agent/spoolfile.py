"""The spool's file: its tables, how it is opened, and whether it is whole."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import quote

SCHEMA_VERSION = 2
# A record is a row, or 200 of them are one packed row: `body` is then a deflated message, `inside`
# says what is in it. `keep` ranks what is given up last: alerts, start records.
SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY, run TEXT UNIQUE, boot_id TEXT, clean INTEGER,
    known_ns INTEGER);
CREATE TABLE produced (run INTEGER, stream TEXT, seq INTEGER, end_ns INTEGER, known_ns INTEGER,
    last_id INTEGER, PRIMARY KEY (run, stream)) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, run INTEGER, stream TEXT, kind TEXT, config TEXT,
    UNIQUE (run, stream, kind, config));
CREATE TABLE record (id INTEGER PRIMARY KEY, series INTEGER, n INTEGER, first INTEGER, seq INTEGER,
    start_ns INTEGER, end_ns INTEGER, boot_start_ns INTEGER, boot_end_ns INTEGER, gap TEXT,
    keep INTEGER, crc INTEGER, inside TEXT, body);
CREATE INDEX held ON record (id) WHERE boot_end_ns IS NOT NULL;
CREATE INDEX kept ON record (keep, id) WHERE keep IS NOT NULL;
CREATE TABLE alarm (sensor TEXT, alert TEXT, body TEXT, PRIMARY KEY (sensor, alert)) WITHOUT ROWID;
"""
# What was said about people (privacy/ledger.py). It came later than the others, and an older
# program lives without it: so the file's version stays.
LEDGER = (
    "CREATE TABLE IF NOT EXISTS ledger (n INTEGER PRIMARY KEY, day TEXT, line TEXT, body TEXT);"
)
SCHEMA += LEDGER
TABLES = {
    "run": "id, run, boot_id, clean, known_ns",
    "produced": "run, stream, seq, end_ns, known_ns, last_id",
    "series": "id, run, stream, kind, config",
    "alarm": "sensor, alert, body",
    "ledger": "n, day, line, body",
}

# Bytes of a page. A commit of a few records touches half a dozen; SQLite's own 4096 would double
# what a card has to write.
PAGE_SIZE = 1024
CACHE = "PRAGMA cache_size = -512"  # kB, a quarter of the default
CHECK_ROWS = 16  # of 200 records each, where a backlog waits
CHECK_STEPS = 20_000  # of SQLite's machine, between two questions whether to go on


class Row(NamedTuple):
    """One entry as it stands in the table `record`."""

    id: int
    series: int
    n: int  # how many records it counts for; a gap counts for one
    first: int | None  # None in a pack: `inside` has them
    seq: int | None
    start_ns: int | None
    end_ns: int | None
    boot_start_ns: int | None  # only while it waits for the clock
    boot_end_ns: int | None
    gap: str | None  # why, where it is one
    keep: int | None
    crc: int
    inside: str | None
    body: str | bytes


RECORD = ", ".join(Row._fields)
INSERT_RECORD = f"INSERT INTO record ({RECORD}) VALUES ({', '.join('?' * len(Row._fields))})"


class SpoolError(Exception):
    """The spool cannot be read or written; the message names the file and the cause."""


# What reading a damaged file raises; SQLite's own words about it may quote it, and be no text.
READ_ERRORS = (sqlite3.Error, UnicodeDecodeError)


class DamagedError(Exception):
    """The file is there and is no usable spool; the message says why."""


def is_damage(exc: Exception) -> bool:
    """Tell a damaged file from a disk that does not work just now."""
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    return isinstance(exc, DamagedError | UnicodeDecodeError) or code & 0xFF in (
        sqlite3.SQLITE_ERROR,  # our statements are right: then the schema is not
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_CONSTRAINT,  # what is put in is new: then there is what cannot be seen
    )


def checksum(body: str | bytes, inside: str | None = None) -> int:
    """Return the CRC-32 that is stored beside a body and what is said to be inside."""
    crc = zlib.crc32(body.encode() if isinstance(body, str) else body)
    return crc if inside is None else zlib.crc32(inside.encode(), crc)


def beside(path: Path, suffix: str) -> Path:
    """Return the path with something after its name."""
    return path.with_name(path.name + suffix)


def open_file(path: Path, log_bytes: int) -> sqlite3.Connection:
    """Open the spool at `path`, or create it.

    Raises DamagedError where it is no usable spool, sqlite3.Error and OSError where the disk does
    not work.
    """
    is_new = True
    with suppress(FileNotFoundError):
        if not path.is_file():
            path.stat()
            raise DamagedError("is no file")
        is_new = False
        # One that never came to be has still its journal, or the log.
        rest = (beside(path, "-wal"), beside(path, "-journal"))
        if not path.stat().st_size and not any(file.exists() for file in rest):
            raise DamagedError("is empty")
    database = connect(path)
    try:
        _prepare(database, log_bytes)
        _allocate_log(path, log_bytes)
    except READ_ERRORS as exc:
        database.close()
        if is_damage(exc):
            raise DamagedError(str(exc)) from exc
        if is_new:
            _take_back(path)
        raise
    except BaseException:
        database.close()
        raise
    return database


def _take_back(path: Path) -> None:
    """Remove a file that came no further than its name: later it would pass for an emptied one."""
    with suppress(OSError):
        if not path.stat().st_size:
            path.unlink()


def open_memory() -> sqlite3.Connection:
    """Open a spool that lives in memory only."""
    database = connect(":memory:")
    database.executescript(SCHEMA)
    return database


def connect(path: Path | str, mode: str = "rwc") -> sqlite3.Connection:
    """Connect without Python's own transactions, for use by several threads under a lock.

    The file belongs to this process alone: the index of the log is then in memory, and not in a
    file of its own, which would cost a card as much again as the log itself.
    """
    place = ":memory:"
    if isinstance(path, Path):
        place = f"file:{quote(str(path))}?mode={mode}&vfs=unix-excl"
    database = sqlite3.connect(place, isolation_level=None, check_same_thread=False, uri=True)
    # A flipped bit may leave no UTF-8: the checksum finds that, and no exception may hide it.
    database.text_factory = lambda raw: raw.decode(errors="replace")
    return database


def _prepare(database: sqlite3.Connection, log_bytes: int) -> None:
    database.execute(f"PRAGMA page_size = {PAGE_SIZE}")  # these two before the first table
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    # On in Debian's SQLite: each freed page would be written once more, to be empty.
    database.execute("PRAGMA secure_delete = OFF")
    database.execute(f"PRAGMA wal_autocheckpoint = {log_bytes // PAGE_SIZE}")
    database.execute(f"PRAGMA journal_size_limit = {log_bytes}")
    database.execute("PRAGMA busy_timeout = 2000")
    database.execute(CACHE)
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and not tables:
        # executescript commits first, so the script brings its own transaction
        database.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
        )
    elif version != SCHEMA_VERSION:
        raise DamagedError(f"is of version {version}, and this program knows {SCHEMA_VERSION}")
    else:
        database.execute(LEDGER)
    for table, columns in TABLES.items():  # all of them are small, and needed at once
        database.execute(f"SELECT {columns} FROM {table}").fetchall()
    database.execute(f"SELECT {RECORD} FROM record ORDER BY id DESC LIMIT 1").fetchall()


def _allocate_log(path: Path, log_bytes: int) -> None:
    """Ask the file system for the log's room at once: a log that grows has it write where that is.

    Nothing is written for it, and what others put on the disk does not take the room. Zeros that
    follow the log's own end are no frames (SQLite, "WAL File Format").
    """
    with suppress(OSError):
        log = os.open(beside(path, "-wal"), os.O_WRONLY)
        try:
            os.posix_fallocate(log, 0, log_bytes)
        finally:
            os.close(log)


def check(path: Path, goes_on: Callable[[], bool]) -> str | None:
    """Read the whole file through a connection of its own; return what is wrong with it.

    `goes_on` says whether to go on. Raises sqlite3.Error where the disk does not work.
    """
    with closing(connect(path, "ro")) as database:
        database.set_progress_handler(lambda: not goes_on(), CHECK_STEPS)
        try:
            database.execute(CACHE)
            wrong = database.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if wrong != "ok":
                return str(wrong)
            after = -(2**63)
            while True:
                rows = database.execute(
                    "SELECT id, crc, inside, body FROM record WHERE id > ? ORDER BY id LIMIT ?",
                    (after, CHECK_ROWS),
                ).fetchall()
                if not rows:
                    return None
                for row_id, crc, inside, body in rows:
                    if checksum(body, inside) != crc:
                        return f"record {row_id} is not what was written"
                after = rows[-1][0]
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                return None
            raise
        except sqlite3.DatabaseError as exc:
            if is_damage(exc):
                return str(exc)
            raise


def claim(path: Path) -> IO[str]:
    """Keep other gateways away from the spool at `path` until what is returned is closed.

    Two would give out the same numbers. Where the disk does not work there is nothing to keep
    others from. Raises SpoolError where another process has it.
    """
    file = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held = file.open("a", encoding="utf-8")
    except OSError:
        return Path(os.devnull).open(encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        held.close()
        raise SpoolError(f"{path}: another gateway is running on it; stop that one first") from exc
    return held
