"""The lines of the ledger: what was said about people, under which policy, once.

A line is one JSON object, numbered 1, 2, 3 ...; `prev` is the SHA-256 of the line before, so that
none can be changed, taken out or put in unseen. What a line says:

boot     a life of the daemon begins; `damaged` says why the file before it was set aside
policy   what is published from now on, in full; every line names the policy by its hash
reserve  a window's counts are about to be released: written and synced before noise is drawn
release  they were, in the record (run, sensor, seq) whose figures have this hash
burned   they never will be: its record says so, and has no figures
day      the lines `first` to `last` of a day that is over are gone; this is what they said

Nothing in a line depends on persons but the hash of released figures. Pure: lines in, lines out.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args
from zoneinfo import ZoneInfo

from config.exact import fraction

from ..clock import Stamp, State
from ..record import utc_ns, utc_text
from .policy import Policy

FIRST_PREV = "0" * 64
FLOW = "flow"  # the stream of the policy that is released so far
TIME_LIMIT_NS = 2**62  # no time is later, and a database takes none much larger
DAY_BEGINS = timedelta(hours=3)  # local time: when a city's day ends

Line = dict[str, Any]
Name = tuple[str, str, str, int]  # of a window: sensor, stream, boot, beginning in the boot's time


@dataclass(frozen=True, slots=True)
class Claim:
    """A window of people's counts that is to be released: once, or never.

    Its name is (sensor, stream, boot, beginning on the boot-time clock). The spans of one sensor
    never overlap on that clock, so that a crossing is in one of them.
    """

    sensor: str
    start_ns: int  # UTC by what was known when it closed
    end_ns: int
    start_boot_ns: int
    end_boot_ns: int
    clock: Stamp
    epsilon: str
    directions: tuple[str, ...]
    expected: int  # of the record's quality
    stream: str = FLOW
    boot_id: str = ""
    run: str = ""
    line: int = 0  # the number of the reservation; 0: not reserved

    @property
    def name(self) -> Name:
        """Which window it is."""
        return self.sensor, self.stream, self.boot_id, self.start_boot_ns


class Terms(NamedTuple):
    """What a life of the daemon writes its lines under."""

    policy: Policy
    timezone: str
    version: str

    def day_of(self, at_ns: int) -> str:
        """Return the local day of a UTC time, which begins at DAY_BEGINS."""
        local = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).astimezone(
            ZoneInfo(self.timezone)
        )
        return (local.replace(tzinfo=None) - DAY_BEGINS).date().isoformat()


def written(line: Mapping[str, Any]) -> str:
    """Return a line as it is stored."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def sha256(text: str) -> str:
    """Return the hash by which the next line names this one."""
    return hashlib.sha256(text.encode()).hexdigest()


def figures_hash(values: Mapping[str, Any]) -> str:
    """Return the hash of a record's released values, whatever the order of their names."""
    return sha256(json.dumps(values, sort_keys=True, separators=(",", ":")))


# What the lines say


def boot(boot_id: str, run: str, version: str, damaged: str = "") -> Line:
    """Say that a life begins."""
    line = {"line": "boot", "boot": boot_id, "run": run, "version": version}
    return line | {"damaged": damaged} if damaged else line


def policy(terms: Policy) -> Line:
    """Say what is published from now on."""
    return {"line": "policy", "terms": terms.json()}


def reserve(claim: Claim) -> Line:
    """Say that a window is about to be released."""
    return {
        "line": "reserve",
        **_name(claim),
        "run": claim.run,
        "end_boot_ns": claim.end_boot_ns,
        "start": utc_text(claim.start_ns),
        "end": utc_text(claim.end_ns),
        "clock": claim.clock.json(),
        "epsilon": claim.epsilon,
        "directions": list(claim.directions),
        "expected": claim.expected,
    }


def release(claim: Claim, run: str, seq: int, values: Mapping[str, Any]) -> Line:
    """Say that a window was released in a record."""
    record = {"run": run, "seq": seq, "figures": figures_hash(values)}
    return {"line": "release", "reserve": claim.line, **_name(claim), **record}


def burned(claim: Claim, run: str, seq: int) -> Line:
    """Say that a window never will be released, and which record says so."""
    return {"line": "burned", "reserve": claim.line, **_name(claim), "run": run, "seq": seq}


def _name(claim: Claim) -> Line:
    return {
        "sensor": claim.sensor,
        "stream": claim.stream,
        "boot": claim.boot_id,
        "start_boot_ns": claim.start_boot_ns,
    }


def name_of(line: Line) -> Name:
    """Return which window a line speaks of."""
    return line["sensor"], line["stream"], line["boot"], line["start_boot_ns"]


def claim_of(line: Line) -> Claim:
    """Return what a reservation was for.

    Raises KeyError, TypeError, ValueError and ZeroDivisionError on nonsense.
    """
    claim = Claim(
        line["sensor"],
        utc_ns(line["start"]),
        utc_ns(line["end"]),
        line["start_boot_ns"],
        line["end_boot_ns"],
        Stamp(**line["clock"]),
        line["epsilon"],
        tuple(line["directions"]),
        line["expected"],
        line["stream"],
        line["boot"],
        line["run"],
        line["n"],
    )
    _check(claim)
    return claim


