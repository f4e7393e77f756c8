"""Reads a day from the tables, gateway by gateway, and has it drawn up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from agent.numbers import Numbers

from .daybook import Anchor, Arrived, Day, Gone, Hole, StreamDay, draw_up, gap_in_day, in_day, split
from .rows import Row
from .store import Store
from .wire import utc_text

# Of each life of each stream: is there anything in it but records without a hole? The view
# `account` says it in figures, and counts every record for that.
_LIVES = """
SELECT s.run, s.stream, s.through, s.produced, coalesce(
    (SELECT max(seq) FROM record AS r
     WHERE r.gateway = s.gateway AND r.run = s.run AND r.stream = s.stream),
    (SELECT max(seq) FROM alert AS a
     WHERE s.stream = 'alerts' AND a.gateway = s.gateway AND a.run = s.run)),
    EXISTS (SELECT 1 FROM gap AS g
     WHERE g.gateway = s.gateway AND g.run = s.run AND g.stream = s.stream)
    OR EXISTS (SELECT 1 FROM rejected AS j
     WHERE j.gateway = s.gateway AND j.run = s.run AND j.stream = s.stream)
FROM stream AS s WHERE s.gateway = ?
"""
_NO_WINDOW_S = 60  # between numbers of alerts and of the gateway's own, for want of better


def local_day(day: date, timezone: str, now_s: float) -> Day:
    """Return a day of a place, as far as it is over. Raises ZoneInfoNotFoundError."""
    zone = ZoneInfo(timezone)
    begin = datetime(day.year, day.month, day.day, tzinfo=zone)
    end = datetime.combine(day + timedelta(days=1), datetime.min.time(), tzinfo=zone)
    return Day(begin.timestamp(), max(begin.timestamp(), min(end.timestamp(), now_s)))


def gateways(store: Store) -> list[str]:
    """Return every gateway of which anything came."""
    return [row[0] for row in store.query("SELECT DISTINCT gateway FROM stream ORDER BY gateway")]


def read(store: Store, gateway: str, day: Day) -> list[StreamDay]:
    """Draw up the day of every stream of a gateway."""
    pages = _Pages(store, gateway, day)
    return [pages.draw_up(stream) for stream in sorted(pages.streams)]


def seconds(value: Any) -> float:
    """Return a time of either database as seconds since 1970."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    stamp: float = value.astimezone(UTC).timestamp()
    return stamp


def _maybe_seconds(value: Any) -> float | None:
    return None if value is None else seconds(value)


@dataclass(slots=True)
class _Sums:
    """What of a day never came."""

    lost: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rejected: int = 0
    missing: int = 0
    undated: int = 0


