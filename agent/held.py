"""Records that wait for the clock: committed before the time of day was known.

They have the boot-time clock's readings beside the estimated times, until those are put right or
nobody waits any longer. Whoever calls has the connection, and a transaction where it writes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from .clock import HeldBoot, Stamp
from .record import with_time
from .shelf import Shelf, end_of
from .spoolfile import checksum


def correct(
    database: sqlite3.Connection,
    shelf: Shelf,
    boot_id: str,
    utc_ns: Callable[[int], int],
    stamp: Callable[[int], Stamp],
) -> int:
    """Put right the times of this boot's records; return how many (`Spool.correct`)."""
    rows = database.execute(
        "SELECT r.id, run.id, s.stream, r.boot_start_ns, r.boot_end_ns, r.crc, r.body"
        " FROM record r JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
        " WHERE r.boot_end_ns IS NOT NULL AND run.boot_id = ?",
        (boot_id,),
    ).fetchall()
    for row_id, run_id, stream, boot_start_ns, boot_end_ns, crc, body in rows:
        if checksum(body) != crc:
            shelf.give_up([row_id], "corrupt")
            continue
        start_ns, end_ns = utc_ns(boot_start_ns), utc_ns(boot_end_ns)
        clock = stamp(boot_start_ns)
        body = with_time(body, start_ns, end_ns, clock)
        database.execute(
            "UPDATE record SET start_ns = ?, end_ns = ?, boot_start_ns = NULL,"
            " boot_end_ns = NULL, crc = ?, body = ? WHERE id = ?",
            (start_ns, end_ns, checksum(body), body, row_id),
        )
        if clock.state != "estimated":
            shelf.note_ends(run_id, [(stream, end_of(end_ns, clock))])
    return len(rows)


def release(database: sqlite3.Connection) -> int:
    """Let them go as `estimated`; return how many."""
    cursor = database.execute(
        "UPDATE record SET boot_start_ns = NULL, boot_end_ns = NULL WHERE boot_end_ns IS NOT NULL"
    )
    return cursor.rowcount


def boots(database: sqlite3.Connection) -> list[HeldBoot]:
    """Return the boots that have any, in their order."""
    rows = database.execute(
        "SELECT b.boot_id, b.first_ns, b.last_ns, run.known_ns,"
        " r.start_ns - r.boot_start_ns"
        " FROM (SELECT run.boot_id, min(r.boot_start_ns) AS first_ns,"
        "  max(r.boot_end_ns) AS last_ns, min(run.id) AS run, max(r.id) AS last_id"
        "  FROM record r JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
        "  WHERE r.boot_end_ns IS NOT NULL GROUP BY run.boot_id) b"
        " JOIN run ON run.id = b.run JOIN record r ON r.id = b.last_id ORDER BY b.run"
    )
    return [HeldBoot(*row) for row in rows]
