"""What a spool must hold after a disaster, by all that was told of it and seen in it before.

Whoever watches a spool tells, as messages: `begun` with a run, `committed` with the stream, number
and digest of each entry, `packed` with how many records were, `closed`, and `bug` with anything
that must not be. After the disaster the file is opened as a new run opens it, and held against
that: what was told as committed is there, unchanged and once, its numbers without holes; what the
next start would tell of the run before is no less than it told itself; and what was said about
people is in its ledger, once. What is absent may have been delivered: that is for others to judge.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.privacy.audit import audit
from agent.record import BEFORE_ALL, Parcel, bodies_of
from agent.spool import PreviousRun, Spool, SpoolError
from agent.spoolview import LedgerSlice, ledger_after, ledger_of

ALL_ENTRIES = 2**31

Key = tuple[str, str, int]  # run, stream, number
Message = tuple[str, Any]


def digest(body: str) -> str:
    """Return what tells one body from another."""
    return hashlib.sha256(body.encode()).hexdigest()[:16]


@dataclass(slots=True)
class Examination:
    """What one disaster brought to light."""

    committed: dict[Key, str | None] = field(default_factory=dict)  # told since the last
    absent: set[Key] = field(default_factory=set)  # expected, and not in the spool any more
    evicted: set[Key] = field(default_factory=set)  # in the spool as gaps
    packed: int = 0  # records that went into packs
    findings: list[str] = field(default_factory=list)
    is_damaged: bool = False  # beyond opening


class Ledger:
    """All that one spool was told to hold, through any number of disasters."""

    def __init__(self, *, may_evict: bool) -> None:
        self._may_evict = may_evict
        self._expected: dict[Key, str | None] = {}  # digests; None: any body will do
        self._highest: dict[tuple[str, str], int] = {}  # by run and stream
        self._runs: list[str] = []  # in the order of their beginning
        self._heard_last: set[str] = set()  # runs that the last disaster may have surprised
        self._closed: str | None = None  # the last run that told that it ended in order

    def hear(
        self, before: Iterable[Message], into: Examination, *, after: Sequence[Message] = ()
    ) -> None:
        """Take down what was told before the disaster, and what came after it.

        What is told after it binds nobody: a machine without power tells nothing, and a sync that
        is under way while its filesystem is shut down may return as if it had been done.
        """
        self._heard_last.clear()
        run = ""
        for what, value in before:
            run = self._hear_of_run(what, value, into) or run
            if what == "committed":
                into.committed |= {(run, stream, seq): body for stream, seq, body in value}
            elif what == "packed":
                into.packed += value
            elif what == "closed":
                self._closed = run
        for what, value in after:
            self._hear_of_run(what, value, into)
        for key, body in into.committed.items():
            self._expect(key, body)

    def examine(self, file: Path, into: Examination) -> None:
        """Open a spool as a new run does, and hold it against what must be there."""
        left: list[tuple[str, str]] = []
        try:
            with _opened(file) as spool:
                self.check_previous(spool.previous, into)
                spool.release_held()
                left = waiting(spool)
                people = audit(lines(spool), left)
                if people.broken:
                    into.findings.append(f"people, line {people.line}: {people.broken}")
        except (SpoolError, sqlite3.Error) as exc:
            into.findings.append(f"the spool is damaged: {exc}")
            into.is_damaged = True
        self.compare(left, into)

    def compare(self, left: Iterable[tuple[str, str]], into: Examination) -> None:
        """Hold what waits in a spool, as (run, body), against what must be there."""
        found: dict[Key, str | None] = {}  # None: in a gap
        for run, body in left:
            said = json.loads(body)
            stream, last = said["stream"], said["seq"]
            is_gap = "gap" in said
            if is_gap and not self._may_evict:
                into.findings.append(f"{stream} {last}: a gap, and there was room")
            for seq in range(said.get("first", last), last + 1):
                key = (run, stream, seq)
                if key in found:
                    into.findings.append(f"{key}: is there twice")
                found[key] = None if is_gap else digest(body)
        for key in sorted(found):
            self._judge(key, found[key], into)
        into.evicted |= {key for key, body in found.items() if body is None}
        for key in self._expected.keys() - found.keys():
            del self._expected[key]
            into.absent.add(key)

    def check_previous(self, previous: PreviousRun | None, into: Examination) -> None:
        """Hold what the next start would tell against what was told and seen."""
        latest = max((self._runs.index(run) for run, _ in self._highest), default=None)
        if latest is None:
            return
        # A later one may have committed, and was surprised before it could tell.
        if previous is None or previous.run not in self._runs[latest:]:
            name = None if previous is None else previous.run
            into.findings.append(f"previous is {name}, and {self._runs[latest]} committed later")
            return
        for (run, stream), highest in self._highest.items():
            if run == previous.run and previous.produced.get(stream, 0) < highest:
                into.findings.append(f"previous tells less than {highest} of {stream}")
        if previous.run == self._closed and not previous.clean:
            into.findings.append("previous is not clean, and it had closed")

    def _hear_of_run(self, what: str, value: Any, into: Examination) -> str | None:
        if what == "bug":
            into.findings.append(f"a bug: {value}")
        if what != "begun":
            return None
        run = str(value)
        self._runs.append(run)
        self._heard_last.add(run)
        return run

    def _judge(self, key: Key, body: str | None, into: Examination) -> None:
        run, stream, seq = key
        if key in self._expected:
            expected = self._expected[key]
            if None not in (body, expected) and body != expected:
                into.findings.append(f"{key}: the body is not the one that was committed")
        elif run not in self._heard_last or seq != self._highest.get((run, stream), 0) + 1:
            into.findings.append(f"{key}: nobody committed it, or the number before is missing")
        else:  # committed, and the disaster came before it could be told
            self._expect(key, body)

    def _expect(self, key: Key, body: str | None) -> None:
        run, stream, seq = key
        self._expected[key] = body
        self._highest[run, stream] = max(seq, self._highest.get((run, stream), 0))


@contextmanager
def _opened(file: Path) -> Iterator[Spool]:
    spool = Spool(file, max_bytes=2**40, run="the examiner", boot_id="")
    try:
        with closing(sqlite3.connect(file)) as database:
            answer = database.execute("PRAGMA integrity_check").fetchone()[0]
        if answer != "ok":
            raise SpoolError(f"{file.name}: {answer}")
        if spool.damages or spool.is_volatile:
            raise SpoolError(f"{file.name}: {spool.damages} {spool.why_volatile}")
        yield spool
    finally:
        with suppress(SpoolError):
            spool.close(clean=False)


@contextmanager
def glance(file: Path) -> Iterator[sqlite3.Connection]:
    """Look into the file of a running gateway, which keeps it to itself: into a copy."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{file}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as database:
            yield database


