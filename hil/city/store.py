"""The database behind the consumer: what one transaction writes is there, or nothing of it is.

Invariants:
- `write` returns only when the database has committed durably; rows that are there already stay
  as they are, so that to write again after a lost answer is harmless.
- A stream's row is touched in the transaction that brings its records: whoever reads `touched`
  sees the records too.
- `through` is told only of rows that are committed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from . import tables
from .rows import Birth, Row, Rows, StreamKey
from .tables import ALARM, ALERT, BIRTH, GAP, GATEWAY, HEALTH, REJECTED, RUN_TOLD, SENSOR


class StoreAwayError(Exception):
    """The database cannot do it now: it is not there, its disk is full, somebody locks it."""


class RowsRefusedError(Exception):
    """The database is there and will never take these rows."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A stream of which something came, and how far it is held without a hole."""

    key: StreamKey
    touched: int
    through: int


class Store(ABC):
    """A database of the city, with the connection of one process."""

    dialect: ClassVar[str]
    mark: ClassVar[str]  # of a parameter in SQL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # What the two databases do each in its way

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""

    @abstractmethod
    def lead(self) -> bool:
        """Whether this process is the one that writes receipts. Raises StoreAwayError."""

    @abstractmethod
    def transaction(self) -> Any:
        """Give a cursor whose work is committed at the end. Raises StoreAwayError, RowsRefused."""

    @abstractmethod
    def _insert_records(self, cursor: Any, rows: list[Row]) -> int:
        """Insert what is not there yet; return how many."""

    # What they do alike

    def migrate(self) -> int:
        """Bring the tables to this version; return the version that they had before.

        Raises RowsRefusedError where they are newer than this program.
        """
        with self.transaction() as cursor:
            self._lock_schema(cursor)
            cursor.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
            cursor.execute("SELECT max(version) FROM schema_version")
            before: int = cursor.fetchone()[0] or 0
            if before > len(tables.MIGRATIONS):
                raise RowsRefusedError(
                    f"the tables are of version {before}, this program knows"
                    f" {len(tables.MIGRATIONS)}: install a newer yukimi-city"
                )
            for version, migration in enumerate(tables.MIGRATIONS[before:], start=before + 1):
                for statement in self._worded(migration).split(";\n"):
                    if statement.strip():
                        cursor.execute(statement)
                cursor.execute(self._sql("INSERT INTO schema_version VALUES (?)"), (version,))
        return before

    @abstractmethod
    def _lock_schema(self, cursor: Any) -> None:
        """Let one process at a time migrate."""

    def write(self, rows: Rows) -> int:
        """Write what is not there yet, in one transaction; return how many records were new.

        Raises StoreAwayError, RowsRefusedError.
        """
        try:
            return self._write(rows)
        except (TypeError, ValueError, OverflowError) as exc:  # what no driver can bind
            raise RowsRefusedError(str(exc)) from exc

    def _write(self, rows: Rows) -> int:
        with self.transaction() as cursor:
            # Two processes that insert the same keys in one order wait, in two they deadlock.
            new = self._insert_records(cursor, sorted(rows.records, key=_key))
            self._insert(cursor, "gap", GAP, sorted(rows.gaps, key=_gap_key))
            self._insert(cursor, "alert", ALERT, sorted(rows.alerts, key=lambda row: row[:3]))
            self._insert(cursor, "rejected", REJECTED, sorted(rows.rejected, key=lambda r: r[0]))
            for status in rows.statuses:
                self._take_status(cursor, status)
            for alarm in rows.alarms:
                self._take_alarm(cursor, alarm)
            self._upsert(cursor, "health", HEALTH, 1, sorted(rows.health.values()))
            self._many(cursor, tables.RUN, [_run(*each) for each in sorted(rows.runs.items())])
            # Last, so that another process waits as shortly as can be.
            told = [
                (*key, page.produced, page.is_final, int(page.is_owed))
                for key, page in sorted(rows.streams.items())
            ]
            self._many(cursor, tables.TOUCH, told)
        return new

    def forget_alarms(self) -> None:
        """Empty the table of alarms: the broker is about to tell all that there are."""
        with self.transaction() as cursor:
            cursor.execute("DELETE FROM alarm")

    def owed(self, limit: int) -> list[Owed]:
        """Return streams whose receipt is owed, and how far they are held."""
        rows = self.query(tables.WALK.replace("{limit}", str(limit)))
        return [Owed(StreamKey(*row[:3]), row[3], row[4]) for row in rows]

    def receipted(self, done: Iterable[Owed]) -> None:
        """Note what the broker has taken as receipts."""
        sql = (
            "UPDATE stream SET through = ?, receipted = ?, is_emptied = FALSE"
            " WHERE gateway = ? AND run = ? AND stream = ?"
        )
        ordered = sorted(done, key=lambda each: each.key)
        with self.transaction() as cursor:
            self._many(cursor, sql, [(each.through, each.touched, *each.key) for each in ordered])

    def complete(self, now_utc: str) -> None:
        """Note when runs became complete."""
        with self.transaction() as cursor:
            cursor.execute(self._sql(tables.COMPLETE), (now_utc,))

    def forgettable(self, before_utc: str, limit: int) -> list[StreamKey]:
        """Return streams of runs that were complete before then, and still have a receipt."""
        sql = tables.FORGETTABLE.replace("{limit}", str(limit))
        return [StreamKey(*row) for row in self.query(sql, (before_utc,))]

    def emptied(self, keys: Iterable[StreamKey]) -> None:
        """Note that the broker has taken an empty receipt."""
        sql = "UPDATE stream SET is_emptied = TRUE WHERE gateway = ? AND run = ? AND stream = ?"
        with self.transaction() as cursor:
            self._many(cursor, sql, sorted(keys))

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return the rows of a question; `?` marks a parameter. Raises StoreAwayError."""
        with self.transaction() as cursor:
            cursor.execute(self._sql(sql), parameters)
            rows: list[Row] = cursor.fetchall()
            return rows

    def _sql(self, sql: str) -> str:
        return self._worded(sql.replace("?", self.mark))

    def _worded(self, sql: str) -> str:
        for word, here in tables.WORDS[self.dialect].items():
            sql = sql.replace(f"{{{word}}}", here)
        return sql

    def _many(self, cursor: Any, sql: str, rows: list[Row]) -> None:
        if rows:
            cursor.executemany(self._sql(sql), rows)

    def _insert(self, cursor: Any, table: str, columns: Sequence[str], rows: list[Row]) -> None:
        sql = f"{_insert_into(table, columns)} ON CONFLICT DO NOTHING"
        self._many(cursor, sql, rows)

    def _upsert(
        self, cursor: Any, table: str, columns: Sequence[str], keys: int, rows: list[Row]
    ) -> None:
        """Insert rows, or write over those whose first `keys` columns are there."""
        changes = ", ".join(f"{name} = excluded.{name}" for name in _quoted(columns[keys:]))
        key = ", ".join(columns[:keys])
        sql = f"{_insert_into(table, columns)} ON CONFLICT ({key}) DO UPDATE SET {changes}"
        self._many(cursor, sql, rows)

    def _take_alarm(self, cursor: Any, alarm: Row) -> None:
        if len(alarm) == len(ALARM):
            self._upsert(cursor, "alarm", ALARM, 3, [alarm])
        else:
            sql = "DELETE FROM alarm WHERE gateway = ? AND sensor = ? AND alert = ?"
            cursor.execute(self._sql(sql), alarm)

    def _take_status(self, cursor: Any, status: Birth | Row) -> None:
        if not isinstance(status, Birth):
            self._upsert(cursor, "gateway", GATEWAY[: len(status)], 1, [status])
            return
        self._upsert(cursor, "gateway", GATEWAY, 1, [status.gateway])
        sensors = sorted(status.sensors, key=lambda row: row[:2])
        self._upsert(cursor, "sensor", SENSOR, 2, sensors)
        self._insert(cursor, "birth", BIRTH, [status.birth])


def _run(key: tuple[str, str], run: dict[str, Any]) -> Row:
    return (*key, *(run.get(name) for name in RUN_TOLD))


def _key(row: Row) -> Row:
    return row[:4]


def _gap_key(row: Row) -> Row:
    return row[:5]


def _quoted(columns: Iterable[str]) -> Iterator[str]:
    return (f'"{name}"' for name in columns)


def _insert_into(table: str, columns: Sequence[str]) -> str:
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(_quoted(columns))}) VALUES ({places})"  # noqa: S608
