"""A record and its JSON: what one window of one sensor becomes, and what the city receives.

Bodies are built once, when the record is committed, and are only joined into batches afterwards:
what was stored is what is sent, byte for byte.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from drivers.base import Fix

from .clock import Stamp

if TYPE_CHECKING:
    from .privacy.ledger import Claim

GATEWAY_STREAM = "gateway"
ALERTS_STREAM = "alerts"

# Entries are numbered upwards from 1 in the order of commit. A gap sorts before them all, under an
# id of its own: an acknowledgement still on its way for what it replaces must not take it away.
BEFORE_ALL = -(2**62)

_RECORDS = '"records":['
_DECODER = json.JSONDecoder()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Record:
    """One window of one stream, before it has a number."""

    stream: str  # the sensor's id, or "gateway"
    kind: str
    start_ns: int  # UTC by what was known when it was made
    end_ns: int
    boot_start_ns: int  # the same instants on the clock that does not step
    boot_end_ns: int
    clock: Stamp
    quality: Mapping[str, object]
    values: Mapping[str, object]
    settles: Claim | None = None  # the window of people that it releases, or says is burned

    @property
    def is_burned(self) -> bool:
        """Whether it tells that its window is never released."""
        reasons = self.quality.get("reasons", ())
        return isinstance(reasons, list | tuple) and "burned" in reasons

    def body(self, seq: int) -> str:
        """Return the contract's JSON for this record under number `seq`."""
        return _json(
            {
                "stream": self.stream,
                "seq": seq,
                "start": utc_text(self.start_ns),
                "end": utc_text(self.end_ns),
                "clock": self.clock.json(),
                "quality": self.quality,
                "values": self.values,
            }
        )


AlertState = Literal["raised", "updated", "cleared"]
Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """One step of an alert's episode, before it has a number. It does not wait for the clock."""

    stream: ClassVar[str] = ALERTS_STREAM

    sensor: str | None  # None: the gateway's own
    kind: str  # of the topic; not in the body
    alert: str
    id: str  # of the episode
    state: AlertState
    severity: Severity
    time_ns: int  # UTC by what was known when it was made
    since_ns: int  # the beginning of the episode, never after `time_ns`
    clock: Stamp
    text: Mapping[str, str]  # by language
    values: Mapping[str, object]

    @property
    def start_ns(self) -> int:
        """The instant, as a gap in its place would name it."""
        return self.time_ns

    @property
    def end_ns(self) -> int:
        """The instant, as a gap in its place would name it."""
        return self.time_ns

    def body(self, seq: int) -> str:
        """Return the contract's JSON for this record under number `seq`."""
        return _json(
            {
                "stream": self.stream,
                "seq": seq,
                "sensor": self.sensor,
                "alert": self.alert,
                "id": self.id,
                "state": self.state,
                "severity": self.severity,
                "time": utc_text(self.time_ns),
                "since": utc_text(self.since_ns),
                "clock": self.clock.json(),
                "text": self.text,
                "values": self.values,
            }
        )


@dataclass(frozen=True, slots=True)
class Lost:
    """Records of one stream that were given up before they had numbers: a gap takes their place."""

    stream: str
    kind: str
    count: int
    why: str
    start_ns: int | None
    end_ns: int | None

    @classmethod
    def of(cls, record: Record | AlertRecord, why: str, earlier: Lost | None = None) -> Lost:
        """Return what takes the place of a record, and of those given up before it."""
        is_timed = record.clock.state != "estimated"
        start_ns, end_ns = (record.start_ns, record.end_ns) if is_timed else (None, None)
        if earlier is not None:
            start_ns = start_ns if earlier.start_ns is None else earlier.start_ns
            end_ns = earlier.end_ns if end_ns is None else end_ns
        count = 1 + (earlier.count if earlier else 0)
        return cls(record.stream, record.kind, count, why, start_ns, end_ns)

    def body(self, last: int) -> str:
        """Return the gap's JSON; `last` is the last of the `count` lost numbers."""
        first = last - self.count + 1
        return gap_body(self.stream, first, last, self.why, self.start_ns, self.end_ns)


class Entry(NamedTuple):
    """A committed record or gap, as it waits to be sent."""

    id: int  # order of commit
    run: str
    stream: str
    kind: str
    config_id: str
    seq: int
    end_ns: int | None  # None: a gap of unknown time
    body: str
    is_gap: bool = False


Top = tuple[str, int]  # a stream, and its highest number in an entry


