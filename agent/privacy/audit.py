"""Does the ledger hold: is the chain whole, was nothing released twice, is every figure in it?

Pure: lines and records in, a finding out. The first line that does not hold is named, and why.
What the records are held against: each with figures must have its release, each that says `burned`
must have been given up. Lines of a day that was closed are gone; what the day's line says of them
is used instead: which records, and no more which figures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

from config.exact import fraction

from . import ledger
from .ledger import FIRST_PREV, Head, Line
from .policy import Policy

State = Literal["released", "burned"]
WITHOUT_FIGURES = {"epsilon", "noise_sd", "ci95", "location"}  # what else people's records say
Key = tuple[str, str, int]  # run, sensor, number: of a record


@dataclass(slots=True)
class Finding:
    """What an audit found."""

    broken: str = ""  # what does not hold first; empty: all does
    line: int | None = None  # where, in the ledger
    lines: int = 0
    days: int = 0  # that were closed
    reserved: int = 0
    released: int = 0
    burned: int = 0
    waiting: int = 0  # reserved, and not settled yet
    records: int = 0  # of people that were held against it
    damages: list[str] = field(default_factory=list)  # times at which the file had been damaged
    since: str = ""  # of the first line
    until: str = ""
    epsilon: str = "0"  # the most that one crossing cost
    policy: str = ""  # the newest
    head: Head | None = None  # the last line, for who keeps it: no chain shows a loss of its end

    def json(self) -> dict[str, object]:
        """Return what a program reads."""
        return {
            "holds": not self.broken,
            "broken": {"line": self.line, "what": self.broken} if self.broken else None,
            "lines": self.lines,
            "days_closed": self.days,
            "windows": {
                "reserved": self.reserved,
                "released": self.released,
                "burned": self.burned,
                "waiting": self.waiting,
            },
            "records": self.records,
            "damages": self.damages,
            "since": self.since or None,
            "until": self.until or None,
            "epsilon": self.epsilon,
            "policy": self.policy or None,
            "last": {"line": self.head.n, "sha256": self.head.sha256} if self.head else None,
        }


class _BrokenError(Exception):
    """Something does not hold."""

    def __init__(self, line: int | None, what: str) -> None:
        super().__init__(what)
        self.line = line


def audit(
    rows: Sequence[tuple[int, str]],
    bodies: Iterable[tuple[str, str]] = (),
    published: Iterable[tuple[str, str]] = (),
) -> Finding:
    """Hold the ledger, by number and text, against itself and against people's records.

    `bodies` are (run, JSON) of records that wait, of people's streams and others, and `published`
    of such as the city received. What cannot be read does not hold.
    """
    finding = Finding()
    lines = [(n, ledger.read(text)) for n, text in rows]
    finding.damages = [what for _, line in lines for what in ledger.damages_of(line)]
    try:
        reading = _Reading(finding)
        _check_chain(rows)
        if rows:
            finding.head = Head(rows[-1][0], ledger.sha256(rows[-1][1]))
        # First what is gone: a day's line stands behind the lines that came after that day.
        for n, line in sorted(lines, key=lambda each: (each[1]["line"] != "day", each[0])):
            try:
                reading.take(n, line)
            except (KeyError, TypeError, ValueError, ZeroDivisionError) as exc:
                raise _BrokenError(n, f"makes no sense: {exc!r}") from exc
        for run, body in bodies:
            reading.hold_against(run, body)
        for run, body in published:
            reading.hold_against(run, body, is_here=False)
        finding.waiting = reading.waiting()
    except _BrokenError as exc:
        finding.line, finding.broken = exc.line, str(exc)
    return finding


def _check_chain(rows: Sequence[tuple[int, str]]) -> None:
    """Check that numbers and hashes follow each other, over the days that were closed."""
    pieces: list[tuple[int, int, str, str, int]] = []  # first, last, begins, ends, told by
    broken = {}  # by the line that closed over it
    for n, text in rows:
        line = ledger.read(text)
        if line.get("n") != n or not isinstance(line.get("prev"), str):
            raise _BrokenError(n, "is no line of a ledger")
        pieces.append((n, n, line["prev"], ledger.sha256(text), n))
        if line["line"] == "day":
            place = (line.get("first"), line.get("last"), line.get("begins"), line.get("ends"))
            match place:
                case (int(first), int(last), str(begins), str(ends)) if first <= last < n:
                    pieces.append((first, last, begins, ends, n))
                    broken[n] = line.get("broken")
                case _:
                    raise _BrokenError(n, "does not say which lines it closed")
    expected, prev = 1, FIRST_PREV
    for first, last, begins, ends, told_by in sorted(pieces):
        if first < expected:
            raise _BrokenError(told_by, f"line {first} is there twice")
        if first > expected:
            raise _BrokenError(expected, f"is missing, and what follows up to line {first - 1}")
        if begins != prev:
            raise _BrokenError(first, "does not follow the line before it: one of them was changed")
        if last < told_by and broken[told_by] is not None:
            what = f"did not hold when its day was closed by line {told_by}"
            raise _BrokenError(broken[told_by], what)
        expected, prev = last + 1, ends


class _Reading:
    """What the lines said, up to now."""

    def __init__(self, finding: Finding) -> None:
        self._found = finding
        self._policies: dict[str, Policy] = {}
        self._now = ""  # the policy under which lines are written
        self._reserved: dict[tuple[str, str, str, int], Line] = {}
        self._settled: dict[tuple[str, str, str, int], State] = {}
        self._reached_ns: dict[tuple[tuple[str, ...], str], int] = {}  # of a sensor, in a boot
        self._records: dict[Key, tuple[State, str | None]] = {}
        self._spans: dict[tuple[str, str], list[tuple[int, int, State]]] = {}
        self._closed_to = 0  # the last line that a day's line stands for

    def waiting(self) -> int:
        """Return how many windows were reserved, and not settled yet."""
        return len(self._reserved.keys() - self._settled.keys())

    def take(self, n: int, line: Line) -> None:
        """Take a line; the days' come first."""
        found = self._found
        found.lines += 1
        what, at = line["line"], line["at"]
        found.since, found.until = min(found.since or at, at), max(found.until, at)
        if what == "day":
            self._take_day(n, line)
            return
        if what == "policy":
            self._learn({line["policy"]: line["terms"]}, n)
            self._now = line["policy"]
        self._now = self._now or line["policy"]
        if line["policy"] not in self._policies:
            raise _BrokenError(n, "names a policy that no line says")
        if line["policy"] != self._now:
            raise _BrokenError(n, "is written under a policy that was not the present one")
        found.policy = self._now
        if what == "reserve":
            self._take_reserve(n, line)
        elif what in ("release", "burned"):
            self._take_settled(n, line, "released" if what == "release" else "burned")
        elif what not in ("boot", "policy"):
            raise _BrokenError(n, f"is of no kind that is known: {what}")

    def _learn(self, policies: Mapping[str, Any], n: int) -> None:
        for name, terms in policies.items():
            known = Policy.of_json(terms)
            if known.sha256 != name:
                raise _BrokenError(n, "a policy is not what its hash says")
            if known.epsilon > known.day_limit:
                raise _BrokenError(n, "a policy spends more than its own limit on a crossing")
            self._policies[name] = known

    def _take_day(self, n: int, line: Line) -> None:
        self._learn(line["policies"], n)
        self._found.days += 1
        for name in line["policies"]:
            self._cost(self._policies[name].epsilon)
        for sensor, boot, reached_ns in line["reached"]:
            self._reached_ns[tuple(sensor), boot] = reached_ns
        self._closed_to = max(self._closed_to, line["last"])
        states: tuple[tuple[str, State], ...] = (("release", "released"), ("burned", "burned"))
        for what, state in states:
            for run, sensors in line[what].items():
                for sensor, spans in sensors.items():
                    for first, last in spans:
                        self._take_span(n, (run, sensor), first, last, state)

    def _take_span(
        self, n: int, stream: tuple[str, str], first: int, last: int, state: State
    ) -> None:
        spans = self._spans.setdefault(stream, [])
        if any(first <= own_last and own_first <= last for own_first, own_last, _ in spans):
            raise _BrokenError(n, f"record {stream[1]} {first} of run {stream[0]} was made twice")
        spans.append((first, last, state))
        self._count(state, last - first + 1)

    def _cost(self, epsilon: Fraction) -> None:
        self._found.epsilon = str(max(fraction(self._found.epsilon), epsilon))

    def _count(self, state: State, windows: int) -> None:
        if state == "released":
            self._found.released += windows
        else:
            self._found.burned += windows

    def _take_reserve(self, n: int, line: Line) -> None:
        name, claim = ledger.name_of(line), ledger.claim_of(line)
        policy = self._policies.get(line["policy"])
        if policy is not None and fraction(claim.epsilon) != policy.epsilon:
            raise _BrokenError(n, f"reserves epsilon {claim.epsilon}, not the policy's")
        if name in self._reserved:
            raise _BrokenError(n, "reserves a window for the second time")
        sensor = (name[:2], name[2])
        if claim.start_boot_ns < self._reached_ns.get(sensor, -1):
            raise _BrokenError(n, "reserves a time that an earlier window of the sensor has too")
        if claim.end_boot_ns < claim.start_boot_ns:
            raise _BrokenError(n, "reserves a window that ends before it begins")
        self._reached_ns[sensor] = claim.end_boot_ns
        self._reserved[name] = line
        self._found.reserved += 1
        self._cost(fraction(claim.epsilon))

    def _take_settled(self, n: int, line: Line, state: State) -> None:
        name = ledger.name_of(line)
        reserved = self._reserved.get(name)
        if state == "released" and reserved is None and line["reserve"] > self._closed_to:
            raise _BrokenError(n, "releases a window that was not reserved")
        if reserved is not None and line["reserve"] not in (0, reserved["n"]):
            raise _BrokenError(n, "names another reservation than its window's")
        if name in self._settled:
            raise _BrokenError(n, f"settles a window that was {self._settled[name]} before")
        key = (line["run"], line["sensor"], line["seq"])
        if key in self._records or self._closed_state(key) is not None:
            raise _BrokenError(n, f"names record {key[1]} {key[2]}, which is another window's")
        self._settled[name] = state
        self._records[key] = (state, line.get("figures"))
        self._count(state, 1)

    def _closed_state(self, key: Key) -> State | None:
        for first, last, state in self._spans.get(key[:2], ()):
            if first <= key[2] <= last:
                return state
        return None

    def hold_against(self, run: str, body: str, *, is_here: bool = True) -> None:
        """Look for a record's line; records of other things than people need none.

        One that says burned need have a line only where it `is_here`: without a disk it may have
        left from memory, and both were gone with the power.
        """
        try:
            record = json.loads(body)
            values = record.get("values")
            if not isinstance(values, dict) or not _is_of_people(values):
                return
            key: Key = (run, record["stream"], record["seq"])
            state, figures = self._records.get(key, (self._closed_state(key), None))
            is_burned = "burned" in record["quality"].get("reasons", ())
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise _BrokenError(None, f"a record of run {run} makes no sense") from exc
        self._found.records += 1
        where = f"record {key[1]} {key[2]} of run {run}"
        if _has_figures(values) and state != "released":
            raise _BrokenError(None, f"{where} has figures, and no line releases them")
        if figures is not None and figures != ledger.figures_hash(values):
            raise _BrokenError(None, f"{where} has other figures than were released")
        if is_burned and state != "burned" and (is_here or state is not None):
            raise _BrokenError(None, f"{where} says burned, and no line does")


def _is_of_people(values: Mapping[str, Any]) -> bool:
    return "noise_sd" in values or any(map(_is_count, values.values()))


def _has_figures(values: Mapping[str, Any]) -> bool:
    told = (value for name, value in values.items() if name not in WITHOUT_FIGURES)
    return any(value is not None if "noise_sd" in values else _is_count(value) for value in told)


def _is_count(value: object) -> bool:
    return isinstance(value, dict) and bool(value.keys() & {"count", "unclamped"})
