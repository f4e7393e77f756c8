"""What the city has confirmed, and what was sent and waits for that.

A receipt says that the city holds, durably, all numbers of one stream of one run up to some number.
Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice

from .record import Parcel, Top

# Receipts are retained for a month; beyond so many those heard longest ago are forgotten. What
# such a one covered is sent once more, and the city says again that it has it.
REMEMBERED = 10_000
NAME_MAX = 64  # no run and no stream of ours is longer
SLACK = 64  # notes of what is given up that are not worth clearing away


@dataclass(slots=True)
class _Unreceipted:
    """An entry that the broker has and the city has not confirmed."""

    id: int
    left: set[tuple[str, Top]]  # run, stream and number that a receipt does not reach yet
    records: int
    since_s: float


class Receipts:
    """What the city has confirmed, and what was sent and waits for that."""

    def __init__(self, timeout_s: float | None) -> None:
        self.wanted = timeout_s is not None
        self._timeout_s = timeout_s or 0.0
        self._through: dict[tuple[str, str], int] = {}  # by run and stream
        self._waiting: dict[int, _Unreceipted] = {}  # by id, oldest first
        self._by_stream: dict[tuple[str, str], list[tuple[int, int]]] = {}  # heaps of (top, id)
        self._noted = 0  # in all heaps; what was given up stays there for a while

    @property
    def ids(self) -> KeysView[int]:
        """What was sent and waits."""
        return self._waiting.keys()

    def uncovered(self, parcel: Parcel) -> Parcel | None:
        """Return what of a parcel the city has not confirmed: all of it is the parcel itself."""
        if not self._through:
            return parcel
        open_ones = [i for i, tops in enumerate(parcel.tops) if not self._covers(parcel.run, tops)]
        if len(open_ones) == len(parcel.ids):
            return parcel
        return parcel.part(open_ones) if open_ones else None

    def wait_for(self, parcel: Parcel, now_s: float) -> tuple[tuple[int, ...], int]:
        """Note what the broker has; return the ids that the city has too, and their records."""
        done, records = [], 0
        each_records = parcel.records if parcel.payload is not None else 1
        for row_id, tops in zip(parcel.ids, parcel.tops, strict=True):
            left = [top for top in tops if not self._covers(parcel.run, (top,))]
            self._waiting.pop(row_id, None)  # sent again: its time begins anew
            if not left:
                done.append(row_id)
                records += each_records
                continue
            tops_left = {(parcel.run, top) for top in left}
            self._waiting[row_id] = _Unreceipted(row_id, tops_left, each_records, now_s)
            self._note_tops(row_id, tops_left)
        return tuple(done), records

    def came(self, run: str, stream: str, through: int) -> tuple[tuple[int, ...], int]:
        """Take a receipt; return the ids that are now done, and their records."""
        self._remember(run, stream, through)
        heap = self._by_stream.get((run, stream), [])
        done, records = [], 0
        while heap and heap[0][0] <= through:
            top, row_id = heappop(heap)
            self._noted -= 1
            waiting = self._waiting.get(row_id)
            if waiting is None:
                continue
            # By name: of what was sent twice it is noted twice.
            waiting.left.discard((run, (stream, top)))
            if not waiting.left:
                del self._waiting[row_id]
                done.append(row_id)
                records += waiting.records
        if not heap:
            self._by_stream.pop((run, stream), None)
        return tuple(done), records

    def expire(self, now_s: float) -> bool:
        """Give up waiting for what has waited too long; tell whether there was any."""
        over = []
        for row_id, waiting in self._waiting.items():
            if now_s < waiting.since_s + self._timeout_s:
                break
            over.append(row_id)
        for row_id in over:
            del self._waiting[row_id]
        live = sum(len(waiting.left) for waiting in self._waiting.values()) if over else self._noted
        if self._noted > 2 * live + SLACK:
            self._by_stream.clear()
            self._noted = 0
            for waiting in self._waiting.values():
                self._note_tops(waiting.id, waiting.left)
        return bool(over)

    def next_expiry(self) -> list[float]:
        """Return when the oldest has waited too long, if there is one."""
        return [w.since_s + self._timeout_s for w in islice(self._waiting.values(), 1)]

    def _remember(self, run: str, stream: str, through: int) -> None:
        if max(len(run), len(stream)) > NAME_MAX:
            return
        self._through.pop((run, stream), None)
        self._through[run, stream] = through
        if len(self._through) > REMEMBERED:
            del self._through[next(iter(self._through))]

    def _note_tops(self, row_id: int, tops: Iterable[tuple[str, Top]]) -> None:
        for run, (stream, top) in tops:
            heappush(self._by_stream.setdefault((run, stream), []), (top, row_id))
            self._noted += 1

    def _covers(self, run: str, tops: Iterable[Top]) -> bool:
        return all(self._through.get((run, stream), 0) >= top for stream, top in tops)
