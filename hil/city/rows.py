"""The rows that one transaction writes, on their way from messages to tables. Pure.

A malformed record whose number is legible and whose bytes are kept among the rejected counts as
held: to ask for it again would bring the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

KEPT_BYTES = 256 * 1024  # of what is rejected; a gateway's largest batch is smaller

Row = tuple[Any, ...]


class StreamKey(NamedTuple):
    """One life of one stream."""

    gateway: str
    run: str
    stream: str


@dataclass(slots=True)
class Told:
    """What one look at a stream has to say to its row."""

    produced: int | None = None
    is_final: bool = False
    is_owed: bool = False  # records came: a receipt is owed, also if they had come before


@dataclass(frozen=True, slots=True)
class Birth:
    """A birth certificate: the row of its gateway, those of its sensors, and itself."""

    gateway: Row
    sensors: tuple[Row, ...]
    birth: Row


@dataclass(slots=True)
class Rows:
    """What one transaction writes: each list is a table's, column by column as in tables.py."""

    records: list[Row] = field(default_factory=list)
    gaps: list[Row] = field(default_factory=list)
    alerts: list[Row] = field(default_factory=list)
    rejected: list[Row] = field(default_factory=list)
    statuses: list[Birth | Row] = field(default_factory=list)  # in order; a row where offline
    alarms: list[Row] = field(default_factory=list)  # in order; the key alone where it is over
    health: dict[str, Row] = field(default_factory=dict)  # the newest of each gateway
    runs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    streams: dict[StreamKey, Told] = field(default_factory=dict)
    size_bytes: int = 0  # of the payloads, inflated

    def told(self, key: StreamKey) -> Told:
        """Return what is said of a stream."""
        page = self.streams.get(key)
        if page is None:
            page = self.streams[key] = Told()
        return page

    def run(self, gateway: str, run: str) -> dict[str, Any]:
        """Return what is said of a run."""
        return self.runs.setdefault((gateway, run), {})

    def produced(self, gateway: str, run: str, produced: Mapping[str, int], *, final: bool) -> None:
        """Note how many numbers each stream of a run has given."""
        for stream, number in produced.items():
            page = self.told(StreamKey(gateway, run, stream))
            if final:
                page.produced, page.is_final = number, True
            elif not page.is_final:
                page.produced = max(page.produced or 0, number)

    def reject(
        self,
        topic: str,
        payload: bytes,
        reason: str,
        received_utc: str,
        key: tuple[StreamKey, int] | None = None,
    ) -> None:
        """Keep what cannot be used, and why; the same bytes on the same topic once."""
        digest = hashlib.sha256(topic.encode("utf-8", "replace") + b"\0" + payload).hexdigest()
        kept = payload[:KEPT_BYTES]
        stream, seq = key or (None, None)
        is_held = stream is not None and len(kept) == len(payload)
        self.rejected.append(
            (
                digest,
                received_utc,
                storable(topic),
                storable(reason)[:500],
                len(payload),
                kept,
                *(stream or (None, None, None)),
                seq,
                is_held,
            )
        )
        if stream is not None and is_held:
            self.told(stream).is_owed = True


def storable(text: str) -> str:
    """Return a text that every database takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
