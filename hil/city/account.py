"""The city's account: for every stream of every run, which numbers came, and which are owed.

A gateway numbers the records of each stream 1, 2, 3 … per run, and either delivers a number or
names it in a gap. So

    produced = delivered + lost (in gaps) + missing

can be checked from the messages alone; `missing` is what was promised and never came. Pure:
messages in, figures out. Numbers are kept as ranges, so a million records in order cost nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from agent.numbers import Numbers, Range, count

from .payloads import (
    LANES,
    MalformedError,
    alarm_of,
    batch_head,
    gap_of,
    health_of,
    key_of,
    previous_run,
    produced_of,
    unpack,
)

_MALFORMED_KEPT = 100
_RANGES_SHOWN = 5


class StreamKey(NamedTuple):
    """One life of one stream: within it a number is given once."""

    gateway: str
    run: str
    stream: str


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What the city holds of one stream of one run."""

    gateway: str
    run: str
    stream: str
    produced: int  # the highest number that the gateway or the caller named, or that came
    is_produced_told: bool  # False: only what came is known, so a lost tail is not seen
    delivered: int  # different numbers that came as records
    lost: Mapping[str, int]  # numbers in gaps that never came, by the gap's reason
    missing: int  # neither came nor in a gap
    missing_ranges: tuple[Range, ...]
    surplus: int  # came, and are above what the gateway finally said it had produced
    duplicates: int  # records and gaps that told nothing new
    disordered: int  # first arrivals below an earlier one of the same topic
    last_at_s: float | None  # when the latest message with this stream came

    @property
    def lost_count(self) -> int:
        """All numbers lost in gaps."""
        return sum(self.lost.values())

    def line(self) -> str:
        """Say it in one line."""
        told = "" if self.is_produced_told else " (highest seen)"
        parts = [
            f"{self.gateway} {self.run} {self.stream}: produced {self.produced}{told}"
            f" = delivered {self.delivered} + lost {self.lost_count} + missing {self.missing}"
        ]
        if self.lost:
            parts.append("lost: " + ", ".join(f"{n} {why}" for why, n in self.lost.items()))
        if self.missing:
            shown = ", ".join(
                f"{first}" if first == last else f"{first}-{last}"
                for first, last in self.missing_ranges[:_RANGES_SHOWN]
            )
            more = ", …" if len(self.missing_ranges) > _RANGES_SHOWN else ""
            parts.append(f"missing: {shown}{more}")
        for name in ("surplus", "duplicates", "disordered"):
            if getattr(self, name):
                parts.append(f"{name} {getattr(self, name)}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Report:
    """The whole account."""

    streams: tuple[StreamReport, ...]
    messages: int
    malformed: int
    malformed_examples: tuple[str, ...]

    @property
    def produced(self) -> int:
        """The sum over all streams."""
        return sum(stream.produced for stream in self.streams)

    @property
    def delivered(self) -> int:
        """The sum over all streams."""
        return sum(stream.delivered for stream in self.streams)

    @property
    def lost(self) -> int:
        """The sum over all streams."""
        return sum(stream.lost_count for stream in self.streams)

    @property
    def missing(self) -> int:
        """The sum over all streams."""
        return sum(stream.missing for stream in self.streams)

    @property
    def duplicates(self) -> int:
        """The sum over all streams."""
        return sum(stream.duplicates for stream in self.streams)

    @property
    def keeps_the_contract(self) -> bool:
        """Whether every number came or is in a gap, in order, and every message was valid."""
        return self.malformed == 0 and not any(
            stream.missing or stream.surplus or stream.disordered for stream in self.streams
        )

    def lines(self) -> list[str]:
        """Say it to people: a line for each stream, then the sum."""
        lines = [stream.line() for stream in self.streams]
        lines += [f"malformed: {example}" for example in self.malformed_examples]
        lines.append(
            f"produced {self.produced} = delivered {self.delivered} + lost {self.lost}"
            f" + missing {self.missing}; {self.duplicates} duplicates,"
            f" {self.malformed} malformed, {self.messages} messages"
        )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return what `json.dumps` takes."""
        return {
            "produced": self.produced,
            "delivered": self.delivered,
            "lost": self.lost,
            "missing": self.missing,
            "keeps_the_contract": self.keeps_the_contract,
            **asdict(self),
        }


@dataclass(slots=True)
class _Stream:
    """The open page of one stream of one run."""

    delivered: Numbers = field(default_factory=Numbers)
    in_gaps: Numbers = field(default_factory=Numbers)
    known: Numbers = field(default_factory=Numbers)  # both
    gaps: dict[str, Numbers] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)  # by topic
    duplicates: int = 0
    disordered: int = 0
    told: int | None = None
    is_final: bool = False
    last_at_s: float | None = None

    def take_record(self, topic: str, seq: int) -> None:
        is_new = seq not in self.known
        if self.delivered.add(seq, seq):
            self.known.add(seq, seq)
        else:
            self.duplicates += 1
        self._note_order(topic, seq, is_new)

    def take_gap(self, topic: str, first: int, seq: int, why: str) -> None:
        is_new = seq not in self.known
        new = self.in_gaps.add(first, seq)
        for each in new:
            self.gaps.setdefault(why, Numbers()).add(*each)
        self.known.add(first, seq)
        self.duplicates += not new
        self._note_order(topic, seq, is_new)

    def _note_order(self, topic: str, seq: int, is_new: bool) -> None:
        newest = self.newest.get(topic, 0)
        if is_new and seq < newest:
            self.disordered += 1
        self.newest[topic] = max(newest, seq)

    def report(self, key: StreamKey) -> StreamReport:
        highest = self.known.highest
        produced = max(self.told or 0, highest)
        # A record that came although a gap names it (its acknowledgement was lost) has come.
        lost = {why: self._not_delivered(numbers) for why, numbers in self.gaps.items()}
        missing_ranges = tuple(self.known.holes(1, produced))
        surplus = 0
        if self.is_final and self.told is not None and highest > self.told:
            beyond = self.known.holes(self.told + 1, highest)
            surplus = highest - self.told - count(beyond)
        return StreamReport(
            *key,
            produced=produced,
            is_produced_told=self.told is not None,
            delivered=len(self.delivered),
            lost={why: count for why, count in lost.items() if count},
            missing=count(missing_ranges),
            missing_ranges=missing_ranges,
            surplus=surplus,
            duplicates=self.duplicates,
            disordered=self.disordered,
            last_at_s=self.last_at_s,
        )

    def _not_delivered(self, numbers: Numbers) -> int:
        return sum(count(self.delivered.holes(*each)) for each in numbers.ranges())


class Account:
    """Takes every message below `topic_root` and keeps the account of the contract."""

    def __init__(self, topic_root: str = "yukimi/v1") -> None:
        self._prefix = f"{topic_root}/"
        self._streams: dict[StreamKey, _Stream] = {}
        self._alarms: dict[str, dict[str, dict[str, Any]]] = {}
        self._messages = 0
        self._malformed = 0
        self._examples: list[str] = []

    def take(self, topic: str, payload: bytes, at_s: float | None = None) -> list[dict[str, Any]]:
        """Take one message; return the records in it that are valid, gaps included.

        Never raises: what is malformed is counted and named. `at_s` is when it came.
        """
        self._messages += 1
        try:
            gateway, lane, *rest = self._parts(topic)
            if lane == "health":
                self._take_health(gateway, payload)
            elif lane == "alarm":
                self._take_alarm(gateway, rest, payload)
            elif lane in LANES:
                return self._take_batch(topic, payload, at_s)
        except MalformedError as exc:
            self._complain(topic, str(exc))
        return []

    def tell_produced(
        self, gateway: str, run: str, produced: Mapping[str, int], *, is_final: bool
    ) -> None:
        """Say how many numbers each stream of a run has given; `is_final`: and never more."""
        for stream, number in produced.items():
            page = self._page(StreamKey(gateway, run, stream))
            page.told = number if is_final else max(page.told or 0, number)
            page.is_final = page.is_final or is_final

    def delivered(self, gateway: str, run: str, stream: str) -> Numbers:
        """Return the numbers that came as records."""
        page = self._streams.get(StreamKey(gateway, run, stream))
        return page.delivered if page is not None else Numbers()

    def held_through(self, gateway: str, run: str, stream: str) -> int:
        """Return the number up to which everything came, as records or in gaps."""
        page = self._streams.get(StreamKey(gateway, run, stream))
        first = next(page.known.ranges(), (0, 0)) if page is not None else (0, 0)
        return first[1] if first[0] == 1 else 0

    def alarms(self, gateway: str) -> dict[str, dict[str, Any]]:
        """Return what a gateway's alarms say now: alarm/SENSOR/NAME -> the newest record."""
        return dict(self._alarms.get(gateway, {}))

    def report(self) -> Report:
        """Draw up the account as it stands."""
        return Report(
            streams=tuple(page.report(key) for key, page in sorted(self._streams.items())),
            messages=self._messages,
            malformed=self._malformed,
            malformed_examples=tuple(self._examples),
        )

    def _parts(self, topic: str) -> list[str]:
        if not topic.startswith(self._prefix):
            raise MalformedError(f"topic is not below {self._prefix}")
        parts = topic.removeprefix(self._prefix).split("/")
        if len(parts) < 2:
            raise MalformedError("topic ends after the gateway")
        return parts

    def _page(self, key: StreamKey) -> _Stream:
        return self._streams.setdefault(key, _Stream())

    def _complain(self, topic: str, what: str) -> None:
        self._malformed += 1
        if len(self._examples) < _MALFORMED_KEPT:
            self._examples.append(f"{topic}: {what}")

    def _take_health(self, gateway: str, payload: bytes) -> None:
        health = health_of(payload)
        # Health is told while numbers are on their way: a number above it is no surplus.
        self.tell_produced(gateway, health["run"], produced_of(health), is_final=False)

    def _take_alarm(self, gateway: str, rest: list[str], payload: bytes) -> None:
        """Note a state. Its record comes on alert/KIND too, and is counted there only."""
        record = alarm_of(rest, payload)
        alarms = self._alarms.setdefault(gateway, {})
        topic = "/".join(("alarm", *rest))
        if record is None:
            alarms.pop(topic, None)
        else:
            alarms[topic] = record

    def _take_batch(self, topic: str, payload: bytes, at_s: float | None) -> list[dict[str, Any]]:
        gateway, lane, *rest = self._parts(topic)
        batch = unpack(payload)
        taken = []
        for record in batch_head(gateway, lane, rest, batch):
            try:
                self._take_record(topic, gateway, batch["run"], record, at_s)
            except MalformedError as exc:
                self._complain(topic, str(exc))
            else:
                taken.append(record)
        return taken

    def _take_record(
        self, topic: str, gateway: str, run: str, record: Any, at_s: float | None
    ) -> None:
        stream, seq = key_of(record)
        gap = gap_of(record) if "gap" in record else None
        previous = previous_run(record) if stream == "gateway" and gap is None else None
        page = self._page(StreamKey(gateway, run, stream))
        page.last_at_s = at_s
        if gap is not None:
            page.take_gap(topic, gap[0], seq, gap[1])
        else:
            page.take_record(topic, seq)
        if previous is not None:
            run_before, produced = previous
            self.tell_produced(gateway, run_before, produced, is_final=True)