class Parcel(NamedTuple):
    """Entries that travel in one message: of one run, one kind, one configuration.

    Either `bodies` are still to be joined, or `payload` is one entry that was packed in the spool:
    a whole message, deflated.
    """

    run: str
    kind: str
    config_id: str
    ids: tuple[int, ...]  # in the order of commit
    bodies: tuple[str, ...]
    tops: tuple[tuple[Top, ...], ...]  # of each id: what a receipt must reach to cover it
    payload: bytes | None = None
    records: int = 1  # in all

    def part(self, chosen: Iterable[int]) -> Parcel:
        """Return some of its entries, by their places; a pack stays whole."""
        places = list(chosen)
        if self.payload is not None:
            return self
        return self._replace(
            ids=tuple(self.ids[i] for i in places),
            bodies=tuple(self.bodies[i] for i in places),
            tops=tuple(self.tops[i] for i in places),
            records=len(places),
        )


class Page(NamedTuple):
    """A look at the spool: what waits, packed to travel, and how far the look went."""

    parcels: list[Parcel]
    scanned_to: int
    unfit: tuple[int, ...] = ()  # packed entries that cannot travel as they are


def gap_body(
    stream: str, first: int, last: int, why: str, start_ns: int | None, end_ns: int | None
) -> str:
    """Return the JSON that stands in for the numbers `first`..`last` of a stream."""
    return _json(
        {
            "stream": stream,
            "first": first,
            "seq": last,
            "gap": why,
            "start": None if start_ns is None else utc_text(start_ns),
            "end": None if end_ns is None else utc_text(end_ns),
        }
    )


def with_time(body: str, start_ns: int, end_ns: int, clock: Stamp) -> str:
    """Return a body that was kept back, with the time put right."""
    record = json.loads(body)
    record["start"], record["end"] = utc_text(start_ns), utc_text(end_ns)
    record["clock"] = clock.json()
    return _json(record)


def batch(gateway: str, run: str, kind: str, config_id: str, bodies: Iterable[str]) -> bytes:
    """Join bodies of one run, kind and configuration into a message."""
    head = _json(
        {
            "schema": "yukimi.batch/1",
            "gateway": gateway,
            "run": run,
            "kind": kind,
            "config": config_id,
        }
    )
    return f"{head[:-1]},{_RECORDS}{','.join(bodies)}]}}".encode()


def bodies_of(payload: bytes) -> list[str]:
    """Return the bodies in a deflated message of our own, byte for byte as they were joined.

    Raises ValueError where it is damaged.
    """
    try:
        text = zlib.decompress(payload).decode()
    except zlib.error as exc:
        raise ValueError(str(exc)) from exc
    at = text.index(_RECORDS) + len(_RECORDS)
    bodies = []
    while text[at : at + 1] != "]":
        _, end = _DECODER.raw_decode(text, at)
        bodies.append(text[at:end])
        at = end + (text[end : end + 1] == ",")
    return bodies


def deflated(payload: bytes, level: int = 6) -> bytes:
    """Compress as the contract says: zlib, so that the first byte is 0x78."""
    return zlib.compress(payload, level)


def utc_text(ns: int) -> str:
    """Return a UTC time in milliseconds as ISO 8601; integer arithmetic, so that it is exact."""
    ms = ns // 1_000_000
    instant = datetime.fromtimestamp(ms // 1000, tz=UTC)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def utc_ns(text: str) -> int:
    """Return the time that `utc_text` wrote. Raises ValueError."""
    instant = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return (instant - _EPOCH) // timedelta(milliseconds=1) * 1_000_000


def location(fix: Fix | None) -> dict[str, float | None] | None:
    """Return the contract's `location` object: where the gateway was; None where nobody knows.

    Seven decimals of a degree are a centimetre.
    """
    if fix is None:
        return None
    return {
        "latitude": round(fix.latitude_deg, 7),
        "longitude": round(fix.longitude_deg, 7),
        "speed_m_s": None if fix.speed_m_s is None else tidy(fix.speed_m_s),
        "error_m": None if fix.error_m is None else tidy(fix.error_m),
    }


def tidy(value: float) -> float:
    """Round to what a sensor can mean: three decimals, two from ten on, or four digits below one.

    A whole number loses its ".0": JSON has one kind of number, and the wire is paid by the byte.
    """
    size = abs(value)
    rounded = float(f"{value:.4g}") if size < 1 else round(value, 3 if size < 10 else 2)
    return int(rounded) if rounded.is_integer() else rounded


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
