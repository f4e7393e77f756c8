"""One sensor's way from observations to records: its windows, their aggregate and its quality.

What a people sensor saw comes out of its channel only as released figures. Time is an argument:
nothing here reads a clock, and the pipeline's thread owns every channel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from drivers.base import Direction, Limits, Quantity, Reason

from .aggregate import Measured
from .clock import Clock
from .phenomena.closed import NO_FACTS, Closed, Facts, Phenomenon
from .phenomena.people import Counted
from .privacy.ledger import Claim
from .privacy.policy import Policy
from .privacy.release import Sealed
from .qc import Judge
from .quality import Quality, doubted, grade, grade_people, overall
from .record import Record, location
from .window import Tally, Window, Windower

T = TypeVar("T", bound=Tally)


class Channel(ABC, Generic[T]):
    """One sensor's way from observations to records.

    The records of one that `moves` say where the gateway was, by what another sensor told. Those
    of one `in_maintenance` say that somebody works at it; that may begin and end while it runs.
    """

    def __init__(self, windower: Windower[T], *, moves: bool, in_maintenance: bool) -> None:
        self._windower = windower
        self._in_maintenance = in_maintenance
        self._work_ends = False  # with the window that is open
        self.moves = moves
        self.add = windower.add
        self.cover = windower.cover
        self.next_close_ns = windower.next_close_ns

    def begin_work(self) -> None:
        """Let the records say that somebody works at it, from the open window on."""
        self._in_maintenance, self._work_ends = True, False

    def end_work(self) -> None:
        """Let them say so no more, after the open window."""
        self._work_ends = True

    @property
    def facts(self) -> Facts:
        """What its phenomenon knows beyond its records."""
        return NO_FACTS

    def state(self) -> Mapping[str, Any]:
        """Return what the next life must know of it; empty where there is nothing."""
        return {}

    def advance(self, now_ns: int, clock: Clock) -> list[Record | Sealed]:
        """Return what windows that ended became."""
        return self._records(self._windower.advance(now_ns), clock)

    def flush(self, now_ns: int, clock: Clock, reason: Reason) -> list[Record | Sealed]:
        """Return what everything open becomes."""
        return self._records(self._windower.flush(now_ns, reason), clock)

    def step(
        self, now_ns: int, moved_ns: int, clock: Clock, covered_to_ns: int | None
    ) -> list[Record | Sealed]:
        """Return what everything open becomes when UTC moves; `clock` still has the old time.

        `covered_to_ns` is given when the time becomes known: what earlier runs covered.
        """
        windows = self._windower.step(
            now_ns, moved_ns, known=clock.known, covered_to_ns=covered_to_ns
        )
        return self._records(windows, clock, moved_ns)

    def _records(
        self, windows: list[Window[T]], clock: Clock, moved_ns: int = 0
    ) -> list[Record | Sealed]:
        if self._in_maintenance:
            for window in windows:
                window.reasons.add("maintenance")
        if windows and self._work_ends:
            self._in_maintenance = self._work_ends = False
        return [self._record(window, clock, moved_ns) for window in windows]

    @abstractmethod
    def _record(self, window: Window[T], clock: Clock, moved_ns: int) -> Record | Sealed:
        """Turn a closed window into its record, or into what its release needs.

        `moved_ns` is how far UTC is about to step, which puts the record's time in doubt.
        """


class MeasuredChannel(Channel[Measured]):
    """A sensor that measures quantities; each is judged by its own limits.

    A `phenomenon` sees each window once, in order, and adds to its record.
    """

    def __init__(
        self,
        stream: str,
        kind: str,
        *,
        window_s: int,
        rate_hz: float,
        quantities: Mapping[str, Quantity],
        now_ns: int,
        moves: bool = False,
        in_maintenance: bool = False,
        phenomenon: Phenomenon | None = None,
    ) -> None:
        self._stream, self._kind = stream, kind
        self._rate_hz = rate_hz
        self._quantities = quantities
        self._phenomenon = phenomenon
        self._judges = {
            name: Judge(q.limits, 1 / rate_hz)
            for name, q in quantities.items()
            if not q.is_class and q.limits != Limits()
        }
        self._newest: Measured | None = None
        self._tells_place = kind == "position"  # by its own fixes, which it is graded by
        super().__init__(
            Windower(window_s, self._begin, now_ns=now_ns),
            moves=moves and not self._tells_place,
            in_maintenance=in_maintenance,
        )

    @property
    def facts(self) -> Facts:
        """What its phenomenon knows beyond its records."""
        return NO_FACTS if self._phenomenon is None else self._phenomenon.facts

    def state(self) -> Mapping[str, Any]:
        """Return what its phenomenon must know in the next life."""
        return {} if self._phenomenon is None else self._phenomenon.state()

    def _begin(self) -> Measured:
        tally = Measured(self._quantities)
        if self._newest is not None:
            self._newest.after = tally
        self._newest = tally
        return tally

    def _record(self, window: Window[Measured], clock: Clock, moved_ns: int) -> Record:
        tally = window.tally
        tally.sift(self._judges)
        expected = math.floor(self._rate_hz * window.length_s + 1e-6)
        names = tally.heard_of()
        if not names and not (self._tells_place and tally.fixes):  # it need not tell more
            names = list(self._quantities)
        qualities = {
            name: grade(
                tally.n(name),
                expected,
                tally.failed[name] + tally.troubles,
                window.reasons,
                tally.verdict(name),
            )
            for name in names
        }
        measured = {name: tally.value(name) for name in names}
        derived = self._derived(window, clock, measured, qualities)
        for name, why in self.facts.doubts.items():
            if name in qualities:
                qualities[name] = doubted(qualities[name], why)
        place: dict[str, Quality] = {}
        if self._tells_place:
            place["location"] = grade(tally.fixes, expected, tally.troubles, window.reasons)
        quality = overall(place | qualities)
        values: dict[str, object] = {}
        if self._tells_place or self.moves:
            values["location"] = location(tally.fix)
        for name, own in qualities.items():
            value = measured[name]
            if value is not None and own.flag != quality.flag:
                value |= {"flag": own.flag, "reasons": list(own.reasons)}
            values[name] = value
        values |= derived
        return _record(self._stream, self._kind, window, clock, moved_ns, quality.json(), values)

    def _derived(
        self,
        window: Window[Measured],
        clock: Clock,
        measured: Mapping[str, Mapping[str, object] | None],
        qualities: Mapping[str, Quality],
    ) -> dict[str, object]:
        """Return what the city asks about beyond what was measured."""
        if self._phenomenon is None:
            return {}
        closed = Closed(
            window.start_ns,
            window.end_ns,
            clock.boot_ns(window.end_ns),
            clock.stamp(clock.boot_ns(window.start_ns)).state != "estimated",
            measured,
            {name: own.flag for name, own in qualities.items()},
        )
        return self._phenomenon.derive(closed)


class PeopleChannel(Channel[Counted]):
    """A sensor that counts people: its windows come out sealed, to be released once."""

    def __init__(
        self,
        stream: str,
        *,
        policy: Policy,
        directions: tuple[Direction, ...],
        now_ns: int,
        now_boot_ns: int = 0,
        moves: bool = False,
        in_maintenance: bool = False,
    ) -> None:
        """It begins now, by UTC and by the boot-time clock."""
        self._stream = stream
        self._policy = policy
        self._directions = directions
        self._reached_boot_ns = now_boot_ns
        super().__init__(
            Windower(policy.window_s, lambda: Counted(directions), now_ns=now_ns),
            moves=moves,
            in_maintenance=in_maintenance,
        )

    def _record(self, window: Window[Counted], clock: Clock, moved_ns: int) -> Record | Sealed:
        tally = window.tally
        expected = math.floor(window.length_s + 1e-6)
        alive_s = min(tally.alive_s, expected)
        quality = grade_people(alive_s, expected, tally.troubles, window.reasons)
        values = self._policy.withheld(self._directions)
        if self.moves:  # the gateway's place, which is no part of the release
            values = {**values, "location": location(tally.fix)}
        record = _record(self._stream, "people", window, clock, moved_ns, quality.json(), values)
        # Whether the sensor worked depends on the sensor, so to withhold a count tells of nobody.
        if not tally.alive_s:  # in a window of less than a second too
            return record
        return Sealed(self._claim(record, expected), record, tally, self._policy)

    def _claim(self, record: Record, expected: int) -> Claim:
        """Name the window. On the boot-time clock it begins where the one before it ended.

        UTC may be slewed between the two, which would let them overlap by as much.
        """
        start_boot_ns = max(record.boot_start_ns, self._reached_boot_ns)
        end_boot_ns = self._reached_boot_ns = max(record.boot_end_ns, start_boot_ns)
        return Claim(
            self._stream,
            record.start_ns,
            record.end_ns,
            start_boot_ns,
            end_boot_ns,
            record.clock,
            str(self._policy.epsilon),
            self._directions,
            expected,
        )


def _record(
    stream: str,
    kind: str,
    window: Window[Measured] | Window[Counted],
    clock: Clock,
    moved_ns: int,
    quality: dict[str, object],
    values: dict[str, object],
) -> Record:
    boot_start_ns = clock.boot_ns(window.start_ns)
    return Record(
        stream,
        kind,
        window.start_ns,
        window.end_ns,
        boot_start_ns,
        clock.boot_ns(window.end_ns),
        clock.stamp(boot_start_ns).doubted(moved_ns),
        quality,
        values,
    )
