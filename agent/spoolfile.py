"""The spool's file: its tables, how it is opened, and what is done when it is damaged.

A file that cannot be used is never a reason to stop. What can be read of it is copied into a new
file beside it; when that is complete and synced, the damaged one is set aside under
`NAME.damaged` (one at a time: the newest) and the new one takes its place. A power cut at any step
leaves the old file, or the new one complete. What was lost is named in gaps.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .record import BEFORE_ALL, gap_body

SCHEMA_VERSION = 2
# A record is a row, or 200 of them are one packed row: `body` is then a deflated message, `inside`
# says what is in it. `keep` ranks what is given up last: alerts, start records.
SCHEMA = """
CREATE TABLE run (id INTEGER PRIMARY KEY, run TEXT UNIQUE, boot_id TEXT, clean INTEGER,
    known_ns INTEGER);
CREATE TABLE produced (run INTEGER, stream TEXT, seq INTEGER, end_ns INTEGER, known_ns INTEGER,
    PRIMARY KEY (run, stream)) WITHOUT ROWID;
CREATE TABLE series (id INTEGER PRIMARY KEY, run INTEGER, stream TEXT, kind TEXT, config TEXT,
    UNIQUE (run, stream, kind, config));
CREATE TABLE record (id INTEGER PRIMARY KEY, series INTEGER, n INTEGER, first INTEGER, seq INTEGER,
    start_ns INTEGER, end_ns INTEGER, boot_start_ns INTEGER, boot_end_ns INTEGER, gap TEXT,
    keep INTEGER, crc INTEGER, inside TEXT, body);
CREATE INDEX held ON record (id) WHERE boot_end_ns IS NOT NULL;
CREATE INDEX kept ON record (keep, id) WHERE keep IS NOT NULL;
CREATE TABLE alarm (sensor TEXT, alert TEXT, body TEXT, PRIMARY KEY (sensor, alert)) WITHOUT ROWID;
"""
TABLES = {
    "run": "id, run, boot_id, clean, known_ns",
    "produced": "run, stream, seq, end_ns, known_ns",
    "series": "id, run, stream, kind, config",
    "alarm": "sensor, alert, body",
}
RECORD = (
    "id, series, n, first, seq, start_ns, end_ns, boot_start_ns, boot_end_ns, gap, keep, crc,"
    " inside, body"
)
INSERT_RECORD = f"INSERT INTO record ({RECORD}) VALUES ({', '.join('?' * 14)})"

Row = tuple[Any, ...]  # the columns of RECORD
SeriesName = tuple[int, str, str, str]  # run, stream, kind, configuration
Span = tuple[int, str, int, int]  # run, stream, first and last number

# After so many places that cannot be read the rest is left: each costs some reads.
HOPS_LIMIT = 10_000
CHECK_ROWS = 200


class DamagedError(Exception):
    """The file is there and is no usable spool; the message says why."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What happened to a spool's file, and what came of it."""

    why: str
    set_aside: str  # the name it has now
    salvaged: int  # records
    lost: int  # numbers named in gaps, delivered ones among them: nobody can tell them apart


def is_damage(exc: sqlite3.Error) -> bool:
    """Tell a damaged file from a disk that does not work just now."""
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


def checksum(body: str | bytes) -> int:
    """Return the CRC-32 that is stored beside a body."""
    return zlib.crc32(body.encode() if isinstance(body, str) else body)


def beside(path: Path, suffix: str) -> Path:
    """Return the path with something after its name."""
    return path.with_name(path.name + suffix)


def open_file(path: Path, log_bytes: int) -> sqlite3.Connection:
    """Open the spool at `path`, or create it.

    Raises DamagedError where it is no usable spool, sqlite3.Error and OSError where the disk does
    not work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _finish_salvage(path)
    with suppress(FileNotFoundError):
        if not path.is_file():
            path.stat()
            raise DamagedError("is no file")
        if not path.stat().st_size and not beside(path, "-wal").exists():
            raise DamagedError("is empty")
    database = connect(path)
    try:
        _prepare(database, log_bytes)
    except sqlite3.Error as exc:
        database.close()
        if is_damage(exc):
            raise DamagedError(str(exc)) from exc
        raise
    except BaseException:
        database.close()
        raise
    return database


def open_memory() -> sqlite3.Connection:
    """Open a spool that lives in memory only."""
    database = connect(":memory:")
    database.executescript(SCHEMA)
    return database


def connect(path: Path | str) -> sqlite3.Connection:
    """Connect without Python's own transactions, for use by several threads under a lock."""
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _prepare(database: sqlite3.Connection, log_bytes: int) -> None:
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")  # before the first table
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute(f"PRAGMA wal_autocheckpoint = {log_bytes // 4096}")
    database.execute(f"PRAGMA journal_size_limit = {log_bytes}")
    database.execute("PRAGMA busy_timeout = 2000")
    database.execute("PRAGMA cache_size = -512")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and not tables:
        # executescript commits first, so the script brings its own transaction
        database.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"
        )
    elif version != SCHEMA_VERSION:
        raise DamagedError(f"is of version {version}, and this program knows {SCHEMA_VERSION}")
    for table, columns in TABLES.items():  # all of them are small, and needed at once
        database.execute(f"SELECT {columns} FROM {table}").fetchall()
    database.execute(f"SELECT {RECORD} FROM record ORDER BY id DESC LIMIT 1").fetchall()


