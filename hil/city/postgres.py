"""The city's database as PostgreSQL: several processes write it side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from .rows import Row
from .store import RowsRefusedError, Store, StoreAwayError
from .tables import RECORD

CONNECT_S = 10
# Of session-level advisory locks, the number of ours: who holds it writes the receipts.
LEADER_LOCK = 0x79756B69
SCHEMA_LOCK = 0x79756B6A

# An acknowledgement is a promise about the disk, whatever the server's default. To compile the
# small questions that are asked each second took 345 ms a time, and to answer them a few.
_OPTIONS = "-c synchronous_commit=on -c jit=off -c timezone=UTC"

# Of SQLSTATE: data exception, integrity violation, program limit exceeded.
_ROWS_TO_BLAME = ("22", "23", "54")

_COLUMNS = ", ".join(f'"{name}"' for name in RECORD)
_COPY = f"COPY incoming ({_COLUMNS}) FROM STDIN"
_MERGE = (
    f"INSERT INTO record ({_COLUMNS}) SELECT {_COLUMNS} FROM incoming"  # noqa: S608
    " ORDER BY gateway, run, stream, seq ON CONFLICT DO NOTHING"
)


class PostgresStore(Store):
    """The database at `url`. A connection that is lost is made again by the next transaction."""

    dialect = "postgresql"
    mark = "%s"

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._url = url
        self._read_only = read_only
        self._connection: psycopg.Connection[Any] | None = None
        self._leads = False

    def close(self) -> None:
        """Close the connection, and with it give up the lead."""
        connection, self._connection = self._connection, None
        self._leads = False
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def lead(self) -> bool:
        """Whether this process holds the lock; it is taken where it is free."""
        if not self._leads:
            rows = self.query("SELECT pg_try_advisory_lock(?)", (LEADER_LOCK,))
            self._leads = bool(rows[0][0])
        return self._leads

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        """Give a cursor whose work is committed at the end."""
        try:
            connection = self._connected()
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as exc:
            state = exc.sqlstate or ""
            if state[:2] in _ROWS_TO_BLAME or (type(exc) is psycopg.ProgrammingError and not state):
                raise RowsRefusedError(f"PostgreSQL: {exc}") from exc
            # Gone, shutting down, disk full, a deadlock, a standby, a table without our rights:
            # a new connection knows nothing of it.
            self.close()
            raise StoreAwayError(f"PostgreSQL: {exc}") from exc

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = psycopg.connect(
                self._url,
                autocommit=True,
                connect_timeout=CONNECT_S,
                application_name="yukimi-city",
                # A machine that is gone must not hold us for the hours that TCP would wait.
                keepalives_idle=30,
                keepalives_interval=10,
                keepalives_count=3,
                options=_OPTIONS + (" -c default_transaction_read_only=on" * self._read_only),
            )
            connection.prepare_threshold = 2
            self._connection = connection
        return self._connection

    def _lock_schema(self, cursor: Any) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))

    def _insert_records(self, cursor: Any, rows: list[Row]) -> int:
        if not rows:
            return 0
        cursor.execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (LIKE record) ON COMMIT DELETE ROWS"
        )
        with cursor.copy(_COPY) as copy:
            copy.write("".join(map(_line, rows)))
        cursor.execute(_MERGE)
        new: int = cursor.rowcount
        return new


def _line(row: Row) -> str:
    """Return a row in COPY's own format; only JSON can hold what must be escaped there."""
    fields = ("\\N" if value is None else str(value).replace("\\", "\\\\") for value in row)
    return "\t".join(fields) + "\n"
