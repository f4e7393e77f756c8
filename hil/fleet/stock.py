"""What waits at one gateway, in memory, asked for as the spool is."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from zlib import crc32

from agent.outbox import PageRequest
from agent.page import OpenPage
from agent.record import ALERTS_STREAM, Entry, Page
from agent.shelf import Names
from agent.spoolfile import Row

from ..senders import gateway as senders


class Stock:
    """Entries by id, in the order of commit."""

    def __init__(self, gateway: str, config_id: str) -> None:
        self._gateway = gateway
        self._config_id = config_id
        self._waiting: dict[int, Entry] = {}
        self.last_id = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def oldest_id(self) -> int | None:
        """Of what waits; None: nothing does."""
        return next(iter(self._waiting), None)

    def append(self, committed: Iterable[senders.Entry], end_ns: int) -> list[Entry]:
        """Take what a sender committed for windows that ended then."""
        taken = []
        for one in committed:
            self.last_id += 1
            names = (self.last_id, one.run, one.stream, one.kind, self._config_id)
            entry = Entry(*names, one.seq, end_ns, one.body)
            self._waiting[entry.id] = entry
            taken.append(entry)
        return taken

    def acknowledge(self, ids: Iterable[int]) -> None:
        """Let go what was delivered."""
        for each in ids:
            self._waiting.pop(each, None)

    def peek(self, request: PageRequest) -> Page:
        """Return the part of what waits that an outbox wants to see, packed to travel."""
        page = OpenPage(request.after_id, request.parcel_records, self._gateway)
        inside = (
            entry
            for entry in self._waiting.values()
            if request.after_id < entry.id <= request.up_to_id
            and entry.stream != ALERTS_STREAM
            and entry.kind not in request.without_kinds
        )
        for entry in islice(inside, request.limit):
            is_wanted = entry.id not in request.without_ids
            names = Names(entry.run, entry.stream, entry.kind, entry.config_id)
            page.look(_row(entry), names if is_wanted else None)
        return page.close()

    def newest(self) -> list[Entry]:
        """Return the newest of each stream; alerts are asked for by themselves."""
        by_stream = {entry.stream: entry for entry in self._waiting.values()}
        by_stream.pop(ALERTS_STREAM, None)
        return sorted(by_stream.values(), key=lambda entry: entry.id)

    def alerts(self, limit: int, without_ids: Collection[int]) -> list[Entry]:
        """Return the oldest alerts but those named."""
        free = (
            entry
            for entry in self._waiting.values()
            if entry.stream == ALERTS_STREAM and entry.id not in without_ids
        )
        return list(islice(free, limit))


def _row(entry: Entry) -> Row:
    """Return an entry as the spool's file would hold it."""
    end_ns, crc = entry.end_ns, crc32(entry.body.encode())
    seq, body = entry.seq, entry.body
    return Row(entry.id, 0, 1, seq, seq, None, end_ns, None, None, None, None, crc, None, body)