def _check(claim: Claim) -> None:
    """Raise TypeError, ValueError or ZeroDivisionError where no record could be made of it."""
    times = (claim.start_ns, claim.end_ns, claim.start_boot_ns, claim.end_boot_ns)
    if not all(0 <= each < TIME_LIMIT_NS for each in times):
        raise ValueError("names a time that there is not")
    if not all(isinstance(each, str) for each in (claim.epsilon, *claim.directions)):
        raise TypeError("names what is no text")
    if fraction(claim.epsilon) <= 0:
        raise ValueError(f"epsilon {claim.epsilon} is no price")
    if claim.clock.state not in get_args(State) or not isinstance(claim.expected, int):
        raise ValueError("does not say what its record must")


def unsettled(lines: Iterable[Line]) -> list[Claim]:
    """Return what was reserved, and neither released nor burned, as far as that makes sense."""
    open_claims: dict[Name, Line] = {}
    for line in lines:
        match line.get("line"):
            case "reserve":
                open_claims[name_of(line)] = line
            case "release" | "burned":
                open_claims.pop(name_of(line), None)
    claims = []
    for line in open_claims.values():
        with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):  # the audit tells of it
            claims.append(claim_of(line))
    return claims


# The chain


class Head(NamedTuple):
    """The end of the chain."""

    n: int = 0
    sha256: str = FIRST_PREV

    def add(self, line: Line, at_ns: int, policy_sha256: str) -> tuple[str, Head]:
        """Return a line as it is stored after this, and the chain's new end."""
        place = {"n": self.n + 1, "prev": self.sha256, "at": utc_text(at_ns)}
        text = written(place | line | {"policy": policy_sha256})
        return text, Head(self.n + 1, sha256(text))


def closed_day(day: str, rows: Sequence[tuple[int, str]]) -> Line:
    """Return what is kept of a day's lines, given by number and text, which follow each other."""
    lines = [read(text) for _, text in rows]
    numbers: dict[str, dict[str, dict[str, list[int]]]] = {
        what: defaultdict(lambda: defaultdict(list)) for what in ("release", "burned")
    }
    policies = {}
    reached: dict[tuple[str, str, str], int] = {}
    for line in lines:
        match line:
            case {"line": "reserve", "end_boot_ns": int(end_boot_ns)}:
                reached[name_of(line)[:3]] = end_boot_ns
            case {"line": ("release" | "burned") as what, "run": str(run), "seq": int(seq)}:
                numbers[what][run][line["sensor"]].append(seq)
            case {"line": "policy", "policy": str(name), "terms": terms}:
                policies[name] = terms
    kept: Line = {
        "line": "day",
        "day": day,
        "first": rows[0][0],
        "last": rows[-1][0],
        "begins": lines[0].get("prev", ""),
        "ends": sha256(rows[-1][1]),
        "release": _spans(numbers["release"]),
        "burned": _spans(numbers["burned"]),
        "policies": policies,
        "reached": [[[sensor, stream], boot, ns] for (sensor, stream, boot), ns in reached.items()],
    }
    if damages := [what for line in lines for what in damages_of(line)]:
        kept["damages"] = damages
    wrong = first_break(rows)
    return kept if wrong is None else kept | {"broken": wrong}


def last_policy(texts: Iterable[str]) -> Policy | None:
    """Return the policy under which the last of all lines was written; None: none is known."""
    said: dict[str, Any] = {}
    name = ""
    for text in texts:
        line = read(text)
        match line:
            case {"line": "policy", "policy": str(own), "terms": terms}:
                said[own] = terms
            case {"line": "day", "policies": dict(policies)}:
                said |= policies
        if line.get("line") != "day":
            name = str(line.get("policy", name))
    with suppress(KeyError, TypeError, ValueError):
        return Policy.of_json(said[name])
    return None


def damages_of(line: Line) -> list[str]:
    """Return when and why the file was set aside, as far as a line says so."""
    match line:
        case {"line": "boot", "at": str(at), "damaged": str(why)}:
            return [f"{at}: {why}"]
        case {"line": "day", "damages": list(said)}:
            return [str(what) for what in said]
    return []


def first_break(rows: Sequence[tuple[int, str]]) -> int | None:
    """Return the number of the first of these lines that does not follow the one before it."""
    before = None
    for n, text in rows:
        line = read(text)
        if line.get("n") != n or (before is not None and line.get("prev") != before):
            return n
        before = sha256(text)
    return None


def read(text: str) -> Line:
    """Return a line as it was written; an empty one where the text is none.

    One that speaks of a window names it, whatever a worn card made of the text.
    """
    try:
        line: Line = json.loads(text)
    except ValueError:
        return {}
    match line:
        case {"line": "reserve" | "release" | "burned"}:
            texts = (line.get("sensor"), line.get("stream"), line.get("boot"))
            is_named = all(isinstance(each, str) for each in texts)
            return line if is_named and isinstance(line.get("start_boot_ns"), int) else {}
        case {"line": str()}:
            return line
    return {}


def _spans(
    numbers: Mapping[str, Mapping[str, Sequence[int]]],
) -> dict[str, dict[str, list[list[int]]]]:
    """Return numbers by run and sensor, those that follow each other as [first, last]."""
    found: dict[str, dict[str, list[list[int]]]] = {}
    for run, sensors in numbers.items():
        for sensor, seqs in sensors.items():
            spans: list[list[int]] = []
            for seq in sorted(seqs):
                if spans and spans[-1][1] + 1 == seq:
                    spans[-1][1] = seq
                else:
                    spans.append([seq, seq])
            found.setdefault(run, {})[sensor] = spans
    return found


def in_boot(claim: Claim, boot_id: str, run: str) -> Claim:
    """Return a claim as this life makes it."""
    return replace(claim, boot_id=boot_id, run=run)
