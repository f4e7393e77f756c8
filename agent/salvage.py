"""What becomes of a spool's file that is damaged.

A file that cannot be used is never a reason to stop. What can be read of it is copied into a new
file beside it; when that is complete and synced, the damaged one is set aside under
`NAME.damaged` (one at a time: the newest) and the new one takes its place. A power cut at any step
leaves the old file, or the new one complete. What was lost is named in gaps.

Nothing in the file is believed as it stands: a body must have its checksum, and says itself of
which stream it is and which number it has; a number is taken once.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .numbers import Numbers
from .record import ALERTS_STREAM, BEFORE_ALL, gap_body
from .replacing import sync_folder
from .spoolfile import (
    INSERT_RECORD,
    PAGE_SIZE,
    READ_ERRORS,
    RECORD,
    SCHEMA,
    SCHEMA_VERSION,
    TABLES,
    Row,
    beside,
    checksum,
    connect,
    is_damage,
)

# After so many places that cannot be read the rest is left: each costs some reads.
HOPS_LIMIT = 10_000
STUMBLES = 3  # of the disk, until a table counts as unreadable

# What an index can say where its table cannot be read.
INDEXES = {
    "run": (("id, run, NULL, NULL, NULL", "INDEXED BY sqlite_autoindex_run_1"),),
    "series": ((TABLES["series"], "INDEXED BY sqlite_autoindex_series_1"),),
}

NUMBER_LIMIT = 2**62  # no number, id or time is larger

Span = tuple[str, int, int]  # a stream, its first and last number


class Damage(NamedTuple):
    """What happened to a spool's file, and what came of it."""

    why: str
    set_aside: str  # the name it has now; "" where it stayed
    salvaged: int  # records
    lost: int  # numbers named in gaps, delivered ones among them: nobody can tell them apart


def replace_damaged(
    path: Path, why: str, produced: Mapping[str, Mapping[str, int]] | None = None
) -> Damage:
    """Put a new file in the place of a damaged one, with all that can be read of that.

    `produced` is what is known without the file: for each run the highest number of each stream.
    Raises sqlite3.Error and OSError where the disk does not work; then nothing has changed.
    """
    new = beside(path, ".new")
    _mend_first_page(path, new)
    _remove(new)
    with closing(_created(new)) as target:
        target.execute("BEGIN IMMEDIATE")
        salvage = _Salvage(target, produced or {})
        if path.is_file():
            with closing(connect(path)) as source:
                source.execute("PRAGMA cell_size_check = ON")
                salvage.copy(source)
        else:
            salvage.is_complete = False
        lost = 0 if salvage.is_complete else salvage.name_lost()
        # Set last, and committed with all the rest: it says that the copy is complete.
        target.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        target.execute("COMMIT")
    finish_salvage(path)
    return Damage(why, beside(path, ".damaged").name, salvage.salvaged, lost)


def finish_salvage(path: Path) -> None:
    """Let a complete new file take its place; an incomplete one goes."""
    new, aside = beside(path, ".new"), beside(path, ".damaged")
    if not new.exists():
        return
    if not _is_complete(new):
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


def _created(new: Path) -> sqlite3.Connection:
    database = connect(new)
    database.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = EXTRA")
    database.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT")
    return database


