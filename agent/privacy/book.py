"""The ledger's table: lines are put in inside the spool's transactions, and in no other way.

A release stands there exactly if its record does. The present day's lines and those of the day
before are whole; older days are closed into a line each.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from ..record import utc_ns
from . import ledger
from .ledger import Claim, Head, Line, Name, Terms

INSERT = "INSERT INTO ledger (n, day, line, body) VALUES (?, ?, ?, ?)"
OPEN_DAYS = 2  # whose lines are whole
ROOM_BYTES = 2**23  # of lines that are whole; they take less, but for many sensors in a small spool
LINE_BYTES = 512
LEAST_LINES = 16
CLOSE_ROWS = 1000  # at a time: the spool's log must stay short


class Book:
    """The ledger behind one connection, as one life of the daemon writes it.

    Without `terms` it can only be read. Whole lines take about `room_bytes` at most.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        terms: Terms | None,
        boot_id: str,
        run: str,
        *,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        self._db = database
        self._known_terms = terms
        self._boot_id = boot_id
        self._run = run
        self._has_begun = False
        self._has_more_to_close = True  # what earlier lives left
        self._whole_lines = max(LEAST_LINES, room_bytes // LINE_BYTES)
        self._looked_to = 0

    def forget(self) -> None:
        """Know nothing any more that a rollback may have undone."""
        self._has_begun = False

    def begin(self, at_ns: int, damaged: str = "") -> None:
        """Write the life's first lines, unless they are there; `damaged`: what befell the file."""
        if self._has_begun and not damaged:
            return
        terms = self._terms
        if self._last_said().get("policy") != terms.policy.sha256:  # every line names its policy
            self._add(ledger.policy(terms.policy), at_ns)
        if damaged or self._begun_run() != self._run:
            self._add(ledger.boot(self._boot_id, self._run, terms.version, damaged), at_ns)
        self._has_begun = True

    def open(self, at_ns: int, damaged: str = "") -> None:
        """Close days that are over, in a life that reserves nothing too, and begin."""
        self._close_days(at_ns)  # first: its line then stands between two days, and in none
        self.begin(at_ns, damaged)

    def reserve(self, claims: Sequence[Claim], damaged: str = "") -> list[Claim]:
        """Write down what is about to be released; return the claims with their lines."""
        self.open(max(claim.end_ns for claim in claims), damaged)
        reserved = []
        for claim in claims:
            own = ledger.in_boot(claim, self._boot_id, self._run)
            line = self._add(ledger.reserve(own), claim.end_ns)
            reserved.append(replace(own, line=line))
        return reserved

    def has_reserved(self, claim: Claim) -> bool:
        """Tell whether a reservation is still there: a salvage may not have found it."""
        row = self._db.execute("SELECT body FROM ledger WHERE n = ?", (claim.line,)).fetchone()
        match {} if row is None else ledger.read(str(row[0])):
            case {"line": "reserve", **line}:
                return ledger.name_of(line) == claim.name
        return False

    def settle(self, claim: Claim, seq: int, values: Mapping[str, Any] | None) -> None:
        """Write down that a window was released in a record, or, without values, burned."""
        self.begin(claim.end_ns)
        own = claim if claim.boot_id else ledger.in_boot(claim, self._boot_id, self._run)
        if values is None:
            at_ns = max(claim.end_ns, self._last_at_ns())  # an earlier life's is burned late
            self._add(ledger.burned(own, self._run, seq), at_ns)
        else:
            self._add(ledger.release(own, self._run, seq, values), claim.end_ns)

    def take_back(self, known: Mapping[str, int]) -> None:
        """Take back the last lines where they speak of records beyond these numbers of this run."""
        for n, text in reversed(self.rows()):
            line = ledger.read(text)
            is_settled = line.get("line") in ("release", "burned")
            if not is_settled or line.get("run") != self._run:
                return
            if line.get("seq", 0) <= known.get(line["sensor"], 0):
                return
            self._db.execute("DELETE FROM ledger WHERE n = ?", (n,))

    def adopt(self, lines: Iterable[Line]) -> None:
        """Write down what was burned while there was no disk."""
        settled = {
            ledger.name_of(line)
            for line in self.lines()
            if line.get("line") in ("release", "burned")
        }
        for line in lines:
            if line.get("line") == "burned" and ledger.name_of(line) not in settled:
                said = {key: line[key] for key in line if key not in ("n", "prev", "at", "policy")}
                at_ns = utc_ns(line["at"])
                self.begin(at_ns)
                self._add(said, at_ns)

    def lines(self) -> list[Line]:
        """Return all lines, oldest first; an empty one for each that makes no sense."""
        return [ledger.read(text) for _, text in self.rows()]

    def rows(self) -> list[tuple[int, str]]:
        """Return all lines, oldest first, by number and text."""
        rows = self._db.execute("SELECT n, body FROM ledger ORDER BY n").fetchall()
        return [(row[0], str(row[1])) for row in rows]

    def unsettled(self, unsaid: Collection[Name] = ()) -> list[Claim]:
        """Return what earlier lives reserved, and neither released nor burned.

        And those windows of this life of which nothing could be said.
        """
        return [
            claim for claim in _open(self.rows()) if claim.run != self._run or claim.name in unsaid
        ]

    @property
    def _terms(self) -> Terms:
        if self._known_terms is None:
            raise RuntimeError("nothing is said about people without terms")
        return self._known_terms

    def _last_at_ns(self) -> int:
        try:
            return utc_ns(self._last()["at"])
        except (KeyError, TypeError, ValueError):
            return 0

    def _begun_run(self) -> str | None:
        row = self._db.execute(
            "SELECT body FROM ledger WHERE line = 'boot' ORDER BY n DESC LIMIT 1"
        ).fetchone()
        return None if row is None else ledger.read(str(row[0])).get("run")

    def _last_said(self) -> Line:
        """Return the last line but days': the policy of those may not have been said yet."""
        row = self._db.execute(
            "SELECT body FROM ledger WHERE line <> 'day' ORDER BY n DESC LIMIT 1"
        ).fetchone()
        return {} if row is None else ledger.read(str(row[0]))

    def _last(self) -> Line:
        row = self._db.execute("SELECT body FROM ledger ORDER BY n DESC LIMIT 1").fetchone()
        return {} if row is None else ledger.read(str(row[0]))

    def _head(self) -> Head:
        row = self._db.execute("SELECT n, body FROM ledger ORDER BY n DESC LIMIT 1").fetchone()
        return Head() if row is None else Head(row[0], ledger.sha256(str(row[1])))

    def _add(self, line: Line, at_ns: int) -> int:
        text, head = self._head().add(line, at_ns, self._terms.policy.sha256)
        day = None if line["line"] == "day" else self._terms.day_of(at_ns)
        self._db.execute(INSERT, (head.n, day, line["line"], text))
        return head.n

    def _close_days(self, at_ns: int) -> None:
        """Close some lines of days that are over, but for the last; in their order.

        What a day is goes by the clock of that time, which may have been wrong. Where a day takes
        more room than there is, its first lines are closed before it is over.
        """
        today = self._terms.day_of(at_ns)
        row = self._db.execute(
            "SELECT n, day FROM ledger WHERE day IS NOT NULL ORDER BY n DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return
        is_quiet = row[1] == today and not self._has_more_to_close
        if is_quiet and row[0] - self._looked_to < self._whole_lines // 4:
            return
        self._looked_to = row[0]
        rows = self._db.execute(
            "SELECT n, day FROM ledger WHERE day IS NOT NULL ORDER BY n"
        ).fetchall()
        days = [(day, [n for n, _ in group]) for day, group in groupby(rows, lambda row: row[1])]
        closing = days[: len(days) + (row[1] != today) - OPEN_DAYS]
        if not closing and len(rows) > self._whole_lines:
            closing = [(days[0][0], days[0][1][: len(rows) - self._whole_lines // 2])]
        # All at once: a day's line within the next day would be a hole in that, for ever.
        pieces = [(day, piece) for day, own in closing for piece in _without_holes(own)]
        closed = 0
        while pieces and closed < CLOSE_ROWS:
            day, numbers = pieces.pop(0)
            some = numbers[: CLOSE_ROWS - closed]
            if len(some) < len(numbers):
                pieces.insert(0, (day, numbers[len(some) :]))
            if not self._close(day, some):
                pieces.clear()
            closed += len(some)
        self._has_more_to_close = bool(pieces)

    def _close(self, day: str, numbers: Sequence[int]) -> bool:
        """Close these lines up to the first window that is not settled yet; tell if all are."""
        rows = self._rows_of(numbers)
        waits = min((claim.line for claim in _open(rows)), default=None)
        if waits == numbers[0]:  # among the first: settled by a later line, perhaps
            waits = min((claim.line for claim in _open(self.rows())), default=None)
        rows = [row for row in rows if waits is None or row[0] < waits]
        is_all = bool(rows) and rows[-1][0] == numbers[-1]
        if rows:
            self._add(ledger.closed_day(day, rows), self._last_at_ns())
            place = (rows[0][0], rows[-1][0])
            self._db.execute("DELETE FROM ledger WHERE n BETWEEN ? AND ?", place)
        return is_all

    def _rows_of(self, numbers: Sequence[int]) -> list[tuple[int, str]]:
        rows = self._db.execute(
            "SELECT n, body FROM ledger WHERE n BETWEEN ? AND ? ORDER BY n",
            (numbers[0], numbers[-1]),
        ).fetchall()
        return [(row[0], str(row[1])) for row in rows]


def _open(rows: Iterable[tuple[int, str]]) -> list[Claim]:
    """Return what these lines reserve, and neither release nor burn."""
    return ledger.unsettled(ledger.read(text) for _, text in rows)


def _without_holes(numbers: Sequence[int]) -> list[list[int]]:
    """Return them in pieces that follow each other: nothing is closed over a hole."""
    pieces: list[list[int]] = []
    for n in numbers:
        if pieces and pieces[-1][-1] + 1 == n:
            pieces[-1].append(n)
        else:
            pieces.append([n])
    return pieces
