"""What a gateway's messages must be, as far as the account needs them to be. Pure.

Shared by the bench's account and by `yukimi-city`: who keeps numbers must agree on what is one.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

KINDS = frozenset(("people", "road", "snow", "weather", "position", "cabinet", "gateway"))
GAP_REASONS = frozenset(("spool_full", "corrupt", "disk_failed", "rejected"))

LANES = frozenset(("live", "backlog", "alert"))
PAYLOAD_BYTES_MAX = 8 * 1024 * 1024  # unpacked; 10,000 records, the largest batch, are 5 MB


class MalformedError(Exception):
    """A message or record is not what the contract says."""


def unpack(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in a plain or zlib-compressed payload. Raises MalformedError."""
    return parse(inflate(payload))


def inflate(payload: bytes) -> bytes:
    """Return a payload as it was before it was compressed, if it was. Raises MalformedError."""
    if payload[:1] == b"\x78":
        inflater = zlib.decompressobj()
        try:
            payload = inflater.decompress(payload, PAYLOAD_BYTES_MAX)
        except zlib.error as exc:
            raise MalformedError(f"not zlib: {exc}") from exc
        expect(inflater.eof, "compressed payload is cut short or too large")
    expect(len(payload) < PAYLOAD_BYTES_MAX, "payload is too large")
    return payload


def parse(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in a plain payload. Raises MalformedError."""
    expect(payload[:1] == b"{", "not a JSON object")
    try:
        document: dict[str, Any] = json.loads(payload.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise MalformedError(f"not JSON: {exc}") from exc
    return document


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is Python's, not JSON's")


def previous_run(record: dict[str, Any]) -> tuple[str, dict[str, int]] | None:
    """Return the run before and what it produced, if this is a start record that knows it."""
    values = record.get("values")
    if not isinstance(values, dict) or values.get("event") != "start":
        return None
    previous = values.get("previous")
    if previous is None:
        return None
    expect(isinstance(previous, dict), "previous is not an object")
    return text_of(previous, "run"), produced_of(previous)


def batch_head(gateway: str, lane: str, rest: list[str], batch: dict[str, Any]) -> list[Any]:
    """Hold a batch against its topic GATEWAY/LANE/REST; return its records, as yet unchecked."""
    expect(batch.get("schema") == "yukimi.batch/1", "schema is not yukimi.batch/1")
    expect(batch.get("gateway") == gateway, "gateway is not that of the topic")
    expect(len(rest) == 1 and rest[0] in KINDS, f"topic does not end in {lane}/KIND")
    expect(batch.get("kind") == rest[0], "kind is not that of the topic")
    text_of(batch, "config")
    text_of(batch, "run")
    records = batch.get("records")
    if not isinstance(records, list) or not records:
        raise MalformedError("records is not a list with something in it")
    return records


def key_of(record: Any) -> tuple[str, int]:
    """Return stream and number of a record or gap."""
    if not isinstance(record, dict):
        raise MalformedError("a record is not an object")
    return text_of(record, "stream"), number_of(record, "seq")


def gap_of(record: dict[str, Any]) -> tuple[int, str]:
    """Return the first number that a gap names, and why they are lost."""
    stream, seq = key_of(record)
    first = number_of(record, "first")
    expect(first <= seq, f"{stream} {seq}: gap begins after its end")
    expect(record["gap"] in GAP_REASONS, f"{stream} {seq}: unknown gap {record['gap']!r}")
    return first, record["gap"]


def alarm_of(rest: list[str], payload: bytes) -> dict[str, Any] | None:
    """Return the record on an alarm's topic alarm/REST, None where it is over."""
    expect(len(rest) == 2 and all(rest), "topic is not alarm/SENSOR/NAME")
    if not payload:
        return None
    record = unpack(payload)
    expect(record.get("stream") == "alerts", "stream is not alerts")
    number_of(record, "seq")
    text_of(record, "id")
    sensor = "gateway" if record.get("sensor") is None else text_of(record, "sensor")
    expect([sensor, record.get("alert")] == rest, "record is not that of the topic")
    expect(record.get("state") in ("raised", "updated"), "state is not raised or updated")
    return record


def health_of(payload: bytes) -> dict[str, Any]:
    """Return a health message whose run and produced numbers can be relied on."""
    health = unpack(payload)
    expect(health.get("schema") == "yukimi.health/1", "schema is not yukimi.health/1")
    text_of(health, "run")
    produced_of(health)
    return health


def produced_of(document: dict[str, Any]) -> dict[str, int]:
    """Return how many numbers each stream has given."""
    produced = document.get("produced")
    if not isinstance(produced, dict):
        raise MalformedError("produced is not an object")
    for stream, number in produced.items():
        # bool is an int in Python and no number in JSON.
        expect(type(number) is int and number >= 0, f"produced of {stream} is not a count")
    return produced


def text_of(document: dict[str, Any], name: str) -> str:
    """Return a text with something in it."""
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedError(f"{name} is not a text")
    return value


def number_of(document: dict[str, Any], name: str) -> int:
    """Return a whole number from 1 on."""
    value = document.get(name)
    if type(value) is not int or value < 1:
        raise MalformedError(f"{name} is not a number from 1 on")
    return value


def expect(is_so: bool, else_say: str) -> None:
    """Raise MalformedError with `else_say` unless it is so."""
    if not is_so:
        raise MalformedError(else_say)