def replace_damaged(
    path: Path, why: str, produced: Mapping[str, Mapping[str, int]] | None = None
) -> Damage:
    """Put a new file in the place of a damaged one, with all that can be read of that.

    `produced` is what is known without the file: for each run the highest number of each stream.
    Raises sqlite3.Error and OSError where the disk does not work; then nothing has changed.
    """
    new, aside = beside(path, ".new"), beside(path, ".damaged")
    _remove(new)
    salvaged = lost = 0
    with closing(connect(new)) as target:
        target.execute("PRAGMA auto_vacuum = INCREMENTAL")
        target.execute("PRAGMA journal_mode = DELETE")
        target.execute("PRAGMA synchronous = EXTRA")
        target.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
        if path.is_file():
            with suppress(sqlite3.Error), closing(connect(path)) as source:
                source.execute("PRAGMA cell_size_check = ON")
                salvaged, lost = _copy(source, target, produced or {})
        # Set last, and committed with all the rest: it says that the copy is complete.
        target.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        target.execute("COMMIT")
    _finish_salvage(path)
    return Damage(why, aside.name, salvaged, lost)


def _finish_salvage(path: Path) -> None:
    """Let a complete new file take its place; an incomplete one goes."""
    new, aside = beside(path, ".new"), beside(path, ".damaged")
    if not new.exists():
        return
    with closing(connect(new)) as database:
        try:
            is_complete = database.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
        except sqlite3.DatabaseError:
            is_complete = False
    if not is_complete:
        _remove(new)
        return
    if path.exists():
        for suffix in ("-wal", "-shm", ""):
            _remove(beside(aside, suffix))
    # The log first: it must never be found beside the new file, which it does not belong to.
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            beside(path, suffix).rename(beside(aside, suffix))
    new.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    beside(path, "-journal").unlink(missing_ok=True)


# Salvage


def _copy(
    source: sqlite3.Connection,
    target: sqlite3.Connection,
    known: Mapping[str, Mapping[str, int]],
) -> tuple[int, int]:
    """Copy what can be read; return how many records were, and how many numbers were named lost."""
    complete = [True]

    def trouble() -> None:
        complete[0] = False

    produced: dict[tuple[int, str], int] = {}
    kinds: dict[int, SeriesName] = {}
    for row in _rows(source, "run", trouble):
        target.execute("INSERT OR IGNORE INTO run VALUES (?, ?, ?, ?, ?)", row)
    for row in _rows(source, "produced", trouble):
        produced[row[0], row[1]] = row[2]
        target.execute("INSERT OR IGNORE INTO produced VALUES (?, ?, ?, ?, ?)", row)
    for row in _rows(source, "series", trouble):
        kinds[row[0]] = (row[1], row[2], row[3], row[4])
        target.execute("INSERT OR IGNORE INTO series VALUES (?, ?, ?, ?, ?)", row)
    for row in _rows(source, "alarm", trouble):
        target.execute("INSERT OR IGNORE INTO alarm VALUES (?, ?, ?)", row)
    for name, streams in known.items():
        target.execute("INSERT OR IGNORE INTO run (run, clean) VALUES (?, 0)", (name,))
        run = target.execute("SELECT id FROM run WHERE run = ?", (name,)).fetchone()[0]
        for stream, seq in streams.items():
            produced[run, stream] = max(produced.get((run, stream), 0), seq)
    salvaged = 0
    have: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for row in _records(source, trouble):
        found = _whole(row, kinds)
        if found is None:
            trouble()
            continue
        whole, spans = found
        target.execute(INSERT_RECORD, whole)
        salvaged += whole[2]
        for run, stream, first, last in spans:
            have.setdefault((run, stream), []).append((first, last))
            produced[run, stream] = max(produced.get((run, stream), 0), last)
    lost = 0 if complete[0] else _name_lost(target, produced, have, kinds)
    return salvaged, lost


