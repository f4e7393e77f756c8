"""A gateway's messages become rows of the city's tables. Pure: bytes in, rows out.

Never raises: what is malformed becomes a row of the rejected, with the reason; one bad record does
not spoil its neighbours. Keys that are not known are passed over: a newer gateway may send them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from re import compile as pattern
from typing import Any

from . import payloads
from .payloads import LANES, MalformedError, expect
from .rows import Birth, Row, Rows, StreamKey, storable

ALERTS_STREAM = "alerts"
NUMBER_MAX = 2**40  # a number each second for 30,000 years; a city's sums stay within 64 bits
COUNT_MAX = 2**31 - 1
LIST_MAX = 10_000  # records in a batch (no gateway can be told to send more), streams, sensors
VALUES_MAX = 64 * 1024  # characters; a record has some hundred, and a page reads a day of them
NESTED_MAX = 32  # what is nested deeper the next reader of the table could not read

Encode = Callable[[Any], str]
Key = tuple[StreamKey, int]

# A run and a stream go into a receipt's topic: none of the signs that mean something there.
_NAME = pattern(r"[A-Za-z0-9._:-]{1,64}")
_WORD = pattern(r"[a-z0-9_]{1,64}")
_USUAL = frozenset(("good", "synced"))  # most records say this: no need to spell it out
# One spelling, so that texts sort as times do; years that are years in every time zone.
_TIME = pattern(r"(19[7-9]|2[0-9]{2})[0-9]-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_ENCODE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def take(rows: Rows, topic: str, below: str, payload: bytes, received_utc: str) -> None:
    """Put one message into `rows`; `below` is its topic below the root: GATEWAY/LANE/…."""
    gateway, _, rest = below.partition("/")
    lane, *more = rest.split("/")
    message = _Message(rows, topic, gateway, payload, received_utc)
    try:
        expect(bool(_NAME.fullmatch(gateway)), "the gateway's id is no name")
        if lane in LANES:
            message.batch(lane, more)
        elif lane == "health":
            message.health()
        elif lane == "status":
            message.status()
        elif lane == "alarm":
            message.alarm(more)
    except (MalformedError, RecursionError) as exc:
        rows.reject(topic, payload, str(exc), received_utc)


@dataclass(slots=True)
class _Message:
    """One message on its way into rows."""

    rows: Rows
    topic: str
    gateway: str
    payload: bytes
    received_utc: str

    def batch(self, lane: str, rest: list[str]) -> None:
        plain = payloads.inflate(self.payload)
        self.rows.size_bytes += len(plain)
        batch = payloads.parse(plain)
        records = payloads.batch_head(self.gateway, lane, rest, batch)
        # A row of the rejected for each of millions would be many times the payload's size.
        expect(len(records) <= LIST_MAX, f"more than {LIST_MAX} records")
        run, config = _name(batch, "run"), _name(batch, "config")
        # A backslash can hide a NUL or half a surrogate, which no database takes in a text.
        encode = careful if b"\\" in plain else _ENCODE
        keys: dict[str, StreamKey] = {}
        for record in records:
            key = None
            try:
                stream, seq = payloads.key_of(record)
                if stream not in keys:
                    keys[stream] = StreamKey(self.gateway, run, _name(record, "stream"))
                expect(seq <= NUMBER_MAX, f"{stream}: seq is too large")
                key = keys[stream], seq
                if "gap" in record:
                    self._gap(key, record, rest[0])
                elif stream == ALERTS_STREAM or "alert" in record:
                    self._alert(key, record, (rest[0], config), encode)
                else:
                    self._record(key, record, (rest[0], config), encode)
                self.rows.told(key[0]).is_owed = True
            except (MalformedError, ValueError, RecursionError) as exc:
                reason = f"{exc}" if key is None else f"{key[0].stream} {key[1]}: {exc}"
                body = json.dumps(record).encode()
                self.rows.reject(self.topic, body, reason, self.received_utc, key)

    def _record(
        self, key: Key, record: dict[str, Any], within: tuple[str, str], encode: Encode
    ) -> None:
        stream, seq = key
        kind, config = within
        quality, values = _object(record, "quality"), _object(record, "values")
        reasons = quality.get("reasons", [])
        expect(isinstance(reasons, list), "reasons is not a list")
        start_utc = _time(record, "start")
        row = (
            *stream,
            seq,
            kind,
            start_utc,
            _time(record, "end"),
            *_clock(record),
            _word(quality, "flag"),
            encode(reasons) if reasons else "[]",
            _count(quality, "n"),
            _count(quality, "expected"),
            _values(values, encode),
            config,
            self.received_utc,
        )
        if stream.stream == "gateway" and values.get("event") == "start":
            self._start(stream.run, values, start_utc)
        self.rows.records.append(row)

    def _start(self, run: str, values: dict[str, Any], started_utc: str) -> None:
        """Note a run that began, and what it says of the one before."""
        said: dict[str, Any] = {
            "started_utc": started_utc,
            "version": storable(str(values.get("version", "")))[:64],
        }
        previous = payloads.previous_run({"values": values})
        if previous is not None:
            before, produced = previous
            said["previous"] = _name(values["previous"], "run")
            self.rows.produced(self.gateway, before, _numbers(produced), final=True)
            clean = values["previous"].get("clean") is True
            self.rows.run(self.gateway, before)["clean"] = clean
        self.rows.run(self.gateway, run).update(said)

    def _gap(self, key: Key, record: dict[str, Any], kind: str) -> None:
        first, reason = payloads.gap_of(record)
        span = [
            None if record.get(name) is None else _time(record, name) for name in ("start", "end")
        ]
        stream, seq = key
        self.rows.gaps.append((*stream, first, seq, reason, kind, *span, self.received_utc))

    def _alert(
        self, key: Key, record: dict[str, Any], within: tuple[str, str], encode: Encode
    ) -> None:
        stream, seq = key
        kind, config = within
        expect(stream.stream == ALERTS_STREAM, "an alert's stream is not alerts")
        self.rows.alerts.append(
            (
                *(self.gateway, stream.run, seq, kind),
                *(None if record.get("sensor") is None else _name(record, "sensor"),),
                *_episode(record, encode),
                *_clock(record),
                config,
                self.received_utc,
            )
        )

    def alarm(self, rest: list[str]) -> None:
        record = payloads.alarm_of(rest, self.payload)
        if record is None:
            expect(all(_NAME.fullmatch(part) for part in rest), "topic names no alarm")
            self.rows.alarms.append((self.gateway, *rest))
            return
        episode = _episode(record, careful)
        self.rows.alarms.append((self.gateway, rest[0], *episode, self.received_utc))

    def health(self) -> None:
        health = payloads.health_of(self.payload)
        run, document = _name(health, "run"), careful(health)
        self.rows.produced(self.gateway, run, _numbers(health["produced"]), final=False)
        self.rows.health[self.gateway] = (self.gateway, run, self.received_utc, document)

    def status(self) -> None:
        if not self.payload:
            return
        status = payloads.unpack(self.payload)
        expect(status.get("schema") == "yukimi.status/1", "schema is not yukimi.status/1")
        expect(status.get("gateway") == self.gateway, "gateway is not that of the topic")
        run = _name(status, "run")
        if status.get("state") == "online":
            self.rows.statuses.append(self._birth(run, status))
        else:
            reason = "stopped" if status.get("reason") == "stopped" else None
            self.rows.statuses.append((self.gateway, "offline", run, reason, self.received_utc))

    def _birth(self, run: str, born: dict[str, Any]) -> Birth:
        document = careful(born)
        sensors = born.get("sensors")
        if not isinstance(sensors, list):
            raise MalformedError("sensors is not a list")
        expect(len(sensors) <= LIST_MAX, f"more than {LIST_MAX} sensors")
        config = _name(born, "config")
        place = _place(born)
        gateway = (
            *(self.gateway, "online", run, None, self.received_utc, _time(born, "since")),
            *(_maybe_text(born, "version"), config, _maybe_text(born, "policy")),
            *_label(born),
            *place,
            *(_maybe_text(born, "owner"), _maybe_text(born, "licence")),
        )
        return Birth(
            gateway,
            tuple(self._sensor(each, place) for each in sensors),
            (self.gateway, run, config, self.received_utc, document),
        )

    def _sensor(self, sensor: Any, gateways: Row) -> Row:
        expect(isinstance(sensor, dict), "a sensor is not an object")
        place = _place(sensor)
        return (
            *(self.gateway, _name(sensor, "id"), _word(sensor, "kind"), _name(sensor, "driver")),
            _count(sensor, "window_s"),
            *_label(sensor),
            *(gateways if None in place else place),
            *(_maybe_object(sensor, name) for name in ("quantities", "directions")),
            self.received_utc,
        )


def careful(value: Any) -> str:
    """Return JSON that every database takes. Raises MalformedError."""
    try:
        text = _ENCODE(value)
        text.encode()
    except (ValueError, RecursionError) as exc:  # infinite, half a surrogate, nested too deep
        raise MalformedError(f"no database takes it: {exc}") from exc
    expect("\\u0000" not in text, "no database takes a NUL in a text")
    return _flat(text, value)


def _flat(text: str, value: Any) -> str:
    """Return JSON that is not nested too deep. Raises MalformedError."""
    if text.count("{") + text.count("[") > NESTED_MAX:  # else it cannot be, and most are not
        expect(not _is_deep(value, NESTED_MAX), "nested too deep")
    return text


def _is_deep(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deep(each, levels - 1) for each in inner)


def _values(values: dict[str, Any], encode: Encode) -> str:
    text = encode(values)
    expect(len(text) <= VALUES_MAX, "values are too large")
    return _flat(text, values)


def _maybe_object(document: dict[str, Any], name: str) -> str:
    return "{}" if document.get(name) is None else careful(_object(document, name))


def _object(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise MalformedError(f"{name} is not an object")
    return value


def _name(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise MalformedError(f"{name} is not a name")
    return value


def _word(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or (value not in _USUAL and not _WORD.fullmatch(value)):
        raise MalformedError(f"{name} is not a word")
    return value


def _maybe_text(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    expect(value is None or isinstance(value, str), f"{name} is not a text")
    return None if value is None else storable(value)


def _count(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int or not 0 <= value <= COUNT_MAX:
        raise MalformedError(f"{name} is not a count")
    return value


def _number(document: dict[str, Any], name: str) -> float:
    value = document.get(name)
    if type(value) not in (int, float) or not abs(value) < 1e15:  # type: ignore[arg-type]
        raise MalformedError(f"{name} is not a number")
    return float(value)  # type: ignore[arg-type]


def _numbers(produced: Mapping[str, int]) -> Mapping[str, int]:
    expect(len(produced) <= LIST_MAX, f"produced names more than {LIST_MAX} streams")
    for stream, number in produced.items():
        expect(bool(_NAME.fullmatch(stream)), "produced names no stream")
        expect(number <= NUMBER_MAX, f"produced of {stream} is too large")
    return produced


def _time(document: dict[str, Any], name: str) -> str:
    text = document.get(name)
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise MalformedError(f"{name} is not a time in UTC with milliseconds")
    try:
        datetime.fromisoformat(text)
    except ValueError as exc:
        raise MalformedError(f"{name}: {exc}") from exc
    return text


def _clock(record: dict[str, Any]) -> tuple[str, float | None]:
    clock = record.get("clock")
    if not isinstance(clock, dict):
        raise MalformedError("clock is not an object")
    error_s = clock.get("error_s")
    return _word(clock, "state"), None if error_s is None else _number(clock, "error_s")


def _label(document: dict[str, Any]) -> Row:
    if document.get("label") is None:
        return None, None
    label = _object(document, "label")
    return _maybe_text(label, "ja"), _maybe_text(label, "en")


def _place(document: dict[str, Any]) -> Row:
    if document.get("location") is None:
        return None, None
    location = _object(document, "location")
    return _number(location, "latitude"), _number(location, "longitude")


def _episode(record: dict[str, Any], encode: Encode) -> Row:
    """Return alert, id, state, severity, time, since, both texts, values."""
    text = _object(record, "text")
    return (
        _word(record, "alert"),
        _name(record, "id"),
        _word(record, "state"),
        _word(record, "severity"),
        _time(record, "time"),
        _time(record, "since"),
        storable(payloads.text_of(text, "ja"))[:2000],
        storable(payloads.text_of(text, "en"))[:2000],
        _values(_object(record, "values"), encode),
    )