def _is_complete(new: Path) -> bool:
    if not new.is_file():
        return False
    with closing(connect(new)) as database:
        try:
            return bool(database.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
            # A disk that fails just now says nothing of the file, which may be the only one.
            if not is_damage(exc):
                raise
            return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    beside(path, "-journal").unlink(missing_ok=True)


def _mend_first_page(path: Path, scratch: Path) -> None:
    """Give a spool whose first page cannot be read that of an empty one.

    The first page holds the schema and where each table begins, and both are the same in every
    spool of this version. The second one tells a spool from other files: it says of which page
    each of the next ones is a part, and these are the tables' beginnings.
    """
    if not path.is_file() or path.stat().st_size < 3 * PAGE_SIZE:
        return
    with closing(connect(path)) as database:
        try:
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'record'").fetchone():
                return
        except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:
            if not is_damage(exc):
                raise
    _remove(scratch)
    with closing(_created(scratch)) as database:
        tables = database.execute("PRAGMA page_count").fetchone()[0] - 2
    pristine = scratch.read_bytes()[: 2 * PAGE_SIZE]
    owners = slice(PAGE_SIZE, PAGE_SIZE + 5 * tables)
    with path.open("r+b") as file:
        if file.read(2 * PAGE_SIZE)[owners] != pristine[owners]:
            return
        page = bytearray(pristine[:PAGE_SIZE])
        page[18:20] = b"\x02\x02"  # there may be a log
        page[28:32] = (path.stat().st_size // PAGE_SIZE).to_bytes(4)
        page[32:40] = bytes(8)  # which pages are free is not known, and nothing will be written
        page[60:64] = SCHEMA_VERSION.to_bytes(4)
        file.seek(0)
        file.write(page)
        file.flush()
        os.fsync(file.fileno())


class _Salvage:
    """One copying of what can be read."""

    def __init__(self, target: sqlite3.Connection, known: Mapping[str, Mapping[str, int]]) -> None:
        self._target = target
        self._known = known
        self._runs: set[int] = set()
        self._series: dict[int, tuple[int, str, str, str]] = {}  # run, stream, kind, config
        self._highest: dict[tuple[int, str], int] = defaultdict(int)
        self._have: dict[tuple[int, str], Numbers] = defaultdict(Numbers)
        self.is_complete = True
        self.salvaged = 0

    def copy(self, source: sqlite3.Connection) -> None:
        """Copy all that makes sense, and note whether that is all there is."""
        try:
            answer = source.execute("PRAGMA integrity_check(1)").fetchone()[0]
            self.is_complete = answer == "ok"  # a stale page may be read without an error
        except READ_ERRORS:
            self.is_complete = False
        for row in self._rows(source, "run"):
            self._put_run(*row)
        for row in self._rows(source, "series"):
            self._put_series(*row)
        for run, stream, seq, *times in self._rows(source, "produced"):
            is_sane = run in self._runs and _is_number(seq) and isinstance(stream, str)
            if is_sane and all(isinstance(each, int | None) for each in times):
                self._highest[run, stream] = seq
                self._put("produced", (run, stream, seq, *times))
        for sensor, alert, body in self._rows(source, "alarm"):
            with suppress(ValueError, TypeError):
                json.loads(body)
                self._put("alarm", (sensor, alert, body))
        for n, day, line, body in self._rows_in_order(source, "ledger", TABLES["ledger"], "n"):
            if _is_number(n) and isinstance(line, str) and isinstance(body, str):
                self._put("ledger", (n, day if isinstance(day, str) else None, line, body))
        for row in self._rows_in_order(source, "record", RECORD, "id"):
            self._put_record(Row(*row))

    def _put_run(self, row_id: Any, name: Any, boot_id: Any, clean: Any, known_ns: Any) -> None:
        if _is_number(row_id) and isinstance(name, str):
            self._runs.add(row_id)
            boot_id = boot_id if isinstance(boot_id, str) else ""
            known_ns = known_ns if isinstance(known_ns, int) else None
            self._put("run", (row_id, name, boot_id, int(clean == 1), known_ns))

    # What belongs to a run without a name is left: nobody could say whose it is.

    def _put_series(self, row_id: Any, run: Any, *names: Any) -> None:
        is_sane = _is_number(row_id) and run in self._runs
        if is_sane and all(isinstance(name, str) for name in names):
            self._series.setdefault(row_id, (run, *names))
            self._put("series", (row_id, *self._series[row_id]))

    def _put(self, table: str, row: tuple[Any, ...]) -> None:
        places = ", ".join("?" * len(row))
        self._target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row)

    def _put_record(self, row: Row) -> None:
        numbers = _numbers(row)
        if numbers is None or row.series not in self._series:
            self.is_complete = False
            return
        run, stream, kind, config = self._series[row.series]
        taken = [(self._have[run, name], first, last) for name, first, last in numbers]
        if any(each.overlaps(first, last) for each, first, last in taken):
            self.is_complete = False
            return
        if row.inside is None:
            name, first, last = numbers[0]
            if name != stream:
                row = row._replace(series=self._series_id(run, name, kind, config))
            gap = json.loads(row.body).get("gap")
            row = row._replace(n=1, first=first, seq=last, gap=gap, crc=checksum(row.body))
        else:
            row = row._replace(n=sum(last - first + 1 for _, first, last in numbers))
        try:
            self._target.execute(INSERT_RECORD, row)
        except sqlite3.IntegrityError:  # the id is there twice
            self.is_complete = False
            return
        for each, first, last in taken:
            each.add(first, last)
        for name, _, last in numbers:
            self._highest[run, name] = max(self._highest[run, name], last)
        self.salvaged += row.n

    def name_lost(self) -> int:
        """Put gaps for every number that was given out and was not found; return how many.

        Some of them were delivered before; a reader lets what came win over a gap.
        """
        for name, streams in self._known.items():
            run = self._run_id(name)
            for stream, seq in streams.items():
                self._highest[run, stream] = max(self._highest[run, stream], seq)
        lowest = self._target.execute(
            "SELECT coalesce(max(id), 0) FROM record WHERE id < 0 AND id >= ?", (BEFORE_ALL // 2,)
        ).fetchone()[0]
        lost, at = 0, lowest + 1 if lowest else BEFORE_ALL // 2
        for (run, stream), highest in sorted(self._highest.items()):
            for first, last in self._have[run, stream].holes(1, highest):
                self._put_gap(at, run, stream, first, last)
                lost += last - first + 1
                at += 1
        return lost

    def _put_gap(self, at: int, run: int, stream: str, first: int, last: int) -> None:
        is_alert = stream == ALERTS_STREAM
        kind, config = "gateway", ""
        for own, name, *rest in self._series.values():
            if own == run and name in (stream, ""):
                kind, config = ("gateway" if is_alert else rest[0]), rest[1]
                if name:
                    break
        series = self._series_id(run, stream, kind, config)
        body = gap_body(stream, first, last, "corrupt", None, None)
        nothing = (None,) * 4
        keep = 1 if is_alert else None
        row = Row(at, series, 1, first, last, *nothing, "corrupt", keep, checksum(body), None, body)
        self._target.execute(INSERT_RECORD, row)

    def _run_id(self, name: str) -> int:
        self._target.execute(
            "INSERT OR IGNORE INTO run (run, boot_id, clean) VALUES (?, '', 0)", (name,)
        )
        row = self._target.execute("SELECT id FROM run WHERE run = ?", (name,)).fetchone()
        self._runs.add(row[0])
        return int(row[0])

    def _series_id(self, *names: int | str) -> int:
        self._target.execute(
            "INSERT OR IGNORE INTO series (run, stream, kind, config) VALUES (?, ?, ?, ?)", names
        )
        row = self._target.execute(
            "SELECT id FROM series WHERE run = ? AND stream = ? AND kind = ? AND config = ?", names
        ).fetchone()
        return int(row[0])

    # Reading

    def _rows(self, source: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
        """Yield what can be read of one of the small tables, in itself or in its index."""
        for wanted, how in ((TABLES[table], "NOT INDEXED"), *INDEXES.get(table, ())):
            try:
                yield from source.execute(f"{_select(source, table, wanted)} {how}")
                return
            except READ_ERRORS:
                self.is_complete = False

    def _rows_in_order(
        self, source: sqlite3.Connection, table: str, wanted: str, key: str
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a table that can be read, by their key, hopping over what cannot."""
        after, hops = -(2**63), 0
        query = _Query(source, "", key)
        while hops < HOPS_LIMIT:
            try:
                query.select = _select(source, table, wanted)
                for row in query.rows(after):
                    if isinstance(row[0], int):
                        yield row
                        after = max(after, row[0])  # a page that came from elsewhere goes back
                return
            except READ_ERRORS:
                self.is_complete = False
                hops += 1
                if not query.select and hops < STUMBLES:
                    continue
                beyond = query.readable_after(after) if query.select else None
                if beyond is None:
                    return
                after = beyond


@dataclass(slots=True)
class _Query:
    """The rows of a table from a key on."""

    source: sqlite3.Connection
    select: str  # empty: not known yet
    key: str

    def rows(self, after: int, limit: str = "") -> sqlite3.Cursor:
        """Return the rows whose key is above `after`."""
        where = f"{self.select} WHERE {self.key} > ? ORDER BY {self.key}{limit}"
        return self.source.execute(where, (after,))

    def readable_after(self, after: int) -> int | None:
        """Return the lowest key from `after` on from which reading finds no damage at once."""
        if self._can_read(after):  # the disk had stumbled
            return after
        step, bad = 1, after
        while after + step < 2**63 - 1:
            good = after + step
            if self._can_read(good):
                while good - bad > 1:
                    middle = (good + bad) // 2
                    if self._can_read(middle):
                        good = middle
                    else:
                        bad = middle
                return good
            bad = good
            step *= 2
        return None

    def _can_read(self, after: int) -> bool:
        try:
            self.rows(after, " LIMIT 1").fetchone()
        except READ_ERRORS:
            return False
        return True


def _numbers(row: Any) -> list[Span] | None:
    """Return the numbers in a row, as its bodies say; None where it makes no sense."""
    if not isinstance(row.body, str | bytes) or not isinstance(row.inside, str | None):
        return None
    # An older version knew no checksums.
    if row.crc is not None and checksum(row.body, row.inside) != row.crc:
        return None
    if not (_is_number(row.series) and isinstance(row.n, int | None)):
        return None
    if not all(isinstance(each, int | None) for each in (*row[3:9], row.keep)):
        return None
    try:
        if row.inside is not None:
            spans = json.loads(row.inside)["spans"]
            return [(str(name), int(first), int(last)) for name, first, last, *_ in spans]
        said = json.loads(row.body)
        found = (said["stream"], said.get("first", said["seq"]), said["seq"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    is_sane = isinstance(found[0], str) and _is_number(*found[1:]) and found[1] <= found[2]
    return [found] if is_sane else None


def _is_number(*values: object) -> bool:
    return all(isinstance(value, int) and 0 <= value < NUMBER_LIMIT for value in values)


def _select(source: sqlite3.Connection, table: str, wanted: str) -> str:
    """Return the SELECT for the columns wanted, NULL for those another version does not have."""
    there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    columns = [name if name in there else "NULL" for name in wanted.split(", ")]
    return f"SELECT {', '.join(columns)} FROM {table}"