class _Pages:
    """All that the tables say of a gateway's day."""

    def __init__(self, store: Store, gateway: str, day: Day) -> None:
        self._store = store
        self._gateway = gateway
        self._day = day
        self._sensors = {
            sensor: (kind, window_s)
            for sensor, kind, window_s in self._ask(
                "SELECT sensor, kind, window_s FROM sensor WHERE gateway = ?"
            )
        }
        self._lives = self._ask(_LIVES)
        self.streams = {row[1] for row in self._lives} | set(self._sensors)

    def draw_up(self, stream: str) -> StreamDay:
        kind, window_s = self._sensors.get(stream, (None, None))
        sums = _Sums()
        arrived = list(self._arrived(stream))
        came = Counter(each.run for each in arrived)
        before, after = self._neighbours(stream)
        for run, name, through, told, top, has_gaps in self._lives:
            if name != stream:
                continue
            produced = max(told or 0, top or 0)
            # `through` was true once: what somebody has deleted since is missing like the rest.
            between = after.get(run, produced + 1) - before.get(run, 0) - 1
            is_of_the_day = run in came or (run in before and run in after)
            is_torn = is_of_the_day and between != came[run]
            if has_gaps or is_torn or min(through, top or 0) < produced:
                self._look_for_holes(run, stream, produced, window_s or _NO_WINDOW_S, sums)
        return draw_up(
            self._gateway,
            stream,
            kind=kind,
            window_s=window_s,
            day=self._since_its_first(stream, window_s),
            arrived=arrived,
            lost=sums.lost,
            rejected=sums.rejected,
            missing=sums.missing,
            undated=sums.undated,
        )

    def _ask(self, sql: str, *more: Any) -> list[Row]:
        return self._store.query(sql, (self._gateway, *more))

    def _since_its_first(self, stream: str, window_s: int | None) -> Day:
        """Return the day from when the stream began: before, nothing was to be expected."""
        ((first,),) = self._ask(
            "SELECT min(end_utc) FROM record WHERE gateway = ? AND stream = ?", stream
        )
        if first is None or window_s is None:
            return self._day
        begin_s = min(max(self._day.from_s, seconds(first) - window_s), self._day.to_s)
        return Day(begin_s, self._day.to_s)

    def _arrived(self, stream: str) -> Iterator[Arrived]:
        span = (utc_text(self._day.from_s), utc_text(self._day.to_s))
        if stream == "alerts":
            rows = self._ask(
                "SELECT run, seq, time_utc, time_utc, received_utc, 'good', clock_state FROM alert"
                " WHERE gateway = ? AND time_utc > ? AND time_utc <= ?",
                *span,
            )
        else:
            rows = self._ask(
                "SELECT run, seq, start_utc, end_utc, received_utc, flag, clock_state FROM record"
                " WHERE gateway = ? AND stream = ? AND end_utc > ? AND end_utc <= ?",
                stream,
                *span,
            )
        for run, seq, start, end, received, flag, clock in rows:
            yield Arrived(run, seq, seconds(start), seconds(end), seconds(received), flag, clock)

    def _neighbours(self, stream: str) -> tuple[dict[str, int], dict[str, int]]:
        """Return the last record before the day and the first after it, each by run."""
        table, time, mine = "record", "end_utc", " AND stream = ?"
        key: tuple[Any, ...] = (stream,)
        if stream == "alerts":
            table, time, mine, key = "alert", "time_utc", "", ()
        sql = f"SELECT run, seq FROM {table} WHERE gateway = ?{mine}"  # noqa: S608
        before = self._ask(
            f"{sql} AND {time} <= ? ORDER BY {time} DESC LIMIT 1", *key, utc_text(self._day.from_s)
        )
        after = self._ask(
            f"{sql} AND {time} > ? ORDER BY {time} LIMIT 1", *key, utc_text(self._day.to_s)
        )
        return dict(before), dict(after)

    def _look_for_holes(
        self, run: str, stream: str, produced: int, window_s: int, sums: _Sums
    ) -> None:
        came, anchors = self._came(run, stream)
        gaps = [
            Gone(run, first, seq, reason, _maybe_seconds(start), _maybe_seconds(end))
            for first, seq, reason, start, end in self._ask(
                "SELECT first, seq, reason, start_utc, end_utc FROM gap"
                " WHERE gateway = ? AND run = ? AND stream = ? ORDER BY first, seq",
                run,
                stream,
            )
        ]
        refused = Numbers()
        for (seq,) in self._ask(
            "SELECT seq FROM rejected WHERE gateway = ? AND run = ? AND stream = ? AND is_held",
            run,
            stream,
        ):
            refused.add(seq, seq)
        began_s = self._began_s(run)
        named, spoilt, holes = split(came, gaps, refused, produced)

        def count(first: int, last: int) -> int | None:
            before, after = _anchors_around(anchors, first, last)
            hole = Hole(first, last, before, after, began_s)
            return in_day(hole, self._day, window_s)

        for gap, fresh in named:
            if gap.start_s is not None and gap.end_s is not None:
                number = gap_in_day(gap, fresh, self._day)
            else:
                number = sum(count(*span) or 0 for span in fresh)
            if number:
                sums.lost[gap.reason] += number
        sums.rejected += sum(count(*span) or 0 for span in spoilt)
        for first, last in holes:
            dated = count(first, last)
            sums.missing += last - first + 1 if dated is None else dated
            sums.undated += last - first + 1 if dated is None else 0

    def _came(self, run: str, stream: str) -> tuple[Numbers, list[Anchor]]:
        """Return what came of a run, and the records at the edges of what did not."""
        if stream == "alerts":
            table, mine, times = "alert", "", "time_utc, time_utc"
            key: tuple[Any, ...] = (run,)
        else:
            table, mine, times = "record", " AND stream = ?", "start_utc, end_utc"
            key = (run, stream)
        # An edge is a record whose neighbour by number is not there.
        rows = self._ask(
            f"SELECT seq, {times}, lag(seq) OVER (ORDER BY seq), lead(seq) OVER (ORDER BY seq)"  # noqa: S608
            f" FROM {table} WHERE gateway = ? AND run = ?{mine} ORDER BY seq",
            *key,
        )
        came, anchors = Numbers(), []
        for seq, start, end, before, after in rows:
            came.add(seq, seq)
            if before != seq - 1 or after != seq + 1:
                anchors.append(Anchor(seq, seconds(start), seconds(end)))
        return came, anchors

    def _began_s(self, run: str) -> float | None:
        rows = self._ask("SELECT started_utc FROM run WHERE gateway = ? AND run = ?", run)
        return _maybe_seconds(rows[0][0]) if rows else None


def _anchors_around(
    anchors: list[Anchor], first: int, last: int
) -> tuple[Anchor | None, Anchor | None]:
    before = [each for each in anchors if each.seq < first]
    after = [each for each in anchors if each.seq > last]
    return (before[-1] if before else None), (after[0] if after else None)