def _name_lost(
    target: sqlite3.Connection,
    produced: dict[tuple[int, str], int],
    have: dict[tuple[int, str], list[tuple[int, int]]],
    kinds: dict[int, SeriesName],
) -> int:
    """Put gaps for every number that was given out and was not found.

    Some of them were delivered before; a reader lets what came win over a gap.
    """
    lost, at = 0, BEFORE_ALL // 2
    for (run, stream), highest in sorted(produced.items()):
        found = [(kind, config) for r, s, kind, config in kinds.values() if (r, s) == (run, stream)]
        shared = [(kind, config) for r, s, kind, config in kinds.values() if (r, s) == (run, "")]
        kind, config = next(iter(found or shared), ("gateway", ""))
        for first, last in _holes(have.get((run, stream), []), highest):
            target.execute(
                "INSERT OR IGNORE INTO series (run, stream, kind, config) VALUES (?, ?, ?, ?)",
                (run, stream, kind, config),
            )
            series = target.execute(
                "SELECT id FROM series WHERE run = ? AND stream = ? AND kind = ? AND config = ?",
                (run, stream, kind, config),
            ).fetchone()[0]
            body = gap_body(stream, first, last, "corrupt", None, None)
            times = (None,) * 4
            keep = None
            row = (at, series, 1, first, last, *times, "corrupt", keep, checksum(body), None, body)
            target.execute(INSERT_RECORD, row)
            lost += last - first + 1
            at += 1
    return lost


def _holes(have: list[tuple[int, int]], highest: int) -> Iterator[tuple[int, int]]:
    expected = 1
    for first, last in sorted(have):
        if first > expected:
            yield expected, first - 1
        expected = max(expected, last + 1)
    if expected <= highest:
        yield expected, highest


def _select(source: sqlite3.Connection, table: str, wanted: str) -> str:
    """Return the SELECT for the columns wanted, NULL for those another version does not have."""
    there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    columns = [name if name in there else "NULL" for name in wanted.split(", ")]
    return f"SELECT {', '.join(columns)} FROM {table}"


def _rows(
    source: sqlite3.Connection, table: str, trouble: Callable[[], None]
) -> Iterator[tuple[Any, ...]]:
    """Yield what can be read of one of the small tables."""
    try:
        yield from source.execute(_select(source, table, TABLES[table]))
    except sqlite3.Error:
        trouble()


def _records(source: sqlite3.Connection, trouble: Callable[[], None]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of `record` that can be read, hopping over what cannot."""
    try:
        select = f"{_select(source, 'record', RECORD)} WHERE id > ? ORDER BY id"
    except sqlite3.Error:
        trouble()
        return
    after, hops = -(2**63), 0
    while True:
        try:
            for row in source.execute(select, (after,)):
                yield row
                after = row[0]
            return
        except sqlite3.Error:
            trouble()
            hops += 1
            beyond = _readable_after(source, select, after) if hops < HOPS_LIMIT else None
            if beyond is None:
                return
            after = beyond


def _readable_after(source: sqlite3.Connection, select: str, after: int) -> int | None:
    """Return the lowest id above `after` from which reading on finds no damage at once."""
    step, bad = 1, after
    while after + step < 2**63 - 1:
        good = after + step
        if _can_read(source, select, good):
            while good - bad > 1:
                middle = (good + bad) // 2
                if _can_read(source, select, middle):
                    good = middle
                else:
                    bad = middle
            return good
        bad = good
        step *= 2
    return None


def _can_read(source: sqlite3.Connection, select: str, after: int) -> bool:
    try:
        source.execute(f"{select} LIMIT 1", (after,)).fetchone()
    except sqlite3.Error:
        return False
    return True


def _whole(row: tuple[Any, ...], kinds: dict[int, SeriesName]) -> tuple[Row, list[Span]] | None:
    """Return a row, completed where an older version knew less, and the numbers in it.

    None where it makes no sense.
    """
    series, n, first, seq, gap, keep, crc, inside, body = (
        row[i] for i in (1, 2, 3, 4, *range(9, 14))
    )
    if series not in kinds or not isinstance(body, str | bytes):
        return None
    if crc is not None and checksum(body) != crc:
        return None
    run, stream, *_ = kinds[series]
    try:
        if inside is not None:
            spans = [
                (run, span[0], int(span[1]), int(span[2])) for span in json.loads(inside)["spans"]
            ]
            return row, spans
        said = json.loads(body)
        if said["stream"] != stream or said["seq"] != seq:
            return None
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    first = seq if first is None else first
    times = row[5:9]
    row = (row[0], series, n or 1, first, seq, *times, gap, keep, checksum(body), None, body)
    return row, [(run, stream, first, seq)]


# Looking


def check(path: Path, goes_on: Callable[[], bool]) -> str | None:
    """Read the whole file through a connection of its own; return what is wrong with it.

    `goes_on` says whether to go on. Raises sqlite3.Error where the disk does not work.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            wrong = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if wrong != "ok":
                return str(wrong)
            after = -(2**63)
            while goes_on():
                rows = database.execute(
                    "SELECT id, crc, body FROM record WHERE id > ? ORDER BY id LIMIT ?",
                    (after, CHECK_ROWS),
                ).fetchall()
                if not rows:
                    break
                for row_id, crc, body in rows:
                    if checksum(body) != crc:
                        return f"record {row_id} is not what was written"
                after = rows[-1][0]
        except sqlite3.DatabaseError as exc:
            if is_damage(exc):
                return str(exc)
            raise
    return None
