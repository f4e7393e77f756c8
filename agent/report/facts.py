"""What is known of a gateway, gathered for a report: of what runs, and of what is on the disk.

Nothing here fails because a part is missing: what could not be had is None, and the report says so.
Of people there are released figures only, since nobody who is asked has more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SensorFacts:
    """One sensor, as far as it is known."""

    id: str
    kind: str
    driver: str
    bus: str
    window_s: int | None
    label: Mapping[str, str] | None = None
    directions: Mapping[str, Any] = field(default_factory=dict)
    now: Document | None = None  # as the running gateway tells
    history: Document | None = None  # of its last day

    @property
    def counts_people(self) -> bool:
        """Whether it counts people."""
        return self.kind == "people"


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without a connection."""

    start: str  # UTC
    end: str | None  # None: still
    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a report shows."""

    made_s: float  # UTC
    gateway: str
    label: Mapping[str, str] | None = None
    location: Mapping[str, float] | None = None
    owner: str | None = None
    licence: str | None = None
    zone: tzinfo = UTC
    running: Document | None = None  # the state of the running gateway
    why_silent: Any = None  # a text: why there is none
    sensors: Sequence[SensorFacts] = ()
    remembers_since: str | None = None  # UTC, from when on the history knows
    outages: Sequence[Outage] = ()
    edges: Sequence[Document] = ()  # of alerts
    spool: Document | None = None  # as `yukimi spool status --json` tells it
    spool_trouble: str | None = None
    configuration: Document | None = None  # without secrets
    configuration_id: str | None = None
    problems: Sequence[Any] = ()  # texts: what is wrong with it
    checks: Sequence[Document] | None = None  # of `yukimi doctor`; None: it could not be asked
    versions: Mapping[str, str] = field(default_factory=dict)
