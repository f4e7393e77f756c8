"""The spool's tables: what is put in, taken out, packed and given up.

A shelf belongs to one connection, and knows by heart what it would else have to ask for: the names
of series, and how many records wait. Everything here happens inside a transaction that the spool
began; where that is undone, `forget` must be called.

A backlog of single records is turned into packs: PACK_RECORDS of one run, kind and configuration
become one entry, deflated into the message that they will be. What is given up becomes a gap in
its own stream, joined to the gaps beside it.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from .clock import Stamp
from .record import (
    ALERTS_STREAM,
    BEFORE_ALL,
    GATEWAY_STREAM,
    AlertRecord,
    batch,
    bodies_of,
    deflated,
    gap_body,
    utc_ns,
)
from .spoolfile import INSERT_RECORD, RECORD, DamagedError, Row, checksum

# So many records of one run, kind and configuration become one entry. Beyond a few hundred they
# deflate hardly better, and a broker that is slow or strict gets large messages.
PACK_RECORDS = 200
PACK_LOOK = 4000  # entries looked at to find them
PACK_LEVEL = 9  # of zlib: each record is deflated once, a few times an hour

# How many of the oldest records make room at a time when the spool is full.
EVICT_RECORDS = 500

# So many gaps are never dropped: they are not what fills a spool.
GAPS_KEPT = 500

# `keep`: what is given up last
KEEP_ALERT, KEEP_START = 1, 2
KEEP = {ALERTS_STREAM: KEEP_ALERT, GATEWAY_STREAM: KEEP_START}

ROW_BYTES = 256  # what a row takes beside its body, more than less


End = tuple[int, int | None]  # of a window, in UTC; what of that has certainly passed


def end_of(end_ns: int, clock: Stamp) -> End:
    """Return how far a window reaches, under the time that its stamp tells."""
    return end_ns, None if clock.error_s is None else end_ns - math.ceil(clock.error_s * 1e9)


class Names(NamedTuple):
    """Where records come from. A pack has no stream of its own: there it is empty."""

    run: str
    stream: str
    kind: str
    config_id: str


class PreviousRun(NamedTuple):
    """What an earlier life of the daemon committed in all."""

    run: str
    clean: bool
    produced: dict[str, int]

    def json(self) -> dict[str, object]:
        """Return the contract's `previous` object."""
        return {"run": self.run, "clean": self.clean, "produced": self.produced}


class _Piece(NamedTuple):
    """Numbers of one stream that are given up, or already in a gap (then `id` is below 0)."""

    first: int
    last: int
    start_ns: int | None
    end_ns: int | None
    id: int
    kind: str
    config_id: str


