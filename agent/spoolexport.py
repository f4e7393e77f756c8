"""What waits in a spool as lines of a file: the contract's batches, to be carried by hand. Pure.

Each line is one message as it would travel: one run, one kind, one configuration. Alerts have lines
of their own. Within a stream numbers rise, gaps included, as in a delivery that nothing disturbed.
What is exported stays in the spool and is delivered all the same: the key (gateway, run, stream,
number) makes that harmless.

A record that waits for the clock goes out as it stands, its time `estimated`. If the gateway learns
the time later, it will deliver the same record `corrected`; of one key the city keeps what came
first. `with_held=False` leaves such records out.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from .numbers import Numbers
from .record import batch
from .spoolview import Waiting

LINE_RECORDS = 200
LINE_BYTES = 2**18
GAPS_BYTES = 2**22  # of gaps that wait for their place among the records; more go ahead

Lane = tuple[str, bool]  # a kind, and whether of alerts


@dataclass(slots=True)
class _Open:
    """A line while it is filled."""

    run: str
    config_id: str
    bodies: list[str] = field(default_factory=list)
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Gap:
    first: int
    last: int
    entry: Waiting


class Export:
    """Takes all that waits, and yields lines."""

    def __init__(self, gateway: str, *, with_held: bool = True) -> None:
        self._gateway = gateway
        self._with_held = with_held
        self._open: dict[Lane, _Open] = {}
        self._done: dict[tuple[str, str], Numbers] = defaultdict(Numbers)
        self._gaps: dict[tuple[str, str], list[_Gap]] = defaultdict(list)
        self._gaps_bytes = 0
        self.batches = 0
        self.records = 0
        self.lost = 0  # numbers in gaps
        self.held = 0  # records that wait for the clock: exported so, or left out
        self.damaged: set[int] = set()  # entries that are not what was written

    def begin_again(self) -> None:
        """All comes once more: what was taken is not taken twice."""
        self._gaps.clear()
        self._gaps_bytes = 0

    def take(self, entry: Waiting) -> Iterator[bytes]:
        """Take one entry; yield the lines that are full."""
        try:
            bodies, spans = entry.bodies(), entry.spans()
        except ValueError:
            self.damaged.add(entry.id)
            return
        if not entry.is_whole:
            self.damaged.add(entry.id)
        elif entry.gap is not None:
            yield from self._keep_gap(entry, spans[0])
        else:
            for body in bodies:
                yield from self._take_record(entry, body)

    def close(self) -> Iterator[bytes]:
        """Yield what is left."""
        yield from self._let_gaps_go()
        for lane in list(self._open):
            yield self._line(lane)

    def _take_record(self, entry: Waiting, body: str) -> Iterator[bytes]:
        said = json.loads(body)
        key, seq = (str(entry.run), said["stream"]), said["seq"]
        if self._done[key].overlaps(seq, seq):
            return
        self.held += entry.is_held
        if entry.is_held and not self._with_held:
            self._done[key].add(seq, seq)
            return
        for gap in self._gaps_before(key, seq):
            yield from self._put_gap(key, gap)
        self._done[key].add(seq, seq)
        self.records += 1
        yield from self._put(entry, body)

    def _keep_gap(self, entry: Waiting, span: tuple[str, int, int]) -> Iterator[bytes]:
        stream, first, last = span
        gaps = self._gaps[str(entry.run), stream]
        gaps.append(_Gap(first, last, entry))
        gaps.sort(key=lambda gap: gap.last)
        self._gaps_bytes += len(entry.body)
        if self._gaps_bytes >= GAPS_BYTES:
            yield from self._let_gaps_go()

    def _gaps_before(self, key: tuple[str, str], seq: int) -> list[_Gap]:
        gaps = self._gaps.get(key, [])
        ready = [gap for gap in gaps if gap.last < seq]
        if ready:
            self._gaps[key] = gaps[len(ready) :]
            self._gaps_bytes -= sum(len(gap.entry.body) for gap in ready)
        return ready

    def _let_gaps_go(self) -> Iterator[bytes]:
        for key, gaps in self._gaps.items():
            for gap in gaps:
                yield from self._put_gap(key, gap)
        self._gaps.clear()
        self._gaps_bytes = 0

    def _put_gap(self, key: tuple[str, str], gap: _Gap) -> Iterator[bytes]:
        new = self._done[key].holes(gap.first, gap.last)
        for first, last in new:
            self._done[key].add(first, last)
            self.lost += last - first + 1
        if new:  # else all of it came before it was given up
            yield from self._put(gap.entry, str(gap.entry.body))

    def _put(self, entry: Waiting, body: str) -> Iterator[bytes]:
        lane = (str(entry.kind), entry.is_alert)
        run, config_id = str(entry.run), str(entry.config_id)
        found = self._open.get(lane)
        if found is not None and (
            (found.run, found.config_id) != (run, config_id)
            or len(found.bodies) >= LINE_RECORDS
            or found.size_bytes >= LINE_BYTES
        ):
            yield self._line(lane)
        line = self._open.setdefault(lane, _Open(run, config_id))
        line.bodies.append(body)
        line.size_bytes += len(body)

    def _line(self, lane: Lane) -> bytes:
        line = self._open.pop(lane)
        self.batches += 1
        return batch(self._gateway, line.run, lane[0], line.config_id, line.bodies) + b"\n"
