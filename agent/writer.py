"""Records on their way into the spool, and what becomes of them while it cannot be written.

What closes together is committed together. While a commit fails, records wait here, bounded; what
must be given up is named in a gap when writing works again. A disk that fails for longer is left:
the spool then lives in memory, and the disk is looked for again and again. Whatever happens to the
disk or the file is said once, as an alert.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping

from .logs import logger
from .privacy.release import burned
from .record import ALERTS_STREAM, GATEWAY_STREAM, AlertRecord, Entry, Lost, Record
from .spool import Spool, SpoolError

log = logger("writer")

COMMIT_RETRY_S = 5.0
COMMIT_RECORDS = 500  # in one transaction: its size is what the spool's bound leaves room for
PENDING_LIMIT = 5000  # records in memory while the spool cannot be written
VOLATILE_AFTER_S = 30.0  # of failing commits
REOPEN_S = 60.0

Tell = Callable[[str, Mapping[str, object] | None], None]


class Writer:
    """Commits records; belongs to the pipeline's thread.

    `tell` is told of what a person should know: an alert's name and its values, None when it is
    over. `wrote` is told of all that was committed, what waits for the clock among it.
    """

    def __init__(
        self,
        spool: Spool,
        config_id: str,
        *,
        committed: Callable[[list[Entry]], None],
        rewind: Callable[[], None],
        tell: Tell,
        wrote: Callable[[list[Record | AlertRecord]], None] = lambda _records: None,
    ) -> None:
        self._spool = spool
        self._config_id = config_id
        self._committed = committed
        self._rewind = rewind
        self._tell = tell
        self._wrote = wrote
        self._pending: deque[Record | AlertRecord] = deque()
        self._lost: dict[str, Lost] = {}
        self._failing_since_ns: int | None = None
        self._retry_at_ns = 0
        self._reopen_at_ns = 0
        self._told_volatile = False
        self._evicted_told = 0
        self.damages = 0  # found in the spool's file in this run
        self.has_held = True  # records may wait for the clock; an earlier run may have left some

    @property
    def is_failing(self) -> bool:
        """Whether the last commit failed, which was said then."""
        return self._failing_since_ns is not None

    def add(self, records: Iterable[Record | AlertRecord]) -> None:
        """Take records for the next commit."""
        self._pending += records

    def commit(self, boot_ns: int, *, hold: bool, at_once: bool = False) -> None:
        """Write down what waits; `hold` as in `Spool.append`. What cannot be written waits on.

        After a failure the next try is some seconds later, or now with `at_once`.
        """
        if not self._pending or (boot_ns < self._retry_at_ns and not at_once):
            return
        while len(self._pending) > PENDING_LIMIT:
            self._give_up_oldest()
        count = len(self._pending)
        try:
            while self._pending:
                self._commit_some(hold=hold)
        except SpoolError as exc:
            self._failed(exc, boot_ns)
        else:
            if self._failing_since_ns is not None:
                log.info("spool can be written again", records=count)
            self._failing_since_ns = None
            self._retry_at_ns = 0
        self._look_at_room()

    def tend(self, boot_ns: int) -> bool:
        """Look after the disk; tell whether it was found again after it had been left."""
        for damage in self._taken_damages():
            log.error(
                "the spool's file was damaged; what could be read of it goes on",
                why=damage["why"],
                set_aside=damage["set_aside"],
                salvaged=damage["salvaged"],
                named_lost=damage["lost"],
            )
            self._tell("spool_damaged", damage)
            self._tell("spool_damaged", None)  # it happened; the alert stays for its hold
            self._rewind()
        spool = self._spool
        if not spool.is_volatile:
            return False
        if not self._told_volatile:
            self._told_volatile = True
            self._reopen_at_ns = boot_ns + round(REOPEN_S * 1e9)
            log.error("the disk fails: records are in memory only", reason=spool.why_volatile)
            self._tell("disk_failed", {"reason": spool.why_volatile})
        if boot_ns < self._reopen_at_ns:
            return False
        self._reopen_at_ns = boot_ns + round(REOPEN_S * 1e9)
        if not spool.reopen():
            return False
        self._told_volatile = False
        self.has_held = True
        log.info("the disk works again: what was in memory is written down")
        self._tell("disk_failed", None)
        self._rewind()
        return True

    def _burn_pending(self) -> None:
        """Take figures back that may not leave: the ledger cannot say so, or knows nothing of them.

        Raises SpoolError.
        """
        for at, record in enumerate(self._pending):
            if not isinstance(record, Record) or record.settles is None or record.is_burned:
                continue
            if not self._spool.has_reserved(record.settles):
                self._pending[at] = burned(record)

    def _commit_some(self, *, hold: bool) -> None:
        self._burn_pending()
        some = [self._pending[i] for i in range(min(COMMIT_RECORDS, len(self._pending)))]
        batch: list[Record | AlertRecord | Lost] = [*self._lost.values(), *some]
        entries = self._spool.append(batch, self._config_id, hold=hold)
        self._lost.clear()
        for _ in some:
            self._pending.popleft()
        self.has_held = self.has_held or len(entries) < len(batch)
        self._committed(entries)
        self._wrote(some)

    def _failed(self, exc: SpoolError, boot_ns: int) -> None:
        if self._failing_since_ns is None:
            self._failing_since_ns = boot_ns
            log.error("spool cannot be written; records wait in memory", error=str(exc))
        self._retry_at_ns = boot_ns + round(COMMIT_RETRY_S * 1e9)
        if boot_ns - self._failing_since_ns >= VOLATILE_AFTER_S * 1e9:
            self._spool.turn_volatile(exc)
            self._retry_at_ns = 0

    def _look_at_room(self) -> None:
        if self._spool.evicted > self._evicted_told:
            if not self._evicted_told:
                log.error("spool is full: the oldest records are given up and named in gaps")
            self._evicted_told = self._spool.evicted
            self._tell("spool_pressure", {"given_up": self._evicted_told})
            self._tell("spool_pressure", None)  # over when none is given up for its hold
            self._rewind()

    def _taken_damages(self) -> list[dict[str, str | int]]:
        damages: list[dict[str, str | int]] = []
        while self._spool.damages:
            damage = self._spool.damages.pop(0)
            self.damages += 1
            damages.append(
                {
                    "why": damage.why,
                    "set_aside": damage.set_aside,
                    "salvaged": damage.salvaged,
                    "lost": damage.lost,
                }
            )
        return damages

    def _give_up_oldest(self) -> None:
        pending = self._pending
        # Alerts go after the others. The record that begins the run tells what the one before
        # produced: it goes last.
        record = min(pending, key=lambda r: (r.stream == GATEWAY_STREAM, r.stream == ALERTS_STREAM))
        pending.remove(record)
        earlier = self._lost.get(record.stream)
        self._lost[record.stream] = Lost.of(record, "disk_failed", earlier)