class Shelf:
    """The tables behind one connection."""

    def __init__(
        self,
        database: sqlite3.Connection,
        gateway: str,
        pack_records: int,
        new_id: Callable[[], int],
        moved: Callable[[], None],
    ) -> None:
        """`gateway` is that of the messages that packs will be; `new_id` gives ids for gaps.

        `moved` is told whenever entries take the place of others.
        """
        self._db = database
        self._gateway = gateway
        self._pack_records = pack_records
        self._new_id = new_id
        self._moved = moved
        self._packed_to = 0  # nothing up to this id is worth packing
        self._loose = pack_records  # new entries since that was looked at; or an earlier life's
        self._series: dict[tuple[int, str, str, str], int] = {}
        self._names: dict[int, Names] = {}
        self._waiting: Counter[str] | None = None  # records, by run; None: to be counted

    def forget(self) -> None:
        """Know nothing any more that a rollback may have undone."""
        self._series.clear()
        self._names.clear()
        self._waiting = None

    def one(self, query: str, *values: object) -> int:
        """Return the number that a query answers with. Raises DamagedError where there is none."""
        row = self._db.execute(query, values).fetchone()
        if row is None:
            raise DamagedError(f"no answer to {query}")
        return int(row[0])

    # Runs and series

    def begin_run(self, run: str, boot_id: str, known_ns: int | None) -> int:
        """Write a run down unless it is there; return its id."""
        self._db.execute(
            "INSERT INTO run (run, boot_id, clean, known_ns) VALUES (?, ?, 0, ?)"
            " ON CONFLICT DO UPDATE SET boot_id = excluded.boot_id",
            (run, boot_id, known_ns),
        )
        return self._run_id(run)

    def known_ns(self) -> int | None:
        """Return UTC that has certainly passed, by the latest run that knew the time."""
        row = self._db.execute(
            "SELECT coalesce((SELECT max(known_ns) FROM produced WHERE run = run.id), known_ns)"
            " FROM run ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return None if row is None else row[0]

    def previous(self, run: str) -> PreviousRun | None:
        """Return the latest run but this that committed anything."""
        row = self._db.execute(
            "SELECT id, run, clean FROM run WHERE run != ?"
            " AND id IN (SELECT run FROM produced) ORDER BY id DESC LIMIT 1",
            (run,),
        ).fetchone()
        if row is None:
            return None
        rows = self._db.execute("SELECT stream, seq FROM produced WHERE run = ?", (row[0],))
        produced = {stream: seq for stream, seq in rows if isinstance(seq, int)}
        return PreviousRun(str(row[1]), bool(row[2]), produced)

    def forget_old_runs(self) -> None:
        """Drop the runs of which nothing waits."""
        # The previous run stays: if this one dies before it commits, the next must tell of it.
        keep = (
            "SELECT run FROM series WHERE id IN (SELECT DISTINCT series FROM record)"
            " UNION SELECT max(run) FROM produced"
        )
        self._db.execute(f"DELETE FROM produced WHERE run NOT IN ({keep})")
        self._db.execute(f"DELETE FROM run WHERE id NOT IN ({keep})")
        self._db.execute("DELETE FROM series WHERE id NOT IN (SELECT DISTINCT series FROM record)")

    def note_produced(self, run_id: int, produced: Mapping[str, int], last_id: int) -> None:
        """Write down each stream's highest number, and the last id that was given out."""
        self._db.executemany(
            "INSERT INTO produced (run, stream, seq, last_id) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq), last_id = excluded.last_id",
            [(run_id, name, seq, last_id) for name, seq in produced.items()],
        )

    def highest_id(self) -> int:
        """Return the highest id that may have been given out, 0 if none."""
        # What is packed has ids above its pack's own; and a gap keeps one apart from all others.
        return max(
            self.one("SELECT coalesce(max(id), 0) FROM record"),
            self.one("SELECT coalesce(max(id), ?1) FROM record WHERE id < ?1 / 2", BEFORE_ALL)
            - BEFORE_ALL,
            self.one("SELECT coalesce(max(last_id), 0) FROM produced"),
            0,
        )

    def note_ends(self, run_id: int, ends: Iterable[tuple[str, End]]) -> None:
        """Remember how far streams reach under a known time."""
        self._db.executemany(
            "UPDATE produced SET end_ns = max(coalesce(end_ns, ?1), ?1),"
            " known_ns = coalesce(max(known_ns, ?2), known_ns, ?2) WHERE run = ?3 AND stream = ?4",
            [(*end, run_id, stream) for stream, end in ends],
        )

    def set_alarm(self, alert: AlertRecord, body: str) -> None:
        """Remember the newest record of an alert while it is raised."""
        key = (alert.sensor or GATEWAY_STREAM, alert.alert)
        if alert.state == "cleared":
            self._db.execute("DELETE FROM alarm WHERE sensor = ? AND alert = ?", key)
        else:
            self._db.execute("INSERT OR REPLACE INTO alarm VALUES (?, ?, ?)", (*key, body))

    def series(self, run_id: int, stream: str, kind: str, config_id: str) -> int:
        """Return the id of a series, which is made where it is new."""
        key = (run_id, stream, kind, config_id)
        if key not in self._series:
            self._db.execute(
                "INSERT OR IGNORE INTO series (run, stream, kind, config) VALUES (?, ?, ?, ?)", key
            )
            self._series[key] = self.one(
                "SELECT id FROM series WHERE run = ? AND stream = ? AND kind = ? AND config = ?",
                *key,
            )
        return self._series[key]

    def names(self, series: int) -> Names:
        """Return what a series stands for. Raises DamagedError where nobody knows."""
        if series not in self._names:
            row = self._db.execute(
                "SELECT run.run, s.stream, s.kind, s.config FROM series s"
                " JOIN run ON run.id = s.run WHERE s.id = ?",
                (series,),
            ).fetchone()
            if row is None:
                raise DamagedError(f"series {series} has no name")
            self._names[series] = Names(*row)
        return self._names[series]

    def _run_id(self, run: str) -> int:
        return self.one("SELECT id FROM run WHERE run = ?", run)

    # Entries

    def insert(self, rows: Collection[Row]) -> None:
        """Put entries in."""
        self._db.executemany(INSERT_RECORD, rows)
        self._loose += len(rows)
        if self._waiting is not None:
            for row in rows:
                self._waiting[self.names(row.series).run] += row.n

    def delete(self, ids: Iterable[int]) -> None:
        """Take entries out; those that are not there do not matter."""
        gone = self._db.execute(
            "DELETE FROM record WHERE id IN (SELECT value FROM json_each(?)) RETURNING series, n",
            (json.dumps(list(ids)),),
        ).fetchall()
        if self._waiting is not None:
            for series, count in gone:
                self._waiting[self.names(series).run] -= count

    def waiting_by_run(self, without_ids: Collection[int]) -> dict[str, int]:
        """Return how many records wait of each run that has any."""
        if self._waiting is None:
            rows = self._db.execute(
                "SELECT run.run, sum(n.n) FROM (SELECT series, sum(n) AS n FROM record"
                " GROUP BY series) n JOIN series s ON s.id = n.series"
                " JOIN run ON run.id = s.run GROUP BY run.id"
            )
            self._waiting = Counter(dict(rows.fetchall()))
        without = self._db.execute(
            "SELECT run.run, sum(r.n) FROM record r JOIN series s ON s.id = r.series"
            " JOIN run ON run.id = s.run WHERE r.id IN (SELECT value FROM json_each(?))"
            " GROUP BY run.id",
            (json.dumps(list(without_ids)),),
        )
        left = self._waiting - Counter(dict(without.fetchall()))
        return {run: count for run, count in left.items() if count > 0}

    def used_bytes(self) -> int:
        """Return the room that is taken, without free pages."""
        pages = self.one("PRAGMA page_count") - self.one("PRAGMA freelist_count")
        return pages * self.one("PRAGMA page_size")

    # Packing

    @property
    def is_loose(self) -> bool:
        """Whether there may be something to pack."""
        return self._loose >= self._pack_records > 1

    def worth_packing(
        self, run: str, last_id: int, without_ids: Collection[int]
    ) -> list[list[int]]:
        """Return which entries to pack, pack by pack.

        Entries named, and the newest of each stream, stay as they are. Of runs before `run` smaller
        packs are made, for nothing joins what is left of them, and before a newest: a dead sensor's
        stays for long.
        """
        cursor = self._db.execute(
            "SELECT r.id, r.inside IS NOT NULL, s.stream, run.run, s.kind, s.config FROM record r"
            " JOIN series s ON s.id = r.series JOIN run ON run.id = s.run"
            " WHERE r.id > ? AND r.id <= ? AND r.gap IS NULL AND r.keep IS NULL"
            " AND r.boot_end_ns IS NULL ORDER BY r.id",
            (max(0, self._packed_to), last_id),
        )
        # Only neighbours: what stays must not change places with what is packed, nor with what a
        # pack is taken apart into. Each group's last row of neighbours may still grow.
        newest: dict[str, int] = {}
        groups: dict[tuple[str, ...], list[list[int]]] = defaultdict(lambda: [[]])
        singles, seen = 0, last_id
        for row_id, is_pack, stream, *key in cursor:
            if is_pack or row_id in without_ids:
                if groups[tuple(key)][-1]:
                    groups[tuple(key)].append([])
                continue
            newest[stream] = row_id
            groups[tuple(key)][-1].append(row_id)
            singles += 1
            if singles >= PACK_LOOK:
                seen = row_id
                break
        cursor.close()
        stays = set(newest.values())
        later = [*stays, *(each for each in without_ids if each > self._packed_to)]
        chosen = []
        for (own_run, *_), rows in groups.items():
            for row in rows:
                pieces = [
                    list(several)
                    for is_newest, several in groupby(row, stays.__contains__)
                    if not is_newest
                ]
                may_grow = own_run == run and row is rows[-1]
                for ids in pieces:
                    is_whole = own_run == run and not (may_grow and ids is not pieces[-1])
                    least = self._pack_records if is_whole else max(2, self._pack_records // 8)
                    while len(ids) >= least:
                        chosen.append(ids[: self._pack_records])
                        del ids[: self._pack_records]
                    later += ids if may_grow else []
        held = "SELECT coalesce(min(id), ?) FROM record WHERE boot_end_ns IS NOT NULL"
        is_all = singles < PACK_LOOK
        later += [seen + 1, self.one(held, last_id + 1)]
        self._packed_to = min(later) - 1
        self._loose = 0 if is_all or not chosen else self._pack_records
        return chosen

    def look_again(self) -> None:
        """Begin anew with packing, not at once: what was chosen could not be packed."""
        self._packed_to = self._loose = 0

    def pack(self, ids: Sequence[int]) -> int:
        """Make single entries of one run, kind and configuration one; return how many they were."""
        found = self._db.execute(
            f"SELECT {RECORD} FROM record WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
            (json.dumps(list(ids)),),
        )
        rows = [Row(*each) for each in found]
        damaged = [row.id for row in rows if checksum(row.body) != row.crc]
        if damaged:
            self.give_up(damaged, "corrupt")
            rows = [row for row in rows if row.id not in damaged]
        if len(rows) < 2:
            return 0
        # By stream they deflate better; within a stream they keep their order.
        rows.sort(key=lambda row: (self.names(row.series).stream, row.id))
        self._moved()
        run, _, kind, config_id = self.names(rows[0].series)
        bodies = (str(row.body) for row in rows)
        payload = deflated(batch(self._gateway, run, kind, config_id, bodies), PACK_LEVEL)
        inside = self._inside(rows)
        series = self.series(self._run_id(run), "", kind, config_id)
        first_id, crc = min(row.id for row in rows), checksum(payload, inside)
        start_ns = min((row.start_ns for row in rows if row.start_ns is not None), default=None)
        end_ns = max((row.end_ns for row in rows if row.end_ns is not None), default=None)
        nothing = (None,) * 4
        times = (None, None, start_ns, end_ns)
        self.delete(row.id for row in rows)
        self.insert([Row(first_id, series, len(rows), *times, *nothing, crc, inside, payload)])
        return len(rows)

    def _inside(self, rows: Iterable[Row]) -> str:
        """Describe what goes into a pack: a span for numbers of a stream that follow each other."""
        spans: list[list[object]] = []
        top = None
        ids = []
        for row in rows:
            stream = self.names(row.series).stream
            ids.append(row.id)
            if top == (stream, row.first):
                spans[-1][2], spans[-1][4], spans[-1][5] = row.seq, row.end_ns, row.id
            else:
                spans.append([stream, row.first, row.seq, row.start_ns, row.end_ns, row.id])
            top = (stream, 1 + (row.seq or 0))
        inside = {"gateway": self._gateway, "spans": spans, "ids": ids}
        return json.dumps(inside, separators=(",", ":"))

    def unpack(self, ids: Iterable[int]) -> None:
        """Turn packs into single entries again; a damaged one is given up."""
        for row_id in ids:
            found = self._db.execute(
                f"SELECT {RECORD} FROM record WHERE id = ? AND inside IS NOT NULL", (row_id,)
            ).fetchone()
            if found is None:
                continue
            row = Row(*found)
            if checksum(row.body, row.inside) != row.crc:
                self.give_up([row_id], "corrupt")
                continue
            self._moved()
            singles = self._singles(row)
            loose = self._loose
            self.delete([row_id])
            self.insert(singles)
            self._loose = loose  # they are not to be packed again at once

    def _singles(self, row: Row) -> list[Row]:
        """Return what a pack was made of."""
        _, _, kind, config_id = self.names(row.series)
        run_id = self.one("SELECT run FROM series WHERE id = ?", row.series)
        rows = []
        ids = json.loads(row.inside or "")["ids"]
        for row_id, body in zip(ids, bodies_of(bytes(row.body)), strict=True):  # type: ignore[arg-type]
            said = json.loads(body)
            series = self.series(run_id, said["stream"], kind, config_id)
            seq, times = said["seq"], (utc_ns(said["start"]), utc_ns(said["end"]))
            nothing = (None,) * 4
            crc = checksum(body)
            rows.append(Row(row_id, series, 1, seq, seq, *times, *nothing, crc, None, body))
        return rows

    # Giving up

    def make_room(
        self, needed_bytes: int, room_bytes: int, why: str, at_once: int
    ) -> tuple[int, int]:
        """Replace the oldest records by gaps until there is room; return how many were given up.

        Alerts go after the others, start records last. Where nothing but gaps is left, those of the
        oldest run go, unnamed: also returned is how many numbers that were.
        """
        evicted = unnamed = 0
        while self.used_bytes() + needed_bytes > room_bytes:
            oldest = (
                self._oldest("IS NULL", at_once)
                or self._oldest("= 1", at_once)
                or self._oldest("= 2", at_once)
            )
            if oldest:
                evicted += self.give_up(oldest, why)
                continue
            forgotten = self._forget_oldest_gaps()
            if not forgotten:
                break
            unnamed += forgotten
        return evicted, unnamed

    def _forget_oldest_gaps(self) -> int:
        """Drop the gaps of the oldest run that has any; return how many numbers they named."""
        if self.one("SELECT count(*) FROM record WHERE gap IS NOT NULL") < GAPS_KEPT:
            return 0
        gaps = self._db.execute(
            "DELETE FROM record WHERE gap IS NOT NULL AND series IN (SELECT id FROM series"
            " WHERE run = (SELECT min(s.run) FROM record r JOIN series s ON s.id = r.series"
            " WHERE r.gap IS NOT NULL)) RETURNING seq - first + 1"
        ).fetchall()
        self._waiting = None
        return sum(row[0] for row in gaps)

    def _oldest(self, keep: str, at_once: int) -> list[int]:
        rows = self._db.execute(
            "SELECT id, n FROM record"
            f" WHERE gap IS NULL AND keep {keep} AND id > 0 ORDER BY id LIMIT ?",
            (at_once,),
        )
        ids, records = [], 0
        for row_id, count in rows:
            ids.append(row_id)
            records += count
            if records >= at_once:
                break
        rows.close()
        return ids

    def give_up(self, ids: Sequence[int], why: str) -> int:
        """Put gaps in the place of entries, joined to gaps already there; return the records.

        Raises DamagedError where nobody knows which they were.
        """
        found = self._db.execute(
            f"SELECT {RECORD} FROM record WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(ids)),),
        )
        rows = [Row(*each) for each in found]
        self._moved()
        pieces: dict[tuple[str, str], list[_Piece]] = defaultdict(list)
        for row in rows:
            for stream, piece in self._pieces(row):
                pieces[self.names(row.series).run, stream].append(piece)
        self.delete(ids)
        for (run, stream), new in pieces.items():
            run_id = self._run_id(run)
            for group in _consecutive([*self._gaps(run_id, stream, why), *new]):
                if len(group) > 1 or group[0].id > 0:  # else a gap with nothing new beside it
                    self.delete(piece.id for piece in group if piece.id < 0)
                    self._put_gap(run_id, stream, group, why)
        return sum(row.n for row in rows)

    def _pieces(self, row: Row) -> list[tuple[str, _Piece]]:
        _, stream, kind, config_id = self.names(row.series)
        if row.inside is None:
            if row.first is None or row.seq is None:
                raise DamagedError(f"entry {row.id} has no number")
            is_known = row.boot_end_ns is None
            start_ns, end_ns = (row.start_ns, row.end_ns) if is_known else (None, None)
            numbers = (row.first, row.seq, start_ns, end_ns, row.id)
            return [(stream, _Piece(*numbers, kind, config_id))]
        try:
            return [
                (name, _Piece(first, seq, start_ns, end_ns, last_id, kind, config_id))
                for name, first, seq, start_ns, end_ns, last_id in json.loads(row.inside)["spans"]
            ]
        except (ValueError, KeyError, TypeError) as exc:
            raise DamagedError(f"pack {row.id} does not say what is in it") from exc

    def _gaps(self, run_id: int, stream: str, why: str) -> list[_Piece]:
        rows = self._db.execute(
            "SELECT r.first, r.seq, r.start_ns, r.end_ns, r.id, s.kind, s.config"
            " FROM record r JOIN series s ON s.id = r.series"
            " WHERE r.id < 0 AND r.gap = ? AND s.run = ? AND s.stream = ?",
            (why, run_id, stream),
        )
        return [_Piece(*row) for row in rows]

    def _put_gap(self, run_id: int, stream: str, group: Sequence[_Piece], why: str) -> None:
        first, last = group[0].first, group[-1].last
        start_ns = min((p.start_ns for p in group if p.start_ns is not None), default=None)
        end_ns = max((p.end_ns for p in group if p.end_ns is not None), default=None)
        is_alert = stream == ALERTS_STREAM
        kind = "gateway" if is_alert else group[-1].kind
        series = self.series(run_id, stream, kind, group[-1].config_id)
        body = gap_body(stream, first, last, why, start_ns, end_ns)
        keep = KEEP_ALERT if is_alert else None
        # An id of its own: an acknowledgement may be on its way for a gap that this one contains.
        place = (BEFORE_ALL + self._new_id(), series, 1, first, last)
        times = (start_ns, end_ns, None, None)
        self.insert([Row(*place, *times, why, keep, checksum(body), None, body)])


def _consecutive(pieces: Iterable[_Piece]) -> list[list[_Piece]]:
    """Group pieces whose numbers follow each other."""
    groups: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.first):
        if groups and piece.first == groups[-1][-1].last + 1:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return groups