def lines(spool: Spool) -> list[tuple[int, str]]:
    """Return the ledger of what was said about people, by number and text."""
    return ledger_of(_Looked(spool))


class _Looked:
    """A spool's ledger, as one looks at it from outside."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def ledger(self, after_n: int) -> LedgerSlice:
        found, _ = self._spool.look(lambda database, _: ledger_after(database, after_n))
        return found


def waiting(spool: Spool) -> list[tuple[str, str]]:
    """Return the run and the body of everything that waits, oldest first, alerts at the end."""
    found = [
        (row_id, parcel.run, body)
        for parcel in parcels(spool)
        for row_id, body in zip(
            parcel.ids if parcel.payload is None else parcel.ids * parcel.records,
            parcel.bodies if parcel.payload is None else bodies_of(parcel.payload),
            strict=True,
        )
    ]
    alerts = [(entry.run, entry.body) for entry in spool.alerts(ALL_ENTRIES)]
    return [(run, body) for _, run, body in sorted(found, key=lambda each: each[0])] + alerts


def parcels(spool: Spool) -> Iterator[Parcel]:
    """Yield all that would travel as backlog."""
    after_id = BEFORE_ALL
    while True:
        page = spool.peek(
            after_id=after_id,
            up_to_id=spool.last_id,
            limit=ALL_ENTRIES,
            parcel_records=ALL_ENTRIES,
        )
        yield from page.parcels
        if page.scanned_to == after_id:
            return
        after_id = page.scanned_to
